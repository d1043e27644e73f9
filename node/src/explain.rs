//! What a node would do with a request, and why, in words: for operators, before they ask in earnest.
//!
//! Nothing here decides: every answer comes from what answers viewers, too. Who calls it: `seawall explain`,
//! with a node that listens nowhere. What it calls: admission, rules, the plan, and for [`fetch`] a parent.
//! Deliberately not here: how it is printed.

mod fetched;

pub use fetched::{Fetched, Kept, Verdict, fetch};

use std::sync::Arc;
use std::time::Duration;

use cache::Policy;
use media::Kind;
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use crate::fill::Asked;
use crate::node::Node;
use crate::request::{Request, Wants};
use crate::respond::Failure;
use crate::route::{self, Plan};
use crate::rules::{Group, LiveRule, Preset, Unmatched};

/// What a node would do with a request.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The rule that it falls under.
    pub rule: String,
    /// The rules in their order up to that one, with what kept them from matching.
    pub considered: Vec<Considered>,
    /// The host in its normal form.
    pub host: String,
    /// Path and query in their normal form, as a parent is asked.
    pub target: String,
    /// The key under which the response is stored.
    pub key: String,
    /// Query parameters that neither belong to the key nor are forwarded, by name.
    pub query_dropped: Vec<String>,
    /// The viewer's fields that reach the parent.
    pub fields_forwarded: Vec<String>,
    /// The viewer's other fields, which only this node reads.
    pub fields_kept_back: Vec<String>,
    /// What the response will be.
    pub kind: &'static str,
    /// What says so.
    pub kind_by: &'static str,
    /// What is done about it.
    pub plan: String,
    /// Whether [`fetch`] would ask what a viewer's request asks: what has an effect is never tried.
    pub may_be_fetched: bool,
    /// How the response may be kept.
    pub lifetimes: Lifetimes,
    /// How it is followed, if it is a live playlist.
    pub live: Option<Live>,
    /// Which clock it names, if it is a live MPD: `local` or `origin`.
    pub clock: Option<&'static str>,
    /// The parents, the one that is asked first before the others.
    pub parents: Vec<String>,
}

/// A rule that a request was held against.
#[derive(Clone, Debug, Serialize)]
pub struct Considered {
    /// Its name.
    pub rule: String,
    /// What kept it from matching, if anything.
    pub unmatched: Option<&'static str>,
}

/// How responses may be kept; durations are in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Lifetimes {
    /// The table of the configuration that says so.
    pub table: &'static str,
    /// The least of a success.
    #[serde(rename = "floor_ms", serialize_with = "milliseconds")]
    pub floor: Duration,
    /// Of a success about which the origin says nothing.
    #[serde(rename = "default_ms", serialize_with = "milliseconds")]
    pub default: Duration,
    /// The greatest of a success, if there is one.
    #[serde(rename = "ceiling_ms", serialize_with = "maybe_milliseconds")]
    pub ceiling: Option<Duration>,
    /// How long it is served stale while it is revalidated, where the origin does not say.
    #[serde(rename = "stale_while_revalidate_ms", serialize_with = "milliseconds")]
    pub stale_while_revalidate: Duration,
    /// How long it replaces errors, where the origin does not say.
    #[serde(rename = "stale_if_error_ms", serialize_with = "milliseconds")]
    pub stale_if_error: Duration,
    /// Lifetimes of errors: a status or a class, and its lifetime.
    #[serde(rename = "negative_ms", serialize_with = "by_status")]
    pub negative: Vec<(String, Duration)>,
    /// Whether `Last-Modified` may give a lifetime.
    pub heuristics: bool,
    /// Whether the origin's `Cache-Control` is ignored.
    pub ignore_cache_control: bool,
    /// Whether viewers' `Cache-Control` is obeyed.
    pub obey_viewers: bool,
}

/// How a live playlist is followed.
#[derive(Clone, Debug, Serialize)]
pub struct Live {
    /// The origin that is known by name, if the rule names one.
    pub preset: Option<&'static str>,
    /// Whether it is polled where it cannot be waited for.
    pub poll: bool,
    /// Whether viewers are then told that requests are held here.
    pub add_server_control: bool,
    /// Whether an origin's session that ended is opened again.
    pub reopen: bool,
    /// Whether a stream that began again goes on behind a discontinuity.
    pub rebase: bool,
    /// What is done about URIs that are made for one viewer.
    pub viewer_uris: &'static str,
}

impl Live {
    fn of(rule: &LiveRule) -> Self {
        Self {
            preset: rule.preset.map(Preset::name),
            poll: rule.polls,
            add_server_control: rule.adds_server_control,
            reopen: rule.reopens,
            rebase: rule.rebases,
            viewer_uris: rule.viewer_uris.name(),
        }
    }
}

/// Explains what `node` would do with a request.
///
/// # Errors
///
/// As admission: what is refused whatever the rules say.
pub fn explain(node: &Arc<Node>, asked: http::Request<()>) -> Result<Explanation, Failure> {
    let raw_query = asked.uri().query().unwrap_or("").to_owned();
    let request = Request::admit(asked, &node.admission(Instant::now()))?;
    let (plan, kind) = route::plan(node, &request);
    let considered = node
        .rules
        .considered(&request.target.host, &request.target.path);
    let (fields_forwarded, fields_kept_back) = fields(node, &request, kind);
    Ok(Explanation {
        rule: request.target.rule.name.clone(),
        considered: considered
            .into_iter()
            .map(|(rule, unmatched)| Considered {
                rule: rule.name.clone(),
                unmatched: unmatched.map(reason),
            })
            .collect(),
        target: crate::request::path_and_query(&request.target.path, request.target.query.whole()),
        key: request.key().as_str().to_owned(),
        query_dropped: raw_query
            .split('&')
            .map(|parameter| parameter.split('=').next().unwrap_or(""))
            .filter(|name| !name.is_empty() && !request.target.rule.query.keeps(name))
            .map(str::to_owned)
            .collect(),
        fields_forwarded,
        fields_kept_back,
        kind: name_of(kind),
        kind_by: "the path: no playlist has said otherwise yet",
        plan: words_for(&plan, &request, kind),
        may_be_fetched: matches!(plan, Plan::Live(_) | Plan::Cached),
        lifetimes: Lifetimes::of(&request.target.rule.policies.of(kind), kind),
        live: (Group::of(kind) == Group::Playlist).then(|| Live::of(&request.target.rule.live)),
        clock: (kind == Kind::Mpd).then(|| request.target.rule.dash.clock.name()),
        parents: node.upstream.preferred(&request.target.affinity()),
        host: request.target.host.clone(),
    })
}

/// Returns which of the viewer's fields are forwarded, and which are not.
fn fields(node: &Node, request: &Request, kind: Kind) -> (Vec<String>, Vec<String>) {
    let forwarded = Asked::of(node, request, kind).fields;
    let is_forwarded = |name: &http::HeaderName| {
        forwarded.contains_key(name) && forwarded.get(name) != node.forward_fields.get(name)
    };
    let (there, here): (Vec<_>, Vec<_>) = request
        .fields
        .keys()
        .filter(|name| *name != http::header::HOST)
        .partition(|name| is_forwarded(name));
    let names = |list: Vec<&http::HeaderName>| list.into_iter().map(ToString::to_string).collect();
    (names(there), names(here))
}

fn reason(unmatched: Unmatched) -> &'static str {
    match unmatched {
        Unmatched::Host => "none of its hosts",
        Unmatched::Path => "none of its paths",
    }
}

fn words_for(plan: &Plan, request: &Request, kind: Kind) -> String {
    match plan {
        Plan::Preflight => "preflight: answered here, no parent is asked".to_owned(),
        Plan::Refuse(failure) => format!("refused: {failure} ({})", failure.status()),
        Plan::Live(_) => "live: answered from the playlist that this node follows".to_owned(),
        Plan::Time => "the time: told here".to_owned(),
        Plan::Relay => "relayed: a parent answers; nothing is kept of it".to_owned(),
        Plan::Cached => {
            let head = match request.wants {
                Wants::HeadOnly => ", without its body",
                Wants::Content | Wants::Preflight | Wants::Effect => "",
            };
            let live = if Group::of(kind) == Group::Playlist {
                "; a live playlist is followed from then on"
            } else {
                ""
            };
            format!("cached: from the store, or one fill for all who ask{head}{live}")
        }
    }
}

/// Returns what operators call a kind of media.
fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::MultivariantPlaylist => "multivariant playlist",
        Kind::MediaPlaylist => "media playlist",
        Kind::Mpd => "mpd",
        Kind::InitSegment => "initialization segment",
        Kind::Segment => "segment",
        Kind::Part => "part",
        Kind::Key => "key",
        Kind::Other => "other",
    }
}

impl Lifetimes {
    fn of(policy: &Policy, kind: Kind) -> Self {
        let negative = &policy.negative_lifetimes;
        let listed = negative
            .listed()
            .iter()
            .map(|(status, lifetime)| (status.as_str().to_owned(), *lifetime));
        let classes = [
            ("4xx".to_owned(), negative.client_errors()),
            ("5xx".to_owned(), negative.server_errors()),
        ];
        let ceiling = policy.freshness_ceiling;
        Self {
            table: Group::of(kind).name(),
            floor: policy.freshness_floor,
            default: policy.freshness_default,
            ceiling: (ceiling < Duration::MAX).then_some(ceiling),
            stale_while_revalidate: policy.stale_while_revalidate,
            stale_if_error: policy.stale_if_error,
            negative: listed.chain(classes).collect(),
            heuristics: policy.heuristics.is_some(),
            ignore_cache_control: policy.ignore_cache_control,
            obey_viewers: policy.obeys_request_directives,
        }
    }
}

fn as_milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn milliseconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(as_milliseconds(*duration))
}

fn maybe_milliseconds<S: Serializer>(
    duration: &Option<Duration>,
    to: S,
) -> Result<S::Ok, S::Error> {
    duration.map(as_milliseconds).serialize(to)
}

fn by_status<S: Serializer>(of: &[(String, Duration)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(of.iter().map(|(status, d)| (status, as_milliseconds(*d))))
}
