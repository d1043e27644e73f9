//! How a node asks its parents.
//!
//! What is here: connections to parents, the choice among them, their health, retries.
//! Who calls it: fills and the live hub's chains. Deliberately not here: caching and media.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, Uri};
use tokio::time::Instant;

/// The parents of a node and how it talks to them.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamConfig {
    /// The parents, in order of preference for [`Selection::Ordered`].
    pub parents: Vec<ParentConfig>,
    /// How one of them is chosen.
    pub selection: Selection,
    /// This node's name in `Via` and `CDN-Loop`.
    pub node_name: String,
    /// Bounds on connections and retries.
    pub limits: UpstreamLimits,
}

/// One parent: a shield, or an origin.
#[derive(Clone, Debug, PartialEq)]
pub struct ParentConfig {
    /// The name used in metrics, logs and `Cache-Status`.
    pub name: String,
    /// Scheme, authority and nothing else, e.g. `https://shield-1.example:8443`.
    pub url: Uri,
    /// Its share under [`Selection::Rendezvous`].
    pub weight: u32,
    /// Whether an `http` URL is spoken to in HTTP/2 with prior knowledge.
    pub h2c: bool,
    /// A file of certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate. For tests only.
    pub insecure_skip_verify: bool,
    /// The `Host` sent instead of the viewer's, for origins that know one name only.
    pub host: Option<String>,
    /// Header fields added to every request, e.g. an origin's shared secret. Never logged.
    pub headers: HeaderMap,
}

/// How a parent is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Weighted rendezvous hashing over the affinity, failing over to the next by score.
    Rendezvous,
    /// The first healthy one in order; a presentation stays where it is (CA-08).
    Ordered,
}

/// Bounds on connections and retries towards parents.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamLimits {
    /// Time to connect and handshake.
    pub connect_timeout: Duration,
    /// Connections per parent and class.
    pub connections_per_parent_max: usize,
    /// Concurrent streams per HTTP/2 connection.
    pub streams_per_connection_max: usize,
    /// Requests that may wait for a connection, per parent and class.
    pub waiting_max: usize,
    /// Time an unused connection is kept.
    pub idle_timeout: Duration,
    /// Retries as a share of requests, in percent.
    pub retry_budget_percent: u32,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            connections_per_parent_max: 256,
            streams_per_connection_max: 100,
            waiting_max: 4096,
            idle_timeout: Duration::from_secs(60),
            retry_budget_percent: 10,
        }
    }
}

/// What is asked of a parent, built from parsed fields only.
#[derive(Clone, Debug)]
pub struct ForwardRequest {
    /// The host that the viewer asked.
    pub host: String,
    /// The canonical path and query, byte-preserving (CA-03).
    pub path_and_query: String,
    /// Header fields to send, chosen by allow-list.
    pub headers: HeaderMap,
    /// What belongs together and should come from one parent: the presentation.
    pub affinity: String,
    /// Which connections to use.
    pub class: Class,
    /// Time from sending to the first byte of the answer.
    pub first_byte_timeout: Duration,
    /// A parent that should not be asked if another can be: the one that just disappointed.
    pub avoid: Option<ParentId>,
}

/// Which connections a request uses, so that held requests never stand before bulk transfers (FM-19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A blocking reload or a hinted part: the parent may hold it for seconds.
    Parked,
    /// Everything else.
    Bulk,
}

/// Which parent, as an index into the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParentId(pub usize);

/// A parent's answer: its head, and its body still arriving.
#[derive(Debug)]
pub struct ForwardResponse {
    /// Status and header fields as received.
    pub head: http::response::Parts,
    /// The body.
    pub body: hyper::body::Incoming,
    /// Who answered.
    pub parent: ParentId,
    /// When the request was sent.
    pub sent_at: Instant,
    /// When the head arrived.
    pub head_at: Instant,
}
