//! The origin linter: what an origin does wrong is counted where its operator can see it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harness::origin::{Origin, ok, whole};
use harness::viewer::background;
use harness::{Feed, Live, Viewer, cdn, pass};
use http::{HeaderValue, StatusCode};
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

/// How the next part is named: what parents write may have secrets.
const HINTED: &str = "seg2.0.m4s?token=s3cret";

/// What a playlist is answered with.
#[derive(Clone)]
enum Next {
    /// This, as soon as it is asked for.
    Text(String),
    /// Nothing, ever.
    Silence,
}

/// Returns a playlist of so many parts, each four of which are a segment of two seconds.
fn with_parts(parts: u64) -> String {
    Live::start(&Origin::default(), PLAYLIST, parts).text()
}

/// Returns a playlist in which segment 1 is dated, and segment 2 is dated with `date`.
fn dated(date: &str) -> String {
    let tag = "#EXT-X-PROGRAM-DATE-TIME:2026-02-14T02:13:";
    let text = with_parts(12);
    let text = text.replace(
        "#EXTINF:2.0,\nseg1",
        &format!("{tag}10Z\n#EXTINF:2.0,\nseg1"),
    );
    text.replace(
        "#EXTINF:2.0,\nseg2",
        &format!("{tag}{date}\n#EXTINF:2.0,\nseg2"),
    )
}

/// Answers plainly with eight parts, the next hinted with a token, and every blocking reload with `next`.
fn goes_on_with(origin: &Origin, next: &Next) {
    let next = next.clone();
    origin.on(PLAYLIST, move |asked| {
        let next = next.clone();
        async move {
            let text = match (asked.parameter("_HLS_msn"), next) {
                (None, _) => with_parts(8).replace("seg2.0.m4s", HINTED),
                (Some(_), Next::Text(text)) => text.replace("seg2.0.m4s", HINTED),
                (Some(_), Next::Silence) => std::future::pending().await,
            };
            let mut reply = ok(whole(Bytes::from(text)));
            let hls = HeaderValue::from_static("application/vnd.apple.mpegurl");
            reply.headers_mut().insert("content-type", hls);
            reply
        }
    });
}

#[test]
fn every_lapse_is_counted_and_told_with_its_evidence() {
    let text = |text: String| Next::Text(text);
    let cases = [
        (
            "target_duration_changed",
            text(with_parts(9).replace("TARGETDURATION:2", "TARGETDURATION:3")),
            "the target duration changed from 2s to 3s",
        ),
        (
            "date_jumped",
            text(dated("40Z")),
            "the date of segment 2 is 28s away from the end of the one before",
        ),
        (
            "map_missing",
            text(with_parts(12).replace("#EXT-X-MAP:URI=\"init.mp4\"\n", "")),
            "is fragmented MP4 and has no EXT-X-MAP",
        ),
        (
            "too_long",
            text(with_parts(12).replace("2.0,\nseg2", "3.9,\nseg2")),
            "segment 2 lasts 3.9s, longer than the target duration",
        ),
        (
            "answered_early",
            text(with_parts(8)),
            "a request for 2.0 was answered although 2.0 is next",
        ),
        (
            "held_too_long",
            Next::Silence,
            "a request for 2.0 had no answer for",
        ),
        (
            "went_back",
            text(with_parts(7)),
            "1.3 is next again, after 2.0",
        ),
        ("playlist_malformed", text("gone".to_owned()), ""),
        (
            "hint_not_kept",
            text(with_parts(9).replace("seg2.0.m4s", "ad.m4s")),
            "seg2.0.m4s?token=- was hinted, and is neither listed nor hinted any more",
        ),
    ];
    for (rule, next, evidence) in cases {
        cdn(|t| async move {
            let origin = t.origin("origin");
            goes_on_with(&origin, &next);
            let edge = t.node("edge", &["origin"]);
            t.viewer("edge").get(PLAYLIST).await;
            pass(Duration::from_secs(21)).await;
            assert!(count(&edge, rule) >= 1, "{rule}");
            let lapses = edge.status(false).lapses;
            let told = lapses.recent.iter().find(|told| told.rule == rule);
            let told = told.unwrap_or_else(|| panic!("{rule} is not told"));
            assert!(told.evidence.contains(evidence), "{rule}: {told:?}");
            assert_eq!((&*told.host, &*told.path), ("live.example", PLAYLIST));
            assert!(
                !format!("{lapses:?}").contains("s3cret"),
                "invariant 7: {rule}"
            );
            assert!(lapses.total >= told.times && told.times >= 1, "{rule}");
        });
    }
}

#[test]
fn dates_that_fit_and_playlists_that_keep_the_rules_are_no_lapse() {
    for next in [dated("12Z"), with_parts(9), with_parts(12)] {
        cdn(|t| async move {
            let origin = t.origin("origin");
            goes_on_with(&origin, &Next::Text(next));
            let edge = t.node("edge", &["origin"]);
            let viewer = t.viewer("edge");
            viewer.get(PLAYLIST).await;
            see(&viewer, 2, 0).await;
            let mut told = edge.status(false).lapses.recent;
            // This origin has nothing more to say, and says it at once.
            told.retain(|told| told.rule != "answered_early");
            assert_eq!(told, []);
        });
    }
}

/// Returns the evidence that is told of a rule, and how often it was seen.
fn told(edge: &Arc<Node>, rule: &str) -> Option<(String, String, u64)> {
    let recent = edge.status(false).lapses.recent;
    let told = recent.into_iter().find(|told| told.rule == rule);
    told.map(|told| (told.path, told.evidence, told.times))
}

#[test]
fn lb_12_media_without_a_lifetime_is_counted_and_told_by_its_directory() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.serve("/live/v0/seg1.m4s", &[], "media");
        origin.serve("/live/v0/seg2.m4s", &[], "media");
        for (path, field) in [
            ("/live/v0/seg3.m4s", ("cache-control", "max-age=60")),
            ("/live/v0/seg4.m4s", ("cache-control", "no-store")),
            (
                "/live/v0/seg5.m4s",
                ("expires", "Tue, 14 Nov 2023 23:00:00 GMT"),
            ),
            ("/live/logo.png", ("content-type", "image/png")),
        ] {
            origin.serve(path, &[field], "media");
        }
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for path in [
            "v0/seg3.m4s",
            "v0/seg4.m4s",
            "v0/seg5.m4s",
            "logo.png",
            "v0/none.m4s",
        ] {
            viewer.get(&format!("/live/{path}")).await;
        }
        assert_eq!(told(&edge, "lifetime_missing"), None);
        viewer.get("/live/v0/seg1.m4s").await;
        viewer.get("/live/v0/seg1.m4s").await;
        viewer.get("/live/v0/seg2.m4s?token=s3cret").await;
        let (path, evidence, times) = told(&edge, "lifetime_missing").expect("it is told");
        assert_eq!((&*path, times), ("/live/v0/", 2), "a hit is no news");
        let of_first = "seg1.m4s has no Cache-Control: it is kept for 60s here";
        assert_eq!(evidence, of_first, "one text a second is enough");
        assert_eq!(count(&edge, "lifetime_missing"), 2);
    });
}

#[test]
fn fm_22_a_body_that_ends_too_early_is_counted_and_told_although_it_is_resumed() {
    let (ok_first, error_first) = (StatusCode::OK, StatusCode::INTERNAL_SERVER_ERROR);
    // What is not passed on as it comes is only known to have ended too early.
    for (first, length, evidence) in [
        (ok_first, Some("9"), "after 4 of 9 bytes"),
        (ok_first, None, "after 4 bytes, without its last chunk"),
        (error_first, Some("9"), "before its 9 bytes had come"),
        (error_first, None, "without its last chunk"),
    ] {
        cdn(|t| async move {
            let origin = t.origin("origin");
            origin.on("/live/v0/seg1.m4s", move |asked| async move {
                if asked.before > 0 {
                    return ok(whole(Bytes::from_static(b"whole now")));
                }
                let (feed, body) = Feed::new();
                feed.send("whol").await;
                background(async move {
                    pass(Duration::from_millis(10)).await;
                    feed.reset().await;
                });
                let mut reply = ok(body);
                *reply.status_mut() = first;
                if let Some(length) = length {
                    let length = HeaderValue::from_static(length);
                    reply.headers_mut().insert("content-length", length);
                }
                reply
            });
            let edge = t.node("edge", &["origin"]);
            let viewer = t.viewer("edge");
            let got = viewer.get("/live/v0/seg1.m4s").await;
            assert_eq!(got.status.is_success(), first.is_success());
            let got = viewer.get("/live/v0/seg1.m4s").await;
            assert_eq!(got.text(), "whole now");
            let (path, told, times) = told(&edge, "body_short").expect("it is told");
            let evidence = format!("seg1.m4s ended {evidence}");
            assert_eq!((&*path, &*told, times), ("/live/v0/", &*evidence, 1));
            assert_eq!(count(&edge, "body_short"), 1);
        });
    }
}
