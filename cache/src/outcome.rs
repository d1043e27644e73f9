//! What `Cache-Status` will say about a response (RFC 9211).
//!
//! `node` fills an [`Outcome`] while it answers a request, appends it to the response and writes it
//! to logs and metrics in the same words. Deliberately not here: deciding any of it.

use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::storable::Uncacheable;
use crate::stored::StoredResponse;

/// The field this module writes.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The name under which a cache speaks, as it stands in the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheName(Box<str>);

/// A name that no structured field can carry: empty, or not printable ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cache name is printable ASCII and not empty")]
pub struct CacheNameError;

impl CacheName {
    /// Returns a name as token where it can be one, and quoted otherwise (RFC 9211 2).
    ///
    /// # Errors
    ///
    /// If the name is empty or not printable ASCII (RFC 9651 3.3.3).
    pub fn new(name: &str) -> Result<Self, CacheNameError> {
        if name.is_empty() {
            return Err(CacheNameError);
        }
        if let Ok(token) = sfv::TokenRef::from_str(name) {
            return Ok(Self(token.as_str().into()));
        }
        let quoted = quoted(name).ok_or(CacheNameError)?;
        Ok(Self(quoted.into()))
    }
}

impl fmt::Display for CacheName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a request was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// From the store or from a parent.
    pub answered: Answered,
    /// What is left of its freshness lifetime in seconds, negative if stale (RFC 9211 2.4).
    pub ttl: Option<i64>,
    /// One token that says more (RFC 9211 2.8).
    pub detail: Option<Detail>,
}

/// Where the answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// From the store, without going forward (RFC 9211 2.1).
    Hit,
    /// By going forward (RFC 9211 2.2).
    Forward(Forward),
}

/// How the request went forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Why.
    pub reason: ForwardReason,
    /// The status the parent answered with, where it is not the status sent (RFC 9211 2.3).
    pub status: Option<StatusCode>,
    /// Whether the response is stored (RFC 9211 2.5).
    pub stored: bool,
    /// Whether the request shared another's fill; `Some(false)` if it tried to and could not (RFC
    /// 9211 2.6).
    pub collapsed: Option<bool>,
}

/// Why a request went forward (RFC 9211 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForwardReason {
    /// The cache was told not to handle the request.
    Bypass,
    /// The method must be forwarded.
    Method,
    /// Nothing was stored under the key.
    UriMiss,
    /// Something was, but for other request fields.
    VaryMiss,
    /// The request did not accept what was stored.
    Request,
    /// What was stored was stale.
    Stale,
    /// What was stored did not have all bytes asked for.
    Partial,
}

impl ForwardReason {
    /// Every reason, for metrics that name them all.
    pub const ALL: [Self; 7] = [
        Self::Bypass,
        Self::Method,
        Self::UriMiss,
        Self::VaryMiss,
        Self::Request,
        Self::Stale,
        Self::Partial,
    ];

    /// Returns the token of RFC 9211 2.2, which is also the metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// What more there is to say, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Detail {
    /// The request was held until there was something to answer.
    Held,
    /// A version newer than the one asked for answered the request (LL-02, LL-04).
    Newer,
    /// A stale response was served while it is revalidated (RFC 5861 3).
    StaleWhileRevalidate,
    /// A stale response was served in place of an error (RFC 5861 4).
    StaleIfError,
    /// The response was not stored, and why.
    Uncacheable(Uncacheable),
}

impl Detail {
    /// Returns the token used as `detail`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Newer => "newer",
            Self::StaleWhileRevalidate => "stale-while-revalidate",
            Self::StaleIfError => "stale-if-error",
            Self::Uncacheable(reason) => reason.name(),
        }
    }
}

impl Outcome {
    /// Returns the outcome of a response served from the store at `now`.
    pub fn hit(stored: &StoredResponse, now: SystemTime) -> Self {
        Self {
            answered: Answered::Hit,
            ttl: Some(stored.ttl(now)),
            detail: None,
        }
    }

    /// Returns the outcome of a request that went forward for `reason`, with nothing known yet of
    /// how that ended.
    pub const fn forward(reason: ForwardReason) -> Self {
        Self {
            answered: Answered::Forward(Forward {
                reason,
                status: None,
                stored: false,
                collapsed: None,
            }),
            ttl: None,
            detail: None,
        }
    }

    /// Adds a member for this cache behind those of the caches nearer to the origin (RFC 9211 2).
    ///
    /// `key` is for operators who debug; it tells viewers what the key is made of, so leave it
    /// out by default. A key that no structured field can carry is left out, too.
    pub fn append_to(&self, headers: &mut HeaderMap, cache: &CacheName, key: Option<&str>) {
        let member = self.member(cache, key);
        // Without a copy of the text.
        let member = HeaderValue::from_maybe_shared(bytes::Bytes::from(member))
            .expect("a structured field is a field value");
        headers.append(CACHE_STATUS, member);
    }

    fn member(&self, cache: &CacheName, key: Option<&str>) -> String {
        let mut member = String::with_capacity(96);
        self.write(&mut member, cache, key)
            .expect("writing to a string cannot fail");
        member
    }

    fn write(&self, out: &mut String, cache: &CacheName, key: Option<&str>) -> fmt::Result {
        write!(out, "{cache}")?;
        match self.answered {
            Answered::Hit => out.write_str("; hit")?,
            Answered::Forward(forward) => {
                write!(out, "; fwd={}", forward.reason.name())?;
                if let Some(status) = forward.status {
                    write!(out, "; fwd-status={}", status.as_u16())?;
                }
                if forward.stored {
                    out.write_str("; stored")?;
                }
                match forward.collapsed {
                    Some(true) => out.write_str("; collapsed")?,
                    Some(false) => out.write_str("; collapsed=?0")?,
                    None => {}
                }
            }
        }
        if let Some(ttl) = self.ttl {
            // RFC 9651 3.3.1: an integer has at most 15 digits.
            write!(out, "; ttl={}", ttl.clamp(-INTEGER_MAX, INTEGER_MAX))?;
        }
        if let Some(key) = key.and_then(quoted) {
            write!(out, "; key={key}")?;
        }
        if let Some(detail) = self.detail {
            write!(out, "; detail={}", detail.name())?;
        }
        Ok(())
    }
}

const INTEGER_MAX: i64 = 999_999_999_999_999;

/// Returns text as a structured string (RFC 9651 4.1.6), if it can be one.
fn quoted(text: &str) -> Option<String> {
    let text = sfv::StringRef::from_str(text).ok()?;
    Some(sfv::ItemSerializer::new().bare_item(text).finish())
}

/// Returns the value of `Age` (RFC 9111 5.1): whole seconds that have passed.
pub fn age_value(age: Duration) -> HeaderValue {
    HeaderValue::from(age.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(edit: impl FnOnce(&mut Forward)) -> Outcome {
        let mut forward = Forward {
            reason: ForwardReason::UriMiss,
            status: None,
            stored: false,
            collapsed: None,
        };
        edit(&mut forward);
        Outcome {
            answered: Answered::Forward(forward),
            ..Outcome::forward(ForwardReason::UriMiss)
        }
    }

    #[test]
    fn hx_13_every_outcome_is_spelled_as_rfc_9211_has_it() {
        let hit = Outcome {
            answered: Answered::Hit,
            ttl: Some(30),
            detail: None,
        };
        let stale = Outcome {
            ttl: Some(-412),
            detail: Some(Detail::StaleIfError),
            ..hit.clone()
        };
        let collapsed = Outcome {
            detail: Some(Detail::Held),
            ..forward(|f| f.collapsed = Some(true))
        };
        let uncacheable = Outcome {
            detail: Some(Detail::Uncacheable(Uncacheable::NoStore)),
            ..forward(|f| f.collapsed = Some(false))
        };
        let revalidated = forward(|f| {
            f.reason = ForwardReason::Stale;
            f.status = Some(StatusCode::NOT_MODIFIED);
            f.stored = true;
        });
        let endless = Outcome {
            ttl: Some(i64::MAX),
            ..hit.clone()
        };
        for (outcome, key, expected) in [
            (&hit, None, "edge1; hit; ttl=30"),
            (&hit, Some("h/a\"b"), "edge1; hit; ttl=30; key=\"h/a\\\"b\""),
            (&hit, Some("h/ä"), "edge1; hit; ttl=30"),
            (&stale, None, "edge1; hit; ttl=-412; detail=stale-if-error"),
            (
                &collapsed,
                None,
                "edge1; fwd=uri-miss; collapsed; detail=held",
            ),
            (
                &uncacheable,
                None,
                "edge1; fwd=uri-miss; collapsed=?0; detail=no-store",
            ),
            (
                &revalidated,
                None,
                "edge1; fwd=stale; fwd-status=304; stored",
            ),
            (&endless, None, "edge1; hit; ttl=999999999999999"),
        ] {
            let name = CacheName::new("edge1").unwrap();
            let member = outcome.member(&name, key);
            assert_eq!(member, expected);
            assert!(
                sfv::Parser::new(&member).parse::<sfv::List>().is_ok(),
                "{member}"
            );
        }
    }

    #[test]
    fn members_of_caches_nearer_to_the_origin_stay_in_front() {
        let mut headers = HeaderMap::new();
        let (shield, edge) = (
            CacheName::new("shield").unwrap(),
            CacheName::new("edge").unwrap(),
        );
        forward(|f| f.stored = true).append_to(&mut headers, &shield, None);
        forward(|f| f.collapsed = Some(true)).append_to(&mut headers, &edge, None);
        let members: Vec<_> = headers.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(
            members,
            [
                "shield; fwd=uri-miss; stored",
                "edge; fwd=uri-miss; collapsed"
            ]
        );
    }

    #[test]
    fn a_name_is_a_token_or_quoted_or_refused() {
        for (name, expected) in [
            ("edge1.fra", Some("edge1.fra")),
            ("1edge", Some("\"1edge\"")),
            ("Edge Number \"1\"", Some("\"Edge Number \\\"1\\\"\"")),
            ("", None),
            ("edge\n", None),
            ("größe", None),
        ] {
            let found = CacheName::new(name).ok().map(|name| name.to_string());
            assert_eq!(found.as_deref(), expected, "{name:?}");
        }
    }

    #[test]
    fn age_is_rounded_down_to_whole_seconds() {
        assert_eq!(age_value(Duration::from_millis(1999)), "1");
    }

    #[test]
    fn every_reason_is_listed_once() {
        let mut names: Vec<_> = ForwardReason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ForwardReason::ALL.len());
    }
}
