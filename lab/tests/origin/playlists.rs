//! Playlists as text: the tags a low-latency player needs, delta updates, windows.

use std::time::Duration;

use lab::origin::{OriginConfig, PartsAs};

use crate::support::{attribute, hint, merge, millis, stage, stage_with, tags, uris};

#[tokio::test(start_paused = true)]
async fn the_multivariant_playlist_names_codecs_sizes_and_the_audio_group() {
    let list = stage().text("/live/index.m3u8").await;
    let media = tags(&list, "#EXT-X-MEDIA")[0];
    assert_eq!(attribute(media, "URI"), Some("a0/playlist.m3u8"));
    let variants = tags(&list, "#EXT-X-STREAM-INF");
    assert_eq!(variants.len(), 3);
    assert!(variants[2].contains("CODECS=\"avc1.4d401e,mp4a.40.2\""));
    assert_eq!(attribute(variants[2], "RESOLUTION"), Some("640x360"));
    assert_eq!(attribute(variants[2], "FRAME-RATE"), Some("30.000"));
    assert_eq!(attribute(variants[2], "AUDIO"), Some("audio"));
    let bandwidth: Vec<u64> = variants
        .iter()
        .map(|v| attribute(v, "BANDWIDTH").unwrap().parse().unwrap())
        .collect();
    assert!(bandwidth.is_sorted() && bandwidth[0] > 100_000 && bandwidth[2] < 500_000);
    assert_eq!(
        uris(&list),
        ["v0/playlist.m3u8", "v1/playlist.m3u8", "v2/playlist.m3u8"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_subset_of_renditions_is_offered_alone() {
    let stage = stage_with(OriginConfig {
        renditions: vec!["v1".to_owned()],
        ..OriginConfig::default()
    });
    let list = stage.text("/live/index.m3u8").await;
    assert!(tags(&list, "#EXT-X-MEDIA").is_empty());
    assert_eq!(uris(&list), ["v1/playlist.m3u8"]);
    assert_eq!(stage.get("/live/v0/playlist.m3u8").await.status, 404);
    let list = stage.text("/live/v1/playlist.m3u8").await;
    assert!(tags(&list, "#EXT-X-RENDITION-REPORT").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_low_latency_playlist_has_every_tag_of_the_profile() {
    let stage = stage();
    tokio::time::advance(millis(1100)).await;
    let list = stage.text("/live/v0/playlist.m3u8").await;
    let control = tags(&list, "#EXT-X-SERVER-CONTROL")[0];
    assert_eq!(attribute(control, "CAN-BLOCK-RELOAD"), Some("YES"));
    assert_eq!(attribute(control, "CAN-SKIP-UNTIL"), Some("12.0"));
    assert_eq!(
        attribute(tags(&list, "#EXT-X-PART-INF")[0], "PART-TARGET"),
        Some("0.50000")
    );
    assert_eq!(tags(&list, "#EXT-X-MAP"), ["URI=\"init.mp4\""]);
    // 12 whole segments, three of them with parts, and two parts of the next.
    assert_eq!(uris(&list).len(), 12);
    assert_eq!(tags(&list, "#EXT-X-PART").len(), 14);
    assert_eq!(tags(&list, "#EXT-X-PROGRAM-DATE-TIME").len(), 13);
    assert_eq!(
        tags(&list, "#EXT-X-PROGRAM-DATE-TIME")[12],
        "2026-01-01T00:00:00.000Z"
    );
    assert_eq!(hint(&list), "seg12.2.m4s");
    let reports = tags(&list, "#EXT-X-RENDITION-REPORT");
    assert_eq!(reports.len(), 3);
    assert_eq!(attribute(reports[2], "URI"), Some("../a0/playlist.m3u8"));
    assert_eq!(attribute(reports[2], "LAST-MSN"), Some("12"));
    assert_eq!(attribute(reports[2], "LAST-PART"), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn parts_that_begin_with_a_sync_sample_say_so() {
    let stage = stage_with(OriginConfig {
        part: millis(200),
        ..OriginConfig::default()
    });
    let list = stage.text("/live/v0/playlist.m3u8").await;
    for part in tags(&list, "#EXT-X-PART") {
        let index = attribute(part, "URI").unwrap().split('.').nth(1).unwrap();
        let is_independent = attribute(part, "INDEPENDENT") == Some("YES");
        assert_eq!(is_independent, ["0", "5"].contains(&index), "{part}");
    }
    let list = stage.text("/live/a0/playlist.m3u8").await;
    let parts = tags(&list, "#EXT-X-PART");
    assert!(parts.iter().all(|p| p.contains("INDEPENDENT=YES")));
}

#[tokio::test(start_paused = true)]
async fn ll_22_the_window_slides_and_nothing_goes_backwards() {
    let stage = stage();
    let (mut newest, mut first) = (0, 0);
    for _ in 0..40 {
        let list = stage.text("/live/v0/playlist.m3u8").await;
        let sequence: u64 = tags(&list, "#EXT-X-MEDIA-SEQUENCE")[0].parse().unwrap();
        assert!(sequence >= first);
        first = sequence;
        assert_eq!(uris(&list).len(), 12);
        assert_eq!(uris(&list)[0], format!("seg{first}.m4s"));
        let at = stage.origin.live_edge().unwrap();
        assert!(at.msn * 4 + at.part_index >= newest);
        newest = at.msn * 4 + at.part_index;
        tokio::time::advance(millis(300)).await;
    }
    assert_eq!((first, newest), (5, 48 + 11 * 2));
}

#[tokio::test(start_paused = true)]
async fn ll_13_a_delta_skips_what_lies_beyond_the_boundary() {
    let stage = stage_with(OriginConfig {
        segment: Duration::from_secs(4),
        part: Duration::from_secs(1),
        window: 60,
        ..OriginConfig::default()
    });
    // The boundary is 24 s. Right after a segment, six segments lie within it.
    let delta = stage.text("/live/v0/playlist.m3u8?_HLS_skip=YES").await;
    assert_eq!(tags(&delta, "#EXT-X-SKIP"), ["SKIPPED-SEGMENTS=54"]);
    assert_eq!(uris(&delta).len(), 6);
    assert_eq!(tags(&delta, "#EXT-X-MEDIA-SEQUENCE"), ["0"]);
    // LL-15: what applied to skipped segments is not repeated.
    assert!(tags(&delta, "#EXT-X-MAP").is_empty());
    // One part later, one more segment begins beyond it.
    tokio::time::advance(millis(1000)).await;
    let delta = stage.text("/live/v0/playlist.m3u8?_HLS_skip=v2").await;
    assert_eq!(tags(&delta, "#EXT-X-SKIP"), ["SKIPPED-SEGMENTS=55"]);
}

#[tokio::test(start_paused = true)]
async fn ll_13_merging_a_delta_gives_the_whole_playlist() {
    let stage = stage();
    for rendition in ["v0", "a0"] {
        let path = format!("/live/{rendition}/playlist.m3u8");
        let mut known = stage.text(&*path).await;
        for _ in 0..12 {
            tokio::time::advance(millis(500)).await;
            let delta = stage.text(format!("{path}?_HLS_skip=YES")).await;
            assert!(delta.contains("#EXT-X-SKIP"));
            let full = stage.text(&*path).await;
            // Parts of segments that left the live edge may linger in a merged playlist.
            let merged = merge(&known, &delta);
            assert_eq!(merged, merge(&full, &full));
            known = full;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ll_11_skip_is_ignored_where_nothing_can_be_skipped() {
    let stage = stage_with(OriginConfig {
        window: 4,
        ..OriginConfig::default()
    });
    let full = stage.get("/live/v0/playlist.m3u8").await;
    let delta = stage.get("/live/v0/playlist.m3u8?_HLS_skip=YES").await;
    assert_eq!(full.body, delta.body);
    let stage = crate::support::stage_with_faults(["endlist"]);
    let full = stage.get("/live/v0/playlist.m3u8").await;
    let delta = stage.get("/live/v0/playlist.m3u8?_HLS_skip=YES").await;
    assert!(full.text().ends_with("#EXT-X-ENDLIST\n"));
    assert_eq!(full.body, delta.body);
    assert!(!full.text().contains("#EXT-X-PRELOAD-HINT"));
}

#[tokio::test(start_paused = true)]
async fn byte_range_playlists_hint_where_the_next_part_begins() {
    let stage = stage_with(OriginConfig {
        parts_as: PartsAs::ByteRanges,
        ..OriginConfig::default()
    });
    tokio::time::advance(millis(1000)).await;
    let list = stage.text("/live/v0/playlist.m3u8").await;
    let last = tags(&list, "#EXT-X-PART").pop().unwrap();
    let (len, offset) = attribute(last, "BYTERANGE")
        .unwrap()
        .split_once('@')
        .unwrap();
    let end = len.parse::<u64>().unwrap() + offset.parse::<u64>().unwrap();
    let hinted = tags(&list, "#EXT-X-PRELOAD-HINT")[0];
    assert_eq!(attribute(hinted, "URI"), Some("seg12.m4s"));
    assert_eq!(
        attribute(hinted, "BYTERANGE-START"),
        Some(&*end.to_string())
    );
}

#[tokio::test(start_paused = true)]
async fn plain_playlists_have_no_tag_of_low_latency() {
    let stage = stage();
    tokio::time::advance(millis(1100)).await;
    let list = stage.text("/plain/v0/playlist.m3u8").await;
    for tag in [
        "PART",
        "SERVER-CONTROL",
        "HINT",
        "REPORT",
        "SKIP",
        "ENDLIST",
    ] {
        assert!(!list.contains(tag), "{tag}");
    }
    assert_eq!(uris(&list).len(), 12);
    assert_eq!(tags(&list, "#EXTINF").len(), 12);
    // A directive is an unknown query to a server without blocking reload.
    let directed = stage.get("/plain/v0/playlist.m3u8?_HLS_msn=100").await;
    assert_eq!(directed.text(), list);
    assert_eq!(directed.took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn without_low_latency_the_live_presentation_is_plain() {
    let stage = stage_with(OriginConfig {
        low_latency: false,
        ..OriginConfig::default()
    });
    let live = stage.text("/live/v0/playlist.m3u8").await;
    assert_eq!(live, stage.text("/plain/v0/playlist.m3u8").await);
    assert_eq!(stage.get("/live/v0/seg5.0.m4s").await.status, 404);
    assert!(
        !stage
            .text("/live/manifest.mpd")
            .await
            .contains("availabilityTimeComplete")
    );
}
