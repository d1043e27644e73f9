//! What a client of each protocol gets to see of a body.

use cache::body::{GrowingBody, Writer};
use http::header::CONTENT_LENGTH;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::limits::simulated;
use super::*;

#[tokio::test]
async fn every_protocol_brings_the_same_bytes() {
    let server = Server::start(Scripted::sized());
    for way in Way::ALL {
        let mut client = server.connect(way).await;
        for size in [0, 1, 1_500, 65_536, 2 * 1024 * 1024] {
            let mut answer = client.get(&format!("/{size}")).await;
            assert_eq!(answer.status, StatusCode::OK);
            let body = answer.collect().await.unwrap();
            assert!(body == sample(size), "{way:?} {size}: {} bytes", body.len());
        }
    }
    assert_eq!(server.stop().await, Drained::Whole);
}

#[tokio::test]
async fn every_protocol_brings_bodies_that_the_kernel_can_send() {
    let server = Server::start(Scripted::new(|_, request| async move {
        let numbers = request.uri().path().trim_start_matches('/').split('-');
        let numbers: Vec<usize> = numbers.map(|number| number.parse().unwrap()).collect();
        let content = sample(numbers[0]);
        let mut block = cache::pages::begin(content.len()).unwrap();
        block.push(&content);
        let body = GrowingBody::full(block.finish());
        Response::new(Body::growing(
            body.reader(numbers[1] as u64..numbers[2] as u64),
        ))
    }));
    for way in Way::ALL {
        let mut client = server.connect(way).await;
        for (size, range) in [
            (50_000, 0..50_000),
            (500_000, 0..500_000),
            (2_000_001, 99_999..1_234_567),
        ] {
            let path = format!("/{size}-{}-{}", range.start, range.end);
            let mut answer = client.get(&path).await;
            let body = answer.collect().await.unwrap();
            assert!(
                body == sample(size).slice(range),
                "{way:?} {path}: {} bytes",
                body.len()
            );
        }
    }
    assert_eq!(server.stop().await, Drained::Whole);
}

#[tokio::test]
async fn rfc_9110_9_3_2_head_is_the_head_of_get_on_every_protocol() {
    let server = Server::start(Scripted::sized());
    for way in Way::ALL {
        let mut client = server.connect(way).await;
        for _ in 0..2 {
            let mut answer = client.send(request(Method::HEAD, "/70000")).await.unwrap();
            assert_eq!(answer.headers[CONTENT_LENGTH], "70000", "{way:?}");
            assert_eq!(answer.collect().await.unwrap().len(), 0, "{way:?}");
        }
    }
}

/// Fields that protocols write in every way they have: by number, by the number of the name, and in full.
fn all_kinds_of_fields() -> HeaderMap {
    let listed = [
        ("accept-ranges", "bytes"),
        ("access-control-allow-headers", "range"),
        ("access-control-allow-methods", "GET"),
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "Age"),
        ("age", "0"),
        ("alt-svc", "clear"),
        ("cache-control", "no-cache"),
        ("cache-control", "no-store"),
        ("cache-control", "public, max-age=31536000"),
        ("cache-control", "max-age=7"),
        ("cache-status", "edge; hit"),
        ("content-disposition", "inline"),
        ("content-encoding", "br"),
        ("content-language", "en"),
        ("content-security-policy", "default-src 'none'"),
        ("content-type", "video/mp4"),
        ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("empty", ""),
        ("etag", "\"1\""),
        ("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("link", "</a>"),
        ("location", "/b"),
        ("server", "origin"),
        ("set-cookie", "a=b"),
        ("set-cookie", "c=d"),
        ("strict-transport-security", "max-age=1"),
        ("timing-allow-origin", "*"),
        ("vary", "accept-encoding"),
        ("vary", "origin"),
        ("vary", "range"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "deny"),
        ("a-name-that-does-not-fit-into-seven", "x"),
    ];
    let mut fields = HeaderMap::new();
    for (name, value) in listed {
        fields.append(name, http::HeaderValue::from_static(value));
    }
    // Lengths around each step of an integer, and bytes that are no text (RFC 9110 5.5).
    for length in [1, 126, 127, 128, 254, 255, 256, 500] {
        fields.append("x-long", "v".repeat(length).parse().unwrap());
    }
    fields.append(
        "x-bytes",
        http::HeaderValue::from_bytes(b"\xff\x80").unwrap(),
    );
    fields
}

#[tokio::test]
async fn rfc_9204_every_protocol_brings_the_same_fields_and_status() {
    let statuses = [
        200, 204, 206, 302, 304, 400, 403, 404, 416, 425, 500, 503, 599,
    ];
    for large in [false, true] {
        let mut fields = all_kinds_of_fields();
        if large {
            fields.append("x-large", "l".repeat(6_000).parse().unwrap());
        }
        let sent = fields.clone();
        let server = Server::start(Scripted::new(move |_, request| {
            let mut response = Response::new(Body::empty());
            *response.headers_mut() = sent.clone();
            let status = request.uri().path().trim_start_matches('/');
            *response.status_mut() = status.parse().unwrap();
            async move { response }
        }));
        for way in Way::ALL {
            let mut client = server.connect(way).await;
            for status in statuses {
                let answer = client.get(&format!("/{status}")).await;
                assert_eq!(answer.status.as_u16(), status, "{way:?}");
                for name in fields.keys() {
                    let values =
                        |of: &HeaderMap| -> Vec<_> { of.get_all(name).iter().cloned().collect() };
                    assert_eq!(values(&answer.headers), values(&fields), "{way:?} {name}");
                }
            }
        }
    }
}

/// A service that hands the writing end of each body to the test.
fn growing(length: Option<u64>) -> (Scripted, mpsc::Receiver<Writer>) {
    let (writers, receiver) = mpsc::channel(1);
    let service = Scripted::new(move |_, _| {
        let (writer, body) = length.map_or_else(GrowingBody::new, GrowingBody::with_length);
        let body = Body::growing(body.reader(0..u64::MAX));
        let writers = writers.clone();
        async move {
            writers.send(writer).await.unwrap();
            Response::new(body)
        }
    });
    (service, receiver)
}

#[tokio::test]
async fn a_growing_body_is_read_while_it_is_written() {
    let (service, mut writers) = growing(None);
    let server = Server::start(service);
    for way in Way::ALL {
        let mut client = server.connect(way).await;
        let mut answer = client.get("/").await;
        let mut writer = writers.recv().await.unwrap();
        for part in ["one", "two"] {
            writer.push(Bytes::from(part));
            assert_eq!(answer.next().await.unwrap().unwrap(), part, "{way:?}");
        }
        writer.complete();
        assert!(answer.next().await.is_none(), "{way:?}");
    }
}

#[tokio::test]
async fn fm_22_ld_06_a_body_that_fails_never_looks_whole() {
    for length in [None, Some(1_000_000)] {
        let (service, mut writers) = growing(length);
        let server = Server::start(service);
        for way in Way::ALL {
            let mut client = server.connect(way).await;
            let mut answer = client.get("/").await;
            let mut writer = writers.recv().await.unwrap();
            writer.push(sample(1_000));
            assert_eq!(answer.next().await.unwrap().unwrap(), sample(1_000));
            drop(writer);
            answer.collect().await.unwrap_err();
        }
    }
}

#[tokio::test]
async fn ca_06_a_viewer_who_leaves_drops_the_body() {
    let (service, mut writers) = growing(None);
    let server = Server::start(service);
    for way in Way::ALL {
        let mut client = server.connect(way).await;
        let answer = client.get("/").await;
        let writer = writers.recv().await.unwrap();
        drop(answer);
        client.leave().await;
        writer.unread().await;
    }
}

#[tokio::test]
async fn ca_06_a_viewer_who_resets_a_stream_drops_its_body_and_keeps_the_connection() {
    let (service, mut writers) = growing(None);
    let server = Server::start(service);
    for way in [Way::H2Clear, Way::H2Tls, Way::H3] {
        let mut client = server.connect(way).await;
        let answer = client.get("/").await;
        let writer = writers.recv().await.unwrap();
        drop(answer);
        writer.unread().await;

        let mut second = client.get("/").await;
        writers.recv().await.unwrap().complete();
        assert_eq!(second.collect().await.unwrap().len(), 0, "{way:?}");
    }
}

/// Tells a test that a future was dropped.
struct Dropped(mpsc::Sender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.try_send(()).ok();
    }
}

#[tokio::test]
async fn ca_06_a_viewer_who_leaves_while_held_ends_the_exchange() {
    let (started, mut starts) = mpsc::channel(1);
    let (dropped, mut drops) = mpsc::channel(1);
    let server = Server::start(Scripted::new(move |_, _| {
        let (started, dropped) = (started.clone(), Dropped(dropped.clone()));
        async move {
            started.send(()).await.unwrap();
            std::future::pending::<()>().await;
            drop(dropped);
            unreachable!("a pending future never ends")
        }
    }));
    for way in Way::ALL {
        let mut client = server.connect(way).await;
        tokio::select! {
            answer = client.send(request(Method::GET, "/")) => panic!("{:?}", answer.err()),
            _ = starts.recv() => {}
        }
        client.leave().await;
        drops.recv().await.unwrap();
    }
}

#[tokio::test]
async fn hx_19_http3_is_announced_over_tls_only() {
    let server = Server::start(Scripted::sized());
    let expected = format!("h3=\":{}\"; ma=86400", server.https().port());
    for way in Way::ALL {
        let answer = server.connect(way).await.get("/1").await;
        let announced = answer.headers.get("alt-svc").map(|v| v.to_str().unwrap());
        let is_expected = [Way::H1Tls, Way::H2Tls].contains(&way);
        assert_eq!(
            announced,
            is_expected.then_some(expected.as_str()),
            "{way:?}"
        );
        assert!(answer.headers.contains_key("date"), "{way:?}");
        assert_eq!(answer.headers[CONTENT_LENGTH], "1", "{way:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc_9110_15_2_interim_responses_go_before_the_answer_and_after_the_one_before() {
    let (released, release) = tokio::sync::watch::channel(());
    let service = Scripted::new(move |peer: Peer, request| {
        let mut release = release.clone();
        async move {
            if request.uri().path() == "/hinted" {
                let mut fields = HeaderMap::new();
                fields.insert("link", "</a>".parse().unwrap());
                peer.interim.sink().send(StatusCode::EARLY_HINTS, &fields);
                release.changed().await.unwrap();
            }
            Response::new(Body::full(Bytes::from_static(b"whole")))
        }
    });
    let (mut near, _serving) = simulated(service);
    let request =
        |path: &str, version: &str| format!("GET {path} HTTP/{version}\r\nhost: a\r\n\r\n");
    let pipelined = request("/first", "1.1") + &request("/hinted", "1.1");
    near.write_all(pipelined.as_bytes()).await.unwrap();
    let mut read = String::new();
    while !read.ends_with("link: </a>\r\n\r\n") {
        read.push(char::from(near.read_u8().await.unwrap()));
    }
    let (first, interim) = read.split_once("whole").unwrap();
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
    assert_eq!(interim, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    released.send(()).unwrap();
    let mut answer = vec![0; 15];
    near.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 200 OK");
}
