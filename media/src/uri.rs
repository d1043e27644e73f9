//! Where a URI in a playlist or MPD leads (RFC 3986 section 5.2).
//!
//! Called by the node, which learns what child URIs are, and by players. One pure function.
//! Deliberately not here: schemes other than HTTP, host names, and the node's normal form of queries.

use std::fmt::Write;

use thiserror::Error;

/// Where a reference leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// To the same host as a base that names none: a path and its query.
    PathAndQuery(String),
    /// To a URL with a host. It begins with `//` if neither base nor reference names a scheme.
    Url(String),
    /// To another scheme (`skd:`, `data:`), as written: nothing that HTTP delivers.
    Other(String),
}

/// Why a reference leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UriError {
    /// Base, reference or result has more than [`URI_BYTES_MAX`] bytes.
    #[error("the URI is longer than {URI_BYTES_MAX} bytes")]
    TooLong,
    /// A control character.
    #[error("the URI has a control character")]
    ControlCharacter,
    /// An HTTP URL without a host, or with credentials in front of it.
    #[error("the URL does not name a plain host")]
    BadAuthority,
    /// The base is neither an HTTP URL nor a path that begins with `/`.
    #[error("the base is neither a path nor an HTTP URL")]
    BadBase,
}

/// Most bytes of a URI.
pub const URI_BYTES_MAX: usize = 8 * 1024;

/// Resolves `reference` against `base`, an HTTP URL or a path with or without a query.
///
/// Fragments are dropped, dot segments removed (those spelled with `%2e` too, as browsers do), and
/// bytes that HTTP does not allow in a request target percent-encoded; nothing else changes.
///
/// ```
/// use media::uri::{Resolved, resolve};
/// let resolved = resolve("/live/v0/playlist.m3u8?t=1", "../init.mp4");
/// assert_eq!(resolved, Ok(Resolved::PathAndQuery("/live/init.mp4".to_owned())));
/// ```
///
/// # Errors
///
/// [`UriError`]; the reference is then nothing to fetch.
pub fn resolve(base: &str, reference: &str) -> Result<Resolved, UriError> {
    if base.len() > URI_BYTES_MAX || reference.len() > URI_BYTES_MAX {
        return Err(UriError::TooLong);
    }
    let reference = reference.trim_ascii();
    if reference
        .bytes()
        .chain(base.bytes())
        .any(|byte| byte.is_ascii_control())
    {
        return Err(UriError::ControlCharacter);
    }
    let base = Parts::of(base);
    let is_http = base.scheme.is_none_or(is_http_scheme);
    let has_host = base.scheme.is_none() || base.authority.is_some_and(is_plain_host);
    let has_path = base.authority.is_some() || base.path.starts_with('/');
    if !is_http || !has_host || !has_path {
        return Err(UriError::BadBase);
    }
    let parts = Parts::of(reference);
    if parts.scheme.is_some_and(|scheme| !is_http_scheme(scheme)) {
        return Ok(Resolved::Other(reference.to_owned()));
    }
    let target = target_of(&base, &parts);
    if parts.scheme.is_some() && target.authority.is_none() {
        return Err(UriError::BadAuthority);
    }
    target.compose()
}

/// A URI's components, as in RFC 3986 section 3; the fragment is gone.
#[derive(Clone, Copy, Debug)]
struct Parts<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(uri: &'a str) -> Self {
        let uri = uri.split_once('#').map_or(uri, |(uri, _)| uri);
        let (uri, query) = uri
            .split_once('?')
            .map_or((uri, None), |(uri, q)| (uri, Some(q)));
        let (scheme, rest) = match uri.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
            _ => (None, uri),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => {
                let end = rest.find('/').unwrap_or(rest.len());
                let (authority, path) = rest.split_at(end);
                (Some(authority), path)
            }
            None => (None, rest),
        };
        Self {
            scheme,
            authority,
            path,
            query,
        }
    }
}

/// What is fetched, before dot segments are removed.
struct Target<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    /// What precedes the last slash of the base's path, if the path is relative to it.
    directory: &'a str,
    path: &'a str,
    query: Option<&'a str>,
}

/// RFC 3986 5.2.2.
fn target_of<'a>(base: &Parts<'a>, reference: &Parts<'a>) -> Target<'a> {
    let Parts { path, query, .. } = *reference;
    if reference.scheme.is_some() || reference.authority.is_some() {
        let scheme = reference.scheme.or(base.scheme);
        return Target {
            scheme,
            authority: reference.authority,
            directory: "",
            path,
            query,
        };
    }
    let (directory, path, query) = if path.is_empty() {
        ("", base.path, query.or(base.query))
    } else if path.starts_with('/') {
        ("", path, query)
    } else {
        (
            base.path
                .rsplit_once('/')
                .map_or("", |(directory, _)| directory),
            path,
            query,
        )
    };
    Target {
        scheme: base.scheme,
        authority: base.authority,
        directory,
        path,
        query,
    }
}

impl Target<'_> {
    /// RFC 3986 5.3.
    fn compose(&self) -> Result<Resolved, UriError> {
        let mut out = String::new();
        if let Some(authority) = self.authority {
            if !is_plain_host(authority) {
                return Err(UriError::BadAuthority);
            }
            if let Some(scheme) = self.scheme {
                out.push_str(&scheme.to_ascii_lowercase());
                out.push(':');
            }
            out.push_str("//");
            out.push_str(&authority.to_ascii_lowercase());
        }
        for segment in without_dots(self.directory, self.path) {
            out.push('/');
            push_encoded(&mut out, segment);
        }
        if let Some(query) = self.query {
            out.push('?');
            push_encoded(&mut out, query);
        }
        if out.len() > URI_BYTES_MAX {
            return Err(UriError::TooLong);
        }
        Ok(match self.authority {
            Some(_) => Resolved::Url(out),
            None => Resolved::PathAndQuery(out),
        })
    }
}

/// Returns the segments of a path under a directory, with dot segments removed (RFC 3986 5.2.4).
fn without_dots<'a>(directory: &'a str, path: &'a str) -> Vec<&'a str> {
    let mut kept = Vec::new();
    let directory = directory.split('/').skip(1);
    let mut segments = directory
        .chain(path.strip_prefix('/').unwrap_or(path).split('/'))
        .peekable();
    while let Some(segment) = segments.next() {
        let dots = dots_of(segment);
        if dots == 2 {
            kept.pop();
        }
        if dots == 0 {
            kept.push(segment);
        } else if segments.peek().is_none() {
            // A path that ends in a dot segment names a directory.
            kept.push("");
        }
    }
    kept
}

/// Returns how many dots a dot segment has; zero if it is none.
fn dots_of(segment: &str) -> usize {
    let mut rest = segment;
    let mut dots = 0;
    while !rest.is_empty() {
        let after = rest.strip_prefix('.').or_else(|| rest.strip_prefix("%2e"));
        let Some(after) = after.or_else(|| rest.strip_prefix("%2E")) else {
            return 0;
        };
        rest = after;
        dots += 1;
    }
    if dots <= 2 { dots } else { 0 }
}

/// Copies text, percent-encoding what RFC 3986 does not allow in a path or query.
fn push_encoded(out: &mut String, text: &str) {
    for character in text.chars() {
        let is_allowed = character.is_ascii_graphic()
            && !matches!(
                character,
                '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'
            );
        if is_allowed {
            out.push(character);
            continue;
        }
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            write!(out, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

fn is_http_scheme(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http")
}

/// RFC 9110 4.2.4: credentials in an HTTP URL are an error, and often a trap.
fn is_plain_host(authority: &str) -> bool {
    let is_allowed =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    !authority.is_empty() && !authority.starts_with(':') && authority.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(base: &str, reference: &str) -> String {
        match resolve(base, reference) {
            Ok(Resolved::Url(url)) => url,
            other => panic!("{reference}: {other:?}"),
        }
    }

    #[test]
    fn rfc_3986_5_4_examples_resolve_as_written() {
        let base = "http://a/b/c/d;p?q";
        let cases = [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q"),
            ("g#s", "http://a/b/c/g"),
            ("g?y#s", "http://a/b/c/g?y"),
            (";x", "http://a/b/c/;x"),
            ("g;x", "http://a/b/c/g;x"),
            ("g;x?y#s", "http://a/b/c/g;x?y"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../", "http://a/"),
            ("../../g", "http://a/g"),
            ("../../../g", "http://a/g"),
            ("../../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            (".g", "http://a/b/c/.g"),
            ("g..", "http://a/b/c/g.."),
            ("..g", "http://a/b/c/..g"),
            ("./../g", "http://a/b/g"),
            ("./g/.", "http://a/b/c/g/"),
            ("g/./h", "http://a/b/c/g/h"),
            ("g/../h", "http://a/b/c/h"),
            ("g;x=1/./y", "http://a/b/c/g;x=1/y"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("g?y/./x", "http://a/b/c/g?y/./x"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
        ];
        for (reference, expected) in cases {
            // We give a path to a URL that has none: a request target needs one.
            let expected = if expected == "http://g" {
                "http://g/"
            } else {
                expected
            };
            assert_eq!(url(base, reference), expected, "{reference}");
        }
        assert_eq!(resolve(base, "g:h"), Ok(Resolved::Other("g:h".to_owned())));
    }

    #[test]
    fn a_base_without_a_host_gives_a_path_and_query() {
        let base = "/live/v0/list.m3u8?token=a/b/../c";
        let cases = [
            ("s1.mp4", "/live/v0/s1.mp4"),
            ("../v1/s1.mp4?x=%2F~", "/live/v1/s1.mp4?x=%2F~"),
            ("%2e%2E/init.mp4", "/live/init.mp4"),
            ("a:b.mp4/c", ""),
            ("./a:b.mp4", "/live/v0/a:b.mp4"),
            ("a b é.mp4", "/live/v0/a%20b%20%C3%A9.mp4"),
            ("a%20b.mp4", "/live/v0/a%20b.mp4"),
            ("", "/live/v0/list.m3u8?token=a/b/../c"),
            ("?x=\"1\"", "/live/v0/list.m3u8?x=%221%22"),
        ];
        for (reference, expected) in cases {
            let expected = match expected {
                "" => Resolved::Other(reference.to_owned()),
                path => Resolved::PathAndQuery(path.to_owned()),
            };
            assert_eq!(resolve(base, reference), Ok(expected), "{reference}");
        }
        assert_eq!(url(base, "//Cdn.example:8443/x"), "//cdn.example:8443/x");
        assert_eq!(
            url(base, "HTTPS://cdn.example/x/../y"),
            "https://cdn.example/y"
        );
    }

    #[test]
    fn references_that_lead_nowhere_are_errors() {
        let long = "a".repeat(URI_BYTES_MAX + 1);
        let spaces = format!("x{}x", " ".repeat(URI_BYTES_MAX / 2));
        let cases = [
            ("/a", long.as_str(), UriError::TooLong),
            ("/a", spaces.as_str(), UriError::TooLong),
            ("/a", "a\u{0}b", UriError::ControlCharacter),
            ("/a", "a\nb", UriError::ControlCharacter),
            ("/a", "http:g", UriError::BadAuthority),
            ("/a", "https:///g", UriError::BadAuthority),
            ("/a", "https://user:pass@host/g", UriError::BadAuthority),
            ("/a", "//user@host/g", UriError::BadAuthority),
            ("/a", "https://h ost/g", UriError::BadAuthority),
            ("a", "b", UriError::BadBase),
            ("", "b", UriError::BadBase),
            ("ftp://h/a", "b", UriError::BadBase),
            ("https:a", "b", UriError::BadBase),
        ];
        for (base, reference, error) in cases {
            assert_eq!(resolve(base, reference), Err(error), "{base} {reference}");
        }
    }

    proptest! {
        #[test]
        fn what_is_resolved_stays_resolved(reference in "[a-z./?%2eE:# é\\\\]{0,24}") {
            if let Ok(Resolved::PathAndQuery(path)) = resolve("/live/v0/list.m3u8", &reference) {
                prop_assert!(path.starts_with('/') && path.is_ascii());
                let segments = path.split('?').next().unwrap().split('/');
                prop_assert!(segments.into_iter().all(|s| dots_of(s) == 0), "{}", path);
                if !path.starts_with("//") {
                    let again = resolve("/other", &path);
                    prop_assert_eq!(again, Ok(Resolved::PathAndQuery(path)));
                }
            }
        }
    }
}
