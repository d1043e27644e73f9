//! The store against small references: what it must return, what it must evict, what it must keep.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, VARY};
use http::{HeaderMap, StatusCode};
use proptest::prelude::*;

use super::variants::VARIANTS_MAX;
use super::*;
use crate::body::GrowingBody;
use crate::variant::Variant;

const MIB: u64 = 1024 * 1024;
const X: HeaderName = HeaderName::from_static("x");

fn plain(body_bytes: usize) -> Arc<StoredResponse> {
    response(body_bytes, Variant::default())
}

fn response(body_bytes: usize, variant: Variant) -> Arc<StoredResponse> {
    Arc::new(StoredResponse {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: GrowingBody::full(Bytes::from(vec![0; body_bytes])),
        variant,
        response_time: SystemTime::UNIX_EPOCH,
        corrected_initial_age: Duration::ZERO,
        freshness_lifetime: Duration::from_secs(1),
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        must_revalidate: false,
    })
}

/// Request fields with `x: value`, and the variant of a response that varies by `x`.
fn by_x(value: u64) -> (HeaderMap, Variant) {
    let request = HeaderMap::from_iter([(X, HeaderValue::from(value))]);
    let vary = HeaderMap::from_iter([(VARY, HeaderValue::from_static("x"))]);
    let variant = Variant::of(&vary, &request, &[]).expect("x can be selected by");
    (request, variant)
}

fn key(number: u64) -> CacheKey {
    CacheKey::from(format!("https://live.example/{number}"))
}

fn is_found(store: &Store, number: u64) -> bool {
    store.get(&key(number), &HeaderMap::new()).found().is_some()
}

#[test]
fn a_response_is_found_under_its_key_until_it_is_removed() {
    let store = Store::new(MIB);
    assert!(matches!(
        store.get(&key(1), &HeaderMap::new()),
        Lookup::UriMiss
    ));
    let stored = plain(1000);
    assert_eq!(store.insert(key(1), stored.clone()), Inserted::Stored);
    let found = store.get(&key(1), &HeaderMap::new()).found().unwrap();
    assert_eq!(found.body.len_if_complete(), Some(1000));
    assert_eq!(store.len(), 1);
    assert!(store.used_bytes() > stored.weight_bytes());
    assert_eq!(store.remove(&key(1)), 1);
    assert_eq!(store.remove(&key(1)), 0);
    assert_eq!(store.used_bytes(), 0);
    assert!(store.is_empty());
}

#[test]
fn rfc_9111_4_1_a_request_gets_the_newest_variant_it_selects() {
    let store = Store::new(MIB);
    let (asks_1, variant_1) = by_x(1);
    let (asks_2, variant_2) = by_x(2);
    store.insert(key(1), response(1, variant_1.clone()));
    assert!(matches!(store.get(&key(1), &asks_2), Lookup::VaryMiss));
    store.insert(key(1), response(2, variant_2));
    store.insert(key(1), response(3, variant_1));
    let bytes = |asks| {
        let found = store.get(&key(1), asks).found()?;
        found.body.len_if_complete()
    };
    assert_eq!((bytes(&asks_1), bytes(&asks_2)), (Some(3), Some(2)));
    store.insert(key(1), plain(4));
    assert_eq!((bytes(&asks_1), bytes(&asks_2)), (Some(4), Some(4)));
    assert_eq!(store.remove(&key(1)), 1, "what nobody can select is gone");
}

#[test]
fn b53_ten_thousand_variants_of_one_key_leave_eight_and_evict_nobody_else() {
    const OTHERS: u64 = 100;
    let store = Store::new(16 * MIB);
    for number in 0..OTHERS {
        store.insert(key(1000 + number), plain(1000));
    }
    for value in 0..10_000 {
        store.insert(key(1), response(10, by_x(value).1));
    }
    assert!(store.get(&key(1), &by_x(9_999).0).found().is_some());
    assert!(matches!(store.get(&key(1), &by_x(0).0), Lookup::VaryMiss));
    assert!((0..OTHERS).all(|number| is_found(&store, 1000 + number)));
    assert_eq!(VARIANTS_MAX, 8);
    assert_eq!(store.remove(&key(1)), VARIANTS_MAX);
}

#[test]
fn bodies_that_grow_are_in_the_budget_and_responses_make_room_for_them() {
    for capacity in [MIB, 1024 * MIB] {
        let store = Store::new(capacity);
        let body_bytes = usize::try_from(capacity / 72).unwrap();
        for number in 0..80 {
            store.insert(key(number), plain(body_bytes));
        }
        let full = store.used_bytes();
        assert!(full > capacity / 10 * 8, "{full} of {capacity}");
        let mut growing = store.growing(1).unwrap();
        let mut reserved = 1;
        while growing.grow(capacity / 100).is_ok() {
            reserved += capacity / 100;
            assert!(store.used_bytes() <= capacity);
        }
        assert_eq!(
            (growing.bytes(), store.growing_bytes()),
            (reserved, reserved)
        );
        assert!(reserved > capacity * 9 / 20, "nearly half: {reserved}");
        assert!(store.len() < 40, "{} are left", store.len());
        let largest = usize::try_from(store.response_bytes_max() / 10 * 8).unwrap();
        assert_eq!(store.insert(key(1000), plain(largest)), Inserted::Stored);
        assert!(is_found(&store, 1000), "it fits beside all that grows");
        assert!(store.used_bytes() <= capacity);
        drop(growing);
        store.remove_where(|_, _| true);
        assert_eq!(store.used_bytes(), 0);
    }
}

#[test]
fn running_fills_get_no_more_than_half_of_the_store() {
    let store = Store::new(MIB);
    let limit = GrowingLimit {
        bytes_max: store.growing_bytes_max(),
    };
    assert_eq!(limit.bytes_max, MIB / 2);
    let mut first = store.growing(MIB / 2).unwrap();
    assert_eq!(store.growing(1).unwrap_err(), limit);
    assert_eq!(first.grow(1).unwrap_err(), limit);
    assert_eq!(first.grow(u64::MAX).unwrap_err(), limit);
    assert_eq!(first.bytes(), MIB / 2, "what was reserved stays reserved");
    drop(first);
    assert!(store.growing(MIB / 2).is_ok());
    assert_eq!(store.growing_bytes(), 0);
}

#[test]
fn a_response_that_does_not_fit_is_refused_aloud_and_one_that_just_fits_is_kept() {
    for capacity in [MIB, 16 * MIB, 300 * MIB, 1000 * MIB] {
        let store = Store::new(capacity);
        let limit = store.response_bytes_max();
        let weighs = |bytes: u64| plain(usize::try_from(bytes).unwrap()).weight_bytes();
        // The most bytes that fit beside the key; the weight grows with them.
        let (mut fits, mut too_many) = (0, limit);
        while fits + 1 < too_many {
            let middle = fits.midpoint(too_many);
            // Bodies are never touched here: zeroed memory costs nothing until it is.
            if weighs(middle) + 512 <= limit {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        let body = |bytes| plain(usize::try_from(bytes).unwrap());
        assert_eq!(store.insert(key(1), body(fits)), Inserted::Stored);
        assert!(is_found(&store, 1), "capacity {capacity}");
        assert_eq!(
            store.insert(key(2), body(fits + 512)),
            Inserted::Refused(Refusal::TooLarge)
        );
        assert!(store.used_bytes() <= capacity);
        assert!(store.capacity_bytes() <= capacity);
    }
}

#[test]
fn invariant_4_a_body_that_is_not_complete_is_never_stored() {
    let store = Store::new(MIB);
    let (writer, body) = GrowingBody::new();
    let unfinished = Arc::new(StoredResponse {
        body,
        ..(*plain(0)).clone()
    });
    let refused = Inserted::Refused(Refusal::Incomplete);
    assert_eq!(store.insert(key(1), unfinished.clone()), refused);
    drop(writer);
    assert_eq!(store.insert(key(1), unfinished), refused);
    assert!(store.is_empty());
}

#[test]
fn invariant_5_a_fenced_response_is_not_stored() {
    let store = Store::new(MIB);
    let inserted = store.insert_if(key(1), plain(1), || false);
    assert_eq!(inserted, Inserted::Refused(Refusal::Fenced));
    assert!(store.is_empty());
}

#[test]
fn a_purge_changes_what_it_means_and_nothing_else() {
    let store = Store::new(16 * MIB);
    for number in 0..10 {
        store.insert(key(number), plain(100));
    }
    store.insert(key(3), response(7, by_x(1).1));
    let now = SystemTime::UNIX_EPOCH;
    let softened = store.change_where(|key, response| {
        if key.as_str().ends_with('1') {
            Change::Replace(Arc::new(response.made_stale(now)))
        } else {
            Change::Keep
        }
    });
    assert_eq!(softened, 1);
    let found = store.get(&key(1), &HeaderMap::new()).found().unwrap();
    assert!(!found.is_fresh(now));
    let removed = store.remove_where(|_, response| response.body.len_if_complete() == Some(7));
    assert_eq!(removed, 1);
    assert!(is_found(&store, 3), "the other variant stays");
    assert_eq!(store.remove_where(|_, _| true), 10);
    assert!(store.is_empty());
}

#[test]
fn a_sweep_of_one_hit_segments_does_not_displace_what_is_read_again_and_again() {
    const WORKING_SET: u64 = 60;
    const BODY_BYTES: usize = 8 * 1024;
    // Room for about 100 responses; sweeps of 400 pass between two reads of the working set.
    let capacity = 100 * (BODY_BYTES as u64 + 1024);
    let store = Store::new(capacity);
    let mut lru: VecDeque<u64> = VecDeque::new();
    let (mut hits, mut lru_hits) = (0, 0);
    let mut read = |number: u64, counts: bool| {
        if is_found(&store, number) {
            hits += u64::from(counts);
        } else {
            store.insert(key(number), plain(BODY_BYTES));
        }
        if let Some(at) = lru.iter().position(|n| *n == number) {
            lru.remove(at);
            lru_hits += u64::from(counts);
        } else if lru.len() == 100 {
            lru.pop_front();
        }
        lru.push_back(number);
    };
    const ROUNDS: u64 = 20;
    for _ in 0..3 {
        (0..WORKING_SET).for_each(|number| read(number, false));
    }
    for round in 0..ROUNDS {
        let sweep = 1_000_000 + round * 400;
        (sweep..sweep + 400).for_each(|number| read(number, false));
        (0..WORKING_SET).for_each(|number| read(number, true));
    }
    let asked = ROUNDS * WORKING_SET;
    assert_eq!(lru_hits, 0, "the reference loses everything");
    assert!(hits * 10 >= asked * 9, "{hits} of {asked} hit");
    assert!(store.evictions() > 0);
}

/// What may happen to a store; few keys and variants, so that they meet.
#[derive(Clone, Debug)]
enum Op {
    Insert(u64, Option<u64>, usize),
    Remove(u64),
    Get(u64, u64),
    RemoveLarge(u64),
    Grow(usize, u64),
    Release(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let body_bytes = prop_oneof![0usize..2000, 50_000usize..80_000];
    prop_oneof![
        6 => (0u64..30, prop::option::of(0u64..3), body_bytes)
            .prop_map(|(key, x, body_bytes)| Op::Insert(key, x, body_bytes)),
        1 => (0u64..30).prop_map(Op::Remove),
        4 => (0u64..30, 0u64..3).prop_map(|(key, x)| Op::Get(key, x)),
        1 => (0u64..80_000).prop_map(Op::RemoveLarge),
        2 => (0usize..4, 0u64..60_000).prop_map(|(fill, bytes)| Op::Grow(fill, bytes)),
        1 => (0usize..4).prop_map(Op::Release),
    ]
}

/// The reference: everything ever inserted and not removed, newest first, under each key.
type Reference = HashMap<u64, Vec<(Option<u64>, Arc<StoredResponse>)>>;

proptest! {
    #[test]
    fn the_store_returns_the_newest_or_has_evicted_it_and_stays_within_its_budget(
        ops in prop::collection::vec(op(), 0..200),
    ) {
        let store = Store::new(512 * 1024);
        let mut reference = Reference::new();
        let mut inserted = 0;
        let mut fills: [Option<Reservation<'_>>; 4] = Default::default();
        for op in ops {
            match op {
                Op::Insert(number, x, body_bytes) => {
                    let variant = x.map_or_else(Variant::default, |x| by_x(x).1);
                    inserted += 1;
                    let stored = Arc::new(StoredResponse {
                        response_time: SystemTime::UNIX_EPOCH + Duration::from_secs(inserted),
                        ..(*response(body_bytes, variant)).clone()
                    });
                    prop_assert_eq!(store.insert(key(number), stored.clone()), Inserted::Stored);
                    let under_key = reference.entry(number).or_default();
                    under_key.retain(|(old, _)| x.is_some() && *old != x);
                    under_key.insert(0, (x, stored));
                }
                Op::Remove(number) => {
                    store.remove(&key(number));
                    reference.remove(&number);
                }
                Op::Get(number, x) => {
                    let expected = reference.get(&number).and_then(|under_key| {
                        under_key.iter().find(|(old, _)| old.is_none() || *old == Some(x))
                    });
                    match (store.get(&key(number), &by_x(x).0).found(), expected) {
                        (Some(found), Some((_, stored))) => prop_assert_eq!(found.response_time, stored.response_time),
                        (Some(_), None) => prop_assert!(false, "found what was removed"),
                        (None, Some(_)) => prop_assert!(store.evictions() > 0, "lost"),
                        (None, None) => {}
                    }
                }
                Op::RemoveLarge(above) => {
                    let is_large = |r: &StoredResponse| r.body.len_if_complete() > Some(above);
                    store.remove_where(|_, response| is_large(response));
                    for under_key in reference.values_mut() {
                        under_key.retain(|(_, response)| !is_large(response));
                    }
                }
                Op::Grow(fill, bytes) => {
                    let before = store.growing_bytes();
                    let is_grown = match &mut fills[fill] {
                        Some(growing) => growing.grow(bytes).is_ok(),
                        place => store.growing(bytes).map(|growing| *place = Some(growing)).is_ok(),
                    };
                    prop_assert_eq!(is_grown, before + bytes <= store.growing_bytes_max());
                }
                Op::Release(fill) => fills[fill] = None,
            }
            let reserved = fills.iter().flatten().map(Reservation::bytes).sum::<u64>();
            prop_assert_eq!(store.growing_bytes(), reserved);
            prop_assert!(store.used_bytes() <= store.capacity_bytes());
            prop_assert!(store.capacity_bytes() <= 512 * 1024);
        }
    }
}
