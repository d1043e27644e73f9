//! Tests of one rendition on text playlists.

use media::MediaSequenceNumber;
use media::hls::MergeError;

use super::*;

fn part(msn: u64, index: u32) -> Position {
    Position::part(MediaSequenceNumber(msn), index)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Writes a low-latency list of 2 s segments of four parts: segments `first..last` whole, with
/// parts in the last two, then `open` parts of segment `last`, then the hint.
fn list(first: u64, last: u64, open: u64) -> String {
    let mut text = format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n\
         #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,PART-HOLD-BACK=1.5\n\
         #EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:{first}\n\
         #EXT-X-MAP:URI=\"init.mp4\"\n"
    );
    let part_tag = |msn: u64, index: u64| {
        let independent = if index.is_multiple_of(2) {
            ",INDEPENDENT=YES"
        } else {
            ""
        };
        format!("#EXT-X-PART:DURATION=0.5,URI=\"s{msn}.{index}.m4s\"{independent}\n")
    };
    for msn in first..last {
        if msn + 2 >= last {
            (0..4).for_each(|index| text += &part_tag(msn, index));
        }
        text += &format!("#EXTINF:2.0,\ns{msn}.m4s\n");
    }
    (0..open).for_each(|index| text += &part_tag(last, index));
    text + &format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"s{last}.{open}.m4s\"\n")
}

fn track(wants: Wants) -> Track {
    let location = Location::parse("http://cdn/live/v0/p.m3u8").unwrap();
    Track::new(location, wants, false)
}

/// Gives `track` the answer to a request that asked nothing.
fn offer(track: &mut Track, text: &str, now: Duration) -> Seen {
    track
        .on_text(
            Bytes::from(text.to_owned()),
            Directives::default(),
            None,
            now,
        )
        .unwrap()
}

/// Takes every media request that can be made, answering each at once.
fn drain(track: &mut Track, now: Duration) -> Vec<String> {
    let mut uris = Vec::new();
    while let Some(media) = track.next_media(now, 0) {
        assert!(uris.len() < 100, "no end of media");
        uris.push(media.resource.uri.to_string());
        if media.is_hinted {
            break;
        }
        track.on_media(&media);
    }
    uris
}

#[test]
fn a_viewer_starts_at_the_hold_back_on_an_independent_part_and_takes_the_hint() {
    let mut track = track(Wants::Hint);
    let seen = offer(&mut track, &list(10, 20, 1), ms(0));
    assert_eq!(
        drain(&mut track, ms(0)),
        [
            "init.mp4",
            "s19.2.m4s",
            "s19.3.m4s",
            "s20.0.m4s",
            "s20.1.m4s"
        ]
    );
    let reload = seen.reload.unwrap();
    assert_eq!((reload.why, reload.after), (Why::Next, ms(0)));
    assert_eq!(reload.asks.query(), "_HLS_msn=20&_HLS_part=1");
}

#[test]
fn a_viewer_that_wants_listed_parts_leaves_the_hint_alone() {
    let mut track = track(Wants::Listed);
    offer(&mut track, &list(10, 20, 1), ms(0));
    assert_eq!(drain(&mut track, ms(0)).last().unwrap(), "s20.0.m4s");
    offer(&mut track, &list(10, 20, 2), ms(500));
    let media = track.next_media(ms(500), 0).unwrap();
    assert_eq!(media.resource.uri.as_ref(), "s20.1.m4s");
    assert!(media.is_at_edge && !media.is_hinted);
}

#[test]
fn a_hinted_part_that_is_listed_is_not_asked_for_again() {
    let mut track = track(Wants::Hint);
    offer(&mut track, &list(10, 20, 3), ms(0));
    assert_eq!(drain(&mut track, ms(0)).last().unwrap(), "s20.3.m4s");
    // The hinted part closes the segment.
    let seen = offer(&mut track, &list(10, 21, 0), ms(500));
    assert_eq!(seen.withdrawn, None);
    assert_eq!(seen.correction, Some((ms(500), ms(500))));
    assert_eq!(seen.reload.unwrap().asks.position, Some(part(21, 0)));
    assert_eq!(drain(&mut track, ms(500)), ["s21.0.m4s"]);
}

#[test]
fn a_segment_that_closed_early_makes_the_hinted_part_part_zero_of_the_next() {
    let mut track = track(Wants::Hint);
    let before = list(10, 20, 3).replace("s20.3", "s21.0");
    offer(&mut track, &before, ms(0));
    assert_eq!(drain(&mut track, ms(0)).last().unwrap(), "s21.0.m4s");
    let after = list(10, 21, 1);
    let fourth = "#EXT-X-PART:DURATION=0.5,URI=\"s20.3.m4s\"\n";
    assert!(after.contains(fourth));
    let seen = offer(&mut track, &after.replace(fourth, ""), ms(500));
    assert_eq!(seen.withdrawn, None);
    assert_eq!(drain(&mut track, ms(500)), ["s21.1.m4s"]);
}

#[test]
fn ll_19_a_withdrawn_hint_is_given_up_and_its_place_asked_for_anew() {
    let mut track = track(Wants::Hint);
    offer(&mut track, &list(10, 20, 1), ms(0));
    drain(&mut track, ms(0));
    let other = list(10, 20, 1).replace("URI=\"s20.1.m4s\"", "URI=\"ad.0.m4s\"");
    let seen = offer(&mut track, &other, ms(200));
    assert_eq!(seen.withdrawn, Some(part(20, 1)));
    assert_eq!(drain(&mut track, ms(200)), ["ad.0.m4s"]);
}

#[test]
fn ll_22_an_older_list_is_counted_and_not_taken() {
    let mut track = track(Wants::Hint);
    offer(&mut track, &list(10, 20, 3), ms(0));
    let seen = offer(&mut track, &list(10, 20, 2), ms(100));
    assert!(seen.is_regression && !seen.is_restart);
    let reload = seen.reload.unwrap();
    assert_eq!(reload.asks.position, Some(part(20, 3)));
    assert_eq!(
        reload.after,
        ms(500),
        "an answer that brings nothing is not repeated at once"
    );
}

#[test]
fn a_restarted_broadcast_is_followed_after_five_older_lists() {
    let mut track = track(Wants::Hint);
    offer(&mut track, &list(10, 20, 3), ms(0));
    drain(&mut track, ms(0));
    for _ in 1..RESTART_AFTER {
        assert!(!offer(&mut track, &list(0, 6, 1), ms(100)).is_restart);
    }
    assert!(offer(&mut track, &list(0, 6, 1), ms(100)).is_restart);
    assert_eq!(drain(&mut track, ms(100)).last().unwrap(), "s6.1.m4s");
}

#[test]
fn an_answer_without_what_was_asked_is_unsatisfied_and_not_repeated_at_once() {
    let mut track = track(Wants::Hint);
    offer(&mut track, &list(10, 20, 1), ms(0));
    let asks = Directives {
        position: Some(part(20, 1)),
        skip: false,
    };
    let seen = track
        .on_text(Bytes::from(list(10, 20, 1).to_owned()), asks, None, ms(10))
        .unwrap();
    assert!(seen.is_unsatisfied);
    assert_eq!(seen.reload.unwrap().after, ms(500));
}

#[test]
fn appendix_c_an_old_first_answer_is_followed_by_a_request_as_far_ahead() {
    let mut track = track(Wants::Hint);
    let age = Some(Duration::from_secs(2));
    let seen = track
        .on_text(
            Bytes::from(list(10, 20, 1).to_owned()),
            Directives::default(),
            age,
            ms(0),
        )
        .unwrap();
    assert!(
        track.next_media(ms(0), 0).is_none(),
        "nothing is loaded before the tune-in ends"
    );
    let reload = seen.reload.unwrap();
    assert_eq!(reload.why, Why::TuneIn);
    // Age 2 and one second for parts below a second: six parts of 0.5 s after 20.0.
    assert_eq!(reload.asks.position, Some(part(21, 2)));
    let seen = track
        .on_text(
            Bytes::from(list(12, 21, 3).to_owned()),
            reload.asks,
            Some(ms(0)),
            ms(0),
        )
        .unwrap();
    assert_eq!(seen.reload.unwrap().asks.position, Some(part(21, 3)));
    assert!(track.next_media(ms(0), 0).is_some());
}

#[test]
fn lt_01_no_age_means_current_and_age_zero_means_one_more_round_for_short_parts() {
    let first = |age| {
        let mut track = track(Wants::Hint);
        let text = list(10, 20, 1);
        let seen = track.on_text(
            Bytes::from(text.to_owned()),
            Directives::default(),
            age,
            ms(0),
        );
        seen.unwrap().reload.unwrap().why
    };
    assert_eq!(first(None), Why::Next);
    assert_eq!(first(Some(ms(0))), Why::TuneIn);
}

#[test]
fn a_tune_in_whose_ages_never_settle_ends_all_the_same() {
    let mut track = track(Wants::Hint);
    let age = Some(Duration::from_secs(30));
    let mut whys = Vec::new();
    for round in 0..5 {
        let seen = track
            .on_text(
                Bytes::from(list(10, 20, 1).to_owned()),
                Directives::default(),
                age,
                ms(round),
            )
            .unwrap();
        whys.push(seen.reload.unwrap().why);
    }
    assert_eq!(whys.last(), Some(&Why::Next));
}

#[test]
fn rfc_8216_6_3_4_a_list_that_cannot_block_is_polled_by_target_duration() {
    let plain = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n\
        #EXTINF:4,\na.ts\n#EXTINF:4,\nb.ts\n";
    let mut track = track(Wants::Hint);
    let seen = offer(&mut track, plain, ms(0)).reload.unwrap();
    assert_eq!((seen.why, seen.after), (Why::Poll, ms(4000)));
    assert_eq!(seen.asks, Directives::default());
    let seen = offer(&mut track, plain, ms(4000)).reload.unwrap();
    assert_eq!(seen.after, ms(2000));
    assert_eq!(drain(&mut track, ms(4000)), ["a.ts", "b.ts"]);
}

#[test]
fn an_ended_list_is_played_from_its_beginning_and_not_reloaded() {
    let text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na.m4s\n#EXTINF:4,\nb.m4s\n\
        #EXT-X-ENDLIST\n";
    let mut track = track(Wants::Hint);
    assert_eq!(offer(&mut track, text, ms(0)).reload, None);
    assert!(!track.is_drained());
    assert_eq!(drain(&mut track, ms(0)), ["a.m4s", "b.m4s"]);
    assert!(track.is_drained());
}

#[test]
fn a_delta_update_is_asked_for_only_on_a_fresh_list_and_refetched_whole_if_it_does_not_fit() {
    let mut track = Track::new(
        Location::parse("http://cdn/p.m3u8").unwrap(),
        Wants::Hint,
        true,
    );
    let reload = offer(&mut track, &list(10, 20, 1), ms(0)).reload.unwrap();
    assert_eq!(reload.asks.query(), "_HLS_msn=20&_HLS_part=1&_HLS_skip=YES");
    let delta = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:2\n\
        #EXT-X-SKIP:SKIPPED-SEGMENTS=3\n#EXTINF:2,\nx\n";
    let refused = track.on_text(Bytes::from(delta.to_owned()), reload.asks, None, ms(500));
    assert_eq!(refused, Err(ListError::Delta(MergeError::SegmentMissing)));
    let again = track.on_failure(reload.asks);
    assert_eq!(again.asks.query(), "_HLS_msn=20&_HLS_part=1");
    assert_eq!(again.after, ms(0));
}

#[test]
fn a_failed_playlist_is_asked_for_plainly_at_once_and_then_ever_more_slowly() {
    let mut track = track(Wants::Hint);
    let asks = Directives {
        position: Some(part(1, 1)),
        skip: false,
    };
    let waits: Vec<_> = (0..8).map(|_| track.on_failure(asks)).collect();
    assert!(
        waits
            .iter()
            .all(|r| r.asks == Directives::default() && r.why == Why::Recover)
    );
    let seconds: Vec<_> = waits.iter().map(|r| r.after.as_secs()).collect();
    assert_eq!(seconds, [0, 1, 2, 3, 4, 5, 5, 5]);
}

#[test]
fn media_that_keeps_failing_is_jumped_over_as_a_gap() {
    let mut track = track(Wants::Listed);
    offer(&mut track, &list(10, 20, 1), ms(0));
    let init = track.next_media(ms(0), 0).unwrap();
    track.on_media(&init);
    let media = track.next_media(ms(0), 0).unwrap();
    assert_eq!(track.on_media_failure(&media, ms(0)), None);
    let again = track.next_media(ms(250), 0).unwrap();
    assert_eq!(again.resource, media.resource);
    assert_eq!(track.on_media_failure(&again, ms(250)), None);
    let third = track.next_media(track.retry_at().unwrap(), 0).unwrap();
    assert_eq!(third.resource, media.resource);
    assert_eq!(track.on_media_failure(&third, ms(2000)), Some(ms(500)));
    assert_ne!(
        track.next_media(ms(2000), 0).unwrap().resource,
        media.resource
    );
}

#[test]
fn a_refused_hint_is_asked_for_again_once_it_is_listed() {
    let mut track = track(Wants::Hint);
    offer(&mut track, &list(10, 20, 1), ms(0));
    drain(&mut track, ms(0));
    let mut hinted = None;
    offer(&mut track, &list(10, 20, 2), ms(500));
    while let Some(media) = track.next_media(ms(500), 1) {
        hinted = Some(media);
    }
    let hinted = hinted.filter(|media| media.is_hinted).unwrap();
    assert_eq!(track.on_media_failure(&hinted, ms(600)), None);
    assert!(track.next_media(ms(600), 0).is_none());
    offer(&mut track, &list(10, 20, 3), ms(1000));
    let again = track.next_media(ms(1000), 0).unwrap();
    assert_eq!(again.resource, hinted.resource);
    assert!(!again.is_hinted);
}

#[test]
fn a_viewer_that_fell_out_of_the_window_jumps_to_the_live_edge() {
    let mut track = track(Wants::Listed);
    offer(&mut track, &list(10, 20, 1), ms(0));
    let init = track.next_media(ms(0), 0).unwrap();
    track.on_media(&init);
    offer(&mut track, &list(40, 50, 1), ms(60_000));
    assert_eq!(drain(&mut track, ms(60_000)).first().unwrap(), "s49.2.m4s");
    assert_eq!(track.jumps(), 1);
}

#[test]
fn a_switch_continues_on_the_independent_part_at_or_before_the_buffers_end() {
    let mut joined = track(Wants::Listed).continuing(Some(part(20, 3)));
    assert_eq!(
        joined.join(Some(part(20, 2))).asks.position,
        Some(part(20, 2))
    );
    offer(&mut joined, &list(10, 20, 4), ms(0));
    assert_eq!(
        drain(&mut joined, ms(0)),
        ["init.mp4", "s20.2.m4s", "s20.3.m4s"]
    );
}

#[test]
fn an_open_range_hint_waits_until_its_part_is_listed() {
    let ranged = |open: &str| {
        format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n\
            #EXT-X-PART-INF:PART-TARGET=0.5\n\
            #EXT-X-PART:DURATION=0.5,URI=\"s0.m4s\",BYTERANGE=\"100@0\",INDEPENDENT=YES\n{open}"
        )
    };
    let mut track = track(Wants::Hint);
    let hint = "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"s0.m4s\",BYTERANGE-START=100";
    offer(&mut track, &ranged(&format!("{hint}\n")), ms(0));
    assert_eq!(drain(&mut track, ms(0)), ["s0.m4s"]);
    offer(
        &mut track,
        &ranged(&format!("{hint},BYTERANGE-LENGTH=50\n")),
        ms(100),
    );
    let media = track.next_media(ms(100), 0).unwrap();
    assert!(media.is_hinted);
    let range = media.resource.range.unwrap();
    assert_eq!((range.start, range.len), (100, 50));
}
