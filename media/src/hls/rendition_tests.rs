//! Which versions are shown, and who wakes.

use proptest::prelude::*;

use super::*;
use crate::hls::timeline::{Timeline, parse, segments, timeline};
use crate::hls::{Answer, DeliveryDirectives, Refusal, answer};

const TARGET: Duration = Duration::from_secs(2);

/// A stream of `window` plain segments with parts, whose first date is `starts_at`.
fn stream(window: usize, starts_at: u32) -> Timeline {
    let segment = crate::hls::timeline::SegmentModel {
        milliseconds: 2000,
        parts: 4,
        length: None,
        is_gap: false,
        is_discontinuity: false,
        has_date: true,
        map: None,
        key: None,
        bitrate: None,
        date_range: None,
    };
    Timeline {
        segments: vec![segment; 60],
        window,
        has_parts: true,
        version: 9,
        starts_at,
    }
}

fn at(stream: &Timeline, last: usize, open: u32) -> Arc<MediaPlaylist> {
    Arc::new(stream.at(last, open, ""))
}

fn released(update: &Update) -> Option<String> {
    match update {
        Update::Newer { released, .. } => released.map(|position| position.to_string()),
        Update::Unchanged | Update::Older | Update::NewEpoch { .. } => None,
    }
}

#[test]
fn each_new_part_and_the_closing_of_a_segment_are_news() {
    let stream = stream(10, 0);
    let mut rendition = Rendition::new();
    for (last, open, expected) in [
        (20, 1, "21.0"),
        (20, 3, "21.2"),
        (21, 0, "21"),
        (21, 1, "22.0"),
    ] {
        let update = rendition.offer(at(&stream, last, open), Duration::ZERO);
        assert_eq!(released(&update).as_deref(), Some(expected));
        assert_eq!(rendition.high_water_mark().unwrap().to_string(), expected);
    }
    let update = rendition.offer(at(&stream, 21, 1), Duration::ZERO);
    assert_eq!(update, Update::Unchanged);
}

#[test]
fn new_parts_are_told_apart_from_known_ones() {
    let stream = stream(10, 0);
    let mut rendition = Rendition::new();
    rendition.offer(at(&stream, 20, 2), Duration::ZERO);
    let playlist = at(&stream, 21, 1);
    let Update::Newer { new_parts, .. } = rendition.offer(Arc::clone(&playlist), Duration::ZERO)
    else {
        panic!("a newer version");
    };
    let new: Vec<_> = playlist
        .parts()
        .skip(new_parts.start)
        .map(|p| p.uri)
        .collect();
    assert_eq!(new, ["p21.2", "p21.3", "p22.0"]);
}

#[test]
fn ll_22_an_earlier_version_is_never_shown() {
    let stream = stream(10, 0);
    let mut rendition = Rendition::new();
    rendition.offer(at(&stream, 20, 2), Duration::ZERO);
    for (last, open) in [(20, 1), (20, 0), (19, 4), (15, 0)] {
        let update = rendition.offer(at(&stream, last, open), Duration::ZERO);
        assert_eq!(update, Update::Older, "{last} {open}");
        assert_eq!(rendition.high_water_mark().unwrap().to_string(), "21.1");
    }
}

#[test]
fn ca_07_a_parent_that_lags_two_parts_never_takes_time_back() {
    let stream = stream(10, 0);
    let mut rendition = Rendition::new();
    for step in 0..40_u32 {
        let now = Duration::from_millis(u64::from(step) * 500);
        rendition.offer(at(&stream, 20 + step as usize / 4, step % 4), now);
        if let Some(late) = step.checked_sub(2) {
            let playlist = at(&stream, 20 + late as usize / 4, late % 4);
            for _ in 0..5 {
                assert_eq!(rendition.offer(Arc::clone(&playlist), now), Update::Older);
            }
        }
    }
    assert_eq!(rendition.epoch(), 0);
}

#[test]
fn ca_07_a_restart_from_zero_is_a_new_epoch_at_the_third_answer() {
    let (before, after) = (stream(10, 0), stream(10, 40_000));
    let mut rendition = Rendition::new();
    rendition.offer(at(&before, 40, 2), Duration::ZERO);
    assert_eq!(rendition.offer(at(&after, 0, 1), TARGET), Update::Older);
    assert_eq!(rendition.offer(at(&after, 0, 2), TARGET), Update::Older);
    let update = rendition.offer(at(&after, 0, 3), TARGET);
    assert!(matches!(
        update,
        Update::NewEpoch {
            epoch: 1,
            ended: false,
            ..
        }
    ));
    assert_eq!(rendition.high_water_mark().unwrap().to_string(), "1.2");
    // The old broadcast does not come back by one stray answer.
    assert!(matches!(
        rendition.offer(at(&after, 0, 4), TARGET),
        Update::Newer { .. }
    ));
}

#[test]
fn fm_14_a_restart_that_reuses_numbers_still_in_the_window_is_told_by_its_dates() {
    let (before, after) = (stream(10, 0), stream(10, 40_000));
    let mut rendition = Rendition::new();
    rendition.offer(at(&before, 3, 0), Duration::ZERO);
    for _ in 0..2 {
        assert_eq!(
            rendition.offer(at(&after, 1, 0), Duration::ZERO),
            Update::Older
        );
    }
    let update = rendition.offer(at(&after, 2, 0), Duration::ZERO);
    assert!(matches!(update, Update::NewEpoch { epoch: 1, .. }));
}

#[test]
fn ca_07_answers_that_disagree_or_are_interrupted_confirm_nothing() {
    let (before, after) = (stream(10, 0), stream(10, 40_000));
    let mut rendition = Rendition::new();
    rendition.offer(at(&before, 40, 0), Duration::ZERO);
    for last in [5, 4, 3, 2, 1, 0] {
        assert_eq!(
            rendition.offer(at(&after, last, 0), Duration::ZERO),
            Update::Older
        );
    }
    let mut rendition = Rendition::new();
    rendition.offer(at(&before, 40, 0), Duration::ZERO);
    for _ in 0..4 {
        assert_eq!(
            rendition.offer(at(&after, 0, 0), Duration::ZERO),
            Update::Older
        );
        assert_eq!(
            rendition.offer(at(&after, 0, 1), Duration::ZERO),
            Update::Older
        );
        assert_eq!(
            rendition.offer(at(&before, 40, 0), Duration::ZERO),
            Update::Unchanged
        );
    }
    assert_eq!(rendition.epoch(), 0);
}

#[test]
fn ca_07_a_parent_that_should_have_caught_up_by_now_has_begun_again() {
    // Without dates, only time tells a lag from a restart with numbers still in the window.
    let mut stream = stream(10, 0);
    stream
        .segments
        .iter_mut()
        .for_each(|segment| segment.has_date = false);
    let mut rendition = Rendition::new();
    rendition.offer(at(&stream, 5, 0), Duration::ZERO);
    let behind = at(&stream, 3, 0);
    for second in 0..6 {
        let update = rendition.offer(Arc::clone(&behind), Duration::from_secs(second));
        assert_eq!(update, Update::Older, "{second} s");
    }
    let update = rendition.offer(behind, TARGET * 3);
    assert!(matches!(update, Update::NewEpoch { .. }));
}

#[test]
fn ca_07_an_operator_can_let_the_next_answer_begin_an_epoch() {
    let stream = stream(10, 0);
    let mut rendition = Rendition::new();
    rendition.offer(at(&stream, 20, 0), Duration::ZERO);
    rendition.expect_new_epoch();
    let update = rendition.offer(at(&stream, 3, 0), Duration::ZERO);
    assert!(matches!(update, Update::NewEpoch { epoch: 1, .. }));
    assert_eq!(
        rendition.offer(at(&stream, 2, 0), Duration::ZERO),
        Update::Older
    );
}

#[test]
fn ll_10_the_end_is_news_and_is_final() {
    let stream = stream(10, 0);
    let mut rendition = Rendition::new();
    rendition.offer(at(&stream, 20, 2), Duration::ZERO);
    let ended = Arc::new(stream.at(20, 2, "#EXT-X-ENDLIST\n"));
    assert!(matches!(
        rendition.offer(ended, Duration::ZERO),
        Update::Newer { ended: true, .. }
    ));
    assert_eq!(
        rendition.offer(at(&stream, 20, 2), Duration::ZERO),
        Update::Older
    );
}

#[test]
fn ll_19_a_hint_that_came_true_is_not_withdrawn_and_one_that_did_not_is() {
    let list = |body: &str| {
        let head = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=0.5\n";
        Arc::new(parse(format!("{head}#EXTINF:2,\ns0\n{body}")))
    };
    let hint = |uri: &str| format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{uri}\"\n");
    let part = |uri: &str| format!("#EXT-X-PART:DURATION=0.5,URI=\"{uri}\"\n");
    let change = |update| match update {
        Update::Newer { hint_changed, .. } => hint_changed.map(|change| {
            let uris = |hints: Vec<HintedResource>| hints.into_iter().map(|h| h.uri).collect();
            let (added, withdrawn): (Vec<_>, Vec<_>) = (uris(change.added), uris(change.withdrawn));
            (added.join(","), withdrawn.join(","))
        }),
        other => panic!("a newer version, not {other:?}"),
    };
    let mut rendition = Rendition::new();
    let mut offer = |body: String| change(rendition.offer(list(&body), Duration::ZERO));
    assert_eq!(offer(hint("a")), Some(("a".to_owned(), String::new())));
    assert_eq!(
        offer(part("a") + &hint("b")),
        Some(("b".to_owned(), String::new()))
    );
    assert_eq!(
        offer(part("a") + &hint("ad")),
        Some(("ad".to_owned(), "b".to_owned()))
    );
    assert_eq!(offer(part("a") + "#a comment\n" + &hint("ad")), None);
    assert_eq!(offer(part("a")), Some((String::new(), "ad".to_owned())));
}

#[test]
fn a_delta_update_is_never_shown() {
    let mut rendition = Rendition::new();
    let delta =
        parse("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n#EXTINF:2,\na\n");
    assert_eq!(
        rendition.offer(Arc::new(delta), Duration::ZERO),
        Update::Older
    );
    assert!(rendition.current().is_none());
}

/// What a parent does next.
#[derive(Clone, Debug)]
enum Op {
    /// Publishes more parts and answers.
    Advance(u32),
    /// Answers from this many parts ago.
    Lag(u32),
    /// Answers the same again.
    Repeat,
    /// Begins again from zero.
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1_u32..7).prop_map(Op::Advance),
        3 => (1_u32..12).prop_map(Op::Lag),
        2 => Just(Op::Repeat),
        1 => Just(Op::Restart),
    ]
}

/// The stream as a count of parts, four to a segment, and the position it reaches.
fn playlist_of(stream: &Timeline, parts: u32) -> Arc<MediaPlaylist> {
    at(stream, parts as usize / 4, parts % 4)
}

proptest! {
    #[test]
    fn shown_versions_never_run_backwards_and_everyone_released_is_answered(
        ops in proptest::collection::vec(op(), 1..60),
        waiting in proptest::collection::vec((0_u64..40, proptest::option::of(0_u32..4)), 0..20),
    ) {
        let mut epochs = 0;
        let mut source = stream(6, 0);
        let mut parts = 8;
        let mut rendition = Rendition::new();
        let mut shown: Option<(u64, Option<Position>, MediaSequenceNumber)> = None;
        for (step, op) in (0_u64..).zip(ops) {
            let answered = match op {
                Op::Advance(more) => { parts = (parts + more).min(200); parts }
                Op::Lag(by) => parts.saturating_sub(by),
                Op::Repeat => parts,
                Op::Restart => { epochs += 1; source = stream(6, epochs * 3_000); parts = 0; 0 }
            };
            let offered = playlist_of(&source, answered);
            let update = rendition.offer(Arc::clone(&offered), Duration::from_millis(step * 100));
            let current = rendition.current().unwrap();
            let mark = (rendition.epoch(), current.last_position(), current.media_sequence());
            if let Some(before) = shown {
                prop_assert!(mark.0 >= before.0);
                if mark.0 == before.0 {
                    prop_assert!(mark.1 >= before.1 && mark.2 >= before.2);
                }
            }
            shown = Some(mark);
            match update {
                Update::Newer { released, .. } => {
                    prop_assert_eq!(current.text(), offered.text());
                    for &(msn, part_index) in &waiting {
                        let wanted = Position { msn: MediaSequenceNumber(msn), part_index };
                        let directives = DeliveryDirectives { position: Some(wanted), skip: None };
                        if Some(wanted) <= released {
                            prop_assert_eq!(answer(current, &directives), Answer::Now);
                        } else if wanted.msn.0 > released.map_or(0, |p| p.msn.0) + 3 {
                            let refused = Answer::Refuse(Refusal::SegmentTooFarAhead);
                            prop_assert_eq!(answer(current, &directives), refused);
                        }
                    }
                }
                Update::NewEpoch { epoch, .. } => {
                    prop_assert_eq!(epoch, rendition.epoch());
                    prop_assert_eq!(current.text(), offered.text());
                }
                Update::Unchanged => prop_assert_eq!(current.text(), offered.text()),
                Update::Older => prop_assert_ne!(current.text(), offered.text()),
            }
        }
    }

    #[test]
    fn fm_14_a_restart_is_shown_after_three_answers_whatever_came_before(
        before in 8_u32..200,
        starts_at in 1_000_u32..40_000,
    ) {
        let mut rendition = Rendition::new();
        rendition.offer(playlist_of(&stream(6, 0), before), Duration::ZERO);
        let after = stream(6, starts_at);
        let updates: Vec<_> =
            (8..11).map(|parts| rendition.offer(playlist_of(&after, parts), TARGET)).collect();
        prop_assert!(matches!(updates[2], Update::NewEpoch { epoch: 1, .. }), "{updates:?}");
    }

    #[test]
    fn any_packager_s_next_version_is_news(
        timeline in timeline(),
        last in 1_usize..37,
        open in 0_u32..6,
    ) {
        let mut rendition = Rendition::new();
        rendition.offer(Arc::new(timeline.at(last, open, "")), Duration::ZERO);
        let next = Arc::new(timeline.at(last + 1, 0, ""));
        let update = rendition.offer(Arc::clone(&next), Duration::ZERO);
        prop_assert!(matches!(update, Update::Newer { .. }), "{update:?}");
    }

    #[test]
    fn any_stream_s_earlier_version_is_not(
        segments in segments(40),
        last in 8_usize..37,
        behind in 1_usize..6,
    ) {
        let mut timeline = stream(10, 0);
        timeline.segments = segments;
        let mut rendition = Rendition::new();
        rendition.offer(Arc::new(timeline.at(last, 0, "")), Duration::ZERO);
        let earlier = Arc::new(timeline.at(last - behind, 0, ""));
        prop_assert_eq!(rendition.offer(earlier, Duration::ZERO), Update::Older);
    }
}
