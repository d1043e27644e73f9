//! What leaves for a client, seen where it arrives: segments that the kernel cuts (GSO), and marks (ECN).

use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime as _, UdpPoller};

use super::*;

/// A socket that notes what it receives.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn AsyncUdpSocket>,
    seen: Arc<Mutex<Vec<RecvMeta>>>,
    receive_segments: usize,
}

impl AsyncUdpSocket for Watched {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.inner.poll_recv(cx, bufs, meta))?;
        self.seen.lock().extend_from_slice(&meta[..count]);
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        // quinn makes room for so many of the largest packets, and the kernel hands up 64 KB at once.
        self.receive_segments
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// Fetches large bodies, as a client that takes packets of so many bytes, until one of `enough` has come, and returns what the
/// socket saw.
async fn received(packet_bytes_max: u16, quic: QuicConfig, enough: usize) -> Vec<RecvMeta> {
    let server = Server::speaking(Scripted::sized(), quic);
    let seen = Arc::<Mutex<Vec<RecvMeta>>>::default();
    let runtime = Arc::new(quinn::TokioRuntime);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = Watched {
        inner: runtime.wrap_udp_socket(socket).unwrap(),
        seen: Arc::clone(&seen),
        receive_segments: 65_536_usize.div_ceil(packet_bytes_max.into()),
    };
    let mut config = quinn::EndpointConfig::default();
    config.max_udp_payload_size(packet_bytes_max).unwrap();
    let endpoint =
        quinn::Endpoint::new_with_abstract_socket(config, None, Arc::new(socket), runtime).unwrap();
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(server.client_tls(b"h3"));
    let config = quinn::ClientConfig::new(Arc::new(crypto.unwrap()));
    let connecting = endpoint.connect_with(config, server.https(), "localhost");
    let connection = connecting.unwrap().await.unwrap();
    let mut client = Client::over(endpoint, connection).await;
    for _ in 0..BODIES_MAX {
        let body = client.get("/2000000").await.collect().await.unwrap();
        assert_eq!(body, sample(2_000_000));
        if seen.lock().iter().any(|meta| meta.stride >= enough) {
            break;
        }
    }
    client.leave().await;
    seen.lock().clone()
}

#[tokio::test]
async fn a_body_leaves_many_packets_at_a_time_and_each_can_be_marked() {
    let seen = received(1_472, QuicConfig::default(), 1_400).await;
    // The kernel cuts what the server hands it at once, and this client takes it before it is cut. quinn alone hands it ten.
    let most = seen.iter().map(|meta| meta.len.div_ceil(meta.stride));
    assert!(most.max() > Some(20), "{seen:?}");
    // RFC 9000 13.4.1: ECT(0) on all of them, as long as the path lets it through.
    let is_marked = |meta: &&RecvMeta| meta.ecn == Some(EcnCodepoint::Ect0);
    let unmarked = seen.len() - seen.iter().filter(is_marked).count();
    assert_eq!(unmarked, 0, "of {}", seen.len());
    // RFC 9000 14.3: the path takes larger packets than the smallest, and that was found out.
    let largest = seen.iter().map(|meta| meta.stride).max();
    assert!(largest > Some(1400), "{largest:?}");
}

#[tokio::test]
async fn packets_are_as_large_as_path_client_and_configuration_allow() {
    let of_at_most = |packet_bytes_max| QuicConfig {
        packet_bytes_max,
        ..QuicConfig::default()
    };
    let default = QuicConfig::default();
    for (client, quic, expected) in [
        // RFC 9000 18.2: a client that names no limit takes all that UDP can say; the loopback carries it. How far the search
        // gets depends on how many probes a busy machine loses; beyond the default is what the configuration allowed.
        (65_527, of_at_most(65_000), 10_000..=65_000),
        (65_527, default.clone(), 8_800..=8_952),
        (4_000, default, 3_900..=4_000),
        (65_527, of_at_most(1_300), 1_250..=1_300),
    ] {
        let seen = received(client, quic, *expected.start()).await;
        let largest = seen.iter().map(|meta| meta.stride).max().unwrap();
        assert!(expected.contains(&largest), "{largest}, not {expected:?}");
    }
}

/// Bodies until the largest packets are found: each takes the search a step further, or several.
const BODIES_MAX: usize = 100;
