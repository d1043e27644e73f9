//! Conditions and content codings of a viewer, entity tags and `Vary` of an origin.
#![no_main]

use std::time::{Duration, SystemTime};

use cache::validation::{EntityTag, evaluate, if_range_holds, is_about, not_modified_fields};
use cache::variant::normalized_accept_encoding;
use cache::{GrowingBody, StoredResponse, Variant};
use http::header::{
    ACCEPT_ENCODING, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, VARY,
};
use http::{Method, StatusCode};
use libfuzzer_sys::fuzz_target;

const ASKED: [HeaderName; 4] = [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE, ACCEPT_ENCODING];
const SAID: [HeaderName; 4] = [ETAG, LAST_MODIFIED, DATE, VARY];

fn fields(names: &[HeaderName; 4], lines: Vec<(u8, &[u8])>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            fields.append(names[usize::from(name) % names.len()].clone(), value);
        }
    }
    fields
}

fuzz_target!(|input: (Vec<(u8, &[u8])>, Vec<(u8, &[u8])>)| {
    let request = fields(&ASKED, input.0);
    let headers = fields(&SAID, input.1);
    let codings = normalized_accept_encoding(&request);
    let mut again = HeaderMap::new();
    again.insert(ACCEPT_ENCODING, HeaderValue::from_static(codings));
    assert_eq!(normalized_accept_encoding(&again), codings);
    let Some(variant) = Variant::of(&headers, &request, &[]) else {
        return;
    };
    assert!(variant.matches(&request));
    if let Some(tag) = EntityTag::of(&headers) {
        assert!(tag.matches_weakly(&tag));
    }
    assert!(is_about(&headers, &headers));
    let _is_whole = if_range_holds(&request, &headers);
    let _sent = not_modified_fields(&headers);
    let stored = StoredResponse {
        status: StatusCode::OK,
        headers,
        body: GrowingBody::full(bytes::Bytes::new()),
        variant,
        response_time: SystemTime::UNIX_EPOCH,
        corrected_initial_age: Duration::ZERO,
        freshness_lifetime: Duration::ZERO,
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        must_revalidate: false,
    };
    let _condition = evaluate(&Method::GET, &request, &stored);
});
