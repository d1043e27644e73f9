//! Tests of rewriting: cases by hand, and properties over random streams.

use proptest::prelude::*;

use super::super::timeline::{parse, timeline};
use super::super::{Stretch, delta_update, merge_delta};
use super::*;

fn redacted(playlist: &MediaPlaylist, first: u64, last: u64) -> MediaPlaylist {
    let meant = Meant::of(playlist, &[Stretch::Msn { first, last }]);
    parse(redact(playlist, &meant))
}

const HEAD: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:10\n#EXT-X-DISCONTINUITY-SEQUENCE:2\n\
     #EXT-X-PART-INF:PART-TARGET=2\n#EXT-X-MAP:URI=\"i\"\n";

#[test]
fn what_was_purged_keeps_its_place_and_loses_its_name() {
    let playlist = parse(format!(
        "{HEAD}#EXTINF:4,\na\n#EXT-X-DISCONTINUITY\n#EXT-X-KEY:METHOD=NONE\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00Z\n#EXT-X-PART:DURATION=2.5,URI=\"b.0\",INDEPENDENT=YES\n\
         #EXT-X-PART:DURATION=1.5,URI=\"b\",BYTERANGE=\"7@0\"\n#EXTINF:4,news\n#EXT-X-BYTERANGE:7@0\nb\n\
         #EXTINF:4,\n#EXT-X-BYTERANGE:9\nb\n#EXT-X-PART:DURATION=2,URI=\"d.0\"\n\
         #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"d.1\"\n#EXT-X-RENDITION-REPORT:URI=\"../a\",LAST-MSN=13\n"
    ));
    let expected = format!(
        "{HEAD}#EXTINF:4,\na\n#EXT-X-DISCONTINUITY\n#EXT-X-KEY:METHOD=NONE\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00Z\n\
         #EXT-X-PART:DURATION=2.5,URI=\"b.0?_seawall_purged\",INDEPENDENT=YES,GAP=YES\n\
         #EXT-X-PART:DURATION=1.5,URI=\"b?_seawall_purged\",GAP=YES\n#EXTINF:4,news\n#EXT-X-GAP\n\
         b?_seawall_purged\n\
         #EXTINF:4,\n#EXT-X-BYTERANGE:9@7\nb\n#EXT-X-PART:DURATION=2,URI=\"d.0\"\n\
         #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"d.1\"\n#EXT-X-RENDITION-REPORT:URI=\"../a\",LAST-MSN=13\n"
    );
    let after = redacted(&playlist, 11, 11);
    assert_eq!(after.text(), expected.as_bytes());
    let gaps: Vec<_> = after.segments().map(|segment| segment.is_gap).collect();
    assert_eq!(gaps, [false, true, false]);
    assert_eq!(after.last_position(), playlist.last_position());
}

#[test]
fn ll_19_a_hint_of_what_was_purged_is_withdrawn_and_one_of_a_map_stays() {
    let playlist = parse(format!(
        "{HEAD}#EXTINF:4,\na\n#EXT-X-PART:DURATION=2,URI=\"b.0\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"b.1\"\n\
         #EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"j\""
    ));
    let after = redacted(&playlist, 11, 20);
    let hints: Vec<_> = after.preload_hints().map(|hint| hint.uri).collect();
    assert_eq!(hints, ["j"]);
    assert_eq!(
        after.parts().map(|part| part.is_gap).collect::<Vec<_>>(),
        [true]
    );
    assert_eq!(after.next_position(), playlist.next_position());
    assert_eq!(after.segments().next().unwrap().uri, "a");
}

#[test]
fn line_ends_and_a_missing_last_one_are_no_matter() {
    let playlist =
        parse("#EXTM3U\r\n#EXT-X-TARGETDURATION:4\r\n#EXTINF:4,\r\na\r\n#EXTINF:4,\r\nb");
    let after = redacted(&playlist, 0, 1);
    let uris: Vec<_> = after.segments().map(|segment| segment.uri).collect();
    assert_eq!(uris, ["a?_seawall_purged", "b?_seawall_purged"]);
}

fn purged_names(playlist: &MediaPlaylist, (first, last): (u64, u64)) -> Vec<String> {
    let meant = Meant::of(playlist, &[Stretch::Msn { first, last }]);
    meant.uris(playlist).map(str::to_owned).collect()
}

fn shared(uri: &str) -> bool {
    uri == "all.mp4"
}

proptest! {
    #[test]
    fn a_rewritten_playlist_names_nothing_that_is_meant_and_is_else_the_same(
        line in timeline(), last in 24_usize..38, open in 0_u32..6, first in 0_u64..45, length in 0_u64..12,
    ) {
        let before = line.at(last, open, "");
        let range = (first, first + length);
        let after = redacted(&before, range.0, range.1);
        let named = purged_names(&before, range);
        for uri in named.iter().filter(|uri| !shared(uri)) {
            prop_assert!(!after.segments().any(|segment| segment.uri == uri));
            prop_assert!(!after.parts().any(|part| part.uri == uri));
            prop_assert!(!after.preload_hints().any(|hint| hint.uri == uri));
        }
        prop_assert_eq!(before.segments().len(), after.segments().len());
        for (old, new) in before.segments().zip(after.segments()) {
            let is_meant = (range.0..=range.1).contains(&old.msn.0);
            prop_assert_eq!(old.msn, new.msn);
            prop_assert_eq!(old.duration, new.duration);
            prop_assert_eq!(old.program_date_time, new.program_date_time);
            prop_assert_eq!(old.is_discontinuity, new.is_discontinuity);
            prop_assert_eq!(old.map, new.map);
            if is_meant {
                prop_assert!(new.is_gap && is_purged(new.uri) && new.byte_range.is_none());
                prop_assert_eq!(old.uri.split('?').next(), new.uri.split('?').next(), "hls.js compares paths");
            } else {
                prop_assert_eq!((old.uri, old.byte_range, old.is_gap), (new.uri, new.byte_range, new.is_gap));
            }
        }
        prop_assert_eq!(before.last_position(), after.last_position());
        prop_assert_eq!(before.next_position(), after.next_position());
        prop_assert_eq!(before.discontinuity_sequence(), after.discontinuity_sequence());
        let again = redacted(&after, range.0, range.1);
        prop_assert_eq!(again.text(), after.text(), "tiers may each do it");
    }

    #[test]
    fn ll_16_a_delta_of_a_rewritten_version_merges_with_one_that_was_rewritten_too(
        line in timeline(), last in 24_usize..36, step in 1_usize..3, open in 0_u32..6,
        first in 0_u64..45, length in 0_u64..12,
    ) {
        let range = (first, first + length);
        let previous = redacted(&line.at(last, open, ""), range.0, range.1);
        let next = redacted(&line.at(last + step, open, ""), range.0, range.1);
        let Some(delta) = delta_update(&next) else { return Ok(()) };
        let merged = parse(merge_delta(&previous, &parse(delta)).unwrap());
        let named = |list: &MediaPlaylist| -> Vec<_> {
            list.segments().map(|s| (s.msn, s.uri.to_owned(), s.byte_range, s.is_gap)).collect()
        };
        prop_assert_eq!(named(&merged), named(&next));
    }
}
