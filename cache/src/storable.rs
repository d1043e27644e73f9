//! Whether a response may be stored at all (RFC 9111 3).
//!
//! `node` asks when the head of a response has arrived, before anybody shares it. Deliberately not
//! here: whether the body came through (`body`), whether a purge came between (`store`), and for
//! how long the response is good (`freshness`).

use std::time::Duration;

use http::header::{AUTHORIZATION, EXPIRES, SET_COOKIE, VARY};
use http::{HeaderMap, Method, StatusCode};

use crate::directives::{RequestDirectives, ResponseDirectives};
use crate::freshness::is_heuristically_cacheable;
use crate::policy::Policy;
use crate::stale::stale_windows;
use crate::validation::has_validator;
use crate::variant::Variant;

/// Whether a response may be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storable {
    /// It may, for requests that select this variant.
    Storable(Variant),
    /// It may not.
    Uncacheable(Uncacheable),
}

/// Why a response may not be stored, or is not worth it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Uncacheable {
    /// The method is not `GET`.
    #[error("the method is not GET")]
    Method,
    /// The status is not final, or is one that this cache does not store: 206, 304.
    #[error("responses of this status are not stored")]
    Status,
    /// The response says `must-understand` and its status is not understood.
    #[error("the status is not understood")]
    NotUnderstood,
    /// The request says `no-store`, and the policy obeys viewers.
    #[error("the request says no-store")]
    RequestNoStore,
    /// The response says `no-store`.
    #[error("the response says no-store")]
    NoStore,
    /// The response says `private`.
    #[error("the response says private")]
    Private,
    /// The request was authorized, and the response does not say that others may have it.
    #[error("the request was authorized")]
    Authorization,
    /// The response sets a cookie, which is somebody's own.
    #[error("the response sets a cookie")]
    SetCookie,
    /// `Vary` is `*`, or cannot be read.
    #[error("the response varies by more than request fields")]
    Vary,
    /// Neither origin nor policy gives it a lifetime, or it is stale at once and has no validator.
    #[error("the response has no lifetime")]
    NoLifetime,
    /// The body is larger than what the caller keeps whole; nothing here says so.
    #[error("the body is too large to be stored")]
    TooLarge,
}

impl Uncacheable {
    /// Returns the token used as `detail` in Cache-Status and as a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Status => "status",
            Self::NotUnderstood => "not-understood",
            Self::RequestNoStore => "request-no-store",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::SetCookie => "set-cookie",
            Self::Vary => "vary",
            Self::NoLifetime => "no-lifetime",
            Self::TooLarge => "too-large",
        }
    }
}

/// A request and the head of the response to it.
#[derive(Clone, Copy, Debug)]
pub struct Exchanged<'a> {
    /// The method of the request.
    pub method: &'a Method,
    /// The fields of the request, as it was forwarded.
    pub request: &'a HeaderMap,
    /// The status of the response.
    pub status: StatusCode,
    /// The fields of the response.
    pub response: &'a HeaderMap,
}

/// Returns whether a response may be stored (RFC 9111 3).
///
/// `said` is what the response says, and `lifetime` what `freshness` made of it.
pub fn storable(
    exchanged: Exchanged<'_>,
    said: &ResponseDirectives,
    lifetime: Duration,
    policy: &Policy,
) -> Storable {
    let Exchanged {
        method,
        request,
        status,
        response,
    } = exchanged;
    let obeyed = !policy.ignore_cache_control;
    let understood = is_understood(status);
    let must_understand = obeyed && said.must_understand;
    let forbidden = [
        // RFC 9111 3: the request method is understood by the cache.
        (*method != Method::GET, Uncacheable::Method),
        // RFC 9111 3: the response status code is final; 206 and 304 would need understanding
        // that this cache does not have: it stores whole responses.
        (!is_stored_status(status), Uncacheable::Status),
        // RFC 9111 3: with must-understand, the cache understands the status code.
        (must_understand && !understood, Uncacheable::NotUnderstood),
        // RFC 9111 5.2.1.5: a request may forbid storing the response to it.
        (
            policy.obeys_request_directives && RequestDirectives::of(request).no_store,
            Uncacheable::RequestNoStore,
        ),
        // RFC 9111 3: private is not present, or only names fields to leave out. Before no-store, which
        // says less: nobody else may have it even now (FM-01).
        (obeyed && said.private.is_response(), Uncacheable::Private),
        // RFC 9111 3: no-store is not present; 5.2.2.3: must-understand overrides it.
        (
            obeyed && said.no_store && !must_understand,
            Uncacheable::NoStore,
        ),
        // RFC 9111 3.5: an authorized request's response needs explicit permission.
        (
            request.contains_key(AUTHORIZATION) && !allows_authorized(said, policy),
            Uncacheable::Authorization,
        ),
        // Not from the RFC: a cookie that reaches another viewer is an account handed over.
        (
            response.contains_key(SET_COOKIE)
                && !policy.stores_set_cookie
                && !said.unstorable_fields().any(|field| field == SET_COOKIE),
            Uncacheable::SetCookie,
        ),
        // RFC 9111 3: at least one of public, Expires, max-age, s-maxage, or a status that is
        // heuristically cacheable. A lifetime given by policy is an extension that allows it.
        (
            lifetime.is_zero()
                && !(allows_storing(status, response, said)
                    && is_useful_stale(status, response, said, policy)),
            Uncacheable::NoLifetime,
        ),
    ];
    if let Some((_, reason)) = forbidden.into_iter().find(|(is_so, _)| *is_so) {
        return Storable::Uncacheable(reason);
    }
    // RFC 9111 4.1: a response that no later request can select is not worth storing.
    match Variant::of(response, request, &policy.ignored_vary) {
        Some(variant) => Storable::Storable(variant),
        None => {
            debug_assert!(response.contains_key(VARY), "only Vary makes no variant");
            Storable::Uncacheable(Uncacheable::Vary)
        }
    }
}

/// Whether we store responses of this status. 1xx are not final, 206 and 304 not whole.
fn is_stored_status(status: StatusCode) -> bool {
    !status.is_informational()
        && status != StatusCode::PARTIAL_CONTENT
        && status != StatusCode::NOT_MODIFIED
}

/// RFC 9111 3 asks for the caching-related behavior of the status: these have none we lack.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=204 | 300..=303 | 307 | 308 | 400..=418 | 421 | 422 | 425 | 426 | 429 | 451 | 500..=505
    )
}

/// RFC 9111 3.5: must-revalidate, public or s-maxage let others have the response.
fn allows_authorized(said: &ResponseDirectives, policy: &Policy) -> bool {
    !policy.ignore_cache_control && (said.must_revalidate || said.public || said.s_maxage.is_some())
}

fn allows_storing(status: StatusCode, response: &HeaderMap, said: &ResponseDirectives) -> bool {
    said.public
        || said.max_age.is_some()
        || said.s_maxage.is_some()
        // RFC 9213 2.2: Expires is ignored beside a targeted field.
        || (response.contains_key(EXPIRES) && !said.is_targeted)
        || is_heuristically_cacheable(status)
}

/// Whether a response that is stale at once is worth its memory: it has a validator and can save a
/// body, or may be served stale. An error without lifetime never is (FM-01).
fn is_useful_stale(
    status: StatusCode,
    response: &HeaderMap,
    said: &ResponseDirectives,
    policy: &Policy,
) -> bool {
    let windows = stale_windows(said, policy);
    let may_be_stale = !windows.while_revalidate.is_zero() || !windows.if_error.is_zero();
    policy.negative_lifetimes.of(status).is_none() && (has_validator(response) || may_be_stale)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// One case: what differs from a plain `GET` that is answered by `200` with `max-age=9`.
    struct Case {
        method: Method,
        status: u16,
        request: &'static [(&'static str, &'static str)],
        response: &'static [(&'static str, &'static str)],
        policy: Policy,
    }

    impl Default for Case {
        fn default() -> Self {
            Self {
                method: Method::GET,
                status: 200,
                request: &[],
                response: &[("cache-control", "max-age=9")],
                policy: Policy::default(),
            }
        }
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    fn check(name: &str, expected: Option<Uncacheable>, case: Case) {
        let response = headers(case.response);
        let said = ResponseDirectives::of(&response, &case.policy.targeted_fields);
        let status = StatusCode::from_u16(case.status).unwrap();
        let lifetime = crate::freshness::freshness_lifetime(
            status,
            &response,
            &said,
            &case.policy,
            std::time::SystemTime::UNIX_EPOCH,
        );
        let exchanged = Exchanged {
            method: &case.method,
            request: &headers(case.request),
            status,
            response: &response,
        };
        let found = match storable(exchanged, &said, lifetime.lifetime, &case.policy) {
            Storable::Storable(_) => None,
            Storable::Uncacheable(reason) => Some(reason),
        };
        assert_eq!(found, expected, "{name}");
    }

    fn answered(response: &'static [(&'static str, &'static str)]) -> Case {
        Case {
            response,
            ..Case::default()
        }
    }

    #[test]
    fn rfc_9213_2_2_expires_allows_nothing_beside_a_targeted_field() {
        let redirect = |response| Case {
            status: 302,
            ..answered(response)
        };
        const BOTH: [(&str, &str); 3] = [
            ("etag", "\"a\""),
            ("expires", "Tue, 06 Nov 1990 08:49:37 GMT"),
            ("cdn-cache-control", "no-cache"),
        ];
        check("alone", None, redirect(&BOTH[..2]));
        check("beside", Some(Uncacheable::NoLifetime), redirect(&BOTH));
    }

    #[test]
    fn fm_01_what_is_private_is_called_so_even_where_no_store_is_said_too() {
        let private = Some(Uncacheable::Private);
        for response in [
            &[("cache-control", "private, no-store")],
            &[("cache-control", "no-store, private")],
        ] {
            check("both", private, answered(response));
        }
    }

    #[test]
    fn rfc_9111_3_what_may_be_stored() {
        check("plain", None, Case::default());
        check(
            "expires",
            None,
            answered(&[("expires", "Tue, 06 Nov 2096 08:49:37 GMT")]),
        );
        check(
            "not found",
            Some(Uncacheable::NoLifetime),
            Case {
                status: 404,
                ..Case::default()
            },
        );
        check(
            "redirect",
            None,
            Case {
                status: 302,
                ..Case::default()
            },
        );
        let etag = &[("etag", "\"a\""), ("cache-control", "no-cache")];
        check("no-cache with validator", None, answered(etag));
        let windows = &[("cache-control", "max-age=0, stale-while-revalidate=9")];
        check("stale window", None, answered(windows));
        check(
            "qualified private",
            None,
            answered(&[("cache-control", "private=\"x\", max-age=9")]),
        );
        let cookie = &[
            ("set-cookie", "a=b"),
            ("cache-control", "no-cache=\"set-cookie\", max-age=9"),
        ];
        check("a cookie that is left out", None, answered(cookie));
    }

    #[test]
    fn rfc_9111_3_what_may_not() {
        use Uncacheable as No;
        check(
            "post",
            Some(No::Method),
            Case {
                method: Method::POST,
                ..Case::default()
            },
        );
        check(
            "head",
            Some(No::Method),
            Case {
                method: Method::HEAD,
                ..Case::default()
            },
        );
        check(
            "continue",
            Some(No::Status),
            Case {
                status: 100,
                ..Case::default()
            },
        );
        check(
            "partial",
            Some(No::Status),
            Case {
                status: 206,
                ..Case::default()
            },
        );
        check(
            "not modified",
            Some(No::Status),
            Case {
                status: 304,
                ..Case::default()
            },
        );
        let ranged = &[
            ("content-range", "bytes 0-1/2"),
            ("cache-control", "max-age=9"),
        ];
        // RFC 9110 14.4: on any other status the field means nothing.
        check("content-range in 200", None, answered(ranged));
        check(
            "no-store",
            Some(No::NoStore),
            answered(&[("cache-control", "no-store, max-age=9")]),
        );
        check(
            "private",
            Some(No::Private),
            answered(&[("cache-control", "private, max-age=9")]),
        );
        check("nothing said", Some(No::NoLifetime), answered(&[]));
        check(
            "max-age=0",
            Some(No::NoLifetime),
            answered(&[("cache-control", "max-age=0")]),
        );
        check(
            "vary *",
            Some(No::Vary),
            answered(&[("vary", "*"), ("cache-control", "max-age=9")]),
        );
        let cookie = &[("set-cookie", "a=b"), ("cache-control", "max-age=9")];
        check("cookie", Some(No::SetCookie), answered(cookie));
    }

    #[test]
    fn rfc_9111_5_2_2_3_must_understand_overrides_no_store_for_a_status_that_is_understood() {
        let response = &[("cache-control", "must-understand, no-store, max-age=9")];
        check("understood", None, answered(response));
        let unknown = Case {
            status: 299,
            ..answered(response)
        };
        check("not understood", Some(Uncacheable::NotUnderstood), unknown);
        let unknown = Case {
            status: 299,
            ..Case::default()
        };
        check("unknown without must-understand", None, unknown);
    }

    #[test]
    fn rfc_9111_3_5_an_authorized_answer_is_shared_only_where_it_says_so() {
        let authorized = |response| Case {
            request: &[("authorization", "Bearer x")],
            ..answered(response)
        };
        for (response, expected) in [
            (
                &[("cache-control", "max-age=9")][..],
                Some(Uncacheable::Authorization),
            ),
            (&[("cache-control", "max-age=9, public")], None),
            (&[("cache-control", "max-age=9, must-revalidate")], None),
            (&[("cache-control", "s-maxage=9")], None),
        ] {
            check(response[0].1, expected, authorized(response));
        }
        let ignoring = Policy {
            ignore_cache_control: true,
            freshness_default: Duration::from_secs(1),
            ..Policy::default()
        };
        let case = Case {
            policy: ignoring,
            ..authorized(&[("cache-control", "public")])
        };
        check(
            "ignored permission is none",
            Some(Uncacheable::Authorization),
            case,
        );
    }

    #[test]
    fn ca_09_a_policy_may_ignore_cache_control_but_neither_cookies_nor_vary() {
        let ignoring = |response| Case {
            policy: Policy {
                ignore_cache_control: true,
                freshness_default: Duration::from_secs(1),
                ..Policy::default()
            },
            ..answered(response)
        };
        check(
            "no-cache",
            None,
            ignoring(&[("cache-control", "private, no-cache, no-store")]),
        );
        let cookie = &[("set-cookie", "a=b")];
        check("cookie", Some(Uncacheable::SetCookie), ignoring(cookie));
        check("vary", Some(Uncacheable::Vary), ignoring(&[("vary", "*")]));
    }

    #[test]
    fn rfc_9111_5_2_1_5_a_request_forbids_storing_only_where_viewers_are_obeyed() {
        let no_store = Case {
            request: &[("cache-control", "no-store")],
            ..Case::default()
        };
        check("not obeyed", None, no_store);
        let obeying = Case {
            request: &[("cache-control", "no-store")],
            policy: Policy {
                obeys_request_directives: true,
                ..Policy::default()
            },
            ..Case::default()
        };
        check("obeyed", Some(Uncacheable::RequestNoStore), obeying);
    }
}
