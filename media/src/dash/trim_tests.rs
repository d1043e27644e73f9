//! What is left of an MPD, and what it named.

use proptest::prelude::*;

use super::super::limits::Limits;
use super::*;

/// 2026-01-01T00:00:00Z.
const BEGUN: Duration = Duration::from_secs(1_767_225_600);

fn at(seconds: u64) -> Duration {
    BEGUN + Duration::from_secs(seconds)
}

fn parsed(text: &str) -> Mpd {
    Mpd::parse(Bytes::from(text.to_owned()), &Limits::default()).unwrap()
}

fn live(depth: &str, inside: &str) -> Mpd {
    parsed(&format!(
        "<?xml version=\"1.0\"?>\n<MPD type=\"dynamic\" availabilityStartTime='2026-01-01T00:00:00Z'{depth}>\n{inside}</MPD>\n"
    ))
}

fn listed(template: &str, runs: &str) -> Mpd {
    let inside = format!(
        "<Period start=\"PT0S\"><AdaptationSet><SegmentTemplate media=\"$RepresentationID$/$Number$-$Time$.m4s\" {template}>\
         <SegmentTimeline>{runs}</SegmentTimeline></SegmentTemplate>\
         <Representation id=\"v\" bandwidth=\"1\"/></AdaptationSet></Period>"
    );
    live("", &inside)
}

const COUNTED: &str = "<Period start=\"PT0S\"><AdaptationSet><SegmentTemplate timescale=\"10\" duration=\"20\" startNumber=\"0\" \
                       media=\"s$Number$.m4s\"/><Representation id=\"v\" bandwidth=\"1\"/></AdaptationSet></Period>";

fn trimmed(mpd: &Mpd, from: u64, now: u64) -> String {
    let text = trim(mpd, at(from), at(now)).unwrap();
    String::from_utf8(text.to_vec()).unwrap()
}

/// A segment stays available for twice its duration, here 2 s, beyond the depth.
#[test]
fn the_window_of_counted_segments_begins_after_what_is_gone() {
    let long = live(" timeShiftBufferDepth=\"PT1H\"", COUNTED);
    let text = trimmed(&long, 86, 100);
    assert!(
        text.contains(" timeShiftBufferDepth=\"PT10.000S\""),
        "{text}"
    );
    let restored = text.replace("PT10.000S", "PT1H");
    assert_eq!(restored.as_bytes(), long.text, "nothing else changes");
    let endless = live("", COUNTED);
    let text = trimmed(&endless, 86, 100);
    assert!(
        text.contains("<MPD timeShiftBufferDepth=\"PT10.000S\" type="),
        "{text}"
    );
    let short = live(" timeShiftBufferDepth='PT5S'", COUNTED);
    assert_eq!(trimmed(&short, 90, 100).as_bytes(), short.text);
}

#[test]
fn a_timeline_loses_its_beginning_and_counts_on_from_there() {
    let mpd = listed(
        "timescale=\"1\" startNumber=\"7\"",
        "<S t=\"0\" d=\"2\" r=\"4\"/>\n<S d=\"4\"></S>\n<S d=\"2\" r=\"1\"/>",
    );
    let text = trimmed(&mpd, 5, 20);
    assert!(text.contains("startNumber=\"10\""), "{text}");
    let runs = "<S t=\"6\" d=\"2\" r=\"1\"/>\n<S d=\"4\"></S>\n<S d=\"2\" r=\"1\"/>";
    assert!(text.contains(runs), "{text}");
    let text = trimmed(&mpd, 11, 20);
    assert!(text.contains("startNumber=\"13\""), "{text}");
    assert!(
        text.contains("<SegmentTimeline>\n\n<S t=\"14\" d=\"2\" r=\"1\"/></SegmentTimeline>"),
        "{text}"
    );
}

#[test]
fn an_open_run_stays_open_and_a_first_number_is_added_where_there_was_none() {
    let mpd = listed("", "<S d=\"2\" r=\"-1\"/>");
    let text = trimmed(&mpd, 9, 20);
    assert!(text.contains("<S t=\"10\" d=\"2\" r=\"-1\"/>"), "{text}");
    assert!(
        text.contains("<SegmentTemplate startNumber=\"6\" media="),
        "{text}"
    );
}

#[test]
fn a_period_that_is_over_leaves_and_patch_locations_leave_with_it() {
    let inside = format!(
        "<PatchLocation ttl=\"60\">patch.mpp</PatchLocation><Period start=\"PT0S\" duration=\"PT50S\"><BaseURL>old/</BaseURL></Period>{}",
        COUNTED.replace("PT0S", "PT50S")
    );
    let mpd = live("", &inside);
    let text = trimmed(&mpd, 50, 100);
    assert!(!text.contains("patch") && !text.contains("old/"), "{text}");
    assert!(trimmed(&mpd, 49, 100).contains("old/"));
    let follows = inside.replace("<Period start=\"PT50S\">", "<Period>");
    assert_eq!(
        trim(&live("", &follows), at(50), at(100)),
        None,
        "where it begins"
    );
}

#[test]
fn what_cannot_be_trimmed_is_not_shown() {
    let all_gone = listed("", "<S t=\"0\" d=\"2\" r=\"4\"/>");
    assert_eq!(trim(&all_gone, at(10), at(20)), None);
    let on_demand = parsed(&format!("<MPD>{COUNTED}</MPD>"));
    assert_eq!(trim(&on_demand, at(5), at(20)), None);
    let list = live(
        "",
        "<Period start=\"PT0S\"><SegmentList><SegmentURL media=\"a\"/></SegmentList></Period>",
    );
    assert_eq!(trim(&list, at(5), at(20)), None);
    assert_eq!(
        trim(&live("", COUNTED), at(21), at(20)),
        None,
        "all that there is"
    );
    let numbered = listed("", "<S t=\"0\" d=\"2\" n=\"3\"/>");
    assert_eq!(trim(&numbered, at(5), at(20)), None);
}

#[test]
fn names_between_two_instants_are_those_of_the_segments_that_the_time_touches() {
    let names = |mpd: &Mpd, from, to, now| -> Vec<String> {
        let named = named_between(mpd, at(from)..at(to), at(now));
        named.into_iter().map(|(_, path)| path).collect()
    };
    let counted = live("", COUNTED);
    assert_eq!(names(&counted, 3, 6, 100), ["s1.m4s", "s2.m4s", "s3.m4s"]);
    let short = live(" timeShiftBufferDepth=\"PT10S\"", COUNTED);
    assert_eq!(
        names(&short, 0, 88, 100).first().unwrap(),
        "s43.m4s",
        "the window and two more"
    );
    let listed = listed("startNumber=\"5\"", "<S t=\"0\" d=\"2\" r=\"4\"/>");
    assert_eq!(names(&listed, 2, 4, 100), ["v/6-2.m4s"]);
    assert_eq!(names(&listed, 3, 5, 100), ["v/6-2.m4s", "v/7-4.m4s"]);
}

/// Every segment of a timeline with its number and its time, counted one by one.
fn expanded(mpd: &Mpd) -> Vec<(u64, u64)> {
    let template = mpd.representations[0].template.as_ref().unwrap();
    let (mut number, mut clock, mut all) = (template.first_number(), 0, Vec::new());
    for run in &template.timeline {
        clock = run.start.unwrap_or(clock);
        for _ in 0..=run.repeat {
            all.push((number, clock));
            (number, clock) = (number + 1, clock + run.duration);
        }
    }
    all
}

proptest! {
    #[test]
    fn what_is_left_of_a_timeline_is_what_begins_later_under_the_same_names(
        runs in prop::collection::vec((prop::option::of(0_u64..5), 1_u64..9, 0_i64..4), 1..8),
        (timescale, offset, first) in (1_u64..5, 0_u64..40, prop::option::of(0_u64..9)),
        from in 0_u64..40,
    ) {
        let mut clock = offset;
        let mut text = String::new();
        for (index, (gap, duration, repeat)) in runs.into_iter().enumerate() {
            clock += gap.unwrap_or(0);
            let start = if gap.is_some() || index == 0 { format!(" t=\"{clock}\"") } else { String::new() };
            text += &format!("<S{start} d=\"{duration}\" r=\"{repeat}\"/>");
            clock += duration * (u64::try_from(repeat).unwrap() + 1);
        }
        let first = first.map_or(String::new(), |first| format!(" startNumber=\"{first}\""));
        let template = format!("timescale=\"{timescale}\" presentationTimeOffset=\"{offset}\"{first}");
        let mpd = listed(&template, &text);
        let is_left = |time: u64| (time - offset) >= from * timescale;
        let left: Vec<_> = expanded(&mpd).into_iter().filter(|(_, time)| is_left(*time)).collect();
        match trim(&mpd, at(from), at(10_000)) {
            None => prop_assert!(left.is_empty()),
            Some(text) => {
                let after = Mpd::parse(text, &Limits::default()).unwrap();
                prop_assert_eq!(expanded(&after), left);
                let gone = named_between(&after, BEGUN..at(from), at(10_000));
                let begins = |path: &str| -> u64 {
                    path.rsplit_once('-').unwrap().1.trim_end_matches(".m4s").parse().unwrap()
                };
                // One that begins before and lasts into what is left would have been cut.
                let is_all_left = gone.iter().all(|(_, path)| is_left(begins(path)));
                prop_assert!(is_all_left, "{:?}", gone);
            }
        }
    }
}
