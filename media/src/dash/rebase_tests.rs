//! What players are shown of runs that follow others: tables, and any sequence of runs.

use proptest::prelude::*;

use super::*;
use crate::dash::{Addressed, Limits};

fn parse(text: &str) -> Mpd {
    Mpd::parse(Bytes::copy_from_slice(text.as_bytes()), &Limits::default()).unwrap()
}

/// A presentation of two-second segments whose availability starts at a second of 1970.
fn run(start: u64, root: &str, periods: &str) -> Mpd {
    let start = format_date_time(Duration::from_secs(start));
    parse(&format!(
        "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"dynamic\" availabilityStartTime=\"{start}\" {root}>{periods}</MPD>"
    ))
}

fn period(id: &str, start: &str) -> String {
    format!(
        "<Period {id} start=\"{start}\"><AdaptationSet><SegmentTemplate media=\"$Number$.m4s\" initialization=\"i.mp4?a=1\" \
         duration=\"2\" startNumber=\"0\"/><Representation id=\"v\" bandwidth=\"1\"/></AdaptationSet></Period>"
    )
}

fn rebase(start: u64, mark: &str) -> Rebase {
    Rebase {
        availability_start: Duration::from_secs(start),
        published_later: Duration::ZERO,
        parameter: format!("_run={mark}"),
        period_suffix: mark.to_owned(),
        withheld: None,
    }
}

fn rewritten(rebase: &Rebase, run: &Mpd, crossing: Crossing<'_>) -> Option<Mpd> {
    let text = rebase.rewrite(run, run.availability_start?, crossing)?;
    Some(parse(std::str::from_utf8(&text).unwrap()))
}

#[test]
fn ca_07_a_run_goes_on_in_a_period_of_its_own_at_its_own_wall_clock() {
    let run = run(
        1000,
        "publishTime=\"1970-01-01T00:16:40Z\" timeShiftBufferDepth=\"PT60S\"",
        &period("id=\"0\"", "PT0.5S"),
    );
    let shown = rewritten(&rebase(400, "ab"), &run, Crossing::default()).unwrap();
    assert_eq!(shown.availability_start, Some(Duration::from_secs(400)));
    assert_eq!(shown.publish_time, run.publish_time);
    assert_eq!(shown.periods.len(), 1);
    assert_eq!(shown.periods[0].id.as_deref(), Some("0.ab"));
    assert_eq!(shown.periods[0].start, Some(Duration::from_millis(600_500)));
    let (own, as_shown) = (&run.representations[0], &shown.representations[0]);
    for number in [0, 1, 77] {
        assert_eq!(
            shown.available_at(as_shown, number),
            run.available_at(own, number)
        );
    }
    let third = Addressed {
        number: Some(3),
        ..Addressed::default()
    };
    assert_eq!(as_shown.path_of(third).as_deref(), Some("3.m4s?_run=ab"));
    assert_eq!(
        as_shown.initialization_path().as_deref(),
        Some("i.mp4?a=1&_run=ab")
    );
}

#[test]
fn ca_07_the_period_before_is_listed_while_players_come_over_and_the_window_is_short() {
    let before = run(
        400,
        "",
        &(period("id=\"a\"", "PT0S") + &period("", "PT100S")),
    );
    let before = PeriodBefore::last_of(&before).unwrap();
    let run = run(
        1000,
        "timeShiftBufferDepth=\"PT60S\"",
        &period("id=\"0\"", "PT0S"),
    );
    let crossing = Crossing {
        before: Some(&before),
        window: Some(Duration::from_secs(6)),
    };
    let shown = rewritten(&rebase(400, "ab"), &run, crossing).unwrap();
    let starts: Vec<_> = shown
        .periods
        .iter()
        .map(|period| period.start.unwrap().as_secs())
        .collect();
    assert_eq!(starts, [100, 600]);
    assert_eq!(shown.time_shift_buffer_depth, Some(Duration::from_secs(6)));
    let other_names = parse(
        &String::from_utf8(run.text.to_vec())
            .unwrap()
            .replace("<MPD ", "<MPD xmlns:x=\"y\" "),
    );
    let shown = rewritten(&rebase(400, "ab"), &other_names, crossing).unwrap();
    assert_eq!(shown.periods.len(), 1, "names could be of other namespaces");
}

#[test]
fn ca_07_what_is_said_of_the_whole_presentation_moves_with_it_and_patches_leave() {
    let run = run(
        1000,
        "publishTime=\"1970-01-01T00:00:05Z\" mediaPresentationDuration=\"PT30S\"",
        &format!(
            "<PatchLocation ttl=\"1\">p</PatchLocation><PatchLocation/>{}",
            period("", "PT0S")
        ),
    );
    let later = Rebase {
        published_later: Duration::from_secs(7),
        ..rebase(400, "ab")
    };
    let shown = rewritten(&later, &run, Crossing::default()).unwrap();
    assert_eq!(shown.publish_time, Some(Duration::from_secs(12)));
    assert_eq!(
        shown.media_presentation_duration,
        Some(Duration::from_secs(630))
    );
    assert!(shown.patch_locations.is_empty());
    assert_eq!(shown.periods[0].id.as_deref(), Some("0.ab"));
}

/// What is shown of a run of which some is withheld.
fn later(run: &Mpd, withheld: Duration) -> Option<Mpd> {
    let withheld = Withheld {
        period_start: run.periods[0].start?,
        duration: withheld,
    };
    let rebase = Rebase {
        withheld: Some(withheld),
        ..rebase(400, "ab")
    };
    rewritten(&rebase, run, Crossing::default())
}

#[test]
fn ca_07_the_beginning_of_a_run_is_withheld_and_each_segment_keeps_its_name_and_its_time() {
    let inner = "<EventStream timescale=\"10\"/><AdaptationSet>\
                 <SegmentTemplate media=\"$Number$.m4s\" duration=\"4\" timescale=\"2\" startNumber=\"5\"/>\
                 <Representation id=\"v\" bandwidth=\"1\"/>\
                 <Representation id=\"w\" bandwidth=\"1\"><SegmentTemplate presentationTimeOffset=\"7\" media=\"w$Number$.m4s\"/></Representation>\
                 </AdaptationSet>";
    let run = run(
        1000,
        "",
        &format!("<Period start=\"PT1S\" duration=\"PT60S\">{inner}</Period>"),
    );
    let shown = later(&run, Duration::from_secs(20)).unwrap();
    assert_eq!(shown.periods[0].start, Some(Duration::from_secs(621)));
    assert_eq!(shown.periods[0].duration, Some(Duration::from_secs(40)));
    for (own, as_shown) in run.representations.iter().zip(&shown.representations) {
        let (own_template, template) = (own.template.as_ref(), as_shown.template.as_ref());
        assert_eq!(template.unwrap().first_number(), 15);
        let offset = |of: Option<&crate::dash::SegmentTemplate>| {
            of.unwrap().presentation_time_offset.unwrap_or(0)
        };
        assert_eq!(offset(template), offset(own_template) + 40);
        assert_eq!(shown.available_at(as_shown, 14), None);
        for number in [15, 16, 99] {
            assert_eq!(
                shown.available_at(as_shown, number),
                run.available_at(own, number)
            );
        }
    }
    let text = std::str::from_utf8(&shown.text).unwrap();
    assert!(text.contains("<EventStream presentationTimeOffset=\"200\""));
    assert_eq!(later(&run, Duration::from_secs(21)), None, "half a segment");
    assert_eq!(later(&run, Duration::from_secs(62)), None, "all and more");
}

#[test]
fn ca_07_of_segments_that_are_listed_only_the_time_is_withheld() {
    let listed = |timeline: &str| {
        let template = "<SegmentTemplate media=\"$Time$.m4s\" timescale=\"90000\"";
        format!(
            "<Period start=\"PT0S\"><AdaptationSet>{template}{timeline}</SegmentTemplate>\
             <Representation id=\"v\" bandwidth=\"1\"/></AdaptationSet></Period>"
        )
    };
    let timeline = "<SegmentTimeline><S t=\"0\" d=\"180000\" r=\"9\"/></SegmentTimeline>";
    let only_listed = run(1000, "", &listed(&format!(">{timeline}")));
    let shown = later(&only_listed, Duration::from_secs(6)).unwrap();
    let template = shown.representations[0].template.clone().unwrap();
    assert_eq!(template.presentation_time_offset, Some(540_000));
    assert_eq!(template.start_number, None);
    assert_eq!(
        template.timeline,
        only_listed.representations[0]
            .template
            .as_ref()
            .unwrap()
            .timeline
    );
    let both = run(
        1000,
        "",
        &listed(&format!(" duration=\"180000\">{timeline}")),
    );
    assert_eq!(later(&both, Duration::from_secs(6)), None);
}

#[test]
fn fm_14_what_cannot_be_told_apart_is_not_rewritten() {
    let template = "<SegmentTemplate media=\"$Number$\" duration=\"2\"/>";
    let representation = "<Representation id=\"v\" bandwidth=\"1\"/>";
    for (start, inner) in [
        (
            "start=\"PT0S\"",
            format!("<AdaptationSet>{representation}</AdaptationSet>"),
        ),
        (
            "",
            format!("<AdaptationSet>{template}{representation}</AdaptationSet>"),
        ),
        (
            "start=\"PT0S\" xlink:href=\"x\"",
            format!("<AdaptationSet>{template}{representation}</AdaptationSet>"),
        ),
        (
            "start=\"PT0S\"",
            format!("<AdaptationSet><SegmentList/>{template}{representation}</AdaptationSet>"),
        ),
        (
            "start=\"PT0S\"",
            format!(
                "<AdaptationSet><SegmentTemplate media=\"a#$Number$\"/>{representation}</AdaptationSet>"
            ),
        ),
    ] {
        let run = run(1000, "", &format!("<Period {start}>{inner}</Period>"));
        assert_eq!(
            rewritten(&rebase(400, "ab"), &run, Crossing::default()),
            None,
            "{start} {inner}"
        );
    }
    let earlier = run(399, "", &period("", "PT0S"));
    assert_eq!(
        rewritten(&rebase(400, "ab"), &earlier, Crossing::default()),
        None
    );
}

proptest! {
    #[test]
    fn fm_14_ca_07_time_goes_on_over_any_runs_and_no_uri_means_two_segments(
        gaps in prop::collection::vec((2_u64..5_000, 0_u64..380, 0_u64..3_000, 0_u64..9), 1..8),
    ) {
        let first = run(50, "publishTime=\"1970-01-01T00:00:50Z\"", &period("id=\"0\"", "PT0S"));
        let mut shown = first.clone();
        let mut start = 50;
        let mut named: Vec<(String, Duration)> = Vec::new();
        let names_of = |mpd: &Mpd| -> Vec<(String, Duration)> {
            let representation = mpd.representations.last().unwrap();
            let first = representation.template.as_ref().unwrap().first_number();
            (first..first + 3).map(|number| {
                let segment = Addressed { number: Some(number), ..Addressed::default() };
                (representation.path_of(segment).unwrap(), mpd.available_at(representation, number).unwrap())
            }).collect()
        };
        named.extend(names_of(&first));
        for (nth, (gap, own_start, later, segments)) in gaps.into_iter().enumerate() {
            start += gap + 400;
            let run = run(
                start,
                "publishTime=\"1970-01-01T00:01:00Z\"",
                &period("id=\"0\"", &format!("PT{own_start}S")),
            );
            let rebase = Rebase {
                published_later: shown.publish_time.unwrap() + Duration::from_millis(later),
                withheld: (segments > 0).then_some(Withheld {
                    period_start: Duration::from_secs(own_start),
                    duration: Duration::from_secs(2 * segments),
                }),
                ..rebase(50, &format!("m{nth}"))
            };
            let before = PeriodBefore::last_of(&shown);
            let crossing = Crossing { before: before.as_ref(), window: None };
            let next = rewritten(&rebase, &run, crossing).unwrap();
            prop_assert_eq!(next.availability_start, first.availability_start);
            prop_assert!(next.publish_time >= shown.publish_time);
            let starts: Vec<_> = next.periods.iter().map(|period| period.start).collect();
            prop_assert!(starts.is_sorted());
            let last = shown.periods.last().map(|period| period.start);
            prop_assert!(starts.last().copied() > last);
            let of_run = run.representations.last().unwrap();
            for (name, available) in names_of(&next) {
                prop_assert!(named.iter().all(|(other, _)| *other != name), "{} again", name);
                named.push((name, available));
            }
            prop_assert_eq!(run.available_at(of_run, segments + 2), named.last().map(|(_, available)| *available));
            shown = next;
        }
    }
}
