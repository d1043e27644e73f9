//! Headers and methods: lifetimes, validators, ranges, encodings, CORS, pages of the demo.

use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use lab::origin::OriginConfig;

use crate::support::{millis, stage, stage_with};

#[tokio::test(start_paused = true)]
async fn lifetimes_are_those_of_the_server_profile() {
    let stage = stage();
    tokio::time::advance(millis(1000)).await;
    for (path, expected) in [
        (
            "/live/v0/playlist.m3u8?_HLS_msn=12&_HLS_part=1",
            "max-age=12",
        ),
        ("/live/v0/playlist.m3u8", "max-age=1"),
        ("/plain/v0/playlist.m3u8", "max-age=1"),
        ("/vod/v0/playlist.m3u8", "max-age=3600"),
        ("/live/index.m3u8", "max-age=10"),
        ("/live/manifest.mpd", "max-age=1"),
        ("/live/v0/seg12.1.m4s", "max-age=12"),
        ("/live/v0/seg11.m4s", "max-age=26"),
        ("/live/v0/init.mp4", "max-age=3600"),
        ("/time", "no-store"),
        ("/origin/counts.json", "no-store"),
    ] {
        let answer = stage.get(path).await;
        assert_eq!(answer.header("cache-control"), expected, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn ll_26_playlists_are_compressed_if_asked() {
    let stage = stage();
    for path in [
        "/live/v0/playlist.m3u8",
        "/live/index.m3u8",
        "/live/manifest.mpd",
    ] {
        let plain = stage.get(path).await;
        assert_eq!(plain.header("content-encoding"), "");
        assert_eq!(plain.header("vary"), "Accept-Encoding");
        let ask = stage.ask(path).header("accept-encoding", "br, gzip;q=0.8");
        let gzip = ask.send().await.unwrap();
        assert_eq!(gzip.header("content-encoding"), "gzip");
        assert_ne!(gzip.header("etag"), plain.header("etag"));
        let mut text = String::new();
        flate2::read::GzDecoder::new(&*gzip.body)
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, plain.text());
        let ask = stage.ask(path).header("accept-encoding", "gzip;q=0");
        assert_eq!(ask.send().await.unwrap().header("content-encoding"), "");
    }
}

#[tokio::test(start_paused = true)]
async fn ca_18_what_is_known_is_not_sent_again() {
    let stage = stage();
    for path in [
        "/live/v0/playlist.m3u8",
        "/live/manifest.mpd",
        "/live/v0/seg5.m4s",
        "/live/v0/seg11.3.m4s",
        "/live/v0/init.mp4",
    ] {
        let tag = stage.get(path).await.header("etag").to_owned();
        let ask = stage
            .ask(path)
            .header("if-none-match", format!("\"x\", W/{tag}"));
        let again = ask.send().await.unwrap();
        assert_eq!(
            (again.status.as_u16(), again.body.len()),
            (304, 0),
            "{path}"
        );
        assert_eq!(again.header("etag"), tag, "{path}");
    }
    let tag = stage
        .get("/live/v0/playlist.m3u8")
        .await
        .header("etag")
        .to_owned();
    tokio::time::advance(millis(500)).await;
    let ask = stage
        .ask("/live/v0/playlist.m3u8")
        .header("if-none-match", tag);
    assert_eq!(ask.send().await.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn pl_07_ranges_of_finished_media_are_served() {
    let stage = stage();
    let whole = stage.get("/live/v0/seg5.m4s").await;
    let len = whole.body.len();
    for (range, expected) in [
        ("bytes=0-0", Some((0, 0))),
        ("bytes=10-19", Some((10, 19))),
        ("bytes=100-", Some((100, len - 1))),
        ("bytes=100-9007199254740991", Some((100, len - 1))),
        ("bytes=-5", Some((len - 5, len - 1))),
        ("bytes=99999999-", None),
    ] {
        let ask = stage.ask("/live/v0/seg5.m4s").header("range", range);
        let answer = ask.send().await.unwrap();
        match expected {
            Some((first, last)) => {
                assert_eq!(answer.status, 206, "{range}");
                let value = format!("bytes {first}-{last}/{len}");
                assert_eq!(answer.header("content-range"), value);
                assert_eq!(answer.body, whole.body.slice(first..=last));
            }
            None => {
                assert_eq!(answer.status, 416, "{range}");
                assert_eq!(answer.header("content-range"), format!("bytes */{len}"));
            }
        }
    }
    for range in ["bytes=0-1,5-6", "bytes=5-1", "lines=1-2"] {
        let ask = stage.ask("/live/v0/seg5.m4s").header("range", range);
        assert_eq!(ask.send().await.unwrap().status, 200, "{range}");
    }
    let ask = stage.ask("/live/v0/seg5.m4s").header("range", "bytes=0-1");
    let other = ask.header("if-range", "\"other\"").send().await.unwrap();
    assert_eq!(other.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_head_has_the_headers_and_no_body() {
    let stage = stage();
    for path in [
        "/live/v0/playlist.m3u8",
        "/live/v0/seg5.m4s",
        "/live/v0/init.mp4",
    ] {
        for is_h2 in [false, true] {
            let get = stage.get(path).await;
            let ask = stage.ask(path).method(Method::HEAD);
            let ask = if is_h2 { ask.over_h2() } else { ask };
            let head = ask.send().await.unwrap();
            assert_eq!(head.status, 200);
            assert!(head.body.is_empty());
            assert_eq!(head.header("content-length"), get.body.len().to_string());
            assert_eq!(head.header("etag"), get.header("etag"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn content_types_are_those_of_hls_dash_and_mp4() {
    let stage = stage();
    for (path, expected) in [
        ("/live/index.m3u8", "application/vnd.apple.mpegurl"),
        ("/live/v0/playlist.m3u8", "application/vnd.apple.mpegurl"),
        ("/live/manifest.mpd", "application/dash+xml"),
        ("/live/v0/init.mp4", "video/mp4"),
        ("/live/v0/seg5.m4s", "video/mp4"),
        ("/live/a0/seg5.m4s", "video/mp4"),
    ] {
        assert_eq!(
            stage.get(path).await.header("content-type"),
            expected,
            "{path}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn ca_12_pages_of_other_origins_may_read_everything() {
    let stage = stage();
    for path in [
        "/live/index.m3u8",
        "/live/v0/seg5.m4s",
        "/nothing",
        "/origin/counts.json",
    ] {
        let answer = stage.get(path).await;
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{path}");
        let exposed = answer.header("access-control-expose-headers");
        assert!(exposed.contains("Age") && exposed.contains("Seawall-Published"));
    }
    let ask = stage.ask("/live/v0/seg5.m4s").method(Method::OPTIONS);
    let preflight = ask.send().await.unwrap();
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-headers"), "*");
    let ask = stage.ask("/live/v0/seg5.m4s").method(Method::PUT);
    assert_eq!(ask.send().await.unwrap().status, 405);
}

#[tokio::test(start_paused = true)]
async fn mounted_pages_come_first_and_are_not_counted() {
    let stage = stage_with(OriginConfig {
        extra: Some(Arc::new(|request| {
            (request.uri().path() == "/").then(|| http::Response::new(Bytes::from_static(b"page")))
        })),
        ..OriginConfig::default()
    });
    assert_eq!(stage.get("/").await.text(), "page");
    let head = stage.ask("/").method(Method::HEAD).send().await.unwrap();
    assert_eq!((head.body.len(), head.header("content-length")), (0, "4"));
    assert_eq!(stage.origin.requests_for("/"), 0);
    assert_eq!(stage.get("/live/index.m3u8").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_clock_is_told_for_dash_players() {
    let stage = stage();
    tokio::time::advance(millis(1250)).await;
    assert_eq!(stage.text("/time").await, "2026-01-01T00:00:01.250Z");
}
