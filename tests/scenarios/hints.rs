//! Preload hints: fetched before they are asked for, held until published, told when withdrawn.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Origin, ok, status, whole};
use harness::{Live, cdn, pass};
use http::StatusCode;
use tokio::sync::Semaphore;

const PLAYLIST: &str = "/live/v0/playlist.m3u8";

/// Holds requests for `path` until the returned gate gets a permit, then sends `body`.
fn held_part(origin: &Origin, path: &str, body: &'static str) -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&gate);
    origin.on(path, move |_| {
        let gate = Arc::clone(&waiting);
        async move {
            gate.acquire().await.expect("the gate stays open").forget();
            ok(whole(Bytes::from_static(body.as_bytes())))
        }
    });
    gate
}

#[test]
fn ca_15_a_hinted_part_is_fetched_before_anyone_asks_for_it() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        Live::start(&origin, PLAYLIST, 8);
        let gate = held_part(&origin, "/live/v0/seg2.0.m4s", "part");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        origin.asked_for("/live/v0/seg2.0.m4s", 1).await;
        let viewers: Vec<_> = (0..50)
            .map(|_| viewer.start("/live/v0/seg2.0.m4s"))
            .collect();
        gate.add_permits(1);
        for received in viewers {
            assert_eq!(received.await.unwrap().body, "part");
        }
        assert_eq!(origin.requests("/live/v0/seg2.0.m4s"), 1);
    });
}

#[test]
fn ll_17_no_byte_of_a_part_is_sent_before_the_whole_part_can_be() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        Live::start(&origin, PLAYLIST, 8);
        let (feed, body) = harness::Feed::new();
        let body = std::sync::Mutex::new(Some(body));
        origin.on("/live/v0/seg2.0.m4s", move |_| {
            let body = body.lock().unwrap().take().expect("asked once");
            async { ok(body) }
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let reader = viewer.start("/live/v0/seg2.0.m4s");
        for piece in ["dri", "bb", "le"] {
            feed.send(piece).await;
            pass(Duration::from_millis(100)).await;
            assert!(!reader.is_finished());
        }
        drop(feed);
        let received = reader.await.unwrap();
        assert_eq!(received.body, "dribble");
        assert_eq!(received.field("content-length"), "7");
    });
}

#[test]
fn ll_19_a_withdrawn_hint_ends_its_waiters_with_404_and_nobody_else() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let _never = held_part(&origin, "/live/v0/seg2.0.m4s", "never");
        origin.serve(
            "/live/v0/ad.m4s",
            &[("cache-control", "max-age=60")],
            "early return",
        );
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        origin.asked_for("/live/v0/seg2.0.m4s", 1).await;
        let waiting: Vec<_> = (0..10)
            .map(|_| viewer.start("/live/v0/seg2.0.m4s"))
            .collect();
        pass(Duration::from_millis(100)).await;
        assert!(waiting.iter().all(|w| !w.is_finished()));
        live.withdraw_for("ad.m4s");
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap().status, StatusCode::NOT_FOUND);
        }
        assert_eq!(viewer.get("/live/v0/ad.m4s").await.body, "early return");
    });
}

#[test]
fn a_part_that_breaks_on_the_way_is_asked_for_once_more_and_no_viewer_notices() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        Live::start(&origin, PLAYLIST, 8);
        origin.on("/live/v0/seg2.0.m4s", |asked| async move {
            if asked.before > 0 {
                return ok(whole(Bytes::from_static(b"whole part")));
            }
            let (feed, body) = harness::Feed::new();
            feed.send("whole").await;
            feed.reset().await;
            ok(body)
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let received = viewer.get("/live/v0/seg2.0.m4s").await;
        assert!(received.is_whole);
        assert_eq!(received.body, "whole part");
        assert_eq!(origin.requests("/live/v0/seg2.0.m4s"), 2);
    });
}

#[test]
fn ca_15_nothing_is_fetched_ahead_for_a_rendition_nobody_watches() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        origin.on("/live/v0/seg2.0.m4s", |_| async {
            status(StatusCode::NOT_FOUND)
        });
        let _edge = t.node("edge", &["origin"]);
        t.viewer("edge").get(PLAYLIST).await;
        // Nobody asks again: after its idle time the chain ends with the next answer it gets.
        pass(Duration::from_secs(25)).await;
        live.publish();
        pass(Duration::from_secs(1)).await;
        let asked = origin.asked().len();
        live.publish_many(10);
        pass(Duration::from_secs(60)).await;
        assert_eq!(origin.asked().len(), asked);
    });
}

/// Serves the four newest segments of a stream, and lets a player of session `session` announce `next`.
fn segments(origin: &Origin) {
    Live::start(origin, PLAYLIST, 16);
    for msn in 0..4 {
        let path = format!("/live/v0/seg{msn}.m4s");
        origin.serve(&path, &[("cache-control", "max-age=60")], "a segment");
    }
    origin.serve("/live/v0/a", &[("cache-control", "max-age=60")], "asked");
}

async fn announce(viewer: &harness::Viewer, session: &str, next: &str) {
    let (said, session) = (format!("nor=\"{next}\""), format!("sid=\"{session}\""));
    let fields = [
        ("cmcd-request", said.as_str()),
        ("cmcd-session", session.as_str()),
    ];
    let asked = viewer.get_with("/live/v0/a", &fields).await;
    assert_eq!(asked.body, "asked");
    pass(Duration::from_millis(10)).await;
}

#[test]
fn hx_04_fm_27_only_what_a_live_playlist_has_named_is_fetched_for_being_announced() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        segments(&origin);
        for path in [
            "/live/v0/secret.m4s",
            "/other/v0/seg1.m4s",
            "/live/v0/k.key",
        ] {
            origin.serve(path, &[("cache-control", "max-age=60")], "secret");
        }
        let edge = t.node_with("edge", &["origin"], |config| {
            config.live.next_objects_per_second = 1000;
        });
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        announce(&viewer, "first", "..%2Fv0%2Fseg1.m4s").await;
        assert_eq!(origin.requests("/live/v0/seg1.m4s"), 1);
        assert_eq!(viewer.get("/live/v0/seg1.m4s").await.body, "a segment");
        assert_eq!(origin.requests("/live/v0/seg1.m4s"), 1, "it was here");
        let asked = origin.asked().len();
        for (index, next) in [
            "seg1.m4s",
            "secret.m4s",
            "k.key",
            "playlist.m3u8",
            "seg2.m4s?x=1",
            "../../other/v0/seg1.m4s",
            "../../../../etc/passwd",
            "https://elsewhere.example/live/v0/seg2.m4s",
            "//elsewhere.example/live/v0/seg2.m4s",
            "data:,seg2.m4s",
            "",
        ]
        .into_iter()
        .enumerate()
        {
            announce(&viewer, &index.to_string(), next).await;
        }
        assert_eq!(origin.asked().len(), asked);
        announce(&viewer, "last", "https://live.example/live/v0/seg2.m4s").await;
        assert_eq!(origin.requests("/live/v0/seg2.m4s"), 1);
        let text = edge.telemetry().render();
        assert!(text.contains("seawall_next_objects_total{became=\"fetched\"} 2"));
        assert!(text.contains("seawall_next_objects_total{became=\"known\"} 1"));
    });
}

#[test]
fn hx_04_nothing_is_fetched_for_being_announced_unless_the_operator_allows_it() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        segments(&origin);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        announce(&viewer, "first", "seg1.m4s").await;
        assert_eq!(origin.requests("/live/v0/seg1.m4s"), 0);
    });
}

#[test]
fn hx_04_announcements_have_a_budget_of_fetches_per_session_and_of_bytes() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        segments(&origin);
        let _edge = t.node_with("edge", &["origin"], |config| {
            config.live.next_objects_per_second = 1000;
            // A segment of nine bytes is paid back in three seconds.
            config.live.next_object_bytes_per_second = 3;
        });
        let frugal = t.node_with("frugal", &["origin"], |config| {
            config.live.next_objects_per_second = 1000;
        });
        let fetched = || {
            let of = |msn| origin.requests(&format!("/live/v0/seg{msn}.m4s"));
            (0..4).map(of).sum::<usize>()
        };
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        announce(&viewer, "one", "seg0.m4s").await;
        announce(&viewer, "two", "seg1.m4s").await;
        assert_eq!(fetched(), 1, "the bytes are spent, whoever asks");
        pass(Duration::from_secs(4)).await;
        viewer.get(PLAYLIST).await;
        announce(&viewer, "two", "seg1.m4s").await;
        assert_eq!(fetched(), 2);
        let viewer = t.viewer("frugal");
        viewer.get(PLAYLIST).await;
        for msn in 0..4 {
            announce(&viewer, "one", &format!("seg{msn}.m4s")).await;
        }
        assert_eq!(fetched(), 4, "two in a second");
        assert!(
            frugal
                .telemetry()
                .render()
                .contains("seawall_next_objects_total{became=\"over_budget\"} 2")
        );
    });
}
