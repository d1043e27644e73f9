//! What a journal keeps, for how long, and where.

use std::fmt;
use std::path::PathBuf;
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

/// Which stream of which NATS servers is the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsConfig {
    /// The servers of the cluster, as in `nats://nats-1.example:4222` or `tls://..`.
    pub servers: Vec<String>,
    /// The name of the stream; its entries go to the subject `<stream>.purges`.
    pub stream: String,
    /// On how many servers each purge is kept: 3 on a cluster, 1 on a single server.
    ///
    /// NATS acknowledges before it syncs to disk unless it is told `sync_interval: always`, so with 1 and
    /// without that setting a power failure loses purges that were acknowledged.
    pub replicas: usize,
    /// Who this purge API is to the servers.
    pub login: NatsLogin,
    /// A file of certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate and key this purge API shows (mutual TLS).
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

/// Who a purge API is to NATS.
#[derive(Clone, PartialEq, Eq)]
pub enum NatsLogin {
    /// Nobody, or whoever its certificate says.
    None,
    /// A user with a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// Whoever has this token.
    Token(String),
}

/// Passwords and tokens are not shown (design invariant 7).
impl fmt::Debug for NatsLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Password { user, .. } => write!(f, "Password of {user:?}"),
            Self::Token(_) => f.write_str("Token"),
        }
    }
}
