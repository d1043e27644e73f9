//! What the viewers of one thread share below HTTP: names, TLS, sockets and connection tasks.
//!
//! Multiplexed connections need a task that drives them; all are owned by the tracker here and end
//! with the thread's run. HTTP/1.1 connections are driven by the request that uses them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::config::Trust;
use super::super::location::Location;
use super::{Protocol, tls};

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The name has no address.
    #[error("the host name has no address")]
    Name(#[source] Option<std::io::Error>),
    /// TCP or the socket itself.
    #[error("the transport refused")]
    Transport(#[source] std::io::Error),
    /// The TLS handshake.
    #[error("the TLS handshake was refused")]
    Tls(#[source] std::io::Error),
    /// The QUIC handshake.
    #[error("the QUIC handshake was refused: {0}")]
    Quic(String),
    /// The first frames of HTTP.
    #[error("the HTTP handshake was refused: {0}")]
    Http(String),
    /// No answer within [`Network::DIAL_TIMEOUT`].
    #[error("no connection in time")]
    Timeout,
    /// A presentation spread over more hosts than a viewer connects to.
    #[error("more hosts than a viewer connects to")]
    TooManyHosts,
    /// HTTP/3 was asked for over a clear-text URL.
    #[error("http/3 needs an https url")]
    ClearQuic,
}

/// A byte stream to a server, clear or encrypted.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The shared network of one thread.
pub(crate) struct Network {
    connect_to: Option<SocketAddr>,
    tls: Arc<rustls::ClientConfig>,
    quic: Option<quinn::ClientConfig>,
    tasks: TaskTracker,
    stop: CancellationToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    names: Vec<(String, SocketAddr)>,
    endpoints: Vec<quinn::Endpoint>,
    quic_connections: usize,
}

impl Network {
    /// How long a connection may take to open, handshakes included.
    pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
    /// QUIC connections per UDP socket: enough sockets that a server which shares its load by
    /// address sees many, few enough that a large swarm does not run out of descriptors.
    const CONNECTIONS_PER_ENDPOINT: usize = 32;
    /// Names remembered; a longer list of hosts is resolved anew each time.
    const NAMES_MAX: usize = 64;

    /// Makes the network of one thread.
    ///
    /// # Errors
    /// When `trust` yields no certificates.
    pub(crate) fn new(
        protocol: Protocol,
        trust: &Trust,
        connect_to: Option<SocketAddr>,
    ) -> Result<Arc<Self>, tls::TrustError> {
        let tls = tls::client_config(trust, protocol)?;
        let quic = match protocol {
            Protocol::Http1 | Protocol::Http2 => None,
            Protocol::Http3 => Some(quic_config(&tls)),
        };
        Ok(Arc::new(Self {
            connect_to,
            tls,
            quic,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            state: Mutex::new(State::default()),
        }))
    }

    /// Runs `driver` until it ends or the network closes.
    pub(super) fn drive(&self, driver: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = driver => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Ends every connection and joins their tasks.
    pub(crate) async fn close(&self) {
        self.tasks.close();
        self.stop.cancel();
        self.tasks.wait().await;
        let endpoints = std::mem::take(&mut self.state.lock().endpoints);
        for endpoint in &endpoints {
            endpoint.close(quinn::VarInt::from_u32(H3_NO_ERROR), b"");
        }
        for endpoint in endpoints {
            // Peers that vanished would hold this for several timeouts; the sockets close anyway.
            let idle = tokio::time::timeout(Duration::from_millis(500), endpoint.wait_idle());
            drop(idle.await);
        }
    }

    /// Opens a TCP connection, with TLS where the location asks for it.
    pub(super) async fn dial(&self, location: &Location) -> Result<Box<dyn Stream>, DialError> {
        let dialing = async {
            let address = self.address(location).await?;
            let tcp = TcpStream::connect(address)
                .await
                .map_err(DialError::Transport)?;
            tcp.set_nodelay(true).map_err(DialError::Transport)?;
            if !location.is_secure() {
                return Ok(Box::new(tcp) as Box<dyn Stream>);
            }
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
            let stream = connector
                .connect(server_name(location)?, tcp)
                .await
                .map_err(DialError::Tls)?;
            let agreed = stream.get_ref().1.alpn_protocol();
            let offered = self.tls.alpn_protocols.first().map(Vec::as_slice);
            // A server that ignores ALPN speaks HTTP/1.1; anything else must be agreed on.
            let is_agreed = agreed == offered || (agreed.is_none() && offered == Some(b"http/1.1"));
            if !is_agreed {
                return Err(DialError::Http("the server does not offer it".to_owned()));
            }
            Ok(Box::new(stream) as Box<dyn Stream>)
        };
        tokio::time::timeout(Self::DIAL_TIMEOUT, dialing)
            .await
            .unwrap_or(Err(DialError::Timeout))
    }

    /// Opens a QUIC connection.
    pub(super) async fn dial_quic(
        &self,
        location: &Location,
    ) -> Result<quinn::Connection, DialError> {
        let config = self.quic.clone().ok_or(DialError::ClearQuic)?;
        if !location.is_secure() {
            return Err(DialError::ClearQuic);
        }
        let dialing = async {
            let address = self.address(location).await?;
            let endpoint = self.endpoint(address)?;
            endpoint
                .connect_with(config, address, location.host())
                .map_err(|e| DialError::Quic(e.to_string()))?
                .await
                .map_err(|e| DialError::Quic(e.to_string()))
        };
        tokio::time::timeout(Self::DIAL_TIMEOUT, dialing)
            .await
            .unwrap_or(Err(DialError::Timeout))
    }

    async fn address(&self, location: &Location) -> Result<SocketAddr, DialError> {
        if let Some(address) = self.connect_to {
            return Ok(address);
        }
        if let Ok(ip) = location.host().parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, location.port()));
        }
        let known = self
            .state
            .lock()
            .names
            .iter()
            .find_map(|(name, address)| (name == location.authority()).then_some(*address));
        if let Some(address) = known {
            return Ok(address);
        }
        let mut found = tokio::net::lookup_host((location.host(), location.port()))
            .await
            .map_err(|e| DialError::Name(Some(e)))?;
        let address = found.next().ok_or(DialError::Name(None))?;
        let mut state = self.state.lock();
        if state.names.len() < Self::NAMES_MAX {
            state.names.push((location.authority().to_owned(), address));
        }
        Ok(address)
    }

    fn endpoint(&self, to: SocketAddr) -> Result<quinn::Endpoint, DialError> {
        let mut state = self.state.lock();
        let at = state.quic_connections / Self::CONNECTIONS_PER_ENDPOINT;
        state.quic_connections += 1;
        if let Some(endpoint) = state.endpoints.get(at) {
            return Ok(endpoint.clone());
        }
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let endpoint = quinn::Endpoint::client(any).map_err(DialError::Transport)?;
        state.endpoints.push(endpoint.clone());
        Ok(endpoint)
    }
}

/// RFC 9114 8.1: the code of an orderly close.
const H3_NO_ERROR: u32 = 0x100;

fn quic_config(tls: &Arc<rustls::ClientConfig>) -> quinn::ClientConfig {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(Arc::clone(tls))
        .expect("a TLS 1.3 configuration of aws-lc-rs has QUIC's initial cipher suite");
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    // FM-21: held requests are silent; the connection must not idle out under them.
    transport.keep_alive_interval(Some(Duration::from_secs(5)));
    config.transport_config(Arc::new(transport));
    config
}

fn server_name(location: &Location) -> Result<ServerName<'static>, DialError> {
    ServerName::try_from(location.host().to_owned())
        .map_err(|e| DialError::Tls(std::io::Error::new(std::io::ErrorKind::InvalidInput, e)))
}
