//! At most one fill per key: who comes first leads, the others follow.
//!
//! ```text
//! join ── key free ───▶ Lead(FillPermit) ── publish ──▶ Published: all who follow, now and later,
//!   │                     ▲        │ ╲                  share the value until it is dropped
//!   │                     │        │  ╲── refuse ─────▶ those waiting now share the value
//!   ╰─ key taken ─▶ Follower ◀─ dropped: exactly one follower is elected; none: the key is free
//! ```
//!
//! `node` joins after a lookup that missed, and looks again when it leads: between a lookup and a
//! join another fill may have been stored and its [`Published`] dropped. What followers share is
//! the value of the leader, usually a head with a [`GrowingBody`](crate::GrowingBody), so that they
//! read along before the fill has ended (RFC 9111 4, "collapsed requests").
//!
//! Deliberately not here: bodies, timeouts (drop a [`Follower`] to stop waiting) and a limit on
//! followers (`node` admits requests). The map has one lock, not shards: it is taken for tens of
//! nanoseconds and only by requests that missed the store.
//!
//! Interleavings are searched under shuttle; the command is in `sync.rs`.

mod round;

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::hash::Hash;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use self::round::{Heard, Round};
use crate::sync::Mutex;

/// Keys that are being filled, with those who lead and follow each fill.
///
/// Invariant: at most one [`FillPermit`] or [`Published`] under a key, unless the key was
/// [unlinked](Self::unlink) from it.
pub struct Collapse<K: Eq + Hash, V> {
    state: Arc<Mutex<State<K, V>>>,
}

/// Lock order: this before any [`Round`].
struct State<K, V> {
    rounds: HashMap<K, Arc<Round<V>>>,
}

/// What joining a key came to.
#[derive(Debug)]
pub enum Joined<K: Eq + Hash, V> {
    /// Nobody fills the key: fill it.
    Lead(FillPermit<K, V>),
    /// Somebody does: wait for what comes of it.
    Follow(Follower<K, V>),
}

/// What following came to.
#[derive(Debug)]
pub enum Followed<K: Eq + Hash, V> {
    /// The value of the one who leads.
    Shared(V),
    /// Who led gave up, and it is our turn: fill the key.
    Lead(FillPermit<K, V>),
}

impl<K: Eq + Hash + Clone, V: Clone> Collapse<K, V> {
    /// Returns a collapse without fills.
    pub fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                rounds: HashMap::new(),
            })),
        }
    }

    /// Leads the fill of `key` if nobody does, and follows it otherwise.
    pub fn join(&self, key: &K) -> Joined<K, V> {
        let mut state = self.state.lock();
        if let Some(round) = state.rounds.get(key) {
            let round = round.clone();
            let seat = Some(round.take_seat());
            let place = self.place(key, round);
            return Joined::Follow(Follower { place, seat });
        }
        let round = Arc::new(Round::new());
        state.rounds.insert(key.clone(), round.clone());
        Joined::Lead(FillPermit::of(self.place(key, round)))
    }

    /// Returns the number of keys that are being filled or whose value is shared.
    pub fn in_flight(&self) -> usize {
        self.state.lock().rounds.len()
    }

    /// Cuts `key` off the fill that runs under it, so that newcomers begin another; returns whether
    /// there was one.
    ///
    /// Those who already follow keep what they asked for. A fill that began before a purge is cut
    /// off in this way.
    pub fn unlink(&self, key: &K) -> bool {
        // Bound to a name: a round that ends here must not be dropped under the lock.
        let removed = self.state.lock().rounds.remove_entry(key);
        removed.is_some()
    }

    /// Cuts off every fill for which `is_meant` says so, as [`unlink`](Self::unlink) does; returns
    /// their keys and published values.
    ///
    /// `is_meant` gets the key, and the value once it is published. It runs under the lock: it must
    /// not call back.
    pub fn unlink_where(
        &self,
        mut is_meant: impl FnMut(&K, Option<&V>) -> bool,
    ) -> Vec<(K, Option<V>)> {
        let cut: Vec<_> = self
            .state
            .lock()
            .rounds
            .extract_if(|key, round| is_meant(key, round.value().as_ref()))
            .collect();
        cut.into_iter()
            .map(|(key, round)| (key, round.value()))
            .collect()
    }

    fn place(&self, key: &K, round: Arc<Round<V>>) -> Place<K, V> {
        Place {
            collapse: self.clone(),
            key: key.clone(),
            round,
        }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Default for Collapse<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Eq + Hash, V> Clone for Collapse<K, V> {
    fn clone(&self) -> Self {
        Self {
            state: self.state.clone(),
        }
    }
}

impl<K: Eq + Hash, V> fmt::Debug for Collapse<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collapse")
            .field("in_flight", &self.state.lock().rounds.len())
            .finish()
    }
}

/// One round of one key: what a permit, a follower and a published value hold on to.
struct Place<K: Eq + Hash, V> {
    collapse: Collapse<K, V>,
    key: K,
    round: Arc<Round<V>>,
}

impl<K: Eq + Hash, V> Place<K, V> {
    /// Lets exactly one follower lead; without followers, frees the key.
    fn give_up(&self) {
        let mut state = self.collapse.state.lock();
        let is_linked = state.is_linked(&self.key, &self.round);
        let woken = if is_linked {
            self.round.elect()
        } else {
            self.round.dissolve()
        };
        let removed = (is_linked && woken.is_none())
            .then(|| state.rounds.remove_entry(&self.key))
            .flatten();
        drop(state);
        drop(removed);
        woken.into_iter().flatten().for_each(Waker::wake);
    }

    fn free_key(&self) {
        let mut state = self.collapse.state.lock();
        let removed = state
            .is_linked(&self.key, &self.round)
            .then(|| state.rounds.remove_entry(&self.key))
            .flatten();
        drop(state);
        drop(removed);
    }
}

impl<K: Eq + Hash, V> State<K, V> {
    fn is_linked(&self, key: &K, round: &Arc<Round<V>>) -> bool {
        self.rounds
            .get(key)
            .is_some_and(|linked| Arc::ptr_eq(linked, round))
    }
}

impl<K: Eq + Hash + Clone, V> Clone for Place<K, V> {
    fn clone(&self) -> Self {
        Self {
            collapse: self.collapse.clone(),
            key: self.key.clone(),
            round: self.round.clone(),
        }
    }
}

/// The right to fill a key, which nobody else has.
///
/// Dropping it hands it to exactly one follower, or frees the key if none waits.
#[must_use = "dropping the permit lets somebody else fill"]
pub struct FillPermit<K: Eq + Hash, V> {
    place: Place<K, V>,
    is_spent: bool,
}

impl<K: Eq + Hash + Clone, V: Clone> FillPermit<K, V> {
    /// Shares `value` with all who follow, now and as long as the returned guard lives.
    pub fn publish(mut self, value: V) -> Published<K, V> {
        self.is_spent = true;
        wake_all(self.place.round.give(value));
        Published {
            place: self.place.clone(),
        }
    }

    /// Shares `value` with those who wait now, and frees the key for whoever comes next.
    ///
    /// For an answer to be given once: an error, or a value that says "not to be shared, go
    /// forward yourself" when an answer proved to be somebody's own (RFC 9111 4).
    pub fn refuse(mut self, value: V) {
        self.is_spent = true;
        self.place.free_key();
        wake_all(self.place.round.give(value));
    }

    /// Returns a follower of this fill: whoever starts it in a task of its own hears the answer by it.
    ///
    /// To join only after the task has begun would be too late for an answer that is given once.
    pub fn follower(&self) -> Follower<K, V> {
        let seat = Some(self.place.round.take_seat());
        let place = self.place.clone();
        Follower { place, seat }
    }

    /// Returns the key to fill.
    pub fn key(&self) -> &K {
        &self.place.key
    }
}

impl<K: Eq + Hash, V> FillPermit<K, V> {
    const fn of(place: Place<K, V>) -> Self {
        Self {
            place,
            is_spent: false,
        }
    }
}

impl<K: Eq + Hash, V> Drop for FillPermit<K, V> {
    fn drop(&mut self) {
        if !self.is_spent {
            self.place.give_up();
        }
    }
}

impl<K: Eq + Hash + fmt::Debug, V> fmt::Debug for FillPermit<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FillPermit").field(&self.place.key).finish()
    }
}

/// A value that newcomers share; dropping it frees the key.
#[must_use = "dropping it frees the key, and the next request fills again"]
pub struct Published<K: Eq + Hash, V> {
    place: Place<K, V>,
}

impl<K: Eq + Hash, V> Drop for Published<K, V> {
    fn drop(&mut self) {
        self.place.free_key();
    }
}

impl<K: Eq + Hash + fmt::Debug, V> fmt::Debug for Published<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Published").field(&self.place.key).finish()
    }
}

/// One who waits for the fill of somebody else.
#[must_use = "a follower that does not wait gets nothing"]
pub struct Follower<K: Eq + Hash, V> {
    place: Place<K, V>,
    /// Our seat in the round, until we have heard.
    seat: Option<usize>,
}

impl<K: Eq + Hash + Clone, V: Clone> Follower<K, V> {
    /// Waits for the value, or for the permit if who led gave up.
    ///
    /// Cancel safe: a follower dropped after its election hands the permit on.
    pub async fn wait(mut self) -> Followed<K, V> {
        loop {
            match poll_fn(|cx| self.poll_heard(cx)).await {
                Heard::Value(value) => return Followed::Shared(value),
                Heard::Elected => return Followed::Lead(FillPermit::of(self.place.clone())),
                // The key was cut off and its leader is gone: whoever fills it now is our leader.
                Heard::Dissolved => match self.place.collapse.join(&self.place.key) {
                    Joined::Lead(permit) => return Followed::Lead(permit),
                    Joined::Follow(next) => self = next,
                },
            }
        }
    }

    fn poll_heard(&mut self, cx: &Context<'_>) -> Poll<Heard<V>> {
        let seat = self.seat.expect("a follower hears once");
        let heard = self.place.round.poll_heard(seat, cx);
        if heard.is_ready() {
            self.seat = None;
        }
        heard
    }
}

impl<K: Eq + Hash, V> Drop for Follower<K, V> {
    fn drop(&mut self) {
        let was_elected = self
            .seat
            .is_some_and(|seat| self.place.round.leave_seat(seat));
        // Until this call nobody leads the round and nobody is elected, which is what it repairs.
        if was_elected {
            self.place.give_up();
        }
    }
}

impl<K: Eq + Hash + fmt::Debug, V> fmt::Debug for Follower<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Follower").field(&self.place.key).finish()
    }
}

fn wake_all(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

#[cfg(all(test, not(shuttle)))]
mod tests;

#[cfg(all(test, shuttle))]
mod shuttle_tests;
