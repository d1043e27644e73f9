//! Patches of MPDs: whose they are, how long they are kept, and that they undo nothing (LD-14).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use harness::origin::{Origin, ReplyBody, status, whole};
use harness::{cdn, pass};
use http::{HeaderValue, Response, StatusCode};
use lab::origin::OriginConfig;
use node::node::Node;
use purge_log::{Mode, PurgeRequest, StreamRange, Target, UnixMillis};

use crate::dash::CLOCK;

const MPD: &str = "/live/live.mpd";
/// Outside of the directory of the MPD, and without an extension that would tell what it is.
const PATCH: &str = "/patches/live";

/// A second of the hour in which scenarios begin at 13:20.
fn at(seconds: u64) -> String {
    let (minutes, seconds) = (13 + (20 + seconds) / 60, (20 + seconds) % 60);
    format!("2023-11-14T22:{minutes}:{seconds:02}Z")
}

fn location(version: u64, ttl: u64) -> String {
    format!(
        "<PatchLocation ttl=\"{ttl}\">{PATCH}?publishTime={}&amp;a=1</PatchLocation>",
        at(version)
    )
}

/// Where the patch of a version is, in the order of parameters that a key has.
fn target(version: u64) -> String {
    format!("{PATCH}?a=1&publishTime={}", at(version))
}

fn mpd(version: u64, ttl: u64) -> String {
    let (published, location) = (at(version), location(version, ttl));
    format!(
        r#"<MPD id="a" type="dynamic" availabilityStartTime="2023-11-14T20:13:20Z" publishTime="{published}" minimumUpdatePeriod="PT4S" timeShiftBufferDepth="PT60S">{location}
<Period id="0" start="PT0S"><AdaptationSet mimeType="video/mp4">
<SegmentTemplate media="$Number$.m4s" duration="2"/><Representation id="v1" bandwidth="1"/>
</AdaptationSet></Period>{CLOCK}</MPD>"#
    )
}

fn patch(from: u64, to: u64, operations: &str) -> String {
    let (original, published) = (at(from), at(to));
    format!(
        "<Patch xmlns=\"urn:mpeg:dash:schema:mpd-patch:2020\" mpdId=\"a\" originalPublishTime=\"{original}\" \
         publishTime=\"{published}\">{operations}</Patch>"
    )
}

fn reply(content_type: &'static str, text: String) -> Response<ReplyBody> {
    let mut reply = Response::new(whole(Bytes::from(text)));
    let fields = reply.headers_mut();
    fields.insert("content-type", HeaderValue::from_static(content_type));
    fields.insert("etag", HeaderValue::from_static("\"v1\""));
    reply
}

fn patch_reply(text: String) -> Response<ReplyBody> {
    reply("application/dash-patch+xml", text)
}

/// Serves version 0 of the MPD.
fn serve_mpd(origin: &Origin, ttl: u64) {
    origin.on(MPD, move |_| {
        std::future::ready(reply("application/dash+xml", mpd(0, ttl)))
    });
}

/// Serves patches that lead from the version that is asked for to the one `to` seconds after it.
fn serve_patches(origin: &Origin, operations: impl Fn(u64) -> String + Send + Sync + 'static) {
    origin.on(PATCH, move |asked| {
        let from = asked.parameter("publishTime").expect("it is in the key");
        let from = (0..600)
            .find(|second| at(*second) == from)
            .expect("a version");
        std::future::ready(patch_reply(patch(from, from + 4, &operations(from))))
    });
}

#[test]
fn ld_14_a_patch_is_asked_for_once_for_each_version_and_kept_as_long_as_its_mpd() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        serve_mpd(&origin, 60);
        serve_patches(&origin, |from| {
            let next = location(from + 4, 60);
            format!("<replace sel=\"/MPD/PatchLocation[1]\">{next}</replace>")
        });
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        viewer.get(MPD).await;
        // Nobody reads the MPD again: each patch says where the next one is.
        for version in [0, 4, 8] {
            let path = format!("{PATCH}?publishTime={}&a=1", at(version));
            let together: Vec<_> = (0..50).map(|_| viewer.start(&path)).collect();
            for got in together {
                let got = got.await.unwrap();
                assert_eq!(got.status, StatusCode::OK);
                let led_to = format!("publishTime=\"{}\"", at(version + 4));
                assert!(got.text().contains(&led_to), "{}", got.text());
            }
            assert_eq!(origin.requests_exactly(&target(version)), 1);
            // Half an update period at each tier.
            pass(Duration::from_millis(900)).await;
            assert_eq!(viewer.get(&path).await.status, StatusCode::OK);
            assert_eq!(origin.requests_exactly(&target(version)), 1);
            pass(Duration::from_secs(20)).await;
            assert_eq!(viewer.get(&path).await.status, StatusCode::OK);
            assert_eq!(origin.requests_exactly(&target(version)), 2);
        }
        assert_eq!(origin.requests(MPD), 1);
    });
}

#[test]
fn ld_14_a_patch_is_not_kept_for_longer_than_its_place_is_there_or_its_origin_says() {
    // An MPD of this period is kept for two seconds, and by this node's rules for one.
    for (ttl, cache_control, asked_after, kept_for) in [
        (60, None, 0, 1_000),
        (60, Some("max-age=30"), 700, 1_000),
        (60, Some("no-cache"), 0, 0),
        (1, None, 700, 300),
        (1, Some("max-age=30"), 700, 300),
        (1, None, 1_000, 0),
    ] {
        cdn(|t| async move {
            let origin = t.origin("origin");
            serve_mpd(&origin, ttl);
            origin.on(PATCH, move |_| {
                let mut reply = patch_reply(patch(0, 4, ""));
                if let Some(value) = cache_control {
                    let value = HeaderValue::from_static(value);
                    reply.headers_mut().insert("cache-control", value);
                }
                std::future::ready(reply)
            });
            let _edge = t.node("edge", &["origin"]);
            let viewer = t.viewer("edge");
            viewer.get(MPD).await;
            pass(Duration::from_millis(asked_after)).await;
            viewer.get(&target(0)).await;
            if kept_for > 0 {
                pass(Duration::from_millis(kept_for - 50)).await;
                viewer.get(&target(0)).await;
            }
            assert_eq!(origin.requests(PATCH), 1, "{ttl} {cache_control:?}");
            pass(Duration::from_millis(100)).await;
            viewer.get(&target(0)).await;
            pass(Duration::from_millis(100)).await;
            assert_eq!(origin.requests(PATCH), 2, "{ttl} {cache_control:?}");
        });
    }
}

#[test]
fn ld_14_no_patch_yet_and_no_patch_any_more_are_told_at_once_and_not_kept() {
    for (refused, kept_for) in [(StatusCode::TOO_EARLY, 0), (StatusCode::GONE, 1_000)] {
        cdn(|t| async move {
            let origin = t.origin("origin");
            serve_mpd(&origin, 60);
            origin.on(PATCH, move |asked| {
                std::future::ready(match asked.before {
                    0 => status(refused),
                    _ => patch_reply(patch(0, 4, "")),
                })
            });
            let _edge = t.node("edge", &["origin"]);
            let viewer = t.viewer("edge");
            viewer.get(MPD).await;
            let began = tokio::time::Instant::now();
            assert_eq!(viewer.get(&target(0)).await.status, refused);
            assert!(began.elapsed() < Duration::from_millis(10), "not held");
            pass(Duration::from_millis(kept_for)).await;
            assert_eq!(viewer.get(&target(0)).await.status, StatusCode::OK);
        });
    }
}

#[test]
fn ld_10_ld_14_a_patch_to_an_older_version_is_not_shown_after_one_to_a_newer() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        serve_mpd(&origin, 60);
        // The second answer is of an origin that lags.
        origin.on(PATCH, |asked| {
            let to = [8, 4, 12].get(asked.before).copied().unwrap_or(16);
            std::future::ready(patch_reply(patch(0, to, "")))
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(MPD).await;
        let mut seen = Vec::new();
        for _ in 0..4 {
            let got = viewer.get(&target(0)).await;
            let to = [4, 8, 12, 16].into_iter().find(|to| {
                let published = format!(" publishTime=\"{}\"", at(*to));
                got.text().contains(&published)
            });
            seen.push(to.expect("one of the versions"));
            pass(Duration::from_millis(4_500)).await;
        }
        assert_eq!(seen, [8, 8, 12, 16]);
    });
}

#[test]
fn ld_14_a_patch_of_another_mpd_or_that_leads_nowhere_is_nobody_elses() {
    let of_another = patch(0, 4, "").replace("mpdId=\"a\"", "mpdId=\"b\"");
    for text in [of_another, patch(4, 4, ""), "<Patch/>".to_owned()] {
        cdn(|t| async move {
            let origin = t.origin("origin");
            serve_mpd(&origin, 60);
            let served = text.clone();
            origin.on(PATCH, move |_| {
                std::future::ready(patch_reply(served.clone()))
            });
            let _edge = t.node("edge", &["origin"]);
            let viewer = t.viewer("edge");
            viewer.get(MPD).await;
            for asked in 1..=3 {
                assert_eq!(viewer.get(&target(0)).await.text(), text);
                assert_eq!(origin.requests(PATCH), asked);
            }
        });
    }
}

#[test]
fn ld_13_ld_14_a_patch_says_nothing_of_clocks_that_the_mpd_has_not() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        serve_mpd(&origin, 60);
        let kept = "<replace sel=\"/MPD/@publishTime\">later</replace>";
        serve_patches(&origin, move |_| {
            format!("<remove sel=\"/MPD/UTCTiming[1]\"/>{kept}")
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(MPD).await;
        let got = viewer.get(&target(0)).await;
        assert_eq!(got.text(), patch(0, 4, kept));
        assert_eq!(got.field("etag"), "W/\"v1\"");
    });
}

fn purge(node: &Node, from_second: u64, to_second: u64) {
    // Two hours and more into the presentation.
    let at = |second: u64| UnixMillis((1_700_000_000 + second - 60) * 1000);
    node.purge(&PurgeRequest {
        target: Target::Stream {
            host: "live.example".to_owned(),
            path: "/live/".to_owned(),
            range: Some(StreamRange::WallClock {
                from: at(from_second),
                to: at(to_second),
            }),
        },
        mode: Mode::Hard,
    });
}

#[test]
fn ld_14_a_patch_does_not_undo_a_purge_of_part_of_its_mpd() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        serve_mpd(&origin, 60);
        serve_patches(&origin, |_| String::new());
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        assert!(viewer.get(MPD).await.text().contains("<PatchLocation"));
        assert_eq!(viewer.get(&target(0)).await.status, StatusCode::OK);
        purge(&edge, 10, 20);
        // Whoever has the MPD from before reads it anew, and no player comes back with a patch.
        assert_eq!(viewer.get(&target(0)).await.status, StatusCode::GONE);
        let trimmed = viewer.get(MPD).await;
        assert_eq!(trimmed.status, StatusCode::OK);
        assert!(
            !trimmed.text().contains("<PatchLocation"),
            "{}",
            trimmed.text()
        );
        // Of a version that this node has not seen, too.
        assert_eq!(viewer.get(&target(4)).await.status, StatusCode::GONE);
        // The stretch leaves the window, and patches are for all again.
        pass(Duration::from_secs(130)).await;
        assert!(viewer.get(MPD).await.text().contains("<PatchLocation"));
        assert_eq!(viewer.get(&target(0)).await.status, StatusCode::OK);
    });
}

/// Adds the origin of the lab, whose presentation begins with the scenario.
fn lab_origin(t: &harness::Cdn) {
    let config = OriginConfig {
        start: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
        ..OriginConfig::default()
    };
    let origin = Arc::new(lab::origin::Origin::new(config).expect("the defaults are allowed"));
    let accept = move |pipe| {
        let origin = Arc::clone(&origin);
        harness::viewer::background(origin.serve_connection(pipe));
    };
    t.network().listen("origin", Arc::new(accept));
}

#[test]
fn ld_14_a_player_stays_current_by_patches_through_two_nodes() {
    cdn(|t| async move {
        lab_origin(&t);
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        let mpd = viewer.get("/plain/patched.mpd").await;
        let mut place = place_of_next(mpd.text());
        for _ in 0..10 {
            // Half an update period at each tier, and the segment itself.
            pass(Duration::from_secs(4)).await;
            let patch = viewer.get(&place).await;
            assert_eq!(patch.status, StatusCode::OK, "{place}");
            let next = place_of_next(patch.text());
            let newest = viewer.get("/plain/patched.mpd").await;
            assert_eq!(next, place_of_next(newest.text()), "as new as the MPD");
            assert_ne!(next, place);
            place = next;
        }
    });
}

/// Returns where the patch of a version is, by its MPD or by the patch that leads to it.
fn place_of_next(text: &str) -> String {
    let (_, rest) = text
        .split_once("<PatchLocation ttl=\"24\">")
        .expect("the lab has patches");
    let (place, _) = rest.split_once('<').expect("it ends");
    format!("/plain/{place}")
}
