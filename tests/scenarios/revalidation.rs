//! What happens when a stored response is no longer fresh: validation, staleness on purpose, and errors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Asked, Feed, ReplyBody, status, whole};
use harness::{cdn, pass};
use http::{Response, StatusCode};
use parking_lot::Mutex;

const PATH: &str = "/doc/a";

fn reply(code: u16, fields: &[(&str, &str)], body: &'static str) -> Response<ReplyBody> {
    let mut reply = Response::builder().status(code);
    for (name, value) in fields {
        reply = reply.header(*name, *value);
    }
    reply
        .body(whole(Bytes::from_static(body.as_bytes())))
        .expect("a scripted reply is well formed")
}

fn is_conditional(asked: &Asked) -> bool {
    asked.fields.contains_key("if-none-match") || asked.fields.contains_key("if-modified-since")
}

#[test]
fn rfc_9111_4_3_a_stale_response_is_validated_and_its_fields_updated() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on(PATH, |asked| async move {
            if asked.before == 0 {
                let fields = [
                    ("cache-control", "max-age=10"),
                    ("etag", "\"1\""),
                    ("a", "old"),
                    ("b", "kept"),
                ];
                return reply(200, &fields, "the body");
            }
            assert_eq!(asked.fields["if-none-match"], "\"1\"");
            reply(
                304,
                &[
                    ("cache-control", "max-age=20"),
                    ("etag", "\"1\""),
                    ("a", "new"),
                ],
                "",
            )
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PATH).await;
        pass(Duration::from_secs(11)).await;
        let validated = viewer.get(PATH).await;
        assert_eq!(
            (validated.status, validated.text()),
            (StatusCode::OK, "the body")
        );
        assert_eq!(
            (validated.field("a"), validated.field("b")),
            ("new", "kept")
        );
        assert_eq!(
            validated.field("cache-status"),
            "edge; fwd=stale; fwd-status=304; stored; ttl=20"
        );
        pass(Duration::from_secs(15)).await;
        let hit = viewer.get(PATH).await;
        assert_eq!((hit.field("a"), hit.field("age")), ("new", "15"));
        assert_eq!(origin.requests(PATH), 2, "the 304 gave it another life");
    });
}

#[test]
fn rfc_9111_4_3_everybody_who_waits_for_a_validation_shares_it() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on(PATH, |asked| async move {
            if !is_conditional(&asked) {
                return reply(
                    200,
                    &[("cache-control", "max-age=1"), ("etag", "\"1\"")],
                    "the body",
                );
            }
            pass(Duration::from_millis(200)).await;
            reply(304, &[("etag", "\"1\"")], "")
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PATH).await;
        pass(Duration::from_secs(2)).await;
        let waiting: Vec<_> = (0..50).map(|_| viewer.start(PATH)).collect();
        for one in waiting {
            assert_eq!(one.await.unwrap().text(), "the body");
        }
        assert_eq!(origin.requests(PATH), 2);
    });
}

#[test]
fn b66_a_304_about_another_response_is_followed_by_a_whole_one() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on(PATH, |asked| async move {
            match (asked.before, is_conditional(&asked)) {
                (0, _) => reply(
                    200,
                    &[("cache-control", "max-age=1"), ("etag", "\"1\"")],
                    "first",
                ),
                (_, true) => reply(304, &[("etag", "\"2\"")], ""),
                (_, false) => reply(
                    200,
                    &[("cache-control", "max-age=1"), ("etag", "\"2\"")],
                    "second",
                ),
            }
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PATH).await;
        pass(Duration::from_secs(2)).await;
        let received = viewer.get(PATH).await;
        assert_eq!(
            (received.text(), received.field("etag")),
            ("second", "\"2\"")
        );
    });
}

#[test]
fn rfc_5861_3_a_stale_response_is_served_at_once_while_one_request_refreshes_it() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let (gate, opened) = tokio::sync::watch::channel(false);
        origin.on(PATH, move |asked| {
            let mut opened = opened.clone();
            async move {
                let fields = [("cache-control", "max-age=10, stale-while-revalidate=30")];
                if asked.before == 0 {
                    return reply(200, &fields, "old");
                }
                opened
                    .wait_for(|is_open| *is_open)
                    .await
                    .expect("the test opens it");
                reply(200, &fields, "new")
            }
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PATH).await;
        pass(Duration::from_secs(12)).await;
        for _ in 0..20 {
            let stale = viewer.get(PATH).await;
            assert_eq!(stale.text(), "old");
            assert_eq!(
                stale.field("cache-status"),
                "edge; hit; ttl=-2; detail=stale-while-revalidate"
            );
            assert_eq!(stale.field("age"), "12");
        }
        origin.asked_for(PATH, 2).await;
        gate.send(true).unwrap();
        pass(Duration::from_millis(10)).await;
        assert_eq!(viewer.get(PATH).await.text(), "new");
        assert_eq!(
            origin.requests(PATH),
            2,
            "twenty stale answers, one refresh"
        );
    });
}

#[test]
fn rfc_5861_4_a_stale_response_replaces_errors_for_as_long_as_the_origin_allows() {
    for failing in [reply_503 as fn() -> Response<ReplyBody>, reply_senseless] {
        cdn(move |t| async move {
            let origin = t.origin("origin");
            origin.on(PATH, move |asked| async move {
                if asked.before == 0 {
                    return reply(
                        200,
                        &[("cache-control", "max-age=10, stale-if-error=60")],
                        "good",
                    );
                }
                failing()
            });
            let _edge = t.node("edge", &["origin"]);
            let viewer = t.viewer("edge");
            viewer.get(PATH).await;
            for _ in 0..3 {
                pass(Duration::from_secs(15)).await;
                let stale = viewer.get(PATH).await;
                assert_eq!((stale.status, stale.text()), (StatusCode::OK, "good"));
                assert!(
                    stale
                        .field("cache-status")
                        .ends_with("; detail=stale-if-error")
                );
            }
            pass(Duration::from_secs(30)).await;
            let failed = viewer.get(PATH).await;
            assert!(
                failed.status.is_server_error(),
                "75 s old: too stale to help"
            );
        });
    }
}

fn reply_503() -> Response<ReplyBody> {
    reply(503, &[("cache-control", "max-age=5")], "busy")
}

/// A 304 that nobody asked for: the response has no validator.
fn reply_senseless() -> Response<ReplyBody> {
    reply(304, &[], "")
}

#[test]
fn rfc_9111_5_2_2_2_must_revalidate_is_never_served_stale() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on(PATH, |asked| async move {
            if asked.before == 0 {
                let cache_control =
                    "max-age=10, must-revalidate, stale-if-error=60, stale-while-revalidate=60";
                return reply(200, &[("cache-control", cache_control)], "good");
            }
            reply(503, &[], "busy")
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PATH).await;
        pass(Duration::from_secs(11)).await;
        assert_eq!(
            viewer.get(PATH).await.status,
            StatusCode::SERVICE_UNAVAILABLE
        );
    });
}

#[test]
fn b64_what_is_private_is_never_given_to_somebody_who_waited_beside_its_owner() {
    for (code, cache_control) in [
        (200, "private"),
        (302, "private"),
        (200, "no-store"),
        (404, "private"),
    ] {
        cdn(move |t| async move {
            let origin = t.origin("origin");
            let number = Arc::new(AtomicUsize::new(0));
            origin.on(PATH, move |_| {
                let number = number.fetch_add(1, Ordering::Relaxed).to_string();
                async move {
                    pass(Duration::from_millis(100)).await;
                    let fields = [("cache-control", cache_control), ("owner", number.as_str())];
                    reply(code, &fields, "mine")
                }
            });
            let _edge = t.node("edge", &["origin"]);
            let viewer = t.viewer("edge");
            let waiting: Vec<_> = (0..10).map(|_| viewer.start(PATH)).collect();
            let mut owners = Vec::new();
            for one in waiting {
                owners.push(one.await.unwrap().field("owner").to_owned());
            }
            owners.sort();
            owners.dedup();
            assert_eq!(owners.len(), 10, "{code} {cache_control}: each has its own");
        });
    }
}

#[test]
fn fm_01_everybody_who_waits_for_an_error_is_told_by_one_request() {
    for cache_control in ["", "no-store", "max-age=0"] {
        cdn(move |t| async move {
            let origin = t.origin("origin");
            origin.on(PATH, move |_| async move {
                pass(Duration::from_millis(100)).await;
                reply(503, &[("cache-control", cache_control)], "busy")
            });
            let _edge = t.node("edge", &["origin"]);
            let viewer = t.viewer("edge");
            let waiting: Vec<_> = (0..50).map(|_| viewer.start(PATH)).collect();
            for one in waiting {
                assert_eq!(one.await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
            }
            assert_eq!(origin.requests(PATH), 1, "{cache_control}");
            viewer.get(PATH).await;
            assert_eq!(origin.requests(PATH), 2, "and it was not kept");
        });
    }
}

#[test]
fn what_was_not_shareable_is_stored_as_soon_as_the_origin_allows_it() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on(PATH, |asked| async move {
            let cache_control = if asked.before < 2 {
                "no-store"
            } else {
                "max-age=60"
            };
            reply(200, &[("cache-control", cache_control)], "content")
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for expected in [
            "edge; fwd=uri-miss; detail=no-store",
            "edge; fwd=uri-miss; detail=no-store",
        ] {
            assert_eq!(viewer.get(PATH).await.field("cache-status"), expected);
        }
        viewer.get(PATH).await;
        assert_eq!(
            viewer.get(PATH).await.field("cache-status"),
            "edge; hit; ttl=60"
        );
        assert_eq!(origin.requests(PATH), 3);
    });
}

#[test]
fn rfc_9110_6_6_1_a_response_without_date_gets_the_time_of_its_arrival() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve(PATH, &[("cache-control", "max-age=60")], "content");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let first = viewer.get(PATH).await.field("date").to_owned();
        pass(Duration::from_secs(30)).await;
        let hit = viewer.get(PATH).await;
        assert_eq!(
            hit.field("date"),
            first,
            "it is when it was made, not when it is sent"
        );
        assert_eq!(hit.field("age"), "30");
    });
}

#[test]
fn fm_18_a_refresh_outlives_the_viewer_who_caused_it() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let (feed, body) = Feed::new();
        let body = Arc::new(Mutex::new(Some(body)));
        origin.on(PATH, move |asked| {
            let body = if asked.before == 1 {
                body.lock().take()
            } else {
                None
            };
            async move {
                let Some(body) = body else {
                    return reply(
                        200,
                        &[("cache-control", "max-age=10, stale-while-revalidate=60")],
                        "old",
                    );
                };
                let mut growing = status(StatusCode::OK);
                *growing.body_mut() = body;
                growing
                    .headers_mut()
                    .insert("cache-control", "max-age=60".parse().unwrap());
                growing
            }
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PATH).await;
        pass(Duration::from_secs(11)).await;
        drop(viewer.open(PATH, &[]).await);
        origin.asked_for(PATH, 2).await;
        feed.send("new").await;
        drop(feed);
        pass(Duration::from_millis(10)).await;
        assert_eq!(viewer.get(PATH).await.text(), "new");
        assert_eq!(origin.requests(PATH), 2);
    });
}
