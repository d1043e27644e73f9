//! What is held, and released at the exact instant: blocking reloads, hints, growing segments.

use std::time::Duration;

use http::Method;
use lab::origin::{OriginConfig, PartsAs};

use crate::support::{
    Stage, attribute, fragments, hint, millis, stage, stage_with, stage_with_faults, tags,
};

// Twelve segments are out at the start: the next part is 12.0, due after 500 ms.

async fn reload(stage: &Stage, query: &str) -> (u16, u128, String) {
    let answer = stage.get(format!("/live/v0/playlist.m3u8?{query}")).await;
    let text = answer.text().to_owned();
    (answer.status.as_u16(), answer.took.as_millis(), text)
}

#[tokio::test(start_paused = true)]
async fn ll_01_a_segment_is_held_until_it_is_whole() {
    let stage = stage();
    let (status, took, list) = reload(&stage, "_HLS_msn=12").await;
    assert_eq!((status, took), (200, 2000));
    assert!(list.contains("\nseg12.m4s\n"));
}

#[tokio::test(start_paused = true)]
async fn ll_02_a_part_is_held_until_it_is_there() {
    let stage = stage();
    let (status, took, list) = reload(&stage, "_HLS_msn=12&_HLS_part=1").await;
    assert_eq!((status, took), (200, 1000));
    assert_eq!(hint(&list), "seg12.2.m4s");
    let (_, took, _) = reload(&stage, "_HLS_msn=12&_HLS_part=1").await;
    assert_eq!(took, 0);
}

#[tokio::test(start_paused = true)]
async fn ll_03_part_past_the_end_means_part_zero_of_the_next_segment() {
    let stage = stage();
    let (_, took, list) = reload(&stage, "_HLS_msn=11&_HLS_part=4").await;
    assert_eq!(took, 500);
    assert_eq!(hint(&list), "seg12.1.m4s");
}

#[tokio::test(start_paused = true)]
async fn ll_04_what_left_the_window_is_answered_with_the_newest() {
    let stage = stage();
    tokio::time::advance(Duration::from_secs(60)).await;
    let (status, took, list) = reload(&stage, "_HLS_msn=3&_HLS_part=0").await;
    assert_eq!((status, took), (200, 0));
    assert_eq!(hint(&list), "seg42.0.m4s");
}

#[tokio::test(start_paused = true)]
async fn ll_05_to_ll_08_refusals_are_immediate_and_not_to_be_stored() {
    let stage = stage();
    for query in [
        "_HLS_part=1",
        "_HLS_msn=abc",
        "_HLS_msn=-1",
        "_HLS_msn=18446744073709551616",
        "_HLS_msn=14",
        "_HLS_msn=12&_HLS_part=6",
    ] {
        let answer = stage.get(format!("/live/v0/playlist.m3u8?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.took, Duration::ZERO, "{query}");
        assert_eq!(answer.header("cache-control"), "no-store", "{query}");
    }
    for (query, expected) in [("_HLS_msn=13", 4000), ("_HLS_msn=14&_HLS_part=5", 2500)] {
        let (status, took, _) = reload(&stage, query).await;
        assert_eq!((status, took), (200, expected), "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn ll_09_a_hold_ends_after_three_target_durations() {
    let stage = stage_with_faults(["late-part=1m"]);
    let answer = stage
        .get("/live/v0/playlist.m3u8?_HLS_msn=12&_HLS_part=0")
        .await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.took, Duration::from_secs(6));
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.header("cache-control"), "no-store");
    let hinted = stage.get("/live/v0/seg12.0.m4s").await;
    assert_eq!((hinted.status.as_u16(), hinted.took.as_secs()), (503, 6));
}

#[tokio::test(start_paused = true)]
async fn ll_10_the_end_releases_everybody() {
    let stage = stage_with_faults(["endlist:700ms-"]);
    let reloads: Vec<_> = (0..100)
        .map(|_| stage.get("/live/v0/playlist.m3u8?_HLS_msn=13"))
        .collect();
    for answer in futures_util::future::join_all(reloads).await {
        assert_eq!((answer.status.as_u16(), answer.took), (200, millis(700)));
        assert!(answer.text().ends_with("seg12.m4s\n#EXT-X-ENDLIST\n"));
    }
    // The last segment is as short as what was produced of it.
    let list = stage
        .text("/live/v0/playlist.m3u8?_HLS_msn=900&_HLS_part=4")
        .await;
    assert_eq!(tags(&list, "#EXTINF").pop(), Some("0.50000,"));
    assert_eq!(
        fragments(&stage.get("/live/v0/seg12.m4s").await.body).len(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_hint_holds_until_the_part_is_published() {
    let stage = stage();
    for rendition in ["v0", "a0"] {
        let list = stage.text(format!("/live/{rendition}/playlist.m3u8")).await;
        let answer = stage
            .get(format!("/live/{rendition}/{}", hint(&list)))
            .await;
        assert_eq!((answer.status.as_u16(), answer.took), (200, millis(500)));
        assert_eq!(fragments(&answer.body).len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn every_hint_of_a_minute_becomes_the_part_it_promised() {
    let stage = stage();
    for _ in 0..120 {
        let list = stage.text("/live/v1/playlist.m3u8").await;
        let name = hint(&list).to_owned();
        let part = stage.get(format!("/live/v1/{name}")).await;
        assert_eq!((part.status.as_u16(), part.took), (200, millis(500)));
        let list = stage.text("/live/v1/playlist.m3u8").await;
        let newest = tags(&list, "#EXT-X-PART").pop().unwrap();
        assert_eq!(attribute(newest, "URI"), Some(&*name));
    }
}

#[tokio::test(start_paused = true)]
async fn ll_18_what_no_playlist_hints_is_unknown() {
    let stage = stage();
    for path in [
        "/live/v0/seg12.1.m4s",
        "/live/v0/seg13.0.m4s",
        "/live/v0/seg13.m4s",
        "/live/v0/seg11.4.m4s",
        "/live/v0/seg12.0b.m4s",
        "/plain/v0/seg12.m4s",
        "/plain/v0/seg11.0.m4s",
        "/vod/v0/seg16.m4s",
        "/live/v9/init.mp4",
        "/live/v0/other",
        "/other",
    ] {
        let answer = stage.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.took),
            (404, Duration::ZERO),
            "{path}"
        );
        assert_eq!(answer.header("cache-control"), "max-age=1", "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn ll_19_a_withdrawn_hint_is_not_found_and_the_part_has_another_name() {
    let stage = stage_with_faults(["withdraw-hint@/live/v0/seg12.1.m4s"]);
    tokio::time::advance(millis(500)).await;
    assert_eq!(
        hint(&stage.text("/live/v0/playlist.m3u8").await),
        "seg12.1.m4s"
    );
    let parked = stage.get("/live/v0/seg12.1.m4s").await;
    assert_eq!((parked.status.as_u16(), parked.took), (404, millis(250)));
    assert_eq!(
        hint(&stage.text("/live/v0/playlist.m3u8").await),
        "seg12.1b.m4s"
    );
    let renamed = stage.get("/live/v0/seg12.1b.m4s").await;
    assert_eq!((renamed.status.as_u16(), renamed.took), (200, millis(250)));
    let list = stage.text("/live/v0/playlist.m3u8").await;
    let newest = tags(&list, "#EXT-X-PART").pop().unwrap();
    assert_eq!(attribute(newest, "URI"), Some("seg12.1b.m4s"));
    assert_eq!(hint(&list), "seg12.2.m4s");
}

#[tokio::test(start_paused = true)]
async fn ll_20_both_open_range_forms_follow_the_growing_segment() {
    for range in ["bytes=0-", "bytes=0-9007199254740991"] {
        let stage = stage_with(OriginConfig {
            parts_as: PartsAs::ByteRanges,
            ..OriginConfig::default()
        });
        let ask = stage.ask("/live/v0/seg12.m4s").header("range", range);
        let answer = ask.send().await.unwrap();
        assert_eq!(answer.status, 206);
        assert_eq!(answer.header("content-range"), "bytes 0-9007199254740991/*");
        assert_eq!(answer.header("content-length"), "");
        let mut came: Vec<_> = answer.pieces.iter().map(|(at, _)| at.as_millis()).collect();
        came.dedup();
        assert_eq!(came, [500, 1000, 1500, 2000]);
        assert_eq!(answer.body, stage.get("/live/v0/seg12.m4s").await.body);
    }
}

#[tokio::test(start_paused = true)]
async fn ll_20_an_open_range_can_begin_at_the_hint() {
    let stage = stage_with(OriginConfig {
        parts_as: PartsAs::ByteRanges,
        ..OriginConfig::default()
    });
    tokio::time::advance(millis(600)).await;
    let list = stage.text("/live/v0/playlist.m3u8").await;
    let hinted = tags(&list, "#EXT-X-PRELOAD-HINT")[0];
    let start: usize = attribute(hinted, "BYTERANGE-START")
        .unwrap()
        .parse()
        .unwrap();
    let ask = stage.ask("/live/v0/seg12.m4s");
    let answer = ask
        .header("range", format!("bytes={start}-"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status, 206);
    let published = format!("{}.000", crate::support::START.as_millis() + 1000);
    assert_eq!(answer.header("seawall-published"), published);
    assert_eq!(answer.pieces[0].0, millis(400));

    let whole = stage.get("/live/v0/seg12.m4s").await.body;
    assert_eq!(answer.body, whole.slice(start..));
}

#[tokio::test(start_paused = true)]
async fn a_closed_range_of_a_growing_segment_ends_where_it_says() {
    let stage = stage();
    tokio::time::advance(millis(600)).await;
    let ask = stage
        .ask("/live/v2/seg12.m4s")
        .header("range", "bytes=10-19");
    let answer = ask.send().await.unwrap();
    assert_eq!(answer.status, 206);
    assert_eq!(answer.header("content-range"), "bytes 10-19/*");
    assert_eq!((answer.body.len(), answer.took), (10, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_range_beyond_a_growing_segment_is_not_satisfiable() {
    let stage = stage();
    tokio::time::advance(millis(600)).await;
    let ask = stage
        .ask("/live/v0/seg12.m4s")
        .header("range", "bytes=99999999-");
    assert_eq!(ask.send().await.unwrap().status, 416);
}

#[tokio::test(start_paused = true)]
async fn a_head_of_a_growing_segment_tells_what_is_there_now() {
    let stage = stage();
    tokio::time::advance(millis(600)).await;
    let first = stage.get("/live/v0/seg12.0.m4s").await.body.len();
    let ask = stage.ask("/live/v0/seg12.m4s").header("range", "bytes=0-");
    let answer = ask.method(Method::HEAD).send().await.unwrap();
    assert_eq!(answer.status, 206);
    assert_eq!(
        answer.header("content-range"),
        format!("bytes 0-{}/*", first - 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_growing_segment_comes_part_by_part_and_each_at_once() {
    let stage = stage();
    tokio::time::advance(millis(1100)).await;
    for is_h2 in [false, true] {
        let ask = stage.ask("/live/v0/seg12.m4s");
        let ask = if is_h2 { ask.over_h2() } else { ask };
        let answer = ask.send().await.unwrap();
        assert!(answer.is_whole);
        assert_eq!(fragments(&answer.body).len(), 4);
        if !is_h2 {
            assert_eq!(answer.header("transfer-encoding"), "chunked");
            let mut came: Vec<_> = answer.pieces.iter().map(|(at, _)| at.as_millis()).collect();
            came.dedup();
            assert_eq!(came, [0, 400, 900]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ll_21_parts_outlive_their_tags() {
    let stage = stage();
    tokio::time::advance(millis(500)).await;
    assert_eq!(stage.get("/live/v0/seg12.0.m4s").await.status, 200);
    // The tag goes after three segments; three target durations later it is still there.
    tokio::time::advance(Duration::from_secs(8 + 6)).await;
    assert!(
        !stage
            .text("/live/v0/playlist.m3u8")
            .await
            .contains("seg12.0.m4s")
    );
    assert_eq!(stage.get("/live/v0/seg12.0.m4s").await.status, 200);
    tokio::time::advance(Duration::from_secs(600)).await;
    assert_eq!(stage.get("/live/v0/seg12.0.m4s").await.status, 404);
    assert_eq!(stage.get("/live/v0/seg12.m4s").await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn what_was_published_says_when() {
    let stage = stage();
    let zero = crate::support::START.as_millis();
    let at = |after: u128| format!("{}.000", zero + after);
    let part = stage.get("/live/v0/seg12.0.m4s").await;
    assert_eq!(part.header("seawall-published"), at(500));
    let list = stage
        .get("/live/v0/playlist.m3u8?_HLS_msn=12&_HLS_part=2")
        .await;
    assert_eq!(list.header("seawall-published"), at(1500));
    // While it grows, a segment is as old as the first part it carries.
    let growing = stage.get("/live/v0/seg12.m4s").await;
    assert_eq!(growing.header("seawall-published"), at(500));
    let segment = stage.get("/live/v0/seg12.m4s").await;
    assert_eq!(segment.header("seawall-published"), at(2000));
    let plain = stage.get("/plain/v0/playlist.m3u8").await;
    assert_eq!(plain.header("seawall-published"), at(2000));
}
