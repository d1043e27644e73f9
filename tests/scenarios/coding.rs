//! Content codings: playlists and manifests compressed once, in the form each viewer wants.

use std::io::Read;

use bytes::Bytes;
use harness::origin::{Origin, ok, whole};
use harness::playlist::gzip;
use harness::viewer::Received;
use harness::{Live, cdn};
use http::StatusCode;

use crate::dash::CLOCK;

const PLAYLIST: &str = "/live/v0/playlist.m3u8";

/// What is asked for, and what comes of it.
const CODINGS: [(&str, &str); 5] = [
    ("gzip, deflate, br, zstd", "zstd"),
    ("gzip, deflate, br", "br"),
    ("gzip", "gzip"),
    ("identity", ""),
    ("zstd;q=0.5, gzip", "gzip"),
];

/// Decodes what came, in the coding it says it has.
fn decoded(received: &Received) -> Vec<u8> {
    let coded = &received.body[..];
    let mut text = Vec::new();
    match received.field("content-encoding") {
        "" => text.extend_from_slice(coded),
        "gzip" => {
            let mut decoder = flate2::read::GzDecoder::new(coded);
            decoder.read_to_end(&mut text).expect("it is gzip");
        }
        "br" => {
            let mut decoder = brotli::Decompressor::new(coded, 4096);
            decoder.read_to_end(&mut text).expect("it is brotli");
        }
        "zstd" => text = zstd::decode_all(coded).expect("it is zstd"),
        other => panic!("nobody asked for {other}"),
    }
    text
}

#[test]
fn ll_26_a_live_playlist_comes_in_the_coding_the_viewer_wants() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 40);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        for (accepted, coding) in CODINGS {
            for target in [PLAYLIST, &format!("{PLAYLIST}?_HLS_skip=YES")] {
                let fields = [("accept-encoding", accepted)];
                let received = viewer.get_with(target, &fields).await;
                assert_eq!(received.field("content-encoding"), coding, "{accepted}");
                assert_eq!(received.field("vary"), "Accept-Encoding");
                let length = received.field("content-length").parse::<usize>();
                assert_eq!(length, Ok(received.body.len()));
                let text = decoded(&received);
                let is_delta = String::from_utf8_lossy(&text).contains("#EXT-X-SKIP");
                if target == PLAYLIST {
                    assert_eq!(text, live.text().as_bytes(), "{accepted}");
                } else {
                    assert!(is_delta, "{accepted}");
                }
            }
        }
        assert_eq!(origin.requests_exactly(PLAYLIST), 1);
        assert!(
            !origin.asked()[0].fields.contains_key("accept-encoding"),
            "what is coded here is asked for plain"
        );
    });
}

#[test]
fn ca_18_every_coding_of_a_version_has_its_own_validator() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        Live::start(&origin, PLAYLIST, 40);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        let mut tags = Vec::new();
        for coding in ["zstd", "br", "gzip", "identity"] {
            let accepted = ("accept-encoding", coding);
            let received = viewer.get_with(PLAYLIST, &[accepted]).await;
            let tag = received.field("etag").to_owned();
            let conditions = [accepted, ("if-none-match", &tag)];
            let current = viewer.get_with(PLAYLIST, &conditions).await;
            assert_eq!(current.status, StatusCode::NOT_MODIFIED, "{coding}");
            assert_eq!(current.field("etag"), tag);
            assert_eq!(current.field("vary"), "Accept-Encoding");
            assert!(current.body.is_empty());
            tags.push(tag);
        }
        let plain = tags[3].trim_matches('"');
        let expected = ["-zstd", "-br", "-gzip", ""].map(|name| format!("\"{plain}{name}\""));
        assert_eq!(tags, expected);
        // The tag of another coding is another representation (RFC 9110 8.8.3.3).
        let conditions = [("accept-encoding", "br"), ("if-none-match", &tags[2])];
        let other = viewer.get_with(PLAYLIST, &conditions).await;
        assert_eq!(other.status, StatusCode::OK);
    });
}

#[test]
fn head_says_what_get_sends() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        Live::start(&origin, PLAYLIST, 40);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        for coding in ["zstd", "br", "gzip", "identity"] {
            let accepted = [("accept-encoding", coding)];
            let whole = viewer.get_with(PLAYLIST, &accepted).await;
            let head = viewer.send("HEAD", PLAYLIST, &accepted).await.rest().await;
            for name in ["content-encoding", "content-length", "etag", "vary"] {
                assert_eq!(head.field(name), whole.field(name), "{coding}: {name}");
            }
            assert!(head.body.is_empty());
        }
    });
}

/// Returns a live playlist of 5000 segments, and an origin's side of it: the next part never comes.
fn serve_long_playlist(origin: &Origin) -> Bytes {
    let mut text = String::from(
        "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n\
         #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5,CAN-SKIP-UNTIL=12.0\n\
         #EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:0\n",
    );
    for msn in 0..5000 {
        text.push_str(&format!("#EXTINF:2.0,\nseg{msn}.m4s\n"));
    }
    let text = Bytes::from(text);
    let served = text.clone();
    origin.on(PLAYLIST, move |asked| {
        let text = served.clone();
        async move {
            if asked.parameter("_HLS_msn").is_some() {
                std::future::pending::<()>().await;
            }
            ok(whole(text))
        }
    });
    text
}

#[test]
fn a_large_playlist_is_coded_once_for_all_who_wait_for_it() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let text = serve_long_playlist(&origin);
        assert!(text.len() > 100_000);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        viewer.get(PLAYLIST).await;
        for coding in ["zstd", "br", "gzip"] {
            let asked: Vec<_> = (0..20)
                .map(|_| viewer.start_with(PLAYLIST, &[("accept-encoding", coding)]))
                .collect();
            for asked in asked {
                let received = asked.await.unwrap();
                assert_eq!(received.field("content-encoding"), coding);
                assert!(received.body.len() < text.len() / 5);
                assert_eq!(decoded(&received), text);
            }
        }
        assert_eq!(origin.requests_exactly(PLAYLIST), 1);
    });
}

#[test]
fn rfc_9110_7_7_a_playlist_that_must_not_be_transformed_is_not() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 40);
        live.add_field("cache-control", "max-age=1, No-Transform");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let accepted = [("accept-encoding", "gzip, br, zstd")];
        let received = viewer.get_with(PLAYLIST, &accepted).await;
        assert_eq!(received.field("content-encoding"), "");
        assert_eq!(received.text(), live.text());
    });
}

#[test]
fn between_nodes_a_playlist_travels_plain() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 40);
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let accepted = [("accept-encoding", "br")];
        let received = t.viewer("edge").get_with(PLAYLIST, &accepted).await;
        assert_eq!(received.field("content-encoding"), "br");
        assert_eq!(received.field("vary"), "Accept-Encoding");
        assert_eq!(decoded(&received), live.text().as_bytes());
        assert_eq!(origin.requests_exactly(PLAYLIST), 1);
    });
}

#[test]
fn b70_an_unreadable_accept_encoding_gets_the_text_as_it_is() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 40);
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let many = vec!["x"; 1000].join(",");
        for accepted in [";;q==,", "gzip;q=2", &many] {
            let fields = [("accept-encoding", accepted)];
            let received = viewer.get_with(PLAYLIST, &fields).await;
            assert_eq!(received.field("content-encoding"), "");
            assert_eq!(received.body, Bytes::from(live.text()));
        }
        assert_eq!(origin.requests_exactly(PLAYLIST), 1);
    });
}

const MPD: &str = "/dash/live.mpd";
const MULTIVARIANT: &str = "/vod/index.m3u8";
const VOD: &str = "/vod/v0.m3u8";

fn texts() -> [(&'static str, String); 3] {
    let periods: String = (0..20)
        .map(|n| format!("<Period id=\"p{n}\"></Period>"))
        .collect();
    let mpd = format!(
        "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" \
         mediaPresentationDuration=\"PT10S\" profiles=\"urn:x\" minBufferTime=\"PT2S\">{periods}</MPD>"
    );
    let mut multivariant = String::from("#EXTM3U\n");
    let mut vod = String::from("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n");
    for n in 0..40 {
        let line = format!("#EXT-X-STREAM-INF:BANDWIDTH={n}000000\nv{n}.m3u8\n");
        multivariant.push_str(&line);
        vod.push_str(&format!("#EXTINF:4.0,\nsegment-{n}.m4s\n"));
    }
    vod.push_str("#EXT-X-ENDLIST\n");
    [(MPD, mpd), (MULTIVARIANT, multivariant), (VOD, vod)]
}

const TEXT_FIELDS: [(&str, &str); 3] = [
    ("cache-control", "max-age=60"),
    ("etag", "\"v1\""),
    ("last-modified", "Tue, 14 Nov 2023 00:00:00 GMT"),
];

#[test]
fn stored_playlists_and_manifests_come_in_the_coding_the_viewer_wants() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for (path, text) in texts() {
            origin.serve(path, &TEXT_FIELDS, text.clone());
            viewer.get(path).await;
            for (accepted, coding) in CODINGS {
                let received = viewer
                    .get_with(path, &[("accept-encoding", accepted)])
                    .await;
                assert_eq!(received.field("content-encoding"), coding, "{path}");
                assert_eq!(received.field("vary"), "Accept-Encoding", "{path}");
                let tag = if coding.is_empty() {
                    "\"v1\"".to_owned()
                } else {
                    format!("\"v1-{coding}\"")
                };
                assert_eq!(received.field("etag"), tag);
                let length = received.field("content-length").parse::<usize>();
                assert_eq!(length, Ok(received.body.len()));
                assert_eq!(decoded(&received), text.as_bytes(), "{path}");
            }
            assert_eq!(origin.requests(path), 1);
        }
    });
}

#[test]
fn ca_18_conditions_are_about_the_stored_form_the_viewer_would_get() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for (path, text) in texts() {
            origin.serve(path, &TEXT_FIELDS, text);
            viewer.get(path).await;
            for (coding, tag, status) in [
                ("br", "\"v1-br\"", 304),
                ("br", "W/\"v1-br\"", 304),
                ("br", "\"v1-gzip\"", 200),
                ("br", "\"v1\"", 200),
                ("br", "\"v1\", \"v1-br\"", 304),
                ("identity", "\"v1\"", 304),
                ("identity", "\"v1-br\"", 200),
            ] {
                let asked = [("accept-encoding", coding), ("if-none-match", tag)];
                let received = viewer.get_with(path, &asked).await;
                assert_eq!(received.status.as_u16(), status, "{path} {coding} {tag}");
                assert_eq!(received.field("vary"), "Accept-Encoding");
            }
            let since = ("if-modified-since", "Tue, 14 Nov 2023 00:00:00 GMT");
            let asked = [("accept-encoding", "br"), since];
            let received = viewer.get_with(path, &asked).await;
            assert_eq!(received.status, StatusCode::NOT_MODIFIED);
            assert_eq!(received.field("etag"), "\"v1-br\"");
        }
    });
}

#[test]
fn b75_a_range_of_a_playlist_or_manifest_gets_it_whole_in_every_coding() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for (path, text) in texts() {
            origin.serve(path, &TEXT_FIELDS, text.clone());
            for coding in ["identity", "gzip", "zstd"] {
                for range in ["bytes=0-9", "bytes=-1", "bytes=99999999-", "bytes=0-1,4-5"] {
                    let asked = [("accept-encoding", coding), ("range", range)];
                    let received = viewer.get_with(path, &asked).await;
                    assert_eq!(received.status, StatusCode::OK, "{path} {range}");
                    assert_eq!(decoded(&received), text.as_bytes());
                }
            }
        }
    });
}

#[test]
fn a_revalidated_playlist_keeps_its_forms_and_its_tags() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let [_, (path, text), _] = texts();
        let served = Bytes::from(text.clone());
        origin.on(path, move |asked| {
            let is_current = asked.fields.contains_key("if-none-match");
            let mut reply = if is_current {
                harness::origin::status(StatusCode::NOT_MODIFIED)
            } else {
                ok(whole(served.clone()))
            };
            let fields = reply.headers_mut();
            fields.insert("etag", http::HeaderValue::from_static("\"v1\""));
            fields.insert("cache-control", http::HeaderValue::from_static("max-age=1"));
            async move { reply }
        });
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let accepted = [("accept-encoding", "gzip")];
        for _ in 0..3 {
            let received = viewer.get_with(path, &accepted).await;
            assert_eq!(received.field("etag"), "\"v1-gzip\"");
            assert_eq!(decoded(&received), text.as_bytes());
            harness::pass(std::time::Duration::from_secs(5)).await;
        }
        assert_eq!(origin.requests(path), 3);
        assert_eq!(origin.asked()[2].fields["if-none-match"], "\"v1\"");
    });
}

#[test]
fn ll_26_playlists_that_an_origin_codes_unasked_are_read_and_followed() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let live = Live::start(&origin, PLAYLIST, 40);
        live.code_all();
        let text = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\nv0/playlist.m3u8\n";
        let fields = [("content-encoding", "gzip"), ("etag", "\"m1\"")];
        origin.serve("/live/index.m3u8", &fields, gzip(text.as_bytes()));
        let _shield = t.node("shield", &["origin"]);
        let _edge = t.node("edge", &["shield"]);
        let viewer = t.viewer("edge");
        let received = viewer.get("/live/index.m3u8").await;
        assert_eq!(received.text(), text);
        assert_eq!(received.field("content-encoding"), "");
        assert_eq!(received.field("etag"), "W/\"m1\"");
        viewer.get(PLAYLIST).await;
        for part in 40..48 {
            let next = format!("{PLAYLIST}?_HLS_msn={}&_HLS_part={}", part / 4, part % 4);
            let held = viewer.start(&next);
            // The chain's own request.
            origin.asked_for_exactly(&next).await;
            live.publish();
            let received = held.await.unwrap();
            assert_eq!(received.status, StatusCode::OK);
            assert_eq!(received.text(), live.text());
            assert_eq!(origin.requests_exactly(&next), 1);
        }
        let received = viewer
            .get_with(PLAYLIST, &[("accept-encoding", "br")])
            .await;
        assert_eq!(received.field("content-encoding"), "br");
        assert_eq!(decoded(&received), live.text().as_bytes());
    });
}

#[test]
fn b81_a_coded_playlist_that_is_broken_or_a_bomb_is_a_failure_and_not_kept() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let cut = gzip(&[b'#'; 1000]).slice(..12);
        for (name, body) in [("cut", cut), ("bomb", gzip(&vec![b'#'; 20_000_000]))] {
            let path = format!("/{name}/index.m3u8");
            origin.serve(&path, &[("content-encoding", "gzip")], body);
            for _ in 0..2 {
                let before = origin.requests(&path);
                assert_eq!(
                    viewer.get(&path).await.status,
                    StatusCode::BAD_GATEWAY,
                    "{name}"
                );
                assert!(origin.requests(&path) > before, "nothing of it is kept");
            }
        }
    });
}

#[test]
fn ld_10_an_mpd_that_an_origin_codes_unasked_is_kept_by_its_update_period() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let mpd = format!(
            "<MPD type=\"dynamic\" availabilityStartTime=\"2026-01-01T00:00:00Z\" \
             minimumUpdatePeriod=\"PT4S\">{CLOCK}</MPD>"
        );
        let fields = [
            ("content-encoding", "gzip"),
            ("cache-control", "max-age=60"),
        ];
        origin.serve(MPD, &fields, gzip(mpd.as_bytes()));
        for accepted in ["", "gzip"] {
            let received = viewer.get_with(MPD, &[("accept-encoding", accepted)]).await;
            assert_eq!(received.status, StatusCode::OK);
            assert_eq!(decoded(&received), mpd.as_bytes());
        }
        assert_eq!(origin.requests(MPD), 1);
    });
}

#[test]
fn what_the_origin_coded_passes_untouched() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        let fields = [TEXT_FIELDS[0], TEXT_FIELDS[1], ("content-encoding", "br")];
        let coded = "not for us to look into ".repeat(40);
        origin.serve(MPD, &fields, coded.clone());
        for accepted in ["gzip", "zstd", "br"] {
            let received = viewer.get_with(MPD, &[("accept-encoding", accepted)]).await;
            assert_eq!(received.field("content-encoding"), "br");
            assert_eq!(received.field("etag"), "\"v1\"");
            assert_eq!(received.body, coded);
        }
        assert_eq!(origin.requests(MPD), 1);
    });
}

#[test]
fn media_is_never_coded() {
    cdn(|t| async move {
        let origin = t.origin("origin");
        let _edge = t.node("edge", &["origin"]);
        let viewer = t.viewer("edge");
        for path in ["/s1.m4s", "/init.mp4", "/subtitles.vtt"] {
            origin.serve(path, &TEXT_FIELDS, "0123456789".repeat(1000));
            for _ in 0..2 {
                let received = viewer.get_with(path, &[("accept-encoding", "gzip")]).await;
                assert_eq!(received.field("content-encoding"), "");
                assert_eq!(received.field("etag"), "\"v1\"");
                assert_eq!(received.field("vary"), "");
            }
        }
    });
}
