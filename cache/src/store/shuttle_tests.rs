//! Searches the interleavings of fills that are stored, purges, and evictions.
//!
//! quick_cache locks by itself, unseen by shuttle; what is searched is everything between its operations:
//! the fence, the change locks and the index.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use shuttle::{check_random, thread};

use super::*;
use crate::body::GrowingBody;
use crate::fence::Fence;
use crate::purge::{Purge, PurgeTarget};
use crate::surrogate::SURROGATE_KEY;
use crate::variant::Variant;

const SCHEDULES: usize = 3_000;
/// Three such bodies do not fit into the store.
const BODY_BYTES: usize = 2000;
const CAPACITY_BYTES: u64 = 8 * 1024;

fn response(world: &'static str, body_bytes: usize) -> Arc<StoredResponse> {
    let mut headers = HeaderMap::new();
    headers.insert(SURROGATE_KEY, HeaderValue::from_static("tag"));
    headers.insert("world", HeaderValue::from_static(world));
    Arc::new(StoredResponse {
        status: StatusCode::OK,
        headers,
        body: GrowingBody::full(Bytes::from(vec![0; body_bytes])),
        variant: Variant::default(),
        response_time: SystemTime::UNIX_EPOCH,
        corrected_initial_age: Duration::ZERO,
        freshness_lifetime: Duration::from_secs(6),
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        must_revalidate: false,
    })
}

fn targets() -> [PurgeTarget; 3] {
    [
        PurgeTarget::SurrogateKeys(vec!["tag".to_owned()]),
        PurgeTarget::Host("h".to_owned()),
        PurgeTarget::All,
    ]
}

fn check_index(store: &Store) {
    let stored = store
        .cache
        .iter()
        .filter(|(_, variants)| !variants.is_ballast());
    store
        .index
        .check(&stored.map(|(key, variants)| (key, variants.id)).collect());
}

#[test]
fn shuttle_nothing_made_before_a_purge_is_found_in_the_store_after_it() {
    for (number, target) in targets().into_iter().enumerate() {
        check_random(
            move || {
                let store = Arc::new(Store::new(CAPACITY_BYTES));
                let fence: Arc<Fence<PurgeTarget>> = Arc::new(Fence::new(4));
                // What the origin answers; it changes before the operator purges.
                let origin = Arc::new(Mutex::new("old"));
                let fills: Vec<_> = ["//h/a", "//h/a", "//h/b"]
                    .into_iter()
                    .map(|key| {
                        let (store, fence, origin) = (store.clone(), fence.clone(), origin.clone());
                        thread::spawn(move || {
                            let mark = fence.mark();
                            let made = response(*origin.lock(), 10);
                            let key = CacheKey::from(key);
                            store.insert_if(key.clone(), made.clone(), || {
                                fence.lets_pass(mark, |target| target.means(&key, &made.headers))
                            });
                        })
                    })
                    .collect();
                *origin.lock() = "new";
                fence.raise(target.clone());
                let purge = match number {
                    0 => Purge::Soft {
                        now: SystemTime::UNIX_EPOCH,
                    },
                    _ => Purge::Hard,
                };
                store.purge(target.clone(), purge);
                for fill in fills {
                    fill.join().unwrap();
                }
                for key in ["//h/a", "//h/b"] {
                    if let Some(found) = store.get(&key.into(), &HeaderMap::new()).found() {
                        let is_fresh = found.is_fresh(SystemTime::UNIX_EPOCH);
                        assert!(found.headers["world"] == "new" || !is_fresh);
                    }
                }
                check_index(&store);
            },
            SCHEDULES,
        );
    }
}

#[test]
fn shuttle_the_index_knows_what_is_stored_after_any_race_of_inserts_purges_and_evictions() {
    check_random(
        || {
            let store = Arc::new(Store::new(CAPACITY_BYTES));
            let body = response("any", BODY_BYTES);
            let fills: Vec<_> = ["//h/a", "//h/b", "//h/a"]
                .into_iter()
                .map(|key| {
                    let (store, body) = (store.clone(), body.clone());
                    thread::spawn(move || {
                        store.insert(key.into(), body.clone());
                        store.insert("//h/c".into(), body);
                    })
                })
                .collect();
            let growing = {
                let store = store.clone();
                thread::spawn(move || drop(store.growing(CAPACITY_BYTES / 4)))
            };
            let [tagged, host, _] = targets();
            store.purge(
                tagged,
                Purge::Soft {
                    now: SystemTime::UNIX_EPOCH,
                },
            );
            store.purge(host, Purge::Hard);
            store.remove(&"//h/c".into());
            for fill in fills {
                fill.join().unwrap();
            }
            growing.join().unwrap();
            check_index(&store);
            assert!(store.used_bytes() <= CAPACITY_BYTES);
            store.purge(PurgeTarget::All, Purge::Hard);
            assert!(store.is_empty());
            check_index(&store);
        },
        SCHEDULES,
    );
}
