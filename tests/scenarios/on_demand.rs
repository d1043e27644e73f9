//! What is not live: HLS and DASH on demand, with keys, subtitles and I-frames, as one viewer after the other plays it.

use std::time::Duration;

use harness::origin::Origin;
use harness::{cdn, pass};
use http::StatusCode;

const HLS: (&str, &str) = ("content-type", "application/vnd.apple.mpegurl");
const LONG: (&str, &str) = ("cache-control", "max-age=86400");

const MULTIVARIANT: &str = "#EXTM3U\n\
    #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"en\",URI=\"s/en.m3u8\"\n\
    #EXT-X-STREAM-INF:BANDWIDTH=1000000,SUBTITLES=\"s\"\nv/index.m3u8\n\
    #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=100000,URI=\"v/iframes.m3u8\"\n";

/// A rendition of two segments; `head` comes before them.
fn rendition(head: &str, extension: &str) -> String {
    format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n{head}\
         #EXTINF:4.0,\n0.{extension}\n#EXTINF:4.0,\n1.{extension}\n#EXT-X-ENDLIST\n"
    )
}

/// The keys of the stream: one by its extension, two by nothing but their playlist.
const KEYS: [&str; 3] = ["/vod/keys/1.key", "/vod/license?kid=2", "/vod/v/key.ts"];

fn serve_hls(origin: &Origin) {
    let keys = KEYS.map(|uri| format!("#EXT-X-KEY:METHOD=AES-128,URI=\"{uri}\"\n"));
    for (path, text) in [
        ("/vod/index.m3u8", MULTIVARIANT.to_owned()),
        ("/vod/v/index.m3u8", rendition(&keys.concat(), "ts")),
        ("/vod/s/en.m3u8", rendition("", "vtt")),
        (
            "/vod/v/iframes.m3u8",
            rendition("#EXT-X-I-FRAMES-ONLY\n", "ts"),
        ),
    ] {
        origin.serve(path, &[HLS], text);
    }
    for path in ["/vod/v/0.ts", "/vod/v/1.ts", "/vod/s/0.vtt", "/vod/s/1.vtt"] {
        origin.serve(path, &[LONG], "media");
    }
}

#[test]
fn a_stream_on_demand_is_asked_for_once_with_its_subtitles_and_i_frames() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        serve_hls(&origin);
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        let paths = [
            "/vod/index.m3u8",
            "/vod/v/index.m3u8",
            "/vod/s/en.m3u8",
            "/vod/v/iframes.m3u8",
            "/vod/v/0.ts",
            "/vod/v/1.ts",
            "/vod/s/0.vtt",
            "/vod/s/1.vtt",
        ];
        for _ in 0..20 {
            for path in paths {
                assert_eq!(viewer.get(path).await.status, StatusCode::OK, "{path}");
            }
        }
        for path in paths {
            assert_eq!(origin.requests(path), 1, "{path}");
        }
        // Directives of a player that mistakes it for a live one change nothing (LL-10).
        let asked = viewer
            .get("/vod/v/index.m3u8?_HLS_msn=7&_HLS_skip=YES")
            .await;
        assert!(asked.text().ends_with("#EXT-X-ENDLIST\n"));
    });
}

#[test]
fn ll_29_keys_are_kept_only_as_long_as_their_origin_states() {
    for (stated, asked) in [(None, 5), (Some("max-age=2"), 2), (Some("no-store"), 5)] {
        cdn(|t| async move {
            let origin = t.origin("origin");
            serve_hls(&origin);
            let fields: Vec<_> = stated
                .map(|value| ("cache-control", value))
                .into_iter()
                .collect();
            for key in KEYS {
                let path = key.split('?').next().unwrap();
                origin.serve(path, &fields, "0123456789abcdef");
            }
            let _edge = t.node("edge", &["origin"]);
            let viewer = t.viewer("edge");
            viewer.get("/vod/v/index.m3u8").await;
            for _ in 0..5 {
                for key in KEYS {
                    assert_eq!(viewer.get(key).await.text(), "0123456789abcdef");
                }
                pass(Duration::from_millis(900)).await;
            }
            for key in KEYS {
                assert_eq!(origin.requests_exactly(key), asked, "{key} {stated:?}");
            }
        });
    }
}

#[test]
fn ll_29_a_key_that_its_origin_refuses_is_refused_to_whoever_asks_next_by_a_request_of_its_own() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        origin.on("/vod/keys/1.key", |asked| {
            let refused = harness::origin::status(StatusCode::FORBIDDEN);
            let given = harness::origin::ok(harness::origin::whole("key".into()));
            std::future::ready(if asked.before == 0 { refused } else { given })
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let first = viewer.get("/vod/keys/1.key").await;
        assert_eq!(first.status, StatusCode::FORBIDDEN);
        assert_eq!(viewer.get("/vod/keys/1.key").await.text(), "key");
    });
}

#[test]
fn a_dash_presentation_on_demand_is_asked_for_once_and_its_index_by_range() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let mpd = "<MPD type=\"static\" mediaPresentationDuration=\"PT8S\"><Period><AdaptationSet>\
                   <Representation id=\"v\" bandwidth=\"1\"><BaseURL>v.mp4</BaseURL>\
                   <SegmentBase indexRange=\"4-7\"/></Representation></AdaptationSet></Period></MPD>";
        origin.serve(
            "/vod/vod.mpd",
            &[("content-type", "application/dash+xml")],
            mpd,
        );
        origin.serve(
            "/vod/v.mp4",
            &[LONG, ("etag", "\"1\"")],
            "init".to_owned() + "sidx" + "media",
        );
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for _ in 0..3 {
            let got = viewer.get("/vod/vod.mpd").await;
            assert_eq!(got.text(), mpd, "a static one names no clock");
            for (range, bytes) in [
                ("bytes=0-3", "init"),
                ("bytes=4-7", "sidx"),
                ("bytes=8-", "media"),
            ] {
                let got = viewer.get_with("/vod/v.mp4", &[("range", range)]).await;
                assert_eq!(
                    (got.status, got.text()),
                    (StatusCode::PARTIAL_CONTENT, bytes)
                );
            }
            pass(Duration::from_secs(10)).await;
        }
        assert_eq!(origin.requests("/vod/vod.mpd"), 1);
        assert_eq!(origin.requests("/vod/v.mp4"), 1);
    });
}

#[test]
fn ca_01_ll_29_a_key_of_a_live_playlist_is_one_whatever_it_is_called() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = harness::Live::start(&origin, "/live/v0/playlist.m3u8", 8);
        let tag = "#EXT-X-MAP:URI=\"init.mp4\"\n";
        let with_key = format!("#EXT-X-KEY:METHOD=AES-128,URI=\"key.m4s\"\n{tag}");
        let text = live.text().replace(tag, &with_key);
        assert!(text.contains("key.m4s"));
        origin.serve("/live/v0/playlist.m3u8", &[HLS], text);
        origin.serve("/live/v0/key.m4s", &[], "key");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get("/live/v0/playlist.m3u8").await;
        for asked in 1..=3 {
            assert_eq!(viewer.get("/live/v0/key.m4s").await.text(), "key");
            assert_eq!(origin.requests("/live/v0/key.m4s"), asked);
        }
    });
}
