//! The rules of blocking reload, one test each, cases as data.

use bytes::Bytes;

use super::*;
use crate::hls::{Limits, Playlist};

/// A playlist with 0.5 s parts whose last complete segment is `last`, with `open` parts after it.
///
/// The last two complete segments show four parts each.
fn low_latency(first: u64, last: u64, open: u32) -> MediaPlaylist {
    let mut text = format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=0.5\n\
         #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5\n\
         #EXT-X-MEDIA-SEQUENCE:{first}\n"
    );
    for msn in first..=last {
        if msn + 2 > last {
            text.push_str(&part_lines(msn, 4));
        }
        text.push_str(&format!("#EXTINF:2,\ns{msn}.mp4\n"));
    }
    text.push_str(&part_lines(last + 1, open));
    parse(text)
}

fn part_lines(msn: u64, parts: u32) -> String {
    (0..parts)
        .map(|part| format!("#EXT-X-PART:DURATION=0.5,URI=\"s{msn}.{part}.mp4\"\n"))
        .collect()
}

fn plain(first: u64, last: u64, head: &str) -> MediaPlaylist {
    let mut text =
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n{head}#EXT-X-MEDIA-SEQUENCE:{first}\n");
    for msn in first..=last {
        text.push_str(&format!("#EXTINF:2,\ns{msn}.mp4\n"));
    }
    parse(text)
}

fn parse(text: String) -> MediaPlaylist {
    match Playlist::parse(Bytes::from(text), &Limits::default()) {
        Ok(Playlist::Media(list)) => list,
        other => panic!("a media playlist, not {other:?}"),
    }
}

#[track_caller]
fn check(playlist: &MediaPlaylist, cases: &[(u64, Option<u32>, Answer)]) {
    for &(msn, part_index, expected) in cases {
        let position = Some(Position {
            msn: MediaSequenceNumber(msn),
            part_index,
        });
        let directives = DeliveryDirectives {
            position,
            skip: None,
        };
        assert_eq!(
            answer(playlist, &directives),
            expected,
            "{msn}/{part_index:?}"
        );
    }
}

const BLOCKS: &str = "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n";
const SEGMENT_TOO_FAR: Answer = Answer::Refuse(Refusal::SegmentTooFarAhead);
const PART_TOO_FAR: Answer = Answer::Refuse(Refusal::PartTooFarAhead);

#[test]
fn a_request_without_directives_is_answered_at_once() {
    let directives = DeliveryDirectives::default();
    assert_eq!(answer(&low_latency(5, 10, 2), &directives), Answer::Now);
}

#[test]
fn ll_01_a_segment_is_waited_for_until_it_is_complete() {
    check(
        &low_latency(5, 10, 3),
        &[
            (10, None, Answer::Now),
            (11, None, Answer::Hold),
            (12, None, Answer::Hold),
        ],
    );
    check(
        &low_latency(5, 11, 0),
        &[(11, None, Answer::Now), (12, None, Answer::Hold)],
    );
}

#[test]
fn ll_02_a_part_is_waited_for_until_it_or_anything_later_is_there() {
    let cases = [(11, Some(2), Answer::Now), (11, Some(3), Answer::Hold)];
    check(&low_latency(5, 10, 3), &cases);
    check(&low_latency(5, 10, 4), &[(11, Some(3), Answer::Now)]);
    check(
        &low_latency(5, 11, 0),
        &[(11, Some(3), Answer::Now), (11, Some(0), Answer::Now)],
    );
    check(&low_latency(5, 12, 1), &[(11, Some(3), Answer::Now)]);
}

#[test]
fn ll_03_part_past_the_end_means_part_zero_of_the_next_segment() {
    let closed = low_latency(5, 11, 0);
    check(
        &closed,
        &[(11, Some(3), Answer::Now), (11, Some(4), Answer::Hold)],
    );
    check(
        &closed,
        &[
            (11, Some(u32::MAX), Answer::Hold),
            (10, Some(u32::MAX), Answer::Now),
        ],
    );
    check(
        &low_latency(5, 11, 1),
        &[(11, Some(4), Answer::Now), (11, Some(99), Answer::Now)],
    );
}

#[test]
fn ll_04_what_has_left_the_window_is_answered_with_the_whole_playlist() {
    let playlist = low_latency(20, 30, 1);
    check(
        &playlist,
        &[
            (3, Some(0), Answer::Now),
            (0, None, Answer::Now),
            (19, Some(77), Answer::Now),
        ],
    );
}

#[test]
fn ll_07_a_segment_more_than_two_after_the_last_is_refused() {
    for playlist in [
        low_latency(5, 10, 0),
        low_latency(5, 10, 3),
        plain(5, 10, BLOCKS),
    ] {
        check(
            &playlist,
            &[(12, None, Answer::Hold), (13, None, SEGMENT_TOO_FAR)],
        );
        check(
            &playlist,
            &[
                (13, Some(0), SEGMENT_TOO_FAR),
                (u64::MAX, Some(0), SEGMENT_TOO_FAR),
            ],
        );
        check(&playlist, &[(u64::MAX, None, SEGMENT_TOO_FAR)]);
    }
}

#[test]
fn ll_08_a_part_further_than_the_advance_part_limit_is_refused() {
    check(
        &low_latency(5, 11, 2),
        &[(12, Some(7), Answer::Hold), (12, Some(8), PART_TOO_FAR)],
    );
    check(
        &low_latency(5, 11, 0),
        &[(12, Some(5), Answer::Hold), (12, Some(6), PART_TOO_FAR)],
    );
}

#[test]
fn ll_08_parts_are_counted_across_the_segment_boundary() {
    // Four parts make a segment, of which two are there: 13.0 is three ahead.
    check(
        &low_latency(5, 11, 2),
        &[(13, Some(3), Answer::Hold), (13, Some(4), PART_TOO_FAR)],
    );
    check(
        &low_latency(5, 11, 0),
        &[(13, Some(1), Answer::Hold), (13, Some(2), PART_TOO_FAR)],
    );
    // More parts than usual: 13.0 is the next.
    check(
        &low_latency(5, 11, 5),
        &[(13, Some(5), Answer::Hold), (13, Some(6), PART_TOO_FAR)],
    );
}

#[test]
fn ll_08_the_advance_part_limit_is_three_seconds_rounded_up_or_three_parts() {
    let cases = [
        (200, 15),
        (333, 10),
        (334, 9),
        (500, 6),
        (999, 4),
        (1000, 3),
        (4000, 3),
        (1, 3000),
    ];
    for (milliseconds, expected) in cases {
        let limit = advance_part_limit(Duration::from_millis(milliseconds));
        assert_eq!(limit, expected, "{milliseconds} ms");
    }
}

#[test]
fn ll_10_after_the_end_every_request_is_answered_at_once() {
    let playlist = plain(
        5,
        10,
        "#EXT-X-ENDLIST\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n",
    );
    check(
        &playlist,
        &[(11, None, Answer::Now), (99, Some(9), Answer::Now)],
    );
}

#[test]
fn ll_12_without_blocking_reload_nothing_is_held() {
    check(
        &plain(5, 10, ""),
        &[(11, None, Answer::Now), (99, Some(9), Answer::Now)],
    );
}

#[test]
fn ll_24_playlists_without_parts_are_held_by_segment() {
    check(
        &plain(5, 10, BLOCKS),
        &[
            (10, Some(9), Answer::Now),
            (11, None, Answer::Hold),
            (11, Some(3), Answer::Hold),
        ],
    );
}

#[test]
fn lt_03_a_request_one_part_ahead_is_held() {
    let playlist = low_latency(5, 11, 2);
    let next = playlist.next_position();
    check(&playlist, &[(next.msn.0, next.part_index, Answer::Hold)]);
    check(
        &playlist,
        &[(next.msn.0, next.part_index.map(|n| n + 1), Answer::Hold)],
    );
}

#[test]
fn a_playlist_without_segments_waits_for_its_first() {
    let playlist = plain(7, 6, BLOCKS);
    check(
        &playlist,
        &[
            (6, None, Answer::Now),
            (7, None, Answer::Hold),
            (8, None, Answer::Hold),
        ],
    );
    check(&playlist, &[(9, None, SEGMENT_TOO_FAR)]);
}

#[test]
fn whoever_is_released_stays_released() {
    let versions: Vec<_> = (8..14)
        .flat_map(|last| (0..=4).map(move |open| low_latency(last - 5, last, open)))
        .collect();
    for msn in 5..18 {
        for part_index in std::iter::once(None).chain((0..12).map(Some)) {
            let position = Some(Position {
                msn: MediaSequenceNumber(msn),
                part_index,
            });
            let directives = DeliveryDirectives {
                position,
                skip: None,
            };
            let answers = versions.iter().map(|version| answer(version, &directives));
            let late = answers
                .skip_while(|a| *a != Answer::Now)
                .filter(|a| *a != Answer::Now);
            assert_eq!(late.count(), 0, "{msn}/{part_index:?}");
        }
    }
}
