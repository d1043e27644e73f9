//! The main branch: lookup, judge, collapse, fill, and stale where the parent fails.
//!
//! ```text
//! lookup ─► judge ─┬─ fresh ───────────────► answer
//!                  ├─ stale-while-revalidate ► answer, refresh meanwhile
//!                  └─ else ─► bring ─┬─ from a fill everybody shares ─► answer
//!                                    ├─ for this viewer alone ────────► relay
//!                                    └─ failed ─► stale if it may replace an error
//! ```
//!
//! Who calls it: `exchange`. What it calls: the store, then `fill`; it answers with `respond::stored`.
//! Deliberately not here: what may be stored and how long it is fresh (`cache`).

use std::sync::Arc;
use std::time::Duration;

use cache::{
    Answered, Detail, Forward, ForwardReason, Lookup, StoredResponse, Uncacheable, Use, judge,
};
use http::{StatusCode, header};
use media::Kind;

use crate::body::Body;
use crate::dash;
use crate::fill::{self, Asked, Brought, FillOrder, Filled, Own};
use crate::live;
use crate::node::Node;
use crate::request::Request;
use crate::respond::{self, Answer, Failure, Outcome};
use crate::upstream::ForwardResponse;

/// Answers from the store, or from a fill that everybody who asks now shares.
///
/// # Errors
///
/// Whatever kept the parents from answering, unless a stale response may replace it (RFC 5861 4);
/// [`Failure::NotStored`] where the viewer wanted a stored response or none (RFC 9111 5.2.1.7).
///
/// # Cancel safety
///
/// A viewer that leaves changes nothing for the fill (CA-06).
pub(crate) async fn answer(
    node: &Arc<Node>,
    request: &Request,
    kind: Kind,
) -> Result<Answer, Failure> {
    let asked = Asked::of(node, request, kind);
    let (found, reason) = match node.store.get(&asked.key, &asked.fields) {
        Lookup::Found(stored) => {
            let found = match judge(&stored, &asked.directives, node.clock.now()) {
                Use::Fresh => return hit(node, request, kind, &stored).await,
                Use::WhileRevalidating => {
                    let order = FillOrder::of(node, request, kind, asked).revalidating(&stored);
                    fill::refresh(node, order);
                    let detail = Detail::StaleWhileRevalidate;
                    return stale(node, request, kind, &stored, detail).await;
                }
                // Who is ahead knows that it was purged: not even an error is worse.
                Use::IfError if !request.is_ahead => Found::MayReplaceErrors(stored),
                Use::IfError | Use::Revalidate => Found::MustBeValidated(stored),
            };
            let reason = if found.stored().is_fresh(node.clock.now()) {
                ForwardReason::Request
            } else {
                ForwardReason::Stale
            };
            (Some(found), reason)
        }
        Lookup::VaryMiss => (None, ForwardReason::VaryMiss),
        Lookup::UriMiss => (None, ForwardReason::UriMiss),
    };
    if asked.directives.only_if_cached {
        return Err(Failure::NotStored);
    }
    Box::pin(forward(node, request, kind, asked, found, reason)).await
}

/// Answers from the store alone, if that takes no fill, no wait, and starts nothing.
pub(crate) async fn at_once(node: &Arc<Node>, request: &Request, kind: Kind) -> Option<Answer> {
    let asked = Asked::of(node, request, kind);
    let Lookup::Found(stored) = node.store.get(&asked.key, &asked.fields) else {
        return None;
    };
    // Slices that are not there would be brought.
    let is_whole = stored.body.sliced().is_none() && stored.body.len_if_complete().is_some();
    match judge(&stored, &asked.directives, node.clock.now()) {
        Use::Fresh if is_whole => hit(node, request, kind, &stored).await.ok(),
        Use::Fresh | Use::WhileRevalidating | Use::IfError | Use::Revalidate => None,
    }
}

/// Asks a parent, and falls back on what was found where that may replace an error.
async fn forward(
    node: &Arc<Node>,
    request: &Request,
    kind: Kind,
    asked: Asked,
    found: Option<Found>,
    reason: ForwardReason,
) -> Result<Answer, Failure> {
    if node.hub.runs.have_ended(&asked.key, kind) {
        // What a parent would say to this name, or to whether it has changed, is of another run.
        return match found {
            Some(Found::MayReplaceErrors(stored)) => {
                stale(node, request, kind, &stored, Detail::StaleIfError).await
            }
            Some(Found::MustBeValidated(_)) | None => Err(Failure::RunEnded),
        };
    }
    let held = match &found {
        None => dash::hold_if_early(node, request, kind).await?,
        Some(_) => Duration::ZERO,
    };
    if found.is_none()
        && let Some(answer) = open(node, request, kind, &asked, reason).await?
    {
        return Ok(answer);
    }
    let mut order = FillOrder::of(node, request, kind, asked);
    if let Some(found) = &found {
        order = order.revalidating(found.stored());
    }
    let brought = bring(node, request, kind, order, reason).await;
    match brought.map(|answer| answer.after(held)) {
        Err(failure) if failure.stale_may_replace() => match found {
            Some(Found::MayReplaceErrors(stored)) => {
                stale(node, request, kind, &stored, Detail::StaleIfError).await
            }
            Some(Found::MustBeValidated(_)) | None => Err(failure),
        },
        Ok(answer) if is_error_of_server(answer.status) => match found {
            Some(Found::MayReplaceErrors(stored)) => {
                stale(node, request, kind, &stored, Detail::StaleIfError).await
            }
            Some(Found::MustBeValidated(_)) | None => Ok(answer),
        },
        answered => answered,
    }
}

/// Looks for the stream of a request that asks for a position in it: its playlist is asked for plainly, one
/// question for all who wait, and followed from there (CA-05). A parent would hold each question for a position.
///
/// `None`: it is not followed, and only the parent can say what the position means (LL-12).
async fn open(
    node: &Arc<Node>,
    request: &Request,
    kind: Kind,
    asked: &Asked,
    reason: ForwardReason,
) -> Result<Option<Answer>, Failure> {
    let Some(mut order) = FillOrder::opening(node, request, kind, asked) else {
        return Ok(None);
    };
    loop {
        let (filled, is_collapsed) = fill::obtain(node, &order).await;
        match filled {
            Filled::Rendition(rendition) => {
                if let Some(answer) = live::answer(node, request, &rendition).await? {
                    return Ok(Some(answer));
                }
                order = order.anew(node);
            }
            Filled::Failed(failure) => return Err(failure),
            // What is wrong with the playlist is wrong with every position in it. A redirect has to keep the query.
            Filled::Response(brought) if is_error(brought.response.status) => {
                let answer = answer_brought(node, request, kind, &brought, reason, is_collapsed);
                return answer.await.map(Some);
            }
            Filled::Response(_) | Filled::Unshared(..) => return Ok(None),
        }
    }
}

/// A stored response that cannot be used as it is.
enum Found {
    /// It may stand in for an error (RFC 5861 4).
    MayReplaceErrors(Arc<StoredResponse>),
    /// It is good for nothing but validation.
    MustBeValidated(Arc<StoredResponse>),
}

impl Found {
    fn stored(&self) -> &Arc<StoredResponse> {
        match self {
            Self::MayReplaceErrors(stored) | Self::MustBeValidated(stored) => stored,
        }
    }
}

async fn hit(
    node: &Arc<Node>,
    request: &Request,
    kind: Kind,
    stored: &Arc<StoredResponse>,
) -> Result<Answer, Failure> {
    let mut answer = respond::stored(node, request, kind, stored, Outcome::Hit).await?;
    // A head may be there and a slice of it not: that is told already.
    answer
        .status_member
        .get_or_insert_with(|| cache::Outcome::hit(stored, node.clock.now()));
    Ok(answer)
}

async fn stale(
    node: &Arc<Node>,
    request: &Request,
    kind: Kind,
    stored: &Arc<StoredResponse>,
    detail: Detail,
) -> Result<Answer, Failure> {
    let mut answer = respond::stored(node, request, kind, stored, Outcome::Stale).await?;
    answer.status_member = Some(cache::Outcome {
        detail: Some(detail),
        ..cache::Outcome::hit(stored, node.clock.now())
    });
    Ok(answer)
}

/// Answers with what a parent says now.
async fn bring(
    node: &Arc<Node>,
    request: &Request,
    kind: Kind,
    mut order: FillOrder,
    reason: ForwardReason,
) -> Result<Answer, Failure> {
    let is_alone = request.is_ahead || node.uncacheable.contains_key(&order.collapse_key);
    let (mut filled, mut is_collapsed) = if is_alone {
        (fill::alone(node, &order).await, false)
    } else {
        fill::obtain(node, &order).await
    };
    loop {
        match filled {
            Filled::Response(brought) => {
                return answer_brought(node, request, kind, &brought, reason, is_collapsed).await;
            }
            Filled::Rendition(rendition) => {
                if let Some(answer) = live::answer(node, request, &rendition).await? {
                    return Ok(answer);
                }
                order = order.anew(node);
                (filled, is_collapsed) = fill::obtain(node, &order).await;
            }
            Filled::Failed(failure) => return Err(failure),
            Filled::Unshared(only, refusal) => {
                let taken = only.lock().take();
                match taken {
                    Some(Own::Arriving(response)) => {
                        return Ok(relay(node, *response, reason, refusal));
                    }
                    Some(Own::Read(own)) => {
                        return answer_brought(node, request, kind, &own, reason, false).await;
                    }
                    // Somebody else's: this viewer needs its own.
                    None => {
                        (filled, is_collapsed) = (fill::alone(node, &order).await, false);
                    }
                }
            }
        }
    }
}

async fn answer_brought(
    node: &Arc<Node>,
    request: &Request,
    kind: Kind,
    brought: &Brought,
    reason: ForwardReason,
    is_collapsed: bool,
) -> Result<Answer, Failure> {
    let is_validated = brought.status == StatusCode::NOT_MODIFIED;
    let outcome = match (is_collapsed, is_validated) {
        (true, _) => Outcome::Collapsed,
        (false, true) => Outcome::Revalidated,
        (false, false) => Outcome::Miss,
    };
    let stored = &brought.response;
    let mut answer = respond::stored(node, request, kind, stored, outcome).await?;
    let is_stored = brought.refusal.is_none();
    answer.status_member = Some(cache::Outcome {
        answered: Answered::Forward(Forward {
            reason,
            status: (brought.status != answer.status).then_some(brought.status),
            stored: is_stored,
            collapsed: is_collapsed.then_some(true),
        }),
        ttl: is_stored.then(|| stored.ttl(node.clock.now())),
        detail: brought.refusal.map(Detail::Uncacheable),
    });
    Ok(answer)
}

/// Hands a response that nobody else may have to its one viewer.
fn relay(
    node: &Node,
    response: ForwardResponse,
    reason: ForwardReason,
    refusal: Uncacheable,
) -> Answer {
    let ForwardResponse { head, body, .. } = response;
    let mut fields = fill::end_to_end(&head.headers);
    fill::date_if_missing(&mut fields, node.clock.now());
    // It was not kept here: its age is what the parent says (RFC 9111 5.1).
    if let Some(age) = head.headers.get(header::AGE) {
        fields.insert(header::AGE, age.clone());
    }
    Answer {
        status: head.status,
        fields,
        body: Body::relayed(body),
        outcome: Outcome::Bypass,
        status_member: Some(cache::Outcome {
            detail: Some(Detail::Uncacheable(refusal)),
            ..cache::Outcome::forward(reason)
        }),
        held: Duration::ZERO,
    }
}

fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// RFC 5861 4: the errors that a stale response may replace.
pub(crate) fn is_error_of_server(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502..=504)
}
