//! Where a purge finds what it means: the keys in order, and by surrogate key.
//!
//! ```text
//! by_key   //h/live/1/s1.m4s ─▶ slot 7, tags 3f.., a0..     a prefix or a host is a range of it
//! by_tag   (3f.., 7) (3f.., 9) (a0.., 7)                    a surrogate key is a range of it
//! slots    7 ─▶ //h/live/1/s1.m4s
//! ```
//!
//! A tag is 32 bits of a surrogate key's hash, which is keyed with a secret: texts cost no memory, nobody
//! can aim at a collision, and one that happens costs a look at the response, which is asked before it is
//! purged anyway. Lookups never come here; an insert, a removal and an eviction take the lock once.
//!
//! The store calls it under the change lock of a key, or with no lock: never under a lock of the cache's
//! shards. Deliberately not here: what is done to what is found (`purging`).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;

use http::HeaderMap;

use crate::key::CacheKey;
use crate::surrogate::for_each_surrogate_key;
use crate::sync::Mutex;

/// The keys of all that is stored, and the surrogate keys under each.
///
/// Invariant: a key that is in the cache is here, from before it is stored until after it is gone.
pub(super) struct Index {
    state: Mutex<State>,
    secret: RandomState,
}

/// Invariant: the three tell the same: an entry's slot holds its key, and `by_tag` has its tags.
#[derive(Default)]
struct State {
    by_key: BTreeMap<CacheKey, Entry>,
    /// Tag in the upper half, slot in the lower.
    by_tag: BTreeSet<u64>,
    slots: Vec<Option<CacheKey>>,
    free: Vec<u32>,
    last_id: u64,
}

/// What is known of a key.
struct Entry {
    id: EntryId,
    slot: u32,
    tags: Box<[u32]>,
}

/// One storing of a key: who removes the entry says which one it means.
///
/// An eviction is noted after the fact. If the key was stored anew meanwhile, its entry has another id,
/// and stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EntryId(u64);

/// Where a walk over a tag continues.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(u64);

impl Index {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State::default()),
            secret: RandomState::new(),
        }
    }

    /// Enters a key with the surrogate keys of the responses under it, in place of what was known of it;
    /// returns the id of this storing.
    pub(super) fn put<'a>(
        &self,
        key: &CacheKey,
        responses: impl Iterator<Item = &'a HeaderMap>,
    ) -> EntryId {
        let mut tags = Vec::new();
        for response in responses {
            for_each_surrogate_key(response, |surrogate_key| tags.push(self.tag(surrogate_key)));
        }
        tags.sort_unstable();
        tags.dedup();
        self.state.lock().put(key, tags.into_boxed_slice())
    }

    /// Removes a key unless it was entered anew since; returns whether it did.
    pub(super) fn remove(&self, key: &CacheKey, id: EntryId) -> bool {
        let removed = self.state.lock().remove(key, id);
        removed.is_some()
    }

    /// Returns the next keys that begin with `prefix`, in order, behind `after`.
    pub(super) fn below(
        &self,
        prefix: &str,
        after: Option<&CacheKey>,
        most: usize,
    ) -> Vec<CacheKey> {
        let first = CacheKey::from(prefix);
        let from = after.map_or(Bound::Included(&first), Bound::Excluded);
        let state = self.state.lock();
        let keys = state.by_key.range((from, Bound::Unbounded));
        keys.map(|(key, _)| key)
            .take_while(|key| key.as_str().starts_with(prefix))
            .take(most)
            .cloned()
            .collect()
    }

    /// Returns the next keys with a response that carries `surrogate_key`, or another of the same tag,
    /// and where to go on.
    pub(super) fn tagged(
        &self,
        surrogate_key: &str,
        after: Option<Place>,
        most: usize,
    ) -> (Vec<CacheKey>, Option<Place>) {
        let tag = u64::from(self.tag(surrogate_key)) << 32;
        let from = after.map_or(Bound::Included(tag), |place| Bound::Excluded(place.0));
        let until = Bound::Included(tag | u64::from(u32::MAX));
        let state = self.state.lock();
        let members: Vec<u64> = state
            .by_tag
            .range((from, until))
            .take(most)
            .copied()
            .collect();
        let keys = members
            .iter()
            .filter_map(|member| state.key_at(*member as u32).cloned());
        (keys.collect(), members.last().copied().map(Place))
    }

    fn tag(&self, surrogate_key: &str) -> u32 {
        (self.secret.hash_one(surrogate_key) >> 32) as u32
    }
}

impl State {
    fn put(&mut self, key: &CacheKey, tags: Box<[u32]>) -> EntryId {
        self.last_id += 1;
        let id = EntryId(self.last_id);
        if let Some(entry) = self.by_key.get_mut(key) {
            entry.id = id;
            if entry.tags == tags {
                return id;
            }
            for tag in &entry.tags {
                self.by_tag.remove(&member(*tag, entry.slot));
            }
            self.by_tag
                .extend(tags.iter().map(|tag| member(*tag, entry.slot)));
            entry.tags = tags;
            return id;
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1).expect("memory ends before 2^32 responses")
            }
        };
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(key.clone());
        }
        self.by_tag
            .extend(tags.iter().map(|tag| member(*tag, slot)));
        self.by_key.insert(key.clone(), Entry { id, slot, tags });
        id
    }

    /// Returns what was known, to be dropped without the lock.
    fn remove(&mut self, key: &CacheKey, id: EntryId) -> Option<(CacheKey, Entry)> {
        if self.by_key.get(key)?.id != id {
            return None;
        }
        let (key, entry) = self.by_key.remove_entry(key)?;
        for tag in &entry.tags {
            self.by_tag.remove(&member(*tag, entry.slot));
        }
        if let Some(place) = self.slots.get_mut(entry.slot as usize) {
            *place = None;
        }
        self.free.push(entry.slot);
        if self.by_key.is_empty() {
            // After a purge of everything no memory stays behind.
            *self = Self {
                last_id: self.last_id,
                ..Self::default()
            };
        }
        Some((key, entry))
    }

    fn key_at(&self, slot: u32) -> Option<&CacheKey> {
        self.slots.get(slot as usize)?.as_ref()
    }
}

fn member(tag: u32, slot: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(slot)
}

/// What the index takes for a key, beside the text that it shares: nodes of a tree are half full at worst.
pub(super) const INDEX_KEY_BYTES: u64 = 144;

/// What the index takes for a surrogate key of a response.
pub(super) const INDEX_TAG_BYTES: u64 = 32;

#[cfg(test)]
impl Index {
    /// Asserts the invariants, against all that is stored, while nobody changes it.
    pub(super) fn check(&self, stored: &std::collections::HashMap<CacheKey, EntryId>) {
        let state = self.state.lock();
        let known = state
            .by_key
            .iter()
            .map(|(key, entry)| (key.clone(), entry.id));
        assert_eq!(&known.collect::<std::collections::HashMap<_, _>>(), stored);
        for (key, entry) in &state.by_key {
            assert_eq!(state.key_at(entry.slot), Some(key));
            assert!(entry.tags.is_sorted());
            for tag in &entry.tags {
                assert!(state.by_tag.contains(&member(*tag, entry.slot)));
            }
        }
        let tags: usize = state.by_key.values().map(|entry| entry.tags.len()).sum();
        assert_eq!(state.by_tag.len(), tags);
        let taken = state.slots.iter().flatten().count();
        assert_eq!(taken, state.by_key.len());
        assert_eq!(taken + state.free.len(), state.slots.len());
    }
}
