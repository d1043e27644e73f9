//! The origin over a stream in memory, in virtual time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;

struct Got {
    status: u16,
    fields: http::HeaderMap,
    body: Bytes,
    is_whole: bool,
}

impl Got {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

fn origin(change: impl FnOnce(&mut OriginConfig)) -> Arc<Origin> {
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let mut config = OriginConfig {
        start: Some(start),
        ..OriginConfig::default()
    };
    change(&mut config);
    Arc::new(Origin::new(config).unwrap())
}

async fn get(origin: &Arc<Origin>, target: &str) -> Got {
    get_with(origin, target, &[]).await
}

async fn get_with(origin: &Arc<Origin>, target: &str, fields: &[(&str, &str)]) -> Got {
    try_get(origin, target, fields).await.unwrap()
}

async fn try_get(
    origin: &Arc<Origin>,
    target: &str,
    fields: &[(&str, &str)],
) -> Result<Got, hyper::Error> {
    let (here, there) = tokio::io::duplex(64 * 1024);
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(origin).serve_connection(there));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(here))
        .await
        .unwrap();
    tasks.spawn(async move {
        connection.await.ok();
    });
    let mut request = http::Request::builder()
        .uri(target)
        .header("host", "origin");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let response = sender
        .send_request(request.body(Empty::<Bytes>::new()).unwrap())
        .await?;
    let (head, mut body) = response.into_parts();
    let (mut bytes, mut is_whole) = (Vec::new(), true);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(_) => is_whole = false,
        }
    }
    Ok(Got {
        status: head.status.as_u16(),
        fields: head.headers,
        body: bytes.into(),
        is_whole,
    })
}

/// Returns the target of a blocking reload `ahead` parts after the newest one.
fn reload(origin: &Origin, ahead: u64) -> String {
    let mut id = origin.next_part().0;
    for _ in 0..ahead {
        id = origin.timeline.next(id);
    }
    format!(
        "/live/v0/playlist.m3u8?_HLS_msn={}&_HLS_part={}",
        id.msn, id.part
    )
}

#[tokio::test(start_paused = true)]
async fn ll_02_a_blocking_reload_is_held_until_its_part_is_published() {
    let origin = origin(|_| {});
    let before = Instant::now();
    let got = get(&origin, &reload(&origin, 0)).await;
    assert_eq!(before.elapsed().as_millis(), 500);
    assert!(got.text().contains("URI=\"seg10.0.m4s\""), "{}", got.text());
    assert!(
        got.text()
            .contains("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"seg10.1.m4s\"")
    );
    assert_eq!(got.fields["cache-control"], "max-age=12");
    assert_eq!(got.fields["seawall-published"], "1700000000500.000");
}

#[tokio::test(start_paused = true)]
async fn ll_05_to_ll_08_what_makes_no_sense_is_refused() {
    let origin = origin(|_| {});
    for (query, status) in [
        ("_HLS_part=1", 400),
        ("_HLS_msn=abc", 400),
        ("_HLS_msn=-1", 400),
        ("_HLS_msn=13", 400),
        ("_HLS_msn=11&_HLS_part=3", 400),
        ("_HLS_msn=3&_HLS_part=0", 200),
    ] {
        let before = Instant::now();
        let got = get(&origin, &format!("/live/v0/playlist.m3u8?{query}")).await;
        assert_eq!(got.status, status, "{query}");
        assert_eq!(
            before.elapsed(),
            Duration::ZERO,
            "{query} is answered at once"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn ll_13_a_delta_update_skips_what_is_older_than_six_target_durations() {
    let origin = origin(|_| {});
    let full = get(&origin, "/live/v0/playlist.m3u8").await;
    let delta = get(&origin, "/live/v0/playlist.m3u8?_HLS_skip=YES").await;
    assert!(full.text().contains("\nseg0.m4s\n"));
    assert!(
        delta.text().contains("#EXT-X-SKIP:SKIPPED-SEGMENTS=4\n"),
        "{}",
        delta.text()
    );
    assert!(delta.text().contains("\nseg4.m4s\n") && !delta.text().contains("\nseg3.m4s\n"));
}

#[tokio::test(start_paused = true)]
async fn a_hinted_part_is_held_and_then_sent_whole() {
    let origin = origin(|_| {});
    let before = Instant::now();
    let got = get(&origin, "/live/v0/seg10.0.m4s").await;
    assert_eq!(before.elapsed().as_millis(), 500);
    assert_eq!(got.status, 200);
    assert_eq!(got.body.get(4..8), Some(b"moof".as_slice()));
    assert_eq!(
        got.fields["content-length"],
        got.body.len().to_string().as_str()
    );
    assert_eq!(
        get(&origin, "/live/v0/seg10.2.m4s").await.status,
        404,
        "not hinted yet"
    );
}

#[tokio::test(start_paused = true)]
async fn a_segment_is_the_bytes_of_its_parts_whenever_it_is_asked_for() {
    let origin = origin(|config| config.parts_as = PartsAs::ByteRanges);
    let growing = get(&origin, "/live/v0/seg10.m4s").await;
    let finished = get(&origin, "/live/v0/seg10.m4s").await;
    assert_eq!(growing.body, finished.body);
    assert!(!growing.fields.contains_key("content-length"));
    let playlist = get(&origin, "/live/v0/playlist.m3u8").await;
    assert!(
        playlist.text().contains("BYTERANGE=\""),
        "{}",
        playlist.text()
    );
    assert!(
        playlist
            .text()
            .contains(",URI=\"seg11.m4s\",BYTERANGE-START=0")
    );
}

#[tokio::test(start_paused = true)]
async fn ll_20_an_open_range_of_a_growing_segment_echoes_its_last_position() {
    let origin = origin(|config| config.parts_as = PartsAs::ByteRanges);
    let open = [("range", "bytes=100-9007199254740991")];
    let got = get_with(&origin, "/live/v0/seg10.m4s", &open).await;
    assert_eq!(got.status, 206);
    assert_eq!(got.fields["content-range"], "bytes 100-9007199254740991/*");
    let finished = get(&origin, "/live/v0/seg10.m4s").await;
    assert_eq!(got.body, finished.body.slice(100..));
    let closed = get_with(&origin, "/live/v0/seg10.m4s", &[("range", "bytes=4-7")]).await;
    assert_eq!(
        (closed.status, closed.body.as_ref()),
        (206, b"moof".as_slice())
    );
}

#[tokio::test(start_paused = true)]
async fn every_edition_presents_the_same_media() {
    let origin = origin(|_| {});
    let live = get(&origin, "/live/v1/seg5.m4s").await;
    assert_eq!(get(&origin, "/plain/v1/seg5.m4s").await.body, live.body);
    assert_eq!(get(&origin, "/vod/v1/seg5.m4s").await.body, live.body);
    let plain = get(&origin, "/plain/v1/playlist.m3u8").await;
    assert!(!plain.text().contains("EXT-X-PART") && !plain.text().contains("SERVER-CONTROL"));
    let vod = get(&origin, "/vod/v1/playlist.m3u8").await;
    assert!(
        vod.text().ends_with("\nseg15.m4s\n#EXT-X-ENDLIST\n"),
        "{}",
        vod.text()
    );
    for manifest in [
        "/live/manifest.mpd",
        "/plain/manifest.mpd",
        "/vod/manifest.mpd",
    ] {
        assert_eq!(get(&origin, manifest).await.status, 200, "{manifest}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_counted_per_object() {
    let origin = origin(|_| {});
    for _ in 0..3 {
        get(&origin, "/live/v0/seg9.0.m4s").await;
    }
    get(&origin, &reload(&origin, 0)).await;
    let counts = origin.counts();
    assert_eq!(
        counts.by_kind[&Family::Part],
        Total {
            objects: 1,
            requests: 3,
            max: 3
        }
    );
    assert_eq!(
        counts.by_kind[&Family::Playlist],
        Total {
            objects: 1,
            requests: 1,
            max: 1
        }
    );
    let json = get(&origin, "/origin/counts.json").await;
    assert!(
        json.text().contains("\"requests_per_object_max\":3"),
        "{}",
        json.text()
    );
}

#[tokio::test(start_paused = true)]
async fn faults_do_what_they_say() {
    let origin = origin(|_| {});
    let fault = |text: &str| {
        origin.clear_faults();
        origin.add_fault(text.parse().unwrap());
    };
    fault("status=503@*.m4sx1");
    assert_eq!(get(&origin, "/live/v0/seg9.0.m4s").await.status, 503);
    assert_eq!(get(&origin, "/live/v0/seg9.0.m4s").await.status, 200);
    fault("reset@*");
    assert!(try_get(&origin, "/live/v0/seg9.0.m4s", &[]).await.is_err());
    fault("reset-at=100@*");
    let got = get(&origin, "/live/v0/seg9.0.m4s").await;
    assert!(!got.is_whole && got.body.len() <= 100);
    fault("dribble=1000/100ms@*");
    let before = Instant::now();
    let got = get(&origin, "/live/v0/seg9.0.m4s").await;
    assert!(got.is_whole);
    assert_eq!(
        before.elapsed().as_millis(),
        100 * got.body.len().div_ceil(1000) as u128
    );
    fault("no-cache");
    let got = get(&origin, "/live/v0/playlist.m3u8").await;
    assert_eq!(got.fields["cache-control"], "no-cache");
    fault("echo-query");
    let got = get(&origin, "/live/v0/playlist.m3u8?u=1&_HLS_skip=NO").await;
    assert!(got.text().contains("seg9.m4s?u=1\n"), "{}", got.text());
    fault("withdraw-hint");
    let got = get(&origin, "/live/v0/playlist.m3u8").await;
    assert!(!got.text().contains(&hint_of(&origin)), "{}", got.text());
}

fn hint_of(origin: &Origin) -> String {
    let id = origin.next_part().0;
    format!(
        "PRELOAD-HINT:TYPE=PART,URI=\"seg{}.{}.m4s\"",
        id.msn, id.part
    )
}

#[tokio::test(start_paused = true)]
async fn a_restart_begins_again_with_the_same_names_and_an_end_ends() {
    let origin = origin(|_| {});
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(
        get(&origin, "/live/v0/playlist.m3u8")
            .await
            .text()
            .contains("\nseg39.m4s")
    );
    origin.restart();
    let restarted = get(&origin, "/live/v0/playlist.m3u8").await;
    assert!(
        restarted.text().contains("#EXT-X-MEDIA-SEQUENCE:0\n"),
        "{}",
        restarted.text()
    );
    assert!(restarted.text().contains("\nseg0.m4s") && !restarted.text().contains("\nseg1.m4s"));
    origin.end();
    let ended = get(&origin, &reload(&origin, 0)).await;
    assert!(
        ended.text().ends_with("#EXT-X-ENDLIST\n"),
        "{}",
        ended.text()
    );
}

#[test]
fn settings_outside_what_is_allowed_are_named() {
    let refused = |change: fn(&mut OriginConfig)| {
        let mut config = OriginConfig::default();
        change(&mut config);
        Origin::new(config).unwrap_err().to_string()
    };
    let text = refused(|config| config.part = Duration::from_millis(20));
    assert_eq!(text, "the part duration is 20ms, allowed is 100 ms to 2 s");
    let text = refused(|config| config.renditions = vec!["v9".to_owned()]);
    assert_eq!(
        text,
        "there is no rendition `v9`; there are v0, v1, v2 and a0"
    );
}
