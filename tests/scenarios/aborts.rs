//! Viewers who leave: normal, frequent, and never a reason to touch anybody else (PL-01, PL-02).

use std::time::Duration;

use harness::origin::ok;
use harness::{Feed, Live, cdn, pass};
use http::StatusCode;

const PLAYLIST: &str = "/live/v0/playlist.m3u8";

#[test]
fn ca_06_fm_18_the_first_viewer_leaving_does_not_end_the_fill() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let (feed, body) = Feed::new();
        let body = std::sync::Mutex::new(Some(body));
        origin.on("/s1.m4s", move |_| {
            let body = body.lock().unwrap().take().expect("asked once");
            async { ok(body) }
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        feed.send("one,").await;
        let first = viewer.open("/s1.m4s", &[]).await;
        let follower = viewer.open("/s1.m4s", &[]).await;
        drop(first);
        pass(Duration::from_millis(10)).await;
        feed.send("two").await;
        drop(feed);
        let received = follower.rest().await;
        assert!(received.is_whole);
        assert_eq!(received.body, "one,two");
        assert_eq!(viewer.get("/s1.m4s").await.body, "one,two");
        assert_eq!(origin.requests("/s1.m4s"), 1);
    });
}

#[test]
fn ca_06_a_fill_that_everybody_left_still_fills_the_store() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let (feed, body) = Feed::new();
        let body = std::sync::Mutex::new(Some(body));
        origin.on("/s1.m4s", move |_| {
            let body = body.lock().unwrap().take().expect("asked once");
            async { ok(body) }
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        feed.send("one,").await;
        drop(viewer.open("/s1.m4s", &[]).await);
        pass(Duration::from_millis(100)).await;
        feed.send("two").await;
        drop(feed);
        pass(Duration::from_millis(100)).await;
        let received = viewer.get("/s1.m4s").await;
        assert_eq!(received.body, "one,two");
        assert!(received.field("cache-status").contains("edge; hit"));
        assert_eq!(origin.requests("/s1.m4s"), 1);
    });
}

#[test]
fn pl_01_pl_02_a_held_viewer_leaving_releases_and_delays_nobody() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let target = format!("{PLAYLIST}?_HLS_msn=2&_HLS_part=0");
        let held: Vec<_> = (0..100).map(|_| viewer.start(&target)).collect();
        origin.asked_for_exactly(&target).await;
        pass(Duration::from_millis(100)).await;
        held[0].abort();
        held[50].abort();
        pass(Duration::from_millis(100)).await;
        assert_eq!(edge.telemetry().snapshot().held_now, 98);
        live.publish();
        let mut released = 0;
        for held in held {
            if let Ok(received) = held.await {
                assert_eq!(received.status, StatusCode::OK);
                released += 1;
            }
        }
        assert_eq!(released, 98);
        assert_eq!(origin.requests_exactly(&target), 1);
    });
}

#[test]
fn fm_07_a_herd_that_gave_up_finds_the_plain_playlist_here() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        Live::start(&origin, PLAYLIST, 8);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let target = format!("{PLAYLIST}?_HLS_msn=2&_HLS_part=0");
        let held: Vec<_> = (0..500).map(|_| viewer.start(&target)).collect();
        origin.asked_for_exactly(&target).await;
        pass(Duration::from_secs(2)).await;
        held.iter().for_each(|held| held.abort());
        let before = origin.asked().len();
        for herd in (0..500).map(|_| viewer.start(PLAYLIST)).collect::<Vec<_>>() {
            let received = herd.await.unwrap();
            assert_eq!(received.status, StatusCode::OK);
            assert_eq!(
                received.field("age"),
                "2",
                "the truth about a stalled encoder"
            );
        }
        assert_eq!(origin.asked().len(), before, "nobody reached the origin");
    });
}
