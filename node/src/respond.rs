//! Response heads: stored responses, ranges, not-modified, and the one table of failures.
//!
//! Who calls it: every branch of `exchange`. Deliberately not here: decisions; by the time a branch
//! responds, it knows what to say.

mod failure;
mod multipart;
mod ready;
mod stored;

pub use failure::Failure;
pub(crate) use ready::head as ready_head;
pub use stored::stored;

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::body::Body;
use crate::node::Node;

/// An answer on its way to the viewer, before what the connection adds.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub fields: HeaderMap,
    /// The body.
    pub body: Body,
    /// What the cache did, for metrics and the log.
    pub outcome: Outcome,
    /// The same in the words of `Cache-Status`, where there is more to say than the outcome alone.
    pub status_member: Option<cache::Outcome>,
    /// How long the request was held on purpose.
    pub held: Duration,
}

impl Answer {
    /// Returns the answer to a request that was first held for `held`.
    pub(crate) fn after(mut self, held: Duration) -> Self {
        self.held += held;
        self
    }
}

/// What the cache did for one request (RFC 9211).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A stored response, fresh.
    Hit,
    /// A live playlist version this node already had.
    Live,
    /// A live playlist version the request was held for.
    Held,
    /// A request of its own went to a parent.
    Miss,
    /// A request that was already under way answered this one too.
    Collapsed,
    /// A stale stored response, served while it is revalidated or in place of an error (RFC 5861).
    Stale,
    /// A stored response that a parent has just confirmed.
    Revalidated,
    /// Known not to be storable: relayed.
    Bypass,
    /// Answered here without cache or parent.
    Local,
    /// Could not be answered.
    Failed,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 10] = [
        Self::Hit,
        Self::Live,
        Self::Held,
        Self::Miss,
        Self::Collapsed,
        Self::Stale,
        Self::Revalidated,
        Self::Bypass,
        Self::Local,
        Self::Failed,
    ];

    /// Returns the name used in logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Live => "live",
            Self::Held => "held",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Bypass => "bypass",
            Self::Local => "local",
            Self::Failed => "failed",
        }
    }

    /// Returns the parameters of this node's `Cache-Status` member, without its name.
    fn cache_status(self) -> Option<&'static str> {
        // RFC 9211 2: `hit` xor `fwd`.
        match self {
            Self::Hit | Self::Live => Some("hit"),
            Self::Held => Some("fwd=uri-miss; collapsed; detail=held"),
            Self::Miss => Some("fwd=uri-miss"),
            Self::Collapsed => Some("fwd=uri-miss; collapsed"),
            Self::Stale => Some("hit"),
            Self::Revalidated => Some("fwd=stale"),
            Self::Bypass => Some("fwd=bypass"),
            Self::Local | Self::Failed => None,
        }
    }
}

/// This node's members of `Cache-Status`, one per outcome, written once (RFC 9211 2).
#[derive(Clone, Debug)]
pub struct Members {
    by_outcome: [Option<HeaderValue>; Outcome::ALL.len()],
}

impl Members {
    /// Writes the members of the node called `node_name`.
    pub fn new(node_name: &str) -> Self {
        let member = |outcome: Outcome| {
            let parameters = outcome.cache_status()?;
            HeaderValue::try_from(format!("{node_name}; {parameters}")).ok()
        };
        Self {
            by_outcome: Outcome::ALL.map(member),
        }
    }

    /// Appends the member for `outcome` after those of the parents: origin-nearest first.
    pub fn append_to(&self, fields: &mut HeaderMap, outcome: Outcome) {
        let at = Outcome::ALL.iter().position(|o| *o == outcome);
        if let Some(member) = at.and_then(|at| self.by_outcome.get(at)?.as_ref()) {
            fields.append(CACHE_STATUS, member.clone());
        }
    }
}

/// Adds what every response of this node carries, but for `Cache-Status`.
pub(crate) fn dress(node: &Node, fields: &mut HeaderMap) {
    if node.allows_cross_origin {
        allow_cross_origin(fields);
    }
    // RFC 9110 7.6.3: after the parents', if there were any.
    fields.append(header::VIA, node.via.clone());
}

/// Adds what lets a page of another origin read the response (CA-12).
pub fn allow_cross_origin(fields: &mut HeaderMap) {
    fields.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    fields.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(EXPOSED),
    );
    fields.insert(TIMING_ALLOW_ORIGIN, HeaderValue::from_static("*"));
}

/// Field values that are the same on every node.
const CONSTANTS: [&str; 3] = ["*", "bytes", EXPOSED];

/// States how long the response took here, to players that report CMCD and for requests that were held:
/// they leave that time out of the throughput they measure (CTA-5006 `rd`, HX-05).
pub(crate) fn state_delay(fields: &mut HeaderMap, node_name: &str, elapsed: Duration) {
    let milliseconds = elapsed.as_millis();
    // A node's name is a token: nothing in it needs an escape in a quoted string.
    if let Ok(value) = HeaderValue::try_from(format!("\"{node_name}\";rd={milliseconds}")) {
        fields.append(CMSD_DYNAMIC, value);
    }
}

/// States what the cache did and where the time went (HX-21): what was held on purpose, and the rest,
/// which on a hit is next to nothing.
pub(crate) fn state_timing(answer: &mut Answer, elapsed: Duration) {
    let outcome = answer.outcome.name();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    let held = milliseconds(answer.held);
    let rest = milliseconds(elapsed.saturating_sub(answer.held));
    let value = format!("cache;desc={outcome}, hold;dur={held:.1}, fill;dur={rest:.1}");
    if let Ok(value) = HeaderValue::try_from(value) {
        answer.fields.append("server-timing", value);
    }
}

/// Answers OPTIONS here, for any origin, with a long lifetime (CA-12).
pub fn preflight() -> Answer {
    let mut fields = HeaderMap::new();
    allow_cross_origin(&mut fields);
    fields.insert(
        header::ALLOW,
        HeaderValue::from_static("GET, HEAD, OPTIONS"),
    );
    fields.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD, OPTIONS"),
    );
    fields.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static(ALLOWED),
    );
    fields.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static("86400"),
    );
    Answer {
        status: StatusCode::NO_CONTENT,
        fields,
        body: Body::empty(),
        outcome: Outcome::Local,
        status_member: None,
        held: Duration::ZERO,
    }
}

/// Returns whether the viewer already has the representation with this validator.
///
/// RFC 9110 13.1.2: weak comparison against every listed tag.
pub fn is_not_modified(fields: &HeaderMap, etag: &HeaderValue) -> bool {
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    let ours = opaque(etag.as_bytes());
    let lists = fields.get_all(header::IF_NONE_MATCH).iter();
    lists
        .flat_map(|list| list.as_bytes().split(|b| *b == b','))
        .any(|tag| {
            let tag = tag.trim_ascii();
            tag == b"*" || opaque(tag) == ours
        })
}

/// What a server says about one response on its way (CTA-5006).
pub const CMSD_DYNAMIC: header::HeaderName = header::HeaderName::from_static("cmsd-dynamic");

/// Which pages may see how long a response took (Resource Timing 4.5).
const TIMING_ALLOW_ORIGIN: header::HeaderName =
    header::HeaderName::from_static("timing-allow-origin");

/// `Cache-Status` (RFC 9211).
pub const CACHE_STATUS: header::HeaderName = header::HeaderName::from_static("cache-status");

/// Age between tiers, in milliseconds, because `Age` has a resolution of one second (LT-02).
pub const AGE_MILLISECONDS: header::HeaderName = header::HeaderName::from_static("seawall-age-ms");

const EXPOSED: &str = "Age, Date, ETag, Content-Range, Content-Length, Server-Timing, \
    Cache-Status, CMSD-Static, CMSD-Dynamic, Retry-After, Seawall-Published";

const ALLOWED: &str = "Range, CMCD-Request, CMCD-Object, CMCD-Status, CMCD-Session, \
    CTA-Common-Access-Token, If-None-Match, If-Modified-Since";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ca_12_age_is_exposed_and_options_is_answered_here() {
        let answer = preflight();
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        assert_eq!(answer.fields["access-control-max-age"], "86400");
        let exposed = answer.fields["access-control-expose-headers"]
            .to_str()
            .unwrap();
        for name in [
            "Age",
            "Date",
            "ETag",
            "Content-Range",
            "Retry-After",
            "CMSD-Dynamic",
        ] {
            assert!(exposed.split(", ").any(|e| e == name), "{name}");
        }
        let allowed = answer.fields["access-control-allow-headers"]
            .to_str()
            .unwrap();
        assert!(allowed.contains("Range") && allowed.contains("CMCD-Session"));
    }

    #[test]
    fn a_members_order_is_origin_nearest_first() {
        let mut fields = HeaderMap::new();
        Members::new("shield-1").append_to(&mut fields, Outcome::Hit);
        Members::new("edge-1").append_to(&mut fields, Outcome::Collapsed);
        Members::new("edge-2").append_to(&mut fields, Outcome::Failed);
        let members: Vec<_> = fields.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(
            members,
            ["shield-1; hit", "edge-1; fwd=uri-miss; collapsed"]
        );
    }
}
