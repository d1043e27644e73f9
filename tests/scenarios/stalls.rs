//! Origins that say nothing while everybody waits: who is asked again, how often, and what a herd of
//! viewers that gives up costs.

use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Origin, ok, whole};
use harness::{Feed, Live, Viewer, cdn, pass};
use http::StatusCode;
use node::node::Node;
use tokio::time::Instant;

const PLAYLIST: &str = "/live/v0/playlist.m3u8";
const AUDIO: &str = "/live/a0/playlist.m3u8";
const PART: &str = "/live/v0/seg2.0.m4s";

fn directed(path: &str, msn: u64, part: u64) -> String {
    format!("{path}?_HLS_msn={msn}&_HLS_part={part}")
}

/// Returns how often a second attempt came to this.
fn second_attempts(edge: &Node, result: &str) -> u64 {
    let start = format!("seawall_forward_second_attempts_total{{result=\"{result}\"}} ");
    let text = edge.telemetry().render();
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |value| value.parse().expect("a counter is a number"))
}

#[test]
fn lb_09_a_blocking_reload_that_is_lost_is_asked_again_and_nobody_waits_for_its_deadline() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        live.lose(1);
        let (feed, part) = Feed::new();
        let part = parking_lot::Mutex::new(Some(part));
        origin.on(PART, move |_| {
            let part = part.lock().take().expect("asked once");
            async { ok(part) }
        });
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let target = directed(PLAYLIST, 2, 0);
        origin.asked_for_exactly(&target).await;
        let viewers: Vec<_> = (0..200).map(|_| viewer.start(&target)).collect();
        pass(Duration::from_secs(3)).await;
        assert_eq!(
            origin.requests_exactly(&target),
            1,
            "nothing says that it exists"
        );
        live.publish();
        feed.send("the hinted part").await;
        drop(feed);
        let published_at = Instant::now();
        for received in viewers {
            assert_eq!(received.await.unwrap().status, StatusCode::OK);
        }
        assert!(published_at.elapsed() <= Duration::from_millis(510));
        assert_eq!(origin.requests_exactly(&target), 2);
        assert_eq!(second_attempts(&edge, "helped"), 1);
    });
}

/// A player that asks for what comes next, gives up after `patience`, and then asks plainly.
async fn watch(viewer: Viewer, path: &'static str, patience: Duration) -> Vec<StatusCode> {
    let mut plain = Vec::new();
    loop {
        let mut held = viewer.start(&directed(path, 2, 0));
        if let Ok(received) = tokio::time::timeout(patience, &mut held).await {
            let received = received.expect("a viewer does not panic");
            if received.status == StatusCode::OK {
                return plain;
            }
        }
        held.abort();
        plain.push(viewer.get(path).await.status);
        // hls.js: a second between tries that bring nothing.
        pass(Duration::from_secs(1)).await;
    }
}

#[test]
fn fm_07_five_thousand_viewers_of_a_stalled_origin_are_one_request_for_each_rendition_and_deadline()
{
    cdn(|t| async move {
        let origin = t.origin("origin");
        let renditions = [PLAYLIST, AUDIO].map(|path| (path, Live::start(&origin, path, 8)));
        let hinted = ["/live/v0/seg2.0.m4s", "/live/a0/seg2.0.m4s"];
        for part in hinted {
            origin.on(part, |_| std::future::pending());
        }
        let edge = t.node_with("edge", &["origin"], |config| {
            config.live.hold_max = Duration::from_secs(6);
        });
        let viewer = t.viewer("edge");
        for (path, live) in &renditions {
            assert_eq!(viewer.get(path).await.status, StatusCode::OK);
            origin.asked_for_exactly(&directed(path, 2, 0)).await;
            live.be_silent(true);
        }
        // Half of them give up after 0.8 target durations, as hls.js does, and half after 8 s.
        let viewers: Vec<_> = (0..5_000)
            .map(|n| {
                let path = if n % 2 == 0 { PLAYLIST } else { AUDIO };
                let patience = if n % 4 < 2 { 1_600 } else { 8_000 };
                let watching = watch(viewer.clone(), path, Duration::from_millis(patience));
                harness::viewer::background(watching)
            })
            .collect();
        // The deadline of a request to a parent is what viewers are held for and two seconds more.
        pass(Duration::from_millis(7_900)).await;
        for (path, _) in &renditions {
            assert_eq!(origin.requests(path), 2, "the plain one, and the one held");
        }
        pass(Duration::from_millis(2_100)).await;
        for (path, live) in &renditions {
            assert_eq!(origin.requests(path), 3, "one more for the deadline");
            live.be_silent(false);
            live.publish();
        }
        for viewer in viewers {
            viewer.await.unwrap();
        }
        for (path, _) in &renditions {
            let asked = origin.requests(path);
            assert!(asked <= 5, "{asked} requests for {path} until all are back");
        }
        assert_eq!(second_attempts(&edge, "over_budget"), 0);
    });
}

/// Answers the first request for `path` never, and the others whole.
fn stall_first(origin: &Origin, path: &str) {
    origin.on(path, |asked| async move {
        if asked.before == 0 {
            std::future::pending::<()>().await;
        }
        ok(whole(Bytes::from_static(b"whole part")))
    });
}

#[test]
fn lb_09_what_came_of_second_attempts_is_counted() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        stall_first(&origin, PART);
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        origin.asked_for(PART, 1).await;
        live.publish();
        assert_eq!(viewer.get(PART).await.body, "whole part");
        assert_eq!(second_attempts(&edge, "helped"), 1);
        // The next one is only slow: both requests are answered, the first of them first.
        let slow = "/live/v0/seg2.1.m4s";
        origin.on(slow, |_| async {
            pass(Duration::from_millis(1_300)).await;
            ok(whole(Bytes::from_static(b"slow part")))
        });
        origin.asked_for(slow, 1).await;
        live.publish();
        assert_eq!(viewer.get(slow).await.body, "slow part");
        assert_eq!(second_attempts(&edge, "not_needed"), 1);
        for result in ["failed", "abandoned", "over_budget"] {
            assert_eq!(second_attempts(&edge, result), 0, "{result}");
        }
    });
}

#[test]
fn ca_23_a_blackout_is_over_within_a_part_of_the_return_of_the_parent() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let target = directed(PLAYLIST, 2, 0);
        let viewers: Vec<_> = (0..50).map(|_| viewer.start(&target)).collect();
        origin.asked_for_exactly(&target).await;
        t.network().set_up("origin", false);
        origin.cut_connections();
        let before = origin.requests(PLAYLIST);
        pass(Duration::from_millis(3_700)).await;
        live.publish();
        t.network().set_up("origin", true);
        let back_at = Instant::now();
        for received in viewers {
            assert_eq!(received.await.unwrap().status, StatusCode::OK);
        }
        assert!(back_at.elapsed() <= Duration::from_millis(510));
        assert!(origin.requests(PLAYLIST) - before <= 2);
    });
}
