//! Interim responses (1xx): passed on to the viewer who caused the fill, and to nobody else.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use harness::{Network, cdn};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;

const ANSWER: &str = "HTTP/1.1 102 Processing\r\n\r\n\
    HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nkeep-alive: x\r\n\r\n\
    HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 4\r\n\r\nkept";

/// Answers every request on a connection with [`ANSWER`].
async fn hint(mut pipe: DuplexStream) {
    let mut head = Vec::new();
    while let Ok(byte) = pipe.read_u8().await {
        head.push(byte);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            pipe.write_all(ANSWER.as_bytes())
                .await
                .expect("the node reads the answer");
        }
    }
}

/// Lets an origin listen that sends interim responses, which no HTTP server at hand can.
fn hinting_origin(network: &Network) {
    let connections = Mutex::new(JoinSet::new());
    let accept = move |pipe: DuplexStream| {
        let mut connections = connections.lock().expect("nobody panics while accepting");
        connections.spawn(hint(pipe));
    };
    network.listen("origin", Arc::new(accept));
}

/// Requests `/a` and returns what was interim, as text, and the body.
async fn get(network: &Network) -> (Vec<String>, Bytes) {
    let pipe = network.connect("edge").expect("the node is up");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(pipe))
        .await
        .expect("the node speaks HTTP/1.1");
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut request = Request::get("/a")
        .header("host", "live.example")
        .body(Empty::<Bytes>::new())
        .expect("a scripted request is well formed");
    let hearing = Arc::clone(&heard);
    hyper::ext::on_informational(&mut request, move |interim| {
        let text = format!("{} {:?}", interim.status().as_u16(), interim.headers());
        hearing.lock().expect("nobody panics here").push(text);
    });
    let response = sender
        .send_request(request)
        .await
        .expect("the node answers");
    assert_eq!(response.status(), StatusCode::OK);
    let body = response
        .into_body()
        .collect()
        .await
        .expect("the body comes whole");
    let heard = std::mem::take(&mut *heard.lock().expect("nobody panics here"));
    (heard, body.to_bytes())
}

#[test]
fn rfc_9110_15_2_interim_responses_pass_all_nodes_and_are_not_stored() {
    for parents in [&["origin"][..], &["shield"]] {
        cdn(|t| async move {
            hinting_origin(t.network());
            let _shield = t.node("shield", &["origin"]);
            let _edge = t.node("edge", parents);
            let (heard, body) = get(t.network()).await;
            assert_eq!(
                heard,
                ["102 {}", "103 {\"link\": \"</a>; rel=preload\"}"],
                "{parents:?}"
            );
            assert_eq!(body, "kept");
            let (heard, body) = get(t.network()).await;
            assert_eq!((heard.len(), &body[..]), (0, &b"kept"[..]), "{parents:?}");
        });
    }
}
