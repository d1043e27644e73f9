//! Sockets: every port is taken here, before any worker runs.
//!
//! What is here: binding of all TCP and UDP sockets of all workers, and errors an operator can act on.
//! Who calls it: `Node::start`, through [`Bound::bind`] and then [`Bound::serve`].
//! Deliberately not here: anything that happens on a socket.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use tokio_util::sync::CancellationToken;

use super::quic::filter;
use super::quic::{QuicConfig, QuicKeys, WORKERS_MAX};
use super::serving::{Serving, start};
use super::tls::{CertificateError, Certificates, TlsConfigs};
use super::{ListenConfig, ListenLimits};
use crate::exchange::Exchange;

/// The sockets of a node, taken but not yet served.
#[derive(Debug)]
pub struct Bound {
    pub(super) addresses: Addresses,
    pub(super) workers: Vec<WorkerSockets>,
    pub(super) secure: Option<Secure>,
    pub(super) limits: ListenLimits,
}

/// Where a node can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// TLS over TCP and, where configured, QUIC over UDP, in the order of the configuration.
    pub https: Vec<SocketAddr>,
    /// Clear text, in the order of the configuration.
    pub http: Vec<SocketAddr>,
}

/// What encrypted listeners share.
#[derive(Clone, Debug)]
pub(super) struct Secure {
    pub(super) certificates: Arc<Certificates>,
    pub(super) tls: TlsConfigs,
    pub(super) quic: Arc<QuicKeys>,
    pub(super) quic_config: QuicConfig,
}

/// The sockets of one worker.
#[derive(Debug, Default)]
pub(super) struct WorkerSockets {
    pub(super) https: Vec<TcpListener>,
    pub(super) http: Vec<TcpListener>,
    pub(super) quic: Vec<UdpSocket>,
}

/// A transport, as errors name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP/1.1 and HTTP/2.
    Tcp,
    /// HTTP/3.
    Udp,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// Why a node cannot listen as configured.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process holds the port.
    #[error("{transport} port {} of {} is in use: stop the other process (`ss -lnp 'sport = :{}'` names it) or choose another port", address.port(), address.ip(), address.port())]
    InUse {
        /// What was asked for.
        address: SocketAddr,
        /// The transport whose port is taken.
        transport: Transport,
    },
    /// The system forbids the port.
    #[error("{transport} port {} of {} may not be opened by this user: grant CAP_NET_BIND_SERVICE or choose a port above 1023", address.port(), address.ip())]
    Forbidden {
        /// What was asked for.
        address: SocketAddr,
        /// The transport whose port was refused.
        transport: Transport,
    },
    /// No interface of this machine has the address.
    #[error("no interface of this machine has the address {}: use one of `ip address` or 0.0.0.0 or [::]", .0.ip())]
    NoSuchAddress(SocketAddr),
    /// Anything else the system said about a socket.
    #[error("{transport} address {address} cannot be opened ({reason})", reason = source.kind())]
    System {
        /// What was asked for.
        address: SocketAddr,
        /// The transport.
        transport: Transport,
        /// What the system said.
        source: io::Error,
    },
    /// An encrypted listener without a certificate.
    #[error("https listeners need a certificate: give files or ask for a self-signed one")]
    CertificateMissing,
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The TLS library refused its settings.
    #[error("the TLS library cannot be set up")]
    Tls(#[source] rustls::Error),
    /// A number of workers that cannot be.
    #[error("{workers} workers are not possible: use 1 to {WORKERS_MAX}, as a rule one per core")]
    Workers {
        /// What was asked for.
        workers: usize,
    },
    /// No address at all.
    #[error("there is no address to listen on")]
    NoAddress,
    /// A worker cannot be started.
    #[error("worker {index} cannot be started ({reason})", reason = source.kind())]
    Worker {
        /// Which worker.
        index: usize,
        /// What the system said.
        source: io::Error,
    },
}

impl Bound {
    /// Takes every address of `config` for every worker.
    ///
    /// Port 0 is chosen once and is then the same for TCP and UDP and for all workers.
    ///
    /// # Errors
    ///
    /// Names the address or file, what is wrong and what to do.
    pub fn bind(config: &ListenConfig) -> Result<Self, BindError> {
        if config.workers == 0 || config.workers > WORKERS_MAX {
            return Err(BindError::Workers {
                workers: config.workers,
            });
        }
        if config.https.is_empty() && config.http.is_empty() {
            return Err(BindError::NoAddress);
        }
        let secure = secure(config)?;
        let mut addresses = Addresses::default();
        let mut workers: Vec<_> = (0..config.workers)
            .map(|_| WorkerSockets::default())
            .collect();
        for &address in &config.https {
            let taken = take_address(address, config.workers, config.http3, &config.limits)?;
            addresses.https.push(taken.address);
            for (worker, listener) in workers.iter_mut().zip(taken.tcp) {
                worker.https.push(listener);
            }
            for (worker, socket) in workers.iter_mut().zip(taken.udp) {
                worker.quic.push(socket);
            }
        }
        for &address in &config.http {
            let taken = take_address(address, config.workers, false, &config.limits)?;
            addresses.http.push(taken.address);
            for (worker, listener) in workers.iter_mut().zip(taken.tcp) {
                worker.http.push(listener);
            }
        }
        Ok(Self {
            addresses,
            workers,
            secure,
            limits: config.limits.clone(),
        })
    }

    /// Returns the addresses taken, with the ports that were chosen for port 0.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Returns the certificate in use, for reloads and pins; none without an encrypted listener.
    pub fn certificates(&self) -> Option<&Arc<Certificates>> {
        self.secure.as_ref().map(|secure| &secure.certificates)
    }

    /// Starts the workers: every request is answered by `service` until `drain` is cancelled.
    ///
    /// # Errors
    ///
    /// The system refuses a thread or an event queue.
    pub fn serve(
        self,
        service: impl Exchange,
        drain: CancellationToken,
    ) -> Result<Serving, BindError> {
        start(self, service, drain)
    }
}

fn secure(config: &ListenConfig) -> Result<Option<Secure>, BindError> {
    if config.https.is_empty() {
        return Ok(None);
    }
    let Some(source) = &config.certificate else {
        return Err(BindError::CertificateMissing);
    };
    let certificates = Certificates::load(source)?;
    Ok(Some(Secure {
        tls: TlsConfigs::new(Arc::clone(&certificates), &config.quic).map_err(BindError::Tls)?,
        certificates,
        quic: Arc::new(QuicKeys::random()),
        quic_config: config.quic.clone(),
    }))
}

/// One address, taken for all workers.
struct Taken {
    address: SocketAddr,
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

fn take_address(
    wanted: SocketAddr,
    workers: usize,
    with_quic: bool,
    limits: &ListenLimits,
) -> Result<Taken, BindError> {
    let mut attempts_left = PORT_ATTEMPTS_MAX;
    loop {
        attempts_left -= 1;
        match try_address(wanted, workers, with_quic, limits) {
            // The system chose a TCP port whose UDP twin is taken: let it choose again.
            Err(BindError::InUse { .. }) if wanted.port() == 0 && attempts_left > 0 => {}
            result => return result,
        }
    }
}

fn try_address(
    wanted: SocketAddr,
    workers: usize,
    with_quic: bool,
    limits: &ListenLimits,
) -> Result<Taken, BindError> {
    probe(wanted, Transport::Tcp)?;
    let first = tcp_listener(wanted, limits).map_err(|e| classify(wanted, Transport::Tcp, e))?;
    let local = first.local_addr();
    let address = local.map_err(|e| classify(wanted, Transport::Tcp, e))?;
    let mut tcp = vec![first];
    for _ in 1..workers {
        let next = tcp_listener(address, limits);
        tcp.push(next.map_err(|e| classify(address, Transport::Tcp, e))?);
    }
    let mut udp = Vec::new();
    if with_quic {
        probe(address, Transport::Udp)?;
        for _ in 0..workers {
            let next = udp_socket(address);
            udp.push(next.map_err(|e| classify(address, Transport::Udp, e))?);
        }
        let steered = filter::steer_by_connection_id(&udp);
        steered.map_err(|e| classify(address, Transport::Udp, e))?;
    }
    Ok(Taken { address, tcp, udp })
}

/// Fails where another process listens already.
///
/// Ports shared by `SO_REUSEPORT` would let a second node of the same user take half of the first
/// one's connections without a word.
fn probe(address: SocketAddr, transport: Transport) -> Result<(), BindError> {
    if address.port() == 0 {
        return Ok(());
    }
    let bound = match transport {
        Transport::Tcp => socket(address, Type::STREAM, Protocol::TCP).and_then(|socket| {
            // Old connections in TIME_WAIT are no listener.
            socket.set_reuse_address(true)?;
            socket.bind(&SockAddr::from(address))?;
            // With SO_REUSEADDR it is listen that finds the other listener.
            socket.listen(1)
        }),
        Transport::Udp => socket(address, Type::DGRAM, Protocol::UDP)
            .and_then(|socket| socket.bind(&SockAddr::from(address))),
    };
    bound.map_err(|e| classify(address, transport, e))
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // 0.0.0.0 and [::] can then be listed side by side.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn tcp_listener(address: SocketAddr, limits: &ListenLimits) -> io::Result<TcpListener> {
    let socket = socket(address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted connections inherit what follows.
    socket.set_tcp_nodelay(true)?;
    // FM-21: middleboxes forget connections that are silent while a request is held.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME);
    socket.set_tcp_keepalive(&keepalive.with_interval(KEEPALIVE_TIME))?;
    // A reader whose window stays shut that long has left.
    socket.set_tcp_user_timeout(Some(limits.idle_timeout))?;
    socket.set_tcp_notsent_lowat(TCP_UNSENT_BYTES_MAX)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn udp_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_port(true)?;
    // The system may grant less (net.core.rmem_max); that is no reason not to serve.
    socket.set_recv_buffer_size(UDP_BUFFER_BYTES).ok();
    socket.set_send_buffer_size(UDP_BUFFER_BYTES).ok();
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

fn classify(address: SocketAddr, transport: Transport, source: io::Error) -> BindError {
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address, transport },
        io::ErrorKind::PermissionDenied => BindError::Forbidden { address, transport },
        io::ErrorKind::AddrNotAvailable => BindError::NoSuchAddress(address),
        _ => BindError::System {
            address,
            transport,
            source,
        },
    }
}

/// How often the system may choose for port 0.
const PORT_ATTEMPTS_MAX: u32 = 16;
/// Connections that wait in the system for a worker's accept; `net.core.somaxconn` may lower it.
const BACKLOG: i32 = 4096;
/// Bytes in the kernel that a TCP connection has not yet sent. More would not be sent sooner: a
/// playlist would wait behind them, and a slow client would look like one that takes nothing.
const TCP_UNSENT_BYTES_MAX: u32 = 256 * 1024;
/// Silence after which a TCP connection is probed, and the pause between probes.
const KEEPALIVE_TIME: Duration = Duration::from_secs(5);
/// Kernel buffer of a UDP socket, each way: some milliseconds of datagrams for thousands of viewers.
const UDP_BUFFER_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::CertificateSource;

    fn config(https: &[SocketAddr], http: &[SocketAddr]) -> ListenConfig {
        ListenConfig {
            https: https.to_vec(),
            http: http.to_vec(),
            http3: true,
            quic: QuicConfig::default(),
            certificate: Some(CertificateSource::SelfSigned(Vec::new())),
            workers: 2,
            limits: ListenLimits::default(),
        }
    }

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn port_zero_is_one_port_for_all_workers_and_both_transports() {
        let bound = Bound::bind(&config(&[ANY], &[ANY])).unwrap();
        let https = bound.addresses().https[0];
        assert_ne!(https.port(), 0);
        for worker in &bound.workers {
            assert_eq!(worker.https[0].local_addr().unwrap(), https);
            assert_eq!(worker.quic[0].local_addr().unwrap(), https);
            let http = worker.http[0].local_addr().unwrap();
            assert_eq!(http, bound.addresses().http[0]);
        }
    }

    #[test]
    fn a_port_in_use_is_named_with_what_to_do() {
        let tcp = TcpListener::bind(ANY).unwrap();
        let taken = tcp.local_addr().unwrap();
        let message = Bound::bind(&config(&[], &[taken])).unwrap_err().to_string();
        let port = taken.port();
        assert_eq!(
            message,
            format!(
                "TCP port {port} of 127.0.0.1 is in use: stop the other process \
                 (`ss -lnp 'sport = :{port}'` names it) or choose another port"
            )
        );
        drop(tcp);

        let udp = UdpSocket::bind(ANY).unwrap();
        let taken = udp.local_addr().unwrap();
        let message = probe(taken, Transport::Udp).unwrap_err().to_string();
        let expected = format!("UDP port {} of 127.0.0.1 is in use", taken.port());
        assert!(message.starts_with(&expected), "{message}");
    }

    #[test]
    fn a_second_node_cannot_share_the_port_of_the_first() {
        let first = Bound::bind(&config(&[ANY], &[])).unwrap();
        let taken = first.addresses().https[0];
        let second = Bound::bind(&config(&[taken], &[]));
        assert!(matches!(second, Err(BindError::InUse { .. })), "{second:?}");
    }

    #[test]
    fn addresses_and_workers_that_cannot_be_are_named() {
        let elsewhere: SocketAddr = "192.0.2.1:0".parse().unwrap();
        let message = Bound::bind(&config(&[], &[elsewhere]))
            .unwrap_err()
            .to_string();
        assert!(message.contains("192.0.2.1"), "{message}");

        let error = Bound::bind(&config(&[], &[])).unwrap_err();
        assert_eq!(error.to_string(), "there is no address to listen on");

        let mut without_certificate = config(&[ANY], &[]);
        without_certificate.certificate = None;
        let error = Bound::bind(&without_certificate).unwrap_err();
        assert!(matches!(error, BindError::CertificateMissing), "{error}");

        let mut without_workers = config(&[], &[ANY]);
        without_workers.workers = 0;
        let message = Bound::bind(&without_workers).unwrap_err().to_string();
        assert_eq!(
            message,
            "0 workers are not possible: use 1 to 256, as a rule one per core"
        );
    }
}
