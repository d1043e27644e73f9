//! Reading a patch of an MPD that a fill has brought: it is kept no longer than its MPD would be (LD-14).
//!
//! ```text
//! patch ──► ─┬─ part of its MPD was purged                 gone: players read the MPD anew, and it says so
//!            ├─ of another MPD, or leading nowhere         for those who asked, and nobody later
//!            ├─ to an older version than the one shown     the one shown, for a while
//!            └─ anything else                              stored, with nothing about clocks that the MPD has not
//! ```
//!
//! Who calls it: `mpd`. Deliberately not here: which patch is of which MPD (`dash`), and lifetimes (`route`).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cache::{GrowingBody, Policy, Uncacheable};
use http::response;
use media::dash::Patch;

use super::mpd::response_of;
use super::order::FillOrder;
use super::pump::{Arrived, complete};
use super::{Brought, Filled};
use crate::dash::{self, Shown};
use crate::node::Node;
use crate::purge;
use crate::respond::Failure;
use crate::route;

/// Judges a patch, and remembers it if it is shown from now on.
pub(super) fn take_patch(
    node: &Arc<Node>,
    order: &FillOrder,
    asked_at: SystemTime,
    (mut head, text): (response::Parts, Bytes),
    patch: Patch,
) -> Result<Arrived, Failure> {
    // It would lead to an MPD that still names what is gone.
    if purge::denies_patch(node, &order.key) {
        return Err(Failure::Purged);
    }
    let patched = node.mpds.patches.of(&order.key);
    // It is for the text as its origin has it, and players have another one: they read it anew.
    if patched
        .as_ref()
        .is_some_and(|of| node.mpds.runs.is_following(&of.mpd))
    {
        return Err(Failure::RunEnded);
    }
    let known = patched.as_ref().and_then(|of| node.mpds.known(&of.mpd));
    let is_usable = known.as_ref().is_none_or(|known| patch.is_of(&known.mpd));
    if is_usable
        && let Some(shown) = node.mpds.patches.newer_one_shown(&order.key, &patch)
        && !order.directives.is_distrusting
        && (shown.begun).lets_pass(node, &order.key, &shown.response.headers)
    {
        return Ok(Arrived::Once(Filled::Response(Brought {
            status: shown.response.status,
            response: Arc::clone(&shown.response),
            refusal: Some(Uncacheable::NoLifetime),
        })));
    }
    let fields = &mut head.headers;
    let text = dash::with_clock_of_mpd(node, &order.key, text, fields);
    let order = order.with_policy(policy_of(node, order, &patch));
    let of_text = GrowingBody::full(text.clone());
    let mut judged = order.judge(node, asked_at, head.status, fields, of_text);
    if !is_usable {
        judged.refusal = judged.refusal.or(Some(Uncacheable::NoLifetime));
    }
    let arrived = complete(node, &order, judged, text);
    if is_usable && let Some(response) = response_of(&arrived) {
        if let Some(of) = &patched {
            let places = &patch.patch_locations;
            node.mpds
                .patches
                .learn(node, (&of.mpd, &of.address), places);
        }
        let begun = order.begun;
        let shown = Shown {
            patch,
            response,
            begun,
        };
        node.mpds.patches.show(&order.key, shown);
    }
    Ok(arrived)
}

/// Returns the policy of the patch that a 304 is about.
pub(super) fn policy_of_shown(node: &Node, order: &FillOrder) -> Option<Arc<Policy>> {
    let shown = node.mpds.patches.shown(&order.key)?;
    Some(policy_of(node, order, &shown.patch))
}

/// As long as its MPD may be kept, and no longer than it is there.
fn policy_of(node: &Node, order: &FillOrder, patch: &Patch) -> Arc<Policy> {
    let Some(patched) = node.mpds.patches.of(&order.key) else {
        return Arc::clone(&order.policy);
    };
    let policy = match node.mpds.known(&patched.mpd) {
        Some(known) => route::policy_of_mpd(&known.mpd, &order.policy),
        None => Arc::clone(&order.policy),
    };
    let until = patched.ttl.zip(patch.original_publish_time);
    let Some(until) = until.map(|(ttl, published)| published.saturating_add(ttl)) else {
        return policy;
    };
    let now = node.clock.now().duration_since(SystemTime::UNIX_EPOCH);
    let left = until.saturating_sub(now.unwrap_or(Duration::ZERO));
    route::policy_until_gone(left, &policy)
}
