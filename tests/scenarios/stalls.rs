//! Origins that say nothing while everybody waits: who is asked again, and how often.

use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Origin, ok, whole};
use harness::{Live, cdn, pass};
use node::node::Node;

const PLAYLIST: &str = "/live/v0/playlist.m3u8";
const PART: &str = "/live/v0/seg2.0.m4s";

/// Returns how often a second attempt came to this.
fn second_attempts(edge: &Node, result: &str) -> u64 {
    let start = format!("seawall_forward_second_attempts_total{{result=\"{result}\"}} ");
    let text = edge.telemetry().render();
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |value| value.parse().expect("a counter is a number"))
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
