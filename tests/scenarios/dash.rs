//! DASH live: how long MPDs are kept, that they never run backwards, early requests, and the time.

use std::time::Duration;

use bytes::Bytes;
use harness::origin::{ReplyBody, ok, status, whole};
use harness::{Feed, cdn, pass};
use http::{Response, StatusCode};
use tokio::time::Instant;

/// Two hours into the presentation at the beginning of a scenario; segment 3601 ends 2 s later.
const START: &str = "2023-11-14T20:13:20Z";

/// What a node adds to an MPD that has none: here the origin names it already.
pub(crate) const CLOCK: &str =
    r#"<UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-xsdate:2014" value="/.seawall/time"/>"#;

/// Returns an MPD of two-second segments, each available `early` seconds before it is whole.
fn mpd(published: &str, kind: &str, period: &str, early: &str) -> String {
    format!(
        r#"<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="{kind}" availabilityStartTime="{START}" publishTime="{published}" minimumUpdatePeriod="{period}">
<Period id="0" start="PT0S"><AdaptationSet mimeType="video/mp4">
<SegmentTemplate media="$RepresentationID$/$Number$.m4s" startNumber="1" timescale="1" duration="2" availabilityTimeOffset="{early}"/>
<Representation id="v1" bandwidth="1000000"/>
</AdaptationSet></Period>{CLOCK}</MPD>"#
    )
}

fn mpd_reply(text: String) -> Response<ReplyBody> {
    let mut reply = Response::new(whole(Bytes::from(text)));
    let fields = reply.headers_mut();
    let value = http::HeaderValue::from_static;
    fields.insert("content-type", value("application/dash+xml"));
    reply
}

fn published(second: usize) -> String {
    format!("2023-11-14T22:13:{:02}Z", second)
}

#[test]
fn ld_10_an_mpd_is_asked_for_once_per_half_period_while_it_is_watched() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/live.mpd", |asked| async move {
            let mut reply = mpd_reply(mpd(&published(asked.before), "dynamic", "PT1S", "0"));
            let long = http::HeaderValue::from_static("max-age=60");
            reply.headers_mut().insert("cache-control", long);
            reply
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for _ in 0..100 {
            assert_eq!(viewer.get("/live.mpd").await.status, StatusCode::OK);
            pass(Duration::from_millis(50)).await;
        }
        let asked = origin.requests("/live.mpd");
        assert!((9..=11).contains(&asked), "{asked} requests in 5 s");
    });
}

#[test]
fn ld_10_an_mpd_without_update_period_of_its_own_is_newer_for_whoever_comes_after_an_event() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/live.mpd", |asked| async move {
            pass(Duration::from_millis(20)).await;
            mpd_reply(mpd(&published(asked.before), "dynamic", "PT0S", "0"))
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        assert!(viewer.get("/live.mpd").await.text().contains(&published(0)));
        let together: Vec<_> = (0..200).map(|_| viewer.start("/live.mpd")).collect();
        for got in together {
            let got = got.await.unwrap();
            assert!(got.text().contains(&published(1)), "{}", got.text());
        }
        assert_eq!(
            origin.requests("/live.mpd"),
            2,
            "all of them are one request"
        );
    });
}

#[test]
fn ld_10_a_viewer_never_sees_an_older_mpd_after_a_newer_one() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        // The third answer is of an origin that lags.
        origin.on("/live.mpd", |asked| async move {
            let second = [1, 5, 3, 6].get(asked.before).copied().unwrap_or(9);
            mpd_reply(mpd(&published(second), "dynamic", "PT0S", "0"))
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let mut seen = Vec::new();
        for _ in 0..5 {
            let got = viewer.get("/live.mpd").await;
            let at = [1, 3, 5, 6, 9]
                .into_iter()
                .find(|second| got.text().contains(&published(*second)));
            seen.push(at.expect("one of the versions"));
        }
        assert_eq!(seen, [1, 5, 5, 6, 9]);
    });
}

#[test]
fn ld_10_an_older_mpd_that_stays_is_shown_in_the_end() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/live.mpd", |asked| async move {
            let second = if asked.before == 0 { 9 } else { 1 };
            mpd_reply(mpd(&published(second), "dynamic", "PT0S", "0"))
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get("/live.mpd").await;
        assert!(viewer.get("/live.mpd").await.text().contains(&published(9)));
        pass(Duration::from_secs(31)).await;
        assert!(viewer.get("/live.mpd").await.text().contains(&published(1)));
    });
}

#[test]
fn ld_10_an_ended_presentation_does_not_go_live_again_and_is_kept_for_long() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/live.mpd", |asked| async move {
            let (kind, second) = match asked.before {
                0 => ("dynamic", 1),
                1 => ("static", 2),
                _ => ("dynamic", 1),
            };
            mpd_reply(mpd(&published(second), kind, "PT1S", "0"))
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get("/live.mpd").await;
        pass(Duration::from_secs(2)).await;
        assert!(viewer.get("/live.mpd").await.text().contains("static"));
        pass(Duration::from_secs(30)).await;
        assert!(viewer.get("/live.mpd").await.text().contains("static"));
        assert_eq!(origin.requests("/live.mpd"), 2);
    });
}

#[test]
fn ld_10_a_revalidated_mpd_keeps_the_lifetime_of_its_period() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/live.mpd", |asked| async move {
            let mut reply = mpd_reply(mpd(&published(1), "dynamic", "PT1S", "0"));
            if asked.before > 0 {
                assert_eq!(asked.fields["if-none-match"], "\"1\"");
                reply = status(StatusCode::NOT_MODIFIED);
            }
            let etag = http::HeaderValue::from_static("\"1\"");
            reply.headers_mut().insert("etag", etag);
            reply
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for _ in 0..50 {
            let got = viewer.get("/live.mpd").await;
            assert!(got.text().contains("<MPD"));
            pass(Duration::from_millis(50)).await;
        }
        let asked = origin.requests("/live.mpd");
        assert!((4..=6).contains(&asked), "{asked} requests in 2.5 s");
        let validated = viewer
            .get_with("/live.mpd", &[("if-none-match", "\"1\"")])
            .await;
        assert_eq!(validated.status, StatusCode::NOT_MODIFIED);
    });
}

#[test]
fn ld_01_a_request_before_the_segment_is_there_is_held_and_asked_on_once() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let began = Instant::now();
        origin.on("/live.mpd", |_| async {
            mpd_reply(mpd(&published(0), "dynamic", "PT60S", "1.5"))
        });
        // Available from 0.5 s on; the next one two seconds later.
        origin.on("/v1/3601.m4s", move |_| async move {
            if began.elapsed() < Duration::from_millis(500) {
                return status(StatusCode::NOT_FOUND);
            }
            ok(whole(Bytes::from_static(b"a segment")))
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get("/live.mpd").await;
        pass(Duration::from_millis(200)).await;
        let early: Vec<_> = (0..20).map(|_| viewer.start("/v1/3601.m4s")).collect();
        for got in early {
            let got = got.await.unwrap();
            assert_eq!((got.status, got.text()), (StatusCode::OK, "a segment"));
        }
        assert!(began.elapsed() >= Duration::from_millis(500));
        assert!(began.elapsed() < Duration::from_millis(600));
        assert_eq!(
            origin.requests("/v1/3601.m4s"),
            1,
            "no early request upstream"
        );
        let far = viewer.get("/v1/3603.m4s").await;
        assert_eq!(
            far.status,
            StatusCode::NOT_FOUND,
            "more than a segment ahead"
        );
        assert!(began.elapsed() < Duration::from_millis(700), "and not held");
    });
}

#[test]
fn fm_01_the_newest_segments_of_an_mpd_are_asked_for_again_while_the_origin_is_away() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/live.mpd", |_| async {
            mpd_reply(mpd(&published(0), "dynamic", "PT30S", "1.5"))
        });
        for number in [3000, 3600, 3601] {
            origin.serve(&format!("/v1/{number}.m4s"), &[], "media");
        }
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        viewer.get("/live.mpd").await;
        t.network().set_up("origin", false);
        origin.cut_connections();
        // dash.js gives up after 1.5 s of errors that come at once.
        let newest = ["/v1/3600.m4s", "/v1/3601.m4s"].map(|path| viewer.start(path));
        let asked_at = Instant::now();
        let old = viewer.get("/v1/3000.m4s").await;
        assert!(old.status.is_server_error());
        assert!(asked_at.elapsed() < Duration::from_secs(1));
        pass(Duration::from_millis(1_200)).await;
        t.network().set_up("origin", true);
        for got in newest {
            assert_eq!(got.await.unwrap().body, "media");
        }
    });
}

#[test]
fn ld_01_ca_22_early_requests_are_held_within_the_limit_of_the_node() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/live.mpd", |_| async {
            mpd_reply(mpd(&published(0), "dynamic", "PT60S", "1"))
        });
        origin.serve("/v1/3601.m4s", &[], "a segment");
        let edge = t.node_with("edge", &["origin"], |config| config.live.held_max = 1);
        let viewer = t.viewer("edge");
        viewer.get("/live.mpd").await;
        let held = viewer.start("/v1/3601.m4s");
        pass(Duration::from_millis(10)).await;
        assert_eq!(edge.levels().held_requests, 1);
        let refused = viewer.get("/v1/3601.m4s").await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(held.await.unwrap().status, StatusCode::OK);
        assert_eq!(edge.levels().held_requests, 0);
    });
}

#[test]
fn ld_13_the_time_is_told_here_to_the_millisecond_and_never_kept() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        pass(Duration::from_millis(1_234)).await;
        let told = viewer.get("/.seawall/time").await;
        assert_eq!(told.text(), "2023-11-14T22:13:21.234Z");
        assert_eq!(told.field("cache-control"), "no-store");
        assert_eq!(told.field("date"), "Tue, 14 Nov 2023 22:13:21 GMT");
        let head = viewer.send("HEAD", "/.seawall/time", &[]).await;
        assert_eq!(head.status, StatusCode::OK);
        assert!(head.rest().await.body.is_empty());
        assert!(origin.asked().is_empty());
    });
}

#[test]
fn ld_09_an_incremental_response_is_passed_on_byte_by_byte_and_says_so() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let (feed, body) = Feed::new();
        let body = std::sync::Mutex::new(Some(body));
        origin.on("/events", move |_| {
            let body = body.lock().expect("nobody panics while asking").take();
            async move {
                let mut reply = ok(body.expect("asked once"));
                let incremental = http::HeaderValue::from_static("?1");
                reply.headers_mut().insert("incremental", incremental);
                reply
            }
        });
        let _edge = t.node("edge", &["origin"]);
        feed.send("one").await;
        let fields = [("accept-encoding", "gzip, br")];
        let mut opened = t.viewer("edge").open("/events", &fields).await;
        assert_eq!(opened.fields["incremental"], "?1");
        assert_eq!(opened.next().await.unwrap().unwrap(), "one");
        feed.send("two").await;
        assert_eq!(opened.next().await.unwrap().unwrap(), "two");
        drop(feed);
        assert!(opened.rest().await.is_whole);
    });
}

/// Returns an MPD that lists ten segments of two seconds, the last of which ends two hours in, by `$name$`.
fn listed(name: &str) -> String {
    format!(
        r#"<MPD type="dynamic" availabilityStartTime="{START}" publishTime="2023-11-14T22:13:20Z" minimumUpdatePeriod="PT2S">
<Period id="0" start="PT0S"><AdaptationSet mimeType="video/mp4">
<SegmentTemplate media="$RepresentationID$/{name}.m4s" startNumber="3591" timescale="10">
<SegmentTimeline><S t="71800" d="20" r="9"/></SegmentTimeline></SegmentTemplate>
<Representation id="v1" bandwidth="1000000"/></AdaptationSet></Period>{CLOCK}</MPD>"#
    )
}

#[test]
fn ld_01_a_request_for_the_segment_after_a_timeline_is_held_until_it_is_to_be_expected() {
    for (name, next, after_next) in [
        ("$Time$", "/v1/72000.m4s", "/v1/72020.m4s"),
        ("$Number$", "/v1/3601.m4s", "/v1/3602.m4s"),
    ] {
        cdn(|t| async move {
            let origin = t.origin("origin");
            let began = Instant::now();
            origin.on("/live.mpd", move |_| async move { mpd_reply(listed(name)) });
            origin.on(next, move |_| async move {
                if began.elapsed() < Duration::from_secs(2) {
                    return status(StatusCode::NOT_FOUND);
                }
                ok(whole(Bytes::from_static(b"a segment")))
            });
            let _edge = t.node("edge", &["origin"]);
            let viewer = t.viewer("edge");
            viewer.get("/live.mpd").await;
            pass(Duration::from_millis(500)).await;
            let far = viewer.get(after_next).await;
            assert_eq!(far.status, StatusCode::NOT_FOUND, "more than one ahead");
            assert!(began.elapsed() < Duration::from_millis(600), "and not held");
            let early: Vec<_> = (0..20).map(|_| viewer.start(next)).collect();
            for got in early {
                let got = got.await.unwrap();
                assert_eq!((got.status, got.text()), (StatusCode::OK, "a segment"));
            }
            assert!(began.elapsed() >= Duration::from_secs(2));
            assert!(began.elapsed() < Duration::from_millis(2_100));
            assert_eq!(origin.requests(next), 1, "no early request upstream");
        });
    }
}

#[test]
fn ld_01_a_segment_that_does_not_come_when_it_is_to_be_expected_is_404_then() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/live.mpd", |_| async { mpd_reply(listed("$Time$")) });
        let edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get("/live.mpd").await;
        let began = Instant::now();
        let early = viewer.start("/v1/72000.m4s");
        pass(Duration::from_millis(1_900)).await;
        assert_eq!(edge.levels().held_requests, 1);
        assert_eq!(early.await.unwrap().status, StatusCode::NOT_FOUND);
        assert!(began.elapsed() < Duration::from_millis(2_100));
        assert_eq!(edge.levels().held_requests, 0);
        assert_eq!(origin.requests("/v1/72000.m4s"), 1, "asked on once");
    });
}

#[test]
fn fm_01_the_newest_segments_of_a_timeline_are_asked_for_again_while_the_origin_is_away() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/live.mpd", |_| async { mpd_reply(listed("$Time$")) });
        origin.serve("/v1/71980.m4s", &[], "media");
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        viewer.get("/live.mpd").await;
        t.network().set_up("origin", false);
        origin.cut_connections();
        let newest = viewer.start("/v1/71980.m4s");
        let asked_at = Instant::now();
        assert!(viewer.get("/v1/71800.m4s").await.status.is_server_error());
        assert!(asked_at.elapsed() < Duration::from_secs(1), "an old one");
        pass(Duration::from_millis(1_200)).await;
        t.network().set_up("origin", true);
        assert_eq!(newest.await.unwrap().body, "media");
    });
}
