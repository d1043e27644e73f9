//! Which of several responses under one key answers a request: `Vary` (RFC 9111 4.1).
//!
//! The store keeps a [`Variant`] with each response and matches it against request fields.
//! `Accept-Encoding` is reduced to the codings a video CDN meets, so that browsers which spell it
//! differently share a response (HX-23). Deliberately not here: choosing what to send a parent;
//! `node` sends the same [`normalized_accept_encoding`] that is matched here.

use std::borrow::Cow;
use std::cmp::Reverse;

use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, HeaderMap, HeaderName, VARY};

/// The most fields a `Vary` may name; a response that names more is not stored.
pub const VARY_FIELDS_MAX: usize = 16;

/// The request fields a response was selected by, with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variant {
    /// Sorted by name.
    fields: Box<[Selecting]>,
}

/// A field that selects, in a form in which requests are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Selecting {
    name: HeaderName,
    /// `None`: the request did not have the field.
    value: Option<Box<[u8]>>,
}

impl Variant {
    /// Returns the variant of a response to a request, or `None` if `Vary` is `*`, not readable or
    /// too long: such a response answers no other request.
    ///
    /// Fields in `ignored` do not select, whatever the origin says: `Origin` where the edge itself
    /// answers CORS, CMCD (HX-02).
    pub fn of(response: &HeaderMap, request: &HeaderMap, ignored: &[HeaderName]) -> Option<Self> {
        let mut names = vary_names(response)?;
        names.retain(|name| !ignored.contains(name));
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        let fields = names
            .into_iter()
            .map(|name| {
                let value = normalized(&name, request).map(|v| v.into_owned().into_boxed_slice());
                Selecting { name, value }
            })
            .collect();
        Some(Self { fields })
    }

    /// Returns whether the stored response answers a request with these fields.
    pub fn matches(&self, request: &HeaderMap) -> bool {
        self.fields
            .iter()
            .all(|field| normalized(&field.name, request).as_deref() == field.value.as_deref())
    }

    /// Returns whether the response answers every request for its key.
    pub fn is_any(&self) -> bool {
        self.fields.is_empty()
    }

    /// Returns the names of the fields that select.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.fields.iter().map(|field| &field.name)
    }

    pub(crate) fn weight_bytes(&self) -> u64 {
        self.fields
            .iter()
            .map(|field| {
                size_of::<Selecting>()
                    + field.name.as_str().len()
                    + field.value.as_ref().map_or(0, |value| value.len())
            })
            .sum::<usize>() as u64
    }
}

/// Returns the fields `Vary` names; `None` for `*` and for what cannot be read, which is the same.
fn vary_names(response: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for line in response.get_all(VARY) {
        for member in line.as_bytes().split(|b| *b == b',') {
            let member = member.trim_ascii();
            if member.is_empty() {
                continue; // RFC 9110 5.6.1: a recipient ignores empty list elements.
            }
            // RFC 9111 4.1: a member "*" always fails to match.
            if member == b"*" || names.len() == VARY_FIELDS_MAX {
                return None;
            }
            names.push(HeaderName::from_bytes(member).ok()?);
        }
    }
    Some(names)
}

/// Returns the value of a field in the form in which two requests are compared.
fn normalized<'a>(name: &HeaderName, request: &'a HeaderMap) -> Option<Cow<'a, [u8]>> {
    if name == ACCEPT_ENCODING {
        let codings = normalized_accept_encoding(request);
        return Some(Cow::Borrowed(codings.as_bytes()));
    }
    let mut lines = request.get_all(name).iter();
    let first = lines.next()?.as_bytes().trim_ascii();
    if name == ACCEPT_LANGUAGE {
        return Some(Cow::Owned(normalized_accept_language(request)));
    }
    let mut value = Cow::Borrowed(first);
    // RFC 9111 4.1: fields match where they can be made equal by combining lines.
    for line in lines {
        let value = value.to_mut();
        value.extend_from_slice(b",");
        value.extend_from_slice(line.as_bytes().trim_ascii());
    }
    if value.contains(&b',') {
        value = Cow::Owned(without_space_around_commas(&value));
    }
    Some(value)
}

/// RFC 9111 4.1: fields match where they can be made equal by removing whitespace where the syntax
/// allows it. Around commas that is so, but not inside a quoted string (RFC 9110 5.6.1, 5.6.4).
fn without_space_around_commas(value: &[u8]) -> Vec<u8> {
    let mut normal: Vec<u8> = Vec::with_capacity(value.len());
    let (mut is_quoted, mut is_escaped, mut is_behind_comma) = (false, false, true);
    for &byte in value {
        let is_space = byte == b' ' || byte == b'\t';
        if !is_quoted && is_space && is_behind_comma {
            continue;
        }
        if byte == b',' && !is_quoted {
            normal.truncate(normal.trim_ascii_end().len());
        }
        is_behind_comma = byte == b',' && !is_quoted;
        if byte == b'"' && !is_escaped {
            is_quoted = !is_quoted;
        }
        is_escaped = is_quoted && byte == b'\\' && !is_escaped;
        normal.push(byte);
    }
    normal
}

/// Returns the one spelling of the languages a client accepts: lower case, most wanted first, and in
/// alphabetical order where nothing else orders them (RFC 9110 12.5.4 gives their order no meaning).
fn normalized_accept_language(request: &HeaderMap) -> Vec<u8> {
    let mut languages: Vec<(Reverse<u16>, Vec<u8>)> = Vec::new();
    for line in request.get_all(ACCEPT_LANGUAGE) {
        for member in line.as_bytes().split(|b| *b == b',') {
            let mut parts = member.split(|b| *b == b';');
            let range = parts.next().unwrap_or_default().trim_ascii();
            if range.is_empty() || languages.len() == LANGUAGES_MAX {
                continue;
            }
            let weight = parts.find_map(weight_in_thousandths).unwrap_or(1000);
            languages.push((Reverse(weight), range.to_ascii_lowercase()));
        }
    }
    languages.sort();
    let mut normal = Vec::new();
    for (Reverse(weight), range) in languages {
        normal.extend_from_slice(&range);
        normal.extend_from_slice(format!(";q={weight},").as_bytes());
    }
    normal
}

/// RFC 9110 12.4.2: at most three digits after the point.
fn weight_in_thousandths(parameter: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(parameter).ok()?.trim();
    let weight = text
        .strip_prefix("q=")
        .or_else(|| text.strip_prefix("Q="))?;
    let weight: f32 = weight.parse().ok()?;
    // Out of range and NaN saturate.
    Some((weight.clamp(0.0, 1.0) * 1000.0).round() as u16)
}

/// The most languages of a request that select; those behind do not count.
const LANGUAGES_MAX: usize = 64;

/// Returns the one spelling of the content codings a client accepts: `"br, gzip"`, `"br"`,
/// `"gzip"` or `""`.
///
/// Preferences and other codings are dropped; `identity` is always acceptable (RFC 9110 12.5.3).
pub fn normalized_accept_encoding(request: &HeaderMap) -> &'static str {
    let (mut br, mut gzip, mut any) = (None, None, None);
    for line in request.get_all(ACCEPT_ENCODING) {
        for member in line.as_bytes().split(|b| *b == b',') {
            let mut parts = member.split(|b| *b == b';');
            let coding = parts.next().unwrap_or_default().trim_ascii();
            let is_accepted = !parts.any(is_zero_weight);
            if coding.eq_ignore_ascii_case(b"br") {
                br = Some(is_accepted);
            } else if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip")
            {
                gzip = Some(is_accepted);
            } else if coding == b"*" {
                any = Some(is_accepted);
            }
        }
    }
    let any = any.unwrap_or(false);
    match (br.unwrap_or(any), gzip.unwrap_or(any)) {
        (true, true) => "br, gzip",
        (true, false) => "br",
        (false, true) => "gzip",
        (false, false) => "",
    }
}

/// RFC 9110 12.4.2: a weight of 0 means "not acceptable".
fn is_zero_weight(parameter: &[u8]) -> bool {
    let parameter = parameter.trim_ascii();
    let weight = parameter
        .strip_prefix(b"q=")
        .or_else(|| parameter.strip_prefix(b"Q="));
    weight.is_some_and(|weight| {
        weight.first() == Some(&b'0') && weight.iter().all(|b| matches!(b, b'0' | b'.'))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{ORIGIN, USER_AGENT};

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn hx_23_accept_encoding_has_one_spelling() {
        for (value, expected) in [
            ("", ""),
            ("identity", ""),
            ("gzip", "gzip"),
            ("GZIP;q=0.5", "gzip"),
            ("x-gzip", "gzip"),
            ("gzip, deflate, br, zstd", "br, gzip"),
            ("br;q=1.0, gzip;q=0", "br"),
            ("gzip; q=0.000", ""),
            ("gzip;q=0.001", "gzip"),
            ("*", "br, gzip"),
            ("*, br;q=0", "gzip"),
            ("*;q=0", ""),
            (",;;q=0,=,", ""),
        ] {
            let request = headers(&[("accept-encoding", value)]);
            assert_eq!(normalized_accept_encoding(&request), expected, "{value}");
        }
        assert_eq!(normalized_accept_encoding(&HeaderMap::new()), "");
    }

    fn matches(
        vary: &[(&str, &str)],
        stored: &[(&str, &str)],
        asked: &[(&str, &str)],
    ) -> Option<bool> {
        Variant::of(&headers(vary), &headers(stored), &[ORIGIN])
            .map(|variant| variant.matches(&headers(asked)))
    }

    #[test]
    fn rfc_9111_4_1_fields_are_compared_in_their_normal_form() {
        for (case, vary, stored, asked, expected) in [
            (
                "space around commas",
                &[("vary", "x")][..],
                &[("x", "1 ,2,\"a , b\"")][..],
                &[("x", " 1,  2"), ("x", "\"a , b\"")][..],
                Some(true),
            ),
            (
                "space inside quotes",
                &[("vary", "x")],
                &[("x", "1,\"a , b\"")],
                &[("x", "1,\"a, b\"")],
                Some(false),
            ),
            (
                "languages in another order, case and spelling",
                &[("vary", "accept-language")],
                &[("accept-language", "en, DE;q=0.50")],
                &[("accept-language", "de; q=0.5 , eN")],
                Some(true),
            ),
            (
                "languages wanted otherwise",
                &[("vary", "accept-language")],
                &[("accept-language", "en, de;q=0.5")],
                &[("accept-language", "de, en;q=0.5")],
                Some(false),
            ),
        ] {
            assert_eq!(matches(vary, stored, asked), expected, "{case}");
        }
    }

    #[test]
    fn rfc_9111_4_1_a_response_answers_requests_that_select_it() {
        let any: &[(&str, &str)] = &[("user-agent", "any")];
        for (case, vary, stored, asked, expected) in [
            ("no vary", &[][..], any, &[][..], Some(true)),
            ("star", &[("vary", "*")], any, any, None),
            ("star in a list", &[("vary", "a, *")], any, any, None),
            ("not a field name", &[("vary", "a b")], any, any, None),
            ("empty members", &[("vary", ", ,")], any, &[], Some(true)),
            ("same", &[("vary", "User-Agent")], any, any, Some(true)),
            (
                "absent now",
                &[("vary", "user-agent")],
                any,
                &[],
                Some(false),
            ),
            (
                "absent then",
                &[("vary", "user-agent")],
                &[],
                any,
                Some(false),
            ),
            (
                "two vary lines, one differs",
                &[("vary", "x"), ("vary", "y")],
                &[("x", "1"), ("y", "1")],
                &[("x", "1"), ("y", "2")],
                Some(false),
            ),
            (
                "lines combine",
                &[("vary", "x")],
                &[("x", "1"), ("x", " 2")],
                &[("x", "1, 2")],
                Some(true),
            ),
            (
                "accept-encoding is normalized",
                &[("vary", "accept-encoding")],
                &[("accept-encoding", "gzip, deflate")],
                &[("accept-encoding", "deflate,gzip;q=0.9")],
                Some(true),
            ),
            (
                "ignored",
                &[("vary", "origin")],
                &[("origin", "https://a")],
                &[("origin", "https://b")],
                Some(true),
            ),
        ] {
            assert_eq!(matches(vary, stored, asked), expected, "{case}");
        }
    }

    #[test]
    fn a_vary_of_many_fields_has_a_limit() {
        let many = |count: usize| {
            let names: Vec<_> = (0..count).map(|i| format!("x{i}")).collect();
            Variant::of(
                &headers(&[("vary", &names.join(","))]),
                &HeaderMap::new(),
                &[USER_AGENT],
            )
        };
        assert!(many(VARY_FIELDS_MAX).is_some());
        assert!(many(VARY_FIELDS_MAX + 1).is_none());
    }
}
