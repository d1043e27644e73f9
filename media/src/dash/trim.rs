//! Moving the beginning of a live window: an MPD that names nothing from before an instant.
//!
//! Called by purging, so that no MPD goes on naming what is gone. The text is changed where it has to be and
//! nowhere else: players read much of an MPD that `Mpd` does not. Deliberately not here: holes in the middle of a
//! window. A hole in a `SegmentTimeline` moves all later `$Number$`s, and counted segments cannot have one.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::edit::{applied, with_attribute};
use super::mpd::{Mpd, Representation, SegmentTemplate, TimelineRun};
use super::template::Addressed;

/// Returns the text of a live MPD, changed so that it names no segment that begins before `from`.
///
/// `timeShiftBufferDepth` shrinks to what lies after `from` at `now`, timelines lose what lies before it, periods
/// that ended before it leave, and so do patch locations, whose patches are for the text as it was. Both instants
/// are since 1970. `None` if that cannot be said in this MPD, or nothing would be left of a timeline: it must not be
/// shown at all.
pub fn trim(mpd: &Mpd, from: Duration, now: Duration) -> Option<Bytes> {
    let source = std::str::from_utf8(&mpd.text).ok()?;
    let depth = now.checked_sub(from)?;
    // ISO/IEC 23009-1 A.3.4: a segment stays available for its duration and the depth after it became available.
    let counted = mpd
        .representations
        .iter()
        .filter_map(|one| one.template.as_ref()?.segment_duration());
    let longest = counted.max().unwrap_or_default();
    let begun = mpd.availability_start.filter(|_| mpd.is_dynamic())?;
    let mut trimmer = Trimmer {
        mpd,
        source,
        depth,
        shown_depth: depth.saturating_sub(longest * 2),
        from: from.saturating_sub(begun),
        edits: Vec::new(),
        periods: 0,
        has_left: false,
        depth_of_levels: 0,
        templates: Vec::new(),
        timeline: None,
        leaving: None,
    };
    let mut reader = Reader::from_str(source);
    loop {
        let begin = usize::try_from(reader.buffer_position()).ok()?;
        let event = reader.read_event().ok()?;
        let span = begin..usize::try_from(reader.buffer_position()).ok()?;
        match event {
            Event::Eof => break,
            Event::Start(start) => trimmer.start(&start, span, false)?,
            Event::Empty(start) => {
                trimmer.start(&start, span.clone(), true)?;
                trimmer.end(start.local_name().into_inner(), span)?;
            }
            Event::End(end) => trimmer.end(end.local_name().into_inner(), span)?,
            _ => {}
        }
    }
    Some(applied(source, trimmer.edits))
}

/// Returns the URIs of segments that are meant by a time, of those that the MPD names at `now`: each with its
/// representation. A URI is relative to the representation's base URLs. Instants are since 1970.
pub fn named_between(
    mpd: &Mpd,
    time: Range<Duration>,
    now: Duration,
) -> Vec<(&Representation, String)> {
    let mut found = Vec::new();
    for representation in &mpd.representations {
        for segment in addressed_between(mpd, representation, &time, now).unwrap_or_default() {
            if found.len() == NAMES_MAX {
                return found;
            }
            if let Some(path) = representation.path_of(segment) {
                found.push((representation, path));
            }
        }
    }
    found
}

/// Names that one MPD is asked for; a day of segments of 2 s in six representations.
pub const NAMES_MAX: usize = 262_144;

fn addressed_between(
    mpd: &Mpd,
    representation: &Representation,
    time: &Range<Duration>,
    now: Duration,
) -> Option<Vec<Addressed>> {
    let template = representation.template.as_ref()?;
    let period = mpd.periods.get(representation.period)?;
    let origin = mpd.availability_start.unwrap_or_default() + period.start?;
    let from = time.start.saturating_sub(origin);
    let to = time.end.checked_sub(origin)?;
    let timescale = template.timescale.unwrap_or(1).max(1);
    if template.timeline.is_empty() {
        let length = template
            .segment_duration()
            .filter(|length| !length.is_zero())?;
        let depth = mpd.time_shift_buffer_depth.unwrap_or(Duration::MAX);
        let elapsed = now.saturating_sub(origin);
        // One segment more than the window: it stays available for its own duration.
        let oldest = elapsed.saturating_sub(depth).saturating_sub(length * 2);
        let newest = elapsed + representation.availability_offset().min(length) + length;
        let count = |time: Duration| time.as_nanos() / length.as_nanos();
        let first = count(from.max(oldest));
        let last = count(to.min(newest));
        let numbers = first..=last.min(first + NAMES_MAX as u128);
        let units = u128::from(template.duration.unwrap_or(1));
        return Some(
            numbers
                .filter_map(|index| {
                    let index = u64::try_from(index).ok()?;
                    Some(Addressed {
                        number: Some(template.first_number() + index),
                        time: u64::try_from(u128::from(index) * units).ok(),
                        ..Addressed::default()
                    })
                })
                .collect(),
        );
    }
    let edge = now.saturating_sub(origin);
    let mut found = Vec::new();
    let mut number = template.first_number();
    for run in runs(template, timescale, edge) {
        for index in 0..run.count {
            let begins = run.start + index * run.duration;
            let at = time_of(template, timescale, begins);
            let ends = time_of(template, timescale, begins + run.duration);
            if at < to && ends > from && found.len() < NAMES_MAX {
                found.push(Addressed {
                    number: Some(number),
                    time: Some(begins),
                    ..Addressed::default()
                });
            }
            number = number.saturating_add(1);
        }
    }
    Some(found)
}

/// A run of equal segments, counted.
struct Run {
    start: u64,
    duration: u64,
    count: u64,
}

/// Counts the runs of a timeline; one that is open ends at `edge`, which is since the start of the period.
fn runs(template: &SegmentTemplate, timescale: u64, edge: Duration) -> Vec<Run> {
    let mut clock = 0;
    let mut counted = Vec::new();
    let timeline = &template.timeline;
    for (index, run) in timeline.iter().enumerate() {
        let start = run.start.unwrap_or(clock);
        let next = timeline.get(index + 1).and_then(|next| next.start);
        let end = next.unwrap_or_else(|| {
            units_of(edge, timescale).saturating_add(template.presentation_time_offset.unwrap_or(0))
        });
        let count = count_of(run, start, end);
        clock = start.saturating_add(run.duration.saturating_mul(count));
        counted.push(Run {
            start,
            duration: run.duration,
            count,
        });
    }
    counted
}

/// Returns how many segments a run has; an open one fills the time to `end`, up to [`NAMES_MAX`].
fn count_of(run: &TimelineRun, start: u64, end: u64) -> u64 {
    let count = u64::try_from(run.repeat).map_or_else(
        |_| end.saturating_sub(start).div_ceil(run.duration.max(1)),
        |repeat| repeat.saturating_add(1),
    );
    count.min(NAMES_MAX as u64)
}

/// Returns when media at `units` plays, since the start of the period.
fn time_of(template: &SegmentTemplate, timescale: u64, units: u64) -> Duration {
    let since = units.saturating_sub(template.presentation_time_offset.unwrap_or(0));
    Duration::from_secs(since / timescale)
        + Duration::from_secs_f64((since % timescale) as f64 / timescale as f64)
}

fn units_of(time: Duration, timescale: u64) -> u64 {
    let units = time.as_nanos() * u128::from(timescale) / 1_000_000_000;
    u64::try_from(units).unwrap_or(u64::MAX)
}

/// Walks over the text and notes what has to change.
struct Trimmer<'a> {
    mpd: &'a Mpd,
    source: &'a str,
    depth: Duration,
    /// What is said of it, so that no counted segment is available that begins before it.
    shown_depth: Duration,
    /// Since the availability start.
    from: Duration,
    /// What is replaced by what, in order.
    edits: Vec<(Range<usize>, String)>,
    /// How many periods began.
    periods: usize,
    /// Whether the period before leaves.
    has_left: bool,
    /// The levels that are open inside the period: adaptation set and representation.
    depth_of_levels: usize,
    /// The templates of those levels, outermost first.
    templates: Vec<OpenTemplate>,
    /// The runs of the timeline that is open, and where they stand.
    timeline: Option<Vec<(Range<usize>, TimelineRun)>>,
    /// Where an element begins that leaves with all that is in it, and its name.
    leaving: Option<(usize, &'static str)>,
}

/// A `SegmentTemplate` of a level.
struct OpenTemplate {
    level: usize,
    /// What it says itself, or a level outside of it.
    says: SegmentTemplate,
    has_timeline: bool,
    /// Where its start tag stands.
    span: Range<usize>,
}

impl Trimmer<'_> {
    fn start(&mut self, start: &BytesStart<'_>, span: Range<usize>, is_empty: bool) -> Option<()> {
        if self.leaving.is_some() {
            return Some(());
        }
        match start.local_name().into_inner() {
            "MPD" => self.shrink(span)?,
            "Period" => self.period(start, &span)?,
            "AdaptationSet" | "Representation" => self.depth_of_levels += 1,
            "PatchLocation" if is_empty => self.edits.push((span, String::new())),
            "PatchLocation" => self.leaving = Some((span.start, "PatchLocation")),
            // They name segments in a way that is not read here.
            "SegmentList" | "SegmentURL" => return None,
            "SegmentTemplate" => self.template(start, span)?,
            "SegmentTimeline" => {
                self.templates.last_mut()?.has_timeline = true;
                self.timeline = Some(Vec::new());
            }
            "S" => self.run(start, span)?,
            _ => {}
        }
        Some(())
    }

    fn end(&mut self, name: &str, span: Range<usize>) -> Option<()> {
        if let Some((begin, leaving)) = self.leaving {
            if name == leaving {
                self.leaving = None;
                self.edits.push((begin..span.end, String::new()));
            }
            return Some(());
        }
        match name {
            "Period" => self.templates.clear(),
            "AdaptationSet" | "Representation" => {
                self.templates
                    .retain(|open| open.level < self.depth_of_levels);
                self.depth_of_levels = self.depth_of_levels.saturating_sub(1);
            }
            "S" => {
                if let Some((run, _)) = self.timeline.as_mut().and_then(|runs| runs.last_mut()) {
                    run.end = span.end;
                }
            }
            "SegmentTimeline" => {
                let runs = self.timeline.take()?;
                self.cut(runs)?;
            }
            _ => {}
        }
        Some(())
    }

    /// Lets the window begin later.
    fn shrink(&mut self, span: Range<usize>) -> Option<()> {
        let depth = self.mpd.time_shift_buffer_depth;
        let shown = self.shown_depth;
        if depth.is_none_or(|depth| depth > shown) {
            let (seconds, milliseconds) = (shown.as_secs(), shown.subsec_millis());
            let depth = format!("PT{seconds}.{milliseconds:03}S");
            let tag = with_attribute(
                self.source.get(span.clone())?,
                "timeShiftBufferDepth",
                &depth,
            )?;
            self.edits.push((span, tag));
        }
        Some(())
    }

    fn period(&mut self, start: &BytesStart<'_>, span: &Range<usize>) -> Option<()> {
        let periods = &self.mpd.periods;
        let period = periods.get(self.periods)?;
        self.periods += 1;
        let begins = period.start?;
        let next = periods.get(self.periods);
        let ends = next
            .and_then(|next| next.start)
            .or_else(|| begins.checked_add(period.duration?));
        // Where it begins must not follow from one that leaves.
        if self.has_left && start.try_get_attribute("start").ok()?.is_none() {
            return None;
        }
        self.has_left = next.is_some() && ends.is_some_and(|ends| ends <= self.from);
        if self.has_left {
            self.leaving = Some((span.start, "Period"));
        }
        Some(())
    }

    fn template(&mut self, start: &BytesStart<'_>, span: Range<usize>) -> Option<()> {
        let number = |name| {
            let attribute = start.try_get_attribute(name).ok()??;
            attribute.value.trim_ascii().parse::<u64>().ok()
        };
        let outer = self.templates.last();
        // Its numbers would begin where they did, in a timeline that does not.
        if number("startNumber").is_some() && outer.is_some_and(|outer| outer.has_timeline) {
            return None;
        }
        let says = SegmentTemplate {
            start_number: number("startNumber"),
            timescale: number("timescale"),
            presentation_time_offset: number("presentationTimeOffset"),
            ..SegmentTemplate::default()
        };
        self.templates.push(OpenTemplate {
            level: self.depth_of_levels,
            says: says.inherit(outer.map(|outer| &outer.says)),
            has_timeline: false,
            span,
        });
        Some(())
    }

    fn run(&mut self, start: &BytesStart<'_>, span: Range<usize>) -> Option<()> {
        let Some(runs) = &mut self.timeline else {
            return Some(());
        };
        let value = |name| {
            let attribute = start.try_get_attribute(name).ok()??;
            Some(attribute.value.trim_ascii().to_owned())
        };
        // Segments that say their number cannot be counted on from another.
        if value("n").is_some() {
            return None;
        }
        let run = TimelineRun {
            start: value("t").and_then(|start| start.parse().ok()),
            duration: value("d")?.parse().ok()?,
            repeat: value("r").map_or(Some(0), |repeat| repeat.parse().ok())?,
        };
        runs.push((span, run));
        Some(())
    }

    /// Cuts a timeline, and lets its numbers begin with what is left.
    fn cut(&mut self, timeline: Vec<(Range<usize>, TimelineRun)>) -> Option<()> {
        let open = self.templates.last()?;
        let (spans, timeline): (Vec<_>, Vec<_>) = timeline.into_iter().unzip();
        let template = SegmentTemplate {
            timeline,
            ..open.says.clone()
        };
        let timescale = template.timescale.unwrap_or(1).max(1);
        let period = self.mpd.periods.get(self.periods.checked_sub(1)?)?;
        let from = self.from.saturating_sub(period.start?);
        let edge = (self.from + self.depth).saturating_sub(period.start?);
        let mut left = 0_u64;
        let mut edits = Vec::new();
        let mut is_cut = false;
        for (index, (run, span)) in runs(&template, timescale, edge)
            .iter()
            .zip(spans)
            .enumerate()
        {
            let is_before = |nth: &u64| {
                let begins = run.start.saturating_add(nth.saturating_mul(run.duration));
                time_of(&template, timescale, begins) < from
            };
            let gone = (0..run.count).take_while(is_before).count() as u64;
            left += gone;
            if gone == run.count {
                edits.push((span, String::new()));
                is_cut = true;
                continue;
            }
            if is_cut || gone > 0 {
                let start = run.start + gone * run.duration;
                let mut tag =
                    with_attribute(self.source.get(span.clone())?, "t", &start.to_string())?;
                let repeat = template.timeline.get(index)?.repeat;
                if let Ok(repeat) = u64::try_from(repeat).map(|repeat| repeat - gone.min(repeat))
                    && gone > 0
                {
                    tag = with_attribute(&tag, "r", &repeat.to_string())?;
                }
                edits.push((span, tag));
            }
            is_cut = false;
            break;
        }
        // Nothing would be left of it.
        if is_cut {
            return None;
        }
        if left > 0 {
            let number = template.first_number().saturating_add(left).to_string();
            let tag = self.source.get(open.span.clone())?;
            let tag = with_attribute(tag, "startNumber", &number)?;
            self.edits.push((open.span.clone(), tag));
        }
        self.edits.extend(edits);
        Some(())
    }
}

#[cfg(test)]
#[path = "trim_tests.rs"]
mod tests;
