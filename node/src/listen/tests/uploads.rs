//! What reaches the service of the content that a client sends.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::limits::simulated;
use super::*;
use crate::upload::{UploadError, UploadLimits};

const LIMITS: UploadLimits = UploadLimits {
    bytes_max: 200_000,
    stall_timeout: Duration::from_secs(5),
};

/// Answers with the content it reads, or with how reading it ended.
fn echo() -> Scripted {
    Scripted::new(|_, request| async move {
        match request.into_body().read(LIMITS).await {
            Ok(content) => Response::new(Body::full(content)),
            Err(error) => {
                let status = match error {
                    UploadError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                    UploadError::Stalled => StatusCode::REQUEST_TIMEOUT,
                    UploadError::Broken => StatusCode::BAD_REQUEST,
                };
                let mut response = Response::new(Body::empty());
                *response.status_mut() = status;
                response
            }
        }
    })
}

#[tokio::test]
async fn content_arrives_whole_on_every_protocol() {
    let server = Server::start(echo());
    for way in Way::ALL {
        let mut client = server.connect(way).await;
        for size in [0, 1, 70_000, 200_000] {
            let request = request(Method::PUT, "/a");
            let mut answer = client.send_content(request, sample(size)).await.unwrap();
            assert_eq!(answer.status, StatusCode::OK, "{way:?} {size}");
            let echoed = answer.collect().await.unwrap();
            assert!(echoed == sample(size), "{way:?} {size}: {}", echoed.len());
        }
    }
    assert_eq!(server.stop().await, Drained::Whole);
}

#[tokio::test]
async fn b50_content_of_a_get_is_not_read_and_is_not_the_next_request() {
    let server = Server::start(echo());
    for way in Way::ALL {
        let mut client = server.connect(way).await;
        let smuggled = Bytes::from_static(b"GET /b HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let request = request(Method::GET, "/a");
        let mut answer = client.send_content(request, smuggled).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{way:?}");
        assert_eq!(answer.collect().await.unwrap(), "", "{way:?}");
    }
}

#[tokio::test]
async fn content_beyond_its_limit_is_refused_and_the_next_client_is_served() {
    let server = Server::start(echo());
    for way in Way::ALL {
        let mut client = server.connect(way).await;
        let request = request(Method::POST, "/a");
        let answer = client.send_content(request, sample(200_001)).await;
        // On HTTP/1.1 the connection may close before the client has sent everything.
        if let Ok(answer) = answer {
            assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{way:?}");
        } else {
            assert!(matches!(way, Way::H1Clear | Way::H1Tls), "{way:?}");
        }
    }
}

#[tokio::test]
async fn rfc_9114_4_1_2_content_of_another_length_than_announced_is_broken() {
    let server = Server::start(echo());
    let mut client = server.connect(Way::H3).await;
    for announced in ["4", "6"] {
        let mut request = request(Method::POST, "/a");
        let fields = request.headers_mut();
        fields.insert("content-length", announced.parse().unwrap());
        let content = Bytes::from_static(b"12345");
        let answer = client.send_content(request, content).await.unwrap();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{announced}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_slow_with_its_content_is_refused() {
    for (pause, patience) in [(6, 5), (4, 60)] {
        let (mut near, _serving) = simulated(echo());
        let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n";
        near.write_all(head).await.unwrap();
        let started = Instant::now();
        let mut dripping = tokio::time::interval(Duration::from_secs(pause));
        let mut answer = vec![0; 4096];
        let length = loop {
            tokio::select! {
                biased;
                read = near.read(&mut answer) => break read.unwrap(),
                _ = dripping.tick() => near.write_all(b"x").await.unwrap(),
            }
        };
        let status = answer.get(..12).unwrap();
        assert_eq!(status, b"HTTP/1.1 408", "{length}");
        assert_eq!(started.elapsed(), Duration::from_secs(patience));
    }
}

#[tokio::test(start_paused = true)]
async fn rfc_9110_10_1_1_a_client_that_waits_to_continue_is_told_only_when_it_may() {
    for (length, expected) in [("5", "HTTP/1.1 100 "), ("200001", "HTTP/1.1 413 ")] {
        let (mut near, _serving) = simulated(echo());
        let head = format!(
            "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        );
        near.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; expected.len()];
        near.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, expected.as_bytes());
    }
}
