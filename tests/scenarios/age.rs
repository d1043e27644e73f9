//! Age is a control signal in LL-HLS: it must be neither inflated by holds nor hidden.

use std::time::Duration;

use harness::{Live, cdn, pass};

const PLAYLIST: &str = "/live/v0/playlist.m3u8";

#[test]
fn ca_11_fm_02_the_time_a_request_was_held_is_not_age() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let target = format!("{PLAYLIST}?_HLS_msn=2&_HLS_part=0");
        let held = viewer.start(&target);
        origin.asked_for_exactly(&target).await;
        pass(Duration::from_millis(1_800)).await;
        live.publish();
        let released = held.await.unwrap();
        assert_eq!(
            released.field("age"),
            "",
            "straight from the origin: no Age (LT-01)"
        );
        let later = viewer.get(&target).await;
        assert_eq!(later.field("age"), "0");
    });
}

#[test]
fn ca_16_a_plain_request_gets_the_newest_version_with_its_true_age() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 8);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let target = format!("{PLAYLIST}?_HLS_msn=2&_HLS_part=0");
        origin.asked_for_exactly(&target).await;
        live.publish();
        viewer.get(&target).await;
        pass(Duration::from_millis(1_400)).await;
        let plain = viewer.get(PLAYLIST).await;
        assert!(plain.text().contains("seg2.0.m4s"));
        assert_eq!(plain.field("age"), "1");
        assert_eq!(
            origin.requests_exactly(PLAYLIST),
            1,
            "only the very first was a fetch"
        );
    });
}

#[test]
fn lt_02_ages_below_a_second_add_up_across_tiers() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        Live::start(&origin, PLAYLIST, 8);
        let _shield = t.node("shield", &["origin"]);
        t.viewer("shield").get(PLAYLIST).await;
        pass(Duration::from_millis(900)).await;
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        pass(Duration::from_millis(900)).await;
        assert_eq!(
            viewer.get(PLAYLIST).await.field("age"),
            "1",
            "0.9 s at each of two tiers"
        );
    });
}

#[test]
fn ca_12_age_can_be_read_by_a_page_of_another_origin() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        Live::start(&origin, PLAYLIST, 8);
        let _edge = t.node("edge", &["origin"]);
        let received = t.viewer("edge").get(PLAYLIST).await;
        assert_eq!(received.field("access-control-allow-origin"), "*");
        assert!(
            received
                .field("access-control-expose-headers")
                .contains("Age")
        );
        let preflight = t
            .viewer("edge")
            .send("OPTIONS", PLAYLIST, &[])
            .await
            .rest()
            .await;
        assert_eq!(preflight.status.as_u16(), 204);
        assert!(
            preflight
                .field("access-control-allow-headers")
                .contains("Range")
        );
        assert_eq!(
            origin.requests(PLAYLIST),
            2,
            "OPTIONS is answered at the edge"
        );
    });
}
