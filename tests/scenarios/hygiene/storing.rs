//! Storing: what an origin says that forbids it, or contradicts itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{ReplyBody, whole};
use harness::{cdn, pass};
use http::{Response, StatusCode};
use node::rules::{ResponseFields, Rule};

use super::ask;

fn reply(status: u16, fields: &[(&str, &str)], body: &'static str) -> Response<ReplyBody> {
    let mut reply = Response::builder().status(status);
    for (name, value) in fields {
        reply = reply.header(*name, *value);
    }
    reply
        .body(whole(Bytes::from_static(body.as_bytes())))
        .expect("a scripted reply is well formed")
}

#[test]
fn b63_a_response_that_sets_a_cookie_is_nobody_elses() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let fields = [
            ("cache-control", "public, max-age=60"),
            ("set-cookie", "id=1"),
        ];
        origin.serve("/a", &fields, "mine");
        let edge = t.node("edge", &["origin"]);
        for _ in 0..2 {
            let received = ask(&t, "x", "/a", "").await;
            assert!(received.head.contains("set-cookie: id=1"));
        }
        assert_eq!(origin.requests("/a"), 2);
        assert_eq!(edge.levels().store_responses, 0);
    });
}

#[test]
fn b63_a_cookie_that_is_stripped_does_not_keep_a_response_from_being_stored() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let fields = [
            ("cache-control", "public, max-age=60"),
            ("set-cookie", "id=1"),
            ("server", "nginx"),
        ];
        origin.serve("/a", &fields, "ours");
        let _edge = t.node_with("edge", &["origin"], |config| {
            config.rules.fallback = Arc::new(Rule {
                response_fields: ResponseFields::Without(vec![
                    http::header::SET_COOKIE,
                    http::header::SERVER,
                ]),
                ..Rule::default()
            });
        });
        for _ in 0..2 {
            let received = ask(&t, "x", "/a", "").await;
            assert_eq!(received.body, "ours");
            assert!(!received.head.contains("set-cookie"), "{}", received.head);
            assert!(!received.head.contains("nginx"), "{}", received.head);
        }
        assert_eq!(origin.requests("/a"), 1);
    });
}

#[test]
fn b63_an_operator_may_opt_in_to_stored_cookies() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let fields = [
            ("cache-control", "public, max-age=60"),
            ("set-cookie", "a=1"),
        ];
        origin.serve("/a", &fields, "ours");
        let _edge = t.node_with("edge", &["origin"], |config| {
            let rule = Rule::clone(&config.rules.fallback);
            config.rules.fallback = Arc::new(Rule {
                policies: rule
                    .policies
                    .clone()
                    .with(|_, policy| policy.stores_set_cookie = true),
                ..rule
            });
        });
        for _ in 0..2 {
            assert!(
                ask(&t, "x", "/a", "")
                    .await
                    .head
                    .contains("set-cookie: a=1")
            );
        }
        assert_eq!(origin.requests("/a"), 1);
    });
}

#[test]
fn b64_whatever_forbids_storing_does_however_it_is_written() {
    let forbidden: [&[(&str, &str)]; 12] = [
        &[("cache-control", "private")],
        &[("cache-control", "no-store")],
        &[("cache-control", "max-age=60, PRIVATE")],
        &[("cache-control", "No-Store, max-age=60")],
        &[("cache-control", "private, s-maxage=60")],
        &[
            ("cache-control", "max-age=60"),
            ("cache-control", "no-store"),
        ],
        &[("cache-control", "no-store, no-store, max-age=60")],
        &[("cache-control", "max-age=-1")],
        &[("cache-control", "max-age=0")],
        &[
            ("cache-control", "max-age=60"),
            ("cdn-cache-control", "no-store"),
        ],
        &[
            ("cdn-cache-control", "max-age=60"),
            ("seawall-cdn-cache-control", "no-store"),
        ],
        &[("cache-control", "max-age=1, max-age=0")],
    ];
    for fields in forbidden {
        cdn(|t| async move {
            let origin = t.origin("origin");
            origin.serve("/a", fields, "x");
            let _edge = t.node("edge", &["origin"]);
            ask(&t, "x", "/a", "").await;
            pass(Duration::from_secs(2)).await;
            ask(&t, "x", "/a", "").await;
            assert_eq!(origin.requests("/a"), 2, "{fields:?}");
        });
    }
}

#[test]
fn b64_whatever_allows_storing_does_however_it_is_written() {
    let allowed: [&[(&str, &str)]; 6] = [
        &[("cache-control", "MAX-AGE=60")],
        &[("cache-control", "max-age=9223372036854775808")],
        &[("cache-control", "max-age=0, s-maxage=60")],
        &[
            ("cache-control", "no-store"),
            ("cdn-cache-control", "max-age=60"),
        ],
        &[
            ("cache-control", "no-store"),
            ("cdn-cache-control", "no-store"),
            ("seawall-cdn-cache-control", "max-age=60"),
        ],
        &[
            ("cache-control", "max-age=60"),
            ("surrogate-control", "no-store"),
        ],
    ];
    for fields in allowed {
        cdn(|t| async move {
            let origin = t.origin("origin");
            origin.serve("/a", fields, "x");
            let _edge = t.node("edge", &["origin"]);
            ask(&t, "x", "/a", "").await;
            pass(Duration::from_secs(2)).await;
            ask(&t, "x", "/a", "").await;
            assert_eq!(origin.requests("/a"), 1, "{fields:?}");
        });
    }
}

#[test]
fn b65_what_varies_by_everything_or_by_too_much_is_not_stored() {
    let hundred: Vec<String> = (0..100).map(|n| format!("x-{n}")).collect();
    for vary in ["*".to_owned(), "accept, *".to_owned(), hundred.join(", ")] {
        cdn(|t| async move {
            let origin = t.origin("origin");
            let fields = [("cache-control", "max-age=60"), ("vary", vary.as_str())];
            origin.serve("/a", &fields, "x");
            let edge = t.node("edge", &["origin"]);
            ask(&t, "x", "/a", "").await;
            ask(&t, "x", "/a", "").await;
            assert_eq!(origin.requests("/a"), 2, "{vary}");
            assert_eq!(edge.levels().store_responses, 0);
        });
    }
}

#[test]
fn b66_a_304_about_something_else_validates_nothing() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/a", |asked| async move {
            match (asked.before, asked.fields.contains_key("if-none-match")) {
                (0, _) => reply(
                    200,
                    &[("cache-control", "max-age=1"), ("etag", "\"1\"")],
                    "old",
                ),
                (_, true) => reply(
                    304,
                    &[("cache-control", "max-age=60"), ("etag", "\"2\"")],
                    "",
                ),
                (_, false) => reply(
                    200,
                    &[("cache-control", "max-age=60"), ("etag", "\"2\"")],
                    "new",
                ),
            }
        });
        let _edge = t.node("edge", &["origin"]);
        assert_eq!(ask(&t, "x", "/a", "").await.body, "old");
        pass(Duration::from_secs(2)).await;
        let received = ask(&t, "x", "/a", "").await;
        assert_eq!((received.status, received.body.as_str()), (200, "new"));
    });
}

#[test]
fn b66_a_piece_that_nobody_asked_for_is_not_taken_for_the_whole() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/a", |_| async move {
            let fields = [
                ("cache-control", "max-age=60"),
                ("content-range", "bytes 0-1/10"),
            ];
            reply(206, &fields, "ab")
        });
        let edge = t.node("edge", &["origin"]);
        let received = ask(&t, "x", "/a", "").await;
        assert_ne!(received.status, 200, "{}", received.head);
        assert_eq!(edge.levels().store_responses, 0);
    });
}

#[test]
fn b69_errors_are_kept_as_long_as_a_rule_says_and_no_longer() {
    for status in [400, 403, 405, 410, 429, 500, 501, 502, 503] {
        for cache_control in ["max-age=3600", ""] {
            cdn(|t| async move {
                let origin = t.origin("origin");
                origin.on("/a.m4s", move |asked| async move {
                    if asked.before == 0 {
                        return reply(status, &[("cache-control", cache_control)], "no");
                    }
                    reply(200, &[("cache-control", "max-age=60")], "good")
                });
                let _edge = t.node("edge", &["origin"]);
                let first = ask(&t, "x", "/a.m4s", "").await;
                assert_eq!(first.status, status);
                pass(Duration::from_secs(1)).await;
                let second = ask(&t, "x", "/a.m4s", "").await;
                assert_eq!(second.status, StatusCode::OK, "{status} {cache_control}");
            });
        }
    }
}
