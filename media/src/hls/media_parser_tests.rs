//! What the parser reads of each tag, and what it refuses.

use super::*;
use crate::hls::{Define, Playlist};
use crate::position::Position;

fn parse(text: &str) -> Result<MediaPlaylist, PlaylistError> {
    match Playlist::parse(Bytes::copy_from_slice(text.as_bytes()), &Limits::default())? {
        Playlist::Media(list) => Ok(list),
        Playlist::Multivariant(_) => panic!("a media playlist"),
    }
}

const LOW_LATENCY: &str = "#EXTM3U
#EXT-X-TARGETDURATION:4
#EXT-X-VERSION:9
#EXT-X-PART-INF:PART-TARGET=0.5
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=24,PART-HOLD-BACK=1.5,HOLD-BACK=12.5,CAN-SKIP-DATERANGES=YES
#EXT-X-MEDIA-SEQUENCE:266
#EXT-X-DISCONTINUITY-SEQUENCE:3
#EXT-X-MAP:URI=\"init.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-02-14T02:13:36.106Z
#EXTINF:4.00008,
s266.mp4
#EXT-X-DATERANGE:ID=\"ad,1\",CLASS=\"x\",START-DATE=\"2026-02-14T02:13:36Z\"
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI=\"init2.mp4\",BYTERANGE=\"720\"
#EXT-X-KEY:METHOD=AES-128,URI=\"skd://k?a=1,2\",IV=0x1
#EXT-X-PART:DURATION=0.5,URI=\"s267.0.mp4\",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.5,URI=\"s267.1.mp4\",GAP=YES
#EXT-X-GAP
#EXTINF:4.00008,
s267.mp4
#EXT-X-PART:DURATION=0.5,URI=\"s268.mp4\",BYTERANGE=\"1000@0\"
#EXT-X-PART:DURATION=0.5,URI=\"s268.mp4\",BYTERANGE=\"500\"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"s268.mp4\",BYTERANGE-START=1500
#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"init3.mp4\",BYTERANGE-LENGTH=700
#EXT-X-PRELOAD-HINT:TYPE=FUTURE,URI=\"x\"
#EXT-X-RENDITION-REPORT:URI=\"../1M/p.m3u8\",LAST-MSN=268,LAST-PART=1
#EXT-X-RENDITION-REPORT:URI=\"../2M/p.m3u8\"
";

#[test]
fn every_fact_of_a_low_latency_playlist_is_read() {
    let list = parse(LOW_LATENCY).unwrap();
    assert_eq!(list.version(), 9);
    assert_eq!(list.target_duration(), Duration::from_secs(4));
    assert_eq!(list.part_target(), Some(Duration::from_millis(500)));
    assert!(list.can_block_reload() && list.can_skip_dateranges() && !list.is_ended());
    assert_eq!(list.can_skip_until(), Some(Duration::from_secs(24)));
    assert_eq!(list.hold_back(), Duration::from_millis(12_500));
    assert_eq!(list.part_hold_back(), Some(Duration::from_millis(1_500)));
    assert_eq!(list.media_sequence(), MediaSequenceNumber(266));
    assert_eq!(list.discontinuity_sequence(), 3);
    assert_eq!(list.last_segment(), Some(MediaSequenceNumber(267)));
    assert_eq!(
        list.last_position(),
        Some(Position::part(MediaSequenceNumber(268), 1))
    );
    assert_eq!(
        list.next_position(),
        Position::part(MediaSequenceNumber(268), 2)
    );
    let range = list.date_ranges().next().unwrap();
    assert_eq!((range.id, range.class), ("ad,1", Some("x")));
    let key = list.keys().next().unwrap();
    assert_eq!((key.method, key.uri), ("AES-128", Some("skd://k?a=1,2")));
    let maps: Vec<_> = list.maps().map(|map| (map.uri, map.byte_range)).collect();
    let range = ByteRange {
        start: Some(0),
        length: 720,
    };
    assert_eq!(maps, [("init.mp4", None), ("init2.mp4", Some(range))]);
}

#[test]
fn every_segment_and_part_knows_what_applies_to_it() {
    let list = parse(LOW_LATENCY).unwrap();
    let segments: Vec<_> = list.segments().collect();
    assert_eq!(segments.len(), 2);
    assert_eq!(
        segments[0].program_date_time,
        Some("2026-02-14T02:13:36.106Z")
    );
    assert_eq!((segments[0].map, segments[1].map), (Some(0), Some(1)));
    assert!(segments[1].is_gap && segments[1].is_discontinuity && !segments[0].is_gap);
    assert_eq!(segments[0].duration, Duration::from_micros(4_000_080));
    assert_eq!(segments[1].parts, 0..2);
    assert_eq!(
        list.segment(MediaSequenceNumber(267)),
        Some(segments[1].clone())
    );
    assert_eq!(list.segment(MediaSequenceNumber(265)), None);
    assert_eq!(list.segment(MediaSequenceNumber(268)), None);
    let parts: Vec<_> = list
        .parts()
        .map(|p| (p.position.to_string(), p.byte_range))
        .collect();
    let range = |start, length| {
        Some(ByteRange {
            start: Some(start),
            length,
        })
    };
    let expected = [
        ("267.0".to_owned(), None),
        ("267.1".to_owned(), None),
        ("268.0".to_owned(), range(0, 1000)),
        ("268.1".to_owned(), range(1000, 500)),
    ];
    assert_eq!(parts, expected);
    assert!(list.parts().next().unwrap().is_independent);
    assert!(list.parts().nth(1).unwrap().is_gap);
}

#[test]
fn hints_and_reports_are_read_and_hints_of_the_future_ignored() {
    let list = parse(LOW_LATENCY).unwrap();
    let hints: Vec<_> = list
        .preload_hints()
        .map(|h| (h.kind, h.uri, h.byterange_start, h.byterange_length))
        .collect();
    let expected = [
        (HintKind::Part, "s268.mp4", 1500, None),
        (HintKind::Map, "init3.mp4", 0, Some(700)),
    ];
    assert_eq!(hints, expected);
    let reports: Vec<_> = list
        .rendition_reports()
        .map(|r| (r.uri, r.last_msn, r.last_part))
        .collect();
    let expected = [
        ("../1M/p.m3u8", Some(MediaSequenceNumber(268)), Some(1)),
        ("../2M/p.m3u8", None, None),
    ];
    assert_eq!(reports, expected);
}

#[test]
fn the_next_position_is_part_zero_of_the_next_segment_once_the_open_one_closes() {
    let head = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n";
    let msn = MediaSequenceNumber;
    let cases = [
        ("", None, Position::segment(msn(7))),
        (
            "#EXTINF:4,\na\n",
            Some(Position::segment(msn(7))),
            Position::segment(msn(8)),
        ),
        (
            "#EXT-X-PART-INF:PART-TARGET=1\n",
            None,
            Position::part(msn(7), 0),
        ),
        (
            "#EXT-X-PART-INF:PART-TARGET=1\n#EXT-X-PART:URI=\"p\",DURATION=1\n",
            Some(Position::part(msn(7), 0)),
            Position::part(msn(7), 1),
        ),
        (
            "#EXT-X-PART-INF:PART-TARGET=1\n#EXT-X-PART:URI=\"p\",DURATION=1\n#EXTINF:1,\na\n",
            Some(Position::segment(msn(7))),
            Position::part(msn(8), 0),
        ),
    ];
    for (body, last, next) in cases {
        let list = parse(&format!("{head}{body}")).unwrap();
        assert_eq!(
            (list.last_position(), list.next_position()),
            (last, next),
            "{body}"
        );
    }
}

#[test]
fn a_delta_update_counts_from_after_what_it_skips() {
    let list = parse(
        "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:10\n\
         #EXT-X-SKIP:SKIPPED-SEGMENTS=3,RECENTLY-REMOVED-DATERANGES=\"a\tb\"\n#EXTINF:4,\ns13\n",
    )
    .unwrap();
    let skip = list.skip().unwrap();
    assert_eq!(
        (skip.segments, skip.recently_removed_date_ranges),
        (3, Some("a\tb"))
    );
    assert_eq!(list.segments().next().unwrap().msn, MediaSequenceNumber(13));
    assert_eq!(list.last_segment(), Some(MediaSequenceNumber(13)));
}

#[test]
fn byte_ranges_without_a_start_follow_their_predecessor_in_the_same_resource() {
    let list = parse(
        "#EXTM3U\n#EXT-X-TARGETDURATION:4\n\
         #EXT-X-BYTERANGE:100\n#EXTINF:4,\na\n#EXT-X-BYTERANGE:100@50\n#EXTINF:4,\na\n\
         #EXT-X-BYTERANGE:7\n#EXTINF:4,\na\n#EXT-X-BYTERANGE:7\n#EXTINF:4,\nb\n",
    )
    .unwrap();
    let starts: Vec<_> = list
        .segments()
        .map(|s| s.byte_range.unwrap().start)
        .collect();
    assert_eq!(starts, [None, Some(50), Some(150), None]);
}

#[test]
fn ca_21_variables_are_listed_with_where_they_come_from() {
    let list = parse(
        "#EXTM3U\n#EXT-X-DEFINE:NAME=\"a\",VALUE=\"1\"\n#EXT-X-DEFINE:IMPORT=\"b\"\n\
         #EXT-X-DEFINE:QUERYPARAM=\"token\"\n#EXT-X-DEFINE:FUTURE=\"x\"\n#EXT-X-TARGETDURATION:4\n",
    )
    .unwrap();
    let defines: Vec<_> = list.defines().collect();
    let expected = [
        Define::Value("a"),
        Define::Import("b"),
        Define::QueryParameter("token"),
    ];
    assert_eq!(defines, expected);
    assert_eq!(list.query_parameter_names().collect::<Vec<_>>(), ["token"]);
}

#[test]
fn malformed_tags_are_refused_with_their_line() {
    let cases = [
        ("#EXTINF:x,\na", "EXTINF", 3),
        ("#EXTINF:-1,\na", "EXTINF", 3),
        ("a.ts", "EXTINF", 3),
        ("#EXTINF:4,\na\nb", "EXTINF", 5),
        ("#EXT-X-PART:URI=\"a\"", "EXT-X-PART", 3),
        ("#EXT-X-PART:DURATION=1", "EXT-X-PART", 3),
        ("#EXT-X-PART:DURATION=1,URI=\"a", "EXT-X-PART", 3),
        (
            "#EXT-X-PART:DURATION=1,URI=\"a\",BYTERANGE=\"9@18446744073709551615\"",
            "EXT-X-PART",
            3,
        ),
        ("#EXT-X-PART-INF:PART-TARGET=0", "EXT-X-PART-INF", 3),
        ("#EXT-X-PART-INF:", "EXT-X-PART-INF", 3),
        (
            "#EXT-X-MEDIA-SEQUENCE:18446744073709551615",
            "EXT-X-MEDIA-SEQUENCE",
            3,
        ),
        ("#EXT-X-MEDIA-SEQUENCE:-1", "EXT-X-MEDIA-SEQUENCE", 3),
        ("#EXT-X-TARGETDURATION:", "EXT-X-TARGETDURATION", 3),
        ("#EXT-X-BYTERANGE:@5", "EXT-X-BYTERANGE", 3),
        (
            "#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n#EXT-X-SKIP:SKIPPED-SEGMENTS=1",
            "EXT-X-SKIP",
            4,
        ),
        (
            "#EXTINF:4,\na\n#EXT-X-SKIP:SKIPPED-SEGMENTS=1",
            "EXT-X-SKIP",
            5,
        ),
        ("#EXT-X-SKIP:X=1", "EXT-X-SKIP", 3),
        ("#EXT-X-PRELOAD-HINT:TYPE=PART", "EXT-X-PRELOAD-HINT", 3),
        (
            "#EXT-X-RENDITION-REPORT:URI=\"a\",LAST-PART=4294967296",
            "EXT-X-RENDITION-REPORT",
            3,
        ),
        ("#EXT-X-DATERANGE:CLASS=\"a\"", "EXT-X-DATERANGE", 3),
        ("#EXT-X-KEY:URI=\"a\"", "EXT-X-KEY", 3),
        ("#EXT-X-MAP:BYTERANGE=\"1@0\"", "EXT-X-MAP", 3),
        ("#EXT-X-PLAYLIST-TYPE:LIVE", "EXT-X-PLAYLIST-TYPE", 3),
        (
            "#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL=soon",
            "EXT-X-SERVER-CONTROL",
            3,
        ),
    ];
    for (body, tag, line) in cases {
        let text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n{body}\n");
        assert_eq!(
            parse(&text).unwrap_err(),
            PlaylistError::Malformed { tag, line },
            "{body}"
        );
    }
}

#[test]
fn every_limit_is_an_error_that_names_it() {
    let head = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n";
    let limits = Limits {
        lines_max: 12,
        segments_max: 2,
        parts_max: 2,
        hints_max: 1,
        attributes_max: 3,
        ..Limits::default()
    };
    let cases = [
        ("#EXTINF:4,\na\n".repeat(3), "segments", 2),
        ("#EXT-X-PART:URI=\"p\",DURATION=1\n".repeat(3), "parts", 2),
        (
            "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p\"\n".repeat(2),
            "preload hints",
            1,
        ),
        ("#EXT-X-PART:A=1,B=2,C=3,D=4\n".to_owned(), "attributes", 3),
        (
            "#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n".to_owned(),
            "skipped segments",
            2,
        ),
        ("\n".repeat(20), "lines", 12),
    ];
    for (body, expected, most) in cases {
        let text = Bytes::from(format!("{head}{body}"));
        match Playlist::parse(text, &limits) {
            Err(PlaylistError::TooMany { what, limit, .. }) => {
                assert_eq!((what, limit), (expected, most));
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn a_truncated_playlist_never_has_more_than_the_whole_one() {
    let whole = parse(LOW_LATENCY).unwrap();
    for end in 0..LOW_LATENCY.len() {
        if let Ok(list) = parse(LOW_LATENCY.get(..end).unwrap()) {
            assert!(list.last_position() <= whole.last_position(), "{end} bytes");
        }
    }
}
