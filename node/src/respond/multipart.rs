//! Several ranges of one body as `multipart/byteranges` (RFC 9110 14.6), without copying the body.
//!
//! Who calls it: `stored`, for ranges that `cache` has judged: few, ascending, with gaps. Deliberately
//! not here: media, of which one range at a time is enough for every player.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;

use bytes::Bytes;
use cache::range::content_range;
use cache::{GrowingBody, Reader};
use futures_util::{Stream, StreamExt, stream};
use http::HeaderValue;

use crate::body::{Body, BodyError};

/// An answer with several ranges.
pub(super) struct Multipart {
    /// The value of `Content-Type`, which names the boundary.
    pub(super) content_type: HeaderValue,
    /// The body, with a known length.
    pub(super) body: Body,
}

impl Multipart {
    /// Puts `ranges` of a complete `body` together; each says the `content_type` of the whole.
    pub(super) fn new(
        body: &GrowingBody,
        length: u64,
        ranges: &[Range<u64>],
        content_type: Option<&HeaderValue>,
    ) -> Self {
        let boundary = boundary();
        let mut bytes = 0;
        let mut parts = Vec::with_capacity(ranges.len());
        for range in ranges {
            let head = part_head(&boundary, range, length, content_type);
            bytes += head.len() as u64 + (range.end - range.start);
            parts.push((head, body.reader(range.clone())));
        }
        let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        bytes += end.len() as u64;
        let pieces = stream::iter(parts)
            .flat_map(|(head, reader)| once(head).chain(read(reader)))
            .chain(once(end));
        let content_type = format!("multipart/byteranges; boundary={boundary}");
        Self {
            content_type: HeaderValue::try_from(content_type)
                .expect("hexadecimal digits are a valid parameter"),
            body: Body::assembled(pieces.boxed(), bytes),
        }
    }
}

/// What stands before the bytes of a part. The line break at its beginning is the boundary's; before
/// the first part it is an empty preamble (RFC 2046 5.1.1).
fn part_head(
    boundary: &str,
    range: &Range<u64>,
    length: u64,
    content_type: Option<&HeaderValue>,
) -> Bytes {
    let mut head = format!("\r\n--{boundary}\r\n").into_bytes();
    let range = content_range(range, Some(length));
    let fields = [
        ("Content-Type", content_type),
        ("Content-Range", Some(&range)),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
    }
    head.extend_from_slice(b"\r\n");
    Bytes::from(head)
}

/// Returns a boundary that whoever made the body could not foresee.
fn boundary() -> String {
    // Its keys are random, and others every time.
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

fn once(bytes: Bytes) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    stream::once(std::future::ready(Ok(bytes)))
}

/// Returns what `reader` reads, and its failure as the last item.
fn read(reader: Reader) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        match reader.next().await? {
            Ok(bytes) => Some((Ok(bytes), Some(reader))),
            Err(_) => Some((Err(BodyError), None)),
        }
    })
}
