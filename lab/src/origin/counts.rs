//! How often each object was asked for: the figure a CDN is judged by.

use std::collections::{BTreeMap, HashMap, VecDeque};

use parking_lot::Mutex;
use serde::Serialize;

/// Requests per object, with bounded memory.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Requests for objects that are still told apart.
    objects: HashMap<(Family, String), u64>,
    /// The same keys, oldest first.
    order: VecDeque<(Family, String)>,
    totals: BTreeMap<Family, Total>,
    urls: HashMap<String, u64>,
}

/// What an object is, as the counts name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// A part, by rendition, segment and index.
    Part,
    /// A segment, by rendition and number.
    Segment,
    /// A version of a media playlist, by rendition and last part.
    Playlist,
    /// An initialization segment, a multivariant playlist, a manifest, and everything else.
    Other,
}

/// Requests for one family of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Total {
    /// Objects asked for at least once.
    pub objects: u64,
    /// Requests for them.
    pub requests: u64,
    /// The most requests for one of them.
    pub max: u64,
}

/// Requests per object, summed up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Objects asked for at least once.
    pub objects: u64,
    /// Requests for them.
    pub requests: u64,
    /// The most requests for one of them.
    pub requests_per_object_max: u64,
    /// The same by family.
    pub by_kind: BTreeMap<Family, Total>,
}

impl Ledger {
    /// Notes a request for `object`, asked for as `url`.
    pub(crate) fn note(&self, family: Family, object: String, url: &str) {
        let mut state = self.state.lock();
        if state.urls.len() < OBJECTS_MAX || state.urls.contains_key(url) {
            *state.urls.entry(url.to_owned()).or_default() += 1;
        }
        let key = (family, object);
        let count = state.objects.entry(key.clone()).or_default();
        *count += 1;
        let count = *count;
        if count == 1 {
            state.order.push_back(key);
        }
        let total = state.totals.entry(family).or_default();
        total.requests += 1;
        total.objects += u64::from(count == 1);
        total.max = total.max.max(count);
        if state.order.len() > OBJECTS_MAX
            && let Some(oldest) = state.order.pop_front()
        {
            // Already in the totals; a later request for it would count as a new object.
            state.objects.remove(&oldest);
        }
    }

    /// Returns the sums.
    pub(crate) fn counts(&self) -> Counts {
        let by_kind = self.state.lock().totals.clone();
        Counts {
            objects: by_kind.values().map(|t| t.objects).sum(),
            requests: by_kind.values().map(|t| t.requests).sum(),
            requests_per_object_max: by_kind.values().map(|t| t.max).max().unwrap_or(0),
            by_kind,
        }
    }

    /// Returns how often exactly this path and query was asked for.
    pub(crate) fn requests_for(&self, url: &str) -> u64 {
        self.state.lock().urls.get(url).copied().unwrap_or(0)
    }

    /// Forgets everything.
    pub(crate) fn reset(&self) {
        *self.state.lock() = State::default();
    }
}

/// Objects told apart; an hour of four renditions with 200 ms parts has some 150,000.
const OBJECTS_MAX: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_per_object_and_per_url() {
        let ledger = Ledger::default();
        ledger.note(Family::Part, "v0/1.0".to_owned(), "/a");
        ledger.note(Family::Part, "v0/1.0".to_owned(), "/a");
        ledger.note(Family::Part, "v0/1.1".to_owned(), "/b");
        ledger.note(Family::Playlist, "v0/1.1".to_owned(), "/p?x");
        let counts = ledger.counts();
        assert_eq!((counts.objects, counts.requests), (3, 4));
        assert_eq!(counts.requests_per_object_max, 2);
        assert_eq!(
            counts.by_kind[&Family::Part],
            Total {
                objects: 2,
                requests: 3,
                max: 2
            }
        );
        assert_eq!(ledger.requests_for("/a"), 2);
        ledger.reset();
        assert_eq!(ledger.counts(), Counts::default());
    }
}
