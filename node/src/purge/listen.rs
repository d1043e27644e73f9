//! The listener for children: where nodes below this one follow the purge log.
//!
//! What is here: a listener of its own, apart from that of viewers, so that no request of a viewer can
//! come near it. Whoever connects from another machine shows a certificate that one of `client_ca` signed
//! before a byte of HTTP is read; without TLS it listens on the loopback only. Who calls it: the node's start;
//! tests hand in connections through [`serve_stream`]. What it calls: [`Children::answer`](super::Children::answer). Deliberately not
//! here: what a child may follow; whoever may connect may follow everything.
//!
//! It has a thread of its own: a thousand children that are told of a purge delay no viewer and no fill.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use purge_log::feed::REPORTS_BYTES_MAX;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::server::{ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::children::{FeedBody, text};
use crate::listen::{CertificateError, CertificateSource, Certificates};
use crate::node::Node;

/// Where children of a node follow the purge log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildrenConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// How both ends show who they are; required outside the loopback.
    pub tls: Option<ChildrenTls>,
    /// Children that may follow at once.
    pub children_max: usize,
}

/// Files of mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildrenTls {
    /// The certificate chain in PEM, leaf first.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
    /// Certificates in PEM of which one has signed that of each child.
    pub client_ca: PathBuf,
}

/// Why the listener for children cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ChildrenError {
    /// The address can be reached from elsewhere, and nobody would be asked who they are.
    #[error(
        "purge.children address {0} is open to other machines without TLS: use a loopback address, or set certificate, key and client_ca"
    )]
    Open(SocketAddr),
    /// Another process holds the port.
    #[error("purge.children port {} of {} is in use: stop the other process (`ss -lntp 'sport = :{}'` names it) or choose another purge.children.listen", .0.port(), .0.ip(), .0.port())]
    InUse(SocketAddr),
    /// Anything else the system said.
    #[error("purge.children address {address} cannot be opened ({reason})", reason = source.kind())]
    System {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The node's own certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificates that sign those of children cannot be read.
    #[error("{} holds no certificates in PEM that can be read", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        source: pem::Error,
    },
    /// The certificates that sign those of children cannot be used.
    #[error("{} holds a certificate that cannot be used to check those of children", path.display())]
    ClientCaUnusable {
        /// The file.
        path: PathBuf,
        /// What the TLS library said.
        source: rustls::Error,
    },
    /// The certificates that sign those of children make no verifier.
    #[error("{} cannot be used to check the certificates of children", path.display())]
    Verifier {
        /// The file.
        path: PathBuf,
        /// What the TLS library said.
        source: VerifierBuilderError,
    },
    /// TLS cannot be set up.
    #[error("TLS for children cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// A bound listener for children that does not serve yet.
pub(crate) struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    connections_max: usize,
}

/// A listener for children that runs until it is joined or dropped.
#[derive(Debug)]
pub(crate) struct Serving {
    address: SocketAddr,
    stop: CancellationToken,
    /// Resolves, by its sender's drop, when the thread has ended.
    ended: oneshot::Receiver<()>,
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Bound {
    /// Binds the address and reads the files.
    ///
    /// # Errors
    ///
    /// See [`ChildrenError`]; nothing is left open.
    pub(crate) fn bind(config: &ChildrenConfig) -> Result<Self, ChildrenError> {
        let address = config.address;
        if config.tls.is_none() && !address.ip().is_loopback() {
            return Err(ChildrenError::Open(address));
        }
        let tls = config.tls.as_ref().map(acceptor).transpose()?;
        let failed = |source: io::Error| failed(address, source);
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            address: listener.local_addr().map_err(failed)?,
            listener,
            tls,
            // Each child holds a feed and, for moments, sends reports beside it.
            connections_max: config.children_max.saturating_mul(2),
        })
    }

    /// Serves children of `node` from a thread of its own.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub(crate) fn serve(self, node: &Arc<Node>) -> Result<Serving, ChildrenError> {
        let address = self.address;
        let failed = |source| failed(address, source);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let stop = CancellationToken::new();
        let (running, ended) = oneshot::channel::<()>();
        let (node, stopped) = (Arc::downgrade(node), stop.clone());
        thread::Builder::new()
            .name("seawall-children".to_owned())
            .spawn(move || {
                let _running = running;
                runtime.block_on(stopped.run_until_cancelled(self.accept(node)));
            })
            .map_err(failed)?;
        Ok(Serving {
            address,
            stop,
            ended,
        })
    }

    async fn accept(self, node: Weak<Node>) {
        let Ok(listener) = tokio::net::TcpListener::from_std(self.listener) else {
            return;
        };
        // Dropped with the future: a child whose feed is cut loses nothing, it resumes by sequence.
        let mut connections = JoinSet::new();
        loop {
            // One connection too many waits in the kernel's queue, which is bounded too.
            let may_accept = connections.len() < self.connections_max;
            tokio::select! {
                Some(_) = connections.join_next() => {}
                accepted = listener.accept(), if may_accept => match accepted {
                    Ok((stream, peer)) => {
                        connections.spawn(connection(stream, peer, self.tls.clone(), Weak::clone(&node)));
                    }
                    Err(error) => {
                        // Out of descriptors: those who hold them need a moment.
                        tracing::warn!(%error, "a child cannot be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

impl Serving {
    /// Returns the address that was bound.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every child, which then follows another parent, and waits for the thread.
    pub(crate) async fn join(mut self) {
        self.stop.cancel();
        // An error is the sender's drop: the thread is at its end.
        (&mut self.ended).await.ok();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn failed(address: SocketAddr, source: io::Error) -> ChildrenError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ChildrenError::InUse(address),
        _ => ChildrenError::System { address, source },
    }
}

/// Returns what accepts children that show a certificate, and nobody else.
fn acceptor(config: &ChildrenTls) -> Result<TlsAcceptor, ChildrenError> {
    let path = || config.client_ca.clone();
    let unreadable = |source| ChildrenError::ClientCa {
        path: path(),
        source,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&config.client_ca).map_err(unreadable)? {
        let certificate = certificate.map_err(unreadable)?;
        let added = roots.add(certificate);
        added.map_err(|source| ChildrenError::ClientCaUnusable {
            path: path(),
            source,
        })?;
    }
    if roots.is_empty() {
        return Err(unreadable(pem::Error::NoItemsFound));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|source| ChildrenError::Verifier {
                path: path(),
                source,
            })?;
    let certificates = Certificates::load(&CertificateSource::Files {
        certificate: config.certificate.clone(),
        key: config.key.clone(),
    })?;
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ChildrenError::Tls)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificates as Arc<dyn ResolvesServerCert>);
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    node: Weak<Node>,
) {
    // Lines are small and wanted at once. A socket that refuses works all the same.
    stream.set_nodelay(true).ok();
    // A child that is gone, or does not read, must not hold its place for longer.
    SockRef::from(&stream)
        .set_tcp_user_timeout(Some(UNREAD_MAX))
        .ok();
    let Some(tls) = tls else {
        return serve_stream(stream, node).await;
    };
    match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve_stream(stream, node).await,
        Ok(Err(error)) => tracing::warn!(%error, %peer, "not a child: the TLS handshake ended"),
        Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
    }
}

/// Serves one connection of a child of `node`, until either end closes it.
pub async fn serve_stream(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    node: Weak<Node>,
) {
    let service = service_fn(move |request| {
        let node = Weak::clone(&node);
        async move { Ok::<_, Infallible>(answer(&node, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a child's connection ended early");
    }
}

async fn answer(node: &Weak<Node>, request: Request<Incoming>) -> Response<FeedBody> {
    let (head, body) = request.into_parts();
    let content = match head.method {
        Method::POST => match content(body).await {
            Ok(content) => content,
            Err(status) => return text(status, &"the reports cannot be read"),
        },
        _ => Bytes::new(),
    };
    let Some(children) = node.upgrade().and_then(|node| node.purges.children()) else {
        let reason = "this node has not heard from the log yet";
        return text(StatusCode::SERVICE_UNAVAILABLE, &reason);
    };
    let query = head.uri.query().unwrap_or_default();
    children.answer(&head.method, head.uri.path(), query, &content)
}

/// Reads the content of a report.
async fn content(body: Incoming) -> Result<Bytes, StatusCode> {
    let reading = Limited::new(body, REPORTS_BYTES_MAX).collect();
    match tokio::time::timeout(CONTENT_TIMEOUT, reading).await {
        Ok(Ok(content)) => Ok(content.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(StatusCode::PAYLOAD_TOO_LARGE)
        }
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

/// Time for a TLS handshake, and for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for the content of a report.
const CONTENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time that what is sent to a child may stay unacknowledged.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// Fields of a head.
const HEADERS_MAX: usize = 64;

/// Bytes of a head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long the listener rests when the system gives it no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
