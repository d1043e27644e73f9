//! Which resources are hinted right now, so that a withdrawn hint ends its fill (LL-19).

use std::collections::HashMap;

use cache::CacheKey;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The hinted resources of every rendition of a node.
///
/// Bounded by the number of renditions: a playlist names at most one hint of each type.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    state: Mutex<HashMap<CacheKey, Hint>>,
}

/// One announced resource, and what became of the announcement.
#[derive(Debug, Default)]
struct Hint {
    withdrawn: CancellationToken,
    /// Fires when the resource is listed: from now on the parent has no reason to wait.
    listed: CancellationToken,
    /// Fires when the resource has come: it exists, whatever playlists say yet.
    arrived: CancellationToken,
}

impl Hints {
    /// Returns the signal that `key` was withdrawn, if it is hinted.
    pub(crate) fn withdrawal_of(&self, key: &CacheKey) -> Option<CancellationToken> {
        let state = self.state.lock();
        state.get(key).map(|hint| hint.withdrawn.clone())
    }

    /// Returns the signal that `key` was listed, if it is hinted and not yet there.
    pub(crate) fn listing_of(&self, key: &CacheKey) -> Option<CancellationToken> {
        let state = self.state.lock();
        state.get(key).map(|hint| hint.listed.clone())
    }

    /// Returns the signal that `key` has come, if it is hinted and not yet listed.
    pub(crate) fn arrival_of(&self, key: &CacheKey) -> Option<CancellationToken> {
        let state = self.state.lock();
        state.get(key).map(|hint| hint.arrived.clone())
    }

    /// Notes that `key` has come, if it is hinted.
    pub(crate) fn arrived(&self, key: &CacheKey) {
        if let Some(arrived) = self.arrival_of(key) {
            arrived.cancel();
        }
    }

    /// Replaces a rendition's hints: `before` by `now`.
    ///
    /// A hint that left and whose resource is in `listed` has come true; any other was withdrawn, and
    /// whoever waits for it is told.
    pub(super) fn replace(&self, before: &[CacheKey], now: &[CacheKey], listed: &[CacheKey]) {
        let mut signals = Vec::new();
        {
            let mut state = self.state.lock();
            for key in before.iter().filter(|key| !now.contains(key)) {
                let is_listed = listed.contains(key);
                let hint = state.remove(key);
                signals.extend(hint.map(|hint| match is_listed {
                    true => hint.listed,
                    false => hint.withdrawn,
                }));
            }
            for key in now {
                state.entry(key.clone()).or_default();
            }
        }
        for signal in signals {
            signal.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ll_19_a_hint_that_left_without_being_listed_was_withdrawn() {
        let key = |name: &str| crate::request::key_of("h", name, "");
        let hints = Hints::default();
        hints.replace(&[], &[key("/p1")], &[]);
        let came_true = hints.withdrawal_of(&key("/p1")).unwrap();
        let listed = hints.listing_of(&key("/p1")).unwrap();
        hints.replace(&[key("/p1")], &[key("/p2")], &[key("/p1")]);
        assert!(!came_true.is_cancelled());
        assert!(listed.is_cancelled());
        let withdrawn = hints.withdrawal_of(&key("/p2")).unwrap();
        hints.replace(&[key("/p2")], &[key("/ad")], &[key("/p1")]);
        assert!(withdrawn.is_cancelled());
        assert!(hints.withdrawal_of(&key("/p2")).is_none());
        assert!(!hints.withdrawal_of(&key("/ad")).unwrap().is_cancelled());
    }
}
