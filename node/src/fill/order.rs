//! What a fill is told to bring, and how.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cache::freshness::{Arrival, freshness_lifetime};
use cache::stale::stale_windows;
use cache::storable::{Exchanged, Storable, Uncacheable, storable};
use cache::{CacheKey, GrowingBody, Policy, ResponseDirectives, StoredResponse, Variant};
use http::{HeaderMap, HeaderValue, Method, header};
use media::Kind;
use tokio_util::sync::CancellationToken;

use crate::live::Address;
use crate::node::Node;
use crate::request::{self, CDN_LOOP, Request};
use crate::upstream::Class;

/// An order for a fill.
#[derive(Clone, Debug)]
pub(crate) struct FillOrder {
    /// Under which key the response is shared and stored.
    pub(crate) key: CacheKey,
    /// The host to ask for.
    pub(crate) host: String,
    /// The canonical path and query.
    pub(crate) target: String,
    /// The presentation it belongs to.
    pub(crate) affinity: String,
    /// Which connections to use.
    pub(crate) class: Class,
    /// Time to the first byte.
    pub(crate) first_byte_timeout: Duration,
    /// Time without a byte after which the body has stalled (FM-28).
    pub(crate) stall_timeout: Duration,
    /// When followers get the response.
    pub(crate) delivery: Delivery,
    /// How the response may be kept.
    pub(crate) policy: Arc<Policy>,
    /// Whom the request that caused the fill has passed (RFC 8586).
    pub(crate) cdn_loop: Option<HeaderValue>,
    /// Whether nobody has asked yet.
    pub(crate) is_ahead: bool,
    /// Fires when the hint that announced the resource was withdrawn (LL-19).
    pub(crate) withdrawn: Option<CancellationToken>,
}

/// When followers get the response.
#[derive(Clone, Debug)]
pub(crate) enum Delivery {
    /// At its head; the body follows as it arrives (LD-03).
    AsItArrives,
    /// When every byte is there: no byte of a part leaves before the whole part can (LL-17).
    WhenComplete,
    /// When it has been read as a playlist: a live one goes to the hub.
    AsPlaylist(Address),
}

impl FillOrder {
    /// Orders what a viewer asked for, as a resource of `kind`.
    pub(crate) fn of(node: &Node, request: &Request, kind: Kind) -> Self {
        let key = request.key();
        let withdrawn = node.hub.hints.withdrawal_of(&key);
        let is_hinted = withdrawn.is_some();
        Self {
            host: request.host.clone(),
            target: request::path_and_query(&request.path, request.query.whole()),
            affinity: request.affinity(),
            class: if is_hinted {
                Class::Parked
            } else {
                Class::Bulk
            },
            first_byte_timeout: if is_hinted {
                node.live.hold_max + HOLD_MARGIN
            } else {
                node.limits.first_byte_timeout
            },
            stall_timeout: node.limits.stall_timeout,
            delivery: match kind {
                Kind::Part => Delivery::WhenComplete,
                Kind::MultivariantPlaylist | Kind::MediaPlaylist => {
                    Delivery::AsPlaylist(Address::of(request))
                }
                _ => Delivery::AsItArrives,
            },
            policy: request.rule.policies.of(kind),
            cdn_loop: request.fields.get(CDN_LOOP).cloned(),
            is_ahead: false,
            withdrawn,
            key,
        }
    }

    /// Orders a hinted resource before anyone asked for it (CA-15).
    pub(crate) fn hinted(
        node: &Node,
        key: CacheKey,
        host: &str,
        target: String,
        kind: Kind,
    ) -> Self {
        Self {
            withdrawn: node.hub.hints.withdrawal_of(&key),
            host: host.to_owned(),
            affinity: request::affinity_of(host, &target),
            policy: policy_of(node, host, &target, kind),
            target,
            class: Class::Parked,
            first_byte_timeout: node.live.hold_max + HOLD_MARGIN,
            // The parent sends a growing segment part by part: a pause is as long as a part.
            stall_timeout: node.limits.stall_timeout.max(node.live.hold_max),
            delivery: match kind {
                Kind::Part => Delivery::WhenComplete,
                _ => Delivery::AsItArrives,
            },
            cdn_loop: None,
            is_ahead: true,
            key,
        }
    }
}

impl FillOrder {
    /// Returns the response as it is stored, or why it may not be.
    pub(crate) fn judge(
        &self,
        node: &Node,
        asked_at: SystemTime,
        head: &http::response::Parts,
        body: GrowingBody,
    ) -> Judged {
        let said = ResponseDirectives::of(&head.headers, &self.policy.targeted_fields);
        let response_time = node.clock.now();
        let arrival = Arrival {
            request_time: asked_at,
            response_time,
            // CA-11: whatever a parent of a hinted resource waited for is not age.
            held: match self.class {
                Class::Parked => response_time.duration_since(asked_at).unwrap_or_default(),
                Class::Bulk => Duration::ZERO,
            },
            exact_age: super::ask::exact_age(&head.headers),
        };
        let (status, response) = (head.status, &head.headers);
        let lifetime =
            freshness_lifetime(status, response, &said, &self.policy, response_time).lifetime;
        let exchanged = Exchanged {
            method: &Method::GET,
            request: &node.forward_fields,
            status,
            response,
        };
        let (variant, refusal) = match storable(exchanged, &said, lifetime, &self.policy) {
            Storable::Storable(variant) => (variant, None),
            Storable::Uncacheable(reason) => (Variant::default(), Some(reason)),
        };
        let windows = stale_windows(&said, &self.policy);
        let stored = StoredResponse {
            status,
            headers: end_to_end(response),
            body,
            variant,
            response_time,
            corrected_initial_age: arrival.corrected_initial_age(response, self.policy.trusts_date),
            freshness_lifetime: lifetime,
            stale_while_revalidate: windows.while_revalidate,
            stale_if_error: windows.if_error,
            must_revalidate: windows.must_revalidate,
        };
        Judged {
            stored: Arc::new(stored),
            refusal,
        }
    }
}

fn policy_of(node: &Node, host: &str, target: &str, kind: Kind) -> Arc<Policy> {
    let path = target.split('?').next().unwrap_or(target);
    node.rules.of(host, path).policies.of(kind)
}

/// A response as it would be stored.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    /// The response.
    pub(crate) stored: Arc<StoredResponse>,
    /// Why it may not be stored; `None` when it may.
    pub(crate) refusal: Option<Uncacheable>,
}

/// Returns the fields that belong to the response and not to one connection or one hop.
pub(crate) fn end_to_end(received: &HeaderMap) -> HeaderMap {
    let listed: Vec<String> = received
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| {
            value
                .split(',')
                .map(|name| name.trim().to_ascii_lowercase())
        })
        .collect();
    let is_of_one_hop =
        |name: &str| ONE_HOP.contains(&name) || listed.iter().any(|listed| listed == name);
    let kept = received
        .iter()
        .filter(|(name, _)| !is_of_one_hop(name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// RFC 9110 7.6.1, RFC 9111 3.1; `Age` is stated anew, `Alt-Svc` speaks for the parent only (HX-19).
const ONE_HOP: [&str; 12] = [
    "age",
    "alt-svc",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-connection",
    "seawall-age-ms",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Invariant 11: a parent's hold is shorter than its child's timeout.
pub(crate) const HOLD_MARGIN: Duration = Duration::from_secs(2);
