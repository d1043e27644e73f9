//! A stored or growing response as an answer: whole, a range of it, or not modified.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use cache::range::{ByteRanges, RangeAnswer};
use cache::validation::{evaluate, if_range_holds, not_modified_fields};
use cache::{BodyState, Condition, StoredResponse};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use media::Kind;

use super::multipart::Multipart;
use super::{AGE_MILLISECONDS, Answer, Failure, Outcome};
use crate::body::Body;
use crate::coding;
use crate::live::Gate;
use crate::node::Node;
use crate::request::{Request, Wants};
use crate::slices;

/// Answers `request` with `stored`, whose body may still be growing.
///
/// # Errors
///
/// [`Failure::ParentBroken`] when the body fails before the first byte of a requested range.
///
/// # Cancel safety
///
/// Dropping the future only leaves; the body belongs to its fill.
pub async fn stored(
    node: &Arc<Node>,
    request: &Request,
    kind: Kind,
    stored: &Arc<StoredResponse>,
    outcome: Outcome,
) -> Result<Answer, Failure> {
    let failure = match answer(node, request, kind, stored, outcome).await {
        Ok(answer) => return Ok(answer),
        Err(failure) => failure,
    };
    // The first slice may have shown that the version is gone; no byte of it has left yet.
    let again = async {
        let newer = slices::newer_version(node, request, kind, stored).await;
        let newer = newer.ok_or(failure)?;
        answer(node, request, kind, &newer, Outcome::Miss).await
    };
    Box::pin(again).await
}

async fn answer(
    node: &Arc<Node>,
    request: &Request,
    kind: Kind,
    stored: &Arc<StoredResponse>,
    outcome: Outcome,
) -> Result<Answer, Failure> {
    let is_text = coding::is_text(kind);
    let text = if is_text {
        Some(Box::pin(coding::stored_text(node, &request.fields, stored)).await)
    } else {
        None
    };
    let stored = text.as_ref().unwrap_or(stored);
    let mut fields = stored.headers.clone();
    state_age(node, request, stored, outcome, &mut fields);
    let mut answer = Answer {
        status: stored.status,
        fields,
        body: Body::empty(),
        outcome,
        status_member: None,
        held: Duration::ZERO,
    };
    if stored.status != StatusCode::OK {
        send(&mut answer, stored, 0..u64::MAX, None);
        return Ok(answer);
    }
    // RFC 9110 13.2.2: conditions come before ranges.
    if evaluate(&Method::GET, &request.fields, stored) == Condition::NotModified {
        answer.status = StatusCode::NOT_MODIFIED;
        let mut fields = not_modified_fields(&answer.fields);
        if request.is_of_child() {
            // RFC 9110 15.4.5: to guide the update of what it has stored.
            for name in [header::CONTENT_TYPE, header::CONTENT_LANGUAGE] {
                if let Some(value) = answer.fields.remove(&name) {
                    fields.insert(name, value);
                }
            }
        }
        answer.fields = fields;
        return Ok(answer);
    }
    if is_text {
        // RFC 9110 14.2: nobody resumes a playlist, and its forms differ by coding.
        answer.fields.remove(header::ACCEPT_RANGES);
        send(&mut answer, stored, 0..u64::MAX, None);
        return Ok(answer);
    }
    answer
        .fields
        .insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(sliced) = stored.body.sliced() {
        return Box::pin(slices::answer(node, request, kind, stored, *sliced, answer)).await;
    }
    let ranges = ranges_of(request, stored);
    let mut gate = ranges.as_ref().and_then(|_| gate(node, request, stored));
    let chosen = match select(ranges.as_ref(), stored, gate.as_mut()) {
        RangeAnswer::Wait { .. } => {
            Box::pin(select_later(ranges.as_ref(), stored, gate.as_mut())).await?
        }
        chosen => chosen,
    };
    answer_ranges(&mut answer, kind, stored, chosen, gate);
    Ok(answer)
}

/// Makes `answer` one of the ranges that were chosen, or of the whole body.
fn answer_ranges(
    answer: &mut Answer,
    kind: Kind,
    stored: &StoredResponse,
    chosen: RangeAnswer,
    gate: Option<Gate>,
) {
    match chosen {
        RangeAnswer::Part {
            range,
            content_range,
        }
        | RangeAnswer::Open {
            range,
            content_range,
        } => {
            answer.status = StatusCode::PARTIAL_CONTENT;
            answer.fields.insert(header::CONTENT_RANGE, content_range);
            send(answer, stored, range, gate);
        }
        RangeAnswer::Parts(ranges) => match stored.body.len_if_complete() {
            Some(length) if allows_multipart(kind) => {
                let content_type = answer.fields.get(header::CONTENT_TYPE);
                let parts = Multipart::new(&stored.body, length, &ranges, content_type);
                answer.status = StatusCode::PARTIAL_CONTENT;
                let length = HeaderValue::from(parts.body.remaining_if_known().unwrap_or(0));
                answer.fields.insert(header::CONTENT_LENGTH, length);
                answer
                    .fields
                    .insert(header::CONTENT_TYPE, parts.content_type);
                answer.body = parts.body;
            }
            // RFC 9110 14.2: a server may ignore Range.
            Some(_) | None => send(answer, stored, 0..u64::MAX, None),
        },
        RangeAnswer::NotSatisfiable { content_range } => {
            answer.status = StatusCode::RANGE_NOT_SATISFIABLE;
            answer.fields.insert(header::CONTENT_RANGE, content_range);
            answer
                .fields
                .insert(header::CONTENT_LENGTH, HeaderValue::from(0));
        }
        RangeAnswer::Whole | RangeAnswer::Wait { .. } => {
            send(answer, stored, 0..u64::MAX, None);
        }
    }
}

/// Players ask for one range of media at a time; whoever asks for several is no player (B73).
fn allows_multipart(kind: Kind) -> bool {
    match kind {
        Kind::Key | Kind::Other => true,
        Kind::InitSegment
        | Kind::Segment
        | Kind::Part
        | Kind::MultivariantPlaylist
        | Kind::MediaPlaylist
        | Kind::Mpd => false,
    }
}

/// Returns the ranges that a request asks for, if it is to be answered with any.
fn ranges_of(request: &Request, stored: &StoredResponse) -> Option<ByteRanges> {
    // RFC 9110 14.2: only GET has ranges; 13.1.5: with If-Range, only of what the viewer has.
    let is_ranged =
        request.wants == Wants::Content && if_range_holds(&request.fields, &stored.headers);
    ByteRanges::of(&request.fields).filter(|_| is_ranged)
}

/// Returns what keeps a range of a growing resource in whole parts, if it has any (LL-17).
fn gate(node: &Node, request: &Request, stored: &StoredResponse) -> Option<Gate> {
    match stored.body.len_if_complete() {
        Some(_) => None,
        None => node.hub.gates.of(request.key()),
    }
}

/// Finds what answers the ranges as far as the body is there.
fn select(
    ranges: Option<&ByteRanges>,
    stored: &StoredResponse,
    gate: Option<&mut Gate>,
) -> RangeAnswer {
    let body = &stored.body;
    ranges.map_or(RangeAnswer::Whole, |ranges| {
        let progress = gate.map_or_else(|| body.progress(), |gate| gate.progress(body));
        ranges.answer(progress, body.len_if_known())
    })
}

/// Finds what answers the ranges, waiting while that is not decided (LD-08).
async fn select_later(
    ranges: Option<&ByteRanges>,
    stored: &StoredResponse,
    mut gate: Option<&mut Gate>,
) -> Result<RangeAnswer, Failure> {
    while let RangeAnswer::Wait { received } = select(ranges, stored, gate.as_deref_mut()) {
        let progress = match &mut gate {
            Some(gate) => gate.received_at_least(&stored.body, received).await,
            None => stored.body.received_at_least(received).await,
        };
        if let BodyState::Failed(_) = progress.state {
            return Err(Failure::ParentBroken);
        }
    }
    Ok(select(ranges, stored, gate))
}

fn send(answer: &mut Answer, stored: &StoredResponse, range: Range<u64>, gate: Option<Gate>) {
    let first = range.start;
    let reader = stored.body.reader(range);
    let length = reader.remaining_if_known();
    match length {
        Some(bytes) => answer
            .fields
            .insert(header::CONTENT_LENGTH, HeaderValue::from(bytes)),
        None => answer.fields.remove(header::CONTENT_LENGTH),
    };
    answer.body = match gate {
        Some(gate) => {
            let pieces = gate.pieces(stored.body.clone(), reader, first);
            Body::assembled(pieces, length)
        }
        None => Body::growing(reader),
    };
}

/// RFC 9111 5.1: `Age` on what comes from the store; LT-01: none on what came straight from the origin.
fn state_age(
    node: &Node,
    request: &Request,
    stored: &StoredResponse,
    outcome: Outcome,
    fields: &mut HeaderMap,
) {
    let age = stored.age(node.clock.now());
    let is_from_store = matches!(outcome, Outcome::Hit | Outcome::Stale);
    if is_from_store || age >= Duration::from_secs(1) {
        fields.insert(header::AGE, HeaderValue::from(age.as_secs()));
    }
    if request.is_of_child() {
        let milliseconds = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        fields.insert(AGE_MILLISECONDS, HeaderValue::from(milliseconds));
    }
}
