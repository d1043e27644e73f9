//! The origin on real TCP: both protocols, real resets, an orderly end.

use std::io::ErrorKind;
use std::net::SocketAddr;

use lab::origin::{Origin, OriginConfig, RunningOrigin};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn running<const N: usize>(rules: [&str; N]) -> RunningOrigin {
    let config = OriginConfig {
        faults: rules.map(|rule| rule.parse().unwrap()).to_vec(),
        ..OriginConfig::default()
    };
    Origin::bind(config, SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap()
}

/// Sends a request and reads until the connection ends, however it does.
async fn raw(origin: &RunningOrigin, request: &str) -> (Vec<u8>, Option<ErrorKind>) {
    let mut stream = TcpStream::connect(origin.addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let end = stream.read_to_end(&mut read).await;
    (read, end.err().map(|e| e.kind()))
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
}

fn body_len(answer: &[u8]) -> usize {
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    answer.len() - head - 4
}

#[tokio::test]
async fn it_answers_on_a_free_port_and_ends_when_told() {
    let origin = running([]).await;
    let addr = origin.addr();
    assert_ne!(addr.port(), 0);
    let (answer, end) = raw(&origin, &get("/live/index.m3u8")).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert_eq!(end, None);
    assert_eq!(origin.origin().requests_for("/live/index.m3u8"), 1);
    origin.shutdown().await;
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_held_requests() {
    let origin = running(["stall"]).await;
    let mut stream = TcpStream::connect(origin.addr()).await.unwrap();
    stream
        .write_all(get("/live/index.m3u8").as_bytes())
        .await
        .unwrap();
    origin.origin().asked_for("/live/index.m3u8").await;
    origin.shutdown().await;
    let mut read = Vec::new();
    drop(stream.read_to_end(&mut read).await);
    assert!(read.is_empty());
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_names_it() {
    let origin = running([]).await;
    let error = Origin::bind(OriginConfig::default(), origin.addr())
        .await
        .unwrap_err();
    let expected = format!("cannot listen on {}: ", origin.addr());
    assert!(error.to_string().starts_with(&expected), "{error}");
    origin.shutdown().await;
}

#[tokio::test]
async fn a_reset_is_a_reset_of_the_kernel() {
    let origin = running(["reset@*/seg1.m4s", "reset-at=1000@*/seg2.m4s"]).await;
    let (answer, end) = raw(&origin, &get("/live/v0/seg1.m4s")).await;
    assert_eq!((answer.len(), end), (0, Some(ErrorKind::ConnectionReset)));
    let (answer, end) = raw(&origin, &get("/live/v0/seg2.m4s")).await;
    assert_eq!(
        (body_len(&answer), end),
        (1000, Some(ErrorKind::ConnectionReset))
    );
    origin.shutdown().await;
}

#[tokio::test]
async fn a_truncation_is_an_orderly_close() {
    let origin = running(["truncate-at=1000@*/seg2.m4s"]).await;
    let (answer, end) = raw(&origin, &get("/live/v0/seg2.m4s")).await;
    assert_eq!((body_len(&answer), end), (1000, None));
    origin.shutdown().await;
}

#[tokio::test]
async fn hostile_bytes_end_the_connection_and_nothing_else() {
    let origin = running([]).await;
    for bytes in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let (answer, _) = raw(&origin, bytes).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{bytes:?}");
    }
    let (answer, _) = raw(&origin, &get("/live/index.m3u8")).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    origin.shutdown().await;
}

#[tokio::test]
async fn what_is_not_allowed_in_the_configuration_is_named() {
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let base = OriginConfig::default;
    let second = std::time::Duration::from_secs(1);
    for (config, expected) in [
        (
            OriginConfig {
                segment: second * 7,
                ..base()
            },
            "the segment duration is 7s",
        ),
        (
            OriginConfig {
                part: second / 20,
                ..base()
            },
            "the part duration is 50ms",
        ),
        (
            OriginConfig {
                part: second * 3,
                ..base()
            },
            "the part duration is 3s",
        ),
        (
            OriginConfig {
                window: 2,
                ..base()
            },
            "the window is 2,",
        ),
        (
            OriginConfig {
                pad_parts_to: Some(1 << 30),
                ..base()
            },
            "the padded part size is 1073741824",
        ),
        (
            OriginConfig {
                history: Some(second * 90_000),
                ..base()
            },
            "the history is 90000s",
        ),
        (
            OriginConfig {
                renditions: vec!["v7".into()],
                ..base()
            },
            "there is no rendition `v7`",
        ),
        (
            OriginConfig {
                renditions: vec!["a0".into()],
                ..base()
            },
            "there is no rendition `a0`",
        ),
    ] {
        let error = Origin::bind(config, addr).await.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}
