//! Clients that take more than they may.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::tasks::Tasks;

/// Serves one end of a simulated connection and returns the other, with what owns the serving.
pub(super) fn simulated(service: Scripted) -> (DuplexStream, JoinSet<()>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let client = SocketAddr::from(([192, 0, 2, 1], 1));
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let (limits, tasks) = (ListenLimits::default(), Tasks::new());
        serve_stream(far, client, service, &limits, &tasks).await;
    });
    (near, serving)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_slow_with_its_head_is_cut() {
    let limits = ListenLimits::default();
    for begun in ["", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nhost: "] {
        let (mut near, _serving) = simulated(Scripted::sized());
        let started = Instant::now();
        near.write_all(begun.as_bytes()).await.unwrap();
        let mut dripping = tokio::time::interval(Duration::from_secs(1));
        let mut byte = [0];
        // One more byte each second: progress that is none.
        loop {
            tokio::select! {
                read = near.read(&mut byte) => {
                    assert_eq!(read.unwrap(), 0, "{begun:?}");
                    break;
                }
                _ = dripping.tick(), if begun.starts_with("GET") => {
                    near.write_all(b"x").await.ok();
                }
            }
        }
        assert!(started.elapsed() <= 2 * limits.head_timeout, "{begun:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_for_its_time_and_then_closed() {
    let limits = ListenLimits::default();
    let (mut near, _serving) = simulated(Scripted::sized());
    for _ in 0..2 {
        near.write_all(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        let mut answer = vec![0; 4096];
        let length = near.read(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{length}");
        tokio::time::sleep(limits.idle_timeout - Duration::from_secs(1)).await;
    }
    assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_http2_connection_gets_a_goaway() {
    let (near, mut serving) = simulated(Scripted::sized());
    let mut client = h2(near).await;
    client.get("/1").await.collect().await.unwrap();
    serving.join_next().await.unwrap().unwrap();
    client.send(request(Method::GET, "/1")).await.err().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_held_request_is_not_idle() {
    let held = Scripted::new(|_, _| async {
        tokio::time::sleep(Duration::from_secs(600)).await;
        Response::new(Body::full(Bytes::from_static(b"at last")))
    });
    for way in [Way::H1Clear, Way::H2Clear] {
        let (near, _serving) = simulated(held.clone());
        let mut client = match way {
            Way::H1Clear => h1(near).await,
            _ => h2(near).await,
        };
        assert_eq!(client.get("/").await.collect().await.unwrap(), "at last");
    }
}

#[tokio::test(start_paused = true)]
async fn b_87_a_client_that_takes_nothing_of_its_response_is_cut() {
    let limits = ListenLimits::default();
    for way in [Way::H1Clear, Way::H2Clear] {
        let (near, mut serving) = simulated(Scripted::sized());
        let mut client = match way {
            Way::H1Clear => h1(near).await,
            _ => h2(near).await,
        };
        let begun = Instant::now();
        // More than windows and buffers between hold; the client answers pings and reads no body.
        let mut answer = client.get("/20000000").await;
        serving.join_next().await.unwrap().unwrap();
        assert!(begun.elapsed() <= 2 * limits.idle_timeout, "{way:?}");
        assert!(answer.collect().await.is_err(), "{way:?} looks whole");
    }
}

#[tokio::test]
async fn b_43_a_request_body_is_never_taken_for_the_next_request() {
    let (mut near, _serving) = simulated(Scripted::sized());
    let hidden = "GET /7 HTTP/1.1\r\nhost: a\r\n\r\n";
    let request = format!(
        "POST /5 HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{hidden}",
        hidden.len()
    );
    near.write_all(request.as_bytes()).await.unwrap();
    near.write_all(b"GET /3 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut all = Vec::new();
    near.read_to_end(&mut all).await.unwrap();
    let all = String::from_utf8_lossy(&all);
    assert!(!all.contains("content-length: 7"), "{all}");
    assert!(all.contains("content-length: 5"), "{all}");
}

#[tokio::test]
async fn a_head_too_large_is_431_on_every_protocol_and_harms_no_other_request() {
    let server = Server::start(Scripted::sized());
    for way in Way::ALL {
        let mut client = server.connect(way).await;
        client.get("/1").await.collect().await.unwrap();
        let mut large = request(Method::GET, "/1");
        large
            .headers_mut()
            .insert("cookie", "c".repeat(17_000).parse().unwrap());
        // Some clients do not even send what the server's settings forbid.
        if let Ok(answer) = client.send(large).await {
            assert_eq!(
                answer.status,
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "{way:?}"
            );
        }
        if way != Way::H1Clear && way != Way::H1Tls {
            client.get("/1").await.collect().await.unwrap();
        }
    }
}

#[tokio::test]
async fn b_96_an_http3_frame_without_end_closes_only_its_connection() {
    let server = Server::start(Scripted::sized());
    let (_endpoint, connection) = server.quic().await;
    let mut control = connection.open_uni().await.unwrap();
    // The control stream, SETTINGS, then an unknown frame of a terabyte.
    let mut bytes = vec![0x00, 0x04, 0x00, 0x21];
    bytes.extend((0xc000_0000_0000_0000_u64 | 1 << 40).to_be_bytes());
    control.write_all(&bytes).await.unwrap();
    let closed = connection.closed().await;
    assert!(
        matches!(closed, quinn::ConnectionError::ApplicationClosed(_)),
        "{closed}"
    );

    let (_endpoint, connection) = server.quic().await;
    let (_send, _receive) = connection.open_bi().await.unwrap();
    let mut client = server.connect(Way::H3).await;
    assert_eq!(client.get("/9").await.collect().await.unwrap().len(), 9);
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_the_others_stay() {
    let limits = ListenLimits {
        connections_per_worker_max: 2,
        ..ListenLimits::default()
    };
    let server = Server::with(Scripted::sized(), 1, limits);
    let mut first = server.connect(Way::H1Clear).await;
    let mut second = server.connect(Way::H2Tls).await;
    let mut third = TcpStream::connect(server.http()).await.unwrap();
    // Closed or reset: both end the stream.
    assert_eq!(third.read(&mut [0; 1]).await.unwrap_or(0), 0);
    let tls = server.client_tls(b"h3");
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint
        .connect_with(config, server.https(), "localhost")
        .unwrap();
    connecting.await.unwrap_err();
    for client in [&mut first, &mut second] {
        assert_eq!(client.get("/2").await.collect().await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn under_load_a_quic_client_proves_its_address_and_is_served() {
    let limits = ListenLimits {
        connections_per_worker_max: 4,
        ..ListenLimits::default()
    };
    let server = Server::with(Scripted::sized(), 1, limits);
    let mut clients = Vec::new();
    // From the fourth on, fewer than half of the connections are left.
    for _ in 0..4 {
        let mut client = server.connect(Way::H3).await;
        assert_eq!(client.get("/2").await.collect().await.unwrap().len(), 2);
        clients.push(client);
    }
}

#[tokio::test]
async fn pl_13_128_streams_of_one_connection_are_answered_together() {
    let barrier = Arc::new(tokio::sync::Barrier::new(128));
    let server = Server::with(
        Scripted::new(move |_, _| {
            let barrier = Arc::clone(&barrier);
            async move {
                barrier.wait().await;
                Response::new(Body::full(Bytes::from_static(b"all")))
            }
        }),
        1,
        ListenLimits::default(),
    );
    for way in [Way::H2Clear, Way::H2Tls, Way::H3] {
        let client = server.connect(way).await;
        let mut requests = JoinSet::new();
        for _ in 0..128 {
            let mut sender = client.cloned();
            requests.spawn(async move { sender.get("/").await.collect().await.unwrap() });
        }
        while let Some(body) = requests.join_next().await {
            assert_eq!(body.unwrap(), "all", "{way:?}");
        }
    }
}
