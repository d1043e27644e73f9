//! Methods other than GET: what is relayed, what a parent gets of it, and what is invalidated.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Asked, ReplyBody, whole};
use harness::{Cdn, Feed, cdn, pass};
use http::{HeaderName, Response, StatusCode};
use node::node::NodeConfig;
use node::rules::{Rule, Rules};

const PATH: &str = "/doc/a";

/// Lets a node relay all methods, and these fields of viewers.
fn relaying(config: &mut NodeConfig) {
    config.rules = Rules {
        listed: Vec::new(),
        fallback: Arc::new(Rule {
            relays_methods: true,
            forwarded_fields: vec![HeaderName::from_static("authorization")],
            ..Rule::default()
        }),
    };
}

fn reply(code: u16, fields: &[(&str, &str)], body: &'static str) -> Response<ReplyBody> {
    let mut reply = Response::builder().status(code);
    for (name, value) in fields {
        reply = reply.header(*name, *value);
    }
    reply
        .body(whole(Bytes::from_static(body.as_bytes())))
        .expect("a scripted reply is well formed")
}

/// An origin that answers GET with what may be kept, and everything else with `code` and `fields`.
fn changing(t: &Cdn, paths: &[&str], code: u16, fields: &'static [(&str, &str)]) {
    let origin = t.origin("origin");
    for path in paths {
        origin.on(path, move |asked: Asked| async move {
            match asked.method.as_str() {
                "GET" => reply(200, &[("cache-control", "max-age=600")], "kept"),
                _ => reply(code, fields, "done"),
            }
        });
    }
}

fn is_hit(received: &harness::viewer::Received) -> bool {
    received.field("cache-status").contains("edge; hit")
}

#[test]
fn other_methods_reach_the_parent_with_their_content_and_come_back_with_its_answer() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on(PATH, |_| async {
            reply(201, &[("cache-control", "max-age=60"), ("x", "y")], "made")
        });
        let _edge = t.node_with("edge", &["origin"], relaying);
        let viewer = t.viewer("edge");
        for method in ["POST", "PUT", "PATCH", "DELETE", "M-SEARCH"] {
            let fields = [
                ("content-type", "text/plain"),
                ("if-match", "\"1\""),
                ("authorization", "Bearer x"),
                ("x-http-method-override", "GET"),
                ("cookie", "a=b"),
            ];
            let target = format!("{PATH}?b=2&a=1");
            let opened = viewer.send_content(method, &target, &fields, "content");
            let received = opened.await.rest().await;
            assert_eq!(received.status, StatusCode::CREATED, "{method}");
            assert_eq!((received.text(), received.field("x")), ("made", "y"));
            assert_eq!(received.field("cache-status"), "edge; fwd=method");

            let asked = origin.asked().pop().expect("the origin was asked");
            assert_eq!(asked.method.as_str(), method);
            assert_eq!(asked.content, "content");
            assert_eq!(asked.target, format!("{PATH}?a=1&b=2"));
            for (name, value) in &fields[..3] {
                assert_eq!(asked.fields[*name], value, "{method}");
            }
            for name in ["x-http-method-override", "cookie"] {
                assert!(!asked.fields.contains_key(name), "{method} {name}");
            }
        }
        assert_eq!(origin.requests(PATH), 5, "answers are not stored");
    });
}

#[test]
fn b52_a_field_that_claims_another_method_changes_nothing() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve(PATH, &[("cache-control", "max-age=60")], "kept");
        let _edge = t.node_with("edge", &["origin"], relaying);
        let viewer = t.viewer("edge");
        for name in ["x-http-method-override", "x-http-method", "x-method"] {
            viewer.get_with(PATH, &[(name, "DELETE")]).await;
        }
        let asked = origin.asked();
        assert_eq!(asked.len(), 1, "one GET, stored, for all of them");
        assert!(
            !asked[0]
                .fields
                .keys()
                .any(|n| n.as_str().contains("method"))
        );
    });
}

#[test]
fn methods_are_refused_where_no_rule_relays_them_and_some_everywhere() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _closed = t.node("closed", &["origin"]);
        let _open = t.node_with("open", &["origin"], relaying);
        for (node, method) in [
            ("closed", "POST"),
            ("closed", "DELETE"),
            ("closed", "BREW"),
            ("open", "TRACE"),
        ] {
            let opened = t.viewer(node).send(method, PATH, &[]).await;
            assert_eq!(opened.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
            assert_eq!(opened.fields["allow"], "GET, HEAD, OPTIONS");
        }
        assert_eq!(origin.asked().len(), 0);
    });
}

#[test]
fn rfc_9111_4_4_a_change_invalidates_its_target_unless_it_is_an_error() {
    for (code, invalidates) in [
        (200, true),
        (204, true),
        (303, true),
        (404, false),
        (500, false),
    ] {
        for method in ["POST", "PUT", "DELETE", "M-SEARCH"] {
            cdn(|t| async move {
                changing(&t, &[PATH, "/doc/b"], code, &[]);
                let _edge = t.node_with("edge", &["origin"], relaying);
                let viewer = t.viewer("edge");
                viewer.get(PATH).await;
                viewer.get("/doc/b").await;
                viewer.send(method, PATH, &[]).await.rest().await;
                let again = viewer.get(PATH).await;
                assert_eq!(is_hit(&again), !invalidates, "{method} {code}");
                assert!(is_hit(&viewer.get("/doc/b").await), "{method} {code}");
            });
        }
    }
}

#[test]
fn rfc_9111_4_4_what_the_answer_names_is_invalidated_on_the_same_host_only() {
    for (fields, invalidates) in [
        (&[("location", "/doc/b")], true),
        (&[("content-location", "b#fragment")], true),
        (&[("location", "http://live.example/doc/b")], true),
        (&[("location", "http://other.example/doc/b")], false),
        (&[("location", "//other.example/doc/b")], false),
        (&[("location", "c:b")], false),
    ] {
        cdn(|t| async move {
            changing(&t, &["/doc/form", "/doc/b"], 201, fields);
            let _edge = t.node_with("edge", &["origin"], relaying);
            let viewer = t.viewer("edge");
            viewer.get("/doc/b").await;
            viewer.send("POST", "/doc/form", &[]).await.rest().await;
            let again = viewer.get("/doc/b").await;
            assert_eq!(is_hit(&again), !invalidates, "{fields:?}");
        });
    }
}

#[test]
fn rfc_9111_4_4_newcomers_after_a_change_do_not_join_a_fill_from_before() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let (feed, body) = Feed::new();
        let body = parking_lot::Mutex::new(Some(body));
        origin.on(PATH, move |asked| {
            let first = if asked.method == http::Method::GET {
                body.lock().take()
            } else {
                None
            };
            async move {
                let fields = [("cache-control", "max-age=600")];
                let mut reply = reply(200, &fields, "new");
                if let Some(first) = first {
                    *reply.body_mut() = first;
                }
                reply
            }
        });
        let _edge = t.node_with("edge", &["origin"], relaying);
        let viewer = t.viewer("edge");
        let before = viewer.start(PATH);
        origin.asked_for(PATH, 1).await;
        feed.send("old").await;
        viewer.send("PUT", PATH, &[]).await.rest().await;
        assert_eq!(viewer.get(PATH).await.text(), "new");
        drop(feed);
        assert_eq!(before.await.expect("the viewer stays").text(), "old");
    });
}

#[test]
fn rfc_9111_4_4_a_fill_from_before_a_change_is_not_stored_after_it() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let (feed, body) = Feed::new();
        let body = parking_lot::Mutex::new(Some(body));
        origin.on(PATH, move |asked| {
            let is_get = asked.method == http::Method::GET;
            let first = if is_get { body.lock().take() } else { None };
            async move {
                let mut reply = reply(200, &[("cache-control", "max-age=600")], "new");
                if let Some(first) = first {
                    *reply.body_mut() = first;
                }
                reply
            }
        });
        let _edge = t.node_with("edge", &["origin"], relaying);
        let viewer = t.viewer("edge");
        let before = viewer.start(PATH);
        origin.asked_for(PATH, 1).await;
        feed.send("old").await;
        viewer.send("PUT", PATH, &[]).await.rest().await;
        drop(feed);
        assert_eq!(before.await.expect("the viewer stays").text(), "old");
        pass(Duration::from_millis(10)).await;
        assert_eq!(viewer.get(PATH).await.text(), "new");
    });
}

#[test]
fn content_beyond_the_limit_is_refused_and_no_parent_is_asked() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _edge = t.node_with("edge", &["origin"], |config| {
            relaying(config);
            config.limits.upload_bytes_max = 4;
        });
        let viewer = t.viewer("edge");
        let opened = viewer.send_content("PUT", PATH, &[], "12345").await;
        assert_eq!(opened.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(origin.asked().len(), 0);
    });
}

#[test]
fn one_relayed_request_too_many_is_refused_and_the_others_stay() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on(PATH, |_| async {
            pass(Duration::from_secs(1)).await;
            reply(200, &[], "done")
        });
        let _edge = t.node_with("edge", &["origin"], |config| {
            relaying(config);
            config.limits.relays_max = 1;
        });
        let viewer = t.viewer("edge");
        let (first, second) = tokio::join!(viewer.send("POST", PATH, &[]), async {
            origin.asked_for(PATH, 1).await;
            viewer.send("POST", PATH, &[]).await
        });
        assert_eq!(first.status, StatusCode::OK);
        assert_eq!(second.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(second.fields["retry-after"], "1");
        let third = viewer.send("POST", PATH, &[]).await;
        assert_eq!(third.status, StatusCode::OK);
    });
}
