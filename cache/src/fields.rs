//! Which fields of a response are kept, and how a 304 updates them (RFC 9111 3.1 and 3.2).
//!
//! `stored` builds its headers here. Deliberately not here: fields that an operator strips, and
//! those of a viewer's response that are made afresh (`Age`, `Cache-Status`).

use http::header::{
    AGE, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName,
    HeaderValue,
};

use crate::directives::ResponseDirectives;

/// Fields about one connection (RFC 9110 7.6.1), and proxy fields (RFC 9111 3.1).
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "http2-settings",
];

/// Returns whether a field concerns one connection only and is never kept or passed on.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(&name.as_str())
}

/// Returns the fields of a response that are kept (RFC 9111 3.1): no hop-by-hop fields, none that
/// `Connection` names, none that the response forbids to keep; and no `Age`, which was counted.
pub fn kept(response: &HeaderMap, said: &ResponseDirectives) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(response.keys_len());
    for (name, value) in response {
        if !is_left_out(name, response, said) {
            kept.append(name, value.clone());
        }
    }
    kept
}

/// Returns the fields of a response that is passed on without being kept: no hop-by-hop fields, none
/// that `Connection` names (RFC 9110 7.6.1).
pub fn passed_on(response: &HeaderMap) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(response.keys_len());
    for (name, value) in response {
        if !is_hop_by_hop(name) && !is_named_by_connection(name, response) {
            fields.append(name, value.clone());
        }
    }
    fields
}

/// Returns the fields of a stored response and of a 304 about it as those of one response (RFC 9111
/// 3.2, 4.3.4): each field of the 304 replaces the stored lines of that name.
///
/// Nothing is left out yet, so that every word of the 304 is heard; [`kept`] comes after.
pub fn updated(stored: &HeaderMap, not_modified: &HeaderMap) -> HeaderMap {
    // RFC 9111 3.2: what describes the stored bytes stays as it is, or they could be misread.
    let is_weakened = is_strong_form(not_modified.get(ETAG), stored.get(ETAG));
    let stays = |name: &HeaderName| {
        [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE].contains(name)
            || (is_weakened && name == ETAG)
    };
    let mut updated = HeaderMap::with_capacity(stored.keys_len() + not_modified.keys_len());
    for (name, value) in stored {
        if !not_modified.contains_key(name) || stays(name) {
            updated.append(name, value.clone());
        }
    }
    for (name, value) in not_modified {
        if !stays(name) {
            updated.append(name, value.clone());
        }
    }
    updated
}

/// Returns whether a tag is the strong form of a stored weak one.
///
/// Then the stored bytes are not those of the strong tag, but were made of them (RFC 9110 8.8.3), and stay so.
fn is_strong_form(tag: Option<&HeaderValue>, stored: Option<&HeaderValue>) -> bool {
    let opaque = stored.and_then(|stored| stored.as_bytes().strip_prefix(b"W/"));
    opaque.is_some() && tag.map(HeaderValue::as_bytes) == opaque
}

fn is_left_out(name: &HeaderName, response: &HeaderMap, said: &ResponseDirectives) -> bool {
    is_hop_by_hop(name)
        || name == AGE
        || is_named_by_connection(name, response)
        || said.unstorable_fields().any(|field| field == name)
}

/// RFC 9110 7.6.1: `Connection` names further fields about this connection.
fn is_named_by_connection(name: &HeaderName, response: &HeaderMap) -> bool {
    response.get_all(CONNECTION).iter().any(|line| {
        let mut options = line.as_bytes().split(|b| *b == b',');
        options.any(|option| {
            option
                .trim_ascii()
                .eq_ignore_ascii_case(name.as_str().as_bytes())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn said(response: &HeaderMap) -> ResponseDirectives {
        ResponseDirectives::of(response, &[])
    }

    #[test]
    fn rfc_9111_3_1_fields_about_a_connection_are_not_kept() {
        let response = headers(&[
            ("connection", "X-Hop, close"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("proxy-authenticate", "Basic"),
            ("age", "3"),
            ("set-cookie", "a=b"),
            ("cache-control", "no-cache=\"set-cookie\", max-age=9"),
            ("link", "</a>"),
            ("link", "</b>"),
        ]);
        let expected = headers(&[
            ("cache-control", "no-cache=\"set-cookie\", max-age=9"),
            ("link", "</a>"),
            ("link", "</b>"),
        ]);
        assert_eq!(kept(&response, &said(&response)), expected);
    }

    #[test]
    fn rfc_9111_3_2_a_304_replaces_fields_but_not_what_describes_the_stored_bytes() {
        let stored = headers(&[
            ("etag", "\"a\""),
            ("content-length", "9"),
            ("content-type", "video/mp4"),
            ("x", "1"),
            ("x", "2"),
            ("y", "1"),
        ]);
        let not_modified = headers(&[
            ("etag", "\"a\""),
            ("content-length", "0"),
            ("content-encoding", "gzip"),
            ("connection", "close"),
            ("x", "3"),
            ("z", "1"),
            ("z", "2"),
        ]);
        let expected = headers(&[
            ("content-length", "9"),
            ("content-type", "video/mp4"),
            ("y", "1"),
            ("etag", "\"a\""),
            ("x", "3"),
            ("z", "1"),
            ("z", "2"),
        ]);
        let found = updated(&stored, &not_modified);
        assert_eq!(kept(&found, &said(&not_modified)), expected);
    }

    #[test]
    fn rfc_9111_3_2_a_304_does_not_make_a_tag_strong_that_was_weakened_here() {
        for (of_stored, of_304, expected) in [
            ("W/\"a\"", "\"a\"", "W/\"a\""),
            ("W/\"a\"", "W/\"a\"", "W/\"a\""),
            ("W/\"a\"", "\"b\"", "\"b\""),
            ("\"a\"", "W/\"a\"", "W/\"a\""),
        ] {
            let updated = updated(
                &headers(&[("etag", of_stored)]),
                &headers(&[("etag", of_304)]),
            );
            assert_eq!(
                updated,
                headers(&[("etag", expected)]),
                "{of_stored} {of_304}"
            );
        }
    }
}
