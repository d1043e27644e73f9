//! What a journal keeps, and for how long.

use std::time::Duration;

/// What a journal keeps, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// How long a purge is kept. A node that was away for longer makes everything stale when it returns, so
    /// this need not be longer than responses are stored.
    pub keep_for: Duration,
    /// How many purges are kept; the oldest leave early.
    pub entries_max: u64,
    /// How many bytes of purges are kept; the oldest leave early.
    pub bytes_max: u64,
    /// How long an idempotency key is remembered, at most as long as its purge.
    pub keys_kept_for: Duration,
    /// How many idempotency keys are remembered; the oldest are forgotten early.
    pub keys_max: usize,
    /// Purges that share one fsync.
    pub batch_max: usize,
    /// Purges and reports that may wait for the disk; one purge more is refused.
    pub waiting_max: usize,
    /// Purges of late that are kept in memory for the feed.
    pub recent_max: usize,
    /// Nodes that may report.
    pub nodes_max: usize,
    /// Lines of "this node applied that purge" kept in memory; older ones are read from disk.
    pub applied_max: usize,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            keep_for: Duration::from_secs(7 * 24 * 3600),
            entries_max: 1_000_000,
            bytes_max: 1024 * 1024 * 1024,
            keys_kept_for: Duration::from_secs(24 * 3600),
            keys_max: 100_000,
            batch_max: 1024,
            waiting_max: 4096,
            recent_max: 10_000,
            nodes_max: 10_000,
            applied_max: 200_000,
        }
    }
}
