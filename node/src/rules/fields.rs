//! What a rule says about query parameters and header fields.
//!
//! Who calls it: admission for queries, fills for responses, `config` for what may be listed. Deliberately not
//! here: what the node itself sends and answers.

use http::header::{self, HeaderMap, HeaderName};

/// Which query parameters belong to the key and are forwarded; the others do neither (CA-02).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryRule {
    /// All but these.
    Dropped(Vec<String>),
    /// These only, and what HLS reserves.
    Kept(Vec<String>),
}

impl Default for QueryRule {
    /// Returns the rule that keeps everything.
    fn default() -> Self {
        Self::Dropped(Vec::new())
    }
}

impl QueryRule {
    /// Returns whether the parameter of this name, as it stands in the URL, is kept.
    pub fn keeps(&self, name: &str) -> bool {
        match self {
            Self::Dropped(dropped) => !dropped.iter().any(|d| d == name),
            // rfc8216bis 6.2.5: a playlist without its directives is another playlist.
            Self::Kept(kept) => name.starts_with("_HLS_") || kept.iter().any(|k| k == name),
        }
    }
}

/// Which fields of a parent's response are stored and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseFields {
    /// All but these.
    Without(Vec<HeaderName>),
    /// These only, and those that HTTP and this node need.
    Only(Vec<HeaderName>),
}

impl Default for ResponseFields {
    /// Returns the choice of all fields.
    fn default() -> Self {
        Self::Without(Vec::new())
    }
}

impl ResponseFields {
    /// Removes from a response what is not kept.
    pub fn apply(&self, fields: &mut HeaderMap) {
        match self {
            Self::Without(stripped) => {
                for name in stripped {
                    fields.remove(name);
                }
            }
            Self::Only(kept) => {
                let unwanted: Vec<HeaderName> = fields
                    .keys()
                    .filter(|name| !kept.contains(name) && !NEEDED.contains(&name.as_str()))
                    .cloned()
                    .collect();
                for name in &unwanted {
                    fields.remove(name);
                }
            }
        }
    }
}

/// Returns why a field of viewers may not be forwarded, or `None` if it may.
pub fn refusal_to_forward(name: &HeaderName) -> Option<&'static str> {
    let text = name.as_str();
    if HOP_BY_HOP.contains(&text) || text.starts_with("proxy-") {
        return Some("it belongs to one connection and is never forwarded");
    }
    if text.starts_with("x-forwarded-") || ADDRESSING.contains(&text) {
        return Some("viewers could say with it who they are or what they ask for");
    }
    if text.starts_with("if-") || OURS.contains(&text) {
        return Some("set by the node itself");
    }
    if name == header::CACHE_CONTROL || name == header::PRAGMA {
        return Some("forwarded with obey_viewers = true");
    }
    None
}

/// Returns why a field of responses may not be stripped, or `None` if it may.
pub fn refusal_to_strip(name: &HeaderName) -> Option<&'static str> {
    FRAMING
        .contains(&name.as_str())
        .then_some("viewers or caches would take the response for another one without it")
}

/// RFC 9110 7.6.1, and what frames a message.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Cache poisoning by fields that some servers believe (B48, B52).
const ADDRESSING: [&str; 10] = [
    "forwarded",
    "true-client-ip",
    "x-client-ip",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

const OURS: [&str; 4] = ["cdn-loop", "host", "range", "via"];

/// Without these a response is another one, or is kept wrongly.
const FRAMING: [&str; 10] = [
    "age",
    "cache-status",
    "content-encoding",
    "content-length",
    "content-range",
    "date",
    "location",
    "transfer-encoding",
    "vary",
    "via",
];

/// What a response needs, whoever keeps it (RFC 9110 8, 9111 5, 9211, 9213, 9875).
const NEEDED: [&str; 30] = [
    "accept-ranges",
    "age",
    "allow",
    "cache-control",
    "cache-groups",
    "cache-status",
    "cdn-cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expires",
    "last-modified",
    "location",
    "pragma",
    "retry-after",
    "seawall-age-ms",
    "seawall-cdn-cache-control",
    "seawall-holds",
    "surrogate-key",
    "transfer-encoding",
    "vary",
    "via",
    "warning",
    "www-authenticate",
];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn ca_02_a_list_of_kept_parameters_never_drops_what_hls_reserves() {
        let kept = QueryRule::Kept(vec!["id".to_owned()]);
        for (name, expected) in [
            ("id", true),
            ("ID", false),
            ("utm_source", false),
            ("_HLS_msn", true),
            ("_HLS_rewind", true),
        ] {
            assert_eq!(kept.keeps(name), expected, "{name}");
        }
        assert!(QueryRule::default().keeps("anything"));
    }

    #[test]
    fn only_what_is_kept_or_needed_stays_of_a_response() {
        let fields = || -> HeaderMap {
            ["etag", "server", "x-powered-by", "x-asset"]
                .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("v")))
                .into_iter()
                .collect()
        };
        let names = |fields: &HeaderMap| -> Vec<String> {
            let mut names: Vec<_> = fields.keys().map(ToString::to_string).collect();
            names.sort();
            names
        };
        let mut without = fields();
        ResponseFields::Without(vec![header::SERVER]).apply(&mut without);
        assert_eq!(names(&without), ["etag", "x-asset", "x-powered-by"]);
        let mut only = fields();
        ResponseFields::Only(vec![HeaderName::from_static("x-asset")]).apply(&mut only);
        assert_eq!(names(&only), ["etag", "x-asset"]);
    }

    #[test]
    fn b48_b52_fields_that_address_or_frame_a_request_are_never_forwarded() {
        for name in [
            "host",
            "connection",
            "cdn-loop",
            "via",
            "range",
            "if-none-match",
            "x-forwarded-host",
            "forwarded",
            "x-original-url",
            "x-http-method-override",
            "proxy-authorization",
            "cache-control",
        ] {
            assert!(
                refusal_to_forward(&HeaderName::from_static(name)).is_some(),
                "{name}"
            );
        }
        for name in ["authorization", "cookie", "accept-language", "x-asset"] {
            assert!(
                refusal_to_forward(&HeaderName::from_static(name)).is_none(),
                "{name}"
            );
        }
    }
}
