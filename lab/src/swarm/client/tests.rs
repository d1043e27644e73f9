//! What the client makes of servers that break off, on every protocol.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::config::Trust;
use super::super::stage::{Script, Stage};
use super::*;

fn client(protocol: Protocol) -> Client {
    let network = Network::new(protocol, &Trust::Insecure, None).unwrap();
    Client::new(network, protocol, 1)
}

fn get(url: &str) -> Get {
    Get {
        location: Location::parse(url).unwrap(),
        range: None,
        keep: Keep::Nothing,
    }
}

async fn listener() -> (TcpListener, Get) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let get = get(&format!("http://{}/x", listener.local_addr().unwrap()));
    (listener, get)
}

async fn read_request(stream: &mut TcpStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
}

/// Answers one HTTP/1.1 request with `answer` and ends the connection, with a reset if told.
async fn http_1_1(answer: &[u8], reset: bool) -> Result<Got, FetchError> {
    let (listener, get) = listener().await;
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(answer).await.unwrap();
        if reset {
            socket2::SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
    };
    let client = client(Protocol::Http1);
    tokio::join!(client.fetch(&get), serve).0
}

#[tokio::test]
async fn fm_22_a_short_body_over_http_1_1_is_truncated_and_a_broken_connection_reset() {
    let short = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello";
    let got = http_1_1(short, false).await;
    assert!(
        matches!(got, Err(FetchError::Truncated { received: 5 })),
        "{got:?}"
    );
    let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let got = http_1_1(chunks, false).await;
    assert!(
        matches!(got, Err(FetchError::Truncated { received: 5 })),
        "{got:?}"
    );
    let got = http_1_1(b"", true).await;
    assert!(matches!(got, Err(FetchError::Reset)), "{got:?}");
}

#[tokio::test]
async fn rfc_9112_9_3_1_a_kept_connection_that_closed_is_replaced_unseen() {
    let (listener, get) = listener().await;
    let serve = async {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
        }
    };
    let client = client(Protocol::Http1);
    let fetch = async {
        for _ in 0..2 {
            assert_eq!(client.fetch(&get).await.unwrap().received.bytes, 2);
        }
    };
    tokio::join!(serve, fetch);
}

/// Answers one HTTP/2 request with five bytes of a hundred, then ends or resets the stream.
async fn http_2(reset: bool) -> Result<Got, FetchError> {
    let (listener, get) = listener().await;
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        let head = http::Response::builder().header("content-length", "100");
        let head = head.body(()).unwrap();
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), !reset)
            .unwrap();
        if reset {
            body.send_reset(h2::Reason::INTERNAL_ERROR);
        }
        while connection.accept().await.is_some() {}
    };
    let client = client(Protocol::Http2);
    tokio::select! {
        got = client.fetch(&get) => got,
        () = serve => panic!("the connection ended first"),
    }
}

#[tokio::test]
async fn fm_22_a_short_body_over_http_2_is_truncated_and_a_reset_stream_reset() {
    let got = http_2(false).await;
    assert!(matches!(got, Err(FetchError::Truncated { .. })), "{got:?}");
    let got = http_2(true).await;
    assert!(matches!(got, Err(FetchError::Reset)), "{got:?}");
}

#[tokio::test]
async fn fm_22_a_short_body_over_http_3_is_truncated_and_a_reset_stream_reset() {
    let stage = Stage::start(Script::plain(6));
    let client = client(Protocol::Http3);
    let url = |path| format!("https://localhost:{}{path}", stage.quic.port());
    let network = Network::new(Protocol::Http3, &Trust::Insecure, Some(stage.quic)).unwrap();
    let client = Client { network, ..client };
    let got = client.fetch(&get(&url("/short"))).await;
    assert!(
        matches!(got, Err(FetchError::Truncated { received: 5 })),
        "{got:?}"
    );
    let got = client.fetch(&get(&url("/reset"))).await;
    assert!(matches!(got, Err(FetchError::Reset)), "{got:?}");
}

#[tokio::test]
async fn a_connection_that_ended_is_opened_again_for_the_next_request() {
    let (listener, get) = listener().await;
    let serve = async {
        for _ in 0..2 {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            respond
                .send_response(http::Response::new(()), true)
                .unwrap();
            connection.graceful_shutdown();
            while connection.accept().await.is_some() {}
        }
    };
    let client = client(Protocol::Http2);
    let fetch = async {
        for _ in 0..2 {
            assert_eq!(
                client.fetch(&get).await.unwrap().head.status,
                StatusCode::OK
            );
        }
        drop(client);
    };
    tokio::join!(serve, fetch);
}
