//! What came of asking: a slice, a head, or nothing that has to do with slices.
//!
//! Who calls it: `fill`, for every answer, before it judges it as a whole response.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cache::slice::{Place, Sliced, strong_tag};
use cache::store::Change;
use cache::{BodyFailure, GrowingBody, Joined, StoredResponse, Writer};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;

use super::{Portion, Slice, slice_order, slice_response};
use crate::fill::{Brought, FillOrder, Filled, Judged, keep, read_whole};
use crate::node::Node;
use crate::respond::Failure;
use crate::upstream::{ForwardBody, ForwardResponse};

/// What an answer is to slices.
pub(crate) enum Received {
    /// Nothing: an answer like any other.
    Whole(ForwardResponse),
    /// The slice that was asked for; its body follows.
    Slice(Arc<StoredResponse>, Writer, ForwardBody),
    /// The head of a body that is kept in slices.
    Head(Arc<StoredResponse>),
    /// A range that was all there is.
    Small(Judged, Bytes),
    /// Not what a probe can use: ask for the whole.
    Useless,
}

/// Takes an answer to `order`.
///
/// # Errors
///
/// [`Failure::ParentBroken`] for a slice of another version, or none; a small body that does not arrive.
pub(crate) async fn receive(
    node: &Arc<Node>,
    order: &FillOrder,
    response: ForwardResponse,
) -> Result<Received, Failure> {
    match &order.portion {
        Portion::Whole => Ok(Received::Whole(response)),
        Portion::Undecided => Ok(receive_undecided(node, order, response)),
        Portion::Probe(_) => receive_probe(node, order, response).await,
        Portion::Slice(slice) => receive_slice(node, slice, response),
    }
}

/// A whole answer: if it is large and can be asked for in ranges, it becomes a head and its first slice.
fn receive_undecided(node: &Arc<Node>, order: &FillOrder, response: ForwardResponse) -> Received {
    let fields = &response.head.headers;
    let length = http_body::Body::size_hint(&response.body).exact();
    let is_large = length.is_some_and(|length| length > node.slices.from_bytes);
    if response.head.status != StatusCode::OK || !is_large || !accepts_ranges(fields) {
        return Received::Whole(response);
    }
    match head_of(node, order, &response, length.unwrap_or(0)) {
        Some((head, sliced)) => {
            keep_arriving(node, slice_order(order, &head, sliced, 0), response.body);
            Received::Head(head)
        }
        None => Received::Whole(response),
    }
}

/// An answer to the question for the slice around what a viewer wants.
async fn receive_probe(
    node: &Arc<Node>,
    order: &FillOrder,
    response: ForwardResponse,
) -> Result<Received, Failure> {
    match response.head.status {
        StatusCode::PARTIAL_CONTENT => {}
        // RFC 9110 14.2: the parent ignores ranges.
        StatusCode::RANGE_NOT_SATISFIABLE => return Ok(Received::Useless),
        _ => return Ok(Received::Whole(response)),
    }
    let Some(place) = Place::of(&response.head.headers) else {
        return Ok(Received::Useless);
    };
    if place.is_whole() {
        return receive_small(node, order, response, &place).await;
    }
    let Some((head, sliced)) = head_of(node, order, &response, place.length) else {
        return Ok(Received::Useless);
    };
    let number = sliced.number(place.range.start);
    if sliced.range(number) == place.range {
        keep_arriving(
            node,
            slice_order(order, &head, sliced, number),
            response.body,
        );
    }
    Ok(Received::Head(head))
}

/// A range that is the whole body makes an ordinary response.
async fn receive_small(
    node: &Node,
    order: &FillOrder,
    response: ForwardResponse,
    place: &Place,
) -> Result<Received, Failure> {
    let fields = whole_fields(&response.head.headers, place.length);
    let asked_at = node.clock.wall_at(response.sent_at);
    let (_, body) = GrowingBody::new();
    let judged = order.judge(node, asked_at, StatusCode::OK, &fields, body);
    // A probe asks for a slice, so this is no more than one.
    let bytes_max = usize::try_from(place.length).unwrap_or(usize::MAX);
    if judged.refusal.is_some() {
        return Ok(Received::Useless);
    }
    let bytes = read_whole(response.body, bytes_max, order.stall_timeout).await?;
    if bytes.len() as u64 != place.length {
        return Err(Failure::ParentBroken);
    }
    Ok(Received::Small(judged, bytes))
}

/// An answer to the question for a slice of a known version.
fn receive_slice(
    node: &Node,
    slice: &Slice,
    response: ForwardResponse,
) -> Result<Received, Failure> {
    let status = response.head.status;
    let fields = &response.head.headers;
    let is_same_tag = strong_tag(fields) == slice.head.headers.get(header::ETAG);
    let wanted = Place {
        range: slice.range.clone(),
        length: slice.sliced.length,
    };
    if status == StatusCode::PARTIAL_CONTENT
        && is_same_tag
        && Place::of(fields).as_ref() == Some(&wanted)
    {
        let (writer, body) = GrowingBody::with_length(slice.range.end - slice.range.start);
        let stored = Arc::new(slice_response(&slice.head, body));
        return Ok(Received::Slice(stored, writer, response.body));
    }
    if status == StatusCode::OK && is_same_tag {
        // It said that it answers ranges, and does not.
        node.slices.whole.insert(slice.head_key.clone(), ());
    }
    // A parent in trouble says nothing about the version.
    if !status.is_server_error() {
        drop_version(node, slice);
    }
    Err(Failure::ParentBroken)
}

/// Drops the head of a version that is gone; its slices are reachable no more.
fn drop_version(node: &Node, slice: &Slice) {
    node.store.change(&slice.head_key, |_, stored| {
        if stored.body.sliced() == Some(&slice.sliced) {
            Change::Remove
        } else {
            Change::Keep
        }
    });
}

/// Returns the head of a body of `length` bytes that `response` is a part of; `None` where the
/// response may not be stored, or has nothing that pins its version.
fn head_of(
    node: &Node,
    order: &FillOrder,
    response: &ForwardResponse,
    length: u64,
) -> Option<(Arc<StoredResponse>, Sliced)> {
    static VERSIONS: AtomicU64 = AtomicU64::new(0);
    strong_tag(&response.head.headers)?;
    let sliced = Sliced {
        length,
        slice_bytes: node.slices.slice_bytes?,
        version: VERSIONS.fetch_add(1, Ordering::Relaxed),
    };
    let fields = whole_fields(&response.head.headers, length);
    let asked_at = node.clock.wall_at(response.sent_at);
    let body = GrowingBody::sliced_as(sliced);
    let judged = order.judge(node, asked_at, StatusCode::OK, &fields, body);
    judged.refusal.is_none().then_some((judged.stored, sliced))
}

/// Returns the fields that the whole response would have had.
fn whole_fields(part: &HeaderMap, length: u64) -> HeaderMap {
    let mut fields = part.clone();
    fields.remove(header::CONTENT_RANGE);
    // RFC 9530 2: it is of the content that came, which is a part.
    fields.remove("content-digest");
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    fields
}

fn accepts_ranges(fields: &HeaderMap) -> bool {
    let value = fields.get(header::ACCEPT_RANGES);
    value.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"bytes"))
}

/// Keeps what is arriving anyway as the slice that `order` is for, unless that is on its way already.
///
/// More than the slice is not read: the rest of the answer is given up.
fn keep_arriving(node: &Arc<Node>, order: FillOrder, incoming: ForwardBody) {
    let Portion::Slice(slice) = &order.portion else {
        return;
    };
    let Joined::Lead(permit) = node.fills.join(&order.collapse_key) else {
        return;
    };
    let bytes = slice.range.end - slice.range.start;
    let (writer, body) = GrowingBody::with_length(bytes);
    let stored = Arc::new(slice_response(&slice.head, body));
    // Published before anybody can ask: the reader of the head finds this slice under way.
    let published = permit.publish(Filled::Response(Brought {
        status: StatusCode::PARTIAL_CONTENT,
        response: Arc::clone(&stored),
        refusal: None,
    }));
    let owner = Arc::clone(node);
    node.tasks.spawn(async move {
        let Ok(reservation) = owner.store.growing(bytes) else {
            writer.fail(BodyFailure::TooLarge);
            return;
        };
        let kept = tokio::select! {
            kept = cut(writer, incoming, bytes, &order) => kept,
            // The writer is dropped: readers see a failed body.
            () = owner.tasks.ending() => None,
        };
        drop(reservation);
        if let Some(bytes) = kept {
            let body = GrowingBody::full(bytes);
            let stored = StoredResponse {
                body,
                ..(*stored).clone()
            };
            keep(&owner, &order.key, Arc::new(stored), order.begun);
        }
        drop(published);
    });
}

/// Reads the first `wanted` bytes of a body, and returns them in memory of their own.
async fn cut(
    mut writer: Writer,
    mut incoming: ForwardBody,
    wanted: u64,
    order: &FillOrder,
) -> Option<Bytes> {
    let wanted = usize::try_from(wanted).ok()?;
    let mut bytes = Vec::with_capacity(wanted);
    while bytes.len() < wanted {
        let failure = match tokio::time::timeout(order.stall_timeout, incoming.frame()).await {
            Err(_) => BodyFailure::Stalled,
            Ok(None) => BodyFailure::Truncated,
            Ok(Some(Err(_))) => BodyFailure::Reset,
            Ok(Some(Ok(frame))) => {
                let mut data = frame.into_data().unwrap_or_default();
                data.truncate(wanted - bytes.len());
                bytes.extend_from_slice(&data);
                writer.push(data);
                continue;
            }
        };
        writer.fail(failure);
        return None;
    }
    writer.complete();
    Some(Bytes::from(bytes))
}
