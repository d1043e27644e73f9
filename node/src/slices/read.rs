//! Answering from a head: a walk from slice to slice, as fast as the viewer reads.
//!
//! Who calls it: `respond`. The first slice is there, or on its way, before the answer begins: what
//! cannot be had is a failure with a status, and only what goes wrong later is a broken body.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use cache::range::RangeAnswer;
use cache::validation::if_range_holds;
use cache::{Answered, ByteRanges, Forward, ForwardReason, Lookup, Reader, Sliced, StoredResponse};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use media::Kind;

use super::slice_order;
use crate::body::{Body, BodyError};
use crate::fill::{self, Asked, FillOrder, Filled};
use crate::node::Node;
use crate::request::{Request, Wants};
use crate::respond::{Answer, Failure, Outcome};

/// Completes `answer`, which has the fields of `head`, with the bytes of its slices.
///
/// Several ranges are answered whole: whoever asks for them of a body this large is no player (B73).
///
/// # Errors
///
/// Whatever kept the first slice from arriving.
///
/// # Cancel safety
///
/// A viewer that leaves changes nothing for the slices that are on their way.
pub(crate) async fn answer(
    node: &Arc<Node>,
    request: &Request,
    kind: Kind,
    head: &Arc<StoredResponse>,
    sliced: Sliced,
    mut answer: Answer,
) -> Result<Answer, Failure> {
    // RFC 9110 14.2: only GET has ranges; 13.1.5: with If-Range, only of what the viewer has.
    let is_ranged =
        request.wants == Wants::Content && if_range_holds(&request.fields, &head.headers);
    let ranges = ByteRanges::of(&request.fields).filter(|_| is_ranged);
    let range = match ranges.map(|ranges| sliced.answer(&ranges)) {
        Some(RangeAnswer::Part {
            range,
            content_range,
        }) => {
            answer.status = StatusCode::PARTIAL_CONTENT;
            answer.fields.insert(header::CONTENT_RANGE, content_range);
            range
        }
        Some(RangeAnswer::NotSatisfiable { content_range }) => {
            answer.status = StatusCode::RANGE_NOT_SATISFIABLE;
            answer.fields.insert(header::CONTENT_RANGE, content_range);
            0..0
        }
        Some(
            RangeAnswer::Whole
            | RangeAnswer::Open { .. }
            | RangeAnswer::Parts(_)
            | RangeAnswer::Wait { .. },
        )
        | None => 0..sliced.length,
    };
    let bytes = range.end - range.start;
    answer
        .fields
        .insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    if request.wants == Wants::Content && bytes > 0 {
        let order = FillOrder::of(node, request, kind, Asked::of(node, request, kind));
        let mut walk = Walk {
            node: Arc::clone(node),
            order,
            head: Arc::clone(head),
            sliced,
            range,
            reader: None,
        };
        if let Some(forward) = walk.enter_slice().await? {
            answer.outcome = match forward.collapsed {
                Some(true) => Outcome::Collapsed,
                Some(false) | None => Outcome::Miss,
            };
            answer.status_member = Some(cache::Outcome {
                answered: Answered::Forward(forward),
                ..cache::Outcome::forward(ForwardReason::Partial)
            });
        }
        answer.body = Body::assembled(walk.into_stream(), bytes);
    }
    Ok(answer)
}

/// Returns what has taken the place of `stored`, if that was a head whose version is gone.
///
/// # Cancel safety
///
/// As [`fill::obtain`].
pub(crate) async fn newer_version(
    node: &Arc<Node>,
    request: &Request,
    kind: Kind,
    stored: &StoredResponse,
) -> Option<Arc<StoredResponse>> {
    let gone = stored.body.sliced()?;
    let asked = Asked::of(node, request, kind);
    let found = node.store.get(&asked.key, &asked.fields).found();
    if found.is_some_and(|found| found.body.sliced() == Some(gone)) {
        return None; // Something else went wrong.
    }
    let order = FillOrder::of(node, request, kind, asked);
    match fill::obtain(node, &order).await.0 {
        Filled::Response(brought) => Some(brought.response),
        Filled::Rendition(_) | Filled::Unshared(..) | Filled::Failed(_) => None,
    }
}

/// A reader on its way through the slices of one version.
struct Walk {
    node: Arc<Node>,
    /// What a fill of the whole would be told; the slices' orders are made of it.
    order: FillOrder,
    head: Arc<StoredResponse>,
    sliced: Sliced,
    /// The bytes still to be read, from the beginning of `reader`'s slice on.
    range: Range<u64>,
    reader: Option<Reader>,
}

impl Walk {
    /// Begins to read the slice at the beginning of the range, and has the next one brought ahead.
    ///
    /// Returns how the slice was asked for, if it was not there.
    async fn enter_slice(&mut self) -> Result<Option<Forward>, Failure> {
        let number = self.sliced.number(self.range.start);
        let slice = self.sliced.range(number);
        let order = slice_order(&self.order, &self.head, self.sliced, number);
        let (stored, forward) = match self.node.store.get(&order.key, &HeaderMap::new()) {
            Lookup::Found(stored) => (stored, None),
            Lookup::UriMiss | Lookup::VaryMiss => match fill::obtain(&self.node, &order).await {
                (Filled::Response(brought), is_collapsed) => {
                    let forward = Forward {
                        reason: ForwardReason::Partial,
                        status: None,
                        stored: true,
                        collapsed: is_collapsed.then_some(true),
                    };
                    (brought.response, Some(forward))
                }
                (Filled::Failed(failure), _) => return Err(failure),
                (Filled::Rendition(_) | Filled::Unshared(..), _) => {
                    return Err(Failure::ParentBroken);
                }
            },
        };
        if slice.end < self.range.end {
            let next = slice_order(&self.order, &self.head, self.sliced, number + 1);
            fill::ahead(&self.node, next);
        }
        let end = self.range.end.min(slice.end);
        let within = self.range.start - slice.start..end - slice.start;
        self.reader = Some(stored.body.reader(within));
        self.range.start = end;
        Ok(forward)
    }

    /// Returns the next bytes; `None` is the end of the range.
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        loop {
            if let Some(reader) = &mut self.reader {
                match reader.next().await {
                    Some(next) => return Some(next.map_err(|_| BodyError)),
                    None => self.reader = None,
                }
            }
            if self.range.is_empty() {
                return None;
            }
            if self.enter_slice().await.is_err() {
                return Some(Err(BodyError));
            }
        }
    }

    fn into_stream(self) -> stream::BoxStream<'static, Result<Bytes, BodyError>> {
        let steps = stream::unfold(Some(self), |walk| async {
            let mut walk = walk?;
            let next = walk.next().await?;
            // After a failure there is nothing: a broken body has no end.
            let rest = next.is_ok().then_some(walk);
            Some((next, rest))
        });
        steps.boxed()
    }
}
