//! The parents of a node as configuration values: who they are, how one is chosen, what they may take.
//!
//! Who calls it: the configuration fills these in, [`super::Upstream::new`] reads them.
//! Deliberately not here: parsing and its errors (that is `config`), anything that changes at run time.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, Uri};

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
#[derive(Clone, PartialEq)]
pub struct ParentConfig {
    /// The name used in metrics, logs and `Cache-Status`.
    pub name: String,
    /// Scheme, authority and nothing else, e.g. `https://shield-1.example:8443`.
    pub url: Uri,
    /// Its share under [`Selection::Rendezvous`]; 0 keeps it as a last resort.
    pub weight: u32,
    /// Whether an `http` URL is spoken to in HTTP/2 with prior knowledge.
    pub h2c: bool,
    /// A file of certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate this node shows to the parent (mutual TLS).
    pub client_certificate: Option<ClientCertificate>,
    /// Accept any certificate. For tests only.
    pub insecure_skip_verify: bool,
    /// The `Host` sent instead of the viewer's, for origins that know one name only.
    pub host: Option<String>,
    /// Header fields added to every request, e.g. an origin's shared secret. Never logged.
    pub headers: HeaderMap,
}

/// The header fields may be secrets: only their names are shown (design invariant 7).
impl fmt::Debug for ParentConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParentConfig")
            .field("name", &self.name)
            .field("url", &self.url)
            .field("weight", &self.weight)
            .field("h2c", &self.h2c)
            .field("ca_file", &self.ca_file)
            .field("client_certificate", &self.client_certificate)
            .field("insecure_skip_verify", &self.insecure_skip_verify)
            .field("host", &self.host)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// PEM files with which a node identifies itself to a parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key of the leaf.
    pub key: PathBuf,
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
    /// Retries that may be saved up, for quiet times and for the moment a parent dies.
    pub retry_reserve_max: u32,
    /// Consecutive failures after which a parent is left alone for a while.
    pub failures_max: u32,
    /// The first time for which a failing parent is left alone; it doubles with every failed probe.
    pub backoff_min: Duration,
    /// The longest time for which a failing parent is left alone.
    pub backoff_max: Duration,
    /// Presentations that are remembered to have moved to another parent (CA-08).
    pub moved_presentations_max: usize,
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
            retry_reserve_max: 500,
            failures_max: 3,
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(30),
            moved_presentations_max: 10_000,
        }
    }
}

/// Which parent, as an index into the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParentId(pub usize);
