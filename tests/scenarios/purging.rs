//! What a purge does to a node: to what is stored, what is on its way, and what is live.

use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Feed, ReplyBody, ok, whole};
use harness::playlist::Live;
use harness::{cdn, pass};
use http::{Response, StatusCode};
use purge_log::{Counts, Mode, PurgeRequest, Target};

const HOST: &str = "live.example";
const SEGMENT: &str = "/live/v0/seg0.m4s";
const PLAYLIST: &str = "/live/v0/playlist.m3u8";

fn hard(target: Target) -> PurgeRequest {
    PurgeRequest {
        target,
        mode: Mode::Hard,
    }
}

fn url(path: &str) -> Target {
    Target::Url {
        host: HOST.to_owned(),
        path: path.to_owned(),
        query: String::new(),
    }
}

fn numbered(before: usize, fields: &[(&str, &str)]) -> Response<ReplyBody> {
    let mut reply =
        Response::builder().header("cache-control", "max-age=60, stale-while-revalidate=60");
    for (name, value) in fields {
        reply = reply.header(*name, *value);
    }
    let body = Bytes::from(format!("version {before}"));
    reply
        .body(whole(body))
        .expect("a scripted reply is well formed")
}

#[test]
fn a_hard_purge_makes_each_kind_of_target_unusable_and_nothing_else() {
    let key = |key: &str| Target::SurrogateKeys(vec![key.to_owned()]);
    let prefix = |path: &str| Target::Prefix {
        host: HOST.to_owned(),
        path: path.to_owned(),
    };
    let stream = Target::Stream {
        host: HOST.to_owned(),
        path: "/live/".to_owned(),
        range: None,
    };
    for (target, is_meant) in [
        (url(SEGMENT), true),
        (url("/live/v0/seg1.m4s"), false),
        (prefix("/live/"), true),
        (prefix("/live/v"), false),
        (stream, true),
        (key("show-1"), true),
        (key("show"), false),
        (Target::Host(HOST.to_owned()), true),
        (Target::Host("other.example".to_owned()), false),
        (Target::All, true),
    ] {
        cdn(move |t| async move {
            let origin = t.origin("origin");
            let tags = [("surrogate-key", "a show-1")];
            origin.on(SEGMENT, move |asked| async move {
                numbered(asked.before, &tags)
            });
            let edge = t.node("edge", &["origin"]);
            let viewer = t.viewer("edge");
            viewer.get(SEGMENT).await;
            let counts = edge.purge(&hard(target.clone()));
            let expected = Counts {
                responses: u64::from(is_meant),
                bytes: if is_meant { 9 } else { 0 },
                fills: 0,
            };
            assert_eq!(counts, expected, "{target:?}");
            let version = if is_meant { "version 1" } else { "version 0" };
            assert_eq!(viewer.get(SEGMENT).await.text(), version, "{target:?}");
        });
    }
}

#[test]
fn a_soft_purge_leaves_what_may_be_served_while_it_is_revalidated_once() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on(SEGMENT, |asked| async move { numbered(asked.before, &[]) });
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(SEGMENT).await;
        edge.purge(&PurgeRequest {
            target: url(SEGMENT),
            mode: Mode::Soft,
        });
        let stale = viewer.get(SEGMENT).await;
        assert_eq!(stale.text(), "version 0");
        assert!(
            stale
                .field("cache-status")
                .contains("detail=stale-while-revalidate")
        );
        pass(Duration::from_millis(10)).await;
        assert_eq!(viewer.get(SEGMENT).await.text(), "version 1");
        assert_eq!(origin.requests(SEGMENT), 2);
    });
}

#[test]
fn f27_a_fill_that_began_before_a_purge_is_neither_joined_nor_stored_after_it() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let (feed, body) = Feed::new();
        let body = parking_lot::Mutex::new(Some(body));
        origin.on(SEGMENT, move |asked| {
            let growing = body.lock().take();
            async move {
                match growing {
                    Some(growing) => ok(growing),
                    None => numbered(asked.before, &[]),
                }
            }
        });
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let mut early = viewer.open(SEGMENT, &[]).await;
        feed.send("old,").await;
        assert_eq!(early.next().await.unwrap().unwrap(), "old,");
        let counts = edge.purge(&hard(url(SEGMENT)));
        assert_eq!((counts.responses, counts.fills), (0, 1));
        assert_eq!(
            viewer.get(SEGMENT).await.text(),
            "version 1",
            "not the fill that runs"
        );
        feed.send("old").await;
        drop(feed);
        assert_eq!(
            early.rest().await.body,
            "old",
            "whoever asked before has it all"
        );
        pass(Duration::from_millis(10)).await;
        assert_eq!(
            viewer.get(SEGMENT).await.text(),
            "version 1",
            "the old one was not stored"
        );
        assert_eq!(origin.requests(SEGMENT), 2);
        let rendered = edge.telemetry().render();
        let purged = "seawall_fills_finished_total{ending=\"purged\"} 1\n";
        assert!(rendered.contains(purged), "{rendered}");
    });
}

#[test]
fn a_purge_of_a_stream_clears_its_live_playlists_and_they_come_back_anew() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _live = Live::start(&origin, PLAYLIST, 8);
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        viewer.get(PLAYLIST).await;
        assert_eq!(origin.requests_exactly(PLAYLIST), 1);
        let counts = edge.purge(&hard(Target::Stream {
            host: HOST.to_owned(),
            path: "/live/".to_owned(),
            range: None,
        }));
        assert!(counts.responses >= 1);
        assert_eq!(viewer.get(PLAYLIST).await.status, StatusCode::OK);
        assert_eq!(
            origin.requests_exactly(PLAYLIST),
            2,
            "one question for what was purged"
        );
    });
}

#[test]
fn a_purge_of_everything_costs_one_request_per_object_whoever_asks() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        for n in 0..10 {
            origin.on(&format!("/live/seg{n}.m4s"), |asked| async move {
                pass(Duration::from_millis(50)).await;
                numbered(asked.before, &[])
            });
        }
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for round in 1..=2 {
            let asked = (0..200).map(|n| viewer.start(&format!("/live/seg{}.m4s", n % 10)));
            for one in asked.collect::<Vec<_>>() {
                assert_eq!(one.await.unwrap().status, StatusCode::OK);
            }
            assert_eq!(origin.asked().len(), 10 * round);
            edge.purge(&hard(Target::All));
        }
    });
}

#[test]
fn a_purge_of_everything_asks_once_for_each_version_of_a_live_playlist_that_viewers_wait_for() {
    for tiers in [&["edge"][..], &["edge", "shield"]] {
        cdn(move |t| async move {
            let origin = t.origin("origin");
            let live = Live::start(&origin, PLAYLIST, 8);
            let nodes: Vec<_> = match tiers {
                [edge] => vec![t.node(edge, &["origin"])],
                [edge, shield, ..] => vec![t.node(shield, &["origin"]), t.node(edge, &[shield])],
                [] => unreachable!("there is an edge"),
            };
            let viewer = t.viewer("edge");
            viewer.get(PLAYLIST).await;
            let next = format!("{PLAYLIST}?_HLS_msn=2&_HLS_part=0&_HLS_skip=YES");
            let mut held: Vec<_> = (0..100).map(|_| viewer.start(&next)).collect();
            pass(Duration::from_millis(10)).await;
            let before = origin.requests(PLAYLIST);
            for node in &nodes {
                node.purge(&hard(Target::All));
            }
            held.extend((0..100).map(|_| viewer.start(&next)));
            let newcomers: Vec<_> = (0..100).map(|_| viewer.start(PLAYLIST)).collect();
            pass(Duration::from_millis(10)).await;
            for one in newcomers {
                assert_eq!(one.await.unwrap().status, StatusCode::OK);
            }
            assert_eq!(
                origin.requests(PLAYLIST) - before,
                2,
                "the version that is there, and the next: {:?}",
                origin.asked()
            );
            live.publish();
            for one in held {
                let received = one.await.unwrap();
                assert_eq!(received.status, StatusCode::OK);
                assert!(
                    received.text().contains("seg2.0.m4s"),
                    "{}",
                    received.text()
                );
            }
        });
    }
}

#[test]
fn invariant_5_a_slice_that_was_arriving_when_it_was_purged_is_not_stored() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let (feed, body) = Feed::new();
        let body = parking_lot::Mutex::new(Some(body));
        origin.on(SEGMENT, move |_| {
            let growing = body.lock().take().expect("it is asked for once");
            let reply = Response::builder()
                .status(StatusCode::PARTIAL_CONTENT)
                .header("cache-control", "max-age=60")
                .header("etag", "\"old\"")
                .header("content-range", "bytes 0-1023/4096")
                .header("content-length", "1024")
                .body(growing);
            std::future::ready(reply.expect("a scripted reply is well formed"))
        });
        let edge = t.node_with("edge", &["origin"], |config| {
            config.limits.slice_bytes = 1024;
            config.limits.slice_from_bytes = 2048;
        });
        let mut early = t
            .viewer("edge")
            .open(SEGMENT, &[("range", "bytes=0-1023")])
            .await;
        feed.send("old").await;
        assert_eq!(early.next().await.unwrap().unwrap(), "old");
        let counts = edge.purge(&hard(url(SEGMENT)));
        assert_eq!((counts.responses, counts.fills), (1, 1), "head and slice");
        feed.send(vec![b'.'; 1021]).await;
        assert_eq!(
            early.rest().await.body.len(),
            1021,
            "who asked before has it"
        );
        pass(Duration::from_millis(10)).await;
        assert_eq!(edge.levels().store_responses, 0);
    });
}
