//! What can go wrong between a node and its parents, and on whose side.
//!
//! Who calls it: everything in this module returns these; fills and chains turn them into a `Failure`.
//! Deliberately not here: a parent's 4xx and 5xx, which are answers.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use http::Method;

use super::ParentId;

/// Why no parent answered a [`super::ForwardRequest`].
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The host, the path or the query is not something HTTP can carry. No parent was asked.
    #[error("the request cannot be expressed in HTTP")]
    Request(#[source] http::Error),
    /// No connection could be opened. No parent has seen the request.
    #[error("no connection to the parent could be opened")]
    Connect {
        /// Who was asked last.
        parent: ParentId,
        /// What stood in the way; shared by all who waited for that connection.
        source: Arc<ConnectError>,
    },
    /// `waiting_max` requests already wait for a connection to this parent.
    #[error("too many requests wait for a connection to the parent")]
    QueueFull {
        /// Whose queue is full.
        parent: ParentId,
    },
    /// All connections stayed in use for as long as a request may wait for one.
    #[error("no connection to the parent became free in time")]
    QueueTimeout {
        /// Whose connections are all in use.
        parent: ParentId,
    },
    /// The parent had the request and sent no head within the first byte timeout.
    #[error("the parent did not answer in time")]
    FirstByteTimeout {
        /// Who was silent.
        parent: ParentId,
    },
    /// The connection or the stream ended before the head of an answer.
    #[error("the parent ended the exchange before its answer")]
    Lost {
        /// Who was asked.
        parent: ParentId,
        /// Whether bytes of an answer had arrived, so that nobody else is asked.
        has_begun: bool,
        /// What HTTP saw.
        source: hyper::Error,
    },
    /// The node is ending and opens no more connections.
    #[error("the node is ending")]
    Ending,
}

impl UpstreamError {
    /// Returns the parent that disappointed, if one was asked.
    pub fn parent(&self) -> Option<ParentId> {
        match self {
            Self::Request(_) | Self::Ending => None,
            Self::Connect { parent, .. }
            | Self::QueueFull { parent }
            | Self::QueueTimeout { parent }
            | Self::FirstByteTimeout { parent }
            | Self::Lost { parent, .. } => Some(*parent),
        }
    }

    /// Returns whether another parent may be asked with `method`: no byte of an answer was seen, and what
    /// is not idempotent was not even sent (RFC 9110 9.2.2).
    pub(super) fn may_be_retried(&self, method: &Method) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::Lost { has_begun, .. } => !has_begun && method.is_idempotent(),
            // A full queue is load, not a fault: moving it to the next parent would spread it.
            Self::Request(_)
            | Self::QueueFull { .. }
            | Self::QueueTimeout { .. }
            | Self::FirstByteTimeout { .. }
            | Self::Ending => false,
        }
    }
}

/// Why a connection to a parent could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address, or the resolver did not answer.
    #[error("the name of the parent does not resolve")]
    Resolve(#[source] io::Error),
    /// Every address refused, or could not be reached.
    #[error("no address of the parent accepts connections")]
    Transport(#[source] io::Error),
    /// The TLS handshake did not succeed, e.g. for an untrusted certificate.
    #[error("the TLS handshake with the parent did not succeed")]
    Tls(#[source] io::Error),
    /// What answered does not speak the expected version of HTTP.
    #[error("the HTTP handshake with the parent did not succeed")]
    Http(#[source] hyper::Error),
    /// The connection was closed before the parent's SETTINGS (RFC 9113 3.4).
    #[error("the parent closed the connection during the HTTP handshake")]
    ClosedEarly,
    /// `connect_timeout` passed.
    #[error("the connection to the parent was not ready in time")]
    Timeout,
    /// The node is ending.
    #[error("the node is ending")]
    Ending,
}

/// Why a configuration of parents cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamSetupError {
    /// There is nobody to ask.
    #[error("no parent is configured")]
    NoParents,
    /// The URL needs the scheme `http` or `https`, a host, and nothing after it.
    #[error("the URL of parent {name} is not `http://host[:port]` or `https://host[:port]`")]
    Url {
        /// The parent's name.
        name: String,
    },
    /// The name cannot stand in `Via` and `CDN-Loop` (RFC 8586 2: a token).
    #[error("the node name {name:?} is not a token of letters, digits and `-._~!#$%&'*+^`|`")]
    NodeName {
        /// The name.
        name: String,
    },
    /// A file of certificates or keys cannot be read or holds none.
    #[error("{path} holds no usable certificate or key")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What the reader saw.
        source: rustls::pki_types::pem::Error,
    },
    /// The TLS library refuses the certificates.
    #[error("the TLS settings of parent {name} cannot be used")]
    Tls {
        /// The parent's name.
        name: String,
        /// What it says.
        source: rustls::Error,
    },
}
