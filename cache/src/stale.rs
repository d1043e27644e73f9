//! What may be done with a stored response now: fresh, stale in some way, or not at all (RFC 9111
//! 4.2.4, RFC 5861).
//!
//! `node` judges every lookup that found something, and acts on the answer. Deliberately not here:
//! what counts as an error of a parent (`node` has the table), and revalidation itself
//! (`validation`).

use std::time::{Duration, SystemTime};

use crate::directives::{RequestDirectives, ResponseDirectives};
use crate::policy::Policy;
use crate::stored::StoredResponse;

/// For how long after its freshness lifetime a response may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StaleWindows {
    /// While it is revalidated (RFC 5861 3).
    pub while_revalidate: Duration,
    /// In place of an error (RFC 5861 4).
    pub if_error: Duration,
    /// Whether it must not be used stale in any other case either (RFC 9111 4.2.4).
    pub must_revalidate: bool,
}

/// Returns the stale windows of a response: what the origin says, else the policy, and never more
/// than the policy's ceiling (CA-23).
pub fn stale_windows(said: &ResponseDirectives, policy: &Policy) -> StaleWindows {
    let obeyed = !policy.ignore_cache_control;
    // RFC 9111 5.2.2.2, 5.2.2.4, 5.2.2.8, 5.2.2.10: all four forbid stale use without validation;
    // s-maxage does by implying proxy-revalidate. RFC 5861 windows that come with s-maxage are
    // the origin's explicit permission, which is the narrower word.
    let forbids = said.must_revalidate || said.proxy_revalidate || said.no_cache.is_response();
    if obeyed && forbids {
        return StaleWindows {
            must_revalidate: true,
            ..StaleWindows::default()
        };
    }
    let implies = obeyed && said.s_maxage.is_some();
    let window = |from_origin: Option<Duration>, from_policy: Duration| {
        let from_policy = if implies { Duration::ZERO } else { from_policy };
        from_origin
            .filter(|_| obeyed)
            .unwrap_or(from_policy)
            .min(policy.stale_ceiling)
    };
    StaleWindows {
        while_revalidate: window(said.stale_while_revalidate, policy.stale_while_revalidate),
        if_error: window(said.stale_if_error, policy.stale_if_error),
        must_revalidate: implies,
    }
}

/// What may be done with a stored response for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Serve it.
    Fresh,
    /// Serve it now, and revalidate meanwhile.
    WhileRevalidating,
    /// Revalidate first; serve it if that ends in an error.
    IfError,
    /// Revalidate first; an error is the answer.
    Revalidate,
}

/// Returns what may be done with a stored response at `now` (RFC 9111 4).
///
/// `asked` is what the request says; pass the default where viewers are not obeyed.
pub fn judge(stored: &StoredResponse, asked: &RequestDirectives, now: SystemTime) -> Use {
    let age = stored.age(now);
    let lifetime = stored.freshness_lifetime;
    // RFC 9111 5.2.1.1, 5.2.1.3, 5.2.1.4: the request may ask for less age, or for validation.
    let is_asked_for = !asked.no_cache
        && !asked.is_distrusting
        && asked.max_age.is_none_or(|max_age| age <= max_age)
        && asked
            .min_fresh
            .is_none_or(|min_fresh| lifetime.saturating_sub(age) >= min_fresh);
    let Some(staleness) = stored.staleness(now) else {
        // RFC 8246 2: while an immutable response is fresh, asking the origin again is pointless. A purge says
        // that it changed all the same.
        let may_be_believed = is_asked_for || stored.is_immutable();
        return if may_be_believed && !asked.is_distrusting {
            Use::Fresh
        } else {
            Use::IfError
        };
    };
    let is_within = |window: Duration| staleness < window;
    // RFC 9111 5.2.1.2: the request accepts a stale response, unless the response forbids it.
    let is_accepted = !stored.must_revalidate
        && asked
            .max_stale
            .is_some_and(|max_stale| staleness <= max_stale);
    if is_asked_for && is_accepted {
        return Use::Fresh;
    }
    if is_asked_for && is_within(stored.stale_while_revalidate) {
        Use::WhileRevalidating
    } else if is_within(stored.stale_if_error) {
        Use::IfError
    } else {
        Use::Revalidate
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;
    use crate::body::GrowingBody;
    use crate::variant::Variant;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn said(cache_control: &'static str) -> ResponseDirectives {
        let headers = HeaderMap::from_iter([(
            http::header::CACHE_CONTROL,
            HeaderValue::from_static(cache_control),
        )]);
        ResponseDirectives::of(&headers, &[])
    }

    fn asked(cache_control: &'static str) -> RequestDirectives {
        let headers = HeaderMap::from_iter([(
            http::header::CACHE_CONTROL,
            HeaderValue::from_static(cache_control),
        )]);
        RequestDirectives::of(&headers)
    }

    #[test]
    fn rfc_5861_windows_come_from_the_origin_then_the_policy_and_have_a_ceiling() {
        let policy = Policy {
            stale_while_revalidate: S(5),
            stale_if_error: S(6),
            stale_ceiling: S(60),
            ..Policy::default()
        };
        for (cache_control, expected) in [
            ("", (5, 6, false)),
            ("stale-while-revalidate=1", (1, 6, false)),
            ("stale-if-error=0", (5, 0, false)),
            ("stale-if-error=9999", (5, 60, false)),
            ("stale-if-error=9, must-revalidate", (0, 0, true)),
            ("stale-if-error=9, proxy-revalidate", (0, 0, true)),
            ("stale-if-error=9, no-cache", (0, 0, true)),
            ("stale-if-error=9, no-cache=\"a\"", (5, 9, false)),
            ("s-maxage=1", (0, 0, true)),
            ("s-maxage=1, stale-if-error=9", (0, 9, true)),
        ] {
            let windows = stale_windows(&said(cache_control), &policy);
            let found = (
                windows.while_revalidate.as_secs(),
                windows.if_error.as_secs(),
                windows.must_revalidate,
            );
            assert_eq!(found, expected, "{cache_control}");
        }
        let ignoring = Policy {
            ignore_cache_control: true,
            ..policy
        };
        let windows = stale_windows(&said("must-revalidate, stale-if-error=9"), &ignoring);
        assert_eq!((windows.if_error, windows.must_revalidate), (S(6), false));
    }

    #[test]
    fn rfc_9111_4_a_response_is_used_fresh_then_in_its_windows_then_not() {
        let stored = StoredResponse {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: GrowingBody::full(Bytes::new()),
            variant: Variant::default(),
            response_time: SystemTime::UNIX_EPOCH,
            corrected_initial_age: Duration::ZERO,
            freshness_lifetime: S(10),
            stale_while_revalidate: S(5),
            stale_if_error: S(20),
            must_revalidate: false,
        };
        for (age, request, expected) in [
            (0, "", Use::Fresh),
            (9, "", Use::Fresh),
            (10, "", Use::WhileRevalidating),
            (14, "", Use::WhileRevalidating),
            (15, "", Use::IfError),
            (29, "", Use::IfError),
            (30, "", Use::Revalidate),
            (3, "no-cache", Use::IfError),
            (12, "no-cache", Use::IfError),
            (3, "max-age=3", Use::Fresh),
            (4, "max-age=3", Use::IfError),
            (6, "min-fresh=4", Use::Fresh),
            (7, "min-fresh=4", Use::IfError),
            (40, "max-stale", Use::Fresh),
            (13, "max-stale=3", Use::Fresh),
            (14, "max-stale=3", Use::WhileRevalidating),
            (40, "max-stale, max-age=9", Use::Revalidate),
        ] {
            let now = SystemTime::UNIX_EPOCH + S(age);
            assert_eq!(
                judge(&stored, &asked(request), now),
                expected,
                "{age} s, {request}"
            );
        }
        let immutable = HeaderMap::from_iter([(
            http::header::CACHE_CONTROL,
            HeaderValue::from_static("max-age=10, immutable"),
        )]);
        let immutable = StoredResponse {
            headers: immutable,
            ..stored.clone()
        };
        let at = |age| SystemTime::UNIX_EPOCH + S(age);
        assert_eq!(judge(&immutable, &asked("no-cache"), at(9)), Use::Fresh);
        assert_eq!(judge(&immutable, &asked("no-cache"), at(10)), Use::IfError);
        let strict = StoredResponse {
            must_revalidate: true,
            stale_while_revalidate: S(0),
            stale_if_error: S(0),
            ..stored
        };
        let now = SystemTime::UNIX_EPOCH + S(11);
        assert_eq!(judge(&strict, &asked("max-stale"), now), Use::Revalidate);
    }
}
