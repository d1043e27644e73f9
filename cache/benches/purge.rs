//! What a purge costs among a million stored responses with a hundred thousand surrogate keys.
//!
//! ```text
//! cargo bench -p cache --bench purge
//! ```
//!
//! Every purge is timed once, soft before hard, with a dry run before each; the walk over everything that
//! the index replaces is timed beside. Takes about 2 GiB and a minute.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use cache::{CacheKey, Change, GrowingBody, Purge, PurgeTarget, Store, StoredResponse, Variant};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const STORED: u64 = 1_000_000;
/// Responses that are made before they are inserted together.
const BATCH: usize = 20_000;
const PAGE_BYTES: u64 = 4096;
const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn main() {
    let store = Store::new(16 << 30);
    for (name, is_tagged) in [("without surrogate keys", false), ("with three each", true)] {
        if is_tagged {
            store.purge(PurgeTarget::All, Purge::Hard);
        }
        let inserting = insert(&store, STORED, is_tagged).as_nanos();
        println!(
            "{STORED} inserted {name}: {} ns each; {} B resident, {} B accounted for each",
            inserting / u128::from(STORED),
            resident_bytes() / STORED,
            store.used_bytes() / STORED,
        );
    }
    let replacing = insert(&store, STORED / 10, true).as_nanos();
    println!("replaced: {} ns each", replacing / u128::from(STORED / 10));
    let (walk, kept) = timed(|| store.change_where(|_, _| Change::Keep));
    println!("a walk over everything, which changes {kept}: {walk:?}");
    let soft = Purge::Soft { now: NOW };
    println!(
        "purge                         responses      dry run         soft         hard  hard/each"
    );
    for (name, target) in [
        ("surrogate key, of none", tag("none".to_owned())),
        ("surrogate key, of 10", tag("event-77".to_owned())),
        ("surrogate key, of 1000", tag("channel-77".to_owned())),
        ("surrogate key, of 100 000", tag("tenant-7".to_owned())),
        (
            "url",
            PurgeTarget::Url {
                key: key(1),
                besides: vec!["_HLS_msn".to_owned()],
            },
        ),
        ("prefix, of 1000", prefix("/channel-88/")),
        ("prefix, of none", prefix("/channel/")),
        (
            "host, of 100 000",
            PurgeTarget::Host("h8.example".to_owned()),
        ),
        ("all", PurgeTarget::All),
    ] {
        let dry = timed(|| store.purgeable(target.clone()));
        let made_stale = timed(|| store.purge(target.clone(), soft));
        let removed = timed(|| store.purge(target.clone(), Purge::Hard));
        assert_eq!((dry.1, made_stale.1), (removed.1, removed.1));
        let each = removed.0.as_nanos() / u128::from(removed.1.responses.max(1));
        println!(
            "{name:<28} {:>10} {:>12.1?} {:>12.1?} {:>12.1?} {each:>7} ns",
            removed.1.responses, dry.0, made_stale.0, removed.0
        );
    }
    assert!(store.is_empty());
}

/// Returns the time that storing responses took, without making them.
fn insert(store: &Store, responses: u64, is_tagged: bool) -> Duration {
    let batches = (0..responses).step_by(BATCH).map(|first| {
        let numbers = first..(first + BATCH as u64).min(responses);
        let made: Vec<_> = numbers
            .map(|number| (key(number), response(number, is_tagged)))
            .collect();
        let insert_all = || {
            for (key, made) in made {
                store.insert(key, made);
            }
        };
        timed(insert_all).0
    });
    batches.sum()
}

/// Returns how long something took: time on the processor, which others on the machine do not change, or
/// where that is too short for the kernel to tell, time that passed.
fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let (passed, on_cpu) = (Instant::now(), on_cpu());
    let result = work();
    let on_cpu = self::on_cpu() - on_cpu;
    if on_cpu > Duration::from_millis(10) {
        (on_cpu, result)
    } else {
        (passed.elapsed(), result)
    }
}

fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("the first number is time on the processor"))
}

fn tag(surrogate_key: String) -> PurgeTarget {
    PurgeTarget::SurrogateKeys(vec![surrogate_key])
}

fn prefix(path: &str) -> PurgeTarget {
    PurgeTarget::Prefix {
        host: "h8.example".to_owned(),
        path: path.to_owned(),
    }
}

/// A thousand channels of a thousand segments, on ten hosts, in no order.
fn key(number: u64) -> CacheKey {
    let number = number * 7919 % STORED;
    let (channel, segment) = (number % 1000, number / 1000);
    let host = channel % 10;
    CacheKey::from(format!(
        "//h{host}.example/channel-{channel}/video/1080p/segment-{segment}.m4s"
    ))
}

/// A response whose surrogate keys ten, a thousand and a hundred thousand others carry, too.
fn response(number: u64, is_tagged: bool) -> Arc<StoredResponse> {
    let number = number * 7919 % STORED;
    let mut headers = HeaderMap::new();
    let mut insert = |name, value: String| {
        let value = HeaderValue::from_str(&value).expect("plain text");
        headers.insert(HeaderName::from_static(name), value);
    };
    insert("content-type", "video/mp4".to_owned());
    insert("etag", format!("\"{number:x}\""));
    if is_tagged {
        let (event, channel, tenant) = (number / 10, number % 1000, number / 10 % 10);
        insert(
            "surrogate-key",
            format!("event-{event} channel-{channel} tenant-{tenant}"),
        );
    }
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

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("the second number is the resident set") * PAGE_BYTES
}
