//! What players say they will ask for next, fetched ahead within a budget (CMCD `nor`, HX-04).
//!
//! What a player says is anybody's word. So only what a live playlist has named near its edge is fetched,
//! of the presentation that was asked for and from its host, within what the operator allows (FM-27).
//! Off unless allowed: players that follow hints need none of it.
//!
//! Who calls it: `exchange`, for requests that were answered. What it calls: `hub` for what is known,
//! `fill`. Deliberately not here: ranges (`nrr`); a fill brings the whole of what is named.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use cache::CacheKey;
use media::Kind;
use media::cmcd::Cmcd;
use moka::sync::Cache;
use parking_lot::Mutex;

use crate::fill::{self, FillOrder, Filled};
use crate::live::{self, Address};
use crate::node::{LiveConfig, Node};
use crate::request::{self, Request};
use crate::telemetry::{Event, NextObject};
use crate::upstream::Class;

/// What may be spent on what players announce.
///
/// # Limits
///
/// Fetches and bytes per second of the node, [`SESSION_FETCHES_PER_SECOND`] of a session.
#[derive(Debug)]
pub(crate) struct NextObjects {
    fetches_per_second: u64,
    bytes_per_second: u64,
    state: Mutex<State>,
    /// By client and session: who invents sessions has the node's budget against it.
    sessions: Cache<u64, Arc<Mutex<Allowance>>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct State {
    fetches: Allowance,
    bytes: Allowance,
}

/// So much per second, at most a second's worth saved up, and a debt if more was spent than was known.
#[derive(Debug)]
struct Allowance {
    per_second: i64,
    left: i64,
    at: Duration,
}

impl NextObjects {
    /// Creates the budget that `live` allows.
    pub(crate) fn new(live: &LiveConfig) -> Self {
        Self {
            fetches_per_second: live.next_objects_per_second,
            bytes_per_second: live.next_object_bytes_per_second,
            state: Mutex::new(State {
                fetches: Allowance::of(live.next_objects_per_second),
                bytes: Allowance::of(live.next_object_bytes_per_second),
            }),
            sessions: Cache::builder()
                .max_capacity(SESSIONS_MAX)
                .time_to_idle(SESSION_IDLE)
                .build(),
            hasher: RandomState::new(),
        }
    }

    fn are_fetched(&self) -> bool {
        self.fetches_per_second > 0 && self.bytes_per_second > 0
    }

    /// Takes leave for one fetch.
    fn take(&self, request: &Request, cmcd: &Cmcd, uptime: Duration) -> bool {
        let whose = (request.holder.client, &cmcd.session);
        let new = || Arc::new(Mutex::new(Allowance::of(SESSION_FETCHES_PER_SECOND)));
        let session = self.sessions.get_with(self.hasher.hash_one(whose), new);
        if !session.lock().take(uptime) {
            return false;
        }
        let mut state = self.state.lock();
        state.bytes.refill(uptime);
        state.bytes.left > 0 && state.fetches.take(uptime)
    }

    /// Notes what a fetch has cost.
    fn spend(&self, bytes: u64, uptime: Duration) {
        let mut state = self.state.lock();
        state.bytes.refill(uptime);
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        state.bytes.left = state.bytes.left.saturating_sub(bytes);
    }
}

impl Allowance {
    fn of(per_second: u64) -> Self {
        let per_second = i64::try_from(per_second).unwrap_or(i64::MAX);
        Self {
            per_second,
            left: per_second,
            at: Duration::ZERO,
        }
    }

    fn take(&mut self, uptime: Duration) -> bool {
        self.refill(uptime);
        let may_take = self.left > 0;
        if may_take {
            self.left -= 1;
        }
        may_take
    }

    fn refill(&mut self, uptime: Duration) {
        let elapsed = uptime.saturating_sub(self.at).as_millis();
        let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX);
        let gained = elapsed.saturating_mul(self.per_second) / 1000;
        // What is too little to count is not lost: the time stays.
        if gained > 0 {
            self.left = self.left.saturating_add(gained).min(self.per_second);
            self.at = uptime;
        }
    }
}

/// Fetches what the player will ask for next, if a playlist has named it and the budget allows it.
pub(crate) fn fetch(node: &Arc<Node>, request: &Request, cmcd: &Cmcd) {
    if !node.next_objects.are_fetched() {
        return;
    }
    let Some(uri) = &cmcd.next_object else {
        return;
    };
    let became = match named(node, request, uri) {
        None => NextObject::Refused,
        Some(order) if node.store.get(&order.key, &order.fields).found().is_some() => {
            NextObject::Known
        }
        Some(order) => {
            let uptime = node.clock.uptime();
            if node.next_objects.take(request, cmcd, uptime) {
                start(node, order);
                NextObject::Fetched
            } else {
                NextObject::OverBudget
            }
        }
    };
    node.telemetry.record(Event::NextObjectAnnounced(became));
}

/// Returns the order for what `uri` names, seen from `request`, if a live playlist has named it, too.
fn named(node: &Node, request: &Request, uri: &str) -> Option<FillOrder> {
    let (host, target) = live::locate_child(node, &Address::of(request), uri)?;
    if request::affinity_of(&host, &target) != request.target.affinity() {
        return None;
    }
    let key: CacheKey = request::key_of_target(&host, &target);
    let kind = node.hub.kind(&key)?;
    let is_media = match kind {
        Kind::Segment | Kind::Part | Kind::InitSegment => true,
        Kind::MultivariantPlaylist | Kind::MediaPlaylist | Kind::Mpd | Kind::Key | Kind::Other => {
            false
        }
    };
    is_media.then(|| FillOrder {
        class: Class::Bulk,
        first_byte_timeout: node.limits.first_byte_timeout,
        stall_timeout: node.limits.stall_timeout,
        ..FillOrder::hinted(node, key, &host, target, kind)
    })
}

/// Starts the fill, and pays for it when it is over.
fn start(node: &Arc<Node>, order: FillOrder) {
    let owner = Arc::clone(node);
    node.tasks.spawn(async move {
        let (filled, _) = fill::obtain(&owner, &order).await;
        if let Filled::Response(brought) = filled {
            let bytes = brought.response.body.ended().await.received;
            owner.next_objects.spend(bytes, owner.clock.uptime());
        }
    });
}

/// A player asks for one segment at a time, of audio and of video.
const SESSION_FETCHES_PER_SECOND: u64 = 2;

const SESSIONS_MAX: u64 = 100_000;

/// By then a session has its whole allowance again.
const SESSION_IDLE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hx_04_an_allowance_is_a_seconds_worth_and_comes_back_with_time() {
        let at = Duration::from_millis;
        let mut allowance = Allowance::of(4);
        let taken = |allowance: &mut Allowance, ms| {
            std::iter::repeat_with(|| allowance.take(at(ms)))
                .take_while(|taken| *taken)
                .count()
        };
        assert_eq!(taken(&mut allowance, 0), 4);
        assert_eq!(taken(&mut allowance, 249), 0);
        assert_eq!(taken(&mut allowance, 250), 1);
        assert_eq!(taken(&mut allowance, 60_000), 4);
        allowance.left = -6;
        assert_eq!(taken(&mut allowance, 61_000), 0, "in debt");
        assert_eq!(taken(&mut allowance, 62_000), 2);
    }
}
