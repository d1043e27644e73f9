//! Reading an MPD that a fill has brought: what it says decides how long it is kept (LD-10).
//!
//! ```text
//! text ──► parsed ─┬─ older than the one shown   the one shown, for a while
//!                  ├─ part of it was purged      stored without that part
//!                  ├─ anything else              stored, as long as its update period allows, with this node's clock
//!                  ├─ a patch of one             judged by the MPD it is of (`patch`)
//!                  └─ neither                    stored as it is: what only players can read
//! ```
//!
//! Who calls it: the pump. Deliberately not here: what MPDs are used for (`dash`), and lifetimes (`route`).

use std::sync::Arc;

use cache::{GrowingBody, Uncacheable};
use http::StatusCode;
use media::dash::{Limits, Mpd, MpdError, Patch};

use super::decode::read_text;
use super::order::FillOrder;
use super::patch::{policy_of_shown, take_patch};
use super::pump::{Arrived, complete};
use super::{Brought, Filled};
use crate::dash::{self, Known, Published};
use crate::live::Address;
use crate::node::Node;
use crate::purge;
use crate::respond::Failure;
use crate::route;
use crate::upstream::ForwardResponse;

/// Reads an MPD, and remembers it if it is shown from now on.
pub(super) async fn read_mpd(
    node: &Arc<Node>,
    order: &FillOrder,
    address: &Address,
    response: ForwardResponse,
) -> Result<Arrived, Failure> {
    let asked_at = node.clock.wall_at(response.sent_at);
    let ForwardResponse { mut head, body, .. } = response;
    let bytes_max = node.live.playlist_bytes_max;
    let text = read_text(&mut head, body, bytes_max, order.stall_timeout).await?;
    let limits = Limits {
        bytes_max,
        ..Limits::default()
    };
    let mpd = match Mpd::parse(text.clone(), &limits) {
        Ok(mpd) => Some(mpd),
        Err(MpdError::NotAnMpd) => match Patch::parse(&text, &limits) {
            Some(patch) => return take_patch(node, order, asked_at, (head, text), patch),
            None => None,
        },
        Err(_) => None,
    };
    if let Some(mpd) = &mpd
        && let Some(shown) = newer_one_shown(node, order, address, mpd)
    {
        return Ok(Arrived::Once(Filled::Response(Brought {
            status: shown.response.status,
            response: Arc::clone(&shown.response),
            refusal: Some(Uncacheable::NoLifetime),
        })));
    }
    let published = mpd.as_ref().map(Published::of);
    let mpd = mpd.map(|mpd| dash::shown(node, &order.key, address, mpd, &mut head.headers));
    let text = match &mpd {
        Some(mpd) => {
            let fields = &mut head.headers;
            let text = mpd.text.clone();
            let text = purge::redacted_mpd(node, address, mpd, fields)?.unwrap_or(text);
            dash::with_clock(node, address, mpd, text, fields)
        }
        None => text,
    };
    let order = match &mpd {
        Some(mpd) => order.with_policy(route::policy_of_mpd(mpd, &order.policy)),
        None => order.clone(),
    };
    let of_text = GrowingBody::full(text.clone());
    let judged = order.judge(node, asked_at, head.status, &head.headers, of_text);
    let arrived = complete(node, &order, judged, text);
    if let Some(shown) = mpd.zip(published)
        && let Some(response) = response_of(&arrived)
        && shown.0.availability_start.is_some()
    {
        let at = (&order.key, address);
        node.mpds.show(node, at, shown, response, order.begun);
    }
    Ok(arrived)
}

/// Returns the order with the policy of the MPD, or the patch, that a 304 is about.
pub(super) fn of_known(node: &Node, order: &FillOrder) -> Option<FillOrder> {
    let Some(known) = node.mpds.known(&order.key) else {
        return Some(order.with_policy(policy_of_shown(node, order)?));
    };
    known.confirm(node.clock.uptime());
    Some(order.with_policy(route::policy_of_mpd(&known.mpd, &order.policy)))
}

/// Returns the MPD shown under the same key, if `mpd` is an older version of it.
///
/// One of several origins may lag, and a player must not see time run backwards. An older version that is
/// all there is for longer than errors are ridden out is a presentation that its operator took back.
fn newer_one_shown(
    node: &Node,
    order: &FillOrder,
    address: &Address,
    mpd: &Mpd,
) -> Option<Arc<Known>> {
    let shown = node.mpds.known(&order.key)?;
    let since = shown.unconfirmed_for(node.clock.uptime());
    let is_older = dash::is_of_run_before(node, &order.key, address, mpd)
        || shown.published.is_after(mpd, &shown.mpd);
    let is_shown = is_older
        && since < order.policy.stale_if_error
        && !order.directives.is_distrusting
        && shown
            .begun
            .lets_pass(node, &order.key, &shown.response.headers);
    is_shown.then_some(shown)
}

pub(super) fn response_of(arrived: &Arrived) -> Option<Arc<cache::StoredResponse>> {
    let response = match arrived {
        Arrived::Complete(response, _) => response,
        Arrived::Once(Filled::Response(brought)) => &brought.response,
        Arrived::Growing(..) | Arrived::Once(_) => return None,
    };
    (response.status == StatusCode::OK).then(|| Arc::clone(response))
}
