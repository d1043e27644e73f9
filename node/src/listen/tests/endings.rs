//! Draining, and what a client sees of it.

use cache::body::{GrowingBody, Writer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::*;
use crate::tasks::Tasks;

/// A service whose bodies begin with a byte and go on by the test's hand.
fn begun() -> (Scripted, mpsc::Receiver<Writer>) {
    let (writers, receiver) = mpsc::channel(8);
    let service = Scripted::new(move |_, _| {
        let writers = writers.clone();
        async move {
            let (mut writer, body) = GrowingBody::new();
            let body = Body::growing(body.reader(0..u64::MAX));
            writer.push(Bytes::from_static(b"1"));
            writers.send(writer).await.unwrap();
            Response::new(body)
        }
    });
    (service, receiver)
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way_and_takes_nothing_new() {
    let (service, mut writers) = begun();
    let server = Server::start(service);
    let (mut clients, mut answers, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for way in Way::ALL {
        let mut client = server.connect(way).await;
        let mut answer = client.get("/").await;
        assert_eq!(answer.next().await.unwrap().unwrap(), "1");
        clients.push(client);
        answers.push(answer);
        ends.push(writers.recv().await.unwrap());
    }
    let (http, https) = (server.http(), server.https());
    let (endpoint, _idle) = server.quic().await;
    let config = server.client_tls(b"h3");
    server.drain.cancel();
    refused(http).await;
    refused(https).await;
    quic_refused(&endpoint, https, config).await;

    for mut writer in ends {
        writer.push(Bytes::from_static(b"2"));
        writer.complete();
    }
    for (answer, way) in answers.iter_mut().zip(Way::ALL) {
        assert_eq!(answer.collect().await.unwrap(), "2", "{way:?}");
    }
    assert_eq!(server.stop().await, Drained::Whole);
}

/// Resolves when connections to `address` are refused.
async fn refused(address: SocketAddr) {
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

async fn quic_refused(endpoint: &quinn::Endpoint, to: SocketAddr, tls: rustls::ClientConfig) {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint.connect_with(config, to, "localhost").unwrap();
    let error = connecting.await.unwrap_err();
    let quinn::ConnectionError::ConnectionClosed(close) = error else {
        panic!("{error}");
    };
    assert_eq!(
        close.error_code,
        quinn::TransportErrorCode::CONNECTION_REFUSED
    );
}

#[tokio::test]
async fn a_drain_that_runs_out_of_time_cuts_and_says_so() {
    let limits = ListenLimits {
        drain_timeout: Duration::from_millis(50),
        ..ListenLimits::default()
    };
    let (service, mut writers) = begun();
    let server = Server::with(service, 1, limits);
    let (mut clients, mut answers, mut unended) = (Vec::new(), Vec::new(), Vec::new());
    for way in Way::ALL {
        let mut client = server.connect(way).await;
        answers.push(client.get("/").await);
        clients.push(client);
        unended.push(writers.recv().await.unwrap());
    }
    assert!(matches!(server.stop().await, Drained::Cut(n) if n >= Way::ALL.len()));
    for (answer, way) in answers.iter_mut().zip(Way::ALL) {
        assert!(answer.collect().await.is_err(), "{way:?} looks whole");
    }
}

#[tokio::test]
async fn http1_says_that_the_connection_closes_when_it_drains() {
    let (asked, mut asks) = mpsc::channel(1);
    let draining = CancellationToken::new();
    let held = draining.clone();
    let service = Scripted::new(move |_, _| {
        let (asked, held) = (asked.clone(), held.clone());
        async move {
            asked.send(()).await.unwrap();
            held.cancelled().await;
            Response::new(Body::full(Bytes::from_static(b"last")))
        }
    });
    let tasks = Tasks::new();
    let (mut near, far) = tokio::io::duplex(4096);
    let limits = ListenLimits::default();
    let client = SocketAddr::from(([192, 0, 2, 1], 1));
    let serving = serve_stream(far, client, service, &limits, &tasks);
    let talking = async {
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        near.write_all(request).await.unwrap();
        asks.recv().await.unwrap();
        assert_eq!(tasks.end(Duration::from_secs(5)).await, 0);
        draining.cancel();
        let mut all = String::new();
        near.read_to_string(&mut all).await.unwrap();
        all
    };
    let ((), all) = tokio::join!(serving, talking);
    assert!(all.contains("\r\nconnection: close\r\n"), "{all}");
    assert!(all.ends_with("\r\n\r\nlast"), "{all}");
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_a_drain() {
    let server = Server::start(Scripted::sized());
    let mut clients = Vec::new();
    for way in Way::ALL {
        let mut client = server.connect(way).await;
        client.get("/1").await.collect().await.unwrap();
        clients.push(client);
    }
    // Said nothing yet.
    let _silent = TcpStream::connect(server.http()).await.unwrap();
    let _silent_tls = TcpStream::connect(server.https()).await.unwrap();
    assert_eq!(server.stop().await, Drained::Whole);
}

#[tokio::test]
async fn a_reloaded_certificate_is_shown_by_the_next_handshake() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(path("crt"), made.cert.pem()).unwrap();
        std::fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
    };
    write();
    let config = ListenConfig {
        https: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        http: Vec::new(),
        http3: true,
        quic: QuicConfig::default(),
        certificate: Some(CertificateSource::Files {
            certificate: path("crt"),
            key: path("key"),
        }),
        workers: 1,
        limits: ListenLimits::default(),
    };
    let bound = Bound::bind(&config).unwrap();
    let certificates = Arc::clone(bound.certificates().unwrap());
    let drain = CancellationToken::new();
    let server = Server {
        serving: bound.serve(Scripted::sized(), drain.clone()).unwrap(),
        drain,
        certificates,
    };
    for _ in 0..2 {
        // Each client trusts the present certificate only.
        for way in [Way::H2Tls, Way::H3] {
            let mut client = server.connect(way).await;
            assert_eq!(client.get("/3").await.collect().await.unwrap().len(), 3);
        }
        write();
        server.certificates.reload().unwrap();
    }
}
