//! Edge and shield: the chain runs through tiers, and the origin is asked once.

use std::time::Duration;

use bytes::Bytes;
use harness::origin::{ok, whole};
use harness::{Live, cdn, pass};
use http::{Response, StatusCode};

const PLAYLIST: &str = "/live/v0/playlist.m3u8";

#[test]
fn lb_09_two_edges_and_many_viewers_are_one_request_per_part_and_version_at_the_origin() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        for part in 0..8_u64 {
            let path = format!("/live/v0/seg{}.{}.m4s", 2 + part / 4, part % 4);
            origin.on(&path, |_| async { ok(whole(Bytes::from_static(b"part"))) });
        }
        let _shield = t.node("shield", &["origin"]);
        let _fra = t.node("fra", &["shield"]);
        let _sin = t.node("sin", &["shield"]);
        let viewers = [t.viewer("fra"), t.viewer("sin")];
        for viewer in &viewers {
            viewer.get(PLAYLIST).await;
        }
        for part in 0..8_u64 {
            let (msn, index) = (2 + part / 4, part % 4);
            let target = format!("{PLAYLIST}?_HLS_msn={msn}&_HLS_part={index}");
            let held: Vec<_> = viewers
                .iter()
                .flat_map(|v| (0..25).map(|_| v.start(&target)))
                .collect();
            origin.asked_for_exactly(&target).await;
            live.publish();
            for held in held {
                assert_eq!(held.await.unwrap().status, StatusCode::OK);
            }
            let path = format!("/live/v0/seg{msn}.{index}.m4s");
            for read in viewers.iter().map(|v| v.start(&path)).collect::<Vec<_>>() {
                assert_eq!(read.await.unwrap().body, "part");
            }
            assert_eq!(origin.requests(&path), 1, "{path}");
            assert_eq!(origin.requests_exactly(&target), 1, "{target}");
        }
        assert_eq!(origin.requests_exactly(PLAYLIST), 1);
    });
}

#[test]
fn ca_14_a_stalled_origin_is_asked_once_whatever_waits_below() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        Live::start(&origin, PLAYLIST, 8);
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let target = format!("{PLAYLIST}?_HLS_msn=2&_HLS_part=0");
        let held: Vec<_> = (0..100).map(|_| viewer.start(&target)).collect();
        for held in held {
            assert_eq!(held.await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
        }
        assert_eq!(origin.requests_exactly(&target), 1);
    });
}

#[test]
fn loops_between_nodes_are_cut() {
    cdn(|t| async move {
        let _a = t.node("a", &["b"]);
        let _b = t.node("b", &["a"]);
        let received = t.viewer("a").get("/x").await;
        assert_eq!(received.status, StatusCode::LOOP_DETECTED, "{received:?}");
    });
}

#[test]
fn cache_status_tells_every_node_on_the_way_origin_nearest_first() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve("/s.m4s", &[("cache-control", "max-age=60")], "segment");
        let _shield = t.node("shield", &["origin"]);
        let _fra = t.node("fra", &["shield"]);
        let _sin = t.node("sin", &["shield"]);
        t.viewer("fra").get("/s.m4s").await;
        let received = t.viewer("sin").get("/s.m4s").await;
        let members: Vec<_> = received.fields.get_all("cache-status").iter().collect();
        assert_eq!(
            members,
            ["shield; hit; ttl=60", "sin; fwd=uri-miss; stored; ttl=60"]
        );
    });
}

#[test]
fn fm_19_a_segment_starts_at_once_while_hundreds_of_requests_are_held_upstream() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve("/bulk/s.m4s", &[("cache-control", "max-age=60")], "segment");
        let lives: Vec<_> = (0..200)
            .map(|n| Live::start(&origin, &format!("/live/v{n}/playlist.m3u8"), 8))
            .collect();
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for n in 0..lives.len() {
            viewer.get(&format!("/live/v{n}/playlist.m3u8")).await;
            let chain = format!("/live/v{n}/playlist.m3u8?_HLS_msn=2&_HLS_part=0");
            origin.asked_for_exactly(&chain).await;
        }
        let before = tokio::time::Instant::now();
        assert_eq!(viewer.get("/bulk/s.m4s").await.body, "segment");
        assert_eq!(
            before.elapsed(),
            Duration::ZERO,
            "no time passes: nothing stood in its way"
        );
        pass(Duration::ZERO).await;
    });
}

#[test]
fn rfc_9110_15_4_5_a_304_between_nodes_updates_the_content_type_that_the_origin_changed() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/doc/a", |asked| async move {
            let (code, content_type, body) = match asked.before {
                0 => (StatusCode::OK, "text/plain", "the body"),
                _ => (StatusCode::NOT_MODIFIED, "text/plain;charset=utf-8", ""),
            };
            Response::builder()
                .status(code)
                .header("cache-control", "max-age=2")
                .header("etag", "\"1\"")
                .header("content-type", content_type)
                .body(whole(Bytes::from_static(body.as_bytes())))
                .expect("a scripted reply is well formed")
        });
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        let first = viewer.get("/doc/a").await;
        assert_eq!(first.field("content-type"), "text/plain");
        pass(Duration::from_secs(3)).await;
        let updated = viewer.get("/doc/a").await;
        assert_eq!(updated.text(), "the body");
        assert_eq!(updated.field("content-type"), "text/plain;charset=utf-8");
        // A viewer has no cache to be guided by it.
        let held = viewer
            .get_with("/doc/a", &[("if-none-match", "\"1\"")])
            .await;
        assert_eq!(held.status, StatusCode::NOT_MODIFIED);
        assert_eq!(held.field("content-type"), "");
    });
}
