//! Compares what we make of a response with `http-cache-semantics`, an independent reading of RFC
//! 9111.
//!
//! Only where both mean to say the same: well-formed directives, success, no cookies. Left out is
//! what that crate decides differently on purpose (`proxy-revalidate` as never fresh).

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cache::{Arrival, Exchanged, GrowingBody, Policy, StoredResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_cache_semantics::{CacheOptions, CachePolicy};
use proptest::prelude::*;

/// When the response is asked for and arrives, in seconds of Unix time.
const NOW: u64 = 1_700_000_000;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn directive() -> impl Strategy<Value = String> {
    prop_oneof![
        (0u32..1000).prop_map(|seconds| format!("max-age={seconds}")),
        (0u32..1000).prop_map(|seconds| format!("s-maxage={seconds}")),
        prop::sample::select(vec![
            "public",
            "private",
            "no-store",
            "no-cache",
            "must-revalidate",
            "x-unknown",
            "x=\"quoted, no-store\"",
        ])
        .prop_map(str::to_owned),
    ]
}

/// Fields of a response: Cache-Control, and seconds of Expires after now, and Age.
fn response() -> impl Strategy<Value = HeaderMap> {
    let directives = prop::collection::btree_set(directive(), 0..4);
    let expires = prop::option::of(-1000i64..1000);
    let age = prop::option::of(0u32..500);
    (directives, expires, age).prop_filter_map(
        "one lifetime of a kind",
        |(directives, expires, age)| {
            let of_kind = |kind: &str| directives.iter().filter(|d| d.starts_with(kind)).count();
            if of_kind("max-age") > 1 || of_kind("s-maxage") > 1 {
                return None;
            }
            let mut fields = HeaderMap::new();
            let mut insert = |name: &'static str, value: String| {
                let value = HeaderValue::try_from(value).expect("printable");
                fields.insert(HeaderName::from_static(name), value);
            };
            insert("date", httpdate::fmt_http_date(at(NOW)));
            if !directives.is_empty() {
                let directives: Vec<_> = directives.into_iter().collect();
                insert("cache-control", directives.join(", "));
            }
            if let Some(after) = expires {
                let expires = at(NOW.checked_add_signed(after)?);
                insert("expires", httpdate::fmt_http_date(expires));
            }
            if let Some(age) = age {
                insert("age", age.to_string());
            }
            Some(fields)
        },
    )
}

proptest! {
    #[test]
    fn we_and_an_independent_reading_agree_on_how_long_a_response_is_fresh(
        fields in response(),
        is_authorized: bool,
    ) {
        let mut request = Request::get("https://live.example/a").body(()).unwrap();
        if is_authorized {
            let bearer = HeaderValue::from_static("Bearer x");
            request.headers_mut().insert("authorization", bearer);
        }
        let mut answered = Response::builder().status(200).body(()).unwrap();
        *answered.headers_mut() = fields.clone();
        let options = CacheOptions {
            shared: true,
            cache_heuristic: 0.0,
            immutable_min_time_to_live: Duration::ZERO,
            ignore_cargo_cult: false,
        };
        let theirs = CachePolicy::new_options(&request, &answered, at(NOW), options);
        let ours = StoredResponse::of(
            Exchanged {
                method: &Method::GET,
                request: request.headers(),
                status: StatusCode::OK,
                response: &fields,
            },
            GrowingBody::full(Bytes::new()),
            &Arrival::new(at(NOW), at(NOW)),
            &Policy::default(),
        );
        let their_ttl = if theirs.is_storable() {
            theirs.time_to_live(at(NOW)).as_secs()
        } else {
            0
        };
        let our_ttl = ours.map_or(0, |stored| stored.ttl(at(NOW)).max(0) as u64);
        prop_assert_eq!(our_ttl, their_ttl, "{:?}", fields);
    }
}
