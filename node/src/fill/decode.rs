//! Undoing a content coding that nobody asked for.
//!
//! This node asks for texts without a coding, and some origins code them all the same: RFC 9110 12.5.3 lets
//! them. A playlist or an MPD has to be read here, and what viewers get is coded anew for each of them.
//!
//! Who calls it: whatever reads a text. Deliberately not here: media, and texts that pass untouched.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header, response};

use super::ask::read_whole;
use crate::respond::Failure;
use crate::upstream::ForwardBody;

/// Reads a text to its end, at most `bytes_max` of it coded and plain; `head` is then that of the plain text.
///
/// # Errors
///
/// As [`read_whole`]; too large a text counts decoded, and a coding that is broken is a broken body.
///
/// # Cancel safety
///
/// What was read is lost.
pub(crate) async fn read_text(
    head: &mut response::Parts,
    body: ForwardBody,
    bytes_max: usize,
    stall_timeout: Duration,
) -> Result<Bytes, Failure> {
    let bytes = read_whole(body, bytes_max, stall_timeout).await?;
    if head.status != StatusCode::OK || !is_gzip(&head.headers) {
        return Ok(bytes);
    }
    let text = if bytes.len() <= DECODED_AT_ONCE_BYTES_MAX {
        decoded(&bytes, bytes_max)
    } else {
        let task = tokio::task::spawn_blocking(move || decoded(&bytes, bytes_max));
        task.await.unwrap_or(Err(Failure::ParentBroken))
    }?;
    describe_plain(&mut head.headers);
    Ok(text)
}

/// Returns whether gzip is the one coding, under either of its names (RFC 9110 8.4.1.3).
fn is_gzip(fields: &HeaderMap) -> bool {
    let mut lines = fields.get_all(header::CONTENT_ENCODING).iter();
    let (Some(coding), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let coding = coding.as_bytes().trim_ascii();
    coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip")
}

fn decoded(bytes: &[u8], bytes_max: usize) -> Result<Bytes, Failure> {
    let mut text = Vec::new();
    // One byte more than is allowed shows that there is more, and a bomb costs no further memory.
    let limit = u64::try_from(bytes_max).map_or(u64::MAX, |max| max.saturating_add(1));
    flate2::read::MultiGzDecoder::new(bytes)
        .take(limit)
        .read_to_end(&mut text)
        .map_err(|_| Failure::ParentBroken)?;
    if text.len() > bytes_max {
        return Err(Failure::TooLarge);
    }
    Ok(Bytes::from(text.into_boxed_slice()))
}

/// Lets the fields of a coded text be those of the text.
fn describe_plain(fields: &mut HeaderMap) {
    fields.remove(header::CONTENT_ENCODING);
    // RFC 9530 2: the digests are of the coded text.
    describe_changed(fields);
}

/// Lets the fields of a text be those of one that was made of it: still validated by what its origin calls it.
pub(crate) fn describe_changed(fields: &mut HeaderMap) {
    for name in OF_THE_BYTES {
        fields.remove(name);
    }
    // RFC 9110 8.8.3: a strong tag is of these bytes only. The origin still knows a weak one.
    let weakened = fields.get(header::ETAG).and_then(|tag| {
        let is_strong = tag.as_bytes().starts_with(b"\"");
        let weak = [b"W/", tag.as_bytes()].concat();
        is_strong.then(|| HeaderValue::from_maybe_shared(Bytes::from(weak)).ok())?
    });
    if let Some(weak) = weakened {
        fields.insert(header::ETAG, weak);
    }
}

/// What describes a text byte by byte.
const OF_THE_BYTES: [&str; 5] = [
    "content-length",
    "content-md5",
    "content-digest",
    "repr-digest",
    "digest",
];

/// Larger texts are decoded on a thread for that: so many bytes may be a hundred times as many.
const DECODED_AT_ONCE_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn coded(text: &[u8]) -> Vec<u8> {
        let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        coder.write_all(text).unwrap();
        coder.finish().unwrap()
    }

    #[test]
    fn b81_a_text_that_is_too_large_decoded_is_refused_at_the_limit() {
        let bomb = coded(&vec![b' '; 10_000_000]);
        assert!(bomb.len() < 100_000);
        assert_eq!(decoded(&bomb, 1_000_000), Err(Failure::TooLarge));
        assert_eq!(decoded(&coded(b"1234"), 4).as_deref(), Ok(&b"1234"[..]));
        assert_eq!(decoded(&coded(b"12345"), 4), Err(Failure::TooLarge));
    }

    #[test]
    fn b78_a_coding_that_is_broken_is_a_broken_body() {
        let whole = coded(b"#EXTM3U\n");
        let cut = whole.get(..whole.len() - 5).unwrap();
        assert_eq!(decoded(cut, 1000), Err(Failure::ParentBroken));
        assert_eq!(decoded(b"#EXTM3U\n", 1000), Err(Failure::ParentBroken));
        assert_eq!(decoded(b"", 1000), Err(Failure::ParentBroken));
    }

    #[test]
    fn ca_18_a_strong_tag_of_the_coded_text_is_a_weak_one_of_the_text() {
        for (of_origin, ours) in [("\"a\"", "W/\"a\""), ("W/\"a\"", "W/\"a\""), ("a", "a")] {
            let mut fields = HeaderMap::new();
            fields.insert(header::ETAG, HeaderValue::from_static(of_origin));
            describe_plain(&mut fields);
            assert_eq!(fields[header::ETAG], ours);
        }
    }

    #[test]
    fn only_gzip_alone_is_undone() {
        for (lines, is_undone) in [
            (&["gzip"][..], true),
            (&["X-GZIP"], true),
            (&["br"], false),
            (&["gzip, br"], false),
            (&["gzip", "gzip"], false),
            (&[], false),
        ] {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(header::CONTENT_ENCODING, HeaderValue::from_static(line));
            }
            assert_eq!(is_gzip(&fields), is_undone, "{lines:?}");
        }
    }
}
