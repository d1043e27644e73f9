//! Purges through the index, against a walk over all that is stored.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::VARY;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::body::GrowingBody;
use crate::purge::{Purge, PurgeTarget, Purged};
use crate::surrogate::{CACHE_GROUPS, SURROGATE_KEY};
use crate::variant::Variant;

const START: SystemTime = SystemTime::UNIX_EPOCH;
const SOFT: Purge = Purge::Soft { now: START };
const X: HeaderName = HeaderName::from_static("x");

/// A fresh response with a body of ten bytes, with these surrogate keys, for requests with this `x`.
fn response(surrogate_keys: &str, x: Option<u64>) -> Arc<StoredResponse> {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(surrogate_keys).expect("visible text");
    headers.insert(SURROGATE_KEY, value);
    if x.is_some() {
        headers.insert(VARY, HeaderValue::from_static("x"));
    }
    let request: HeaderMap = x.map(|x| (X, HeaderValue::from(x))).into_iter().collect();
    Arc::new(StoredResponse {
        status: StatusCode::OK,
        variant: Variant::of(&headers, &request, &[]).expect("x can be selected by"),
        headers,
        body: GrowingBody::full(Bytes::from_static(b"0123456789")),
        response_time: START,
        corrected_initial_age: Duration::ZERO,
        freshness_lifetime: Duration::from_secs(6),
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        must_revalidate: false,
    })
}

fn tags(keys: &[&str]) -> PurgeTarget {
    PurgeTarget::SurrogateKeys(keys.iter().map(|key| (*key).to_owned()).collect())
}

fn url(key: &str) -> PurgeTarget {
    PurgeTarget::Url {
        key: key.into(),
        besides: vec!["_HLS_msn".to_owned()],
    }
}

fn prefix(host: &str, path: &str) -> PurgeTarget {
    PurgeTarget::Prefix {
        host: host.to_owned(),
        path: path.to_owned(),
    }
}

impl Store {
    /// Returns every response that is stored.
    fn all(&self) -> Vec<(CacheKey, Arc<StoredResponse>)> {
        let variants = self.cache.iter().collect::<Vec<_>>();
        let each = |(key, variants): &(CacheKey, Arc<Variants>)| {
            let key = key.clone();
            let responses: Vec<_> = variants.iter().cloned().map(Arc::new).collect();
            responses
                .into_iter()
                .map(move |response| (key.clone(), response))
        };
        variants.iter().flat_map(each).collect()
    }

    /// Asserts that the index knows what is stored, and nothing else.
    pub(super) fn check(&self) {
        let stored = self
            .cache
            .iter()
            .filter(|(_, variants)| !variants.is_ballast());
        let ids: HashMap<_, _> = stored.map(|(key, variants)| (key, variants.id)).collect();
        self.index.check(&ids);
    }
}

#[test]
fn a_purge_by_surrogate_key_finds_every_variant_that_carries_it_and_no_other() {
    let store = Store::new(1 << 20);
    store.insert("//h/a".into(), response("one two", Some(1)));
    store.insert("//h/a".into(), response("two three", Some(2)));
    store.insert("//h/b".into(), response("three", None));
    let mut grouped = (*response("", None)).clone();
    grouped
        .headers
        .insert(CACHE_GROUPS, HeaderValue::from_static("\"three\""));
    store.insert("//h/c".into(), Arc::new(grouped));
    let purged = |responses| Purged {
        responses,
        body_bytes: responses * 10,
    };
    assert_eq!(store.purgeable(tags(&["three"])), purged(3));
    assert_eq!(store.purgeable(tags(&["two", "three", "two"])), purged(4));
    assert_eq!(store.purge(tags(&["one"]), Purge::Hard), purged(1));
    assert_eq!(
        store.purge(tags(&["one"]), Purge::Hard),
        purged(0),
        "twice is harmless"
    );
    assert_eq!(store.purge(tags(&["two", "three"]), SOFT), purged(3));
    assert!(
        store
            .all()
            .iter()
            .all(|(_, response)| !response.is_fresh(START))
    );
    assert_eq!(
        store.purge(tags(&["three"]), Purge::Hard),
        purged(3),
        "soft purges keep the keys"
    );
    assert!(store.is_empty());
    store.check();
}

#[test]
fn a_purge_of_a_url_finds_its_delivery_directives_and_its_query_only() {
    let store = Store::new(1 << 20);
    for key in [
        "//h/a",
        "//h/a?_HLS_msn=1",
        "//h/a?_HLS_msn=1&b=2",
        "//h/a?b=2",
        "//h/ab",
        "//h/a/",
    ] {
        store.insert(key.into(), response("", None));
    }
    assert_eq!(store.purgeable(url("//h/a")).responses, 2);
    assert_eq!(store.purge(url("//h/a?b=2"), SOFT).responses, 2);
    assert_eq!(store.purge(url("//h/a"), Purge::Hard).responses, 2);
    assert_eq!(store.len(), 4);
    store.check();
}

#[test]
fn a_soft_purge_keeps_what_is_stale_for_its_windows_and_a_new_response_is_fresh() {
    let store = Store::new(1 << 20);
    let mut kept = (*response("one", None)).clone();
    kept.stale_while_revalidate = Duration::from_secs(30);
    store.insert("//h/a".into(), Arc::new(kept));
    store.purge(PurgeTarget::All, SOFT);
    let found = store.get(&"//h/a".into(), &HeaderMap::new()).found();
    let found = found.expect("a soft purge removes nothing");
    assert!(!found.is_fresh(START));
    assert_eq!(found.stale_while_revalidate.as_secs(), 30);
    store.insert("//h/a".into(), response("two", None));
    assert_eq!(
        store.purgeable(tags(&["one"])).responses,
        0,
        "it was replaced"
    );
    assert_eq!(store.purgeable(tags(&["two"])).responses, 1);
    assert_eq!(store.evictions(), 0, "replacing is no eviction");
    store.check();
}

#[test]
fn a_purge_of_more_than_one_step_misses_nothing() {
    let store = Store::new(64 << 20);
    for number in 0..2000_u64 {
        let key = format!("//h{}/{}/{number}", number % 2, number % 10);
        store.insert(key.into(), response("all", None));
    }
    assert_eq!(store.purgeable(tags(&["all"])).responses, 2000);
    let mut seen = 0;
    store.look(prefix("h0", "/4/"), |key, _| {
        assert!(key.as_str().starts_with("//h0/4/"));
        seen += 1;
    });
    assert_eq!(seen, 200);
    assert_eq!(store.purge(tags(&["all"]), SOFT).responses, 2000);
    assert_eq!(store.purge(prefix("h0", "/4/"), Purge::Hard).responses, 200);
    let host = || PurgeTarget::Host("h1".to_owned());
    let mut purging = store.purging(host(), Purge::Hard);
    assert!(purging.step(), "a step is a part");
    assert!((1..1000).contains(&purging.purged().responses));
    drop(purging);
    assert!(store.purge(host(), Purge::Hard).responses < 1000);
    assert_eq!(store.purge(tags(&["all"]), Purge::Hard).responses, 800);
    assert!(store.is_empty());
    store.check();
}

/// What may happen; few keys and tags, so that they meet, in a store that evicts.
#[derive(Clone, Debug)]
enum Op {
    Insert(String, String, Option<u64>),
    Remove(String),
    Purge(PurgeTarget, bool),
    Grow(u64),
}

fn a_key() -> impl Strategy<Value = String> {
    (0..2, 0..3, 0..6, 0..3_usize).prop_map(|(host, directory, file, query)| {
        let query = ["", "?_HLS_msn=7", "?q=1"][query];
        format!("//h{host}/{directory}/{file}{query}")
    })
}

fn a_target() -> impl Strategy<Value = PurgeTarget> {
    prop_oneof![
        2 => a_key().prop_map(|key| url(&key)),
        2 => (0..3, 0..4).prop_map(|(host, path)| prefix(&format!("h{host}"), &format!("/{path}/"))),
        1 => (0..3).prop_map(|host| PurgeTarget::Host(format!("h{host}"))),
        4 => prop::collection::vec(0..8, 1..3).prop_map(|numbers| {
            PurgeTarget::SurrogateKeys(numbers.iter().map(|n| format!("t{n}")).collect())
        }),
        1 => Just(PurgeTarget::All),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let surrogate_keys = prop::collection::vec(0..8, 0..4).prop_map(|numbers| {
        let keys: Vec<_> = numbers.iter().map(|n| format!("t{n}")).collect();
        keys.join(" ")
    });
    prop_oneof![
        12 => (a_key(), surrogate_keys, prop::option::of(0..3_u64))
            .prop_map(|(key, tags, x)| Op::Insert(key, tags, x)),
        1 => a_key().prop_map(Op::Remove),
        3 => (a_target(), any::<bool>()).prop_map(|(target, is_soft)| Op::Purge(target, is_soft)),
        1 => (0..20_000_u64).prop_map(Op::Grow),
    ]
}

proptest! {
    #[test]
    fn the_index_agrees_with_a_walk_after_anything(ops in prop::collection::vec(op(), 0..200)) {
        let store = Store::new(40 * 1024);
        for op in ops {
            match op {
                Op::Insert(key, tags, x) => {
                    store.insert(key.into(), response(&tags, x));
                }
                Op::Remove(key) => {
                    store.remove(&key.into());
                }
                Op::Grow(bytes) => drop(store.growing(bytes)),
                Op::Purge(target, is_soft) => {
                    let before = store.all();
                    let is_meant = |(key, response): &&(CacheKey, Arc<StoredResponse>)| {
                        target.means(key, &response.headers)
                    };
                    let meant = before.iter().filter(is_meant).count();
                    let purged = Purged { responses: meant as u64, body_bytes: meant as u64 * 10 };
                    prop_assert_eq!(store.purgeable(target.clone()), purged);
                    let mut seen = 0;
                    store.look(target.clone(), |_, _| seen += 1);
                    prop_assert_eq!(seen, meant);
                    let purge = if is_soft { SOFT } else { Purge::Hard };
                    prop_assert_eq!(store.purge(target.clone(), purge), purged);
                    let after = store.all();
                    let kept = if is_soft { before.len() } else { before.len() - meant };
                    prop_assert_eq!(after.len(), kept);
                    prop_assert!(after.iter().filter(is_meant).all(|(_, r)| !r.is_fresh(START)));
                }
            }
            store.check();
        }
    }
}
