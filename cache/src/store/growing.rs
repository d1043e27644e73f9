//! Memory for bodies that grow: what running fills hold before the store has anything of theirs.
//!
//! A fill reserves bytes as they come and gives them back when it ends. What is reserved is part of
//! the store's budget: responses are evicted to make room, as if the bytes were stored already.
//! `node` holds one [`Reservation`] per fill.
//!
//! Inside, each shard of the cache holds one pinned ballast, whose weight is the shard's part of what is
//! reserved, rounded up to a step, so that not every chunk of a body takes every shard's lock.
//! (`set_capacity` of quick_cache is no way to do this: with each call it rounds down how much it
//! remembers of what was evicted, until it remembers nothing and no longer resists scans.)
//!
//! Deliberately not here: the bytes themselves (`body`), and what a fill does when it gets none.

use std::sync::Arc;

use super::variants::Variants;
use super::{Evicted, Store};
use crate::key::CacheKey;
use crate::sync::Mutex;

/// What running fills hold of the budget.
pub(super) struct Growing {
    state: Mutex<State>,
    /// One key per shard, that no URL can equal.
    ballasts: Box<[CacheKey]>,
    /// What one step weighs, in all shards together.
    step_bytes: u64,
}

/// Invariant: `reserved_bytes` is at most `ballast_steps` times the bytes of a step.
#[derive(Default)]
struct State {
    reserved_bytes: u64,
    ballast_steps: u64,
}

/// No memory is left for bodies that grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("running fills already hold all the memory that they may, {bytes_max} bytes")]
pub struct GrowingLimit {
    /// What all running fills may hold together.
    pub bytes_max: u64,
}

/// Bytes of the store's budget that a running fill holds; dropping it gives them back.
#[must_use = "dropping a reservation gives its bytes back"]
#[derive(Debug)]
pub struct Reservation<'a> {
    store: &'a Store,
    bytes: u64,
}

impl Reservation<'_> {
    /// Reserves `bytes` more; evicts stored responses if that needs room.
    ///
    /// # Errors
    ///
    /// If running fills would hold more than [`Store::growing_bytes_max`]. What was reserved before
    /// stays reserved.
    pub fn grow(&mut self, bytes: u64) -> Result<(), GrowingLimit> {
        self.store.reserve(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Returns how many bytes are reserved.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.store.release(self.bytes);
    }
}

impl Store {
    /// Reserves `bytes` for a body that is about to grow: what its head announces, or zero.
    ///
    /// Give the reservation back just before the finished response is inserted: both count.
    ///
    /// # Errors
    ///
    /// As [`Reservation::grow`].
    pub fn growing(&self, bytes: u64) -> Result<Reservation<'_>, GrowingLimit> {
        let mut reservation = Reservation {
            store: self,
            bytes: 0,
        };
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    /// Returns the memory that running fills have reserved, in bytes.
    pub fn growing_bytes(&self) -> u64 {
        self.growing.state.lock().reserved_bytes
    }

    /// Returns the memory that running fills may reserve together, in bytes: half the capacity.
    pub const fn growing_bytes_max(&self) -> u64 {
        self.growing.step_bytes * STEPS_MAX
    }

    /// Returns the memory in use, in bytes: by what is stored and by [bodies that
    /// grow](Self::growing).
    pub fn used_bytes(&self) -> u64 {
        // Under the lock, so that the ballast does not change between the two.
        let state = self.growing.state.lock();
        let ballast = self.growing.weight_of(state.ballast_steps) * self.ballasts() as u64;
        self.cache.weight() - ballast + state.reserved_bytes
    }

    /// Returns how many of the cache's items are ballasts.
    pub(super) const fn ballasts(&self) -> usize {
        self.growing.ballasts.len()
    }

    fn reserve(&self, bytes: u64) -> Result<(), GrowingLimit> {
        let bytes_max = self.growing_bytes_max();
        let mut state = self.growing.state.lock();
        let reserved_bytes = state.reserved_bytes.saturating_add(bytes);
        if reserved_bytes > bytes_max {
            return Err(GrowingLimit { bytes_max });
        }
        state.reserved_bytes = reserved_bytes;
        let steps = self.growing.steps_of(reserved_bytes);
        let evicted = (steps > state.ballast_steps).then(|| {
            state.ballast_steps = steps;
            self.put_ballasts(steps)
        });
        drop(state);
        drop(evicted);
        Ok(())
    }

    fn release(&self, bytes: u64) {
        let mut state = self.growing.state.lock();
        debug_assert!(bytes <= state.reserved_bytes);
        state.reserved_bytes = state.reserved_bytes.saturating_sub(bytes);
        let steps = self.growing.steps_of(state.reserved_bytes);
        // One step of slack: a body that comes and goes at the edge of a step moves no ballast.
        let is_lower = steps + 1 < state.ballast_steps || (steps == 0 && state.ballast_steps > 0);
        let replaced = is_lower.then(|| {
            state.ballast_steps = steps;
            self.put_ballasts(steps)
        });
        drop(state);
        drop(replaced);
    }

    /// Gives each shard its part of the ballast; returns what that evicted, to be dropped without
    /// a lock.
    pub(super) fn put_ballasts(&self, steps: u64) -> Evicted {
        let mut evicted = Evicted::default();
        let weight_bytes = self.growing.weight_of(steps);
        for key in &self.growing.ballasts {
            let ballast = Arc::new(Variants::ballast(weight_bytes));
            self.cache
                .insert_with_lifecycle(key.clone(), ballast, &mut evicted);
        }
        evicted
    }
}

impl Growing {
    /// Returns an account of nothing, for a cache whose shards hold `shard_bytes` each.
    pub(super) fn new(
        shards: usize,
        shard_bytes: u64,
        shard_of: impl Fn(&CacheKey) -> usize,
    ) -> Self {
        let mut ballasts: Vec<Option<CacheKey>> = vec![None; shards];
        let mut keys = (0_u64..).map(|number| CacheKey::from(format!("ballast {number}")));
        while ballasts.iter().any(Option::is_none) {
            let key = keys.next().expect("the sequence of keys has no end");
            let shard = shard_of(&key);
            ballasts[shard].get_or_insert(key);
        }
        Self {
            state: Mutex::new(State::default()),
            ballasts: ballasts.into_iter().flatten().collect(),
            // A whole number per shard, so that nothing is lost in rounding.
            step_bytes: shard_bytes / 2 / STEPS_MAX * shards as u64,
        }
    }

    const fn steps_of(&self, bytes: u64) -> u64 {
        match bytes.checked_div(self.step_bytes) {
            Some(whole) => whole + !bytes.is_multiple_of(self.step_bytes) as u64,
            // A store too small for steps has no bytes to reserve.
            None => 0,
        }
    }

    /// Returns what the ballast of one shard weighs.
    const fn weight_of(&self, steps: u64) -> u64 {
        steps * self.step_bytes / self.ballasts.len() as u64
    }
}

/// In how many steps the ballast grows to half of the capacity.
const STEPS_MAX: u64 = 64;
