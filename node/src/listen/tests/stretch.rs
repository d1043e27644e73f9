//! A stretch of network between QUIC clients and the server, with which a test can do what networks do.

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::*;

/// A relay of packets. What the server says passes only while the stretch is open.
pub(super) struct Stretch {
    pub(super) address: SocketAddr,
    pub(super) is_open: watch::Sender<bool>,
    state: Arc<Mutex<State>>,
    server: SocketAddr,
    front: Arc<UdpSocket>,
    client: watch::Sender<Option<SocketAddr>>,
    to_server: JoinSet<()>,
    to_client: JoinSet<()>,
}

struct State {
    /// What the server sees as the client.
    back: Arc<UdpSocket>,
    /// What clients have sent.
    sent: Vec<Bytes>,
}

impl Stretch {
    pub(super) async fn before(server: &Server) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let state = State {
            back: Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap()),
            sent: Vec::new(),
        };
        let mut stretch = Self {
            address: front.local_addr().unwrap(),
            is_open: watch::Sender::new(true),
            state: Arc::new(Mutex::new(state)),
            server: server.https(),
            front: Arc::new(front),
            client: watch::Sender::new(None),
            to_server: JoinSet::new(),
            to_client: JoinSet::new(),
        };
        stretch.carry_to_server();
        stretch.carry_to_client();
        stretch
    }

    /// Forgets and returns what clients have sent.
    pub(super) fn take_sent(&self) -> Vec<Bytes> {
        std::mem::take(&mut self.state.lock().sent)
    }

    /// Gives clients another address, as a NAT does that has forgotten them; what goes to the old one is lost.
    pub(super) async fn forget(&mut self) {
        let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        self.state.lock().back = Arc::new(back);
        self.to_client.shutdown().await;
        self.carry_to_client();
    }

    fn carry_to_server(&mut self) {
        let (front, state) = (Arc::clone(&self.front), Arc::clone(&self.state));
        let (client, server) = (self.client.clone(), self.server);
        self.to_server.spawn(async move {
            let mut packet = [0; 2048];
            loop {
                let (length, from) = front.recv_from(&mut packet).await.unwrap();
                client.send_replace(Some(from));
                let packet = &packet[..length];
                let back = {
                    let mut state = state.lock();
                    state.sent.push(Bytes::copy_from_slice(packet));
                    Arc::clone(&state.back)
                };
                back.send_to(packet, server).await.unwrap();
            }
        });
    }

    fn carry_to_client(&mut self) {
        let (front, back) = (Arc::clone(&self.front), Arc::clone(&self.state.lock().back));
        let (mut is_open, mut client) = (self.is_open.subscribe(), self.client.subscribe());
        self.to_client.spawn(async move {
            let mut packet = [0; 2048];
            loop {
                let length = back.recv(&mut packet).await.unwrap();
                is_open.wait_for(|is_open| *is_open).await.unwrap();
                let client = *client.wait_for(Option::is_some).await.unwrap();
                let packet = &packet[..length];
                front.send_to(packet, client.unwrap()).await.unwrap();
            }
        });
    }
}
