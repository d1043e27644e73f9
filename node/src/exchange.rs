//! The story of one request: admit, plan, answer, and one event when the last byte has left.

use std::future::Future;
use std::net::SocketAddr;

use crate::body::Body;

/// What answers requests: a node, or a bare responder that benchmarks measure beside it.
pub trait Exchange: Clone + Send + Sync + 'static {
    /// Answers one request of `peer`. Dropping the future or the body is how a viewer leaves.
    fn exchange(
        &self,
        peer: &Peer,
        request: http::Request<()>,
    ) -> impl Future<Output = http::Response<Body>> + Send;
}

/// The client at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where the client is.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// Whether the connection is encrypted.
    pub is_secure: bool,
}

/// A version of HTTP as a connection speaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 (RFC 9112), or 1.0.
    Http1,
    /// HTTP/2 (RFC 9113).
    Http2,
    /// HTTP/3 (RFC 9114).
    Http3,
}

impl Protocol {
    /// Returns the name used in logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "h1",
            Self::Http2 => "h2",
            Self::Http3 => "h3",
        }
    }
}
