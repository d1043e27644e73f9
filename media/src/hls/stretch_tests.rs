//! Tests of what lies in a stretch: numbers, dates, drift, discontinuities, and where nothing can be told.

use super::super::timeline::parse;
use super::*;

fn at(clock: &str) -> Duration {
    parse_date_time(&format!("2026-01-01T{clock}Z")).unwrap()
}

/// Marks each segment that is meant with `x`, the open one last.
fn marks(text: &str, stretch: Stretch) -> String {
    let playlist = parse(text.to_owned());
    let meant = Meant::of(&playlist, &[stretch]);
    let all = meant.segments.iter().chain([&meant.open]);
    all.map(|meant| if *meant { 'x' } else { '.' }).collect()
}

fn list(lines: &str) -> String {
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:10\n{lines}")
}

fn by_date(from: &str, to: &str) -> Stretch {
    Stretch::WallClock {
        from: at(from),
        to: at(to),
    }
}

#[test]
fn numbers_mean_the_same_segments_whatever_the_playlist_says_of_time() {
    let text = list("#EXTINF:4,\na\n#EXTINF:4,\nb\n#EXTINF:4,\nc\n");
    for (first, last, expected) in [
        (0, 9, "...."),
        (11, 11, ".x.."),
        (0, 10, "x..."),
        (12, 13, "..xx"),
        (14, 99, "...."),
        (0, u64::MAX, "xxxx"),
    ] {
        let stretch = Stretch::Msn { first, last };
        assert_eq!(marks(&text, stretch), expected, "{first}-{last}");
    }
}

#[test]
fn dates_mean_every_segment_that_is_touched_before_and_after_the_dated_one() {
    let text = list(
        "#EXTINF:4,\na\n#EXT-X-PROGRAM-DATE-TIME:2026-01-01T12:00:04Z\n#EXTINF:4,\nb\n#EXTINF:4,\nc\n",
    );
    for (from, to, expected) in [
        ("11:59:00", "11:59:59", "...."),
        ("11:59:00", "12:00:00", "x..."), // both ends belong to it
        ("12:00:03.999", "12:00:04", "xx.."),
        ("12:00:04", "12:00:05", ".x.."),
        ("12:00:08", "12:00:11.9", "..x."),
        ("12:00:12", "13:00:00", "...x"),
        ("12:00:16", "13:00:00", "...."), // the open one lasts a target duration at most
    ] {
        assert_eq!(marks(&text, by_date(from, to)), expected, "{from} to {to}");
    }
}

#[test]
fn dates_that_drift_are_believed_one_by_one() {
    let date = |second: &str| {
        format!("#EXT-X-PROGRAM-DATE-TIME:2026-01-01T12:00:{second}Z\n#EXTINF:4,\ns\n")
    };
    let text = list(&[date("00.000"), date("04.500"), date("08.200")].concat());
    assert_eq!(
        marks(&text, by_date("12:00:04.500", "12:00:08.100")),
        ".x.."
    );
    assert_eq!(
        marks(&text, by_date("12:00:08.300", "12:00:08.400")),
        ".xx."
    );
}

#[test]
fn a_date_guessed_over_a_discontinuity_has_a_target_duration_to_either_side() {
    let text = list(
        "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T12:00:00Z\n#EXTINF:4,\na\n#EXT-X-DISCONTINUITY\n#EXTINF:4,\nb\n\
         #EXTINF:4,\nc\n#EXT-X-PROGRAM-DATE-TIME:2026-01-01T13:00:00Z\n#EXTINF:4,\nd\n",
    );
    assert_eq!(marks(&text, by_date("12:00:02", "12:00:02")), "xx...");
    assert_eq!(marks(&text, by_date("12:00:10", "12:00:10")), ".xx..");
    assert_eq!(marks(&text, by_date("13:00:01", "13:00:01")), "...x.");
}

#[test]
fn a_date_among_the_open_parts_is_that_of_the_open_segment() {
    let text = list(
        "#EXT-X-PART-INF:PART-TARGET=1\n#EXT-X-PROGRAM-DATE-TIME:2026-01-01T12:00:00Z\n#EXTINF:4,\na\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-01-01T14:00:00Z\n#EXT-X-PART:DURATION=1,URI=\"b.0\"\n",
    );
    assert_eq!(marks(&text, by_date("14:00:00", "14:00:00")), ".x");
    assert_eq!(marks(&text, by_date("12:00:04", "12:00:05")), "..");
}

#[test]
fn where_nothing_can_be_told_all_is_meant() {
    let undated = list("#EXTINF:4,\na\n#EXTINF:4,\nb\n");
    assert_eq!(marks(&undated, by_date("12:00:00", "12:00:00")), "xxx");
    let unreadable = list("#EXT-X-PROGRAM-DATE-TIME:yesterday\n#EXTINF:4,\na\n");
    assert_eq!(marks(&unreadable, by_date("12:00:00", "12:00:00")), "xx");
    let i_frames = list("#EXT-X-I-FRAMES-ONLY\n#EXTINF:4,\na\n#EXT-X-ENDLIST\n");
    let stretch = Stretch::Msn {
        first: 900,
        last: 901,
    };
    assert_eq!(marks(&i_frames, stretch), "x.", "it has numbers of its own");
    assert_eq!(marks(&undated, Stretch::Whole), "xxx");
}

#[test]
fn what_is_meant_and_what_is_kept_are_named_apart() {
    let playlist = parse(list(
        "#EXT-X-PART-INF:PART-TARGET=2\n#EXT-X-MAP:URI=\"i\"\n#EXTINF:4,\na\n\
         #EXT-X-PART:DURATION=2,URI=\"b.0\"\n#EXT-X-PART:DURATION=2,URI=\"b.1\"\n#EXTINF:4,\nb\n\
         #EXT-X-PART:DURATION=2,URI=\"c.0\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"c.1\"\n",
    ));
    let named = |first, last| {
        let meant = Meant::of(&playlist, &[Stretch::Msn { first, last }]);
        let uris: Vec<_> = meant.uris(&playlist).collect();
        let kept: Vec<_> = meant.kept_uris(&playlist).collect();
        (uris.join(" "), kept.join(" "))
    };
    let expect = |uris: &str, kept: &str| (uris.to_owned(), kept.to_owned());
    assert_eq!(named(11, 11), expect("b b.0 b.1", "a c.0 c.1 i"));
    assert_eq!(named(12, 99), expect("c.0 c.1", "a b b.0 b.1 i"));
    let mut meant = Meant::of(&playlist, &[]);
    assert!(meant.is_none());
    meant.add_resources(&playlist, |uri| uri == "a");
    assert_eq!(meant.uris(&playlist).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn a_stretch_has_passed_when_the_window_is_its_own_length_beyond() {
    let at = |first: u64| {
        let s = first * 4;
        parse(format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:{first}\n\
             #EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:{:02}:{:02}Z\n#EXTINF:4,\na\n#EXTINF:4,\nb\n",
            s / 60,
            s % 60,
        ))
    };
    let numbers = Stretch::Msn { first: 3, last: 5 };
    let dates = by_date("00:00:12", "00:00:23.9");
    for (first, has_passed) in [(0, false), (6, false), (7, false), (8, true), (90, true)] {
        assert_eq!(at(first).has_passed(&numbers), has_passed, "{first}");
        assert_eq!(at(first).has_passed(&dates), has_passed, "{first}");
        assert!(!at(first).has_passed(&Stretch::Whole));
    }
    let ended = parse(list("#EXTINF:4,\na\n#EXT-X-ENDLIST\n"));
    assert!(
        !ended.has_passed(&numbers),
        "a recording keeps its timeline"
    );
}
