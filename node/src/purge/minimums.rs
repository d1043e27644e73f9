//! What a fill asks its parent to have applied: no more than what can matter to it.
//!
//! A parent that is late must not answer with what was purged. But if every request asked for every
//! purge, one purge of one URL and one late parent would interrupt all that comes through it. So a request asks
//! for the last purge that may mean it, among those of late; where these are forgotten, for all that were.
//!
//! Who calls it: `apply` notes what it raises, `fill` asks before it sends a request. Deliberately not here: how far
//! the parent is, and what it does when it is not as far.

use std::collections::VecDeque;
use std::sync::Arc;

use cache::{CacheKey, PurgeTarget};
use http::HeaderMap;
use parking_lot::Mutex;
use purge_log::feed::Position;

/// The purges of late, each with its place in the log.
#[derive(Debug, Default)]
pub(super) struct Minimums {
    state: Mutex<State>,
}

/// Invariant: places are of one log and do not fall; what is forgotten comes before what is remembered.
#[derive(Debug, Default)]
struct State {
    remembered: VecDeque<(Position, Arc<[PurgeTarget]>)>,
    /// The last place that is not remembered any more.
    forgotten: Option<Position>,
}

impl Minimums {
    /// Notes what is purged at `position`. Call it before the fence is raised: a fill that marks the fence behind
    /// the purge must find it here.
    pub(super) fn note(&self, position: Position, targets: &Arc<[PurgeTarget]>) {
        let mut state = self.state.lock();
        let is_other_log = |(other, _): &(Position, _)| other.log != position.log;
        if state.remembered.back().is_some_and(is_other_log) {
            // Its places mean nothing here, and the reset that begins a log means everything.
            *state = State::default();
        }
        state.remembered.push_back((position, Arc::clone(targets)));
        if state.remembered.len() > REMEMBERED_MAX
            && let Some((position, _)) = state.remembered.pop_front()
        {
            state.forgotten = Some(position);
        }
    }

    /// Returns the last place whose purge may mean what is stored under `key`.
    ///
    /// `fields` are those of the response, where they are known; otherwise it may carry any surrogate key.
    pub(super) fn of(&self, key: &CacheKey, fields: Option<&HeaderMap>) -> Option<Position> {
        let state = self.state.lock();
        let meant = state
            .remembered
            .iter()
            .rev()
            .find(|(_, targets)| targets.iter().any(|target| target.means_fill(key, fields)));
        meant.map(|(position, _)| *position).or(state.forgotten)
    }
}

/// Purges that are told apart: each costs every request to a parent about 50 ns.
const REMEMBERED_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use purge_log::{LogId, Sequence};

    use super::*;

    fn position(log: u64, applied: u64) -> Position {
        Position {
            log: LogId(log),
            applied: Sequence(applied),
        }
    }

    fn url(path: &str) -> PurgeTarget {
        PurgeTarget::Url {
            key: key(path),
            besides: vec!["_HLS_msn".to_owned()],
        }
    }

    fn key(path: &str) -> CacheKey {
        CacheKey::new(format!("//live.example{path}"))
    }

    fn noted(purges: impl IntoIterator<Item = (Position, PurgeTarget)>) -> Minimums {
        let minimums = Minimums::default();
        for (position, target) in purges {
            minimums.note(position, &vec![target].into());
        }
        minimums
    }

    #[test]
    fn f28_a_request_asks_for_the_last_purge_that_may_mean_it() {
        let minimums = noted([
            (position(7, 10), PurgeTarget::All),
            (position(7, 11), url("/a")),
            (position(7, 12), url("/b")),
        ]);
        let of = |path: &str| minimums.of(&key(path), None);
        assert_eq!(of("/a"), Some(position(7, 11)));
        assert_eq!(of("/a?_HLS_msn=3"), Some(position(7, 11)));
        assert_eq!(of("/b"), Some(position(7, 12)));
        assert_eq!(of("/c"), Some(position(7, 10)), "where the node began");
        assert_eq!(Minimums::default().of(&key("/a"), None), None);
    }

    #[test]
    fn f28_whose_surrogate_keys_are_not_known_may_carry_any() {
        let tagged = PurgeTarget::SurrogateKeys(vec!["show-1".to_owned()]);
        let minimums = noted([(position(7, 1), PurgeTarget::All), (position(7, 2), tagged)]);
        assert_eq!(minimums.of(&key("/a"), None), Some(position(7, 2)));
        for (tags, expected) in [("show-2", 1), ("show-2 show-1", 2)] {
            let mut fields = HeaderMap::new();
            fields.insert("surrogate-key", HeaderValue::from_static(tags));
            let of = minimums.of(&key("/a"), Some(&fields));
            assert_eq!(of, Some(position(7, expected)), "{tags}");
        }
    }

    #[test]
    fn f28_what_is_forgotten_is_asked_for_by_everybody() {
        let last = REMEMBERED_MAX as u64 + 5;
        let minimums = noted((1..=last).map(|n| (position(7, n), url("/a"))));
        assert_eq!(minimums.of(&key("/a"), None), Some(position(7, last)));
        assert_eq!(minimums.of(&key("/b"), None), Some(position(7, 5)));
        assert_eq!(minimums.state.lock().remembered.len(), REMEMBERED_MAX);
    }

    #[test]
    fn f33_places_of_another_log_are_not_asked_for() {
        let minimums = noted([
            (position(7, 500), url("/a")),
            (position(8, 2), PurgeTarget::All),
        ]);
        assert_eq!(minimums.of(&key("/a"), None), Some(position(8, 2)));
    }
}
