//! Lists: purges, newest first, and nodes.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::response::Response;
use purge_log::{
    Entry, LogId, Mode, NodeName, PurgeId, PurgeRequest, Sequence, Target, UnixMillis,
};
use serde::{Deserialize, Serialize};

use super::problem::{Problem, ProblemKind};
use super::{Api, allowed, json};
use crate::auth::{Caller, Verb};

/// The query of `GET /v1/purges`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Only those before this place.
    before: Option<u64>,
    /// At most so many.
    limit: Option<usize>,
    /// Only those that name this host.
    host: Option<String>,
    /// Only those of this principal.
    by: Option<String>,
    /// Only those of this kind.
    verb: Option<Verb>,
    /// Only those of this mode.
    mode: Option<Mode>,
    /// Only dry runs, or none of them.
    dry_run: Option<bool>,
    /// Only those accepted at this time or later, in milliseconds since 1970.
    since: Option<u64>,
}

/// A purge in a list.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    id: PurgeId,
    sequence: Sequence,
    accepted_at: UnixMillis,
    by: &'a str,
    #[serde(flatten)]
    request: &'a PurgeRequest,
    dry_run: bool,
}

/// The answer of `GET /v1/purges`.
#[derive(Debug, Serialize)]
struct List<'a> {
    purges: Vec<Listed<'a>>,
    /// `before` of the next page; missing on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Sequence>,
}

/// The answer of `GET /v1/nodes`.
#[derive(Debug, Serialize)]
struct Nodes {
    log: LogId,
    tail: Sequence,
    head: Sequence,
    nodes: Vec<Node>,
}

#[derive(Debug, Serialize)]
struct Node {
    node: NodeName,
    applied: Sequence,
    /// Purges that it has not applied yet.
    lag: u64,
    reported_at: UnixMillis,
    is_absent: bool,
}

/// `GET /v1/purges`.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(filter) =
        filter.map_err(|error| Problem::new(ProblemKind::Malformed, error.body_text()))?;
    let limit = filter.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let detail = format!("`limit` must be between 1 and {LIMIT_MAX}");
        return Err(Problem::new(ProblemKind::Malformed, detail));
    }
    let before = filter.before.map(Sequence);
    let sees = move |entry: &Entry| super::status::may_see(&caller, entry) && filter.means(entry);
    let page = api.shared.journal.list(before, limit, sees).await?;
    let entries: &[Arc<Entry>] = &page.entries;
    Ok(json(&List {
        purges: entries.iter().map(|entry| Listed::of(entry)).collect(),
        next: page.next,
    }))
}

/// `GET /v1/nodes`.
pub(super) async fn nodes(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    allowed(Some(&caller), Verb::Read)?;
    let bounds = api.shared.journal.bounds();
    let now = api.now();
    let nodes = api.shared.journal.nodes().into_iter().map(|node| Node {
        lag: bounds.head.0.saturating_sub(node.through.0),
        is_absent: now.since(node.reported_at) > api.shared.limits.absent_after,
        node: node.node,
        applied: node.through,
        reported_at: node.reported_at,
    });
    Ok(json(&Nodes {
        log: bounds.log,
        tail: bounds.tail,
        head: bounds.head,
        nodes: nodes.collect(),
    }))
}

impl Filter {
    fn means(&self, entry: &Entry) -> bool {
        let target = &entry.request.target;
        let host = self.host.as_deref();
        host.is_none_or(|host| names(target, host))
            && self.by.as_deref().is_none_or(|by| by == entry.by)
            && self.verb.is_none_or(|verb| verb == Verb::of(target))
            && self.mode.is_none_or(|mode| mode == entry.request.mode)
            && self.dry_run.is_none_or(|dry_run| dry_run == entry.dry_run)
            && self.since.is_none_or(|since| since <= entry.accepted_at.0)
    }
}

fn names(target: &Target, wanted: &str) -> bool {
    match target {
        Target::Url { host, .. }
        | Target::Prefix { host, .. }
        | Target::Stream { host, .. }
        | Target::Host(host) => host == wanted,
        Target::Urls(urls) => urls.iter().any(|url| url.host == wanted),
        Target::SurrogateKeys(_) | Target::All => false,
    }
}

impl<'a> Listed<'a> {
    fn of(entry: &'a Entry) -> Self {
        Self {
            id: entry.id,
            sequence: entry.sequence,
            accepted_at: entry.accepted_at,
            by: &entry.by,
            request: &entry.request,
            dry_run: entry.dry_run,
        }
    }
}

const LIMIT_DEFAULT: usize = 50;

/// Purges on one page.
const LIMIT_MAX: usize = 500;
