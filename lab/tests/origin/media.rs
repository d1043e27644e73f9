//! The media itself: a continuous timeline, audio and video together, parts that add up.

use lab::origin::{OriginConfig, PartsAs};
use std::time::Duration;

use crate::support::{Stage, attribute, fragments, millis, stage, stage_with, tags, uris};

fn long_stage(seconds: u64) -> Stage {
    stage_with(OriginConfig {
        history: Some(Duration::from_secs(seconds)),
        window: 40,
        ..OriginConfig::default()
    })
}

#[tokio::test(start_paused = true)]
async fn time_and_sequence_numbers_run_on_across_the_loop() {
    let stage = long_stage(80);
    for rendition in ["v0", "v1", "v2", "a0"] {
        let mut next: Option<(u64, u32)> = None;
        // The loop is 32 s: it ends with segment 15.
        for msn in 12..36 {
            let body = stage
                .get(format!("/live/{rendition}/seg{msn}.m4s"))
                .await
                .body;
            for fragment in fragments(&body) {
                if let Some((start, sequence)) = next {
                    assert_eq!(fragment.start, start, "{rendition} {msn}");
                    assert_eq!(fragment.sequence, sequence, "{rendition} {msn}");
                }
                next = Some((fragment.start + fragment.duration, fragment.sequence + 1));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_loop_carries_the_content_of_the_first() {
    let stage = long_stage(80);
    for rendition in ["v2", "a0"] {
        let first = stage.get(format!("/live/{rendition}/seg2.m4s")).await.body;
        let second = stage.get(format!("/live/{rendition}/seg18.m4s")).await.body;
        let (first, second) = (fragments(&first), fragments(&second));
        let sizes = |of: &[crate::support::Fragment]| -> Vec<_> {
            of.iter().map(|f| f.sizes.clone()).collect()
        };
        assert_eq!(sizes(&first), sizes(&second));
        assert!(first[0].start < second[0].start);
    }
}

#[tokio::test(start_paused = true)]
async fn audio_and_video_stay_together_for_a_day() {
    let stage = long_stage(24 * 3600);
    // One AAC frame is the most that the beginnings of two parts can be apart.
    let frame = 1024.0 / 48_000.0;
    for msn in [43_150_u64, 43_171, 43_198] {
        for part in 0..4 {
            let file = format!("seg{msn}.{part}.m4s");
            let video = stage.get(format!("/live/v0/{file}")).await.body;
            let audio = stage.get(format!("/live/a0/{file}")).await.body;
            let nominal = (msn * 4 + part) as f64 * 0.5;
            let video = fragments(&video)[0].start as f64 / 30_000.0;
            let audio = fragments(&audio)[0].start as f64 / 48_000.0;
            assert!((video - nominal).abs() < 1e-9, "{file}");
            assert!((0.0..frame).contains(&(audio - nominal)), "{file}: {audio}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_segment_is_its_parts_one_after_the_other() {
    let stage = stage();
    for rendition in ["v1", "a0"] {
        let mut parts = Vec::new();
        for part in 0..4 {
            let path = format!("/live/{rendition}/seg5.{part}.m4s");
            parts.extend_from_slice(&stage.get(path).await.body);
        }
        let segment = stage.get(format!("/live/{rendition}/seg5.m4s")).await;
        assert_eq!(segment.body, parts);
        let plain = stage.get(format!("/plain/{rendition}/seg5.m4s")).await;
        assert_eq!(plain.body, parts);
    }
}

#[tokio::test(start_paused = true)]
async fn byte_range_parts_are_where_the_playlist_says() {
    let stage = stage_with(OriginConfig {
        parts_as: PartsAs::ByteRanges,
        ..OriginConfig::default()
    });
    let list = stage.text("/live/v2/playlist.m3u8").await;
    let parts = tags(&list, "#EXT-X-PART");
    assert_eq!(parts.len(), 12);
    for part in parts {
        let (len, offset) = attribute(part, "BYTERANGE")
            .unwrap()
            .split_once('@')
            .unwrap();
        let (len, offset): (u64, u64) = (len.parse().unwrap(), offset.parse().unwrap());
        let range = format!("bytes={offset}-{}", offset + len - 1);
        let path = format!("/live/v2/{}", attribute(part, "URI").unwrap());
        let answer = stage.ask(path).header("range", range).send().await.unwrap();
        assert_eq!(answer.status, 206);
        let found = fragments(&answer.body);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].sizes.len(), 15);
    }
}

#[tokio::test(start_paused = true)]
async fn every_cadence_keeps_the_rules_for_durations() {
    for (segment, part) in [
        (1, 200),
        (1, 333),
        (2, 200),
        (2, 500),
        (2, 1000),
        (3, 333),
        (4, 333),
        (4, 1000),
        (5, 500),
        (6, 200),
        (6, 1000),
        (6, 6000),
    ] {
        let stage = stage_with(OriginConfig {
            segment: Duration::from_secs(segment),
            part: millis(part),
            // Ends inside a segment.
            history: Some(Duration::from_secs(60) + millis(segment * 600)),
            ..OriginConfig::default()
        });
        for rendition in ["v0", "a0"] {
            let list = stage.text(format!("/live/{rendition}/playlist.m3u8")).await;
            check_durations(
                &list,
                segment,
                &format!("{segment} s of {part} ms, {rendition}"),
            );
        }
    }
}

fn check_durations(list: &str, target: u64, case: &str) {
    let number = |text: &str| text.parse::<f64>().unwrap();
    let part_target = number(attribute(tags(list, "#EXT-X-PART-INF")[0], "PART-TARGET").unwrap());
    let hold_back = tags(list, "#EXT-X-SERVER-CONTROL")[0];
    let hold_back = number(attribute(hold_back, "PART-HOLD-BACK").unwrap());
    assert!(hold_back >= 3.0 * part_target - 1e-4, "{case}");
    assert_eq!(tags(list, "#EXT-X-TARGETDURATION")[0], target.to_string());
    let (mut sum, mut whole) = (0.0, 0);
    for line in list.lines() {
        if let Some(part) = line.strip_prefix("#EXT-X-PART:") {
            let duration = number(attribute(part, "DURATION").unwrap());
            sum += duration;
            assert!(duration <= part_target, "{case}: {line}");
            assert!(duration >= 0.85 * part_target, "{case}: {line}");
        } else if let Some(segment) = line.strip_prefix("#EXTINF:") {
            let duration = number(segment.trim_end_matches(','));
            assert!(duration.round() <= target as f64, "{case}: {line}");
            if sum > 0.0 {
                assert!((duration - sum).abs() < 1e-3, "{case}: {duration} {sum}");
                whole += 1;
            }
            sum = 0.0;
        }
    }
    assert_eq!(whole, 3, "{case}");
}

#[tokio::test(start_paused = true)]
async fn padded_parts_weigh_what_was_asked_for() {
    let stage = stage_with(OriginConfig {
        pad_parts_to: Some(50_000),
        ..OriginConfig::default()
    });
    for rendition in ["v0", "v2", "a0"] {
        let part = stage
            .get(format!("/live/{rendition}/seg5.1.m4s"))
            .await
            .body;
        assert_eq!(part.len(), 50_000);
        assert_eq!(fragments(&part).len(), 1);
        let segment = stage.get(format!("/live/{rendition}/seg5.m4s")).await.body;
        assert_eq!(segment.len(), 200_000);
    }
}

#[tokio::test(start_paused = true)]
async fn the_vod_is_the_loop_once() {
    for segment in [2, 3, 5] {
        let stage = stage_with(OriginConfig {
            segment: Duration::from_secs(segment),
            ..OriginConfig::default()
        });
        for (rendition, scale) in [("v0", 30_000), ("a0", 48_000)] {
            let list = stage.text(format!("/vod/{rendition}/playlist.m3u8")).await;
            assert!(list.ends_with("#EXT-X-ENDLIST\n"));
            let mut at = 0;
            for uri in uris(&list) {
                let body = stage.get(format!("/vod/{rendition}/{uri}")).await.body;
                let found = fragments(&body);
                assert_eq!(found[0].start, at);
                at += found[0].duration;
            }
            assert_eq!(at, 32 * scale);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn init_segments_are_the_same_in_every_presentation() {
    let stage = stage();
    for rendition in ["v0", "a0"] {
        let live = stage.get(format!("/live/{rendition}/init.mp4")).await;
        assert_eq!(live.status, 200);
        for other in ["plain", "vod"] {
            let init = stage.get(format!("/{other}/{rendition}/init.mp4")).await;
            assert_eq!(init.body, live.body);
        }
    }
}
