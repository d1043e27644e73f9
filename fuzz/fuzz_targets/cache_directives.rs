//! `Cache-Control`, targeted fields, `Vary`, `Age`, dates and `Expires` of an origin, from the head
//! to the lifetime.
#![no_main]

use std::time::{Duration, SystemTime};

use cache::{Arrival, Exchanged, GrowingBody, Policy, RequestDirectives, StoredResponse};
use http::header::{
    AGE, CACHE_CONTROL, CONNECTION, DATE, EXPIRES, HeaderMap, HeaderName, HeaderValue,
    LAST_MODIFIED, PRAGMA, VARY,
};
use http::{Method, StatusCode};
use libfuzzer_sys::fuzz_target;

const NAMES: [HeaderName; 8] = [
    CACHE_CONTROL,
    HeaderName::from_static("cdn-cache-control"),
    VARY,
    AGE,
    DATE,
    EXPIRES,
    LAST_MODIFIED,
    CONNECTION,
];

fuzz_target!(|input: (Vec<(u8, &[u8])>, &[u8], u64)| {
    let (lines, asked, seconds) = input;
    let mut response = HeaderMap::new();
    for (name, value) in lines {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            response.append(NAMES[usize::from(name) % NAMES.len()].clone(), value);
        }
    }
    let mut request = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(asked) {
        request.insert(CACHE_CONTROL, value.clone());
        request.insert(PRAGMA, value);
    }
    let directives = RequestDirectives::of(&request);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds % (1 << 40));
    let exchanged = Exchanged {
        method: &Method::GET,
        request: &request,
        status: StatusCode::OK,
        response: &response,
    };
    let policy = Policy {
        obeys_request_directives: true,
        trusts_date: true,
        ..Policy::default()
    };
    let body = GrowingBody::full(bytes::Bytes::new());
    let arrival = Arrival::new(now, now);
    let Ok(stored) = StoredResponse::of(exchanged, body, &arrival, &policy) else {
        return;
    };
    assert!(!stored.headers.contains_key(AGE));
    assert!(
        stored.variant.matches(&request),
        "it answers its own request"
    );
    assert_eq!(stored.is_fresh(now), stored.staleness(now).is_none());
    let _judged = cache::judge(&stored, &directives, now);
    if let Ok(renewed) = stored.revalidated(&request, &response, &arrival, &policy) {
        assert_eq!(renewed.freshness_lifetime, stored.freshness_lifetime);
        assert_eq!(renewed.age(now), stored.age(now));
    }
});
