//! Admission and normalization: what a viewer sent becomes a [`Request`], or a refusal.
//!
//! Who calls it: `exchange`, first thing. What it calls: nothing; it is arithmetic on text.
//! One normalization serves both the cache key and the request to the parent, so that the two cannot
//! disagree. Deliberately not here: any knowledge of media but what a path tells.

mod client;
mod normal;
mod target;

pub use client::{Client, Network, NetworkError};
pub(crate) use normal::hex;
pub use normal::plain_host;
pub use target::{Target, Targets};
pub(crate) use target::{first_segment, presentation_of};

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use cache::CacheKey;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, header};
use media::hls::PURGED_MARK;
use tokio::time::Instant;

use crate::early::Handshake;
use crate::interim::InterimOutbox;
use crate::live::{Holder, RUN_MARK};
use crate::respond::Failure;
use crate::rules::{QueryRule, Rules};

/// An admitted request in its normal form.
#[derive(Clone, Debug)]
pub struct Request {
    /// What the viewer wants.
    pub wants: Wants,
    /// The method that says so.
    pub method: Method,
    /// Where it is, and all that follows from that alone.
    pub target: Arc<Target>,
    /// The viewer's header fields.
    pub fields: HeaderMap,
    /// Where interim responses to it go.
    pub interim: InterimOutbox,
    /// For whom it is held, if it is.
    pub holder: Holder,
    /// The handshake of its connection, if that was not done when it came.
    pub handshake: Option<Handshake>,
    is_of_child: bool,
    /// Whether a child knows of a purge that this node does not: nothing stored here answers it.
    pub is_ahead: bool,
    /// When the request arrived.
    pub received_at: Instant,
}

/// What a viewer wants of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// GET: head and body.
    Content,
    /// HEAD: the head only (RFC 9110 9.3.2).
    HeadOnly,
    /// OPTIONS: what a cross-origin page may do (CA-12).
    Preflight,
    /// Any other method: what only the origin can do.
    Effect,
}

/// A canonical query: parameters in byte order of their raw names, values byte for byte (CA-02, CA-03).
///
/// Only `&` separates, names are compared as they are written, and repeated ones keep their order (B51).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Everything but the three delivery directives.
    rest: String,
    /// `_HLS_msn`, `_HLS_part` and `_HLS_skip`, as sent.
    directives: String,
    /// Both, in order.
    whole: String,
}

impl Query {
    /// Sorts `raw` and drops the parameters that `rule` does not keep.
    pub fn canonical(raw: &str, rule: &QueryRule) -> Self {
        if raw.is_empty() {
            return Self::default();
        }
        let mut parameters: Vec<&str> = raw
            .split('&')
            .filter(|p| !p.is_empty() && (rule.keeps(name_of(p)) || is_mark(name_of(p))))
            .collect();
        // Stable, so that repeated parameters keep the order their sender gave them.
        parameters.sort_by_key(|p| name_of(p));
        let is_directive = |p: &&&str| DIRECTIVES.contains(&name_of(p));
        let join = |keep: &dyn Fn(&&&str) -> bool| {
            parameters
                .iter()
                .filter(keep)
                .copied()
                .collect::<Vec<_>>()
                .join("&")
        };
        Self {
            directives: join(&is_directive),
            rest: join(&|p| !is_directive(p)),
            whole: parameters.join("&"),
        }
    }

    /// Returns the delivery directives, or an empty string (rfc8216bis 6.2.5).
    pub fn directives(&self) -> &str {
        &self.directives
    }

    /// Returns everything but the delivery directives.
    pub fn without_directives(&self) -> &str {
        &self.rest
    }

    /// Returns whether there is a parameter called `name`, other than a delivery directive.
    pub fn has(&self, name: &str) -> bool {
        self.rest
            .split('&')
            .any(|parameter| name_of(parameter) == name)
    }

    /// Returns the whole canonical query.
    pub fn whole(&self) -> &str {
        &self.whole
    }
}

impl Request {
    /// Admits a request, or says why not.
    ///
    /// # Errors
    ///
    /// A method other than GET, HEAD or OPTIONS where it is not relayed; no or a malformed host; a path that
    /// servers could read differently (B58 to B61); content where the method has no use for it (B50);
    /// a target longer than `target_bytes_max`; a request that already passed this node (RFC 8586).
    pub fn admit(request: http::Request<()>, rules: &Admission<'_>) -> Result<Self, Failure> {
        let (mut head, ()) = request.into_parts();
        Self::admit_head(&mut head, rules)
    }

    /// Admits the request that `head` is of, and takes the fields out of it; or says why not.
    ///
    /// # Errors
    ///
    /// As [`Request::admit`].
    pub fn admit_head(head: &mut Parts, rules: &Admission<'_>) -> Result<Self, Failure> {
        let wants = match head.method {
            Method::GET => Wants::Content,
            Method::HEAD => Wants::HeadOnly,
            Method::OPTIONS => Wants::Preflight,
            // A proxy's own business (RFC 9110 9.3.6), and a mirror that shows what parents were sent (9.3.8).
            Method::CONNECT | Method::TRACE => return Err(Failure::MethodNotAllowed),
            _ => Wants::Effect,
        };
        let sent = head.uri.path_and_query();
        if sent.map_or(0, |sent| sent.as_str().len()) > rules.target_bytes_max {
            return Err(Failure::TargetTooLong);
        }
        let host = sent_host(&head.uri, &head.headers).ok_or(Failure::HostMissing)?;
        let target = rules.targets.resolve(host, sent, rules.rules)?;
        if wants != Wants::Effect && has_content(&head.headers) {
            return Err(Failure::ContentRefused);
        }
        let is_of_child = head.headers.contains_key(CDN_LOOP);
        if is_of_child && has_passed(&head.headers, rules.node_name) {
            return Err(Failure::LoopDetected);
        }
        if wants == Wants::Effect && !target.rule.relays_methods {
            return Err(Failure::MethodNotAllowed);
        }
        Ok(Self {
            wants,
            method: head.method.clone(),
            target,
            fields: std::mem::take(&mut head.headers),
            interim: InterimOutbox::default(),
            holder: Holder::default(),
            handshake: None,
            is_of_child,
            is_ahead: false,
            received_at: rules.now,
        })
    }

    /// Returns the key of the response to exactly this target.
    pub fn key(&self) -> &CacheKey {
        &self.target.key
    }

    /// Returns the key of the target without delivery directives: the rendition's.
    pub fn rendition_key(&self) -> &CacheKey {
        &self.target.rendition_key
    }

    /// Returns what belongs together and should come from one parent (CA-08).
    pub fn affinity(&self) -> String {
        affinity_of(&self.target.host, &self.target.path)
    }

    /// Returns whether the request comes from another node or CDN (RFC 8586).
    pub fn is_of_child(&self) -> bool {
        self.is_of_child
    }

    /// Returns how long ago the request arrived.
    pub fn waited(&self) -> Duration {
        self.received_at.elapsed()
    }
}

/// Returns whether a parameter is one of ours, which no rule drops.
fn is_mark(name: &str) -> bool {
    name == RUN_MARK || name == PURGED_MARK
}

/// What admission is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Admission<'a> {
    /// This node's name in `CDN-Loop`.
    pub node_name: &'a str,
    /// What the operator says about hosts and paths.
    pub rules: &'a Rules,
    /// The targets that were lately asked for under these rules.
    pub targets: &'a Targets,
    /// Bytes of path and query.
    pub target_bytes_max: usize,
    /// When the request arrived.
    pub now: Instant,
}

/// Returns the key of a resource in its normal form.
pub fn key_of(host: &str, path: &str, query: &str) -> CacheKey {
    thread_local! {
        /// At most as long as a target may be, with its host.
        static URL: RefCell<String> = const { RefCell::new(String::new()) };
    }
    URL.with_borrow_mut(|url| {
        url.clear();
        // The scheme is not part of it: parents never learn it (docs/decisions/0005).
        for piece in ["//", host, path] {
            url.push_str(piece);
        }
        if !query.is_empty() {
            url.push('?');
            url.push_str(query);
        }
        CacheKey::from(url.as_str())
    })
}

/// Returns the key of a resource whose path and canonical query are one text.
pub fn key_of_target(host: &str, target: &str) -> CacheKey {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    key_of(host, path, query)
}

/// Returns a request target from a path and a query that may be empty.
pub fn path_and_query(path: &str, query: &str) -> String {
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    }
}

/// Returns the presentation a path belongs to: the host and the first path segment.
///
/// Packagers put a channel's playlists and media below one directory; taking the first segment keeps
/// all renditions together whatever the layout below it.
pub fn affinity_of(host: &str, path: &str) -> String {
    let mut segments = path.trim_start_matches('/').splitn(2, '/');
    let first = segments.next().unwrap_or("");
    let first = if segments.next().is_some() { first } else { "" };
    format!("{host}/{first}")
}

fn name_of(parameter: &str) -> &str {
    parameter
        .split_once('=')
        .map_or(parameter, |(name, _)| name)
}

/// Returns the host as the client wrote it.
fn sent_host<'a>(uri: &'a http::Uri, fields: &'a HeaderMap) -> Option<&'a str> {
    // RFC 9112 3.2.2 and RFC 9113 8.3.1: an authority in the target wins over the Host field.
    if let Some(authority) = uri.authority() {
        return Some(authority.as_str());
    }
    let mut hosts = fields.get_all(header::HOST).iter();
    let only = hosts.next()?;
    if hosts.next().is_some() {
        return None; // RFC 9112 3.2: more than one Host is refused.
    }
    only.to_str().ok()
}

/// RFC 9110 9.3.1: content of a GET has no meaning, and an origin that gives it one answers another question
/// than the key asks (B50). Content that no field announces is neither read nor forwarded.
fn has_content(fields: &HeaderMap) -> bool {
    let is_empty = |length: &HeaderValue| length.as_bytes() == b"0";
    fields.contains_key(header::TRANSFER_ENCODING)
        || !fields.get_all(header::CONTENT_LENGTH).iter().all(is_empty)
}

fn has_passed(fields: &HeaderMap, node_name: &str) -> bool {
    // RFC 8586 2: a CDN that finds its own identifier refuses the request.
    fields
        .get_all(CDN_LOOP)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|member| member.split(';').next().unwrap_or("").trim() == node_name)
}

/// Whom a request has passed (RFC 8586).
pub const CDN_LOOP: header::HeaderName = header::HeaderName::from_static("cdn-loop");

/// How a playlist is delivered, not what it is (rfc8216bis 6.2.5).
pub(crate) const DIRECTIVES: [&str; 3] = ["_HLS_msn", "_HLS_part", "_HLS_skip"];

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(method: &str, uri: &str, fields: &[(&str, &str)]) -> Result<Request, Failure> {
        let mut builder = http::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        let operator = Rules::dropping(vec!["CMCD".to_owned(), "token".to_owned()]);
        let rules = Admission {
            node_name: "edge-1",
            rules: &operator,
            targets: &Targets::default(),
            target_bytes_max: 200,
            now: Instant::now(),
        };
        Request::admit(builder.body(()).unwrap(), &rules)
    }

    #[test]
    fn ca_02_the_order_of_parameters_does_not_split_the_key() {
        let appended = admit(
            "GET",
            "/a.m3u8?t=a&_HLS_msn=5&_HLS_part=1",
            &[("host", "x")],
        )
        .unwrap();
        let ordered = admit(
            "GET",
            "/a.m3u8?_HLS_msn=5&_HLS_part=1&t=a",
            &[("host", "x")],
        )
        .unwrap();
        assert_eq!(appended.key(), ordered.key());
        assert_eq!(ordered.target.query.whole(), "_HLS_msn=5&_HLS_part=1&t=a");
        assert_eq!(ordered.target.query.directives(), "_HLS_msn=5&_HLS_part=1");
        assert_eq!(ordered.target.query.without_directives(), "t=a");
    }

    #[test]
    fn ca_02_dropped_parameters_are_in_neither_key_nor_forward_query() {
        let with = admit("GET", "/a?CMCD=bl%3D100&b=1&token=s3cret", &[("host", "x")]).unwrap();
        let without = admit("GET", "/a?b=1", &[("host", "x")]).unwrap();
        assert_eq!(with.key(), without.key());
        assert_eq!(with.target.query.whole(), "b=1");
    }

    #[test]
    fn ca_02_unknown_reserved_parameters_stay_in_the_key() {
        let request = admit("GET", "/a.m3u8?_HLS_rewind=1&_HLS_msn=2", &[("host", "x")]).unwrap();
        assert_eq!(request.target.query.without_directives(), "_HLS_rewind=1");
    }

    #[test]
    fn ca_03_values_are_forwarded_byte_for_byte() {
        let request = admit("GET", "/a?token2=a~b%2Fc=&a=%7e", &[("host", "x")]).unwrap();
        assert_eq!(request.target.query.whole(), "a=%7e&token2=a~b%2Fc=");
    }

    #[test]
    fn hosts_are_compared_in_lower_case_without_default_port() {
        for host in [
            "Live.Example",
            "live.example:443",
            "live.example:80",
            "live.example.",
        ] {
            let request = admit("GET", "/a", &[("host", host)]).unwrap();
            assert_eq!(request.target.host, "live.example", "{host}");
        }
        assert_eq!(
            admit("GET", "http://other/a", &[("host", "x")])
                .unwrap()
                .target
                .host,
            "other"
        );
    }

    #[test]
    fn what_cannot_be_admitted_is_refused_by_name() {
        type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Failure);
        let cases: [Case<'_>; 8] = [
            ("POST", "/a", &[("host", "x")], Failure::MethodNotAllowed),
            ("PURGE", "/a", &[("host", "x")], Failure::MethodNotAllowed),
            ("GET", "/a", &[], Failure::HostMissing),
            (
                "GET",
                "/a",
                &[("host", "x"), ("host", "y")],
                Failure::HostMissing,
            ),
            ("GET", "/a", &[("host", "x/y")], Failure::HostMissing),
            ("GET", "/a/../b", &[("host", "x")], Failure::PathRefused),
            ("GET", "/a/%2E%2e/b", &[("host", "x")], Failure::PathRefused),
            (
                "GET",
                "/a",
                &[("host", "x"), ("cdn-loop", "other, edge-1;v=1")],
                Failure::LoopDetected,
            ),
        ];
        for (method, uri, fields, expected) in cases {
            assert_eq!(
                admit(method, uri, fields).err(),
                Some(expected),
                "{method} {uri} {fields:?}"
            );
        }
        let long = format!("/{}", "a".repeat(200));
        assert_eq!(
            admit("GET", &long, &[("host", "x")]).err(),
            Some(Failure::TargetTooLong)
        );
    }

    #[test]
    fn ca_08_all_renditions_of_a_presentation_share_one_affinity() {
        assert_eq!(
            affinity_of("h", "/live/v0/p.m3u8"),
            affinity_of("h", "/live/index.m3u8")
        );
        assert_ne!(
            affinity_of("h", "/live/a.m3u8"),
            affinity_of("h", "/other/a.m3u8")
        );
        assert_eq!(affinity_of("h", "/a.m3u8"), "h/");
    }
}
