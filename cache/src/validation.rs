//! Validators and conditional requests, toward viewers and toward parents (RFC 9110 8.8 and 13, RFC
//! 9111 4.3).
//!
//! `node` evaluates the conditions of a viewer against a stored response before it answers, and
//! asks a parent with the validators of what is stored. Deliberately not here: `If-Match` and
//! `If-Unmodified-Since`, which are for origins and not for caches (RFC 9111 4.3.2).

use std::time::{Duration, SystemTime};

use http::header::{
    DATE, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED,
};
use http::{Method, StatusCode};

use crate::freshness::date;
use crate::stored::StoredResponse;

/// The most entity tags of an `If-None-Match` that are looked at; those behind do not match.
pub const ENTITY_TAGS_MAX: usize = 64;

/// An entity tag (RFC 9110 8.8.3), quotes included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag<'a> {
    opaque: &'a [u8],
    is_weak: bool,
}

impl<'a> EntityTag<'a> {
    /// Reads one entity tag and nothing else.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let (tag, rest) = Self::split_first(text.trim_ascii())?;
        rest.trim_ascii().is_empty().then_some(tag)
    }

    /// Returns the entity tag of a response, if it has one that can be read.
    pub fn of(response: &'a HeaderMap) -> Option<Self> {
        Self::parse(response.get(ETAG)?.as_bytes())
    }

    /// Returns whether both are equal and neither is weak (RFC 9110 8.8.3.2).
    pub fn matches_strongly(&self, other: &EntityTag<'_>) -> bool {
        !self.is_weak && !other.is_weak && self.opaque == other.opaque
    }

    /// Returns whether both are equal, weak or not (RFC 9110 8.8.3.2).
    pub fn matches_weakly(&self, other: &EntityTag<'_>) -> bool {
        self.opaque == other.opaque
    }

    /// Reads the entity tag at the start of a list, whose tags may contain commas.
    fn split_first(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (is_weak, text) = match text.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let inside = text.strip_prefix(b"\"")?;
        let length = inside.iter().position(|b| *b == b'"')?;
        let (opaque, rest) = text.split_at(length + 2);
        // RFC 9110 8.8.3: etagc is anything visible, and obs-text, but no space.
        let is_tag = opaque.iter().all(|b| *b > b' ' && *b != 0x7f);
        is_tag.then_some((Self { opaque, is_weak }, rest))
    }
}

/// What the conditions of a viewer make of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Send the response.
    Send,
    /// Send 304 without the body (RFC 9110 15.4.5).
    NotModified,
}

/// Evaluates `If-None-Match`, or else `If-Modified-Since`, against a stored response (RFC 9111
/// 4.3.2).
pub fn evaluate(method: &Method, request: &HeaderMap, stored: &StoredResponse) -> Condition {
    // RFC 9110 13.2.1: conditions count only where the answer would be a success.
    if !matches!(*method, Method::GET | Method::HEAD) || stored.status != StatusCode::OK {
        return Condition::Send;
    }
    let is_unmodified = if request.contains_key(IF_NONE_MATCH) {
        // RFC 9110 13.1.3: If-Modified-Since is ignored beside If-None-Match.
        is_none_match_met(request, &stored.headers)
    } else {
        is_unmodified_since(request, stored)
    };
    if is_unmodified {
        Condition::NotModified
    } else {
        Condition::Send
    }
}

/// RFC 9110 13.1.2: `*`, or one of the tags by weak comparison.
fn is_none_match_met(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let own = EntityTag::of(stored);
    let mut left = ENTITY_TAGS_MAX;
    for line in request.get_all(IF_NONE_MATCH) {
        let mut rest = line.as_bytes().trim_ascii();
        if rest == b"*" {
            return true;
        }
        while left > 0 && !rest.is_empty() {
            // RFC 9110 5.6.1: empty members of a list are ignored.
            if let Some(behind) = rest.strip_prefix(b",") {
                rest = behind.trim_ascii_start();
                continue;
            }
            let Some((tag, behind)) = EntityTag::split_first(rest) else {
                break; // What follows cannot be told apart any more.
            };
            left -= 1;
            if own.is_some_and(|own| own.matches_weakly(&tag)) {
                return true;
            }
            rest = behind.trim_ascii_start();
        }
    }
    false
}

/// RFC 9110 13.1.3; RFC 9111 4.3.2: without `Last-Modified`, `Date` or the time of arrival stands in.
fn is_unmodified_since(request: &HeaderMap, stored: &StoredResponse) -> bool {
    let Some(since) = date(request, &IF_MODIFIED_SINCE) else {
        return false;
    };
    let modified = date(&stored.headers, &LAST_MODIFIED)
        .or_else(|| date(&stored.headers, &DATE))
        .unwrap_or(stored.response_time);
    modified <= since
}

/// Returns whether a range may be answered as far as `If-Range` is concerned (RFC 9110 13.1.5).
///
/// Without the field it may. With one, only if it names exactly the stored representation, by a
/// strong validator; otherwise the viewer wants the whole body.
pub fn if_range_holds(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(value) = request.get(IF_RANGE) else {
        return true;
    };
    if let Some(tag) = EntityTag::parse(value.as_bytes()) {
        return EntityTag::of(stored).is_some_and(|own| own.matches_strongly(&tag));
    }
    let (Some(asked), Some(modified)) = (date(request, &IF_RANGE), date(stored, &LAST_MODIFIED))
    else {
        return false;
    };
    asked == modified && is_strong(modified, date(stored, &DATE))
}

/// RFC 9110 8.8.2.2: a modification date is strong where the response was made at least a second
/// later, so that no second change can hide in the same second.
fn is_strong(modified: SystemTime, made: Option<SystemTime>) -> bool {
    made.and_then(|made| made.duration_since(modified).ok())
        .is_some_and(|between| between >= Duration::from_secs(1))
}

/// Returns whether a response can be revalidated at all.
pub fn has_validator(response: &HeaderMap) -> bool {
    response.contains_key(ETAG) || response.contains_key(LAST_MODIFIED)
}

/// Adds to a request for a parent the conditions that ask whether `stored` is still good (RFC 9111
/// 4.3.1), in place of any that are there; returns whether there are any.
pub fn add_conditions(request: &mut HeaderMap, stored: &HeaderMap) -> bool {
    for (condition, validator) in [
        (IF_NONE_MATCH, stored.get(ETAG)),
        (IF_MODIFIED_SINCE, stored.get(LAST_MODIFIED)),
    ] {
        request.remove(&condition);
        if let Some(value) = validator {
            request.insert(condition, value.clone());
        }
    }
    has_validator(stored)
}

/// Returns whether a 304 speaks of the stored response it was asked about (RFC 9111 4.3.4).
///
/// A tag in the 304 must be the stored one; a 304 without a tag is believed, since the question
/// named one response only. A 304 about something else means: ask again without conditions.
pub fn is_about(not_modified: &HeaderMap, stored: &HeaderMap) -> bool {
    match (EntityTag::of(not_modified), EntityTag::of(stored)) {
        (Some(theirs), Some(own)) => own.matches_weakly(&theirs),
        (Some(_), None) => false,
        (None, _) => match (
            date(not_modified, &LAST_MODIFIED),
            date(stored, &LAST_MODIFIED),
        ) {
            (Some(theirs), Some(own)) => theirs == own,
            (Some(_) | None, _) => true,
        },
    }
}

/// Returns the fields of a 304 for a viewer: those of the stored response that RFC 9110 15.4.5
/// asks for, and no other that describes the body.
pub fn not_modified_fields(stored: &HeaderMap) -> HeaderMap {
    const DESCRIBES_BODY: [&str; 5] = [
        "content-type",
        "content-length",
        "content-encoding",
        "content-language",
        "content-range",
    ];
    let kept = stored
        .iter()
        .filter(|(name, _)| !DESCRIBES_BODY.contains(&name.as_str()));
    let mut fields = HeaderMap::with_capacity(stored.len());
    for (name, value) in kept {
        fields.append(name, HeaderValue::clone(value));
    }
    fields
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::body::GrowingBody;
    use crate::variant::Variant;

    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn stored(status: u16, lines: &[(&'static str, &str)]) -> StoredResponse {
        StoredResponse {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers(lines),
            body: GrowingBody::full(Bytes::new()),
            variant: Variant::default(),
            response_time: SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
            corrected_initial_age: Duration::ZERO,
            freshness_lifetime: Duration::ZERO,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            must_revalidate: false,
        }
    }

    #[test]
    fn rfc_9110_8_8_3_2_entity_tags_compare() {
        for (a, b, strongly, weakly) in [
            ("\"1\"", "\"1\"", true, true),
            ("\"1\"", "\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
        ] {
            let (a, b) = (
                EntityTag::parse(a.as_bytes()),
                EntityTag::parse(b.as_bytes()),
            );
            let (a, b) = (a.unwrap(), b.unwrap());
            assert_eq!(a.matches_strongly(&b), strongly, "{a:?} {b:?}");
            assert_eq!(a.matches_weakly(&b), weakly, "{a:?} {b:?}");
        }
        for broken in [
            "",
            "1",
            "\"",
            "\"1",
            "w/\"1\"",
            "W/1",
            "\"a b\"",
            "\"a\" x",
            "\"a\"\"b\"",
            "*",
        ] {
            assert_eq!(EntityTag::parse(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn ca_18_rfc_9110_13_1_2_if_none_match() {
        let tagged = stored(200, &[("etag", "W/\"a,1\""), ("last-modified", MODIFIED)]);
        for (value, expected) in [
            ("\"a,1\"", Condition::NotModified),
            ("W/\"a,1\"", Condition::NotModified),
            ("\"x\", \"a,1\"", Condition::NotModified),
            ("\"x\" , ,\"a,1\"", Condition::NotModified),
            ("\"x\",\"a,1\"", Condition::NotModified),
            ("*", Condition::NotModified),
            ("\"x\"", Condition::Send),
            ("x, \"a,1\"", Condition::Send),
            ("", Condition::Send),
        ] {
            let request = headers(&[("if-none-match", value), ("if-modified-since", LATER)]);
            assert_eq!(
                evaluate(&Method::GET, &request, &tagged),
                expected,
                "{value}"
            );
        }
        let any = headers(&[("if-none-match", "*")]);
        assert_eq!(
            evaluate(&Method::HEAD, &any, &tagged),
            Condition::NotModified
        );
        assert_eq!(evaluate(&Method::POST, &any, &tagged), Condition::Send);
        assert_eq!(
            evaluate(&Method::GET, &any, &stored(404, &[])),
            Condition::Send
        );
        let untagged = stored(200, &[]);
        let request = headers(&[("if-none-match", "\"a\"")]);
        assert_eq!(evaluate(&Method::GET, &request, &untagged), Condition::Send);
    }

    #[test]
    fn if_none_match_has_a_limit() {
        let tagged = stored(200, &[("etag", "\"own\"")]);
        let request = |others: usize| {
            let mut tags = vec!["\"x\""; others];
            tags.push("\"own\"");
            headers(&[("if-none-match", &tags.join(","))])
        };
        let found = |others| evaluate(&Method::GET, &request(others), &tagged);
        assert_eq!(found(ENTITY_TAGS_MAX - 1), Condition::NotModified);
        assert_eq!(found(ENTITY_TAGS_MAX), Condition::Send);
    }

    #[test]
    fn rfc_9110_13_1_3_if_modified_since() {
        let modified = stored(200, &[("last-modified", MODIFIED), ("date", LATER)]);
        let only_date = stored(200, &[("date", MODIFIED)]);
        let neither = stored(200, &[]);
        for (value, expected) in [
            (EARLIER, Condition::Send),
            (MODIFIED, Condition::NotModified),
            (LATER, Condition::NotModified),
            ("yesterday", Condition::Send),
        ] {
            let request = headers(&[("if-modified-since", value)]);
            for response in [&modified, &only_date, &neither] {
                assert_eq!(
                    evaluate(&Method::GET, &request, response),
                    expected,
                    "{value}"
                );
            }
        }
    }

    #[test]
    fn rfc_9110_13_1_5_if_range_needs_a_strong_validator() {
        let strong = [
            ("etag", "\"a\""),
            ("last-modified", MODIFIED),
            ("date", LATER),
        ];
        let weak = [
            ("etag", "W/\"a\""),
            ("last-modified", MODIFIED),
            ("date", MODIFIED),
        ];
        for (value, with_strong, with_weak) in [
            (None, true, true),
            (Some("\"a\""), true, false),
            (Some("W/\"a\""), false, false),
            (Some("\"b\""), false, false),
            (Some(MODIFIED), true, false),
            (Some(EARLIER), false, false),
            (Some(LATER), false, false),
            (Some("x"), false, false),
        ] {
            let lines: Vec<_> = value.into_iter().map(|v| ("if-range", v)).collect();
            let request = headers(&lines);
            assert_eq!(
                if_range_holds(&request, &headers(&strong)),
                with_strong,
                "{value:?}"
            );
            assert_eq!(
                if_range_holds(&request, &headers(&weak)),
                with_weak,
                "{value:?}"
            );
        }
    }

    #[test]
    fn rfc_9111_4_3_1_a_parent_is_asked_with_our_validators_and_no_others() {
        let mut request = headers(&[
            ("if-none-match", "\"viewer\""),
            ("if-modified-since", LATER),
        ]);
        assert!(add_conditions(
            &mut request,
            &headers(&[("etag", "W/\"a\"")])
        ));
        assert_eq!(request, headers(&[("if-none-match", "W/\"a\"")]));
        assert!(!add_conditions(&mut request, &HeaderMap::new()));
        assert!(request.is_empty());
        let dated = headers(&[("last-modified", MODIFIED)]);
        assert!(add_conditions(&mut request, &dated));
        assert_eq!(request, headers(&[("if-modified-since", MODIFIED)]));
    }

    #[test]
    fn rfc_9111_4_3_4_a_304_about_something_else_is_not_used() {
        for (ours, theirs, expected) in [
            (&[("etag", "\"a\"")][..], &[("etag", "\"a\"")][..], true),
            (&[("etag", "\"a\"")], &[("etag", "W/\"a\"")], true),
            (&[("etag", "\"a\"")], &[("etag", "\"b\"")], false),
            (&[("etag", "\"a\"")], &[], true),
            (&[], &[("etag", "\"a\"")], false),
            (
                &[("last-modified", MODIFIED)],
                &[("last-modified", MODIFIED)],
                true,
            ),
            (
                &[("last-modified", MODIFIED)],
                &[("last-modified", LATER)],
                false,
            ),
            (&[("last-modified", MODIFIED)], &[], true),
        ] {
            assert_eq!(
                is_about(&headers(theirs), &headers(ours)),
                expected,
                "{ours:?} {theirs:?}"
            );
        }
    }

    #[test]
    fn rfc_9110_15_4_5_a_304_says_what_a_cache_needs_and_nothing_about_the_body() {
        let stored = headers(&[
            ("etag", "\"a\""),
            ("cache-control", "max-age=1"),
            ("date", MODIFIED),
            ("vary", "a"),
            ("vary", "b"),
            ("content-length", "9"),
            ("content-type", "video/mp4"),
            ("content-encoding", "gzip"),
        ]);
        let sent = not_modified_fields(&stored);
        assert_eq!(sent.len(), 5);
        assert!(!sent.contains_key("content-length") && sent.get_all("vary").iter().count() == 2);
    }
}
