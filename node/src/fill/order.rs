//! What a fill is told to bring, and how.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cache::freshness::{Arrival, FreshnessLifetime, LifetimeSource, freshness_lifetime};
use cache::stale::stale_windows;
use cache::storable::{Exchanged, Storable, Uncacheable, storable};
use cache::variant::normalized_accept_encoding;
use cache::{
    CacheKey, GrowingBody, Policy, RequestDirectives, ResponseDirectives, StoredResponse, Variant,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use media::Kind;
use tokio_util::sync::CancellationToken;

use super::begun::Begun;
use crate::coding;
use crate::interim::InterimSink;
use crate::live::{Address, PRIORITY};
use crate::node::Node;
use crate::purge::{MINIMUM, Verdict};
use crate::request::{self, CDN_LOOP, Request};
use crate::slices::{self, Portion};
use crate::upstream::Class;

/// A viewer's request as the cache sees it: what selects a stored response, and what is asked of it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Under which key the response is stored.
    pub(crate) key: CacheKey,
    /// How responses may be kept.
    pub(crate) policy: Arc<Policy>,
    /// What the viewer says in `Cache-Control`; nothing where viewers are not obeyed.
    pub(crate) directives: RequestDirectives,
    /// The fields that a parent would get, and so what `Vary` selects by.
    pub(crate) fields: Arc<HeaderMap>,
}

impl Asked {
    /// Reads a request for a resource of `kind`.
    pub(crate) fn of(node: &Node, request: &Request, kind: Kind) -> Self {
        let policy = request.target.rule.policies.of(kind);
        let mut directives = if policy.obeys_request_directives {
            RequestDirectives::of(&request.fields)
        } else {
            RequestDirectives::default()
        };
        // What is stored here may have been purged elsewhere: a parent must confirm it.
        directives.is_distrusting =
            request.is_ahead || node.purges.verdict() == Verdict::Revalidate;
        Self {
            key: request.key().clone(),
            fields: fields_for_parent(node, request, &policy),
            policy,
            directives,
        }
    }
}

/// Returns this node's fields, with those of the viewer that its rule lets through (invariant 13).
fn fields_for_parent(node: &Node, request: &Request, policy: &Policy) -> Arc<HeaderMap> {
    // A viewer that this node obeys is to be obeyed by its parents, too (RFC 9111 5.2.1).
    let directives: &[HeaderName] = if policy.obeys_request_directives {
        &[header::CACHE_CONTROL, header::PRAGMA]
    } else {
        &[]
    };
    // A child that is ahead of this node may be ahead of the next one, too.
    let minimum: &[HeaderName] = if request.is_ahead { &[MINIMUM] } else { &[] };
    let listed = request.target.rule.forwarded_fields.iter();
    let listed = listed.chain(directives).chain(minimum);
    let mut present = listed
        .filter(|name| request.fields.contains_key(*name))
        .peekable();
    if present.peek().is_none() {
        return Arc::clone(&node.forward_fields);
    }
    let mut fields = HeaderMap::clone(&node.forward_fields);
    for name in present {
        fields.remove(name);
        if name == header::ACCEPT_ENCODING {
            let codings = normalized_accept_encoding(&request.fields);
            fields.insert(name, HeaderValue::from_static(codings));
            continue;
        }
        for value in request.fields.get_all(name) {
            fields.append(name, value.clone());
        }
    }
    Arc::new(fields)
}

/// An order for a fill.
#[derive(Clone, Debug)]
pub(crate) struct FillOrder {
    /// Under which key the response is stored.
    pub(crate) key: CacheKey,
    /// Who asks for the same shares one fill: the key, with the viewer's fields that are forwarded.
    /// Until the response has come, nobody knows which of them `Vary` will name.
    pub(crate) collapse_key: CacheKey,
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
    /// How much of the response to ask for.
    pub(crate) portion: Portion,
    /// Whether the response is a text, of which coded forms are kept.
    pub(crate) is_text: bool,
    /// How the response may be kept.
    pub(crate) policy: Arc<Policy>,
    /// When the fill began, as the fences see it.
    pub(crate) begun: Begun,
    /// What the viewer who caused the fill says of age and validation.
    pub(crate) directives: RequestDirectives,
    /// The fields that the parent gets.
    pub(crate) fields: Arc<HeaderMap>,
    /// The stored response to be validated (RFC 9111 4.3).
    pub(crate) validated: Option<Arc<StoredResponse>>,
    /// Whom the request that caused the fill has passed (RFC 8586).
    pub(crate) cdn_loop: Option<HeaderValue>,
    /// Takes interim responses, for the viewer who caused the fill.
    pub(crate) interim: InterimSink,
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
    /// When it has been read as an MPD.
    AsMpd(Address),
    /// When it has been read as a playlist: a live one goes to the hub.
    AsPlaylist(Address),
}

impl FillOrder {
    /// Orders what a viewer asked for, as a resource of `kind`.
    pub(crate) fn of(node: &Node, request: &Request, kind: Kind, asked: Asked) -> Self {
        let Asked {
            key,
            policy,
            directives,
            fields,
        } = asked;
        let withdrawn = node.hub.hints.withdrawal_of(&key);
        // CA-13: what is asked for by position may be held by the parent, whoever keeps its playlist.
        let is_directed = matches!(kind, Kind::MultivariantPlaylist | Kind::MediaPlaylist)
            && !request.target.query.directives().is_empty();
        let is_hinted = withdrawn.is_some();
        let may_be_held = is_hinted || is_directed;
        Self {
            host: request.target.host.clone(),
            target: request::path_and_query(&request.target.path, request.target.query.whole()),
            affinity: request.target.affinity(),
            class: if may_be_held {
                Class::Parked
            } else {
                Class::Bulk
            },
            first_byte_timeout: if may_be_held {
                node.live.hold_max + HOLD_MARGIN
            } else if kind == Kind::Other && request.target.query.has(INTERSTITIAL) {
                ASSET_LIST_WAIT
            } else {
                node.limits.first_byte_timeout
            },
            stall_timeout: node.limits.stall_timeout,
            delivery: match kind {
                Kind::Part => Delivery::WhenComplete,
                Kind::MultivariantPlaylist | Kind::MediaPlaylist => {
                    Delivery::AsPlaylist(Address::of(request))
                }
                Kind::Mpd => Delivery::AsMpd(Address::of(request)),
                _ => Delivery::AsItArrives,
            },
            portion: if is_hinted {
                Portion::Whole
            } else {
                slices::portion_of(node, request, kind, &key)
            },
            is_text: coding::is_text(kind),
            policy,
            directives,
            begun: Begun::now(node),
            collapse_key: collapse_key(node, &key, &fields),
            fields,
            validated: None,
            cdn_loop: request.fields.get(CDN_LOOP).cloned(),
            interim: request.interim.sink(),
            is_ahead: false,
            withdrawn,
            key,
        }
    }

    /// Orders the playlist in which a request asks for a position, as if it asked for none.
    ///
    /// `None`: it asks for no position, or it is known that the playlist is not followed, because it is stored or
    /// nobody shares it.
    pub(crate) fn opening(
        node: &Node,
        request: &Request,
        kind: Kind,
        asked: &Asked,
    ) -> Option<Self> {
        let is_playlist = matches!(kind, Kind::MultivariantPlaylist | Kind::MediaPlaylist);
        if !is_playlist || request.target.query.directives().is_empty() || request.is_ahead {
            return None;
        }
        let key = request.rendition_key().clone();
        let collapse_key = collapse_key(node, &key, &asked.fields);
        let is_known = node.store.get(&key, &asked.fields).found().is_some()
            || node.uncacheable.contains_key(&collapse_key);
        if is_known {
            return None;
        }
        let query = request.target.query.without_directives();
        Some(Self {
            target: request::path_and_query(&request.target.path, query),
            class: Class::Bulk,
            first_byte_timeout: node.limits.first_byte_timeout,
            collapse_key,
            key,
            ..Self::of(node, request, kind, asked.clone())
        })
    }

    /// Returns the same order, begun now.
    pub(crate) fn anew(self, node: &Node) -> Self {
        Self {
            begun: Begun::now(node),
            ..self
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
            portion: Portion::Whole,
            is_text: coding::is_text(kind),
            begun: Begun::now(node),
            collapse_key: key.clone(),
            directives: RequestDirectives::default(),
            fields: Arc::clone(&node.forward_fields),
            validated: None,
            cdn_loop: None,
            interim: InterimSink::default(),
            is_ahead: true,
            key,
        }
    }

    /// Returns the order with another policy.
    pub(super) fn with_policy(&self, policy: Arc<Policy>) -> Self {
        Self {
            policy,
            ..self.clone()
        }
    }

    /// Returns the order with the question whether `stored` is still good (RFC 9111 4.3.1).
    pub(crate) fn revalidating(mut self, stored: &Arc<StoredResponse>) -> Self {
        if cache::validation::has_validator(&stored.headers) {
            self.validated = Some(Arc::clone(stored));
            self.portion = self.portion.without_probe();
        }
        self
    }
}

/// Returns the key with the forwarded fields that are not the node's own, one per line.
fn collapse_key(node: &Node, key: &CacheKey, fields: &Arc<HeaderMap>) -> CacheKey {
    if Arc::ptr_eq(fields, &node.forward_fields) {
        return key.clone();
    }
    let mut text = key.as_str().to_owned();
    for (name, value) in fields.iter() {
        // HX-07: a trace follows the request that caused the fill; it asks for nothing else.
        if TRACES.contains(&name.as_str()) {
            continue;
        }
        if node.forward_fields.get(name) != Some(value) {
            text.push('\n');
            text.push_str(name.as_str());
            text.push(':');
            // A field value has no line break: no two sets of fields have one text.
            text.push_str(&value.as_bytes().escape_ascii().to_string());
        }
    }
    CacheKey::new(text)
}

impl FillOrder {
    /// Returns the response as it is stored, or why it may not be.
    pub(crate) fn judge(
        &self,
        node: &Node,
        asked_at: SystemTime,
        status: StatusCode,
        response: &HeaderMap,
        body: GrowingBody,
    ) -> Judged {
        let said = ResponseDirectives::of(response, &self.policy.targeted_fields);
        let response_time = node.clock.now();
        let arrival = Arrival {
            request_time: asked_at,
            response_time,
            // CA-11: whatever a parent of a hinted resource waited for is not age.
            held: match self.class {
                Class::Parked => response_time.duration_since(asked_at).unwrap_or_default(),
                Class::Bulk => Duration::ZERO,
            },
            exact_age: super::ask::exact_age(response),
        };
        let FreshnessLifetime {
            lifetime,
            source: lifetime_source,
        } = freshness_lifetime(status, response, &said, &self.policy, response_time);
        let exchanged = Exchanged {
            method: &Method::GET,
            request: &self.fields,
            status,
            response,
        };
        let (variant, refusal) = match storable(exchanged, &said, lifetime, &self.policy) {
            Storable::Storable(variant) => (variant, None),
            Storable::Uncacheable(reason) => (Variant::default(), Some(reason)),
        };
        let refusal = refusal
            .or_else(|| self.is_of_one_throughput().then_some(FOR_ONE_VIEWER))
            .or_else(|| {
                node.mpds
                    .is_clock(&self.key)
                    .then_some(Uncacheable::NoStore)
            });
        let windows = stale_windows(&said, &self.policy);
        let mut headers = cache::fields::kept(response, &said);
        for of_one_hop in OF_ONE_HOP {
            headers.remove(of_one_hop);
        }
        date_if_missing(&mut headers, response_time);
        if let Some(urgency) = node.hub.urgency(&self.key) {
            // LB-02: the origin may know better.
            headers.entry(PRIORITY).or_insert(urgency.field());
        }
        let stored = StoredResponse {
            status,
            headers,
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
            lifetime_source,
        }
    }

    /// ST-01: what a steering server says to a throughput, only who measured it may have.
    fn is_of_one_throughput(&self) -> bool {
        let (_, query) = self.target.split_once('?').unwrap_or_default();
        let mut names = query.split('&').filter_map(|p| p.split('=').next());
        names.any(|name| THROUGHPUTS.contains(&name))
    }

    /// Returns the whole body of `response`, with room for its coded forms where there will be any.
    pub(crate) fn whole_body(&self, response: &StoredResponse, bytes: Bytes) -> GrowingBody {
        if self.is_text
            && response.status == StatusCode::OK
            && coding::allows_coding(&response.headers)
        {
            coding::text(bytes)
        } else {
            GrowingBody::full(bytes)
        }
    }

    /// Returns the validated response as a 304 leaves it (RFC 9111 4.3.4); `None` if the 304 is not
    /// about it.
    pub(crate) fn judge_not_modified(
        &self,
        node: &Node,
        asked_at: SystemTime,
        not_modified: &HeaderMap,
    ) -> Option<Judged> {
        let stored = self.validated.as_ref()?;
        if !cache::validation::is_about(not_modified, &stored.headers) {
            return None;
        }
        let updated = cache::fields::updated(&stored.headers, not_modified);
        Some(self.judge(node, asked_at, stored.status, &updated, stored.body.clone()))
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
    /// Who says how long it is fresh.
    pub(crate) lifetime_source: LifetimeSource,
}

/// Returns the fields that belong to the response and not to one connection or one hop. `Age` is not
/// among them: whoever keeps a response states its age anew.
pub(crate) fn end_to_end(received: &HeaderMap) -> HeaderMap {
    let mut fields = cache::fields::passed_on(received);
    fields.remove(header::AGE);
    for of_one_hop in OF_ONE_HOP {
        fields.remove(of_one_hop);
    }
    fields
}

/// Adds when the response was received where its sender has no clock (RFC 9110 6.6.1).
pub(crate) fn date_if_missing(fields: &mut HeaderMap, received_at: SystemTime) {
    if !fields.contains_key(header::DATE)
        && let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(received_at))
    {
        fields.insert(header::DATE, date);
    }
}

/// What a parent says to this node only: `Alt-Svc` speaks for the parent (HX-19), and the exact age is
/// stated anew at each tier (LT-02); `CMSD-Dynamic` is about one response on its way (HX-05); whether requests are
/// held is each node's own affair.
const OF_ONE_HOP: [&str; 4] = ["alt-svc", "cmsd-dynamic", "seawall-age-ms", "seawall-holds"];

/// The trace of a request (W3C Trace Context, CTA-5010).
const TRACES: [&str; 2] = ["traceparent", "tracestate"];

/// What a player says to a steering server of its own network (rfc8216bis 7.4).
const THROUGHPUTS: [&str; 2] = ["_HLS_throughput", "_DASH_throughput"];

/// A request that tells what one viewer measured is as good as one that says `no-store`.
const FOR_ONE_VIEWER: Uncacheable = Uncacheable::RequestNoStore;

/// What a player asks for the assets of an interstitial with (rfc8216bis D.4).
const INTERSTITIAL: &str = "_HLS_primary_id";

/// Players wait so long for a list of assets, which is often decided while they wait (LL-28).
const ASSET_LIST_WAIT: Duration = Duration::from_secs(60);

/// Invariant 11: a parent's hold is shorter than its child's timeout.
pub(crate) const HOLD_MARGIN: Duration = Duration::from_secs(2);
