//! The configuration of a node, checked: plain values without a file format.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::listen::ListenConfig;
use crate::purge::{ChildrenConfig, WhenLagging};
use crate::request::Network;
use crate::rules::Rules;
use crate::upstream::{ParentConfig, UpstreamConfig};

/// Everything a node needs to run, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeConfig {
    /// The node's name in `Via`, `Cache-Status`, `CDN-Loop` and logs.
    pub name: String,
    /// Where and how it listens.
    pub listen: ListenConfig,
    /// Its parents.
    pub upstream: UpstreamConfig,
    /// Memory for stored responses, in bytes.
    pub store_bytes: u64,
    /// How live playlists are followed.
    pub live: LiveConfig,
    /// Bounds on what one response may take.
    pub limits: NodeLimits,
    /// The private listener, if any.
    pub admin: Option<AdminConfig>,
    /// The access log, if any.
    pub access_log: Option<AccessLogConfig>,
    /// The purge log, if it follows one.
    pub purge: Option<PurgeConfig>,
    /// Whether clients may say which purges they have applied: nodes below do. A viewer who said so could
    /// have everything asked for past the store.
    pub heeds_children: bool,
    /// Whether the node answers for cross-origin pages: CORS fields and OPTIONS (CA-12).
    pub cors: bool,
    /// Whether responses say where their time went, in `Server-Timing` (HX-21).
    pub server_timing: bool,
    /// What holds for which hosts and paths.
    pub rules: Rules,
}

/// The purge log that a node follows.
#[derive(Clone, Debug, PartialEq)]
pub struct PurgeConfig {
    /// Where the log is served, in order of preference: the purge API, or a parent that serves it on.
    pub parents: Vec<ParentConfig>,
    /// How old the node's knowledge of purges may be before it counts as lagging.
    pub lagging_after: Duration,
    /// What a lagging node does.
    pub when_lagging: WhenLagging,
    /// Where nodes below this one follow the log, if anywhere.
    pub children: Option<ChildrenConfig>,
}

/// How live playlists are followed.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveConfig {
    /// The longest a request is held, whatever three target durations are (CA-13).
    pub hold_max: Duration,
    /// How long a rendition is followed after its last viewer asked.
    pub idle_after: Duration,
    /// Whether hinted parts are fetched before they are asked for (CA-15).
    pub prefetch: bool,
    /// Held requests per node; one more is refused with 503 (CA-22).
    pub held_max: usize,
    /// Held requests per client; `None`: as many as the node holds.
    pub held_per_client_max: Option<usize>,
    /// Held requests per connection; `None`: as many as the node holds.
    pub held_per_connection_max: Option<usize>,
    /// Objects fetched per second because players announced them (HX-04); zero: none.
    pub next_objects_per_second: u64,
    /// Bytes of such objects per second.
    pub next_object_bytes_per_second: u64,
    /// Proxies that are believed when they say whom they forward for.
    pub forwarders: Vec<Network>,
    /// Renditions followed at once.
    pub renditions_max: usize,
    /// Bytes of one playlist.
    pub playlist_bytes_max: usize,
}

impl Default for LiveConfig {
    fn default() -> Self {
        Self {
            hold_max: Duration::from_secs(18),
            idle_after: Duration::from_secs(20),
            prefetch: true,
            held_max: 200_000,
            held_per_client_max: None,
            held_per_connection_max: None,
            next_objects_per_second: 0,
            next_object_bytes_per_second: 16 * 1024 * 1024,
            forwarders: Vec::new(),
            renditions_max: 10_000,
            playlist_bytes_max: 8 * 1024 * 1024,
        }
    }
}

/// Bounds on what one response or request may take.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeLimits {
    /// Bytes of one stored body; a larger one is relayed and not stored.
    pub stored_body_bytes_max: u64,
    /// Bytes of one slice of a large body; zero: bodies are not kept in slices.
    pub slice_bytes: u64,
    /// Bytes above which a body is kept in slices, where its parent answers ranges.
    pub slice_from_bytes: u64,
    /// Time between two reads of a body that is being filled (FM-28).
    pub stall_timeout: Duration,
    /// Time to the first byte of an ordinary answer.
    pub first_byte_timeout: Duration,
    /// Bytes of a request's path and query.
    pub target_bytes_max: usize,
    /// Bytes of the content of a relayed request, which is read whole before it is sent on.
    pub upload_bytes_max: usize,
    /// Relayed requests under way at once, each with its content in memory.
    pub relays_max: usize,
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self {
            stored_body_bytes_max: 64 * 1024 * 1024,
            slice_bytes: 2 * 1024 * 1024,
            slice_from_bytes: 16 * 1024 * 1024,
            stall_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(5),
            target_bytes_max: 8 * 1024,
            upload_bytes_max: 1024 * 1024,
            relays_max: 256,
        }
    }
}

/// The private listener: health, readiness, metrics, status.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether an address outside the loopback is accepted.
    pub allow_remote: bool,
}

/// Where finished requests are written, one JSON line each.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogConfig {
    /// The file; standard output when absent.
    pub path: Option<PathBuf>,
    /// Every n-th request is written; 1 writes all.
    pub one_in: u32,
}
