//! What the store takes of memory, against what it says it takes, under a random workload.
//!
//! ```text
//! cargo bench -p cache --bench memory
//! ```
//!
//! Bodies of 200 B to 4 MB arrive as `node` brings them: in slices of a connection's buffer, reserved
//! while they grow, copied once into memory of their own. Heads are slices of such a buffer too. Keys
//! are replaced, purged and varied; sizes change from phase to phase, which is what scatters an
//! allocator's pages. The allocator is the one of the binary. Linux only: the resident set is read from
//! `/proc`. The seed is fixed; how many bytes are moved is, too.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use cache::{CHUNK_BYTES_MAX, CacheKey, GrowingBody, Reservation, Store, StoredResponse, Variant};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const MIB: u64 = 1024 * 1024;
const BUDGET_BYTES: u64 = 512 * MIB;
const FILLS: usize = 16;
const KEYS: u64 = 40_000;
const PAGE_BYTES: u64 = 4096;

/// What a phase brings: a name, the smallest and the largest body, and how many bytes in all.
const PHASES: [(&str, u64, u64, u64); 7] = [
    ("mixed", 200, 4_000_000, 2048 * MIB),
    ("small", 200, 4_000, 400 * MIB),
    ("parts", 20_000, 200_000, 2048 * MIB),
    ("large", 1_000_000, 4_000_000, 4096 * MIB),
    ("small", 200, 4_000, 400 * MIB),
    ("mixed", 200, 4_000_000, 4096 * MIB),
    ("one size", 131_100, 131_100, 2048 * MIB),
];

/// xorshift64*: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % limit.max(1)
    }

    /// Every order of magnitude as likely as the next.
    fn size(&mut self, least: u64, most: u64) -> usize {
        let share = self.below(1 << 20) as f64 / f64::from(1 << 20);
        (least as f64 * (most as f64 / least as f64).powf(share)) as usize
    }
}

/// A fill that runs: what it reserved, and what it received so far.
struct Fill<'a> {
    reservation: Reservation<'a>,
    chunks: Vec<Bytes>,
    missing: usize,
}

fn main() {
    let mut random = Random(0x5ea_3a11);
    let before = resident_bytes();
    let store = Store::new(BUDGET_BYTES);
    println!(
        "phase       moved MiB  stored  budget MiB  accounted MiB  resident MiB  of accounted"
    );
    let mut worst: f64 = 0.0;
    let mut fills: Vec<Fill<'_>> = Vec::new();
    for (phase, least, most, bytes) in PHASES {
        let mut moved = 0;
        let mut reported = 0;
        while moved < bytes {
            moved += step(&store, &mut fills, &mut random, (least, most));
            if moved >= reported + bytes / 4 {
                reported += bytes / 4;
                let resident = resident_bytes() - before;
                let accounted = store.used_bytes();
                let ratio = resident as f64 / accounted as f64;
                worst = worst.max(resident as f64 / BUDGET_BYTES as f64);
                println!(
                    "{phase:<10} {:>10} {:>7} {:>11} {:>14} {:>13} {ratio:>13.3}",
                    moved / MIB,
                    store.len(),
                    BUDGET_BYTES / MIB,
                    accounted / MIB,
                    resident / MIB
                );
            }
        }
    }
    println!("at most {worst:.3} of the budget was resident");
}

/// Lets one fill grow by a chunk, and ends it if that was the last; returns the bytes moved.
fn step<'a>(
    store: &'a Store,
    fills: &mut Vec<Fill<'a>>,
    random: &mut Random,
    (least, most): (u64, u64),
) -> u64 {
    if fills.len() < FILLS {
        let reservation = store.growing(0).expect("nothing is always left");
        fills.push(Fill {
            reservation,
            chunks: Vec::new(),
            missing: random.size(least, most),
        });
    }
    let number = usize::try_from(random.below(FILLS as u64)).expect("few fills") % fills.len();
    let fill = &mut fills[number];
    let chunk = fill.missing.min(CHUNK_BYTES_MAX);
    if fill.reservation.grow(chunk as u64).is_ok() {
        fill.chunks.push(Bytes::from(vec![1; chunk]));
        fill.missing -= chunk;
    }
    if fill.missing == 0 {
        end(store, fills.swap_remove(number), random);
    }
    if random.below(200) == 0 {
        store.remove(&key(random.below(KEYS)));
    }
    chunk as u64
}

/// Stores what a fill brought, as `node` does.
fn end(store: &Store, fill: Fill<'_>, random: &mut Random) {
    let length = fill.chunks.iter().map(Bytes::len).sum();
    let mut body = BytesMut::with_capacity(length);
    for chunk in &fill.chunks {
        body.extend_from_slice(chunk);
    }
    drop(fill);
    let (headers, variant) = head(random, length);
    store.insert(
        key(random.below(KEYS)),
        Arc::new(StoredResponse {
            status: StatusCode::OK,
            headers,
            body: GrowingBody::full(body.freeze()),
            variant,
            response_time: SystemTime::UNIX_EPOCH,
            corrected_initial_age: Duration::ZERO,
            freshness_lifetime: Duration::from_secs(6),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            must_revalidate: false,
        }),
    );
}

/// A head as hyper reads it: values are slices of the buffer that the body's first bytes are in, too.
fn head(random: &mut Random, length: usize) -> (HeaderMap, Variant) {
    let mut buffer = BytesMut::zeroed(16 * 1024);
    let mut headers = HeaderMap::new();
    let number = random.below(1000);
    for (name, value) in [
        ("content-type", "video/mp4".to_owned()),
        ("content-length", length.to_string()),
        ("cache-control", "public, max-age=6, s-maxage=4".to_owned()),
        ("etag", format!("\"5f3a-{number}-{length}\"")),
        ("last-modified", "Sun, 22 Nov 2026 20:00:00 GMT".to_owned()),
        ("date", "Sun, 22 Nov 2026 20:00:01 GMT".to_owned()),
        ("server", "packager/3.1".to_owned()),
        (
            "surrogate-key",
            format!("channel-{} rendition-{number} live", number % 50),
        ),
        ("access-control-allow-origin", "*".to_owned()),
        ("x-request-id", format!("{:032x}", random.below(u64::MAX))),
    ] {
        let mut slice = buffer.split_to(value.len());
        slice.copy_from_slice(value.as_bytes());
        let value = HeaderValue::from_maybe_shared(slice.freeze()).expect("plain text");
        headers.append(HeaderName::from_static(name), value);
    }
    let by_x = HeaderName::from_static("x");
    let request = HeaderMap::from_iter([(by_x, HeaderValue::from(random.below(12)))]);
    if random.below(4) == 0 {
        headers.insert(http::header::VARY, HeaderValue::from_static("x"));
    }
    let variant = Variant::of(&headers, &request, &[]).expect("x selects");
    (headers, variant)
}

fn key(number: u64) -> CacheKey {
    CacheKey::from(format!(
        "//live.example/channel-{}/video/segment-{number}.m4s",
        number % 50
    ))
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("the second number is the resident set") * PAGE_BYTES
}
