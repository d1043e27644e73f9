//! The main numbers of a node as plain values.
//!
//! Who reads them: the demonstration page, the swarm's report, scenarios. The full set, with labels,
//! is what `/metrics` renders.

use std::time::Duration;

use serde::Serialize;

use crate::purge::State;

/// What a node's parts currently hold, asked for when metrics are rendered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Bytes of stored responses.
    pub store_bytes: u64,
    /// Stored responses.
    pub store_responses: u64,
    /// Requests held right now.
    pub held_requests: u64,
    /// Live renditions known.
    pub renditions: u64,
    /// The parents, in their configured order.
    pub parents: Vec<ParentLevel>,
    /// How far the node is in the purge log, if it follows one.
    pub purges: Option<PurgeLevel>,
}

/// How far a node is in the purge log, asked for when metrics are rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeLevel {
    /// Whether it knows of all purges.
    pub state: State,
    /// The last purge that is applied, by its place in the log.
    pub applied: u64,
    /// The last purge that is known to be in the log.
    pub head: u64,
    /// How old its knowledge is.
    pub lag: Duration,
    /// Nodes that follow the log here.
    pub children: u64,
    /// How often purges were missed, so that everything became stale.
    pub resets: u64,
}

/// How a parent is doing, asked for when metrics are rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentLevel {
    /// Whether requests go there.
    pub is_usable: bool,
    /// How often it began to be left alone because it failed.
    pub times_failed: u64,
    /// The connections for held requests.
    pub parked: ConnectionsLevel,
    /// The connections for everything else.
    pub bulk: ConnectionsLevel,
}

/// The connections to a parent for one class of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionsLevel {
    /// Open right now.
    pub open: u64,
    /// Opened since the node was started.
    pub opened: u64,
}

/// The main numbers of a node at one moment. Counts are since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Finished requests.
    pub requests: u64,
    /// Requests answered from what this node had: stored responses and live versions.
    pub hits: u64,
    /// Requests that were answered by a forward request already under way.
    pub collapsed: u64,
    /// Requests that were held for a live version and then answered with it.
    pub held: u64,
    /// Requests that caused a forward request of their own.
    pub misses: u64,
    /// Requests that could not be answered.
    pub failed: u64,
    /// Answers with a 5xx status.
    pub server_errors: u64,
    /// Requests whose viewer left before the end.
    pub viewer_aborts: u64,
    /// Body bytes sent to viewers.
    pub viewer_bytes: u64,
    /// Requests sent to parents.
    pub forward_requests: u64,
    /// Requests to parents without an answer.
    pub forward_failures: u64,
    /// Fills begun.
    pub fills: u64,
    /// Fills begun before any viewer asked.
    pub fills_ahead: u64,
    /// Fills that failed.
    pub fills_failed: u64,
    /// Body bytes received from parents by fills.
    pub fill_bytes: u64,
    /// Live playlist versions published.
    pub versions: u64,
    /// Older versions that were not shown.
    pub regressions_prevented: u64,
    /// Chains running now.
    pub chains: u64,
    /// Requests held now.
    pub held_now: u64,
    /// Live renditions known now.
    pub renditions: u64,
    /// Bytes of stored responses now.
    pub store_bytes: u64,
    /// Stored responses now.
    pub store_responses: u64,
    /// Open connections now.
    pub connections: u64,
}
