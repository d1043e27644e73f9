//! Origins that stall, break and stumble while everybody watches: who asks again, how often, and what
//! viewers see of it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use harness::origin::{Asked, Origin, ReplyBody, ok, status, whole};
use harness::{Feed, Live, cdn, pass};
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::time::Instant;

const PLAYLIST: &str = "/live/v0/playlist.m3u8";
const PART: &str = "/live/v0/seg2.0.m4s";

/// Serves `path` whole, except that `fault` decides about the first requests.
fn with_fault<F, R>(origin: &Origin, path: &str, faults: usize, fault: F)
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = http::Response<ReplyBody>> + Send + 'static,
{
    let fault = Arc::new(fault);
    origin.on(path, move |asked: Asked| {
        let fault = Arc::clone(&fault);
        async move {
            if asked.before < faults {
                return fault().await;
            }
            ok(whole(Bytes::from_static(b"whole part")))
        }
    });
}

async fn reset_half_way() -> http::Response<ReplyBody> {
    ok(breaking("whole"))
}

/// Returns a body that breaks a moment after its first bytes.
fn breaking(first: &'static str) -> ReplyBody {
    let start = stream::iter([Ok(Frame::data(Bytes::from_static(first.as_bytes())))]);
    let end = stream::once(async {
        pass(Duration::from_millis(10)).await;
        Err(io::ErrorKind::ConnectionReset.into())
    });
    BodyExt::boxed(StreamBody::new(start.chain(end)))
}

#[test]
fn lb_09_a_part_request_that_stalls_is_asked_again_within_a_part_and_nobody_is_lost() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        with_fault(&origin, PART, 1, std::future::pending);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        origin.asked_for(PART, 1).await;
        let viewers: Vec<_> = (0..200).map(|_| viewer.start(PART)).collect();
        pass(Duration::from_secs(3)).await;
        assert_eq!(
            origin.requests(PART),
            1,
            "what is not published yet is not late"
        );
        let published_at = Instant::now();
        live.publish();
        for received in viewers {
            let received = received.await.unwrap();
            assert_eq!(received.status, StatusCode::OK);
            assert_eq!(received.body, "whole part");
        }
        assert!(published_at.elapsed() <= Duration::from_millis(510));
        assert_eq!(origin.requests(PART), 2);
    });
}

#[test]
fn lb_09_a_part_whose_body_stalls_is_asked_again_too() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let stuck = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let feeds = Arc::clone(&stuck);
        with_fault(&origin, PART, 1, move || {
            let feeds = Arc::clone(&feeds);
            async move {
                let (feed, body) = Feed::new();
                feed.send("whole").await;
                feeds.lock().push(feed);
                ok(body)
            }
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        origin.asked_for(PART, 1).await;
        live.publish();
        let received = viewer.get(PART).await;
        assert!(received.is_whole);
        assert_eq!(received.body, "whole part");
        assert_eq!(origin.requests(PART), 2);
    });
}

#[test]
fn a_second_attempt_that_fails_does_not_take_the_first_along() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        origin.on(PART, |asked| async move {
            if asked.before > 0 {
                return status(StatusCode::NOT_FOUND);
            }
            pass(Duration::from_secs(2)).await;
            ok(whole(Bytes::from_static(b"slow but whole")))
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        origin.asked_for(PART, 1).await;
        live.publish();
        let received = viewer.get(PART).await;
        assert_eq!(received.body, "slow but whole");
        assert_eq!(origin.requests(PART), 2);
    });
}

#[test]
fn a_stalled_parent_is_not_waited_for_where_another_serves_the_same() {
    cdn(|t| async move {
        let stuck = t.origin("shield-1");
        let well = t.origin("shield-2");
        for origin in [&stuck, &well] {
            Live::start(origin, PLAYLIST, 9);
            origin.on(PART, |_| std::future::pending());
        }
        let _edge = t.node_with("edge", &["shield-1", "shield-2"], |config| {
            config.upstream.selection = node::upstream::Selection::Rendezvous;
        });
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let part = viewer.start(PART);
        pass(Duration::from_secs(1)).await;
        let asked = [stuck.requests(PART), well.requests(PART)];
        assert_eq!(asked, [1, 1], "one request each");
        part.abort();
    });
}

#[test]
fn fm_22_parts_that_break_for_a_second_reach_every_viewer_whole_by_a_few_requests() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let well_again = Instant::now() + Duration::from_secs(1);
        origin.on(PART, move |_| async move {
            if Instant::now() < well_again {
                return reset_half_way().await;
            }
            ok(whole(Bytes::from_static(b"whole part")))
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        live.publish();
        let viewers: Vec<_> = (0..200).map(|_| viewer.start(PART)).collect();
        for received in viewers {
            let received = received.await.unwrap();
            assert!(received.is_whole);
            assert_eq!(received.body, "whole part");
        }
        let asked = origin.requests(PART);
        assert!(asked <= 7, "{asked} requests for one part");
    });
}

#[test]
fn fm_01_a_second_of_503_is_ridden_out_with_a_few_requests_for_each_resource() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let began = Instant::now();
        for path in [PART, "/live/v0/seg0.m4s"] {
            origin.on(path, move |_| async move {
                if began.elapsed() < Duration::from_secs(1) {
                    return status(StatusCode::SERVICE_UNAVAILABLE);
                }
                ok(whole(Bytes::from_static(b"whole part")))
            });
        }
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        live.answer_instead(Some((StatusCode::SERVICE_UNAVAILABLE, "")));
        let before = origin.requests(PLAYLIST);
        live.publish();
        let mut parts = Vec::new();
        for _ in 0..10 {
            parts.extend((0..20).map(|_| viewer.start(PART)));
            parts.extend((0..20).map(|_| viewer.start("/live/v0/seg0.m4s")));
            let playlist = viewer.get(PLAYLIST).await;
            assert_eq!(playlist.status, StatusCode::OK, "from what is known here");
            pass(Duration::from_millis(100)).await;
        }
        live.answer_instead(None);
        for part in parts {
            assert_eq!(part.await.unwrap().body, "whole part");
        }
        for path in [PART, "/live/v0/seg0.m4s"] {
            let asked = origin.requests(path);
            assert!(asked <= 7, "{asked} requests for {path}");
        }
        let asked = origin.requests(PLAYLIST) - before;
        assert!(asked <= 6, "{asked} requests for the playlist");
    });
}

/// Serves `first` and then breaks; later requests get what `later` says.
fn breaks_once<F>(origin: &Origin, path: &str, first: &'static str, later: F)
where
    F: Fn(&Asked) -> http::Response<ReplyBody> + Send + Sync + 'static,
{
    origin.on(path, move |asked| {
        let reply = (asked.before > 0).then(|| later(&asked));
        async move {
            if let Some(reply) = reply {
                return reply;
            }
            tagged(ok(breaking(first)))
        }
    });
}

fn tagged(mut reply: http::Response<ReplyBody>) -> http::Response<ReplyBody> {
    let fields = reply.headers_mut();
    fields.insert("etag", HeaderValue::from_static("\"one\""));
    reply
}

#[test]
fn fm_22_a_segment_that_breaks_is_resumed_where_it_broke() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        breaks_once(&origin, "/s1.m4s", "the whole", |asked| {
            assert_eq!(asked.fields["range"], "bytes=9-");
            assert_eq!(asked.fields["if-range"], "\"one\"");
            let mut reply = tagged(ok(whole(Bytes::from_static(b" segment"))));
            *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = HeaderValue::from_static("bytes 9-16/17");
            reply.headers_mut().insert("content-range", range);
            reply
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for _ in 0..2 {
            let received = viewer.get("/s1.m4s").await;
            assert!(received.is_whole);
            assert_eq!(received.body, "the whole segment");
        }
        assert_eq!(origin.requests("/s1.m4s"), 2, "what was resumed is stored");
    });
}

#[test]
fn fm_22_a_segment_without_validator_is_resumed_if_every_byte_so_far_is_the_same() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        with_fault(&origin, "/s1.m4s", 1, reset_half_way);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let received = viewer.get("/s1.m4s").await;
        assert!(received.is_whole);
        assert_eq!(received.body, "whole part");
        assert_eq!(origin.requests("/s1.m4s"), 2);
    });
}

type Later = fn(&Asked) -> http::Response<ReplyBody>;

#[test]
fn ld_15_what_began_as_one_response_never_ends_as_another() {
    let others: [(&str, Later); 4] = [
        ("/other-tag.m4s", |_| {
            let mut reply = ok(whole(Bytes::from_static(b"the whole segment")));
            let fields = reply.headers_mut();
            fields.insert("etag", HeaderValue::from_static("\"two\""));
            reply
        }),
        ("/other-bytes.m4s", |_| {
            tagged(ok(whole(Bytes::from_static(b"the other segment"))))
        }),
        ("/other-range.m4s", |_| {
            let mut reply = tagged(ok(whole(Bytes::from_static(b"segment"))));
            *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = HeaderValue::from_static("bytes 10-16/17");
            reply.headers_mut().insert("content-range", range);
            reply
        }),
        ("/gone.m4s", |_| status(StatusCode::NOT_FOUND)),
    ];
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for (path, later) in others {
            breaks_once(&origin, path, "the whole", later);
            let received = viewer.get(path).await;
            assert!(!received.is_whole, "{path}");
            assert_eq!(received.body, "the whole", "{path}");
        }
    });
}
