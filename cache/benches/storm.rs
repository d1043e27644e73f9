//! What lookups cost while ten thousand purges a second are applied (F32).
//!
//! ```text
//! cargo bench -p cache --bench storm
//! ```
//!
//! One thread looks up and times each lookup, another purges; calm and storm alternate in short turns, so that
//! what else happens on the machine falls on both. The figures are quantiles over all turns of a kind, and how they
//! relate. Lookups that found the responses purged a moment ago are among them. Takes 200 MiB and 20 seconds.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use cache::{CacheKey, GrowingBody, Purge, PurgeTarget, Store, StoredResponse, Variant};
use http::{HeaderMap, HeaderValue, StatusCode};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const STORED: u64 = 100_000;
const PURGES_PER_SECOND: u64 = 10_000;
/// One calm turn, one of storm, so many times.
const TURNS: usize = 20;
const TURN: Duration = Duration::from_millis(500);
/// The longest lookup that is told apart; a nanosecond each.
const NANOS_MAX: usize = 1_000_000;
const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn main() {
    let store = Store::new(1 << 30);
    for number in 0..STORED {
        store.insert(key(number), response(number));
    }
    let storm = Storm::default();
    let [mut calm, mut stormy] = [Times::default(), Times::default()];
    let mut storm_lasted = Duration::ZERO;
    thread::scope(|threads| {
        threads.spawn(|| storm.rage(&store));
        for _ in 0..TURNS {
            look_up(&store, &mut calm);
            storm.is_on.store(true, Ordering::Relaxed);
            let begun = Instant::now();
            look_up(&store, &mut stormy);
            storm.is_on.store(false, Ordering::Relaxed);
            storm_lasted += begun.elapsed();
        }
        storm.is_over.store(true, Ordering::Relaxed);
    });
    let purges = storm.purges.load(Ordering::Relaxed);
    let rate = purges as f64 / storm_lasted.as_secs_f64();
    println!("{STORED} stored; {purges} purges, {rate:.0} a second, while it stormed");
    println!("lookup         calm      storm   ratio");
    for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
        let (before, during) = (calm.quantile(quantile), stormy.quantile(quantile));
        let ratio = during as f64 / before as f64;
        println!("{name:<8} {before:>7} ns {during:>7} ns {ratio:>7.3}");
    }
    println!(
        "lookups: {} calm, {} in the storm",
        calm.count, stormy.count
    );
}

/// Looks up one response after the other for a turn, in no order.
fn look_up(store: &Store, times: &mut Times) {
    let fields = HeaderMap::new();
    let until = Instant::now() + TURN;
    let mut number = times.count;
    let mut before = Instant::now();
    while before < until {
        number = (number + 7919) % STORED;
        let key = key(number);
        before = Instant::now();
        black_box(store.get(&key, &fields));
        times.add(before.elapsed());
    }
}

/// How often lookups took how long.
struct Times {
    by_nanos: Vec<u32>,
    count: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            by_nanos: vec![0; NANOS_MAX],
            count: 0,
        }
    }
}

impl Times {
    fn add(&mut self, took: Duration) {
        let nanos = usize::try_from(took.as_nanos()).unwrap_or(NANOS_MAX);
        self.by_nanos[nanos.min(NANOS_MAX - 1)] += 1;
        self.count += 1;
    }

    fn quantile(&self, quantile: f64) -> usize {
        let wanted = (self.count as f64 * quantile) as u64;
        let mut seen = 0;
        let reaches = |count: &u32| {
            seen += u64::from(*count);
            seen > wanted
        };
        self.by_nanos.iter().position(reaches).unwrap_or(NANOS_MAX)
    }
}

/// Purges that come as fast as they may while it is on.
#[derive(Default)]
struct Storm {
    is_on: AtomicBool,
    is_over: AtomicBool,
    purges: AtomicU64,
}

impl Storm {
    /// Purges every millisecond what is due, until it is over.
    fn rage(&self, store: &Store) {
        while !self.is_over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let mut done = 0;
            while self.is_on.load(Ordering::Relaxed) {
                let due = begun.elapsed().as_millis() as u64 * PURGES_PER_SECOND / 1000;
                while done < due {
                    purge(store, self.purges.fetch_add(1, Ordering::Relaxed));
                    done += 1;
                }
                thread::park_timeout(Duration::from_millis(1));
            }
            thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// Applies one purge of each kind in turn; what is gone comes again, as it would.
fn purge(store: &Store, number: u64) {
    let meant = number * 104_729 % STORED;
    match number % 3 {
        0 => {
            let target = PurgeTarget::Url {
                key: key(meant),
                besides: Vec::new(),
            };
            store.purge(target, Purge::Hard);
            store.insert(key(meant), response(meant));
        }
        1 => {
            let target = PurgeTarget::SurrogateKeys(vec![format!("event-{}", meant / 10)]);
            store.purge(target, Purge::Soft { now: NOW });
        }
        _ => {
            let target = PurgeTarget::Prefix {
                host: "live.example".to_owned(),
                path: format!("/gone-{number}/"),
            };
            store.purge(target, Purge::Hard);
        }
    }
}

fn key(number: u64) -> CacheKey {
    let (channel, segment) = (number % 100, number / 100);
    CacheKey::from(format!(
        "//live.example/channel-{channel}/video/segment-{segment}.m4s"
    ))
}

fn response(number: u64) -> Arc<StoredResponse> {
    let keys = format!("event-{} channel-{}", number / 10, number % 100);
    let keys = HeaderValue::from_str(&keys).expect("plain text");
    let mut headers = HeaderMap::new();
    headers.insert("surrogate-key", keys);
    Arc::new(StoredResponse {
        status: StatusCode::OK,
        headers,
        body: GrowingBody::full(Bytes::from_static(b"a body of twenty-four B.")),
        variant: Variant::default(),
        response_time: NOW,
        corrected_initial_age: Duration::ZERO,
        freshness_lifetime: Duration::from_secs(6),
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        must_revalidate: false,
    })
}
