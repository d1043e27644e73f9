//! Every directive, well and badly written.

use http::HeaderValue;
use http::header::SET_COOKIE;

use super::*;

const CDN: HeaderName = HeaderName::from_static("cdn-cache-control");

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            *name,
            HeaderValue::from_bytes(value.as_bytes()).expect("a field value"),
        );
    }
    headers
}

fn response(value: &str) -> ResponseDirectives {
    ResponseDirectives::of(&headers(&[("cache-control", value)]), &[])
}

fn secs(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

#[test]
fn rfc_9111_4_2_1_a_lifetime_that_cannot_be_read_is_zero_and_the_first_of_several_counts() {
    for (value, expected) in [
        ("", None),
        ("max-age=5", secs(5)),
        ("MAX-AGE=5", secs(5)),
        ("max-age=\"5\"", secs(5)),
        ("max-age=05", secs(5)),
        ("public , max-age=5,", secs(5)),
        ("max-age=5, max-age=9", secs(5)),
        ("max-age=x, max-age=9", secs(0)),
        ("max-age", secs(0)),
        ("max-age=", secs(0)),
        ("max-age=-5", secs(0)),
        ("max-age=5.0", secs(0)),
        ("max-age= 5", secs(0)),
        ("max-age=5 6", secs(0)),
        ("max-age='5'", secs(0)),
        ("max-age=99999999999999999999999", secs(SECONDS_MAX)),
        ("x-max-age=5", None),
        ("x=\"max-age=5\"", None),
        ("x=\"a\\\", max-age=7\", max-age=5", secs(5)),
    ] {
        assert_eq!(response(value).max_age, expected, "{value}");
    }
}

#[test]
fn a_quote_that_never_closes_hides_no_directive() {
    let said = response("x=\"a, no-store, private");
    assert!(said.no_store && said.private.is_response());
}

#[test]
fn every_response_directive_is_read() {
    let said = ResponseDirectives::of(
        &headers(&[
            ("cache-control", "s-maxage=1, no-store, no-cache, public"),
            ("cache-control", "must-revalidate, proxy-revalidate"),
            ("cache-control", "must-understand, immutable, private"),
            (
                "cache-control",
                "stale-while-revalidate=2, stale-if-error=3, max-age=4",
            ),
        ]),
        &[],
    );
    let expected = ResponseDirectives {
        max_age: secs(4),
        s_maxage: secs(1),
        no_store: true,
        no_cache: Extent::Response,
        private: Extent::Response,
        public: true,
        must_revalidate: true,
        proxy_revalidate: true,
        must_understand: true,
        immutable: true,
        stale_while_revalidate: secs(2),
        stale_if_error: secs(3),
        is_targeted: false,
    };
    assert_eq!(said, expected);
}

#[test]
fn rfc_9111_5_2_2_a_qualified_directive_names_fields_and_a_broken_one_means_the_response() {
    let fields = |names: &[&'static str]| {
        Extent::Fields(names.iter().map(|n| HeaderName::from_static(n)).collect())
    };
    for (value, expected) in [
        ("no-cache", Extent::Response),
        ("no-cache=\"Set-Cookie\"", fields(&["set-cookie"])),
        ("no-cache=Set-Cookie", fields(&["set-cookie"])),
        ("no-cache=\"a, b\"", fields(&["a", "b"])),
        ("no-cache=\"a\", no-cache=\"b\"", fields(&["a", "b"])),
        ("no-cache=\"a\", no-cache", Extent::Response),
        ("no-cache, no-cache=\"a\"", Extent::Response),
        ("no-cache=\"\"", Extent::Response),
        ("no-cache=\"a b\"", Extent::Response),
        ("no-cache=\"a", Extent::Response),
    ] {
        assert_eq!(response(value).no_cache, expected, "{value}");
    }
    let many = format!(
        "no-cache=\"{}\"",
        vec!["a"; LISTED_FIELDS_MAX + 1].join(",")
    );
    assert_eq!(response(&many).no_cache, Extent::Response);
    let said = response("private=\"set-cookie\", no-cache=\"x\"");
    let unstorable: Vec<_> = said.unstorable_fields().collect();
    assert_eq!(unstorable, [&HeaderName::from_static("x"), &SET_COOKIE]);
}

#[test]
fn every_request_directive_is_read_and_pragma_only_without_cache_control() {
    let said = RequestDirectives::of(&headers(&[(
        "cache-control",
        "max-age=1, max-stale=2, min-fresh=3, no-cache, no-store, only-if-cached",
    )]));
    let expected = RequestDirectives {
        max_age: secs(1),
        max_stale: secs(2),
        min_fresh: secs(3),
        no_cache: true,
        no_store: true,
        only_if_cached: true,
        is_distrusting: false,
    };
    assert_eq!(said, expected);
    let any_stale = RequestDirectives::of(&headers(&[("cache-control", "max-stale")]));
    assert_eq!(any_stale.max_stale, Some(Duration::MAX));
    let pragma = ("pragma", "x, No-Cache");
    assert!(RequestDirectives::of(&headers(&[pragma])).no_cache);
    assert!(!RequestDirectives::of(&headers(&[pragma, ("cache-control", "")])).no_cache);
}

#[test]
fn hx_14_the_first_valid_targeted_field_replaces_cache_control() {
    const OWN: HeaderName = HeaderName::from_static("seawall-cdn-cache-control");
    for (own, cdn, expected) in [
        (None, None, (secs(1), false)),
        (None, Some("max-age=2"), (secs(2), true)),
        (Some("max-age=3"), Some("max-age=2"), (secs(3), true)),
        (Some("max-age=1.5"), Some("max-age=2"), (secs(2), true)),
        (Some("max-age=\"3\""), Some("max-age=2"), (secs(2), true)),
        (Some("max-age=-1"), Some("max-age=2"), (secs(2), true)),
        (Some("max-age=3,"), Some("max-age=2"), (secs(2), true)),
        (Some("no-store=1"), Some("max-age=2"), (secs(2), true)),
        (Some("no-cache=(a)"), Some("max-age=2"), (secs(2), true)),
        (Some("MAX-AGE=3"), Some("max-age=2"), (secs(2), true)),
        (Some(""), Some(""), (secs(1), false)),
        (Some("unknown"), Some("max-age=2"), (None, true)),
        (Some("no-store"), None, (None, true)),
    ] {
        let mut lines = vec![("cache-control", "max-age=1, private")];
        lines.extend(own.map(|value| ("seawall-cdn-cache-control", value)));
        lines.extend(cdn.map(|value| ("cdn-cache-control", value)));
        let said = ResponseDirectives::of(&headers(&lines), &[OWN, CDN]);
        let case = (own, cdn);
        assert_eq!((said.max_age, said.is_targeted), expected, "{case:?}");
        assert_eq!(said.private.is_response(), !said.is_targeted, "{case:?}");
    }
}

#[test]
fn targeted_lines_combine_and_flags_may_be_false() {
    let said = ResponseDirectives::of(
        &headers(&[
            ("cdn-cache-control", "max-age=1, no-store=?0, private=?0"),
            ("cdn-cache-control", "no-cache=\"set-cookie\", immutable"),
        ]),
        &[CDN],
    );
    assert_eq!(said.max_age, secs(1));
    assert!(!said.no_store && said.immutable);
    assert_eq!(said.private, Extent::Nothing);
    assert_eq!(said.no_cache, Extent::Fields(vec![SET_COOKIE]));
}
