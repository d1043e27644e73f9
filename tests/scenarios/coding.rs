//! Content codings: playlists and manifests compressed once, in the form each viewer wants.

use std::io::Read;

use bytes::Bytes;
use harness::origin::{Origin, ok, whole};
use harness::viewer::Received;
use harness::{Live, cdn};
use http::StatusCode;

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
