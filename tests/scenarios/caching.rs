//! What a shared cache keeps and to whom it gives it: sequences that the reference model found.
//!
//! `tests/model` drives an edge with random origins and viewers; each sequence here is the shortest form of
//! one that went wrong.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{ReplyBody, whole};
use harness::{Viewer, cdn, pass};
use http::{HeaderName, Response};
use node::node::NodeConfig;
use node::rules::{Rule, Rules};

const PATH: &str = "/doc/a";

/// A reply that says by `number` which one it is.
fn reply(code: u16, number: usize, fields: &[(&str, &str)]) -> Response<ReplyBody> {
    let mut reply = Response::builder().status(code).header("number", number);
    for (name, value) in fields {
        reply = reply.header(*name, *value);
    }
    let body = if code == 304 { "" } else { "content" };
    reply
        .body(whole(Bytes::from_static(body.as_bytes())))
        .expect("a scripted reply is well formed")
}

/// Lets three viewers ask at once and returns how many different replies they got.
async fn replies_to_three_at_once(viewer: &Viewer) -> usize {
    let waiting: Vec<_> = (0..3).map(|_| viewer.start(PATH)).collect();
    let mut numbers = Vec::new();
    for one in waiting {
        numbers.push(
            one.await
                .expect("viewers do not panic")
                .field("number")
                .to_owned(),
        );
    }
    numbers.sort();
    numbers.dedup();
    numbers.len()
}

fn forward_authorization(config: &mut NodeConfig) {
    config.rules = Rules {
        listed: Vec::new(),
        fallback: Arc::new(Rule {
            forwarded_fields: vec![HeaderName::from_static("authorization")],
            ..Rule::default()
        }),
    };
}

#[test]
fn rfc_9111_5_2_2_4_an_error_that_says_no_cache_is_not_kept_for_a_negative_lifetime() {
    for cache_control in ["no-cache", "no-cache, max-age=60"] {
        cdn(move |t| async move {
            let segment = "/live/v0/seg1.m4s";
            let origin = t.origin("origin");
            origin.on(segment, move |asked| async move {
                reply(404, asked.before, &[("cache-control", cache_control)])
            });
            let _edge = t.node("edge", &["origin"]);
            let viewer = t.viewer("edge");
            viewer.get(segment).await;
            pass(Duration::from_millis(50)).await;
            assert_eq!(viewer.get(segment).await.field("number"), "1");
        });
    }
}

#[test]
fn b64_an_error_that_is_private_and_not_to_be_stored_is_told_to_its_owner_only() {
    for cache_control in ["private, no-store", "no-store, private"] {
        cdn(move |t| async move {
            let origin = t.origin("origin");
            origin.on(PATH, move |asked| async move {
                pass(Duration::from_millis(100)).await;
                reply(404, asked.before, &[("cache-control", cache_control)])
            });
            let _edge = t.node("edge", &["origin"]);
            let viewer = t.viewer("edge");
            assert_eq!(replies_to_three_at_once(&viewer).await, 3);
        });
    }
}

#[test]
fn b64_what_a_304_makes_private_is_not_shared_by_those_who_wait_for_it() {
    for made in ["private", "no-store"] {
        cdn(move |t| async move {
            let origin = t.origin("origin");
            origin.on(PATH, move |asked| async move {
                pass(Duration::from_millis(100)).await;
                let etag = ("etag", "\"1\"");
                if asked.before == 0 {
                    return reply(200, 0, &[("cache-control", "max-age=1"), etag]);
                }
                let is_conditional = asked.fields.contains_key("if-none-match");
                let code = if is_conditional { 304 } else { 200 };
                reply(code, asked.before, &[("cache-control", made), etag])
            });
            let _edge = t.node("edge", &["origin"]);
            let viewer = t.viewer("edge");
            viewer.get(PATH).await;
            pass(Duration::from_secs(2)).await;
            assert_eq!(replies_to_three_at_once(&viewer).await, 3, "{made}");
        });
    }
}

#[test]
fn rfc_9111_3_5_a_viewer_with_a_password_does_not_take_away_what_others_have() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on(PATH, |asked| async move {
            let is_conditional = asked.fields.contains_key("if-none-match");
            let code = if is_conditional { 304 } else { 200 };
            reply(code, asked.before, &[("etag", "\"1\"")])
        });
        let _edge = t.node_with("edge", &["origin"], forward_authorization);
        let viewer = t.viewer("edge");
        viewer.get(PATH).await;
        let password = ("authorization", "Basic eA==");
        viewer.get_with(PATH, &[password]).await;
        viewer.get(PATH).await;
        let last = origin.asked().pop().expect("it was asked three times");
        assert_eq!(last.fields["if-none-match"], "\"1\"", "it is still stored");
    });
}
