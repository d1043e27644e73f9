//! What a parent says to a request, and what this node makes of it.
//!
//! Who calls it: `seawall explain --fetch`. What it calls: one question to a parent, and the judgment that fills
//! use. Deliberately not here: storing anything.

use std::sync::Arc;
use std::time::Duration;

use cache::freshness::{LifetimeSource, freshness_lifetime};
use cache::{GrowingBody, Policy, ResponseDirectives};
use http::header::{self, HeaderMap, HeaderName};
use http::{Response, StatusCode};
use media::Kind;
use media::hls::Playlist;
use serde::Serialize;
use tokio::time::Instant;

use super::milliseconds;
use crate::config::duration_text;
use crate::fill::{Ask, Asked, FillOrder, read_text};
use crate::live::{self, Address};
use crate::node::Node;
use crate::request::Request;
use crate::respond::Failure;
use crate::route;

/// What a parent said, and what is made of it.
#[derive(Clone, Debug, Serialize)]
pub struct Fetched {
    /// Who was asked.
    pub parent: String,
    /// The status.
    pub status: u16,
    /// Time to the first byte.
    #[serde(rename = "waited_ms", serialize_with = "milliseconds")]
    pub waited: Duration,
    /// The fields that decide about storing, with their values, as the parent sent them.
    pub said: Vec<(String, String)>,
    /// What is made of it.
    pub verdict: Verdict,
}

/// What a node makes of a response.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Verdict {
    /// A live playlist with blocking reload: it is followed, and no copy is kept.
    Followed {
        /// Its target duration.
        #[serde(rename = "target_duration_ms", serialize_with = "milliseconds")]
        target_duration: Duration,
    },
    /// It may be stored.
    Stored(Kept),
    /// It may not, and why.
    NotStored {
        /// Why, in words.
        why: String,
        /// What it would have been.
        kept: Kept,
    },
    /// It cannot be used.
    Failed {
        /// Why, in words.
        why: String,
    },
}

/// How long a response would be kept.
#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    /// How old it may become.
    #[serde(rename = "lifetime_ms", serialize_with = "milliseconds")]
    pub lifetime: Duration,
    /// Where that comes from.
    pub lifetime_by: String,
    /// How old it is already.
    #[serde(rename = "age_ms", serialize_with = "milliseconds")]
    pub age: Duration,
    /// How long it may be served stale while it is revalidated.
    #[serde(rename = "stale_while_revalidate_ms", serialize_with = "milliseconds")]
    pub stale_while_revalidate: Duration,
    /// How long it may replace errors.
    #[serde(rename = "stale_if_error_ms", serialize_with = "milliseconds")]
    pub stale_if_error: Duration,
    /// The request fields by which it is selected.
    pub varies_by: Vec<String>,
}

/// Asks a parent what a viewer would be told, and judges the answer without keeping it.
///
/// # Errors
///
/// As admission; whatever kept every parent from answering.
///
/// # Cancel safety
///
/// Dropping the future takes the request back.
pub async fn fetch(node: &Arc<Node>, asked: http::Request<()>) -> Result<Fetched, Failure> {
    let request = Request::admit(asked, &node.admission(Instant::now()))?;
    let (_, kind) = route::plan(node, &request);
    let of_request = Asked::of(node, &request, kind);
    let order = FillOrder::of(node, &request, kind, of_request);
    let response = Ask::of(&order).head(node).await?;
    let asked_at = node.clock.wall_at(response.sent_at);
    let (parent, waited) = (response.parent, response.head_at - response.sent_at);
    let (mut head, body) = (response.head, response.body);
    let said = deciding_fields(&head.headers, &order.policy);
    let is_playlist = matches!(kind, Kind::MultivariantPlaylist | Kind::MediaPlaylist);
    let bytes_max = node.live.playlist_bytes_max;
    let read = if is_playlist && head.status == StatusCode::OK {
        match read_text(&mut head, body, bytes_max, order.stall_timeout).await {
            Ok(text) => playlist(node, &request, text, &order),
            Err(failure) => Read::Verdict(failed(failure)),
        }
    } else {
        Read::Under(Arc::clone(&order.policy))
    };
    let head = Response::from_parts(head, ());
    let verdict = match read {
        Read::Verdict(verdict) => verdict,
        Read::Under(policy) => {
            let order = FillOrder { policy, ..order };
            verdict(node, &order, asked_at, &head)
        }
    };
    Ok(Fetched {
        parent: node.upstream.name(parent).to_owned(),
        status: head.status().as_u16(),
        waited,
        said,
        verdict,
    })
}

/// What came of reading a body.
enum Read {
    Verdict(Verdict),
    /// It is judged by its head, under this policy.
    Under(Arc<Policy>),
}

fn playlist(node: &Node, request: &Request, text: bytes::Bytes, order: &FillOrder) -> Read {
    let address = Address::of(request);
    match Playlist::parse(text, &node.playlist_limits) {
        Err(_) => Read::Verdict(failed(Failure::NotAPlaylist)),
        Ok(Playlist::Media(media)) if live::can_be_followed(node, &address, &media) => {
            Read::Verdict(Verdict::Followed {
                target_duration: media.target_duration(),
            })
        }
        Ok(playlist) => {
            let policy = route::policy_of_playlist(node, &address, &playlist, &order.policy);
            Read::Under(policy)
        }
    }
}

fn failed(failure: Failure) -> Verdict {
    Verdict::Failed {
        why: failure.to_string(),
    }
}

fn verdict(
    node: &Node,
    order: &FillOrder,
    asked_at: std::time::SystemTime,
    head: &Response<()>,
) -> Verdict {
    if matches!(
        head.status(),
        StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
    ) {
        // Neither a range nor a validation was asked for.
        return failed(Failure::ParentBroken);
    }
    let (_writer, body) = GrowingBody::new();
    let judged = order.judge(node, asked_at, head.status(), head.headers(), body);
    let stored = &judged.stored;
    let kept = Kept {
        lifetime: stored.freshness_lifetime,
        lifetime_by: words_for_lifetime(node, head, &order.policy),
        age: stored.corrected_initial_age,
        stale_while_revalidate: stored.stale_while_revalidate,
        stale_if_error: stored.stale_if_error,
        varies_by: stored.variant.names().map(ToString::to_string).collect(),
    };
    match judged.refusal {
        None => Verdict::Stored(kept),
        Some(refusal) => Verdict::NotStored {
            why: refusal.to_string(),
            kept,
        },
    }
}

/// Says where a lifetime comes from, and what a rule made of it.
fn words_for_lifetime(node: &Node, head: &Response<()>, policy: &Policy) -> String {
    let (status, fields) = (head.status(), head.headers());
    let said = ResponseDirectives::of(fields, &policy.targeted_fields);
    let now = node.clock.now();
    let found = freshness_lifetime(status, fields, &said, policy, now);
    let source = match found.source {
        LifetimeSource::Explicit => words_for_explicit(&said, fields, policy),
        LifetimeSource::Heuristic => "a guess from Last-Modified (heuristics)".to_owned(),
        LifetimeSource::Policy if policy.negative_lifetimes.of(status).is_some() => {
            return format!("the rule's negative lifetime for {}", status.as_u16());
        }
        LifetimeSource::Policy => "the rule's default: the origin says nothing".to_owned(),
    };
    let free = Policy {
        freshness_floor: Duration::ZERO,
        freshness_ceiling: Duration::MAX,
        negative_lifetimes: cache::NegativeLifetimes::by_class(
            Vec::new(),
            Duration::MAX,
            Duration::MAX,
        ),
        ..policy.clone()
    };
    let before = freshness_lifetime(status, fields, &said, &free, now).lifetime;
    let cut = match before.cmp(&found.lifetime) {
        std::cmp::Ordering::Equal => return source,
        std::cmp::Ordering::Less => "raised to the floor",
        std::cmp::Ordering::Greater if policy.negative_lifetimes.of(status).is_some() => {
            "cut to the negative lifetime"
        }
        std::cmp::Ordering::Greater => "cut to the ceiling",
    };
    format!("{source} ({}), {cut}", duration_text(before))
}

fn words_for_explicit(said: &ResponseDirectives, fields: &HeaderMap, policy: &Policy) -> String {
    let targeted = policy
        .targeted_fields
        .iter()
        .find(|name| said.is_targeted && fields.contains_key(*name));
    let field = targeted.map_or("cache-control", HeaderName::as_str);
    let directive = if said.no_cache.is_response() {
        "no-cache"
    } else if said.s_maxage.is_some() {
        "s-maxage"
    } else if said.max_age.is_some() {
        "max-age"
    } else {
        return "the origin: expires".to_owned();
    };
    format!("the origin: {directive} of {field}")
}

/// Returns the fields that decide about storing, as received.
fn deciding_fields(fields: &HeaderMap, policy: &Policy) -> Vec<(String, String)> {
    let usual = [
        header::CACHE_CONTROL,
        header::EXPIRES,
        header::PRAGMA,
        header::AGE,
        header::DATE,
        header::LAST_MODIFIED,
        header::ETAG,
        header::VARY,
        header::SET_COOKIE,
        header::CONTENT_TYPE,
    ];
    let names = policy.targeted_fields.iter().chain(&usual);
    names
        .flat_map(|name| fields.get_all(name).iter().map(move |value| (name, value)))
        .map(|(name, value)| {
            // A cookie is a secret of the viewer it was for (invariant 7).
            let value = if *name == header::SET_COOKIE {
                "(not shown)".to_owned()
            } else {
                value.as_bytes().escape_ascii().to_string()
            };
            (name.to_string(), value)
        })
        .collect()
}
