//! Everything between sockets and one request type.
//!
//! What is here: worker runtimes, TCP and QUIC listeners, TLS, graceful drain. Who calls it: `Node::start`.
//! What it calls: an [`crate::Exchange`] for every request. Deliberately not here: any decision about a request.

mod activity;
mod answer;
mod bind;
mod eager;
mod gather;
mod limits;
mod order;
mod priority;
mod quic;
mod records;
mod sendfile;
mod serving;
mod tcp;
mod tls;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use quic::IncomingBody;

pub use bind::{Addresses, BindError, Bound, Transport};
pub use quic::{Congestion, QuicConfig};
pub use serving::{Drained, OpenConnections, Serving};
pub use tcp::serve_stream;
pub use tls::{CertificateError, Certificates};

/// Where and how a node listens.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenConfig {
    /// Addresses for TLS over TCP and, with `http3`, QUIC over UDP on the same port. Port 0 is allowed.
    pub https: Vec<SocketAddr>,
    /// Addresses for clear-text HTTP/1.1 and HTTP/2 with prior knowledge. Port 0 is allowed.
    pub http: Vec<SocketAddr>,
    /// Whether the `https` addresses also speak HTTP/3 over QUIC.
    pub http3: bool,
    /// How HTTP/3 connections carry responses.
    pub quic: QuicConfig,
    /// Where the certificate comes from; required when `https` is not empty.
    pub certificate: Option<CertificateSource>,
    /// Worker threads, each with one current-thread runtime.
    pub workers: usize,
    /// Bounds on what one client may take.
    pub limits: ListenLimits,
}

/// Where a certificate and its key come from.
#[derive(Clone, Debug, PartialEq)]
pub enum CertificateSource {
    /// PEM files: the chain, leaf first, and the key.
    Files {
        /// The certificate chain.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// A self-signed certificate made at start for these names, beside localhost and the loopback addresses.
    SelfSigned(Vec<String>),
}

/// Bounds on what one client, or all of them, may take from the listeners.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenLimits {
    /// Open connections per worker; one more is closed at once.
    pub connections_per_worker_max: usize,
    /// Concurrent HTTP/2 or HTTP/3 streams per connection (PL-13: at least 128).
    pub streams_per_connection_max: u32,
    /// Bytes of a request head.
    pub head_bytes_max: usize,
    /// Time for the first byte, the TLS handshake, or the rest of a request head.
    pub head_timeout: Duration,
    /// Time a connection may be without a request.
    pub idle_timeout: Duration,
    /// Time that running responses get when the node drains.
    pub drain_timeout: Duration,
}

impl Default for ListenLimits {
    fn default() -> Self {
        Self {
            connections_per_worker_max: 50_000,
            streams_per_connection_max: 128,
            head_bytes_max: 16 * 1024,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
        }
    }
}
