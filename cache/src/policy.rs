//! What an operator and the kind of media say about caching a response, as plain values.
//!
//! `node` fills a [`Policy`] from its route decision and hands it to `freshness`, `storable` and
//! `stale`. Deliberately not here: why a route has these values; that is media's and config's
//! business.

use std::time::Duration;

use http::StatusCode;
use http::header::HeaderName;

/// How responses of one kind are cached where the origin's word is not enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether `Cache-Control`, `Expires` and `Pragma` of the origin are ignored, for origins known
    /// to forbid what their content allows (CA-09). `Vary` and `Set-Cookie` still count.
    pub ignore_cache_control: bool,
    /// The least freshness lifetime of a success. Does not undo `no-cache`, `no-store`, `private`.
    pub freshness_floor: Duration,
    /// The greatest freshness lifetime of a success.
    pub freshness_ceiling: Duration,
    /// The lifetime of a success about which the origin says nothing.
    pub freshness_default: Duration,
    /// Whether a success without explicit lifetime lives by its `Last-Modified` (RFC 9111 4.2.2)
    /// before `freshness_default` is used. Never for live media. An error whose lifetime can then not
    /// be guessed has none.
    pub heuristics: Option<Heuristics>,
    /// Lifetimes of errors and of successes that mean "not yet".
    pub negative_lifetimes: NegativeLifetimes,
    /// How long a response may be served while it is revalidated, where the origin does not say
    /// (RFC 5861 3).
    pub stale_while_revalidate: Duration,
    /// How long a response may replace an error, where the origin does not say (RFC 5861 4).
    pub stale_if_error: Duration,
    /// The most that either stale window may be, whoever says so (CA-23).
    pub stale_ceiling: Duration,
    /// Targeted fields to read before `Cache-Control`, in order of preference (RFC 9213 2.2).
    pub targeted_fields: Vec<HeaderName>,
    /// Fields that do not select although `Vary` names them (HX-02, HX-23).
    pub ignored_vary: Vec<HeaderName>,
    /// Whether the clock of the origin is known to be right, so that an old `Date` counts as age
    /// (RFC 9111 4.2.3, `apparent_age`). Otherwise only `Age` and the delay of the response do.
    pub trusts_date: bool,
    /// Whether `Cache-Control` of viewers is obeyed (RFC 9111 5.2.1). A CDN usually does not: any
    /// viewer could send every request to the origin.
    pub obeys_request_directives: bool,
    /// Whether a response with `Set-Cookie` may be stored, cookie and all.
    pub stores_set_cookie: bool,
}

impl Default for Policy {
    /// Returns the policy that lets the origin decide alone and stores no errors.
    fn default() -> Self {
        Self {
            ignore_cache_control: false,
            freshness_floor: Duration::ZERO,
            freshness_ceiling: Duration::MAX,
            freshness_default: Duration::ZERO,
            heuristics: None,
            negative_lifetimes: NegativeLifetimes::none(),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            stale_ceiling: Duration::MAX,
            targeted_fields: vec![HeaderName::from_static("cdn-cache-control")],
            ignored_vary: Vec::new(),
            trusts_date: false,
            obeys_request_directives: false,
            stores_set_cookie: false,
        }
    }
}

/// Lifetimes guessed from `Last-Modified` (RFC 9111 4.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heuristics {
    /// How much of the time since the last modification counts, in percent; 10 is usual.
    pub percent: u32,
    /// The most that may be guessed.
    pub ceiling: Duration,
}

/// Lifetimes by status, for errors and for "not yet" (FM-01, FM-15, FM-16).
///
/// A lifetime is a ceiling on what the origin says and the default where it says nothing. Zero
/// keeps nothing: only those who wait at the time share the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NegativeLifetimes {
    by_status: Vec<(StatusCode, Duration)>,
    client_errors: Duration,
    server_errors: Duration,
}

impl NegativeLifetimes {
    /// Keeps no error.
    pub const fn none() -> Self {
        Self {
            by_status: Vec::new(),
            client_errors: Duration::ZERO,
            server_errors: Duration::ZERO,
        }
    }

    /// Returns lifetimes for these statuses, and `other_errors` for every other 4xx and 5xx.
    ///
    /// A status below 400 may be listed: 202 and 204 for media mean "not yet".
    pub const fn new(by_status: Vec<(StatusCode, Duration)>, other_errors: Duration) -> Self {
        Self::by_class(by_status, other_errors, other_errors)
    }

    /// As [`NegativeLifetimes::new`], with one lifetime for other 4xx and one for other 5xx.
    pub const fn by_class(
        by_status: Vec<(StatusCode, Duration)>,
        client_errors: Duration,
        server_errors: Duration,
    ) -> Self {
        Self {
            by_status,
            client_errors,
            server_errors,
        }
    }

    /// Returns the statuses that have lifetimes of their own, with them.
    pub fn listed(&self) -> &[(StatusCode, Duration)] {
        &self.by_status
    }

    /// Returns the lifetime of every 4xx that is not listed.
    pub const fn client_errors(&self) -> Duration {
        self.client_errors
    }

    /// Returns the lifetime of every 5xx that is not listed.
    pub const fn server_errors(&self) -> Duration {
        self.server_errors
    }

    /// Returns the lifetime of a negative answer, or `None` if the status is not negative.
    pub fn of(&self, status: StatusCode) -> Option<Duration> {
        let listed = self.by_status.iter().find(|(listed, _)| *listed == status);
        match listed {
            Some((_, lifetime)) => Some(*lifetime),
            None if status.is_client_error() => Some(self.client_errors),
            None if status.is_server_error() => Some(self.server_errors),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_negative_and_a_success_only_if_listed() {
        let second = Duration::from_secs(1);
        let lifetimes = NegativeLifetimes::new(
            vec![
                (StatusCode::NOT_FOUND, second),
                (StatusCode::NO_CONTENT, second),
            ],
            Duration::from_millis(200),
        );
        for (status, expected) in [
            (200, None),
            (202, None),
            (204, Some(1000)),
            (304, None),
            (400, Some(200)),
            (404, Some(1000)),
            (503, Some(200)),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let expected = expected.map(Duration::from_millis);
            assert_eq!(lifetimes.of(status), expected, "{status}");
        }
        let by_class = NegativeLifetimes::by_class(Vec::new(), second, Duration::ZERO);
        assert_eq!(by_class.of(StatusCode::FORBIDDEN), Some(second));
        assert_eq!(by_class.of(StatusCode::BAD_GATEWAY), Some(Duration::ZERO));
        assert_eq!(
            NegativeLifetimes::none().of(StatusCode::NOT_FOUND),
            Some(Duration::ZERO)
        );
    }
}
