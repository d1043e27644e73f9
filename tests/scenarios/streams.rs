//! What a node knows of each presentation, and what players are told in return.

use std::time::Duration;

use harness::playlist::Live;
use harness::{cdn, pass};

const PLAYLIST: &str = "/live/v0/playlist.m3u8";
const SEGMENT: &str = "/live/v0/seg0.m4s";

#[test]
fn hx_02_a_thousand_players_with_cmcd_cost_one_request() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve(SEGMENT, &[("cache-control", "max-age=60")], "segment");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for n in 0..1000 {
            let received = viewer
                .get(&format!("{SEGMENT}?CMCD=bl%3D{n}%2Csid%3D%22s{n}%22"))
                .await;
            assert_eq!(received.body, "segment");
        }
        assert_eq!(origin.requests(SEGMENT), 1);
        assert_eq!(
            origin.requests_exactly(SEGMENT),
            1,
            "nor does the origin see it"
        );
    });
}

#[test]
fn hx_01_reports_of_players_are_added_up_per_presentation() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _live = Live::start(&origin, PLAYLIST, 8);
        origin.serve(SEGMENT, &[("cache-control", "max-age=60")], "segment");
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer
            .get(&format!("{PLAYLIST}?CMCD=su%2Csid%3D%22a%22"))
            .await;
        pass(Duration::from_millis(800)).await;
        viewer
            .get_with(
                SEGMENT,
                &[
                    ("cmcd-request", "bl=2000,mtp=8000"),
                    ("cmcd-session", "sid=\"a\""),
                ],
            )
            .await;
        viewer
            .get_with(
                SEGMENT,
                &[("cmcd-status", "bs"), ("cmcd-session", "sid=\"b\"")],
            )
            .await;
        viewer.get(SEGMENT).await;
        viewer.get("/elsewhere/x").await;
        let reports = edge.presentations();
        let live = reports
            .iter()
            .find(|r| r.name == "live")
            .expect("its playlist was read");
        assert_eq!((live.requests, live.reports, live.viewers), (4, 3, 3));
        assert_eq!(live.rebuffer_ratio, Some(1.0 / 3.0));
        assert_eq!(live.objects, 2, "a playlist and a segment");
        let others = reports
            .iter()
            .find(|r| r.name == "others")
            .expect("always there");
        assert_eq!(others.requests, 1);
        let metrics = edge.telemetry().render();
        let startup = "seawall_stream_startup_seconds_sum{stream=\"live.example/live\"} 0.8";
        assert!(metrics.contains(startup), "{metrics}");
    });
}

#[test]
fn hx_05_a_player_learns_how_long_its_request_was_held() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let plain = viewer.get(PLAYLIST).await;
        assert_eq!(
            plain.field("cmsd-dynamic"),
            "",
            "neither held nor reporting"
        );
        let target = format!("{PLAYLIST}?_HLS_msn=2&_HLS_part=0");
        let held = viewer.start(&target);
        origin.asked_for_exactly(&target).await;
        pass(Duration::from_millis(1_200)).await;
        live.publish();
        assert_eq!(
            held.await.unwrap().field("cmsd-dynamic"),
            "\"edge\";rd=1200"
        );
        let reporting = viewer
            .get_with(PLAYLIST, &[("cmcd-session", "sid=\"a\"")])
            .await;
        assert_eq!(reporting.field("cmsd-dynamic"), "\"edge\";rd=0");
    });
}

#[test]
fn hx_05_what_the_origin_says_of_the_object_is_kept_and_of_the_response_is_not() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let fields = [
            ("cache-control", "max-age=60"),
            ("cmsd-static", "ot=v,br=3200"),
            ("cmsd-dynamic", "\"origin\";rd=5"),
        ];
        origin.serve(SEGMENT, &fields, "segment");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(SEGMENT).await;
        let hit = viewer.get(SEGMENT).await;
        assert_eq!(
            (hit.field("cmsd-static"), hit.field("cmsd-dynamic")),
            ("ot=v,br=3200", "")
        );
    });
}

#[test]
fn hx_21_a_page_can_read_where_the_time_of_a_response_went() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let _edge = t.node_with("edge", &["origin"], |config| config.server_timing = true);
        let viewer = t.viewer("edge");
        let timing = viewer.get(PLAYLIST).await.field("server-timing").to_owned();
        assert_eq!(timing, "cache;desc=live, hold;dur=0.0, fill;dur=0.0");
        let target = format!("{PLAYLIST}?_HLS_msn=2&_HLS_part=0");
        let held = viewer.start(&target);
        origin.asked_for_exactly(&target).await;
        pass(Duration::from_millis(300)).await;
        live.publish();
        let held = held.await.unwrap();
        let expected = "cache;desc=held, hold;dur=300.0, fill;dur=0.0";
        assert_eq!(held.field("server-timing"), expected);
        assert_eq!(held.field("timing-allow-origin"), "*");
    });
}
