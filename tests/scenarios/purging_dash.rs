//! Purging part of a DASH presentation's timeline: what MPDs still name, and what viewers get.

use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Origin, ReplyBody, whole};
use harness::{cdn, pass};
use http::{Response, StatusCode};
use node::node::Node;
use purge_log::{Mode, PurgeRequest, StreamRange, Target, UnixMillis};

use crate::dash::CLOCK;

const HOST: &str = "live.example";
const MPD: &str = "/live/live.mpd";

/// Two hours before a scenario begins: then segments 1 to 3600 of 2 s are there.
const START: &str = "2023-11-14T20:13:20Z";
const START_MILLIS: u64 = 1_699_992_800_000;

fn purge(node: &Node, from_second: u64, to_second: u64) {
    let at = |second: u64| UnixMillis(START_MILLIS + second * 1000);
    purge_range(
        node,
        StreamRange::WallClock {
            from: at(from_second),
            to: at(to_second),
        },
    );
}

fn purge_range(node: &Node, range: StreamRange) {
    let target = Target::Stream {
        host: HOST.to_owned(),
        path: "/live/".to_owned(),
        range: Some(range),
    };
    node.purge(&PurgeRequest {
        target,
        mode: Mode::Hard,
    });
}

fn mpd(inside: &str) -> String {
    format!(
        r#"<MPD type="dynamic" availabilityStartTime="{START}" timeShiftBufferDepth="PT60S" minimumUpdatePeriod="PT2S">
<Period id="0" start="PT0S"><AdaptationSet mimeType="video/mp4">
{inside}
<Representation id="v1" bandwidth="1000000"/><Representation id="v2" bandwidth="2000000"/>
</AdaptationSet></Period>{CLOCK}</MPD>"#
    )
}

fn counted() -> String {
    mpd(r#"<SegmentTemplate media="$RepresentationID$/$Number$.m4s" duration="2"/>"#)
}

/// Thirty segments of 2 s, the last one of which ends as the scenario begins.
fn listed() -> String {
    mpd(
        r#"<SegmentTemplate media="$RepresentationID$/$Time$.m4s" startNumber="3571"><SegmentTimeline>
<S t="7140" d="2" r="29"/></SegmentTimeline></SegmentTemplate>"#,
    )
}

fn serve(origin: &Origin, text: String) {
    origin.on(MPD, move |_| {
        let mut reply: Response<ReplyBody> = Response::new(whole(Bytes::from(text.clone())));
        let value = http::HeaderValue::from_static;
        let fields = reply.headers_mut();
        fields.insert("content-type", value("application/dash+xml"));
        fields.insert("etag", value("\"v1\""));
        std::future::ready(reply)
    });
}

fn serve_segments(origin: &Origin, names: impl Iterator<Item = u64>) {
    for name in names {
        for representation in ["v1", "v2"] {
            let fields = [("cache-control", "max-age=600")];
            let path = format!("/live/{representation}/{name}.m4s");
            origin.serve(&path, &fields, format!("segment {name}"));
        }
    }
}

#[test]
fn the_window_of_counted_segments_begins_after_what_was_purged_and_the_origin_is_not_asked_for_it()
{
    cdn(|t| async move {
        let origin = t.origin("origin");
        serve(&origin, counted());
        serve_segments(&origin, 3570..3601);
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let before = viewer.get(MPD).await;
        assert_eq!(before.text(), counted());
        assert_eq!(viewer.get("/live/v1/3585.m4s").await.status, StatusCode::OK);
        purge(&edge, 7160, 7181);
        // Segment 3591 plays from 7180 to 7182.
        for gone in ["v1/3581", "v1/3585", "v2/3591"] {
            let path = format!("/live/{gone}.m4s");
            assert_eq!(viewer.get(&path).await.status, StatusCode::GONE, "{gone}");
        }
        assert_eq!(origin.requests("/live/v1/3581.m4s"), 0);
        for kept in ["v1/3580", "v2/3592", "v1/3600"] {
            let path = format!("/live/{kept}.m4s");
            assert_eq!(viewer.get(&path).await.status, StatusCode::OK, "{kept}");
        }
        let tag = before.field("etag").to_owned();
        let after = viewer
            .open(MPD, &[("if-none-match", &tag)])
            .await
            .rest()
            .await;
        assert_eq!(after.status, StatusCode::OK, "it is another text");
        // 19 s are left; a segment stays available for twice its duration beyond the depth.
        assert!(
            after.text().contains("timeShiftBufferDepth=\"PT15.000S\""),
            "{}",
            after.text()
        );
        pass(Duration::from_secs(10)).await;
        let later = viewer.get(MPD).await;
        assert!(
            later.text().contains("timeShiftBufferDepth=\"PT25.000S\""),
            "{}",
            later.text()
        );
        pass(Duration::from_secs(120)).await;
        assert_eq!(viewer.get(MPD).await.text(), counted(), "it has passed");
    });
}

#[test]
fn a_timeline_names_nothing_that_was_purged() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        serve(&origin, listed());
        serve_segments(&origin, (7140..7200).step_by(2));
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        purge(&edge, 7150, 7159);
        let text = viewer.get(MPD).await;
        assert!(
            text.text().contains("<S t=\"7160\" d=\"2\" r=\"19\"/>"),
            "{}",
            text.text()
        );
        assert!(
            text.text().contains("startNumber=\"3581\""),
            "{}",
            text.text()
        );
        for (time, status) in [
            (7148, StatusCode::OK),
            (7150, StatusCode::GONE),
            (7158, StatusCode::GONE),
            (7160, StatusCode::OK),
        ] {
            let path = format!("/live/v2/{time}.m4s");
            assert_eq!(viewer.get(&path).await.status, status, "{time}");
        }
        assert_eq!(origin.requests("/live/v2/7150.m4s"), 0);
    });
}

#[test]
fn an_mpd_that_cannot_say_what_is_gone_is_gone_until_it_can() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        serve(&origin, counted());
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(MPD).await;
        purge(&edge, 7190, 7210);
        assert_eq!(
            viewer.get(MPD).await.status,
            StatusCode::GONE,
            "the live edge is in it"
        );
        pass(Duration::from_secs(11)).await;
        let received = viewer.get(MPD).await;
        assert_eq!(
            received.status,
            StatusCode::OK,
            "the live edge is beyond it"
        );
        assert!(
            received
                .text()
                .contains("timeShiftBufferDepth=\"PT0.000S\""),
            "{}",
            received.text()
        );
    });
}

#[test]
fn a_stretch_by_number_means_all_that_an_mpd_had_when_it_was_purged() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        serve(&origin, counted());
        serve_segments(&origin, 3599..3611);
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(MPD).await;
        purge_range(&edge, StreamRange::Msn { first: 3, last: 5 });
        assert_eq!(
            viewer.get("/live/v1/3599.m4s").await.status,
            StatusCode::GONE
        );
        pass(Duration::from_secs(20)).await;
        let text = viewer.get(MPD).await;
        assert!(
            text.text().contains("timeShiftBufferDepth=\"PT16.000S\""),
            "{}",
            text.text()
        );
        assert_eq!(viewer.get("/live/v1/3610.m4s").await.status, StatusCode::OK);
    });
}

#[test]
fn where_nothing_was_purged_an_mpd_is_as_its_origin_wrote_it() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        serve(&origin, listed());
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        // Before the window, and in another directory.
        purge(&edge, 7000, 7100);
        let other = Target::Stream {
            host: HOST.to_owned(),
            path: "/other/".to_owned(),
            range: Some(StreamRange::Msn { first: 0, last: 9 }),
        };
        edge.purge(&PurgeRequest {
            target: other,
            mode: Mode::Hard,
        });
        let received = viewer.get(MPD).await;
        assert_eq!(received.text(), listed());
        assert_eq!(received.field("etag"), "\"v1\"");
    });
}
