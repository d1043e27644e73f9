//! How far a purge is: which nodes applied it, when, and what it meant there.
//!
//! Who calls it: `GET /v1/purges/{id}`, waiting answers and streams of events. Deliberately not here: what
//! nodes report, which the journal keeps.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Path, State};
use axum::response::Response;
use purge_log::{Counts, Entry, NodeName, PurgeId, PurgeRequest, Sequence, UnixMillis};
use serde::Serialize;
use tokio::time::Instant;

use super::problem::{Problem, ProblemKind};
use super::{Api, json};
use crate::auth::{Caller, Verb};

/// A purge and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PurgeStatus {
    /// Its name.
    pub id: PurgeId,
    /// Its place in the log.
    pub sequence: Sequence,
    /// When it was accepted.
    pub accepted_at: UnixMillis,
    /// Who asked.
    pub by: String,
    /// What is purged.
    #[serde(flatten)]
    pub request: PurgeRequest,
    /// Whether nodes only count.
    pub dry_run: bool,
    /// How far it is.
    pub state: PurgeState,
    /// What it meant so far on all nodes together.
    pub counts: Counts,
    /// Every node that is known, by name.
    pub nodes: Vec<NodeStatus>,
}

/// How far a purge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PurgeState {
    /// A node that is there has not applied it yet, or no node is known at all.
    Spreading,
    /// Every node that is there applied it; those that are absent do so before they serve again.
    AppliedExceptAbsent,
    /// Every node applied it.
    Applied,
}

/// A purge on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Which node.
    pub node: NodeName,
    /// How far it is.
    pub state: NodeState,
    /// When it applied the purge, by its clock, if it said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_at: Option<UnixMillis>,
    /// How long after it was accepted the report was here, by our clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported_after_ms: Option<u64>,
    /// What the purge meant there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
}

/// How far a purge is on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It applied the purge.
    Applied,
    /// It is there and has not applied the purge yet.
    Pending,
    /// It said nothing for longer than nodes may.
    Absent,
}

impl PurgeStatus {
    /// Returns how far a purge is now.
    pub(super) async fn of(api: &Api, entry: &Entry) -> Result<Self, Problem> {
        let now = api.now();
        let applied = api.shared.journal.applied(entry.sequence).await?;
        let mut nodes = Vec::new();
        let mut counts = Counts::default();
        let done: BTreeSet<_> = applied.iter().map(|node| node.node.clone()).collect();
        for node in applied {
            if let Some(detail) = &node.detail {
                counts.responses = counts.responses.saturating_add(detail.counts.responses);
                counts.bytes = counts.bytes.saturating_add(detail.counts.bytes);
                counts.fills = counts.fills.saturating_add(detail.counts.fills);
            }
            nodes.push(NodeStatus {
                node: node.node,
                state: NodeState::Applied,
                applied_at: node.detail.map(|detail| detail.at),
                reported_after_ms: node
                    .detail
                    .map(|detail| detail.reported_at.0.saturating_sub(entry.accepted_at.0)),
                counts: node.detail.map(|detail| detail.counts),
            });
        }
        let behind = api.shared.journal.nodes().into_iter();
        nodes.extend(behind.filter(|n| !done.contains(&n.node)).map(|node| {
            let is_absent = now.since(node.reported_at) > api.shared.limits.absent_after;
            NodeStatus {
                node: node.node,
                state: if is_absent {
                    NodeState::Absent
                } else {
                    NodeState::Pending
                },
                applied_at: None,
                reported_after_ms: None,
                counts: None,
            }
        }));
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(Self {
            id: entry.id,
            sequence: entry.sequence,
            accepted_at: entry.accepted_at,
            by: entry.by.clone(),
            request: entry.request.clone(),
            dry_run: entry.dry_run,
            state: PurgeState::of(&nodes),
            counts,
            nodes,
        })
    }

    /// Returns how far a purge is once every node applied it, or after `wait`.
    ///
    /// # Limits
    ///
    /// If as many wait as may, it does not wait: the purge is accepted, and its status can be asked for.
    pub(super) async fn wait(
        api: &Api,
        entry: &Arc<Entry>,
        wait: Duration,
    ) -> Result<Self, Problem> {
        let deadline = Instant::now() + wait;
        let mut progress = api.shared.journal.progress();
        let permit = api.shared.waiting.try_acquire().ok();
        loop {
            progress.borrow_and_update();
            let status = Self::of(api, entry).await?;
            let is_over = status.state == PurgeState::Applied || wait.is_zero();
            if is_over || permit.is_none() {
                return Ok(status);
            }
            tokio::select! {
                changed = progress.changed() => if changed.is_err() {
                    return Ok(status);
                },
                () = tokio::time::sleep_until(deadline) => return Self::of(api, entry).await,
                () = api.shared.closing.cancelled() => return Ok(status),
            }
        }
    }
}

impl PurgeState {
    fn of(nodes: &[NodeStatus]) -> Self {
        let is_any = |state| nodes.iter().any(|node| node.state == state);
        if is_any(NodeState::Pending) || !is_any(NodeState::Applied) {
            // Nobody who could apply it is known: nothing is proven.
            Self::Spreading
        } else if is_any(NodeState::Absent) {
            Self::AppliedExceptAbsent
        } else {
            Self::Applied
        }
    }
}

/// `GET /v1/purges/{id}`.
pub(super) async fn status(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let entry = find(&api, &caller, &id).await?;
    Ok(json(&PurgeStatus::of(&api, &entry).await?))
}

/// Returns the purge called `id`, if the caller may see it.
pub(super) async fn find(api: &Api, caller: &Caller, id: &str) -> Result<Arc<Entry>, Problem> {
    let id: PurgeId = id.parse().map_err(|error: purge_log::NameError| {
        Problem::new(ProblemKind::Malformed, error.to_string())
    })?;
    let entry = api.shared.journal.find(id).await?;
    // What somebody else asked for is as if it were not there: its name must not tell that it is.
    entry
        .filter(|entry| may_see(caller, entry))
        .ok_or_else(|| Problem::new(ProblemKind::NotFound, format!("there is no purge `{id}`")))
}

/// Returns whether a caller may see a purge.
pub(super) fn may_see(caller: &Caller, entry: &Entry) -> bool {
    caller.scope().allows(Verb::Read) || entry.by == caller.name()
}
