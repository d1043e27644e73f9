//! Held requests: how many there may be, and for how long.
//!
//! Held requests wait for versions. So that none waits for ever (LL-09), the chain's task also wakes
//! them when a deadline passes: one timer per rendition, whatever is held. Deadlines are rounded up to
//! [`QUANTUM`], so a thousand requests that came together share one entry here and one wake-up.
//!
//! So that nobody fills a node with them (CA-22), each takes a [`Place`] of its connection, of its client
//! and of the node. Where none is left the new one is refused; those that are held stay.
//!
//! Who calls it: `rendition`. Deliberately not here: requests that wait for a hinted part follow a fill,
//! and are bounded by the streams of their connection.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::node::LiveConfig;
use crate::request::Client;
use crate::respond::Failure;

/// Deadlines are rounded up to a multiple of this.
pub(crate) const QUANTUM: Duration = Duration::from_millis(250);

/// The deadlines of one rendition's held requests, soonest first.
#[derive(Debug)]
pub(crate) struct Deadlines {
    started: Instant,
    state: Mutex<State>,
    first_changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Invariant: strictly ascending, all multiples of [`QUANTUM`] after `started`.
    ascending: VecDeque<Instant>,
}

impl Deadlines {
    /// Creates an empty set.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            state: Mutex::new(State::default()),
            first_changed: Notify::new(),
        }
    }

    /// Adds the deadline `after` from now, rounded up, and returns it.
    pub(crate) fn add(&self, after: Duration) -> Instant {
        let wanted = self.started.elapsed() + after;
        let quanta = wanted.as_nanos().div_ceil(QUANTUM.as_nanos());
        let deadline = self.started + QUANTUM * u32::try_from(quanta).unwrap_or(u32::MAX);
        if self.state.lock().add(deadline) {
            self.first_changed.notify_one();
        }
        deadline
    }

    /// Waits until the soonest deadline has passed, and forgets it. Cancel safe.
    pub(crate) async fn passed(&self) {
        loop {
            let soonest = self.state.lock().ascending.front().copied();
            let Some(soonest) = soonest else {
                self.first_changed.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(soonest) => {
                    self.state.lock().forget_until(soonest);
                    return;
                }
                () = self.first_changed.notified() => {}
            }
        }
    }
}

impl State {
    /// Returns whether the soonest deadline changed.
    fn add(&mut self, deadline: Instant) -> bool {
        let at = self.ascending.partition_point(|&d| d < deadline);
        if self.ascending.get(at) == Some(&deadline) {
            return false;
        }
        self.ascending.insert(at, deadline);
        at == 0
    }

    fn forget_until(&mut self, passed: Instant) {
        while self.ascending.front().is_some_and(|&d| d <= passed) {
            self.ascending.pop_front();
        }
    }
}

/// For whom a request is held.
#[derive(Clone, Debug, Default)]
pub struct Holder {
    /// The client, as it is counted.
    pub client: Client,
    /// Its connection, if it has one.
    pub connection: Option<ConnectionHolds>,
}

/// How many requests of one connection are held.
#[derive(Clone, Debug, Default)]
pub struct ConnectionHolds(Arc<AtomicUsize>);

/// How many requests are held, of all and of each client (CA-22).
#[derive(Debug)]
pub(crate) struct Held {
    all: Arc<AtomicUsize>,
    /// Only clients of whom something is held, so at most as many as requests; in shards by their hash.
    by_client: [Mutex<HashMap<Client, usize>>; CLIENT_SHARDS],
    hasher: RandomState,
    all_max: usize,
    per_client_max: Option<usize>,
    per_connection_max: Option<usize>,
}

impl Held {
    /// Creates the places that `live` allows.
    pub(crate) fn new(live: &LiveConfig) -> Arc<Self> {
        Arc::new(Self {
            all: Arc::default(),
            by_client: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            all_max: live.held_max,
            per_client_max: live.held_per_client_max,
            per_connection_max: live.held_per_connection_max,
        })
    }

    /// Returns how many requests are held.
    pub(crate) fn count(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// Takes a place for a request of `holder`.
    ///
    /// # Errors
    ///
    /// Which of the three has no place left.
    pub(crate) fn take(self: &Arc<Self>, holder: &Holder) -> Result<Place, Failure> {
        let connection = holder
            .connection
            .as_ref()
            .zip(self.per_connection_max)
            .map(|(connection, max)| Counted::take(&connection.0, max));
        let connection = connection.map(|taken| taken.ok_or(Failure::HeldTooManyOfConnection));
        let of_connection = connection.transpose()?;
        let of_all = Counted::take(&self.all, self.all_max).ok_or(Failure::HeldTooMany)?;
        let of_client = self
            .per_client_max
            .map(|max| self.take_of_client(holder.client, max))
            .transpose()?;
        Ok(Place {
            _of_connection: of_connection,
            _of_all: of_all,
            _of_client: of_client,
        })
    }

    fn take_of_client(self: &Arc<Self>, client: Client, max: usize) -> Result<OfClient, Failure> {
        let mut shard = self.shard(client).lock();
        let count = shard.entry(client).or_insert(0);
        if *count >= max {
            return Err(Failure::HeldTooManyOfClient);
        }
        *count += 1;
        drop(shard);
        Ok(OfClient {
            held: Arc::clone(self),
            client,
        })
    }

    fn shard(&self, client: Client) -> &Mutex<HashMap<Client, usize>> {
        let hash = self.hasher.hash_one(client);
        let shards = self.by_client.len() as u64;
        let index = usize::try_from(hash % shards).expect("there are few shards");
        &self.by_client[index]
    }
}

/// The place of one held request; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place {
    _of_connection: Option<Counted>,
    _of_all: Counted,
    _of_client: Option<OfClient>,
}

/// One of a count.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn take(count: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        // Relaxed: the count guards nothing but itself.
        let before = count.fetch_add(1, Ordering::Relaxed);
        let taken = Self(Arc::clone(count));
        (before < max).then_some(taken)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One of a client's.
#[derive(Debug)]
struct OfClient {
    held: Arc<Held>,
    client: Client,
}

impl Drop for OfClient {
    fn drop(&mut self) {
        let mut shard = self.held.shard(self.client).lock();
        if let Entry::Occupied(mut count) = shard.entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// So that workers seldom meet.
const CLIENT_SHARDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn held(all: usize, of_client: usize, of_connection: usize) -> Arc<Held> {
        Held::new(&LiveConfig {
            held_max: all,
            held_per_client_max: Some(of_client),
            held_per_connection_max: Some(of_connection),
            ..LiveConfig::default()
        })
    }

    fn holder(address: &str) -> Holder {
        let address = address.parse().unwrap();
        Holder {
            client: Client::of(address, &http::HeaderMap::new(), &[]),
            connection: Some(ConnectionHolds::default()),
        }
    }

    #[test]
    fn ca_22_each_limit_is_reached_alone_and_what_is_given_back_can_be_taken() {
        let held = held(5, 3, 2);
        let (one, other) = (holder("198.51.100.1"), holder("198.51.100.2"));
        let more_of_one = Holder {
            client: one.client,
            ..Holder::default()
        };
        let first = held.take(&one).unwrap();
        let _second = held.take(&one).unwrap();
        let refused = held.take(&one).unwrap_err();
        assert_eq!(refused, Failure::HeldTooManyOfConnection);
        let _third = held.take(&more_of_one).unwrap();
        let refused = held.take(&more_of_one).unwrap_err();
        assert_eq!(refused, Failure::HeldTooManyOfClient);
        let _fourth = held.take(&other).unwrap();
        let _fifth = held.take(&other).unwrap();
        let refused = held.take(&holder("198.51.100.3")).unwrap_err();
        assert_eq!(refused, Failure::HeldTooMany);
        assert_eq!(held.count(), 5, "what was refused is not counted");
        drop(first);
        assert!(held.take(&one).is_ok());
    }

    #[test]
    fn ca_22_clients_of_whom_nothing_is_held_take_no_memory() {
        let held = held(9, 9, 9);
        let places: Vec<_> = (0..9)
            .map(|n| held.take(&holder(&format!("198.51.100.{n}"))).unwrap())
            .collect();
        let clients = || held.by_client.iter().map(|s| s.lock().len()).sum::<usize>();
        assert_eq!(clients(), 9);
        drop(places);
        assert_eq!((clients(), held.count()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_came_together_share_one_deadline() {
        let deadlines = Deadlines::new();
        let first = deadlines.add(Duration::from_millis(6_001));
        let second = deadlines.add(Duration::from_millis(6_200));
        assert_eq!(first, second);
        assert_eq!(first - deadlines.started, Duration::from_millis(6_250));
        assert_eq!(deadlines.state.lock().ascending.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sooner_deadline_added_while_waiting_is_kept() {
        let deadlines = Arc::new(Deadlines::new());
        let later = deadlines.add(Duration::from_secs(9));
        let waiting = async {
            deadlines.passed().await;
            Instant::now()
        };
        let adding = async {
            tokio::task::yield_now().await;
            deadlines.add(Duration::from_secs(3))
        };
        let (woken, sooner) = tokio::join!(waiting, adding);
        assert_eq!(woken, sooner);
        deadlines.passed().await;
        assert_eq!(Instant::now(), later);
    }
}
