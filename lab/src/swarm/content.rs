//! Whether media is what the playlist promised, as far as its first bytes and its length tell.
//!
//! Deep checks of media belong to tests of the origin; under load a swarm can afford eight bytes.

use http::StatusCode;

use super::client::Got;
use super::track::{Media, MediaKind};

/// How a body is not the promised one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum WrongContent {
    #[error("the body is empty")]
    Empty,
    #[error("a byte range was asked for and the whole resource came")]
    Unranged,
    #[error("a whole resource was asked for and a byte range came")]
    Ranged,
    #[error("the byte range has another length than the playlist says")]
    RangeLength,
    #[error("the body does not begin with a box of fragmented mp4")]
    NotMp4,
}

/// Checks the answer to a media request.
pub(crate) fn check(media: &Media, got: &Got) -> Result<(), WrongContent> {
    let is_partial = got.head.status == StatusCode::PARTIAL_CONTENT;
    match media.resource.range {
        Some(_) if !is_partial => return Err(WrongContent::Unranged),
        None if is_partial => return Err(WrongContent::Ranged),
        Some(range) if range.len != got.received.bytes => return Err(WrongContent::RangeLength),
        Some(_) | None => {}
    }
    if got.received.bytes == 0 {
        return Err(WrongContent::Empty);
    }
    if media.is_fmp4 && !begins_as_promised(media.kind, got.received.first()) {
        return Err(WrongContent::NotMp4);
    }
    Ok(())
}

/// ISO/IEC 14496-12 4.2: a box begins with its size and its type.
fn begins_as_promised(kind: MediaKind, first: &[u8]) -> bool {
    let Some(box_type) = first.get(4..8) else {
        return false;
    };
    let allowed: &[&[u8; 4]] = match kind {
        MediaKind::Init => &[b"ftyp", b"styp", b"moov", b"free"],
        // CMAF 7.3.2.3: what may stand before the first moof of a chunk.
        MediaKind::Part | MediaKind::Segment => &[
            b"styp", b"moof", b"prft", b"emsg", b"sidx", b"ssix", b"free", b"uuid",
        ],
    };
    allowed.iter().any(|allowed| allowed.as_slice() == box_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_begins_with_a_box_of_a_chunk() {
        for (kind, first, is_fine) in [
            (MediaKind::Part, &b"\0\0\0\x18styp"[..], true),
            (MediaKind::Segment, b"\0\0\0\x18moof", true),
            (MediaKind::Part, b"\0\0\0\x18ftyp", false),
            (MediaKind::Init, b"\0\0\0\x18ftyp", true),
            (MediaKind::Init, b"\0\0\0\x18moof", false),
            (MediaKind::Part, b"<html>..", false),
            (MediaKind::Part, b"\0\0\0", false),
        ] {
            assert_eq!(
                begins_as_promised(kind, first),
                is_fine,
                "{kind:?} {first:?}"
            );
        }
    }
}
