//! A response body as it passes: counted, its first bytes remembered, its text kept on request.
//!
//! Every protocol of the client pushes its slices in here. Only texts are ever copied, and only up
//! to a limit.

use std::io::Read as _;

use super::{FetchError, Head};

/// What to keep of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Count it: media.
    Nothing,
    /// Keep it whole: playlists and counts, at most [`TEXT_BYTES_MAX`].
    Text,
}

/// The longest text kept, in bytes, before and after decompression.
pub(crate) const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How much of a body came, and what of it was kept.
#[derive(Debug)]
pub(crate) struct Received {
    /// Bytes of body on the wire (compressed as they came).
    pub(crate) bytes: u64,
    first: [u8; 8],
    text: Option<Vec<u8>>,
}

impl Received {
    pub(crate) fn new(keep: Keep) -> Self {
        Self {
            bytes: 0,
            first: [0; 8],
            text: (keep == Keep::Text).then(Vec::new),
        }
    }

    /// Takes the next slice of the body.
    pub(crate) fn push(&mut self, slice: &[u8]) -> Result<(), FetchError> {
        let have = usize::try_from(self.bytes).unwrap_or(usize::MAX).min(8);
        for (to, from) in self.first.iter_mut().skip(have).zip(slice) {
            *to = *from;
        }
        self.bytes += slice.len() as u64;
        if let Some(text) = &mut self.text {
            if text.len() + slice.len() > TEXT_BYTES_MAX {
                return Err(FetchError::TooLong {
                    received: self.bytes,
                });
            }
            text.extend_from_slice(slice);
        }
        Ok(())
    }

    /// The first bytes of the body, at most eight.
    pub(crate) fn first(&self) -> &[u8] {
        let have = usize::try_from(self.bytes).unwrap_or(usize::MAX).min(8);
        self.first.get(..have).unwrap_or_default()
    }

    /// Takes the text out, decompressed. Empty if none was kept.
    pub(crate) fn into_text(self, head: &Head) -> Result<Vec<u8>, FetchError> {
        let text = self.text.unwrap_or_default();
        if !head.is_gzip {
            return Ok(text);
        }
        let mut plain = Vec::with_capacity(text.len() * 4);
        flate2::read::GzDecoder::new(text.as_slice())
            .take(TEXT_BYTES_MAX as u64 + 1)
            .read_to_end(&mut plain)
            .map_err(|e| FetchError::Protocol(format!("gzip: {e}")))?;
        if plain.len() > TEXT_BYTES_MAX {
            return Err(FetchError::TooLong {
                received: self.bytes,
            });
        }
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http::{HeaderMap, StatusCode};

    use super::*;

    fn head(encoding: Option<&'static str>) -> Head {
        let mut headers = HeaderMap::new();
        if let Some(encoding) = encoding {
            headers.insert("content-encoding", encoding.parse().unwrap());
        }
        Head::read(StatusCode::OK, &headers)
    }

    #[test]
    fn the_first_eight_bytes_are_remembered_across_slices() {
        let mut received = Received::new(Keep::Nothing);
        for slice in [&b"\0\0"[..], b"\0\x18sty", b"p-and-more"] {
            received.push(slice).unwrap();
        }
        assert_eq!(received.first(), b"\0\0\0\x18styp");
        assert_eq!(received.bytes, 17);
        assert!(received.into_text(&head(None)).unwrap().is_empty());
    }

    #[test]
    fn a_text_beyond_the_limit_is_refused_not_kept() {
        let mut received = Received::new(Keep::Text);
        let slice = vec![b'x'; TEXT_BYTES_MAX];
        received.push(&slice).unwrap();
        assert!(matches!(
            received.push(b"y"),
            Err(FetchError::TooLong { .. })
        ));
    }

    #[test]
    fn a_gzip_bomb_is_refused() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; TEXT_BYTES_MAX * 2]).unwrap();
        let mut received = Received::new(Keep::Text);
        received.push(&encoder.finish().unwrap()).unwrap();
        let text = received.into_text(&head(Some("gzip")));
        assert!(matches!(text, Err(FetchError::TooLong { .. })));
    }

    #[test]
    fn a_gzipped_text_comes_out_plain() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"#EXTM3U\n").unwrap();
        let mut received = Received::new(Keep::Text);
        received.push(&encoder.finish().unwrap()).unwrap();
        assert_eq!(
            received.into_text(&head(Some("gzip"))).unwrap(),
            b"#EXTM3U\n"
        );
    }
}
