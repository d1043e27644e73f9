//! A response the cache keeps, and what can be said about it at a given time.
//!
//! `node` builds one when the head of a response has arrived, shares it while its body fills, and
//! offers it to the store when the body has ended; every request served from it asks for its age.
//! Deliberately not here: how its lifetimes are found (`freshness`, `stale`) and whether it may be
//! stored (`storable`); this file only puts them together.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, StatusCode};

use crate::body::{CHUNK_BYTES_MAX, GrowingBody};
use crate::codings::Codings;
use crate::directives::ResponseDirectives;
use crate::fields;
use crate::freshness::{Arrival, freshness_lifetime};
use crate::policy::Policy;
use crate::stale::stale_windows;
use crate::storable::{Exchanged, Storable, Uncacheable, storable};
use crate::variant::Variant;

/// A response the cache keeps, or will keep once its body is complete.
///
/// Cloning is cheap but for the headers; the body is shared.
#[derive(Clone, Debug)]
pub struct StoredResponse {
    /// The status, never a 1xx, 206 or 304.
    pub status: StatusCode,
    /// End-to-end fields; hop-by-hop fields and those an operator strips are gone.
    pub headers: HeaderMap,
    /// The body; the store takes it only when it is complete.
    pub body: GrowingBody,
    /// The request fields that select this response.
    pub variant: Variant,
    /// When the head arrived (RFC 9111 4.2.3, `response_time`).
    pub response_time: SystemTime,
    /// How old the response was when its head arrived (RFC 9111 4.2.3).
    pub corrected_initial_age: Duration,
    /// How old the response may become and still be fresh (RFC 9111 4.2.1).
    pub freshness_lifetime: Duration,
    /// How long after that it may be served while it is revalidated (RFC 5861 3).
    pub stale_while_revalidate: Duration,
    /// How long after that it may replace an error (RFC 5861 4).
    pub stale_if_error: Duration,
    /// Whether it must not be served stale at all (RFC 9111 5.2.2.2, 5.2.2.8, 5.2.2.10), or not
    /// without revalidation (`no-cache`, RFC 9111 5.2.2.4, which also makes its lifetime zero).
    pub must_revalidate: bool,
}

impl StoredResponse {
    /// Returns the response that an exchange brought, if it may be stored (RFC 9111 3).
    ///
    /// `body` may still be filling: share the result with those who wait, and insert it into the
    /// store when the body is complete.
    ///
    /// # Errors
    ///
    /// Why it may not be stored.
    pub fn of(
        exchanged: Exchanged<'_>,
        body: GrowingBody,
        arrival: &Arrival,
        policy: &Policy,
    ) -> Result<Self, Uncacheable> {
        let Exchanged {
            status, response, ..
        } = exchanged;
        let said = ResponseDirectives::of(response, &policy.targeted_fields);
        let response_time = arrival.response_time;
        let found = freshness_lifetime(status, response, &said, policy, response_time);
        let variant = match storable(exchanged, &said, found.lifetime, policy) {
            Storable::Storable(variant) => variant,
            Storable::Uncacheable(reason) => return Err(reason),
        };
        let windows = stale_windows(&said, policy);
        Ok(Self {
            status,
            headers: fields::kept(response, &said),
            body,
            variant,
            response_time,
            corrected_initial_age: arrival.corrected_initial_age(response, policy.trusts_date),
            freshness_lifetime: found.lifetime,
            stale_while_revalidate: windows.while_revalidate,
            stale_if_error: windows.if_error,
            must_revalidate: windows.must_revalidate,
        })
    }

    /// Returns this response as a 304 leaves it (RFC 9111 4.3.4): fields updated, age counted
    /// anew, the same body.
    ///
    /// Ask [`is_about`](crate::validation::is_about) first. `request` is the one that was answered.
    ///
    /// # Errors
    ///
    /// Why the updated response may not be stored any more; it may still answer the requests that
    /// waited for the revalidation.
    pub fn revalidated(
        &self,
        request: &HeaderMap,
        not_modified: &HeaderMap,
        arrival: &Arrival,
        policy: &Policy,
    ) -> Result<Self, Uncacheable> {
        let response = fields::updated(&self.headers, not_modified);
        let exchanged = Exchanged {
            method: &Method::GET,
            request,
            status: self.status,
            response: &response,
        };
        Self::of(exchanged, self.body.clone(), arrival, policy)
    }

    /// Returns the age of the stored response at `now` (RFC 9111 4.2.3, `current_age`).
    ///
    /// A clock that went back since the response arrived adds nothing.
    pub fn age(&self, now: SystemTime) -> Duration {
        let resident_time = now.duration_since(self.response_time).unwrap_or_default();
        self.corrected_initial_age.saturating_add(resident_time)
    }

    /// Returns whether the response is fresh at `now` (RFC 9111 4.2).
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        self.freshness_lifetime > self.age(now)
    }

    /// Returns whether the origin promises not to change the response while it is fresh (RFC 8246).
    ///
    /// Read from the fields each time: it matters only to requests that ask for validation.
    pub fn is_immutable(&self) -> bool {
        ResponseDirectives::of(&self.headers, &[]).immutable
    }

    /// Returns for how long the response has been stale at `now`; `None` if it is fresh.
    pub fn staleness(&self, now: SystemTime) -> Option<Duration> {
        self.age(now).checked_sub(self.freshness_lifetime)
    }

    /// Returns the seconds left until the response is stale, negative if it is (RFC 9211 2.4).
    pub fn ttl(&self, now: SystemTime) -> i64 {
        let lifetime_ms = i128::try_from(self.freshness_lifetime.as_millis()).unwrap_or(i128::MAX);
        let age_ms = i128::try_from(self.age(now).as_millis()).unwrap_or(i128::MAX);
        let ttl = lifetime_ms.saturating_sub(age_ms).div_euclid(1000);
        ttl.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }

    /// Returns this response as a soft purge at `now` leaves it: stale, and served only while it
    /// is revalidated or instead of an error.
    ///
    /// It is its age that grows, not its lifetime that shrinks: caches further down read both, and must not take
    /// what they are given meanwhile for fresh.
    #[must_use]
    pub fn made_stale(&self, now: SystemTime) -> Self {
        let left = self.freshness_lifetime.saturating_sub(self.age(now));
        Self {
            corrected_initial_age: self.corrected_initial_age.saturating_add(left),
            ..self.clone()
        }
    }

    /// Returns the memory the response takes, in bytes: body, fields and bookkeeping.
    ///
    /// What the coded forms of a text may come to is counted at once: a weight does not change.
    pub fn weight_bytes(&self) -> u64 {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD_BYTES)
            .sum();
        let body = self.body.progress().received;
        let codings = self.body.codings().map_or(0, |_| Codings::bytes_max(body));
        let chunks = body.div_ceil(CHUNK_BYTES_MAX as u64);
        let asked_for = body
            .saturating_add(codings)
            .saturating_add(chunks * CHUNK_OVERHEAD_BYTES)
            .saturating_add(headers as u64)
            .saturating_add(self.variant.weight_bytes())
            .saturating_add(RESPONSE_OVERHEAD_BYTES);
        asked_for.saturating_add(asked_for / ALLOCATOR_SHARE)
    }
}

/// What a field costs beside its text: name, value, links and an index slot of the
/// header map, and the text of a name that is not a well-known one.
const FIELD_OVERHEAD_BYTES: usize = 128;

/// What a chunk of a body costs beside its bytes: a place in the list, and the count of who reads it.
const CHUNK_OVERHEAD_BYTES: u64 = 96;

/// An eighth more is what the allocator takes: blocks are rounded up, and pages are not always full.
/// Measured (`benches/memory.rs`): 3 to 15 percent while sizes stay as they are.
const ALLOCATOR_SHARE: u64 = 8;

/// What a response costs beside body and fields: this struct, the shared body and its chunk list.
const RESPONSE_OVERHEAD_BYTES: u64 = 512;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn response(initial_age_ms: u64, lifetime_ms: u64) -> StoredResponse {
        StoredResponse {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: GrowingBody::full(Bytes::from_static(b"0123456789")),
            variant: Variant::default(),
            response_time: START + Duration::from_secs(100),
            corrected_initial_age: Duration::from_millis(initial_age_ms),
            freshness_lifetime: Duration::from_millis(lifetime_ms),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            must_revalidate: false,
        }
    }

    #[test]
    fn rfc_9111_4_2_age_grows_with_time_and_freshness_ends_exactly_at_the_lifetime() {
        // (initial age ms, lifetime ms, ms since it arrived) -> (age ms, is fresh, ttl s)
        for ((initial, lifetime, since), (age, is_fresh, ttl)) in [
            ((0, 4000, 0), (0, true, 4)),
            ((0, 4000, 1), (1, true, 3)),
            ((0, 4000, 3999), (3999, true, 0)),
            ((0, 4000, 4000), (4000, false, 0)),
            ((0, 4000, 4001), (4001, false, -1)),
            ((1500, 4000, 1000), (2500, true, 1)),
            ((5000, 4000, 0), (5000, false, -1)),
            ((0, 0, 0), (0, false, 0)),
        ] {
            let response = response(initial, lifetime);
            let now = response.response_time + Duration::from_millis(since);
            let case = (initial, lifetime, since);
            assert_eq!(response.age(now).as_millis(), age, "{case:?}");
            assert_eq!(response.is_fresh(now), is_fresh, "{case:?}");
            assert_eq!(response.ttl(now), ttl, "{case:?}");
            assert_eq!(response.staleness(now).is_none(), is_fresh, "{case:?}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_makes_nothing_younger_than_it_arrived() {
        assert_eq!(response(700, 4000).age(START).as_millis(), 700);
    }

    #[test]
    fn the_coded_forms_of_a_text_are_counted_before_they_are_made() {
        let mut response = response(0, 0);
        let plain = response.weight_bytes();
        response.body = GrowingBody::text(Bytes::from_static(b"0123456789"));
        let reserved = response.weight_bytes();
        assert!(reserved >= plain + Codings::bytes_max(10));
        let codings = response.body.codings().unwrap();
        drop(codings.form(crate::Coding::Gzip));
        assert_eq!(response.weight_bytes(), reserved);
    }

    #[test]
    fn extreme_durations_do_not_overflow() {
        let mut response = response(0, 0);
        response.corrected_initial_age = Duration::MAX;
        response.freshness_lifetime = Duration::MAX;
        let now = response.response_time + Duration::from_secs(1);
        assert_eq!(response.age(now), Duration::MAX);
        assert!(!response.is_fresh(now));
        assert_eq!(response.ttl(now), 0);
        response.corrected_initial_age = Duration::ZERO;
        assert_eq!(response.ttl(now), i64::MAX);
    }

    #[test]
    fn a_soft_purge_makes_a_fresh_response_stale_and_a_stale_one_no_fresher() {
        let now = START + Duration::from_secs(101);
        for lifetime_ms in [4000, 500] {
            let purged = response(0, lifetime_ms).made_stale(now);
            assert!(!purged.is_fresh(now));
            let expected = lifetime_ms.max(1000).into();
            assert_eq!(
                purged.age(now).as_millis(),
                expected,
                "as who reads it sees"
            );
            assert_eq!(purged.freshness_lifetime.as_millis(), lifetime_ms.into());
        }
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (
                http::HeaderName::from_static(name),
                http::HeaderValue::from_static(value),
            )
        };
        lines.iter().map(line).collect()
    }

    fn fetched(lines: &[(&'static str, &'static str)]) -> Result<StoredResponse, Uncacheable> {
        let exchanged = Exchanged {
            method: &Method::GET,
            request: &HeaderMap::new(),
            status: StatusCode::OK,
            response: &headers(lines),
        };
        let body = GrowingBody::full(Bytes::from_static(b"body"));
        StoredResponse::of(
            exchanged,
            body,
            &Arrival::new(START, START),
            &Policy::default(),
        )
    }

    #[test]
    fn an_exchange_becomes_a_response_with_its_age_lifetime_and_windows() {
        let stored = fetched(&[
            ("cache-control", "max-age=60, stale-if-error=9"),
            ("age", "5"),
            ("connection", "close"),
        ])
        .unwrap();
        assert_eq!(stored.age(START).as_secs(), 5);
        assert_eq!(stored.ttl(START), 55);
        assert_eq!(stored.stale_if_error.as_secs(), 9);
        assert!(
            !stored.headers.contains_key("age"),
            "it would be sent twice"
        );
        assert!(!stored.headers.contains_key("connection"));
        let refused = fetched(&[("cache-control", "private")]).unwrap_err();
        assert_eq!(refused, Uncacheable::Private);
    }

    #[test]
    fn rfc_9111_4_3_4_a_304_renews_the_lifetime_and_keeps_the_body() {
        let stored = fetched(&[
            ("cache-control", "max-age=1"),
            ("etag", "\"a\""),
            ("age", "1"),
        ])
        .unwrap();
        let later = START + Duration::from_secs(100);
        let arrival = Arrival::new(later, later);
        let renew = |lines| {
            stored.revalidated(
                &HeaderMap::new(),
                &headers(lines),
                &arrival,
                &Policy::default(),
            )
        };
        let same = renew(&[("etag", "\"a\"")]).unwrap();
        assert_eq!(same.ttl(later), 1, "age starts at zero again");
        assert_eq!(same.body.len_if_complete(), Some(4));
        let longer = renew(&[("cache-control", "max-age=9"), ("age", "2")]).unwrap();
        assert_eq!(longer.ttl(later), 7);
        assert!(!longer.headers.contains_key("age"));
        let forbidden = renew(&[("cache-control", "no-store")]).unwrap_err();
        assert_eq!(forbidden, Uncacheable::NoStore);
        let hidden = renew(&[("cache-control", "no-cache=\"cache-control\", no-store")]);
        assert_eq!(hidden.unwrap_err(), Uncacheable::NoStore);
    }

    #[test]
    fn the_weight_counts_body_and_fields() {
        let bare = response(0, 0);
        let mut with_field = bare.clone();
        with_field
            .headers
            .insert("etag", http::HeaderValue::from_static("\"abc\""));
        let with_slack = |bytes: u64| bytes + bytes / ALLOCATOR_SHARE;
        let overhead_bytes = CHUNK_OVERHEAD_BYTES + RESPONSE_OVERHEAD_BYTES;
        assert_eq!(bare.weight_bytes(), with_slack(10 + overhead_bytes));
        let field_bytes = 4 + 5 + FIELD_OVERHEAD_BYTES as u64;
        assert_eq!(
            with_field.weight_bytes(),
            with_slack(10 + overhead_bytes + field_bytes)
        );
    }
}
