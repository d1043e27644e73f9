//! The MPD as values, and the arithmetic of what it makes available when.
//!
//! Built by `parser`. All instants are durations since 1970-01-01T00:00:00Z, and `now` comes in.

use std::time::Duration;

use bytes::Bytes;

use super::template::{Addressed, Template};

/// A media presentation description: what delivery needs of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mpd {
    /// The text, byte for byte as it was given.
    pub text: Bytes,
    /// Its identity, by which its patches name it.
    pub id: Option<String>,
    /// Whether it changes.
    pub presentation: PresentationType,
    /// The instant that availability is counted from.
    pub availability_start: Option<Duration>,
    /// When this version was published.
    pub publish_time: Option<Duration>,
    /// How long this version is good for at least; zero if in-band events say when it changes.
    pub minimum_update_period: Option<Duration>,
    /// How far back segments stay available.
    pub time_shift_buffer_depth: Option<Duration>,
    /// How far behind the live edge playback is meant to be.
    pub suggested_presentation_delay: Option<Duration>,
    /// How long the presentation is.
    pub media_presentation_duration: Option<Duration>,
    /// Where players find the time.
    pub utc_timings: Vec<UtcTiming>,
    /// Where patches of this version are.
    pub patch_locations: Vec<PatchLocation>,
    /// Where the next version is, if not where this one was.
    pub locations: Vec<String>,
    /// What URIs are relative to, before anything closer.
    pub base_urls: Vec<BaseUrl>,
    /// The periods, in order.
    pub periods: Vec<Period>,
    /// The representations of every period, in order.
    pub representations: Vec<Representation>,
}

/// Whether an MPD changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PresentationType {
    /// On demand.
    #[default]
    Static,
    /// Live.
    Dynamic,
}

/// A `UTCTiming`: how players learn the time (LD-13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UtcTiming {
    /// How: a scheme such as `urn:mpeg:dash:utc:http-iso:2014`.
    pub scheme: String,
    /// Usually a URI.
    pub value: String,
}

/// A `PatchLocation` (LD-14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchLocation {
    /// Where the patch is, relative to the MPD.
    pub uri: String,
    /// How long the location is good for after `publish_time`.
    pub ttl: Option<Duration>,
}

/// A `BaseURL`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseUrl {
    /// What URIs are relative to, itself relative to what is further out.
    pub uri: String,
    /// How much earlier segments there are available; thirty years for `INF`.
    pub availability_time_offset: Option<Duration>,
    /// Whether they are whole when they become available (LD-03).
    pub availability_time_complete: Option<bool>,
}

/// A `Period`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Period {
    /// Its identity across versions.
    pub id: Option<String>,
    /// When it begins, from the availability start; computed if it follows from its predecessor.
    pub start: Option<Duration>,
    /// How long it is.
    pub duration: Option<Duration>,
}

/// A `Representation`, with what it inherits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Representation {
    /// Its identity in the period.
    pub id: String,
    /// Its bit rate in bits per second.
    pub bandwidth: u64,
    /// Index of its period.
    pub period: usize,
    /// Its media type, such as `video/mp4`.
    pub mime_type: Option<String>,
    /// The first `BaseURL` of each level, outermost first.
    pub base_urls: Vec<BaseUrl>,
    /// How its segments are named.
    pub template: Option<SegmentTemplate>,
}

/// A `SegmentTemplate`, with what it inherits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentTemplate {
    /// Names media segments.
    pub media: Option<Template>,
    /// Names the initialization segment.
    pub initialization: Option<Template>,
    /// Number of the first segment; one by default.
    pub start_number: Option<u64>,
    /// Nominal duration of segments, in units of the timescale.
    pub duration: Option<u64>,
    /// Units per second; one by default. Never zero.
    pub timescale: Option<u64>,
    /// What `$Time$` is at the start of the period.
    pub presentation_time_offset: Option<u64>,
    /// How much earlier segments are available; thirty years for `INF`.
    pub availability_time_offset: Option<Duration>,
    /// Whether they are whole when they become available.
    pub availability_time_complete: Option<bool>,
    /// Segments one by one, if there is a `SegmentTimeline`.
    pub timeline: Vec<TimelineRun>,
}

/// An `S` of a `SegmentTimeline`: equal segments in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimelineRun {
    /// When the first begins; `None` is where the run before ends.
    pub start: Option<u64>,
    /// Duration of each.
    pub duration: u64,
    /// How many follow the first; negative is until the next run or the end.
    pub repeat: i64,
}

impl Mpd {
    /// Returns whether the presentation is live.
    pub fn is_dynamic(&self) -> bool {
        self.presentation == PresentationType::Dynamic
    }

    /// Returns whether some segment becomes available before it is whole: low-latency DASH.
    pub fn has_growing_segments(&self) -> bool {
        self.representations.iter().any(Representation::is_growing)
    }

    /// Returns the last segment that is available at `now`, of those counted by a nominal duration.
    ///
    /// `None` if segments are listed one by one, the MPD is not live, or none is available yet.
    pub fn last_available(&self, representation: &Representation, now: Duration) -> Option<u64> {
        let template = representation.template.as_ref()?;
        let origin = self.period_start(representation)?;
        let ahead = now
            .checked_add(representation.availability_offset())?
            .checked_sub(origin)?;
        let (units, timescale) = template.nominal_duration()?;
        // Exact, so that the edge does not drift over years of segments of 1001/30000 s.
        let elapsed = ahead.as_nanos().checked_mul(u128::from(timescale))?;
        let whole = u64::try_from(elapsed / (u128::from(units) * NANOSECONDS)).ok()?;
        template.first_number().checked_add(whole.checked_sub(1)?)
    }

    /// Returns when a segment counted by a nominal duration becomes available.
    pub fn available_at(&self, representation: &Representation, number: u64) -> Option<Duration> {
        let template = representation.template.as_ref()?;
        let origin = self.period_start(representation)?;
        let count = number
            .checked_sub(template.first_number())?
            .checked_add(1)?;
        let (units, timescale) = template.nominal_duration()?;
        let end = duration_of(u128::from(units) * u128::from(count), timescale)?;
        let offset = representation.availability_offset();
        Some(origin.checked_add(end)?.saturating_sub(offset))
    }

    /// Returns how long after `now` a segment becomes available, if it is the next one to (LD-01).
    ///
    /// `None` if it is available, further ahead than its duration, beyond its period, or listed rather
    /// than counted.
    pub fn next_in(
        &self,
        representation: &Representation,
        number: u64,
        now: Duration,
    ) -> Option<Duration> {
        let template = representation.template.as_ref()?;
        let wait = self
            .available_at(representation, number)?
            .checked_sub(now)
            .filter(|wait| !wait.is_zero())?;
        let period = self.periods.get(representation.period)?;
        let (units, timescale) = template.nominal_duration()?;
        let before = number.checked_sub(template.first_number())?;
        let begins = duration_of(u128::from(units) * u128::from(before), timescale)?;
        let is_in_period = period.duration.is_none_or(|duration| begins < duration);
        (is_in_period && wait <= template.segment_duration()?).then_some(wait)
    }

    /// Returns whether this is an older version of the presentation that `shown` is of.
    ///
    /// Versions are told apart by `publishTime`; where one has none, only by that what has ended does not
    /// go on. Another `availabilityStartTime` is another presentation, which may begin at any time.
    pub fn is_older_than(&self, shown: &Self) -> bool {
        if self.availability_start != shown.availability_start {
            return false;
        }
        match (self.publish_time, shown.publish_time) {
            (Some(this), Some(shown)) => this < shown,
            (Some(_) | None, None) | (None, Some(_)) => {
                self.availability_start.is_some() && self.is_dynamic() && !shown.is_dynamic()
            }
        }
    }

    pub(super) fn period_start(&self, representation: &Representation) -> Option<Duration> {
        if !self.is_dynamic() {
            return None;
        }
        let period = self.periods.get(representation.period)?;
        self.availability_start?.checked_add(period.start?)
    }
}

impl Representation {
    /// Returns whether its segments become available before they are whole.
    pub fn is_growing(&self) -> bool {
        let template = self
            .template
            .as_ref()
            .and_then(|t| t.availability_time_complete);
        let base = self
            .base_urls
            .iter()
            .rev()
            .find_map(|base| base.availability_time_complete);
        template.or(base) == Some(false)
    }

    /// Returns how much earlier than whole its segments are available: the sum of all offsets.
    pub fn availability_offset(&self) -> Duration {
        let template = self
            .template
            .as_ref()
            .and_then(|t| t.availability_time_offset);
        let bases = self
            .base_urls
            .iter()
            .filter_map(|base| base.availability_time_offset);
        bases
            .chain(template)
            .fold(Duration::ZERO, Duration::saturating_add)
    }

    /// Returns which segment a path names, relative to the representation's base.
    pub fn segment_of(&self, path: &str) -> Option<Addressed> {
        let media = self.template.as_ref()?.media.as_ref()?;
        media.matches(path, &self.id, self.bandwidth)
    }

    /// Returns the path of a segment, relative to the representation's base.
    pub fn path_of(&self, segment: Addressed) -> Option<String> {
        let media = self.template.as_ref()?.media.as_ref()?;
        Some(media.fill(&self.id, self.bandwidth, segment))
    }

    /// Returns the path of the initialization segment, relative to the representation's base.
    pub fn initialization_path(&self) -> Option<String> {
        let template = self.template.as_ref()?.initialization.as_ref()?;
        Some(template.fill(&self.id, self.bandwidth, Addressed::default()))
    }
}

impl SegmentTemplate {
    /// Returns the number of the period's first segment.
    pub fn first_number(&self) -> u64 {
        self.start_number.unwrap_or(1)
    }

    /// Returns the nominal duration of segments, if they are counted by it.
    pub fn segment_duration(&self) -> Option<Duration> {
        let (units, timescale) = self.nominal_duration()?;
        duration_of(u128::from(units), timescale)
    }

    /// Returns the nominal duration as units, not zero, and units per second, not zero either.
    fn nominal_duration(&self) -> Option<(u64, u64)> {
        let units = self
            .duration
            .filter(|units| *units > 0 && self.timeline.is_empty())?;
        Some((units, self.timescale.unwrap_or(1).max(1)))
    }

    /// Takes what is not said here from what is said further out.
    pub(super) fn inherit(mut self, outer: Option<&Self>) -> Self {
        let Some(outer) = outer else { return self };
        self.media = self.media.or_else(|| outer.media.clone());
        self.initialization = self.initialization.or_else(|| outer.initialization.clone());
        self.start_number = self.start_number.or(outer.start_number);
        self.duration = self.duration.or(outer.duration);
        self.timescale = self.timescale.or(outer.timescale);
        self.presentation_time_offset = self
            .presentation_time_offset
            .or(outer.presentation_time_offset);
        self.availability_time_offset = self
            .availability_time_offset
            .or(outer.availability_time_offset);
        self.availability_time_complete = self
            .availability_time_complete
            .or(outer.availability_time_complete);
        if self.timeline.is_empty() {
            self.timeline.clone_from(&outer.timeline);
        }
        self
    }
}

pub(super) fn duration_of(units: u128, timescale: u64) -> Option<Duration> {
    let timescale = u128::from(timescale);
    let nanoseconds = (units % timescale) * NANOSECONDS / timescale;
    let seconds = u64::try_from(units / timescale).ok()?;
    Some(Duration::new(seconds, u32::try_from(nanoseconds).ok()?))
}

const NANOSECONDS: u128 = 1_000_000_000;
