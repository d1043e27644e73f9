//! The private listener: health, readiness, metrics, status, presentations.
//!
//! What is here: five pages for operators and their machines, all GET, all plain HTTP/1.1, from a thread
//! of their own so that rendering metrics never delays a viewer. Who calls it: the node's start.
//! What it calls: telemetry, and a closure that says how the node is. Deliberately not here: anything
//! that changes the node. There is no authentication, hence the loopback by default.

mod status;

pub use status::{
    NotReady, ParentHealth, PurgeStanding, RENDITIONS_SHOWN_MAX, RenditionPosition, Status,
};

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::node::AdminConfig;
use crate::streams;
use crate::telemetry::Telemetry;

/// A private listener that runs until it is joined or dropped.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    stop: CancellationToken,
    /// Resolves, by its sender's drop, when the thread has ended.
    ended: oneshot::Receiver<()>,
}

/// Why the private listener cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address can be reached from elsewhere and nobody said that it may.
    #[error(
        "admin address {0} is open to other machines and there is no authentication: use a loopback address, or set admin.allow_remote = true if a firewall stands before it"
    )]
    Remote(SocketAddr),
    /// Another process holds the port.
    #[error("admin port {} of {} is in use: stop the other process (`ss -lntp 'sport = :{}'` names it) or choose another admin.listen", .0.port(), .0.ip(), .0.port())]
    InUse(SocketAddr),
    /// Anything else the system said.
    #[error("admin address {address} cannot be opened ({reason})", reason = source.kind())]
    System {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// What the pages show.
#[derive(Clone)]
struct Shown {
    telemetry: Arc<Telemetry>,
    status: Arc<dyn Fn() -> Status + Send + Sync>,
    streams: Arc<dyn Fn() -> Vec<streams::Report> + Send + Sync>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

/// Binds the private listener and serves it from a thread of its own.
///
/// It keeps answering while the node drains, so that `/readyz` can say so.
///
/// # Errors
///
/// An address that is open to other machines without permission, or that cannot be bound.
pub fn serve(
    config: &AdminConfig,
    telemetry: Arc<Telemetry>,
    status: impl Fn() -> Status + Send + Sync + 'static,
    streams: impl Fn() -> Vec<streams::Report> + Send + Sync + 'static,
) -> Result<Serving, AdminError> {
    let address = config.address;
    if !address.ip().is_loopback() && !config.allow_remote {
        return Err(AdminError::Remote(address));
    }
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => AdminError::InUse(address),
        _ => AdminError::System { address, source },
    };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let stop = CancellationToken::new();
    let (running, ended) = oneshot::channel::<()>();
    let router = router(Shown {
        telemetry,
        status: Arc::new(status),
        streams: Arc::new(streams),
    });
    let stopped = stop.clone();
    thread::Builder::new()
        .name("seawall-admin".to_owned())
        .spawn(move || {
            let _running = running;
            runtime.block_on(accept(listener, router, stopped));
        })
        .map_err(failed)?;
    Ok(Serving {
        address,
        stop,
        ended,
    })
}

impl Serving {
    /// Returns the address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the listener and waits for its thread, which takes at most [`FAREWELL`].
    pub async fn join(mut self) {
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

async fn accept(listener: TcpListener, router: Router, stop: CancellationToken) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let mut connections = JoinSet::new();
    loop {
        // One connection too many waits in the kernel's queue, which is bounded too.
        let may_accept = connections.len() < CONNECTIONS_MAX;
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if may_accept => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, router.clone(), stop.clone()));
                }
                // Out of descriptors: those who hold them need a moment.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    let all = async { while connections.join_next().await.is_some() {} };
    // Who is not done by then is cut off with the runtime.
    tokio::time::timeout(FAREWELL, all).await.ok();
}

async fn converse(stream: tokio::net::TcpStream, router: Router, stop: CancellationToken) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    tokio::select! {
        _ = &mut connection => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    // A client that leaves early is no news to anyone.
    connection.await.ok();
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(show_status))
        .route("/streams", get(show_streams))
        .fallback(not_found)
        .with_state(shown)
}

/// Alive: this thread answers.
async fn healthz() -> impl IntoResponse {
    (NO_STORE, "ok\n")
}

/// Ready: requests may be sent here.
async fn readyz(State(shown): State<Shown>) -> impl IntoResponse {
    let reasons = (shown.status)().not_ready;
    if reasons.is_empty() {
        return (StatusCode::OK, NO_STORE, "ready\n".to_owned());
    }
    let text: Vec<&str> = reasons.into_iter().map(NotReady::text).collect();
    (
        StatusCode::SERVICE_UNAVAILABLE,
        NO_STORE,
        format!("not ready: {}\n", text.join(", ")),
    )
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    let prometheus = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    // Counts the viewers of each presentation, which nothing else keeps up to date.
    (shown.streams)();
    (NO_STORE, prometheus, shown.telemetry.render())
}

async fn show_status(State(shown): State<Shown>) -> impl IntoResponse {
    (NO_STORE, Json((shown.status)()))
}

async fn show_streams(State(shown): State<Shown>) -> impl IntoResponse {
    (NO_STORE, Json((shown.streams)()))
}

async fn not_found() -> impl IntoResponse {
    (
        StatusCode::NOT_FOUND,
        NO_STORE,
        "here are /healthz, /readyz, /metrics, /status and /streams\n",
    )
}

const NO_STORE: [(header::HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

/// Connections at once; a scraper or two, and somebody who looks.
const CONNECTIONS_MAX: usize = 64;

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Time for a request's head, the first and any later.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Time that running answers get at the end.
pub const FAREWELL: Duration = Duration::from_secs(1);

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
