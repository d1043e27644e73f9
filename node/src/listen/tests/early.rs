//! Requests in TLS early data (RFC 8446 2.3, RFC 8470), across a stretch of network that a test can stop.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::stretch::Stretch;
use super::*;

/// A client that comes back.
struct Returning {
    config: quinn::ClientConfig,
    address: SocketAddr,
}

impl Returning {
    /// Returns a client that has been at `server` before.
    async fn to(server: &Server, stretch: &Stretch) -> Self {
        let mut tls = server.client_tls(b"h3");
        tls.enable_early_data = true;
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let client = Self {
            config: quinn::ClientConfig::new(Arc::new(crypto)),
            address: stretch.address,
        };
        let (endpoint, connecting) = client.connecting();
        let connection = connecting.await.unwrap();
        let mut first = Client::over(endpoint, connection).await;
        first.get("/first").await.collect().await.unwrap();
        first.leave().await;
        client
    }

    fn connecting(&self) -> (quinn::Endpoint, quinn::Connecting) {
        let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let config = self.config.clone();
        let connecting = endpoint.connect_with(config, self.address, "localhost");
        (endpoint, connecting.unwrap())
    }

    /// Returns a connection whose requests leave at once, and whether the server took them so.
    async fn early(&self) -> (Client, quinn::ZeroRttAccepted) {
        let (endpoint, connecting) = self.connecting();
        let (connection, accepted) = connecting.into_0rtt().ok().unwrap();
        (Client::over(endpoint, connection).await, accepted)
    }
}

/// What a request came to, as the service saw it.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Came { path: String, is_early: bool },
    Waited,
    Dropped,
}

/// Answers anything at once but `/wait`, which waits for the end of the handshake.
fn service(events: mpsc::Sender<Event>) -> Scripted {
    Scripted::new(move |peer: Peer, request| {
        let events = events.clone();
        async move {
            let path = request.uri().path().to_owned();
            let is_early = peer.handshake.is_some();
            let came = Event::Came {
                path: path.clone(),
                is_early,
            };
            events.try_send(came).unwrap();
            if path == "/wait"
                && let Some(handshake) = &peer.handshake
            {
                let mut noted = Noted {
                    events,
                    event: Some(Event::Dropped),
                };
                handshake.completed().await;
                noted.event = Some(Event::Waited);
            }
            Response::new(Body::full(sample(200_000)))
        }
    })
}

/// Tells what had become of a request when its future was gone.
struct Noted {
    events: mpsc::Sender<Event>,
    event: Option<Event>,
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.events.try_send(self.event.take().unwrap()).unwrap();
    }
}

fn came(path: &str, is_early: bool) -> Event {
    Event::Came {
        path: path.to_owned(),
        is_early,
    }
}

#[tokio::test]
async fn hx_20_an_early_request_is_seen_as_such_and_may_be_answered_before_the_handshake_is_done() {
    let (events, mut seen) = mpsc::channel(16);
    let server = Server::start(service(events));
    let stretch = Stretch::before(&server).await;
    let client = Returning::to(&server, &stretch).await;
    assert_eq!(seen.recv().await, Some(came("/first", false)));

    // Without a word of the server the client cannot finish the handshake.
    stretch.is_open.send_replace(false);
    let (mut early, accepted) = client.early().await;
    let answer = early.get("/hit");
    let open = async {
        assert_eq!(seen.recv().await, Some(came("/hit", true)));
        stretch.is_open.send_replace(true);
    };
    let (mut answer, ()) = tokio::join!(answer, open);
    assert_eq!(answer.collect().await.unwrap(), sample(200_000));
    assert!(accepted.await);

    // The handshake is done: what comes now is not early.
    early.get("/later").await.collect().await.unwrap();
    assert_eq!(seen.recv().await, Some(came("/later", false)));
    early.leave().await;
}

#[tokio::test]
async fn hx_20_an_early_request_that_waits_goes_on_with_the_end_of_the_handshake() {
    let (events, mut seen) = mpsc::channel(16);
    let server = Server::start(service(events));
    let stretch = Stretch::before(&server).await;
    let client = Returning::to(&server, &stretch).await;
    assert_eq!(seen.recv().await, Some(came("/first", false)));

    stretch.is_open.send_replace(false);
    let (mut early, _) = client.early().await;
    let answer = early.get("/wait");
    let open = async {
        assert_eq!(seen.recv().await, Some(came("/wait", true)));
        assert!(seen.try_recv().is_err());
        stretch.is_open.send_replace(true);
        assert_eq!(seen.recv().await, Some(Event::Waited));
    };
    let (mut answer, ()) = tokio::join!(answer, open);
    assert_eq!(answer.collect().await.unwrap(), sample(200_000));
    early.leave().await;
}

#[tokio::test]
async fn hx_20_what_waits_for_a_handshake_that_never_ends_is_dropped() {
    let (events, mut seen) = mpsc::channel(16);
    let limits = ListenLimits {
        head_timeout: Duration::from_secs(2),
        ..ListenLimits::default()
    };
    let server = Server::with(service(events), 2, limits);
    let stretch = Stretch::before(&server).await;
    let client = Returning::to(&server, &stretch).await;
    assert_eq!(seen.recv().await, Some(came("/first", false)));

    stretch.is_open.send_replace(false);
    let (mut early, _) = client.early().await;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { early.send(request(Method::GET, "/wait")).await.is_err() });
    assert_eq!(seen.recv().await, Some(came("/wait", true)));
    assert_eq!(seen.recv().await, Some(Event::Dropped));
}

#[tokio::test]
async fn b_98_an_early_request_that_is_sent_once_more_is_not_read() {
    let count = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&count);
    let service = Scripted::new(move |_, request| {
        let is_counted = request.uri().path() == "/hit";
        counting.fetch_add(usize::from(is_counted), Ordering::SeqCst);
        async { Response::new(Body::full(sample(1000))) }
    });
    // At the second address nobody remembers the packets of a connection at the first.
    let server = Server::at(
        2,
        service,
        1,
        ListenLimits::default(),
        QuicConfig::default(),
    );
    let stretch = Stretch::before(&server).await;
    let client = Returning::to(&server, &stretch).await;
    stretch.take_sent();
    let (mut early, accepted) = client.early().await;
    early.get("/hit").await.collect().await.unwrap();
    assert!(accepted.await);
    assert_eq!(count.load(Ordering::SeqCst), 1);

    // Somebody who saw all of that sends it again.
    let second = server.serving.addresses().https[1];
    let attacker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    attacker.connect(second).await.unwrap();
    for packet in stretch.take_sent() {
        attacker.send(&packet).await.unwrap();
    }
    // The node answers, because it cannot know; and what is early it does not read.
    let mut answer = [0; 2048];
    assert!(attacker.recv(&mut answer).await.unwrap() > 0);
    // The one worker has read all of that before it reads this.
    let mut client = server.h3_at(second).await;
    client.get("/barrier").await.collect().await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 1);
    client.leave().await;
    early.leave().await;
}

#[tokio::test]
async fn early_data_that_is_turned_off_is_never_offered() {
    let quic = QuicConfig {
        early_data: false,
        ..QuicConfig::default()
    };
    let server = Server::speaking(Scripted::sized(), quic);
    let stretch = Stretch::before(&server).await;
    let mut tls = server.client_tls(b"h3");
    tls.enable_early_data = true;
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let client = Returning {
        config: quinn::ClientConfig::new(Arc::new(crypto)),
        address: stretch.address,
    };
    let (endpoint, connecting) = client.connecting();
    let connection = connecting.await.unwrap();
    let mut first = Client::over(endpoint, connection).await;
    first.get("/1000").await.collect().await.unwrap();
    first.leave().await;
    assert!(client.connecting().1.into_0rtt().is_err());
}
