//! Connections: accepted up to a limit, served with timeouts, joined at the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::api::Peer;
use crate::auth::names_of;

/// What a listener allows.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// A permit per connection, of all listeners together.
    pub(super) open: Arc<Semaphore>,
    /// How long a head may take, the TLS handshake before it, and the pause between requests.
    pub(super) head_timeout: Duration,
    /// How long requests that are under way may take once the listener closes.
    pub(super) drain_timeout: Duration,
}

/// Accepts connections until `closing`, then waits for those that are open.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    closing: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        // Invariant 8: a connection too many waits in the system's queue, which has a limit too.
        let open = Arc::clone(&limits.open).acquire_owned();
        let accepted = async {
            let permit = open.await.ok()?;
            Some((permit, listener.accept().await))
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => match accepted {
                Some(accepted) => accepted,
                None => break,
            },
            Some(_) = connections.join_next() => continue,
            () = closing.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let one = connection(stream, peer, tls.clone(), router.clone(), limits.clone());
                let closing = closing.clone();
                connections.spawn(async move {
                    one.run(closing).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, or a client that left: neither ends the listener.
                tracing::warn!(%error, "a connection cannot be accepted");
                drop(permit);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let joined = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain_timeout, joined)
        .await
        .is_err()
    {
        connections.shutdown().await;
    }
}

/// One connection.
struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
) -> Connection {
    Connection {
        stream,
        peer,
        tls,
        router,
        limits,
    }
}

impl Connection {
    async fn run(self, closing: CancellationToken) {
        // Answers are small and wanted at once. A socket that refuses works all the same.
        self.stream.set_nodelay(true).ok();
        let address = self.peer.ip();
        let Some(tls) = self.tls else {
            let peer = Peer {
                address,
                certificate_names: Arc::from([]),
            };
            return answer(self.stream, peer, self.router, &self.limits, closing).await;
        };
        let handshake = tokio::time::timeout(self.limits.head_timeout, tls.accept(self.stream));
        let stream = match handshake.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, peer = %self.peer, "the TLS handshake ended early");
                return;
            }
            Err(_) => return,
        };
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let names = certificates.first().map(names_of).unwrap_or_default();
        let peer = Peer {
            address,
            certificate_names: names.into(),
        };
        answer(stream, peer, self.router, &self.limits, closing).await;
    }
}

/// Answers the requests of one connection.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    limits: &Limits,
    closing: CancellationToken,
) {
    // The last layer is the first to see a request: everything inside knows the peer.
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Fields of a head.
const HEADERS_MAX: usize = 64;

/// Bytes of a head.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// How long a listener rests when the system gives it no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
