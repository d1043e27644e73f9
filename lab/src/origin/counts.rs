//! What the origin was asked, per URL and per object.
//!
//! The promise of a CDN is "the origin is asked once per object"; here it is counted. Memory is
//! bounded: the oldest objects fold into totals, which keep sum and maximum.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use super::presentation::ObjectKind;

/// Objects, and URLs, that are remembered one by one.
const REMEMBERED_MAX: usize = 8192;

/// Requests for the objects of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KindCounts {
    /// Different objects asked for.
    pub objects: u64,
    /// Requests for them.
    pub requests: u64,
    /// The most requests that one object got.
    pub max: u64,
}

/// What the origin was asked since its start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Different objects asked for: parts, segments, playlist versions, init segments, manifests.
    pub objects: u64,
    /// Requests for them.
    pub requests: u64,
    /// The most requests that one object got.
    pub requests_per_object_max: u64,
    /// The same by kind of object.
    pub by_kind: BTreeMap<&'static str, KindCounts>,
    /// Responses by status code, to requests for objects.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests that are held now, waiting for something to be published.
    pub held: u64,
}

/// Requests one by one; the newest few thousand URLs and objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Requests for each URL: path, and query in byte order.
    pub by_url: BTreeMap<String, u64>,
    /// Requests for each object.
    ///
    /// A playlist version is named `path g0 12.3`: broadcast, Media Sequence Number and part. A part
    /// that is asked for as a byte range is named `path#3`.
    pub by_object: BTreeMap<String, u64>,
}

/// The counters behind [`Counts`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    state: Mutex<State>,
    asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    urls: Tally<String>,
    objects: Tally<(ObjectKind, String)>,
    by_kind: BTreeMap<ObjectKind, KindCounts>,
    by_status: BTreeMap<u16, u64>,
    held: u64,
}

/// Counts per key for the newest keys.
#[derive(Debug)]
struct Tally<K> {
    counts: HashMap<K, u64>,
    order: VecDeque<K>,
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self {
            counts: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Clone + Eq + std::hash::Hash> Tally<K> {
    fn add(&mut self, key: K) -> u64 {
        if let Some(count) = self.counts.get_mut(&key) {
            *count += 1;
            return *count;
        }
        if self.order.len() == REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.counts.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.counts.insert(key, 1);
        1
    }
}

impl Counters {
    /// Counts a request for `url`, before anything is known about it.
    pub(crate) fn url(&self, url: String) {
        self.state.lock().urls.add(url);
        self.asked.notify_waiters();
    }

    /// Counts a request for the object `name`.
    pub(crate) fn object(&self, kind: ObjectKind, name: String) {
        let mut state = self.state.lock();
        let count = state.objects.add((kind, name));
        let of_kind = state.by_kind.entry(kind).or_default();
        of_kind.objects += u64::from(count == 1);
        of_kind.requests += 1;
        of_kind.max = of_kind.max.max(count);
    }

    /// Counts a response.
    pub(crate) fn status(&self, status: u16) {
        *self.state.lock().by_status.entry(status).or_default() += 1;
    }

    /// Counts a held request until the guard is dropped.
    pub(crate) fn hold(self: &Arc<Self>) -> Held {
        self.state.lock().held += 1;
        Held {
            counters: Arc::clone(self),
        }
    }

    /// Returns how often `url` was asked for.
    pub(crate) fn requests(&self, url: &str) -> u64 {
        let state = self.state.lock();
        state.urls.counts.get(url).copied().unwrap_or(0)
    }

    /// Waits until `url` has been asked for. Cancel safe.
    pub(crate) async fn asked_for(&self, url: &str) {
        loop {
            let next = self.asked.notified();
            tokio::pin!(next);
            next.as_mut().enable();
            if self.requests(url) > 0 {
                return;
            }
            next.await;
        }
    }

    /// Forgets everything but the requests that are held.
    pub(crate) fn reset(&self) {
        let mut state = self.state.lock();
        *state = State {
            held: state.held,
            ..State::default()
        };
    }

    /// Returns the sums.
    pub(crate) fn snapshot(&self) -> Counts {
        let state = self.state.lock();
        Counts {
            objects: state.by_kind.values().map(|k| k.objects).sum(),
            requests: state.by_kind.values().map(|k| k.requests).sum(),
            requests_per_object_max: state.by_kind.values().map(|k| k.max).max().unwrap_or(0),
            by_kind: state.by_kind.iter().map(|(k, v)| (k.name(), *v)).collect(),
            by_status: state.by_status.clone(),
            held: state.held,
        }
    }

    /// Returns requests one by one.
    pub(crate) fn requests_each(&self) -> Requests {
        let state = self.state.lock();
        let by_url = &state.urls.counts;
        let by_object = state.objects.counts.iter();
        Requests {
            by_url: by_url.iter().map(|(k, v)| (k.clone(), *v)).collect(),
            by_object: by_object.map(|((_, k), v)| (k.clone(), *v)).collect(),
        }
    }
}

/// One held request.
#[derive(Debug)]
pub(crate) struct Held {
    counters: Arc<Counters>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.counters.state.lock().held -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_per_object_and_per_kind() {
        let counters = Counters::default();
        for name in ["a", "b", "a", "a"] {
            counters.object(ObjectKind::Part, name.to_owned());
        }
        counters.object(ObjectKind::Playlist, "p".to_owned());
        let counts = counters.snapshot();
        assert_eq!((counts.objects, counts.requests), (3, 5));
        assert_eq!(counts.requests_per_object_max, 3);
        let part = KindCounts {
            objects: 2,
            requests: 4,
            max: 3,
        };
        assert_eq!(counts.by_kind["part"], part);
        assert_eq!(counters.requests_each().by_object["a"], 3);
    }

    #[test]
    fn old_objects_fold_into_the_totals() {
        let counters = Counters::default();
        let objects = REMEMBERED_MAX as u64 + 10;
        for index in 0..objects {
            counters.object(ObjectKind::Part, index.to_string());
            counters.url(index.to_string());
        }
        let counts = counters.snapshot();
        assert_eq!(counts.objects, objects);
        let each = counters.requests_each();
        assert_eq!(each.by_object.len(), REMEMBERED_MAX);
        assert_eq!(each.by_url.len(), REMEMBERED_MAX);
        assert!(!each.by_object.contains_key("0"));
    }

    #[test]
    fn a_reset_forgets_requests_but_not_those_that_are_held() {
        let counters = Arc::new(Counters::default());
        counters.object(ObjectKind::Part, "a".to_owned());
        let held = counters.hold();
        counters.reset();
        let counts = counters.snapshot();
        assert_eq!((counts.objects, counts.held), (0, 1));
        drop(held);
        assert_eq!(counters.snapshot().held, 0);
    }

    #[tokio::test]
    async fn whoever_waits_for_a_request_is_woken_by_it() {
        let counters = Arc::new(Counters::default());
        let waiting = counters.asked_for("/a");
        let asking = async { counters.url("/a".to_owned()) };
        tokio::join!(waiting, asking);
        counters.asked_for("/a").await;
    }
}
