//! The store in memory: complete responses by key and variant, within a budget of bytes.
//!
//! Eviction is `quick_cache`'s, which resists scans: a sweep of segments that are read once does
//! not displace what is read again and again. `node` looks up, inserts when a fill has ended, and
//! removes on purge. A response that grows stale stays until it is evicted or replaced; whether it
//! may be used is judged at lookup, by age.
//!
//! Deliberately not here: fills (`collapse`), lifetimes (`freshness`), and which response a purge
//! means (the caller's predicate says).

mod growing;
mod index;
mod owned;
mod purging;
mod variants;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use self::growing::Growing;
pub use self::growing::{GrowingLimit, Reservation};
use self::index::{EntryId, Index};
use self::owned::owned;
pub use self::purging::Purging;
use self::variants::Variants;
use crate::body::BodyState;
use crate::key::CacheKey;
use crate::stored::StoredResponse;
use crate::sync::Mutex;

/// Complete responses in memory, by key and variant.
///
/// Invariant: `used_bytes` never exceeds the capacity.
pub struct Store {
    cache: Cache<CacheKey, Arc<Variants>, Weight, DefaultHashBuilder, Evictions>,
    /// Serialize reading, changing and writing the variants of a key. Lookups do not take them.
    changes: Box<[Mutex<()>]>,
    index: Arc<Index>,
    evicted: Arc<AtomicU64>,
    growing: Growing,
    response_bytes_max: u64,
}

/// What a lookup found.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// A response that the request selects; whether it is fresh is another question.
    Found(Arc<StoredResponse>),
    /// Responses under the key, but none that the request selects.
    VaryMiss,
    /// Nothing under the key.
    UriMiss,
}

impl Lookup {
    /// Returns the response, if one was found.
    pub fn found(self) -> Option<Arc<StoredResponse>> {
        match self {
            Self::Found(response) => Some(response),
            Self::VaryMiss | Self::UriMiss => None,
        }
    }
}

/// What became of a response offered to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is stored, and may be evicted at any later time.
    Stored,
    /// It is not stored.
    Refused(Refusal),
}

/// Why the store refused a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The body has not completed, or failed (RFC 9111 3.3).
    #[error("the body is not complete")]
    Incomplete,
    /// The response is heavier than [`Store::response_bytes_max`].
    #[error("the response is too large for the store")]
    TooLarge,
    /// The caller's check said no: usually, a purge came between fill and store.
    #[error("the response was made before a purge")]
    Fenced,
}

impl Store {
    /// Returns an empty store for `capacity_bytes`.
    ///
    /// The capacity is split into shards with a lock each: the more bytes, the more shards, but
    /// none below 256 MiB, since a shard refuses what is heavier than most of itself.
    pub fn new(capacity_bytes: u64) -> Self {
        let shards = (capacity_bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        // Rounded down to a power of two: quick_cache would round up, to smaller shards.
        let shards = 1u64 << shards.ilog2();
        let items = (capacity_bytes / RESPONSE_BYTES_TYPICAL).max(shards * SHARD_ITEMS_MIN);
        let options = OptionsBuilder::new()
            .shards(usize::try_from(shards).expect("at most SHARDS_MAX"))
            // Rounded down, so that shards together stay within the budget.
            .weight_capacity(capacity_bytes - capacity_bytes % shards)
            .estimated_items_capacity(usize::try_from(items).unwrap_or(usize::MAX))
            .hot_allocation(HOT_SHARE)
            .build()
            .expect("both capacities are set");
        let evicted = Arc::new(AtomicU64::new(0));
        let index = Arc::new(Index::new());
        let evictions = Evictions {
            index: index.clone(),
            count: evicted.clone(),
        };
        let cache = Cache::with_options(options, Weight, DefaultHashBuilder::default(), evictions);
        let growing = Growing::new(cache.num_shards(), cache.shard_capacity(), |key| {
            cache.shard_index(key)
        });
        // What fits into a shard whatever running fills hold.
        let response_bytes_max = cache.shard_capacity() / 2;
        let store = Self {
            growing,
            cache,
            changes: (0..CHANGE_LOCKS).map(|_| Mutex::new(())).collect(),
            index,
            evicted,
            response_bytes_max,
        };
        drop(store.put_ballasts(0));
        store
    }

    /// Returns the response under `key` that these request fields select.
    pub fn get(&self, key: &CacheKey, request_fields: &HeaderMap) -> Lookup {
        match self.cache.get(key) {
            None => Lookup::UriMiss,
            Some(variants) => match variants.select(request_fields) {
                None => Lookup::VaryMiss,
                Some(response) => Lookup::Found(response.clone()),
            },
        }
    }

    /// Stores a complete response, in place of an earlier one of the same variant.
    pub fn insert(&self, key: CacheKey, response: Arc<StoredResponse>) -> Inserted {
        self.insert_if(key, response, || true)
    }

    /// Stores a complete response unless `may_store` says no.
    ///
    /// `may_store` runs in the same critical section as removals of the key. A purge that first
    /// raises its fence and then removes leaves nothing behind: either `may_store` sees the fence,
    /// or the removal comes after. It must not call back into the store.
    pub fn insert_if(
        &self,
        key: CacheKey,
        response: Arc<StoredResponse>,
        may_store: impl FnOnce() -> bool,
    ) -> Inserted {
        match response.body.progress().state {
            BodyState::Complete => {}
            BodyState::Filling | BodyState::Failed(_) => {
                return Inserted::Refused(Refusal::Incomplete);
            }
        }
        if response.weight_bytes() > self.response_bytes_max {
            return Inserted::Refused(Refusal::TooLarge);
        }
        let response = Arc::new(owned(&response));
        let change = self.change_lock(&key).lock();
        if !may_store() {
            return Inserted::Refused(Refusal::Fenced);
        }
        let before = self.cache.peek(&key);
        let limit_bytes = self.response_bytes_max;
        let Some(mut variants) = Variants::with(before.as_deref(), &key, response, limit_bytes)
        else {
            return Inserted::Refused(Refusal::TooLarge);
        };
        // First the index: at no time is something stored that a purge would not find.
        variants.id = self.index.put(&key, variants.heads());
        let mut evicted = Evicted::default();
        self.cache
            .insert_with_lifecycle(key, Arc::new(variants), &mut evicted);
        drop(change);
        // Last and unlocked: they may be the last holders of large bodies.
        drop((before, evicted));
        Inserted::Stored
    }

    /// Removes every variant under `key`; returns how many there were.
    pub fn remove(&self, key: &CacheKey) -> usize {
        let change = self.change_lock(key).lock();
        let removed = self.remove_under_lock(key);
        drop(change);
        removed.map_or(0, |(_, variants)| variants.len())
    }

    /// Removes every response for which `is_meant` says so; returns how many.
    ///
    /// Visits all keys, at about half a microsecond each: call it where that stalls no viewer.
    /// Responses inserted meanwhile may be missed, unless their fills were
    /// fenced first: see [`insert_if`](Self::insert_if).
    pub fn remove_where(&self, is_meant: impl Fn(&CacheKey, &StoredResponse) -> bool) -> usize {
        self.change_where(|key, response| {
            if is_meant(key, response) {
                Change::Remove
            } else {
                Change::Keep
            }
        })
    }

    /// Replaces or removes responses as `decide` says; returns how many.
    ///
    /// For purges: a hard one removes, a soft one replaces by
    /// [`made_stale`](StoredResponse::made_stale). Visits all keys, as
    /// [`remove_where`](Self::remove_where) does; `decide` may be called twice for a response, and
    /// must not call back into the store.
    pub fn change_where(&self, decide: impl Fn(&CacheKey, &StoredResponse) -> Change) -> usize {
        // A fill past its fence check holds its lock until it has inserted: after this, whatever
        // passed the check before the caller raised the fence is in the cache and will be seen.
        for lock in &self.changes {
            drop(lock.lock());
        }
        let meant: Vec<CacheKey> = self
            .cache
            .iter()
            .filter(|(key, variants)| {
                variants
                    .iter()
                    .any(|response| !matches!(decide(key, response), Change::Keep))
            })
            .map(|(key, _)| key)
            .collect();
        meant.iter().map(|key| self.change(key, &decide)).sum()
    }

    /// Replaces or removes responses under one key as `decide` says; returns how many.
    pub fn change(
        &self,
        key: &CacheKey,
        mut decide: impl FnMut(&CacheKey, &StoredResponse) -> Change,
    ) -> usize {
        let change = self.change_lock(key).lock();
        let Some(before) = self.cache.peek(key) else {
            return 0;
        };
        let (after, changed) = before.changed(key, |response| decide(key, response));
        let mut evicted = Evicted::default();
        evicted.kept = Some(before.id);
        let removed = match (after, changed) {
            (_, 0) => None,
            // Only if it is still there. What was evicted since is on its way out of the index, where
            // it would be missing if it came back. Nor does this make it any hotter.
            (Some(after), _) => {
                let after = Arc::new(after);
                let replaced =
                    self.cache
                        .replace_with_lifecycle(key.clone(), after, true, &mut evicted);
                replaced.err()
            }
            (None, _) => self.remove_under_lock(key),
        };
        drop(change);
        drop((before, removed, evicted));
        changed
    }

    /// Returns the memory the store may use, in bytes.
    pub fn capacity_bytes(&self) -> u64 {
        self.cache.capacity()
    }

    /// Returns the weight above which everything under a key, taken together, is refused.
    pub const fn response_bytes_max(&self) -> u64 {
        self.response_bytes_max
    }

    /// Returns the number of keys with responses.
    pub fn len(&self) -> usize {
        self.cache.len() - self.ballasts()
    }

    /// Returns whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many keys were evicted since the store was made, to make room for others.
    pub fn evictions(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// The caller holds the change lock of `key`.
    fn remove_under_lock(&self, key: &CacheKey) -> Option<(CacheKey, Arc<Variants>)> {
        let removed = self.cache.remove(key);
        if let Some((key, variants)) = &removed {
            self.index.remove(key, variants.id);
        }
        removed
    }

    fn change_lock(&self, key: &CacheKey) -> &Mutex<()> {
        let number = key.stable_hash() % self.changes.len() as u64;
        &self.changes[usize::try_from(number).expect("below the number of locks")]
    }
}

/// What a purge does to a response.
#[derive(Clone, Debug)]
pub enum Change {
    /// Leaves it as it is.
    Keep,
    /// Removes it.
    Remove,
    /// Puts another in its place, of the same variant.
    Replace(Arc<StoredResponse>),
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("used_bytes", &self.used_bytes())
            .field("capacity_bytes", &self.capacity_bytes())
            .field("len", &self.len())
            .finish()
    }
}

/// Weighs what is under a key: fixed when it was built, since a weight must not change in place.
#[derive(Clone)]
struct Weight;

impl Weighter<CacheKey, Arc<Variants>> for Weight {
    fn weight(&self, _key: &CacheKey, variants: &Arc<Variants>) -> u64 {
        variants.weight_bytes()
    }
}

/// Collects what is evicted.
#[derive(Clone)]
struct Evictions {
    index: Arc<Index>,
    count: Arc<AtomicU64>,
}

/// What operations on the cache evicted or replaced; told to the index, and dropped, when no lock is held
/// but the change lock of a key.
#[derive(Default)]
struct Evicted {
    items: Vec<(CacheKey, Arc<Variants>)>,
    by: Option<Evictions>,
    /// What was replaced under its own id, and is still there.
    kept: Option<EntryId>,
}

impl Lifecycle<CacheKey, Arc<Variants>> for Evictions {
    type RequestState = Evicted;

    fn is_pinned(&self, _key: &CacheKey, variants: &Arc<Variants>) -> bool {
        variants.is_ballast()
    }

    fn on_evict(&self, evicted: &mut Evicted, key: CacheKey, variants: Arc<Variants>) {
        if variants.is_ballast() {
            return;
        }
        if evicted.kept == Some(variants.id) {
            // Once: if what took its place is evicted too, that counts.
            evicted.kept = None;
            return;
        }
        evicted.by.get_or_insert_with(|| self.clone());
        evicted.items.push((key, variants));
    }
}

impl Drop for Evicted {
    fn drop(&mut self) {
        let Some(by) = &self.by else {
            return;
        };
        for (key, variants) in &self.items {
            // What was replaced by another response is in the index under another id.
            if by.index.remove(key, variants.id) {
                by.count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

const SHARD_BYTES_MIN: u64 = 256 * 1024 * 1024;
const SHARDS_MAX: u64 = 64;
/// The least that a shard is expected to hold; half as many evictions it remembers, to know again
/// what is asked for twice.
const SHARD_ITEMS_MIN: u64 = 1024;
/// A small part; sizes the memory of what was evicted lately, 50 bytes each. Too small a memory
/// takes a popular response for part of a scan.
const RESPONSE_BYTES_TYPICAL: u64 = 32 * 1024;
/// The share of a shard for what was read again. Its complement is where newcomers prove
/// themselves: larger than quick_cache's default, because segments are large against a shard.
const HOT_SHARE: f64 = 0.9;
const CHANGE_LOCKS: usize = 64;

#[cfg(all(test, not(shuttle)))]
mod tests;

#[cfg(all(test, not(shuttle)))]
mod purge_tests;

#[cfg(all(test, not(shuttle)))]
mod scan_tests;

#[cfg(all(test, shuttle))]
mod shuttle_tests;
