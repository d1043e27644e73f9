//! What the origin reports about its requests.

use http::Method;
use lab::origin::OriginConfig;
use lab::origin::PartsAs;

use crate::support::{attribute, millis, stage, stage_with, tags};

#[tokio::test(start_paused = true)]
async fn each_object_is_counted_once_per_request() {
    let stage = stage();
    stage.get("/live/index.m3u8").await;
    stage.get("/live/v0/init.mp4").await;
    for _ in 0..3 {
        stage.get("/live/v0/seg5.m4s").await;
    }
    stage.get("/live/v0/seg12.0.m4s").await;
    stage.get("/nothing").await;
    let counts = stage.origin.counts();
    assert_eq!((counts.objects, counts.requests), (4, 6));
    assert_eq!(counts.requests_per_object_max, 3);
    assert_eq!(counts.by_kind["segment"].max, 3);
    assert_eq!(counts.by_kind["part"].objects, 1);
    assert_eq!(stage.origin.requests_each().by_url["/live/v0/seg5.m4s"], 3);
    assert_eq!(stage.origin.requests_each().by_url["/nothing"], 1);
    assert_eq!(counts.by_status[&200], 6);
}

#[tokio::test(start_paused = true)]
async fn a_playlist_version_is_an_object_however_it_was_asked_for() {
    let stage = stage();
    stage
        .get("/live/v0/playlist.m3u8?_HLS_msn=12&_HLS_part=0")
        .await;
    stage.get("/live/v0/playlist.m3u8").await;
    stage.get("/live/v0/playlist.m3u8?_HLS_skip=YES").await;
    stage
        .get("/live/v0/playlist.m3u8?_HLS_part=1&_HLS_msn=12")
        .await;
    let counts = stage.origin.counts();
    let playlists = counts.by_kind["playlist"];
    assert_eq!(
        (playlists.objects, playlists.requests, playlists.max),
        (2, 4, 3)
    );
    assert_eq!(
        stage.origin.requests_each().by_object["/live/v0/playlist.m3u8 g0 12.0"],
        3
    );
    // URLs are counted with their query in byte order.
    assert_eq!(
        stage.origin.requests_each().by_url["/live/v0/playlist.m3u8?_HLS_msn=12&_HLS_part=1"],
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_byte_range_that_is_a_part_is_counted_as_that_part() {
    let stage = stage_with(OriginConfig {
        parts_as: PartsAs::ByteRanges,
        ..OriginConfig::default()
    });
    let list = stage.text("/live/v0/playlist.m3u8").await;
    let last = tags(&list, "#EXT-X-PART").pop().unwrap();
    let (len, offset) = attribute(last, "BYTERANGE")
        .unwrap()
        .split_once('@')
        .unwrap();
    let (len, offset): (u64, u64) = (len.parse().unwrap(), offset.parse().unwrap());
    let range = format!("bytes={offset}-{}", offset + len - 1);
    stage
        .ask("/live/v0/seg11.m4s")
        .header("range", range)
        .send()
        .await
        .unwrap();
    assert_eq!(
        stage.origin.requests_each().by_object["/live/v0/seg11.m4s#3"],
        1
    );
}

#[tokio::test(start_paused = true)]
async fn counts_can_be_read_and_reset_over_http() {
    let stage = stage();
    stage.get("/live/v0/seg5.m4s").await;
    let json: serde_json::Value =
        serde_json::from_str(&stage.text("/origin/counts.json").await).unwrap();
    assert_eq!(json["objects"], 1);
    assert_eq!(json["requests_per_object_max"], 1);
    assert_eq!(json["by_kind"]["segment"]["requests"], 1);
    let reset = stage
        .ask("/origin/reset")
        .method(Method::POST)
        .send()
        .await
        .unwrap();
    assert_eq!(reset.status, 204);
    assert_eq!(stage.origin.counts().objects, 0);
}

#[tokio::test(start_paused = true)]
async fn held_requests_are_counted_while_they_are_held() {
    let stage = stage();
    let held = stage.get("/live/v0/seg12.0.m4s");
    let watch = async {
        stage.origin.asked_for("/live/v0/seg12.0.m4s").await;
        tokio::time::sleep(millis(1)).await;
        stage.origin.counts().held
    };
    let (answer, during) = tokio::join!(held, watch);
    assert_eq!((answer.status.as_u16(), during), (200, 1));
    assert_eq!(stage.origin.counts().held, 0);
}
