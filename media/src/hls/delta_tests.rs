//! What a delta leaves out, and that merging brings it back.

use std::collections::BTreeSet;
use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::hls::DateRangeHistory;
use crate::hls::timeline::{Timeline, parse, timeline};

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn segments(first: u64, count: u64) -> String {
    (first..first + count)
        .map(|msn| format!("#EXTINF:4,\ns{msn}.mp4\n"))
        .collect()
}

const HEAD: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n\
                    #EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL=24\n#EXT-X-MEDIA-SEQUENCE:100\n";

#[test]
fn ll_13_segments_that_begin_before_the_skip_boundary_are_replaced_by_one_tag() {
    let playlist = parse(format!("{HEAD}{}", segments(100, 60)));
    let delta = delta_update(&playlist).unwrap();
    let expected = format!(
        "#EXTM3U\n#EXT-X-VERSION:9\n{}#EXT-X-SKIP:SKIPPED-SEGMENTS=54\n{}",
        HEAD.strip_prefix("#EXTM3U\n").unwrap(),
        segments(154, 6)
    );
    assert_eq!(text(&delta), expected);
    let parsed = parse(delta);
    assert_eq!(parsed.media_sequence(), playlist.media_sequence());
    assert_eq!(parsed.last_position(), playlist.last_position());
}

#[test]
fn ll_13_everything_not_skipped_stays_and_date_ranges_are_never_skipped() {
    let old = "#EXT-X-DATERANGE:ID=\"old\",START-DATE=\"2026-01-01\"\n";
    let new = "#EXT-X-DATERANGE:ID=\"new\",START-DATE=\"2026-01-01\"\n";
    let tail = "#EXT-X-PART:DURATION=1,URI=\"p\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"q\"\n#x\n";
    let playlist = parse(format!(
        "{HEAD}#EXT-X-MAP:URI=\"i\"\n{}{old}{}{new}{}{tail}",
        segments(100, 1),
        segments(101, 1),
        segments(102, 6)
    ));
    let delta = delta_update(&playlist).unwrap();
    let expected = format!(
        "#EXTM3U\n#EXT-X-VERSION:9\n{}{old}#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n{new}{}{tail}",
        HEAD.strip_prefix("#EXTM3U\n").unwrap(),
        segments(102, 6)
    );
    assert_eq!(text(&delta), expected);
}

#[test]
fn ll_14_an_update_of_both_kinds_leaves_out_old_date_ranges_wherever_they_stand() {
    let range = |id: &str| format!("#EXT-X-DATERANGE:ID=\"{id}\",START-DATE=\"2026-01-01\"\n");
    let head = HEAD.replace("=24", "=24,CAN-SKIP-DATERANGES=YES");
    let playlist = parse(format!(
        "{head}{}{}{}{}{}{}{}{}",
        range("old-0"),
        range("new-1"),
        segments(100, 2),
        range("old-2"),
        range("new-3"),
        segments(102, 6),
        range("old-4"),
        range("new-5"),
    ));
    let old = OldDateRanges {
        rows: vec![0, 2, 4],
        removed: vec!["gone".into(), "gone too".into()],
    };
    let delta = delta_update_of_both(&playlist, &old).unwrap();
    let expected = format!(
        "#EXTM3U\n#EXT-X-VERSION:10\n{}{}{}{}{}{}",
        head.strip_prefix("#EXTM3U\n").unwrap(),
        range("new-1"),
        "#EXT-X-SKIP:SKIPPED-SEGMENTS=2,RECENTLY-REMOVED-DATERANGES=\"gone\tgone too\"\n",
        range("new-3"),
        segments(102, 6),
        range("new-5"),
    );
    assert_eq!(text(&delta), expected);
    let none = delta_update_of_both(&playlist, &OldDateRanges::default()).unwrap();
    assert!(text(&none).contains(",RECENTLY-REMOVED-DATERANGES=\"\"\n"));
    assert_eq!(parse(none).date_ranges().len(), 6);
}

#[test]
fn a_version_below_nine_is_raised_and_a_later_one_kept() {
    for (line, expected) in [
        ("#EXT-X-VERSION:6\r\n", "#EXT-X-VERSION:9\n"),
        ("#EXT-X-VERSION:9\r\n", "#EXT-X-VERSION:9\r\n"),
        ("#EXT-X-VERSION:12\n", "#EXT-X-VERSION:12\n"),
    ] {
        let head = HEAD.strip_prefix("#EXTM3U\n").unwrap();
        let playlist = parse(format!("#EXTM3U\r\n{line}{head}{}", segments(100, 7)));
        let delta = delta_update(&playlist).unwrap();
        assert!(
            text(&delta).starts_with(&format!("#EXTM3U\r\n{expected}#EXT-X-T")),
            "{line}"
        );
        assert_eq!(
            parse(delta).version(),
            expected
                .trim()
                .rsplit(':')
                .next()
                .unwrap()
                .parse::<u64>()
                .unwrap()
        );
    }
}

#[test]
fn ll_11_skip_is_ignored_without_a_boundary_at_the_end_or_with_nothing_old_enough() {
    let without = HEAD.replace("CAN-SKIP-UNTIL=24", "CAN-BLOCK-RELOAD=YES");
    for ignored in [
        format!("{without}{}", segments(100, 60)),
        format!("{HEAD}{}#EXT-X-ENDLIST\n", segments(100, 60)),
        format!("{HEAD}{}", segments(100, 6)),
        HEAD.to_owned(),
        format!("{HEAD}#EXT-X-SKIP:SKIPPED-SEGMENTS=9\n{}", segments(109, 9)),
        format!("{HEAD}{}#EXT-X-VERSION:3\n", segments(100, 60)),
    ] {
        assert_eq!(delta_update(&parse(ignored.clone())), None, "{ignored}");
    }
}

#[test]
fn ll_16_a_delta_whose_skipped_segments_are_unknown_cannot_be_merged() {
    let full = |first, count| {
        let head = HEAD.replace(":100", &format!(":{first}"));
        parse(format!("{head}{}", segments(first, count)))
    };
    let delta = |first, count| parse(delta_update(&full(first, count)).unwrap());
    assert_eq!(
        merge_delta(&full(100, 9), &full(100, 9)),
        Err(MergeError::NotADelta)
    );
    assert_eq!(
        merge_delta(&delta(100, 9), &delta(100, 9)),
        Err(MergeError::PreviousIsADelta)
    );
    for (previous, delta) in [
        (full(100, 9), delta(99, 9)),
        (full(100, 9), delta(110, 9)),
        (full(100, 2), delta(100, 9)),
        (full(105, 9), delta(100, 9)),
    ] {
        assert_eq!(
            merge_delta(&previous, &delta),
            Err(MergeError::SegmentMissing)
        );
    }
    let merged = merge_delta(&full(98, 9), &delta(100, 9)).unwrap();
    assert_eq!(parse(merged).segments().len(), 9);
}

#[test]
fn an_older_text_without_a_final_line_end_is_merged_line_by_line() {
    let previous = parse(format!("{HEAD}{}", segments(100, 3)).trim_end().to_owned());
    let newer = parse(format!("{HEAD}{}", segments(100, 9)));
    let merged = merge_delta(&previous, &parse(delta_update(&newer).unwrap())).unwrap();
    assert_eq!(
        parse(merged)
            .segments()
            .map(|s| s.uri)
            .collect::<Vec<_>>()
            .len(),
        9
    );
}

/// Everything that a player could learn from a playlist, one line each.
fn meaning(list: &MediaPlaylist) -> Vec<String> {
    let mut facts = list.facts.clone();
    facts.version = facts.version.max(9);
    let mut out = vec![format!("{facts:?}")];
    for (index, segment) in list.segments().enumerate() {
        let row = &list.segments[index];
        let map = segment.map.map(|map| list.maps().nth(map).unwrap());
        let keys: Vec<_> = keys_in_force(list, &list.keys[..row.keys_seen as usize])
            .iter()
            .map(|key| list.of_text(key.line))
            .collect();
        let bitrate = (row.bitrates_seen as usize)
            .checked_sub(1)
            .map(|n| list.of_text(list.bitrates[n]));
        let mut segment = segment.clone();
        (segment.parts, segment.map) = (0..0, None);
        out.push(format!("{segment:?} {map:?} {keys:?} {bitrate:?}"));
    }
    out.extend(list.parts().map(|part| format!("{part:?}")));
    out.extend(list.preload_hints().map(|hint| format!("{hint:?}")));
    out.extend(list.rendition_reports().map(|report| format!("{report:?}")));
    let ranges: BTreeSet<_> = list.date_ranges().map(|range| range.line).collect();
    out.extend(ranges.into_iter().map(str::to_owned));
    out
}

fn tail() -> String {
    let mut tail = String::new();
    writeln!(
        tail,
        "#EXT-X-RENDITION-REPORT:URI=\"../a.m3u8\",LAST-MSN=1,LAST-PART=0"
    )
    .unwrap();
    tail
}

proptest! {
    #[test]
    fn ca_17_merging_a_delta_into_an_earlier_version_gives_the_full_playlist(
        timeline in timeline(),
        last in 13_usize..38,
        behind in 0_usize..6,
        open in 0_u32..6,
    ) {
        let full = timeline.at(last, open, &tail());
        let previous = timeline.at(last - behind, 0, "");
        if let Some(delta) = delta_update(&full) {
            let merged = merge_delta(&previous, &parse(delta)).unwrap();
            prop_assert_eq!(meaning(&parse(merged)), meaning(&full));
        }
    }

    #[test]
    fn ll_14_merging_an_update_of_both_kinds_gives_the_full_playlist(
        timeline in timeline(),
        last in 24_usize..38,
        // rfc8216bis 6.3.7: who has nothing younger than half the skip boundary asks for no update.
        behind in 0_usize..4,
        open in 0_u32..6,
    ) {
        let offering = |last, open, tail: &str| {
            let text = timeline.text(last, open, tail);
            parse(text.replace("CAN-SKIP-UNTIL=12", "CAN-SKIP-UNTIL=12,CAN-SKIP-DATERANGES=YES"))
        };
        let mut history = DateRangeHistory::default();
        let mut old = None;
        for version in 13..=last {
            let durations = timeline.segments[..=version].iter().map(|s| s.milliseconds);
            let now = Duration::from_millis(durations.sum::<u32>().into());
            old = history.note(&offering(version, 0, ""), now);
        }
        let full = offering(last, open, &tail());
        let previous = offering(last - behind, 0, "");
        let old = old.expect("eleven segments are longer than the skip boundary");
        if let Some(delta) = delta_update_of_both(&full, &old) {
            let delta = parse(delta);
            prop_assert_eq!(delta.date_ranges().len() + old.rows.len(), full.date_ranges().len());
            let merged = merge_delta(&previous, &delta).unwrap();
            let version = |mut list: MediaPlaylist| {
                list.facts.version = list.facts.version.max(10);
                list
            };
            prop_assert_eq!(meaning(&version(parse(merged))), meaning(&version(full)));
        }
    }

    #[test]
    fn ca_17_merging_a_delta_into_its_own_version_gives_it_byte_for_byte(
        timeline in timeline(),
        last in 13_usize..38,
        open in 0_u32..6,
    ) {
        let mut timeline: Timeline = timeline;
        timeline.version = 10;
        timeline.segments.iter_mut().for_each(|segment| segment.date_range = None);
        let full = timeline.at(last, open, &tail());
        if let Some(delta) = delta_update(&full) {
            prop_assert!(delta.len() < full.text().len());
            let merged = merge_delta(&full, &parse(delta)).unwrap();
            prop_assert_eq!(text(&merged), text(full.text()));
        }
    }
}
