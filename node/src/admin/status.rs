//! What `/status` shows of a node.

use serde::Serialize;

use crate::telemetry::{Figures, LapseReport};

/// A node at one moment, as an operator reads it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// The node's name.
    pub name: String,
    /// The version of the program.
    pub version: &'static str,
    /// Seconds since the node was started.
    pub uptime_seconds: u64,
    /// Why the node is not ready for requests; empty when it is.
    pub not_ready: Vec<NotReady>,
    /// The parents, in their configured order.
    pub parents: Vec<ParentHealth>,
    /// How far the node is in the purge log; absent if it follows none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purges: Option<PurgeStanding>,
    /// Live renditions, at most [`RENDITIONS_SHOWN_MAX`] of them.
    pub renditions: Vec<RenditionPosition>,
    /// Live renditions, including those that are not shown.
    pub renditions_total: usize,
    /// What parents did wrong since the start, with the newest examples.
    pub lapses: LapseReport,
    /// The main numbers; among them how full the store is.
    pub figures: Figures,
}

/// A reason not to send requests to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotReady {
    /// It was asked to stop and finishes what is running.
    Draining,
    /// It may have missed purges, and is configured not to serve then.
    PurgesMissed,
    /// Every parent is left alone because it failed.
    NoParentUsable,
}

impl NotReady {
    /// Returns the reason in words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::PurgesMissed => "purges may have been missed",
            Self::NoParentUsable => "no parent usable",
        }
    }
}

/// How a parent is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParentHealth {
    /// Its name.
    pub name: String,
    /// Whether requests go there.
    pub is_usable: bool,
    /// Failures since its last good answer.
    pub failures_in_a_row: u32,
    /// Open connections.
    pub connections: usize,
    /// Exchanges under way.
    pub exchanges: usize,
    /// Requests that wait for a connection.
    pub waiting: usize,
}

/// How far a node is in the purge log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PurgeStanding {
    /// Whether it knows of all purges: `starting`, `current` or `lagging`.
    pub state: &'static str,
    /// Which log it follows; absent before it was heard.
    pub log: Option<String>,
    /// The last purge that is applied, by its place in the log.
    pub applied: u64,
    /// The last purge that is known to be in the log.
    pub head: u64,
    /// How old its knowledge is, in seconds: a purge accepted before that is applied.
    pub lag_seconds: f64,
    /// Whether a feed is open.
    pub is_connected: bool,
    /// Nodes that follow the log here.
    pub children: u64,
}

/// Where a live rendition is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RenditionPosition {
    /// The host it was asked of.
    pub host: String,
    /// The path of its playlist, with credentials removed.
    pub path: String,
    /// Whether a chain follows it and how that goes.
    pub phase: &'static str,
    /// The last Media Sequence Number of the newest version.
    pub msn: Option<u64>,
    /// The last part of that segment, if there are parts.
    pub part_index: Option<u64>,
    /// How old the newest version is, in seconds.
    pub age_seconds: Option<f64>,
    /// Requests that look at it right now, most of them held.
    pub waiting: usize,
}

/// Renditions that `/status` shows; a full list of thousands is not read by anyone.
pub const RENDITIONS_SHOWN_MAX: usize = 1000;
