//! Which segments of a media playlist lie in a stretch of its timeline.
//!
//! Called by the node when part of a stream is purged. What is found is rewritten by [`redact`](super::redact()).
//! Deliberately not here: how long a stretch stands, and what becomes of the resources.
//!
//! ```text
//! by number      10  11 [12  13  14] 15 (16)        the open segment is judged like the others
//! by date        ───────┴─from───to─┴──────►        whatever overlaps, by PROGRAM-DATE-TIME
//! no dates      [10  11  12  13  14  15 (16)]       cannot be told: all of it
//! ```

use std::time::Duration;

use super::attributes::Attributes;
use super::media_playlist::MediaPlaylist;
use super::redact::is_purged;
use super::text::Span;
use crate::time::parse_date_time;

/// A stretch of a presentation's timeline. Both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// By Media Sequence Number. It says nothing of a playlist of I-frames, which counts its own
    /// (rfc8216bis 4.4.3.6): all of that is meant.
    Msn {
        /// The first segment.
        first: u64,
        /// The last segment.
        last: u64,
    },
    /// By wall-clock time since 1970, as `EXT-X-PROGRAM-DATE-TIME` tells it. All of a playlist without any
    /// date is meant.
    WallClock {
        /// Where it begins.
        from: Duration,
        /// Where it ends.
        to: Duration,
    },
    /// All of it.
    Whole,
}

/// Which segments of one playlist are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meant {
    /// Of each segment in the tables.
    pub(super) segments: Vec<bool>,
    /// Of the segment that is not complete yet.
    pub(super) open: bool,
}

impl Meant {
    /// Returns which segments of `playlist` lie in one of `stretches`, wholly or in part.
    pub fn of(playlist: &MediaPlaylist, stretches: &[Stretch]) -> Self {
        let count = playlist.segments.len();
        let mut meant = vec![false; count + 1];
        let mut dates = None;
        for stretch in stretches {
            match *stretch {
                Stretch::Msn { .. } if playlist.is_i_frames_only() => meant.fill(true),
                Stretch::Msn { first, last } => {
                    for (index, meant) in meant.iter_mut().enumerate() {
                        *meant |= (first..=last).contains(&playlist.msn_of(index).0);
                    }
                }
                Stretch::WallClock { from, to } => {
                    match dates.get_or_insert_with(|| spans(playlist)) {
                        Some(spans) => {
                            for (meant, span) in meant.iter_mut().zip(spans) {
                                *meant |= span.begins <= to && span.ends > from;
                            }
                        }
                        None => meant.fill(true),
                    }
                }
                Stretch::Whole => meant.fill(true),
            }
        }
        // The last is the open one's; an ended playlist has none.
        let open = meant.pop().unwrap_or(false) && !playlist.is_ended();
        Self {
            segments: meant,
            open,
        }
    }

    /// Adds the segments whose resource is meant, as in a playlist of I-frames, which are ranges of segments
    /// that other playlists name.
    pub fn add_resources(&mut self, playlist: &MediaPlaylist, is_meant: impl Fn(&str) -> bool) {
        for (meant, segment) in self.segments.iter_mut().zip(playlist.segments()) {
            *meant = *meant || is_meant(segment.uri);
        }
    }

    /// Returns whether no segment is meant.
    pub fn is_none(&self) -> bool {
        !self.open && !self.segments.contains(&true)
    }

    /// Returns the URIs of the segments and parts that are meant, and what is hinted next if that is.
    pub fn uris<'a>(&'a self, playlist: &'a MediaPlaylist) -> impl Iterator<Item = &'a str> {
        self.named(playlist, true)
    }

    /// Returns the URIs of segments, parts and hints that are not meant, and of the initialization segments:
    /// they have no media, and later segments need them.
    pub fn kept_uris<'a>(&'a self, playlist: &'a MediaPlaylist) -> impl Iterator<Item = &'a str> {
        let maps = playlist.maps().map(|map| map.uri);
        self.named(playlist, false).chain(maps)
    }

    fn named<'a>(
        &'a self,
        playlist: &'a MediaPlaylist,
        wanted: bool,
    ) -> impl Iterator<Item = &'a str> {
        let is_meant = |index: usize| self.segments.get(index).copied().unwrap_or(self.open);
        let segments = playlist.segments().enumerate();
        let segments =
            segments.filter_map(move |(at, one)| (is_meant(at) == wanted).then_some(one.uri));
        let parts = playlist.parts.iter();
        let parts = parts.filter(move |row| is_meant(row.parent as usize) == wanted);
        let parts = parts.map(|row| playlist.of_text(row.uri));
        let hints = playlist.preload_hints();
        let hints = hints.filter(move |_| self.open == wanted);
        let all = segments.chain(parts).chain(hints.map(|hint| hint.uri));
        all.filter(|uri| !is_purged(uri))
    }
}

/// When the media of a segment was made, as far as the playlist tells.
#[derive(Clone, Copy, Debug)]
struct Made {
    begins: Duration,
    ends: Duration,
}

/// Returns when each segment was made, the open one last; `None` if there is no date at all.
///
/// rfc8216bis 4.4.4.6: what has no date of its own follows its predecessor, and what is before the first date
/// precedes it. Over a discontinuity that is a guess, which is given a target duration to either side.
fn spans(playlist: &MediaPlaylist) -> Option<Vec<Made>> {
    let count = playlist.segments.len();
    let dates: Vec<Option<Duration>> = (0..=count)
        .map(|index| date_of(playlist, index).and_then(parse_date_time))
        .collect();
    let first = dates.iter().position(Option::is_some)?;
    let duration_of = |index: usize| {
        let row = playlist.segments.get(index);
        row.map_or(playlist.target_duration(), |row| row.duration)
    };
    let is_discontinuity = |index: usize| {
        let row = playlist.segments.get(index);
        row.is_some_and(|row| row.is_discontinuity)
    };
    let mut begins = dates.get(first).copied().flatten()?;
    let mut is_guess = false;
    let mut spans = Vec::with_capacity(count + 1);
    let slack = playlist.target_duration();
    for index in (0..first).rev() {
        is_guess |= is_discontinuity(index + 1);
        begins = begins.saturating_sub(duration_of(index));
        spans.push(Made::new(begins, duration_of(index), is_guess, slack));
    }
    spans.reverse();
    is_guess = false;
    begins = Duration::ZERO;
    for (index, date) in dates.iter().enumerate().skip(first) {
        is_guess = date.is_none() && (is_guess || is_discontinuity(index));
        begins = date.unwrap_or(begins);
        spans.push(Made::new(begins, duration_of(index), is_guess, slack));
        begins = begins.saturating_add(duration_of(index));
    }
    Some(spans)
}

impl Made {
    fn new(begins: Duration, duration: Duration, is_guess: bool, slack: Duration) -> Self {
        let slack = if is_guess { slack } else { Duration::ZERO };
        Self {
            begins: begins.saturating_sub(slack),
            ends: begins.saturating_add(duration).saturating_add(slack),
        }
    }
}

/// Returns the date that a segment has of its own, as written; that of the open one stands among its parts.
fn date_of(playlist: &MediaPlaylist, index: usize) -> Option<&str> {
    if let Some(row) = playlist.segments.get(index) {
        return playlist.optional(row.program_date_time);
    }
    let tail = playlist.of_text(playlist.tail());
    tail.lines()
        .find_map(|line| line.trim_ascii().strip_prefix("#EXT-X-PROGRAM-DATE-TIME:"))
}

impl MediaPlaylist {
    /// Returns what follows the last complete segment.
    pub(super) fn tail(&self) -> Span {
        let end = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        let start = self
            .segments
            .last()
            .map_or(self.segments_start, |row| row.end);
        Span { start, end }
    }

    /// Returns whether the window has left `stretch` behind by its own length: no viewer, and no other
    /// rendition, can still have it.
    pub fn has_passed(&self, stretch: &Stretch) -> bool {
        if self.is_ended() || self.is_i_frames_only() || self.segments.is_empty() {
            return false;
        }
        match *stretch {
            Stretch::Msn { last, .. } => {
                let window = self.segments.len() as u64;
                last.saturating_add(window) < self.facts.media_sequence
            }
            Stretch::WallClock { to, .. } => {
                let window: Duration = self.segments.iter().map(|row| row.duration).sum();
                let first = spans(self).and_then(|spans| spans.first().copied());
                first.is_some_and(|first| to.saturating_add(window) < first.begins)
            }
            Stretch::Whole => false,
        }
    }
}

/// Reads the type of an `EXT-X-PRELOAD-HINT`.
pub(super) fn is_part_hint(attributes: &str) -> bool {
    Attributes::new(attributes, usize::MAX)
        .flatten()
        .any(|attribute| attribute.name == "TYPE" && attribute.value == "PART")
}

#[cfg(test)]
#[path = "stretch_tests.rs"]
mod tests;
