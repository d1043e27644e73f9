//! Requests that come before the handshake of their connection is done: TLS early data (RFC 8470).

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use harness::playlist::Live;
use harness::{Cdn, Origin, cdn, pass};
use http::{Method, Request, Response, StatusCode};
use node::node::Node;
use node::{Body, Exchange, Handshake, Peer, Protocol, Upload};

const PATH: &str = "/vod/1.m4s";
/// What viewers of the harness ask for.
const HOST: &str = "live.example";

/// A client that has sent something and has not yet finished its handshake.
struct Early {
    edge: Arc<Node>,
    peer: Peer,
    handshake: Handshake,
}

impl Early {
    fn at(edge: &Arc<Node>) -> Self {
        let handshake = Handshake::default();
        let peer = Peer {
            address: ([192, 0, 2, 1], 443).into(),
            protocol: Protocol::Http3,
            is_secure: true,
            interim: Default::default(),
            held: Default::default(),
            handshake: Some(handshake.clone()),
        };
        Self {
            edge: Arc::clone(edge),
            peer,
            handshake,
        }
    }

    fn send(&self, method: Method, target: &str) -> impl Future<Output = Response<Body>> + use<> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{HOST}{target}"));
        self.send_request(request)
    }

    fn send_request(
        &self,
        request: http::request::Builder,
    ) -> impl Future<Output = Response<Body>> + use<> {
        let request = request.body(Upload::empty());
        let request = request.expect("a scripted request is well formed");
        let (edge, peer) = (Arc::clone(&self.edge), self.peer.clone());
        async move { edge.exchange(&peer, request).await }
    }
}

/// An edge whose store holds `PATH`.
async fn warm(t: &Cdn) -> (Origin, Arc<Node>) {
    let origin = t.origin("origin");
    origin.serve(PATH, &[("cache-control", "max-age=60")], "content");
    let edge = t.node("edge", &["origin"]);
    t.viewer("edge").get(PATH).await;
    assert_eq!(origin.requests(PATH), 1);
    (origin, edge)
}

#[test]
fn lb_11_an_early_request_that_a_stored_fresh_response_answers_is_answered_at_once() {
    cdn(|t| async move {
        let (origin, edge) = warm(&t).await;
        let early = Early::at(&edge);
        for method in [Method::GET, Method::HEAD] {
            let answer = early.send(method, PATH).now_or_never();
            let answer = answer.expect("a hit waits for nothing");
            assert_eq!(answer.status(), StatusCode::OK);
            let status = answer.headers()["cache-status"].to_str().expect("is text");
            assert!(status.starts_with("edge; hit"), "{status}");
        }
        assert_eq!(origin.asked().len(), 1);
    });
}

#[test]
fn hx_20_early_requests_that_need_more_than_the_store_wait_for_the_handshake() {
    cdn(|t| async move {
        let (origin, edge) = warm(&t).await;
        origin.serve("/vod/2.m4s", &[("cache-control", "max-age=60")], "more");
        let early = Early::at(&edge);
        let mut miss = Box::pin(early.send(Method::GET, "/vod/2.m4s"));
        let range = Request::get(format!("https://{HOST}{PATH}")).header("range", "bytes=0-1");
        let mut range = Box::pin(early.send_request(range));
        let mut options = Box::pin(early.send(Method::OPTIONS, PATH));
        assert!((&mut miss).now_or_never().is_none());
        assert!((&mut range).now_or_never().is_none());
        assert!((&mut options).now_or_never().is_none());
        pass(Duration::from_secs(5)).await;
        assert!((&mut miss).now_or_never().is_none());
        assert_eq!(origin.asked().len(), 1);

        early.handshake.complete();
        assert_eq!(miss.await.status(), StatusCode::OK);
        assert_eq!(range.await.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(options.await.status(), StatusCode::NO_CONTENT);
        // RFC 8470 5.1: it was not early any more when it went on.
        let asked = origin.asked();
        assert_eq!(asked.len(), 2);
        assert!(
            !asked
                .iter()
                .any(|one| one.fields.contains_key("early-data"))
        );
    });
}

#[test]
fn hx_20_an_early_request_for_what_is_stale_asks_nobody_and_refreshes_nothing() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let fields = [("cache-control", "max-age=10, stale-while-revalidate=60")];
        origin.serve(PATH, &fields, "content");
        let edge = t.node("edge", &["origin"]);
        t.viewer("edge").get(PATH).await;
        pass(Duration::from_secs(20)).await;

        let early = Early::at(&edge);
        let mut stale = Box::pin(early.send(Method::GET, PATH));
        assert!((&mut stale).now_or_never().is_none());
        pass(Duration::from_secs(5)).await;
        assert_eq!(origin.requests(PATH), 1);
        early.handshake.complete();
        assert_eq!(stale.await.status(), StatusCode::OK);
        origin.asked_for(PATH, 2).await;
    });
}

#[test]
fn b_98_an_early_blocking_reload_neither_holds_nor_follows_before_the_handshake() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, "/live/video.m3u8", 4);
        let edge = t.node("edge", &["origin"]);
        let early = Early::at(&edge);
        let mut held = Box::pin(early.send(Method::GET, "/live/video.m3u8?_HLS_msn=1&_HLS_part=1"));
        assert!((&mut held).now_or_never().is_none());
        pass(Duration::from_secs(2)).await;
        assert!(origin.asked().is_empty());

        // A client that leaves before its handshake is done has asked for nothing.
        drop(held);
        pass(Duration::from_secs(2)).await;
        assert!(origin.asked().is_empty());
        drop(live);
    });
}
