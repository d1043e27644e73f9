//! How a node follows the purge log.

use std::time::Duration;

use purge_log::NodeName;

use super::standing::{State, Verdict};

/// How a node follows the purge log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowConfig {
    /// The node's name in reports: unique among all that follow.
    pub node: NodeName,
    /// How old its knowledge may be before the node counts as lagging.
    pub lagging_after: Duration,
    /// What a lagging node does.
    pub when_lagging: WhenLagging,
    /// How long a connection may be silent; its other end beats every second.
    pub silence_max: Duration,
    /// The first pause before connecting again; it doubles with every failure.
    pub backoff_min: Duration,
    /// The longest pause before connecting again.
    pub backoff_max: Duration,
    /// Purges that a node asks for again when it starts: stretches of timelines that they purged stay gone.
    pub recalled_entries_max: u64,
    /// Purges that are kept for children; a child that missed more makes everything stale.
    pub window_entries_max: usize,
    /// Children that may follow at once.
    pub children_max: usize,
    /// Nodes below this one whose reports are passed on.
    pub nodes_max: usize,
}

impl FollowConfig {
    /// Returns good defaults for the node called `node`.
    pub fn new(node: NodeName) -> Self {
        Self {
            node,
            lagging_after: Duration::from_secs(5),
            when_lagging: WhenLagging::Serve,
            silence_max: Duration::from_secs(4),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            recalled_entries_max: 10_000,
            window_entries_max: 10_000,
            children_max: 1_000,
            nodes_max: 10_000,
        }
    }
}

/// What a node does while it may have missed purges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenLagging {
    /// Serve as ever: lifetimes of live media are short.
    Serve,
    /// Ask a parent before a stored response is served.
    Revalidate,
    /// Say that the node is not ready, so that nobody is sent there.
    Fence,
}

impl WhenLagging {
    /// Returns the name used in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Revalidate => "revalidate",
            Self::Fence => "fence",
        }
    }

    /// Returns what to do in `state`.
    pub fn judge(self, state: State) -> Verdict {
        match (self, state) {
            (Self::Fence, State::Starting | State::Lagging { .. }) => Verdict::Fence,
            (Self::Revalidate, State::Lagging { .. }) => Verdict::Revalidate,
            (_, State::Current | State::Starting) | (Self::Serve, State::Lagging { .. }) => {
                Verdict::Serve
            }
        }
    }
}
