//! A purge at work on the store: found through the index, applied key by key.
//!
//! Costs what it matches, not what is stored. `node` first raises the purge on its fence and cuts off
//! running fills, then calls [`Store::purge`], or goes step by step with [`Store::purging`] where
//! others wait for the thread. Lookups go on meanwhile. Deliberately not here: what a target means
//! (`purge`).

use std::sync::Arc;

use super::index::Place;
use super::{Change, Store};
use crate::key::CacheKey;
use crate::purge::{Purge, PurgeTarget, Purged};
use crate::stored::StoredResponse;
use crate::surrogate::carries_surrogate_key;

/// A purge that is being applied.
///
/// Dropping it leaves the rest as it is: the purge is then half applied, and must be begun anew.
#[must_use = "a purge does nothing until its steps are taken"]
#[derive(Debug)]
pub struct Purging<'a> {
    store: &'a Store,
    target: PurgeTarget,
    /// `None` only counts.
    purge: Option<Purge>,
    walk: Walk,
    purged: Purged,
}

/// Where in the index the next step begins.
#[derive(Debug)]
enum Walk {
    /// At the one key of a URL.
    Url,
    /// At the keys that begin with the text, behind the last one.
    Below(String, Option<CacheKey>),
    /// At the surrogate key of that number, behind the place.
    Tagged(usize, Option<Place>),
    Ended,
}

impl Store {
    /// Applies a purge to all that is stored; returns what it did.
    ///
    /// About 3 µs for each response that is meant. Responses that come meanwhile may be missed, unless
    /// their fills were fenced first: see [`insert_if`](Self::insert_if).
    pub fn purge(&self, target: PurgeTarget, purge: Purge) -> Purged {
        self.purging(target, purge).run()
    }

    /// Returns what a purge would do; changes nothing.
    pub fn purgeable(&self, target: PurgeTarget) -> Purged {
        Purging::new(self, target, None).run()
    }

    /// Shows `see` each response that a purge would mean, under its key; changes nothing.
    ///
    /// For purges that only their caller can narrow down: raise the fence, look, and purge what is meant key by
    /// key. Whatever passed the fence before is seen.
    pub fn look(&self, target: PurgeTarget, mut see: impl FnMut(&CacheKey, &StoredResponse)) {
        self.settle();
        let mut walk = Purging::new(self, target, None);
        loop {
            for key in walk.next_keys() {
                let variants = self.cache.peek(&key);
                let variants = variants.iter().flat_map(|variants| variants.iter());
                let meant = variants.filter(|response| walk.is_meant(&key, response));
                meant.for_each(|response| see(&key, response));
            }
            if matches!(walk.walk, Walk::Ended) {
                return;
            }
        }
    }

    /// Begins a purge, to be applied in steps.
    pub fn purging(&self, target: PurgeTarget, purge: Purge) -> Purging<'_> {
        self.settle();
        Purging::new(self, target, Some(purge))
    }

    /// Waits for inserts under way.
    fn settle(&self) {
        // A fill past its fence check holds its lock until it has inserted: after this, whatever
        // passed the check before the caller raised the fence is in the index and will be seen.
        for lock in &self.changes {
            drop(lock.lock());
        }
    }
}

impl<'a> Purging<'a> {
    fn new(store: &'a Store, target: PurgeTarget, purge: Option<Purge>) -> Self {
        let walk = match &target {
            PurgeTarget::Url { .. } => Walk::Url,
            PurgeTarget::SurrogateKeys(_) => Walk::Tagged(0, None),
            PurgeTarget::Prefix { .. } | PurgeTarget::Host(_) | PurgeTarget::All => {
                Walk::Below(target.prefix().unwrap_or_default(), None)
            }
        };
        Self {
            store,
            target,
            purge,
            walk,
            purged: Purged::default(),
        }
    }

    /// Applies the purge to the next keys, a few hundred at most; returns whether there may be more.
    pub fn step(&mut self) -> bool {
        let keys = self.next_keys();
        for key in &keys {
            self.apply(key);
        }
        !matches!(self.walk, Walk::Ended)
    }

    /// Returns what the steps so far did.
    pub const fn purged(&self) -> Purged {
        self.purged
    }

    fn run(mut self) -> Purged {
        while self.step() {}
        self.purged
    }

    fn next_keys(&mut self) -> Vec<CacheKey> {
        let index = &self.store.index;
        match (std::mem::replace(&mut self.walk, Walk::Ended), &self.target) {
            (Walk::Url, PurgeTarget::Url { key, besides }) => {
                if !besides.is_empty() {
                    let path = key
                        .as_str()
                        .split_once('?')
                        .map_or(key.as_str(), |(path, _)| path);
                    self.walk = Walk::Below(format!("{path}?"), None);
                }
                vec![key.clone()]
            }
            (Walk::Below(prefix, after), target) => {
                let mut keys = index.below(&prefix, after.as_ref(), STEP_KEYS_MAX);
                if let Some(last) = keys.last() {
                    self.walk = Walk::Below(prefix, Some(last.clone()));
                }
                if let PurgeTarget::Url { key, .. } = target {
                    keys.retain(|other| other != key);
                }
                keys
            }
            (Walk::Tagged(number, after), PurgeTarget::SurrogateKeys(wanted)) => {
                let Some(surrogate_key) = wanted.get(number) else {
                    return Vec::new();
                };
                let (keys, place) = index.tagged(surrogate_key, after, STEP_KEYS_MAX);
                self.walk = match place {
                    Some(place) => Walk::Tagged(number, Some(place)),
                    None => Walk::Tagged(number + 1, None),
                };
                keys
            }
            (Walk::Url | Walk::Tagged(..) | Walk::Ended, _) => Vec::new(),
        }
    }

    fn is_meant(&self, key: &CacheKey, response: &StoredResponse) -> bool {
        // Of surrogate keys, those before the one that is walked have had their turn.
        match (&self.target, &self.walk) {
            (PurgeTarget::SurrogateKeys(wanted), Walk::Tagged(number, _)) => {
                first_carried(wanted, response) == Some(*number)
            }
            _ => self.target.means(key, &response.headers),
        }
    }

    fn apply(&mut self, key: &CacheKey) {
        let is_meant = |response: &StoredResponse| self.is_meant(key, response);
        let mut purged = self.purged;
        let mut count = |response: &StoredResponse| {
            purged.responses += 1;
            purged.body_bytes += response.body.progress().received;
        };
        match self.purge {
            None => {
                let variants = self.store.cache.peek(key);
                let variants = variants.iter().flat_map(|variants| variants.iter());
                variants
                    .filter(|response| is_meant(response))
                    .for_each(&mut count);
            }
            Some(purge) => {
                self.store.change(key, |_, response| {
                    if !is_meant(response) {
                        return Change::Keep;
                    }
                    count(response);
                    match purge {
                        Purge::Hard => Change::Remove,
                        Purge::Soft { now } => Change::Replace(Arc::new(response.made_stale(now))),
                    }
                });
            }
        }
        self.purged = purged;
    }
}

/// Returns the number of the first of `wanted` that the response carries.
fn first_carried(wanted: &[String], response: &StoredResponse) -> Option<usize> {
    let mut first = None;
    carries_surrogate_key(&response.headers, |carried| {
        let number = wanted.iter().position(|wanted| wanted == carried);
        first = first.into_iter().chain(number).min();
        false
    });
    first
}

/// Keys that are found with one locking of the index.
const STEP_KEYS_MAX: usize = 256;
