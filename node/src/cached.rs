//! The main branch: lookup, collapse, fill, and stale where the parent fails.
//!
//! Who calls it: `exchange`. What it calls: the store, then `fill`; it answers with `respond::stored`.
//! Deliberately not here: what may be stored and how long it is fresh (`cache`).

use std::sync::Arc;
use std::time::Duration;

use cache::StoredResponse;
use media::Kind;

use crate::body::Body;
use crate::fill::{self, Ask, FillOrder, Filled};
use crate::live;
use crate::node::Node;
use crate::request::Request;
use crate::respond::{self, Answer, Failure, Outcome};
use crate::upstream::ForwardResponse;

/// Answers from the store, or from a fill that everybody who asks now shares.
///
/// # Errors
///
/// Whatever kept the parents from answering, unless a stale response may replace it (RFC 5861 4).
///
/// # Cancel safety
///
/// A viewer that leaves changes nothing for the fill (CA-06).
pub(crate) async fn answer(
    node: &Arc<Node>,
    request: &Request,
    kind: Kind,
) -> Result<Answer, Failure> {
    let order = FillOrder::of(node, request, kind);
    let stale = match node.store.get(&order.key, &node.forward_fields).found() {
        Some(stored) if stored.is_fresh(node.clock.now()) => {
            return respond::stored(node, request, &stored, Outcome::Hit).await;
        }
        stale => stale,
    };
    if node.uncacheable.contains_key(&order.key) {
        return pass(node, order).await;
    }
    let (filled, is_collapsed) = fill::obtain(node, &order).await;
    let outcome = match (&stale, is_collapsed) {
        (_, true) => Outcome::Collapsed,
        (Some(_), false) => Outcome::Stale,
        (None, false) => Outcome::Miss,
    };
    match filled {
        Filled::Response(stored) => respond::stored(node, request, &stored, outcome).await,
        Filled::Rendition(rendition) => live::answer(node, request, &rendition).await,
        Filled::Unshared(only) => {
            let taken = only.lock().take();
            match taken {
                Some(response) => Ok(relay(response)),
                None => pass(node, order).await,
            }
        }
        Filled::Failed(failure) => or_stale(node, request, stale, failure).await,
    }
}

/// Answers with a stale response where that is better than a failure (RFC 5861 4).
async fn or_stale(
    node: &Arc<Node>,
    request: &Request,
    stale: Option<Arc<StoredResponse>>,
    failure: Failure,
) -> Result<Answer, Failure> {
    let now = node.clock.now();
    let may_replace = |stored: &Arc<StoredResponse>| {
        stored
            .staleness(now)
            .is_none_or(|staleness| staleness < stored.stale_if_error)
    };
    match stale.filter(may_replace) {
        Some(stored) if failure.stale_may_replace() => {
            respond::stored(node, request, &stored, Outcome::Stale).await
        }
        Some(_) | None => Err(failure),
    }
}

/// Asks a parent for this viewer alone.
async fn pass(node: &Arc<Node>, order: FillOrder) -> Result<Answer, Failure> {
    let response = Ask::of(&order).head(node).await?;
    Ok(relay(response))
}

fn relay(response: ForwardResponse) -> Answer {
    let ForwardResponse { head, body, .. } = response;
    Answer {
        status: head.status,
        fields: fill::end_to_end(&head.headers),
        body: Body::relayed(body),
        outcome: Outcome::Bypass,
        held: Duration::ZERO,
    }
}
