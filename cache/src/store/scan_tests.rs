//! Scans against the store, beside a plain LRU of the same size: who still has what viewers come for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::*;
use crate::body::GrowingBody;
use crate::variant::Variant;

const BODY_BYTES: usize = 1024;

/// How many responses both caches have room for.
const ROOM: u64 = 300;

/// The reference: what was read longest ago goes.
#[derive(Default)]
struct Lru {
    read_at: HashMap<u64, u64>,
    by_time: BTreeMap<u64, u64>,
    now: u64,
}

impl Lru {
    /// Reads or fills; returns whether it was a hit.
    fn read(&mut self, number: u64) -> bool {
        self.now += 1;
        self.by_time.insert(self.now, number);
        if let Some(before) = self.read_at.insert(number, self.now) {
            self.by_time.remove(&before);
            return true;
        }
        if self.read_at.len() as u64 > ROOM
            && let Some((_, oldest)) = self.by_time.pop_first()
        {
            self.read_at.remove(&oldest);
        }
        false
    }
}

/// Both caches, and how often each had what was asked for.
struct Race {
    store: Store,
    lru: Lru,
    asked: u64,
    hits: u64,
    lru_hits: u64,
}

impl Race {
    fn new() -> Self {
        let per_response = response().weight_bytes() + 250;
        Self {
            store: Store::new(ROOM * per_response),
            lru: Lru::default(),
            asked: 0,
            hits: 0,
            lru_hits: 0,
        }
    }

    fn read(&mut self, number: u64, counts: bool) {
        let key = CacheKey::from(format!("//vod.example/{number}"));
        let is_hit = self.store.get(&key, &HeaderMap::new()).found().is_some();
        if !is_hit {
            self.store.insert(key, response());
        }
        let is_lru_hit = self.lru.read(number);
        if counts {
            self.asked += 1;
            self.hits += u64::from(is_hit);
            self.lru_hits += u64::from(is_lru_hit);
        }
    }

    fn percent(&self) -> (u64, u64) {
        (
            self.hits * 100 / self.asked,
            self.lru_hits * 100 / self.asked,
        )
    }
}

fn response() -> Arc<StoredResponse> {
    Arc::new(StoredResponse {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: GrowingBody::full(Bytes::from_static(&[0; BODY_BYTES])),
        variant: Variant::default(),
        response_time: SystemTime::UNIX_EPOCH,
        corrected_initial_age: Duration::ZERO,
        freshness_lifetime: Duration::from_secs(1),
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        must_revalidate: false,
    })
}

/// xorshift64*: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % limit
    }
}

/// Draws from a catalog in which the response of rank `n` is asked for in proportion to 1/n.
struct Zipf {
    /// Sums of the weights so far; whole numbers, so that no machine rounds differently.
    sums: Vec<u64>,
}

impl Zipf {
    fn new(ranks: u64) -> Self {
        let weights = (1..=ranks).map(|rank| 1_000_000_000 / rank);
        let sums = weights.scan(0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self {
            sums: sums.collect(),
        }
    }

    fn draw(&self, random: &mut Random) -> u64 {
        let total = *self.sums.last().expect("a catalog is not empty");
        let at = random.below(total);
        self.sums.partition_point(|sum| *sum <= at) as u64
    }
}

#[test]
fn a_zipf_trace_with_scans_hits_more_than_in_an_lru() {
    // (one-hit reads among a hundred) -> (least percent of hits beyond the LRU's)
    for (scans, ahead) in [(0, 5), (20, 8), (50, 12), (80, 12)] {
        let mut random = Random(0x5ea_3a11);
        let zipf = Zipf::new(5_000);
        let mut race = Race::new();
        let mut scanned = 1_000_000;
        for n in 0..16_000 {
            if random.below(100) < scans {
                scanned += 1;
                race.read(scanned, false);
            } else {
                race.read(zipf.draw(&mut random), n > 6_000);
            }
        }
        let (percent, lru_percent) = race.percent();
        assert!(
            percent >= lru_percent + ahead,
            "{scans} % scans: {percent} % against {lru_percent} %"
        );
    }
}

#[test]
fn a_sweep_over_an_archive_does_not_evict_the_live_window() {
    const WINDOW: u64 = 60;
    const VIEWERS: u64 = 5;
    let mut race = Race::new();
    let mut archived = 1_000_000;
    for newest in 0..200 {
        // A segment appears, viewers read it and, some of them, somewhere in the window.
        for viewer in 0..VIEWERS {
            race.read(newest, viewer > 0);
        }
        for back in (0..WINDOW.min(newest)).step_by(4) {
            race.read(newest - back, newest > WINDOW);
        }
        // Meanwhile somebody copies an archive: more than the store has room for, before a segment is
        // read again.
        for _ in 0..ROOM {
            archived += 1;
            race.read(archived, false);
        }
    }
    let (percent, lru_percent) = race.percent();
    assert!(
        percent >= 90 && percent >= lru_percent + 40,
        "{percent} % against {lru_percent} %"
    );
}
