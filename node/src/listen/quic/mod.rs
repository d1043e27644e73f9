//! HTTP/3 over QUIC.
//!
//! What is here: the endpoint of each worker, its settings, and which connections it takes. Who
//! calls it: `serving`. Below it: `connection` drives one connection, `adapter` is what h3 sees of
//! quinn, `response` writes one response, `incoming` reads the content of a request, `steering` and `filter` bring packets to their worker,
//! `transport` and `steady` say how much is under way, `socket` and `batch` hand it to the kernel. Deliberately not here: what an early request may be answered with, see `early`.

mod adapter;
mod batch;
mod connection;
pub(super) mod filter;
mod frames;
mod head;
mod huffman;
mod incoming;
mod plain;
mod response;
mod socket;
mod steady;
mod steering;
mod transport;
mod words;

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::socket::BatchSocket;
use self::transport::Origin;
use super::answer::Answerer;
use super::bind::Secure;
use super::serving::Worker;
use super::{ListenLimits, limits};
use crate::exchange::Exchange;

pub(crate) use incoming::IncomingBody;
pub(super) use steering::{WORKERS_MAX, WorkerIndex};
pub use transport::{Congestion, QuicConfig};

/// Secrets that all workers share, so that any of them can answer for any other.
pub(super) struct QuicKeys {
    /// Proves to a client that its connection is gone (RFC 9000 10.3).
    reset: Arc<hmac::Key>,
    /// Seals the tokens that prove a client's address (RFC 9000 8.1).
    token: Arc<hkdf::Prk>,
}

impl std::fmt::Debug for QuicKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("QuicKeys(..)")
    }
}

impl QuicKeys {
    /// Makes keys for the life of this process.
    pub(super) fn random() -> Self {
        let random = || {
            let mut bytes = [0; 64];
            aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes");
            bytes
        };
        Self {
            reset: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &random())),
            token: Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&random())),
        }
    }
}

/// One UDP socket of one worker, with all connections over it.
#[derive(Clone, Debug)]
pub(super) struct Listening {
    endpoint: Endpoint,
    /// For clients that larger packets may reach.
    near: Arc<ServerConfig>,
}

/// Opens the endpoint of one worker on its socket; runs inside the worker's runtime.
pub(super) fn listen(
    socket: UdpSocket,
    secure: &Secure,
    worker: WorkerIndex,
    limits: &ListenLimits,
) -> std::io::Result<Listening> {
    let mut config = EndpointConfig::new(Arc::clone(&secure.quic.reset) as _);
    config.cid_generator(move || Box::new(steering::WorkerConnectionIds { worker }));
    let crypto = QuicServerConfig::try_from(Arc::clone(&secure.tls.quic))
        .expect("the QUIC settings offer TLS 1.3 and its mandatory cipher suite");
    let mut server = ServerConfig::new(Arc::new(crypto), Arc::clone(&secure.quic.token) as _);
    let transport = |origin| Arc::new(transport::transport(&secure.quic_config, limits, origin));
    server
        .transport_config(transport(Origin::Far))
        .max_incoming(limits::QUIC_HANDSHAKES_WAITING_MAX)
        .incoming_buffer_size(limits::QUIC_HANDSHAKE_BYTES_MAX)
        .incoming_buffer_size_total(limits::QUIC_HANDSHAKES_BYTES_MAX);
    let mut near = server.clone();
    near.transport_config(transport(Origin::Near));
    let socket = BatchSocket::new(socket, config.get_max_udp_payload_size())?;
    let runtime = Arc::new(TokioRuntime);
    let endpoint =
        Endpoint::new_with_abstract_socket(config, Some(server), Arc::new(socket), runtime)?;
    Ok(Listening {
        endpoint,
        near: Arc::new(near),
    })
}

/// Takes the connections of one endpoint until it is closed.
///
/// While the node drains, and beyond the connection limit, new ones are refused; under load a client
/// first has to prove its address.
pub(super) async fn accept<S: Exchange>(
    worker: Arc<Worker<S>>,
    listening: Listening,
    answerer: Answerer<S>,
    drain: CancellationToken,
) {
    let Listening { endpoint, near } = listening;
    let ending = worker.tasks.signal();
    while let Some(incoming) = endpoint.accept().await {
        if drain.is_cancelled() {
            incoming.refuse();
            continue;
        }
        if is_under_load(&worker) && incoming.may_retry() && !incoming.remote_address_validated() {
            // Only a client that receives at its address can come back with the token.
            incoming.retry().ok();
            continue;
        }
        let Ok(permit) = Arc::clone(&worker.connections).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let accepted = match Origin::of(incoming.remote_address().ip()) {
            Origin::Near => incoming.accept_with(Arc::clone(&near)),
            Origin::Far => incoming.accept(),
        };
        let Ok(connecting) = accepted else {
            continue;
        };
        let answerer = answerer.clone();
        let limits = Arc::clone(&worker.limits);
        let ending = ending.clone();
        worker.tasks.spawn(async move {
            connection::serve(connecting, answerer, &limits, ending).await;
            drop(permit);
        });
    }
}

/// Whether connections are scarce: more than half of a worker's are open.
fn is_under_load<S>(worker: &Worker<S>) -> bool {
    worker.connections.available_permits() < worker.limits.connections_per_worker_max / 2
}

/// Closes what is left on an endpoint and gives the packets that say so a moment to leave.
pub(super) async fn close(listening: &Listening) {
    let endpoint = &listening.endpoint;
    endpoint.close(adapter::code(h3::error::Code::H3_NO_ERROR), b"");
    timeout(FAREWELL_TIME, endpoint.wait_idle()).await.ok();
}

/// Time for closing packets; a client that misses them learns it by a stateless reset or a timeout.
const FAREWELL_TIME: Duration = Duration::from_millis(500);
