//! Holding a request for a segment that is about to be (LD-01).
//!
//! A player whose clock is a little ahead asks before the segment is there. The MPD says when it will
//! be: until then the request is held, and then asked on once, so that neither the player nor this cache
//! meets a 404. Who calls it: `cached`, on a miss. Deliberately not here: requests that come earlier than
//! one segment duration, which are asked on as they come.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cache::{Change, StoredResponse};
use media::Kind;

use crate::fill::HOLD_MARGIN;
use crate::node::Node;
use crate::request::{self, Request};
use crate::respond::Failure;

/// Holds a request until what it asks for is available; returns how long that was.
///
/// # Errors
///
/// As many requests are held as may be (CA-22).
///
/// # Cancel safety
///
/// A viewer that leaves gives its place back.
pub(crate) async fn hold_if_early(
    node: &Arc<Node>,
    request: &Request,
    kind: Kind,
) -> Result<Duration, Failure> {
    if !matches!(kind, Kind::Segment | Kind::Other) {
        return Ok(Duration::ZERO);
    }
    let target = request::path_and_query(&request.target.path, request.target.query.whole());
    let now = node.clock.now().duration_since(SystemTime::UNIX_EPOCH);
    let wait = node
        .mpds
        .next_in(&request.target.host, &target, now.unwrap_or_default())
        .filter(|wait| *wait <= longest(node, request));
    let Some(wait) = wait else {
        return Ok(Duration::ZERO);
    };
    let _place = node.hub.held.take(&request.holder)?;
    tokio::time::sleep(wait).await;
    Ok(wait)
}

/// Returns how often something new comes, if what is asked for is one of the newest segments of an MPD.
pub(crate) fn pace(node: &Node, host: &str, target: &str) -> Option<Duration> {
    let now = node.clock.now().duration_since(SystemTime::UNIX_EPOCH);
    node.mpds.pace(host, target, now.unwrap_or_default())
}

/// Lets the MPDs be asked for again by which the segment at `target` should be there, which a parent has not: the
/// presentation may have begun again.
pub(crate) fn doubt(node: &Node, host: &str, target: &str) {
    let now = node.clock.now();
    let since_1970 = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let uptime = node.clock.uptime();
    for (key, known) in node.mpds.by_which_is_new(host, target, since_1970) {
        if known.is_doubted(uptime) {
            node.store.change(&key, |_, stored| {
                let doubted = StoredResponse {
                    stale_while_revalidate: Duration::ZERO,
                    ..stored.made_stale(now)
                };
                Change::Replace(Arc::new(doubted))
            });
        }
    }
}

/// Invariant 11: a child gives up sooner than a viewer.
fn longest(node: &Node, request: &Request) -> Duration {
    if request.is_of_child() {
        let patience = node.limits.first_byte_timeout;
        node.live.hold_max.min(patience.saturating_sub(HOLD_MARGIN))
    } else {
        node.live.hold_max
    }
}
