//! The origin linter: what an origin does wrong is counted where its operator can see it.

use std::sync::Arc;
use std::time::Duration;

use harness::{Live, Viewer, cdn, pass};
use node::node::Node;

const PLAYLIST: &str = "/live/v0/playlist.m3u8";

fn count(edge: &Arc<Node>, rule: &str) -> u64 {
    let start = format!("seawall_origin_misbehavior_total{{rule=\"{rule}\"}} ");
    let text = edge.telemetry().render();
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |value| value.parse().expect("a counter is a number"))
}

async fn see(viewer: &Viewer, msn: u64, part: u64) {
    let target = format!("{PLAYLIST}?_HLS_msn={msn}&_HLS_part={part}");
    assert!(viewer.get(&target).await.status.is_success());
}

#[test]
fn ll_23_a_part_that_comes_late_is_counted_and_one_in_time_is_not() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        for part in 0..4 {
            pass(Duration::from_millis(500)).await;
            live.publish();
            see(&viewer, 2, part).await;
        }
        assert_eq!(count(&edge, "part_late"), 0);
        pass(Duration::from_millis(1_300)).await;
        live.publish();
        see(&viewer, 3, 0).await;
        assert_eq!(count(&edge, "part_late"), 1);
    });
}

#[test]
fn a_hint_that_is_not_kept_is_counted() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        live.publish();
        see(&viewer, 2, 0).await;
        assert_eq!(count(&edge, "hint_not_kept"), 0);
        live.withdraw_for("ad.m4s");
        see(&viewer, 2, 1).await;
        assert_eq!(count(&edge, "hint_not_kept"), 1);
        for rule in [
            "too_long",
            "date_jumped",
            "map_missing",
            "target_duration_changed",
        ] {
            assert_eq!(count(&edge, rule), 0, "{rule}");
        }
    });
}
