//! Responses in memory of their own, before they are stored.
//!
//! What was just read is slices of the buffers it was read into: a stored response of one kilobyte
//! would keep 8 to 400 KiB alive that nobody counts. The store copies a response once: its field values
//! into one piece of memory, a large body into pages (`pages`), a small one into chunks of one size. One size, because
//! blocks of a megabyte and of another scatter an allocator's pages until the process holds twice what it uses; chunks of
//! one size fit where the chunks of what was evicted were.
//!
//! Who calls it: `store`, before it takes a lock; those who still read along keep the old slices.
//! Deliberately not here: what memory is counted as (`stored`).

use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};

use crate::body::{GrowingBody, Writer};
use crate::pages;
use crate::stored::StoredResponse;

/// Returns the response with a head and a body that share memory with nothing else.
///
/// The body must be complete.
pub(super) fn owned(response: &StoredResponse) -> StoredResponse {
    StoredResponse {
        headers: owned_headers(&response.headers),
        body: owned_body(&response.body),
        ..response.clone()
    }
}

fn owned_headers(headers: &HeaderMap) -> HeaderMap {
    let mut roomy = headers.clone();
    roomy.reserve(ANSWER_FIELDS);
    // A clone has a table of the same size, so that what is added to its own clones does not build another;
    // but room for no more fields than there are.
    let mut headers = roomy.clone();
    let mut text = BytesMut::with_capacity(headers.values().map(HeaderValue::len).sum());
    for value in headers.values() {
        text.extend_from_slice(value.as_bytes());
    }
    let mut text = text.freeze();
    for value in headers.values_mut() {
        let is_sensitive = value.is_sensitive();
        let copy = text.split_to(value.len());
        *value = HeaderValue::from_maybe_shared(copy).expect("the same bytes were a value before");
        value.set_sensitive(is_sensitive);
    }
    headers
}

fn owned_body(body: &GrowingBody) -> GrowingBody {
    // A response that was validated has the body that is stored already. A text that keeps its coded
    // forms was read into one piece of memory, and is small.
    if body.is_owned() {
        return body.clone();
    }
    let bytes = usize::try_from(body.progress().received).expect("it is in memory");
    let (mut writer, copy) = GrowingBody::owned();
    if bytes >= PAGES_BYTES_MIN
        && let Some(mut block) = pages::begin(bytes)
    {
        each_slice(body, |slice| block.push(slice));
        writer.push(block.finish());
    } else {
        push_chunks(body, bytes, &mut writer);
    }
    writer.complete();
    copy
}

/// Copies a body of so many bytes into chunks of one size.
fn push_chunks(body: &GrowingBody, mut missing: usize, writer: &mut Writer) {
    let mut chunk = Vec::with_capacity(missing.min(OWNED_CHUNK_BYTES));
    each_slice(body, |mut slice| {
        while !slice.is_empty() {
            let (now, later) = slice.split_at(slice.len().min(chunk.capacity() - chunk.len()));
            chunk.extend_from_slice(now);
            slice = later;
            if chunk.len() == chunk.capacity() {
                missing -= chunk.len();
                let next = Vec::with_capacity(missing.min(OWNED_CHUNK_BYTES));
                writer.push(Bytes::from(std::mem::replace(&mut chunk, next)));
            }
        }
    });
    debug_assert_eq!(missing, 0, "a complete body is read to its end at once");
}

/// Reads a complete body to its end.
fn each_slice(body: &GrowingBody, mut take: impl FnMut(&[u8])) {
    let mut reader = body.reader(0..u64::MAX);
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(Ok(slice))) = reader.poll_next(&mut cx) {
        take(&slice);
    }
}

/// A body of so many bytes lies in pages of its own, which the kernel can send. To send a smaller one without copying it
/// saves nothing (docs/decisions/0021).
const PAGES_BYTES_MIN: usize = 128 * 1024;

/// How many fields an answer has beside those that are stored: age, path of the response, CORS.
const ANSWER_FIELDS: usize = 8;

/// The size of all chunks of a stored body but its last.
///
/// Nine of them fill a page of the allocator but for 1.6 percent; of 64 KiB it takes seven, for 12.5.
const OWNED_CHUNK_BYTES: usize = 56 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use bytes::Bytes;
    use http::StatusCode;
    use http::header::{HeaderMap, HeaderName};

    use super::*;
    use crate::body::GrowingBody;
    use crate::variant::Variant;

    #[test]
    fn a_stored_response_keeps_its_bytes_and_no_slice_of_what_it_was_read_from() {
        let buffer = Bytes::from_static(b"first\xffsecond ").slice(..);
        let mut headers = HeaderMap::new();
        let mut append = |name, range: std::ops::Range<usize>, is_sensitive| {
            let mut value = HeaderValue::from_maybe_shared(buffer.slice(range)).unwrap();
            value.set_sensitive(is_sensitive);
            headers.append(HeaderName::from_static(name), value);
        };
        append("a", 0..5, false);
        append("b", 5..12, true);
        append("c", 0..0, false);
        append("a", 6..12, false);
        let response = Arc::new(StoredResponse {
            status: StatusCode::OK,
            headers: headers.clone(),
            body: GrowingBody::full(buffer.clone()),
            variant: Variant::default(),
            response_time: SystemTime::UNIX_EPOCH,
            corrected_initial_age: Duration::ZERO,
            freshness_lifetime: Duration::ZERO,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            must_revalidate: false,
        });
        let owned = owned(&response);
        assert_eq!(owned.headers, headers);
        assert!(owned.headers["b"].is_sensitive() && !owned.headers["a"].is_sensitive());
        let within = buffer.as_ptr_range();
        let mut values = owned.headers.values();
        assert!(
            values.all(|value| value.is_empty() || !within.contains(&value.as_bytes().as_ptr()))
        );
    }
}
