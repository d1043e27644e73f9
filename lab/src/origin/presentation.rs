//! The arithmetic of a presentation: which samples are which part, and when a part is complete.
//!
//! Pure: `now` does not occur here, only part numbers. Part number 0 is the first part of the
//! broadcast, and numbers run on across segments. The origin's other modules turn time into numbers
//! (`live.rs`) and numbers into text and bytes.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use super::config::{OriginConfig, OriginError, PAD_BYTES_MAX, PART_MIN, PartsAs};
use crate::media::{Track, pad_to};

/// A part's place: its segment's Media Sequence Number and its index in the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Media Sequence Number of the segment.
    pub msn: u64,
    /// Index of the part in the segment, from 0.
    pub part_index: u64,
}

/// What kind of object a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// An HLS multivariant playlist.
    Multivariant,
    /// An HLS media playlist.
    Playlist,
    /// A DASH manifest.
    Mpd,
    /// An init segment.
    Init,
    /// A media segment.
    Segment,
    /// A part, as a file or as a byte range.
    Part,
    /// Anything else.
    Other,
}

impl ObjectKind {
    /// Every kind, in the order of reports.
    pub const ALL: [Self; 7] = [
        Self::Multivariant,
        Self::Playlist,
        Self::Mpd,
        Self::Init,
        Self::Segment,
        Self::Part,
        Self::Other,
    ];

    /// Returns the name used in reports and fault rules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Multivariant => "multivariant",
            Self::Playlist => "playlist",
            Self::Mpd => "mpd",
            Self::Init => "init",
            Self::Segment => "segment",
            Self::Part => "part",
            Self::Other => "other",
        }
    }
}

/// How time is divided into segments and parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cadence {
    pub(crate) segment_seconds: u64,
    pub(crate) parts_per_segment: u64,
}

impl Cadence {
    /// Divides `segment` evenly into parts of about `part`.
    pub(crate) fn new(segment: Duration, part: Duration) -> Result<Self, OriginError> {
        let segment_seconds = segment.as_secs();
        if segment.subsec_nanos() != 0 || !(1..=6).contains(&segment_seconds) {
            return Err(OriginError::Segment(segment));
        }
        if part < PART_MIN || part > segment {
            return Err(OriginError::Part(part));
        }
        let ratio = segment.as_secs_f64() / part.as_secs_f64();
        Ok(Self {
            segment_seconds,
            parts_per_segment: (ratio.round() as u64).max(1),
        })
    }

    /// Returns the number of the part at `position`.
    pub(crate) fn number(&self, position: Position) -> u64 {
        position.msn * self.parts_per_segment + position.part_index
    }

    /// Returns the place of part `number`.
    pub(crate) fn position(&self, number: u64) -> Position {
        Position {
            msn: number / self.parts_per_segment,
            part_index: number % self.parts_per_segment,
        }
    }

    /// Returns the media time at which part `number` begins.
    pub(crate) fn start_of(&self, number: u64) -> Duration {
        let nanos = u128::from(number) * u128::from(self.segment_seconds) * 1_000_000_000
            / u128::from(self.parts_per_segment);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Returns the exact duration of a part on the clock.
    pub(crate) fn part_seconds(&self) -> f64 {
        self.segment_seconds as f64 / self.parts_per_segment as f64
    }

    /// Returns the numbers of the parts of segment `msn`.
    pub(crate) fn parts_of(&self, msn: u64) -> Range<u64> {
        msn * self.parts_per_segment..(msn + 1) * self.parts_per_segment
    }

    /// Returns the media time that `parts` cover.
    pub(crate) fn span(&self, parts: Range<u64>) -> (Duration, Duration) {
        (self.start_of(parts.start), self.start_of(parts.end))
    }
}

/// A track as it is presented.
#[derive(Debug)]
pub(crate) struct Rendition {
    pub(crate) track: Track,
    /// Duration of its longest part: its `PART-TARGET`. Audio frames do not divide a second, so its
    /// parts differ by one frame.
    pub(crate) part_target: Duration,
    /// Peak bit rate of its segments, in bits per second.
    pub(crate) bits_per_second: u64,
}

impl Rendition {
    /// Returns the name of the rendition, which is its folder in URLs.
    pub(crate) fn name(&self) -> &'static str {
        self.track.name()
    }
}

/// Everything about the presentation that does not change while it runs.
#[derive(Debug)]
pub(crate) struct Presentation {
    pub(crate) renditions: Vec<Rendition>,
    pub(crate) cadence: Cadence,
    pub(crate) window: u64,
    pub(crate) parts_as: PartsAs,
    pub(crate) low_latency: bool,
    pad_parts_to: Option<usize>,
}

/// How much later the content of each further broadcast is: whole GOPs and whole audio frames.
const SHIFT: Duration = Duration::from_secs(8);
/// After so many the loop is over.
const SHIFTS: u32 = 4;

impl Presentation {
    pub(crate) fn new(config: &OriginConfig) -> Result<Self, OriginError> {
        if !(3..=1000).contains(&config.window) {
            return Err(OriginError::Window(config.window));
        }
        if let Some(pad) = config.pad_parts_to.filter(|pad| *pad > PAD_BYTES_MAX) {
            return Err(OriginError::Pad(pad));
        }
        let mut show = Self {
            renditions: select(Track::bundled()?, &config.renditions)?,
            cadence: Cadence::new(config.segment, config.part)?,
            window: config.window,
            parts_as: config.parts_as,
            low_latency: config.low_latency,
            pad_parts_to: config.pad_parts_to,
        };
        for index in 0..show.renditions.len() {
            let rendition = &show.renditions[index];
            let (part_target, bits) = (show.longest_part(rendition), show.peak_bits(rendition));
            show.renditions[index].part_target = part_target;
            show.renditions[index].bits_per_second = bits;
        }
        Ok(show)
    }

    /// Returns the target duration, `TD`, in seconds.
    pub(crate) fn target_seconds(&self) -> u64 {
        self.cadence.segment_seconds
    }

    /// Returns the skip boundary, `CAN-SKIP-UNTIL`, in seconds: six target durations.
    pub(crate) fn skip_until_seconds(&self) -> u64 {
        6 * self.target_seconds()
    }

    /// Returns the number of segments in the VOD of the loop.
    pub(crate) fn vod_segments(&self) -> u64 {
        self.loop_seconds().div_ceil(self.cadence.segment_seconds)
    }

    /// Returns the duration of the loop in seconds.
    pub(crate) fn loop_seconds(&self) -> u64 {
        self.renditions[0].track.loop_duration().as_secs()
    }

    /// Returns the media time of segment `msn` of the VOD: the last one ends with the loop.
    pub(crate) fn vod_span(&self, msn: u64) -> (Duration, Duration) {
        let (from, to) = self.cadence.span(self.cadence.parts_of(msn));
        (from, to.min(Duration::from_secs(self.loop_seconds())))
    }

    /// Returns the bytes of part `number` of broadcast `generation`.
    pub(crate) fn part_bytes(&self, of: &Rendition, generation: u32, number: u64) -> Bytes {
        let (from, to) = self.cadence.span(number..number + 1);
        // Wraps after years of parts; readers only expect it to differ.
        let sequence = (number as u32).wrapping_add(1);
        let fragment = of
            .track
            .shifted_fragment(from, to, sequence, shift(generation));
        // The shortest part holds four frames of the slowest track.
        let fragment = fragment.expect("a part holds samples");
        match self.pad_parts_to {
            Some(bytes) => pad_to(fragment, bytes),
            None => fragment,
        }
    }

    /// Returns the weight in bytes of part `number`, without making it.
    pub(crate) fn part_len(&self, of: &Rendition, generation: u32, number: u64) -> u64 {
        let (from, to) = self.cadence.span(number..number + 1);
        let bare = of.track.fragment_len(from, to, shift(generation));
        let padded = match self.pad_parts_to {
            // A box is no lighter than its header, so a part just below the weight stays as it is.
            Some(bytes) if bytes >= bare + BOX_HEADER_BYTES => bytes,
            Some(_) | None => bare,
        };
        padded as u64
    }

    /// Returns how long `parts` last together, in seconds.
    pub(crate) fn seconds(&self, of: &Rendition, parts: Range<u64>) -> f64 {
        let (from, to) = self.cadence.span(parts);
        of.track.fragment_duration(from, to).as_secs_f64()
    }

    /// Returns whether part `number` can be decoded on its own.
    pub(crate) fn is_independent(&self, of: &Rendition, number: u64) -> bool {
        let (from, to) = self.cadence.span(number..number + 1);
        of.track.starts_with_sync(from, to)
    }

    /// Returns segment `msn` of the VOD, one fragment.
    pub(crate) fn vod_segment(&self, of: &Rendition, msn: u64) -> Bytes {
        let (from, to) = self.vod_span(msn);
        let fragment = of.track.fragment(from, to, (msn as u32).wrapping_add(1));
        fragment.expect("a segment of the loop holds samples")
    }

    /// Returns the numbers of segments after which every alignment of frames has occurred: as many
    /// as the loop has seconds.
    fn alignments(&self) -> Range<u64> {
        0..self.loop_seconds()
    }

    fn longest_part(&self, of: &Rendition) -> Duration {
        self.alignments()
            .flat_map(|msn| self.cadence.parts_of(msn))
            .map(|number| {
                let (from, to) = self.cadence.span(number..number + 1);
                of.track.fragment_duration(from, to)
            })
            .max()
            .unwrap_or_default()
    }

    fn peak_bits(&self, of: &Rendition) -> u64 {
        self.alignments()
            .map(|msn| {
                let parts = self.cadence.parts_of(msn);
                let bytes: u64 = parts
                    .clone()
                    .map(|number| self.part_len(of, 0, number))
                    .sum();
                (bytes as f64 * 8.0 / self.seconds(of, parts)).ceil() as u64
            })
            .max()
            .unwrap_or(0)
    }

    /// Returns the audio rendition, if it is offered.
    pub(crate) fn audio(&self) -> Option<&Rendition> {
        self.renditions.iter().find(|r| r.track.is_audio())
    }
}

const BOX_HEADER_BYTES: usize = 8;

/// Returns how much later the content of broadcast `generation` is.
fn shift(generation: u32) -> Duration {
    SHIFT * (generation % SHIFTS)
}

fn select(all: Vec<Track>, names: &[String]) -> Result<Vec<Rendition>, OriginError> {
    if let Some(unknown) = names.iter().find(|n| !all.iter().any(|t| t.name() == *n)) {
        return Err(OriginError::Rendition(unknown.clone()));
    }
    let chosen: Vec<Rendition> = all
        .into_iter()
        .filter(|t| names.is_empty() || names.iter().any(|n| n == t.name()))
        .map(|track| Rendition {
            track,
            part_target: Duration::ZERO,
            bits_per_second: 0,
        })
        .collect();
    if chosen[0].track.is_audio() {
        return Err(OriginError::Rendition(names.join(",")));
    }
    Ok(chosen)
}
