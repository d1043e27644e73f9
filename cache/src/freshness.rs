//! How old a response is when it arrives, and how old it may become (RFC 9111 4.2).
//!
//! `node` calls this once per response that a fill or a revalidation brought. Deliberately not
//! here: whether the response may be stored (`storable`), and its age later on (`stored`).

use std::time::{Duration, SystemTime};

use http::header::{AGE, DATE, EXPIRES, HeaderName, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};

use crate::directives::{ResponseDirectives, delta_seconds};
use crate::policy::Policy;

/// When a response was asked for, when its head came, and what of the time between is not age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When the request was sent (RFC 9111 4.2.3, `request_time`).
    pub request_time: SystemTime,
    /// When the head of the response arrived (RFC 9111 4.2.3, `response_time`).
    pub response_time: SystemTime,
    /// How long the parent held the request until there was something to answer.
    ///
    /// RFC 9111 counts it as age, since a response might have been made when the request was sent.
    /// A blocking playlist was not: it was made when it was released. Counted as age, a hold of two
    /// seconds would make every player that joins jump two seconds ahead (CA-11, FM-02).
    pub held: Duration,
    /// The age a parent of ours reported to the millisecond, in place of `Age` (LT-02).
    pub exact_age: Option<Duration>,
}

impl Arrival {
    /// Returns an arrival without hold: `Age` counts, and all of the delay.
    pub const fn new(request_time: SystemTime, response_time: SystemTime) -> Self {
        Self {
            request_time,
            response_time,
            held: Duration::ZERO,
            exact_age: None,
        }
    }

    /// Returns the age of the response when its head arrived (RFC 9111 4.2.3,
    /// `corrected_initial_age`).
    ///
    /// With `trusts_date`, an old `Date` counts as age where that makes the response older; RFC
    /// 9111 leaves it to the cache. A wrong clock at the origin would reach every player as a wrong
    /// position.
    pub fn corrected_initial_age(&self, response: &HeaderMap, trusts_date: bool) -> Duration {
        let response_delay = self
            .response_time
            .duration_since(self.request_time)
            .unwrap_or_default()
            .saturating_sub(self.held);
        let age_value = self
            .exact_age
            .or_else(|| age_value(response))
            .unwrap_or_default();
        let corrected_age_value = age_value.saturating_add(response_delay);
        if !trusts_date {
            return corrected_age_value;
        }
        let apparent_age = date(response, &DATE)
            .and_then(|date_value| self.response_time.duration_since(date_value).ok())
            .unwrap_or_default();
        apparent_age.max(corrected_age_value)
    }
}

/// Reads `Age` (RFC 9111 5.1): the first member counts, and what cannot be read does not.
fn age_value(response: &HeaderMap) -> Option<Duration> {
    let first_line = response.get(AGE)?.as_bytes();
    let first_member = first_line.split(|b| *b == b',').next().unwrap_or_default();
    delta_seconds(first_member.trim_ascii())
}

/// How old a response may become, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreshnessLifetime {
    /// The age from which the response is stale.
    pub lifetime: Duration,
    /// Who says so.
    pub source: LifetimeSource,
}

/// Where a freshness lifetime comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifetimeSource {
    /// The origin: `s-maxage`, `max-age` or `Expires`.
    Explicit,
    /// `Last-Modified` and a fraction (RFC 9111 4.2.2).
    Heuristic,
    /// The policy, about which the origin says nothing.
    Policy,
}

/// Returns how old a response may become (RFC 9111 4.2.1), within what the policy allows.
///
/// `no-cache` makes it zero: such a response may be stored, and must be revalidated before each
/// use. Floor, default and negative lifetimes do not reach it.
pub fn freshness_lifetime(
    status: StatusCode,
    response: &HeaderMap,
    said: &ResponseDirectives,
    policy: &Policy,
    response_time: SystemTime,
) -> FreshnessLifetime {
    let explicit = if policy.ignore_cache_control {
        None
    } else {
        explicit_lifetime(response, said, response_time)
    };
    let from = |source, lifetime| FreshnessLifetime { lifetime, source };
    let explicit = explicit.map(|lifetime| from(LifetimeSource::Explicit, lifetime));

    // RFC 9111 5.2.2.4: no-cache forbids use without successful validation.
    if said.no_cache.is_response() && !policy.ignore_cache_control {
        return from(LifetimeSource::Explicit, Duration::ZERO);
    }
    let found = explicit.or_else(|| {
        heuristic_lifetime(status, response, said, policy, response_time)
            .map(|lifetime| from(LifetimeSource::Heuristic, lifetime))
    });
    if let Some(ceiling) = policy.negative_lifetimes.of(status) {
        // RFC 9111 4.2.2: where guessing is on, it is the rule for errors, too, and most have no guess.
        let default = match policy.heuristics {
            Some(_) => Duration::ZERO,
            None => ceiling,
        };
        let found = found.unwrap_or_else(|| from(LifetimeSource::Policy, default));
        return from(found.source, found.lifetime.min(ceiling));
    }
    let found = found.unwrap_or_else(|| from(LifetimeSource::Policy, policy.freshness_default));
    let lifetime = found
        .lifetime
        .max(policy.freshness_floor)
        .min(policy.freshness_ceiling);
    from(found.source, lifetime)
}

/// RFC 9111 4.2.1: for a shared cache, `s-maxage`, then `max-age`, then `Expires`.
fn explicit_lifetime(
    response: &HeaderMap,
    said: &ResponseDirectives,
    response_time: SystemTime,
) -> Option<Duration> {
    said.s_maxage.or(said.max_age).or_else(|| {
        // RFC 9213 2.2: with a targeted field, Expires is ignored.
        if said.is_targeted || !response.contains_key(EXPIRES) {
            return None;
        }
        // RFC 9111 5.3: an Expires that cannot be read, "0" above all, is in the past.
        let expires = date(response, &EXPIRES);
        // RFC 9110 6.6.1: a recipient with a clock supplies a missing Date.
        let since = date(response, &DATE).unwrap_or(response_time);
        Some(
            expires
                .and_then(|expires| expires.duration_since(since).ok())
                .unwrap_or_default(),
        )
    })
}

/// RFC 9111 4.2.2: allowed for these statuses, and for others only where `public` says so.
fn heuristic_lifetime(
    status: StatusCode,
    response: &HeaderMap,
    said: &ResponseDirectives,
    policy: &Policy,
    response_time: SystemTime,
) -> Option<Duration> {
    let heuristics = policy.heuristics?;
    if !is_heuristically_cacheable(status) && !said.public {
        return None;
    }
    let since = date(response, &DATE).unwrap_or(response_time);
    let unmodified_for = since
        .duration_since(date(response, &LAST_MODIFIED)?)
        .unwrap_or_default();
    let lifetime = unmodified_for.saturating_mul(heuristics.percent) / 100;
    Some(lifetime.min(heuristics.ceiling))
}

/// Returns whether RFC 9110 15.1 lets a cache guess a lifetime for responses of this status.
pub fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// Reads a date field (RFC 9110 5.6.7), the first line of it.
pub(crate) fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let text = headers.get(name)?.to_str().ok()?;
    httpdate::parse_http_date(text)
        .ok()
        .or_else(|| date_in_any_case(text))
}

/// RFC 9111 4.2: names in dates SHOULD be matched in any case. The day of the week follows from the
/// rest, so that a wrong one says nothing about when.
fn date_in_any_case(text: &str) -> Option<SystemTime> {
    if text.len() > DATE_BYTES_MAX {
        return None;
    }
    let (weekday, rest) = text.split_once(' ')?;
    let (weekday, comma) = match weekday.strip_suffix(',') {
        Some(weekday) => (weekday, ","),
        None => (weekday, ""),
    };
    let is_known = |day: &&&str| {
        let short = day.get(..3).unwrap_or(day);
        weekday.eq_ignore_ascii_case(day) || weekday.eq_ignore_ascii_case(short)
    };
    WEEKDAYS.iter().find(is_known)?;
    let rest = capitalized(rest);
    let rest = match rest.strip_suffix("Gmt") {
        Some(rest) => format!("{rest}GMT"),
        None => rest,
    };
    // The parser wants the right day, long or short as this form of date has it.
    WEEKDAYS.iter().find_map(|day| {
        let day = if weekday.len() == 3 {
            day.get(..3)?
        } else {
            day
        };
        httpdate::parse_http_date(&format!("{day}{comma} {rest}")).ok()
    })
}

/// Returns the text with each word in lower case but for its first letter.
fn capitalized(text: &str) -> String {
    let mut is_inside = false;
    text.chars()
        .map(|c| {
            let was_inside = std::mem::replace(&mut is_inside, c.is_ascii_alphabetic());
            if was_inside {
                c.to_ascii_lowercase()
            } else {
                c.to_ascii_uppercase()
            }
        })
        .collect()
}

const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// Longer than every form of date (RFC 9110 5.6.7).
const DATE_BYTES_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::policy::{Heuristics, NegativeLifetimes};

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn rfc_9111_4_2_dates_are_read_in_any_case_and_in_no_other_form() {
        let read = |text: &str| {
            let value = HeaderValue::from_str(text).unwrap();
            date(&HeaderMap::from_iter([(EXPIRES, value)]), &EXPIRES)
        };
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "SUN, 06 nov 1994 08:49:37 gMT",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "sunday, 06-NOV-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "mon nov  6 08:49:37 1994",
        ] {
            assert_eq!(read(text), Some(at(0)), "{text}");
        }
        for text in [
            "0",
            "Sun,",
            "Xyz, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06  Nov 1994 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 8:49:37 GMT",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT and some more of it",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT`, plus milliseconds.
    fn at(ms: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777) + MS(ms)
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn lifetime_of(
        status: u16,
        lines: &[(&'static str, &str)],
        policy: &Policy,
    ) -> (u64, LifetimeSource) {
        let response = headers(lines);
        let found = freshness_lifetime(
            StatusCode::from_u16(status).unwrap(),
            &response,
            &ResponseDirectives::of(&response, &policy.targeted_fields),
            policy,
            at(0),
        );
        (
            u64::try_from(found.lifetime.as_millis()).unwrap(),
            found.source,
        )
    }

    #[test]
    fn rfc_9111_4_2_3_age_counts_what_the_parent_says_and_the_delay() {
        for (age, delay_ms, expected_ms) in [
            (&[][..], 0, 0),
            (&[], 250, 250),
            (&["3"], 250, 3250),
            (&["3, 9"], 0, 3000),
            (&["3", "9"], 0, 3000),
            (&[" 3 "], 0, 3000),
            (&["-3"], 100, 100),
            (&["3.5"], 100, 100),
            (&["x"], 100, 100),
            (&["x, 3"], 100, 100),
            (&[""], 100, 100),
        ] {
            let lines: Vec<_> = age.iter().map(|value| ("age", *value)).collect();
            let arrival = Arrival::new(at(0), at(delay_ms));
            let found = arrival.corrected_initial_age(&headers(&lines), false);
            assert_eq!(found, MS(expected_ms), "{age:?} after {delay_ms} ms");
        }
    }

    #[test]
    fn ca_11_fm_02_the_time_an_origin_held_an_answer_is_never_age() {
        for (delay_ms, held_ms, expected_ms) in [(1800, 1800, 0), (1850, 1800, 50), (50, 1800, 0)] {
            let arrival = Arrival {
                held: MS(held_ms),
                ..Arrival::new(at(0), at(delay_ms))
            };
            let found = arrival.corrected_initial_age(&HeaderMap::new(), false);
            assert_eq!(found, MS(expected_ms), "{held_ms} of {delay_ms} ms");
        }
        let held = Arrival {
            held: MS(2000),
            ..Arrival::new(at(0), at(2000))
        };
        let with_age = held.corrected_initial_age(&headers(&[("age", "1")]), false);
        assert_eq!(with_age, MS(1000), "what the parent says still counts");
    }

    #[test]
    fn lt_02_an_exact_age_replaces_the_rounded_one() {
        let arrival = Arrival {
            exact_age: Some(MS(900)),
            ..Arrival::new(at(0), at(0))
        };
        let found = arrival.corrected_initial_age(&headers(&[("age", "0")]), false);
        assert_eq!(found, MS(900));
    }

    #[test]
    fn rfc_9111_4_2_3_an_old_date_counts_only_from_a_trusted_clock() {
        let dated = headers(&[("date", "Sun, 06 Nov 1994 08:49:27 GMT")]);
        let arrival = Arrival::new(at(0), at(500));
        assert_eq!(arrival.corrected_initial_age(&dated, false), MS(500));
        assert_eq!(arrival.corrected_initial_age(&dated, true), MS(10_500));
        let ahead = headers(&[("date", "Sun, 06 Nov 1994 08:59:37 GMT")]);
        assert_eq!(arrival.corrected_initial_age(&ahead, true), MS(500));
    }

    #[test]
    fn clocks_that_go_back_make_no_age() {
        let arrival = Arrival::new(at(5000), at(0));
        assert_eq!(
            arrival.corrected_initial_age(&HeaderMap::new(), false),
            Duration::ZERO
        );
    }

    #[test]
    fn rfc_9111_4_2_1_s_maxage_then_max_age_then_expires() {
        let policy = Policy::default();
        let expires = ("expires", "Sun, 06 Nov 1994 08:49:47 GMT");
        let date = ("date", "Sun, 06 Nov 1994 08:49:27 GMT");
        for (case, lines, expected) in [
            (
                "all",
                &[("cache-control", "max-age=2, s-maxage=1"), expires][..],
                1000,
            ),
            ("max-age", &[("cache-control", "max-age=2"), expires], 2000),
            ("expires and date", &[expires, date], 20_000),
            ("expires alone", &[expires], 10_000),
            (
                "expires before date",
                &[("expires", "Sun, 06 Nov 1994 08:49:00 GMT"), date],
                0,
            ),
            ("expires 0", &[("expires", "0"), date], 0),
            (
                "old format",
                &[("expires", "Sunday, 06-Nov-94 08:49:47 GMT")],
                10_000,
            ),
            ("no-cache", &[("cache-control", "no-cache, max-age=9")], 0),
            (
                "no-cache of a field",
                &[("cache-control", "no-cache=\"a\", max-age=9")],
                9000,
            ),
        ] {
            let found = lifetime_of(200, lines, &policy);
            assert_eq!(found, (expected, LifetimeSource::Explicit), "{case}");
        }
        let targeted = [("cdn-cache-control", "public"), expires];
        assert_eq!(
            lifetime_of(200, &targeted, &policy),
            (0, LifetimeSource::Policy)
        );
    }

    #[test]
    fn floors_ceilings_and_defaults_bound_what_the_origin_says() {
        let policy = Policy {
            freshness_floor: MS(3000),
            freshness_ceiling: MS(60_000),
            freshness_default: MS(6000),
            ..Policy::default()
        };
        for (cache_control, expected) in [
            ("", 6000),
            ("max-age=1", 3000),
            ("max-age=30", 30_000),
            ("max-age=9999", 60_000),
            ("no-cache", 0),
        ] {
            let found = lifetime_of(200, &[("cache-control", cache_control)], &policy);
            assert_eq!(found.0, expected, "{cache_control}");
        }
        let ignoring = Policy {
            ignore_cache_control: true,
            ..policy
        };
        for cache_control in ["no-cache", "max-age=30", "no-store, private"] {
            let found = lifetime_of(200, &[("cache-control", cache_control)], &ignoring);
            assert_eq!(
                found,
                (6000, LifetimeSource::Policy),
                "ca_09 {cache_control}"
            );
        }
    }

    #[test]
    fn fm_01_an_error_lives_as_long_as_its_status_allows_and_no_longer() {
        let policy = Policy {
            freshness_floor: MS(3000),
            freshness_default: MS(6000),
            negative_lifetimes: NegativeLifetimes::new(
                vec![
                    (StatusCode::NOT_FOUND, MS(1000)),
                    (StatusCode::NO_CONTENT, MS(100)),
                ],
                MS(0),
            ),
            ..Policy::default()
        };
        for (status, cache_control, expected) in [
            (404, "", 1000),
            (404, "max-age=24", 1000),
            (404, "max-age=0", 0),
            (404, "no-cache", 0),
            (404, "no-cache, max-age=24", 0),
            (400, "max-age=24", 0),
            (503, "", 0),
            (204, "max-age=3600", 100),
            (200, "", 6000),
        ] {
            let found = lifetime_of(status, &[("cache-control", cache_control)], &policy);
            assert_eq!(found.0, expected, "{status} {cache_control}");
        }
    }

    #[test]
    fn rfc_9111_4_2_2_lifetimes_are_guessed_only_where_policy_and_status_allow() {
        // Last modified 1000 s ago.
        let modified = ("last-modified", "Sun, 06 Nov 1994 08:32:57 GMT");
        let guessing = Policy {
            heuristics: Some(Heuristics {
                percent: 10,
                ceiling: MS(50_000),
            }),
            ..Policy::default()
        };
        let patient = Policy {
            heuristics: Some(Heuristics {
                percent: 10,
                ceiling: MS(500_000),
            }),
            ..Policy::default()
        };
        let public = ("cache-control", "public");
        for (case, status, lines, policy, expected) in [
            ("no policy", 200, &[modified][..], &Policy::default(), 0),
            ("ten percent", 200, &[modified], &patient, 100_000),
            ("ceiling", 200, &[modified], &guessing, 50_000),
            ("nothing to guess from", 200, &[], &guessing, 0),
            ("status", 201, &[modified], &guessing, 0),
            ("public", 201, &[modified, public], &guessing, 50_000),
        ] {
            assert_eq!(lifetime_of(status, lines, policy).0, expected, "{case}");
        }
    }
}
