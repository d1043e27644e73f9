//! What players see of encoders that follow each other.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;

use super::super::redact::ABSENT_URI;
use super::*;
use crate::hls::{Limits, Playlist, delta_update, merge_delta};

/// One start of an encoder with four parts to a segment.
#[derive(Clone, Copy, Debug)]
struct Encoder {
    first: u64,
    window: u64,
    /// Every so many segments there is a discontinuity; never if zero.
    discontinuity_every: u64,
}

impl Encoder {
    /// Returns the playlist after so many parts.
    fn text(&self, parts: u64) -> String {
        let complete = parts / 4;
        let begin = complete.saturating_sub(self.window);
        let every = self.discontinuity_every;
        let has_tag = |index: u64| every > 0 && index > 0 && index.is_multiple_of(every);
        let before = (0..begin).filter(|index| has_tag(*index)).count();
        let first = self.first + begin;
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5,CAN-SKIP-UNTIL=12\n\
             #EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:{first}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{before}\n#EXT-X-MAP:URI=\"init.mp4\"\n"
        );
        for index in begin..=complete {
            let number = self.first + index;
            let count = if index == complete { parts % 4 } else { 4 };
            if has_tag(index) && (count > 0 || index < complete) {
                text.push_str("#EXT-X-DISCONTINUITY\n");
            }
            if complete - index < 3 {
                for part in 0..count {
                    writeln!(text, "#EXT-X-PART:DURATION=0.5,URI=\"s{number}.{part}\"").unwrap();
                }
            }
            if index < complete {
                writeln!(text, "#EXTINF:2.0,\ns{number}").unwrap();
            }
        }
        let open = self.first + complete;
        writeln!(
            text,
            "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"s{open}.{}\"",
            parts % 4
        )
        .unwrap();
        writeln!(
            text,
            "#EXT-X-RENDITION-REPORT:URI=\"../a.m3u8\",LAST-MSN={open},LAST-PART=0"
        )
        .unwrap();
        text
    }

    fn playlist(&self, parts: u64) -> MediaPlaylist {
        media(self.text(parts))
    }
}

/// All that a run has can have been made in this time.
const LONG: Duration = Duration::from_secs(600);

const COUNTING_FROM_ZERO: Encoder = Encoder {
    first: 0,
    window: 6,
    discontinuity_every: 0,
};

fn media(text: impl Into<Bytes>) -> MediaPlaylist {
    match Playlist::parse(text.into(), &Limits::default()) {
        Ok(Playlist::Media(playlist)) => playlist,
        other => panic!("no media playlist: {other:?}"),
    }
}

fn marked(uri: &str) -> Option<String> {
    Some(format!("{uri}?run=b"))
}

fn shown(joint: &Joint, run: &MediaPlaylist) -> MediaPlaylist {
    media(joint.rewrite(run, marked, |_| joint.numbers().shift))
}

fn uris(playlist: &MediaPlaylist) -> Vec<&str> {
    playlist.segments().map(|segment| segment.uri).collect()
}

#[test]
fn fm_14_a_restart_goes_on_with_the_next_number_behind_a_discontinuity() {
    let before = COUNTING_FROM_ZERO.playlist(40);
    let run = COUNTING_FROM_ZERO.playlist(9);
    let joint = Joint::after(&before, &run, LONG, None, |_| true);
    let now = shown(&joint, &run);
    assert_eq!(now.media_sequence().0, 6);
    assert_eq!(uris(&now), ["s6", "s7", "s8", "s9", "s0?run=b", "s1?run=b"]);
    let joints: Vec<_> = now
        .segments()
        .filter(|s| s.is_discontinuity)
        .map(|s| s.msn.0)
        .collect();
    assert_eq!(joints, [10]);
    assert_eq!(now.open_msn().0, 12);
    let parts: Vec<_> = now.parts().map(|part| part.uri).collect();
    assert_eq!(parts.last(), Some(&"s2.0?run=b"));
    assert!(parts.iter().all(|uri| uri.ends_with("?run=b")));
    assert_eq!(now.preload_hints().next().unwrap().uri, "s2.1?run=b");
    let report = now.rendition_reports().next().unwrap();
    assert_eq!((report.uri, report.last_msn.unwrap().0), ("../a.m3u8", 12));
    let maps: Vec<_> = now.maps().map(|map| map.uri).collect();
    assert_eq!(maps, ["init.mp4", "init.mp4?run=b"]);
}

#[test]
fn a_segment_that_is_not_stored_is_a_gap_of_the_same_name() {
    let before = COUNTING_FROM_ZERO.playlist(40);
    let run = COUNTING_FROM_ZERO.playlist(9);
    let joint = Joint::after(&before, &run, LONG, None, |uri| uri != "s8");
    let now = shown(&joint, &run);
    let seen: Vec<_> = now.segments().map(|s| (s.uri, s.is_gap)).collect();
    let kept = [("s6", false), ("s7", false), ("s8", true), ("s9", false)];
    assert_eq!(seen[..4], kept, "hls.js compares names by number");
}

#[test]
fn a_segment_that_was_open_stays_as_a_gap_with_its_parts() {
    let before = COUNTING_FROM_ZERO.playlist(42);
    let run = COUNTING_FROM_ZERO.playlist(4);
    let now = shown(&Joint::after(&before, &run, LONG, None, |_| true), &run);
    assert_eq!(uris(&now)[4..], [ABSENT_URI, "s0?run=b"]);
    let gap = now.segments().nth(4).unwrap();
    assert!(gap.is_gap);
    assert_eq!(gap.msn.0, 10);
    assert_eq!(gap.duration.as_millis(), 1000);
    assert_eq!(gap.parts.len(), 2);
    assert_eq!(now.open_msn().0, 12);
}

#[test]
fn what_is_not_stored_any_more_is_a_gap() {
    let before = COUNTING_FROM_ZERO.playlist(40);
    let run = COUNTING_FROM_ZERO.playlist(4);
    let now = shown(
        &Joint::after(&before, &run, LONG, None, |uri| uri == "s9"),
        &run,
    );
    assert_eq!(uris(&now)[4..], ["s9", "s0?run=b"]);
    let gaps = now.segments().filter(|segment| segment.is_gap).count();
    assert_eq!(gaps, 4);
}

#[test]
fn when_the_joint_has_left_the_window_it_is_counted() {
    let before = COUNTING_FROM_ZERO.playlist(40);
    let joint = Joint::after(&before, &COUNTING_FROM_ZERO.playlist(4), LONG, None, |_| {
        true
    });
    let later = COUNTING_FROM_ZERO.playlist(24);
    let first = shown(&joint, &later);
    assert_eq!(first.media_sequence().0, 10);
    assert_eq!(first.discontinuity_sequence(), 0);
    assert!(first.segments().next().unwrap().is_discontinuity);
    let left = shown(&joint, &COUNTING_FROM_ZERO.playlist(28));
    assert_eq!(left.media_sequence().0, 11);
    assert_eq!(left.discontinuity_sequence(), 1);
    assert!(!left.segments().next().unwrap().is_discontinuity);
}

/// Gives each segment the date at which it began.
fn dated(encoder: &Encoder, parts: u64, began: u64) -> MediaPlaylist {
    let text = encoder.text(parts);
    let mut out = String::new();
    let first = encoder.playlist(parts).media_sequence().0;
    let mut index = first - encoder.first;
    for line in text.lines() {
        if line.starts_with("#EXTINF") {
            let at = began + index * 2;
            let (minutes, seconds) = (at / 60, at % 60);
            writeln!(
                out,
                "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:{minutes:02}:{seconds:02}Z"
            )
            .unwrap();
            index += 1;
        }
        writeln!(out, "{line}").unwrap();
    }
    media(out)
}

#[test]
fn what_both_have_is_shown_once_by_its_dates() {
    // Ten segments, to 20 s; the other origin counts from 100 and is three segments further.
    let before = dated(&COUNTING_FROM_ZERO, 40, 0);
    let other = Encoder {
        first: 100,
        ..COUNTING_FROM_ZERO
    };
    let run = dated(&other, 52, 0);
    let joint = Joint::after(&before, &run, Duration::ZERO, None, |_| true);
    let now = shown(&joint, &run);
    assert_eq!(
        uris(&now),
        ["s7", "s8", "s9", "s110?run=b", "s111?run=b", "s112?run=b"]
    );
    assert_eq!(now.open_msn().0, 13);
    let maps: Vec<_> = now.maps().map(|map| map.uri).collect();
    assert_eq!(maps, ["init.mp4", "init.mp4?run=b"]);
}

#[test]
fn without_dates_only_what_can_have_been_made_since_is_shown() {
    let before = COUNTING_FROM_ZERO.playlist(40);
    let run = COUNTING_FROM_ZERO.playlist(24);
    let four_seconds = Duration::from_secs(4);
    let joint = Joint::after(&before, &run, four_seconds, None, |_| true);
    let now = shown(&joint, &run);
    assert_eq!(uris(&now)[3..], ["s9", "s4?run=b", "s5?run=b"]);
    assert_eq!(now.open_msn().0, 12);
}

#[test]
fn encryption_ends_where_the_run_does_not_say_that_it_goes_on() {
    let text = COUNTING_FROM_ZERO.text(40);
    let keyed = text.replacen(
        "#EXT-X-MAP",
        "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXT-X-MAP",
        1,
    );
    let run = COUNTING_FROM_ZERO.playlist(4);
    let now = shown(
        &Joint::after(&media(keyed.clone()), &run, LONG, None, |_| true),
        &run,
    );
    let methods: Vec<_> = now.keys().map(|key| key.method).collect();
    assert_eq!(methods, ["AES-128", "NONE"]);
    let keyed = media(keyed);
    let now = shown(&Joint::after(&keyed, &keyed, LONG, None, |_| true), &keyed);
    let uris: Vec<_> = now.keys().filter_map(|key| key.uri).collect();
    assert_eq!(uris, ["k?run=b"], "what is kept is as long as the window");
}

#[test]
fn renditions_of_a_presentation_agree_although_they_stopped_apart() {
    let run = COUNTING_FROM_ZERO.playlist(4);
    let ahead = Joint::after(&COUNTING_FROM_ZERO.playlist(48), &run, LONG, None, |_| true);
    let agreed = ahead.numbers();
    let behind = Joint::after(
        &COUNTING_FROM_ZERO.playlist(40),
        &run,
        LONG,
        Some(&agreed),
        |_| true,
    );
    assert_eq!(behind.numbers().shift, agreed.shift);
    let now = shown(&behind, &run);
    assert_eq!(uris(&now)[3..], [ABSENT_URI, ABSENT_URI, "s0?run=b"]);
    assert_eq!(now.segments().last().unwrap().msn.0, 12);
    // One that is further on than was agreed does not go back for it.
    let further = Joint::after(
        &COUNTING_FROM_ZERO.playlist(60),
        &run,
        LONG,
        Some(&agreed),
        |_| true,
    );
    assert_eq!(shown(&further, &run).segments().last().unwrap().msn.0, 15);
    let late = COUNTING_FROM_ZERO.playlist(60);
    let joining = shown(&Joint::joining(&late, &agreed), &late);
    assert_eq!(joining.open_msn().0, 12 + 15);
    assert_eq!(joining.discontinuity_sequence(), 1);
}

fn encoders() -> impl Strategy<Value = (Encoder, Vec<u64>)> {
    let first = prop_oneof![Just(0), 0..1000_u64, Just(1_700_000_000)];
    (
        first,
        1..8_u64,
        0..5_u64,
        prop::collection::vec(0..9_u64, 1..12),
    )
        .prop_map(|(first, window, discontinuity_every, steps)| {
            let encoder = Encoder {
                first,
                window,
                discontinuity_every,
            };
            (encoder, steps)
        })
}

/// What a player remembers of a stream.
#[derive(Default)]
struct Player {
    last: Option<MediaPlaylist>,
    uris: BTreeMap<u64, String>,
    discontinuities: BTreeMap<u64, u64>,
}

impl Player {
    fn sees(&mut self, now: MediaPlaylist) {
        if let Some(last) = &self.last {
            assert!(now.media_sequence() >= last.media_sequence());
            assert!(now.last_position() >= last.last_position());
            assert!(
                now.media_sequence() <= last.open_msn().next(),
                "no hole between versions"
            );
            if let Some(delta) = delta_update(&now) {
                let merged = merge_delta(last, &media(delta));
                let merged = merged.map(media).ok();
                assert!(merged.is_none_or(|merged| merged.open_msn() == now.open_msn()));
            }
        }
        let mut discontinuity = now.discontinuity_sequence();
        for segment in now.segments() {
            discontinuity += u64::from(segment.is_discontinuity);
            let known = self
                .discontinuities
                .entry(segment.msn.0)
                .or_insert(discontinuity);
            assert_eq!(
                *known,
                discontinuity,
                "segment {} of\n{:?}",
                segment.msn,
                now.text()
            );
            if segment.is_gap {
                continue;
            }
            let known = self
                .uris
                .entry(segment.msn.0)
                .or_insert_with(|| segment.uri.to_owned());
            assert_eq!(known, segment.uri);
        }
        for part in now.parts() {
            let msn = part.position.msn.0;
            assert!(part.uri.starts_with('s'), "{msn}");
        }
        self.last = Some(now);
    }
}

proptest! {
    #[test]
    fn ca_07_ll_22_whatever_encoders_follow_each_other_a_player_sees_one_stream(
        runs in prop::collection::vec(encoders(), 1..5),
        stored in any::<u64>(),
        elapsed in prop_oneof![Just(LONG), (0..20_u64).prop_map(Duration::from_secs)],
    ) {
        let mut player = Player::default();
        let mut joint: Option<Joint> = None;
        for (number, (encoder, steps)) in runs.into_iter().enumerate() {
            let mut parts = 4 + stored % 7;
            if let Some(last) = &player.last {
                let first = encoder.playlist(parts);
                let is_there = |uri: &str| (stored >> (uri.len() % 64)) & 1 == 1;
                joint = Some(Joint::after(last, &first, elapsed, None, is_there));
            }
            for step in steps {
                let run = encoder.playlist(parts);
                let mark = |uri: &str| Some(format!("{uri}?run={number}"));
                let now = match &joint {
                    Some(joint) => media(joint.rewrite(&run, mark, |_| 0)),
                    None => run,
                };
                player.sees(now);
                // A version may be missed, but not a whole window.
                parts += step.min(encoder.window * 4);
            }
        }
    }
}
