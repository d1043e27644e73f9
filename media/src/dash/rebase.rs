//! Showing a presentation that began again as the continuation of what players have.
//!
//! ```text
//! shown before    availability starts 10:00                              Period "0" from 0 s
//! the run         availability starts 11:30                              Period "0" from 0 s
//! shown           availability starts 10:00   Period "0" from 0 s, then  Period "0.MARK" from 5400 s
//! ```
//!
//! A *run* is what one start of one packager counts. Its periods are moved by the difference of the availability starts,
//! so every segment is available exactly when the run says, and the presentation time of players goes on. Its
//! segment URIs get a mark: names that come again name something else. Called by the node, once per version. Deliberately
//! not here: what the mark is, and what becomes of the segments of the run before.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::edit::{applied, attribute, iso_duration, with_attribute};
use super::mpd::Mpd;
use crate::time::format_date_time;

/// How a run is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebase {
    /// The availability start that players were told first, since 1970; whole milliseconds.
    pub availability_start: Duration,
    /// What is added to the run's `publishTime`, so that it does not go back.
    pub published_later: Duration,
    /// What tells the run's URIs from others: `name=value`, of letters, digits, `_` and `-`.
    pub parameter: String,
    /// What tells the run's periods from others: letters and digits.
    pub period_suffix: String,
    /// What is not shown of it, if anything.
    pub withheld: Option<Withheld>,
}

/// The beginning of a period that is not shown.
///
/// A run that says that it began earlier than it did, or was noticed late, has segments from before what players have just played. A
/// player that comes over begins with a period's first segment, which has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// When the period starts, as the run says.
    pub period_start: Duration,
    /// How much of it is not shown: whole segments.
    pub duration: Duration,
}

/// A period of the run before, which players need to find their way out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodBefore {
    text: String,
    start: Duration,
    /// The namespaces that its names are of.
    namespaces: Vec<String>,
}

/// What is said differently while players come over from the run before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crossing<'a> {
    /// The period that players come from.
    pub before: Option<&'a PeriodBefore>,
    /// The most of the past that is shown as available.
    pub window: Option<Duration>,
}

impl Rebase {
    /// Returns by how much the periods of `run` are moved; `None` if that would be back.
    pub fn shift(&self, run_start: Duration) -> Option<Duration> {
        run_start.checked_sub(self.availability_start)
    }

    /// Returns the text of a version of a run as players are shown it.
    ///
    /// `run_start` is its availability start, for a version that has ended and says none any more. Patch locations leave: their
    /// patches are for the text as it was. `None` if that cannot be said in this MPD: where a segment is named by
    /// anything but a `SegmentTemplate`, something is on another server (`xlink:href`), a period has no start, or what is
    /// withheld is no whole segments.
    pub fn rewrite(&self, run: &Mpd, run_start: Duration, crossing: Crossing<'_>) -> Option<Bytes> {
        let source = std::str::from_utf8(&run.text).ok()?;
        let shift = self.shift(run.availability_start.unwrap_or(run_start))?;
        let is_named = |one: &super::mpd::Representation| {
            one.template
                .as_ref()
                .is_some_and(|template| template.media.is_some())
        };
        if !run.representations.iter().all(is_named) {
            return None;
        }
        let mut walk = Walk {
            rebase: self,
            run,
            source,
            shift,
            crossing,
            edits: Vec::new(),
            periods: 0,
            withheld: None,
            levels: Vec::new(),
            leaving: None,
        };
        let mut reader = Reader::from_str(source);
        loop {
            let begin = usize::try_from(reader.buffer_position()).ok()?;
            let event = reader.read_event().ok()?;
            let span = begin..usize::try_from(reader.buffer_position()).ok()?;
            match event {
                Event::Eof => break,
                Event::Start(start) => walk.start(&start, span, false)?,
                Event::Empty(start) => walk.start(&start, span, true)?,
                Event::End(end) => walk.end(end.local_name().into_inner(), span),
                _ => {}
            }
        }
        Some(applied(source, walk.edits))
    }
}

impl PeriodBefore {
    /// Returns how long its text is, in bytes.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Returns the last period of an MPD as it is shown; `None` if it does not say when it begins.
    pub fn last_of(shown: &Mpd) -> Option<Self> {
        let source = std::str::from_utf8(&shown.text).ok()?;
        let start = shown.periods.last()?.start?;
        let mut reader = Reader::from_str(source);
        let mut depth = 0_usize;
        let mut namespaces = None;
        let mut last: Option<(Range<usize>, usize)> = None;
        loop {
            let begin = usize::try_from(reader.buffer_position()).ok()?;
            let event = reader.read_event().ok()?;
            let end = usize::try_from(reader.buffer_position()).ok()?;
            match event {
                Event::Eof => break,
                Event::Start(element) => {
                    if depth == 0 {
                        namespaces = Some(namespaces_of(&element)?);
                    }
                    if depth == 1 && element.local_name().into_inner() == "Period" {
                        last = Some((begin..end, end - begin));
                    }
                    depth += 1;
                }
                Event::End(element) => {
                    depth = depth.checked_sub(1)?;
                    if depth == 1 && element.local_name().into_inner() == "Period" {
                        last.as_mut()?.0.end = end;
                    }
                }
                _ => {}
            }
        }
        let (span, tag_bytes) = last?;
        let (tag, rest) = source.get(span)?.split_at_checked(tag_bytes)?;
        // What it follows is not shown with it.
        let tag = with_attribute(tag, "start", &iso_duration(start))?;
        Some(Self {
            text: format!("{tag}{rest}"),
            start,
            namespaces: namespaces?,
        })
    }
}

/// What a `SegmentTemplate` says with what it inherits.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    timescale: Option<u64>,
    duration: Option<u64>,
    start_number: Option<u64>,
    offset: Option<u64>,
}

/// Walks over the text of a run and notes what has to change.
struct Walk<'a> {
    rebase: &'a Rebase,
    run: &'a Mpd,
    source: &'a str,
    shift: Duration,
    crossing: Crossing<'a>,
    edits: Vec<(Range<usize>, String)>,
    /// How many periods began.
    periods: usize,
    /// What is not shown of this one.
    withheld: Option<Duration>,
    /// What templates say so far in the period and in what is open in it, outermost first.
    levels: Vec<Said>,
    /// Where a patch location begins that leaves.
    leaving: Option<usize>,
}

impl Walk<'_> {
    fn start(&mut self, start: &BytesStart<'_>, span: Range<usize>, is_empty: bool) -> Option<()> {
        let tag = self.source.get(span.clone())?;
        if attribute(tag, "xlink:href").is_some() {
            return None;
        }
        let name = start.local_name().into_inner();
        if matches!(name, "Period" | "AdaptationSet" | "Representation") && !is_empty {
            self.levels
                .push(self.levels.last().copied().unwrap_or_default());
        }
        match name {
            "MPD" => {
                self.drop_before_of_other_names(start);
                self.edits.push((span, self.root(tag)?));
            }
            "Period" => {
                let period = self.period(tag)?;
                self.edits.push((span, period));
            }
            "SegmentTemplate" => {
                let template = self.template(tag)?;
                self.edits.push((span, template));
            }
            "EventStream" if self.withheld.is_some() => {
                self.edits.push((span, self.events(tag)?));
            }
            // What is counted is not listed.
            "SegmentTimeline"
                if self.withheld.is_some() && self.levels.last()?.duration.is_some() =>
            {
                return None;
            }
            "PatchLocation" if is_empty => self.edits.push((span, String::new())),
            "PatchLocation" => self.leaving = Some(span.start),
            "SegmentList"
            | "SegmentURL"
            | "SegmentBase"
            | "Initialization"
            | "BitstreamSwitching"
            | "RepresentationIndex" => return None,
            _ => {}
        }
        Some(())
    }

    fn end(&mut self, name: &str, span: Range<usize>) {
        if matches!(name, "Period" | "AdaptationSet" | "Representation") {
            self.levels.pop();
        }
        if name == "PatchLocation"
            && let Some(begin) = self.leaving.take()
        {
            self.edits.push((begin..span.end, String::new()));
        }
    }

    /// A period cannot be shown where its names would be of other namespaces.
    fn drop_before_of_other_names(&mut self, root: &BytesStart<'_>) {
        let namespaces = namespaces_of(root);
        self.crossing.before = self
            .crossing
            .before
            .filter(|before| namespaces.as_ref() == Some(&before.namespaces));
    }

    fn root(&self, tag: &str) -> Option<String> {
        let mut tag = tag.to_owned();
        if self.run.availability_start.is_some() {
            let start = format_date_time(self.rebase.availability_start);
            tag = with_attribute(&tag, "availabilityStartTime", &start)?;
        }
        if let Some(published) = self.run.publish_time {
            let published = published.checked_add(self.rebase.published_later)?;
            tag = with_attribute(&tag, "publishTime", &format_date_time(published))?;
        }
        if let Some(duration) = self.run.media_presentation_duration {
            let duration = iso_duration(duration.checked_add(self.shift)?);
            tag = with_attribute(&tag, "mediaPresentationDuration", &duration)?;
        }
        let depth = self.run.time_shift_buffer_depth;
        if let Some(window) = self.crossing.window
            && depth.is_none_or(|depth| window < depth)
        {
            tag = with_attribute(&tag, "timeShiftBufferDepth", &iso_duration(window))?;
        }
        Some(tag)
    }

    fn period(&mut self, tag: &str) -> Option<String> {
        let own = self.run.periods.get(self.periods)?;
        let start = own.start?;
        self.withheld = (self.rebase.withheld)
            .filter(|withheld| withheld.period_start == start)
            .map(|withheld| withheld.duration);
        let withheld = self.withheld.unwrap_or_default();
        let start = start.checked_add(self.shift)?.checked_add(withheld)?;
        let before = match self.crossing.before.filter(|_| self.periods == 0) {
            Some(before) if before.start < start => format!("{}\n  ", before.text),
            Some(_) | None => String::new(),
        };
        let suffix = &self.rebase.period_suffix;
        let id = match attribute(tag, "id") {
            Some(id) if !id.is_empty() => format!("{id}.{suffix}"),
            Some(_) | None => format!("{}.{suffix}", self.periods),
        };
        self.periods += 1;
        let tag = with_attribute(tag, "id", &id)?;
        let mut tag = with_attribute(&tag, "start", &iso_duration(start))?;
        if let Some(duration) = own.duration {
            let left = iso_duration(duration.checked_sub(withheld)?);
            tag = with_attribute(&tag, "duration", &left)?;
        }
        Some(format!("{before}{tag}"))
    }

    /// Events are told in time since the start of the period, too.
    fn events(&self, tag: &str) -> Option<String> {
        let timescale = number(tag, "timescale")?.unwrap_or(1);
        let offset = number(tag, "presentationTimeOffset")?.unwrap_or(0);
        let moved = offset.checked_add(units_of(self.withheld?, timescale)?)?;
        with_attribute(tag, "presentationTimeOffset", &moved.to_string())
    }

    /// Lets a template begin later, by what is withheld of its period.
    fn begin_later(&mut self, tag: &str, withheld: Duration) -> Option<String> {
        if attribute(tag, "eptDelta").is_some() {
            return None;
        }
        let level = self.levels.last_mut()?;
        let said = Said {
            timescale: number(tag, "timescale")?.or(level.timescale),
            duration: number(tag, "duration")?.or(level.duration),
            start_number: number(tag, "startNumber")?.or(level.start_number),
            offset: number(tag, "presentationTimeOffset")?.or(level.offset),
        };
        *level = said;
        let units = units_of(withheld, said.timescale.unwrap_or(1).max(1))?;
        let offset = said.offset.unwrap_or(0).checked_add(units)?;
        let tag = with_attribute(tag, "presentationTimeOffset", &offset.to_string())?;
        let Some(duration) = said.duration else {
            return Some(tag);
        };
        let segments = units.checked_div(duration)?;
        if segments.checked_mul(duration) != Some(units) {
            return None;
        }
        let first = said.start_number.unwrap_or(1).checked_add(segments)?;
        with_attribute(&tag, "startNumber", &first.to_string())
    }

    fn template(&mut self, tag: &str) -> Option<String> {
        let mut tag = match self.withheld {
            Some(withheld) => self.begin_later(tag, withheld)?,
            None => tag.to_owned(),
        };
        for name in ["media", "initialization", "index", "bitstreamSwitching"] {
            let Some(uri) = attribute(&tag, name) else {
                continue;
            };
            if uri.contains('#') {
                return None;
            }
            let separator = if uri.contains('?') { "&amp;" } else { "?" };
            let marked = format!("{uri}{separator}{}", self.rebase.parameter);
            tag = with_attribute(&tag, name, &marked)?;
        }
        Some(tag)
    }
}

/// Returns the number that an attribute is, if it is there; `None` if it is something else.
fn number(tag: &str, name: &str) -> Option<Option<u64>> {
    attribute(tag, name).map_or(Some(None), |value| value.parse().ok().map(Some))
}

/// Returns a duration in units of a timescale, if that is a whole number.
fn units_of(duration: Duration, timescale: u64) -> Option<u64> {
    let units = duration.as_nanos().checked_mul(u128::from(timescale))?;
    let is_whole = units % NANOSECONDS == 0;
    u64::try_from(units / NANOSECONDS).ok().filter(|_| is_whole)
}

const NANOSECONDS: u128 = 1_000_000_000;

/// Returns what the names of an element are of, in a fixed order.
fn namespaces_of(root: &BytesStart<'_>) -> Option<Vec<String>> {
    let mut namespaces = Vec::new();
    // The parser has limited their number.
    for attribute in root.attributes().with_checks(false) {
        let attribute = attribute.ok()?;
        let name = attribute.key.into_inner();
        if name == "xmlns" || name.starts_with("xmlns:") {
            namespaces.push(format!("{name}={}", attribute.value));
        }
    }
    namespaces.sort_unstable();
    Some(namespaces)
}

#[cfg(test)]
#[path = "rebase_tests.rs"]
mod tests;
