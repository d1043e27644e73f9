//! The live rendition: versions over time, of which only newer ones are shown.
//!
//! ```text
//! playlist ──► offer ──┬─► Newer      shown; who waits for up to `released` wakes
//!                      ├─► Unchanged
//!                      ├─► Older      never shown (LL-22, CA-07)
//!                      └─► NewEpoch   shown; the numbering began again
//! ```
//!
//! Called by the live hub with each answer of the parent. Deliberately not here: who waits, and where
//! playlists come from.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::media_playlist::MediaPlaylist;
use super::views::{HintKind, PreloadHint};
use crate::position::{MediaSequenceNumber, Position};
use crate::time::parse_date_time;

/// The newest version of a rendition, and how it came to be.
///
/// Invariant: within an epoch, neither the last position nor the first segment of what is shown ever
/// decreases, and an end is never taken back.
#[derive(Clone, Debug, Default)]
pub struct Rendition {
    current: Option<Arc<MediaPlaylist>>,
    epoch: u64,
    doubt: Option<Doubt>,
    expects_epoch: bool,
    /// Whether one answer that would take time back is enough: a sibling's stream began again.
    is_suspect: bool,
    /// When what is shown was shown first.
    shown_at: Duration,
    tells_jumps: bool,
}

/// Answers that would take time back, and agree with each other.
#[derive(Clone, Debug)]
struct Doubt {
    latest: Arc<MediaPlaylist>,
    answers: u32,
    since: Duration,
}

/// What a playlist turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// A later version of what is shown; it is now shown.
    Newer {
        /// Everything up to here exists: who waits for it, or for less, is released.
        released: Option<Position>,
        /// Which of the playlist's parts were not in the version before.
        new_parts: Range<usize>,
        /// How the preload hints changed, if they did.
        hint_changed: Option<HintChange>,
        /// Whether the stream has ended: everyone is released (LL-10).
        ended: bool,
    },
    /// The version that is shown.
    Unchanged,
    /// An earlier version, of a parent that lags, or of a stream that began again but has not yet
    /// convinced us; it is not shown.
    Older,
    /// The first version of a stream that began again under the same URL; it is now shown. Everyone
    /// is released, and what was kept of the epoch before under URIs that repeat is another stream's.
    NewEpoch {
        /// How many epochs were before it.
        epoch: u64,
        /// How the preload hints changed, if they did.
        hint_changed: Option<HintChange>,
        /// Whether the stream has ended.
        ended: bool,
    },
}

/// How the preload hints changed from one version to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HintChange {
    /// Announced now and not before.
    pub added: Vec<HintedResource>,
    /// Announced before, and now neither announced nor listed: it will not come (LL-19).
    pub withdrawn: Vec<HintedResource>,
}

/// What a preload hint announced, kept beyond its playlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HintedResource {
    /// What was announced.
    pub kind: HintKind,
    /// Where, relative to the playlist.
    pub uri: String,
    /// Its first byte.
    pub byterange_start: u64,
    /// Its number of bytes; `None` is to the end of the resource.
    pub byterange_length: Option<u64>,
}

/// How a candidate stands to what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Same,
    Ahead,
    /// Of the same numbering, but earlier: the parent may only lag.
    Behind,
    /// No lag explains it: before everything shown, or the same numbers at other times.
    Elsewhere,
}

impl Rendition {
    /// Creates a rendition that has no version yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns what is shown.
    pub fn current(&self) -> Option<&Arc<MediaPlaylist>> {
        self.current.as_ref()
    }

    /// Returns the last position ever shown in this epoch.
    pub fn high_water_mark(&self) -> Option<Position> {
        self.current.as_ref()?.last_position()
    }

    /// Returns how many times the numbering began again.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Lets the next playlist begin a new epoch, whatever its numbers: an operator purged it (CA-07).
    pub fn expect_new_epoch(&mut self) {
        self.expects_epoch = true;
    }

    /// Lets one earlier answer begin a new epoch: another rendition of the presentation is known to have begun again.
    pub fn suspect(&mut self) {
        self.is_suspect = true;
    }

    /// Tells a numbering that jumps further ahead than time can have taken it from one that goes on: then, too, a new
    /// epoch begins, of an origin that counts otherwise.
    #[must_use]
    pub fn telling_jumps(mut self) -> Self {
        self.tells_jumps = true;
        self
    }

    /// Judges a playlist that arrived at `now`, and shows it if it is newer.
    ///
    /// `now` is of any clock that does not run backwards. A delta update says too little to be judged
    /// and counts as older; merge it first.
    ///
    /// An earlier version is shown only as the first of a new epoch, which takes three answers in a
    /// row that agree with each other (CA-07). If a lagging parent could have sent them, they must also
    /// come for as long as it would take to catch up.
    pub fn offer(&mut self, playlist: Arc<MediaPlaylist>, now: Duration) -> Update {
        if playlist.skip().is_some() {
            return Update::Older;
        }
        let Some(current) = self.current.clone() else {
            return self.show(playlist, now);
        };
        if self.expects_epoch {
            return self.begin_epoch(playlist, &current, now);
        }
        let is_jump =
            self.tells_jumps && jumps(&current, &playlist, now.saturating_sub(self.shown_at));
        let relation = match relation(&current, &playlist) {
            Relation::Ahead if is_jump => Relation::Elsewhere,
            relation => relation,
        };
        match relation {
            Relation::Same => {
                self.doubt = None;
                Update::Unchanged
            }
            Relation::Ahead => self.show(playlist, now),
            relation @ (Relation::Behind | Relation::Elsewhere) => {
                let doubt = self.doubted(Arc::clone(&playlist), now);
                let waited = now.saturating_sub(doubt.since);
                let could_be_lag =
                    relation == Relation::Behind && waited < catch_up(&current, &playlist);
                let is_confirmed = doubt.answers >= ANSWERS_TO_CONFIRM && !could_be_lag;
                if is_confirmed || self.is_suspect {
                    return self.begin_epoch(playlist, &current, now);
                }
                self.doubt = Some(doubt);
                Update::Older
            }
        }
    }

    /// Counts answers in a row that would take time back and agree with each other.
    fn doubted(&self, playlist: Arc<MediaPlaylist>, now: Duration) -> Doubt {
        let agrees = |doubt: &&Doubt| {
            matches!(
                relation(&doubt.latest, &playlist),
                Relation::Same | Relation::Ahead
            )
        };
        match self.doubt.as_ref().filter(agrees) {
            Some(doubt) => Doubt {
                latest: playlist,
                answers: doubt.answers.saturating_add(1),
                since: doubt.since,
            },
            None => Doubt {
                latest: playlist,
                answers: 1,
                since: now,
            },
        }
    }

    fn show(&mut self, playlist: Arc<MediaPlaylist>, now: Duration) -> Update {
        let before = self.current.replace(Arc::clone(&playlist));
        self.settle(now);
        Update::Newer {
            released: playlist.last_position(),
            new_parts: new_parts(before.as_deref(), &playlist),
            hint_changed: hint_change(before.as_deref(), &playlist),
            ended: playlist.is_ended(),
        }
    }

    /// Nothing that was in doubt is, once something newer is shown.
    fn settle(&mut self, now: Duration) {
        self.doubt = None;
        self.expects_epoch = false;
        self.is_suspect = false;
        self.shown_at = now;
    }

    fn begin_epoch(
        &mut self,
        playlist: Arc<MediaPlaylist>,
        before: &MediaPlaylist,
        now: Duration,
    ) -> Update {
        self.epoch += 1;
        self.settle(now);
        let update = Update::NewEpoch {
            epoch: self.epoch,
            hint_changed: hint_change(Some(before), &playlist),
            ended: playlist.is_ended(),
        };
        self.current = Some(playlist);
        update
    }
}

fn relation(current: &MediaPlaylist, candidate: &MediaPlaylist) -> Relation {
    if current.text() == candidate.text() {
        return Relation::Same;
    }
    let is_before_everything = candidate.open_msn() <= current.media_sequence()
        && candidate.open_msn() < current.open_msn();
    if is_before_everything || contradicts(current, candidate) {
        return Relation::Elsewhere;
    }
    // LL-22: neither end of the window moves back, and an end is final.
    let is_behind = candidate.last_position() < current.last_position()
        || candidate.media_sequence() < current.media_sequence()
        || (current.is_ended() && !candidate.is_ended());
    if is_behind {
        Relation::Behind
    } else {
        Relation::Ahead
    }
}

/// Returns whether a numbering is further ahead than twice as many segments as the time since can have brought.
fn jumps(current: &MediaPlaylist, candidate: &MediaPlaylist, since: Duration) -> bool {
    let ahead = candidate
        .media_sequence()
        .0
        .saturating_sub(current.open_msn().0);
    let segment = current.segments().map(|segment| segment.duration).min();
    let segment = segment
        .unwrap_or(current.target_duration())
        .max(SEGMENT_MIN);
    let expected = since.as_nanos() / segment.as_nanos();
    u128::from(ahead) > expected * 2 + u128::from(AHEAD_ALLOWED)
}

/// Returns whether the last segment that both have is of times more than a target duration apart.
fn contradicts(current: &MediaPlaylist, candidate: &MediaPlaylist) -> bool {
    let (Some(a), Some(b)) = (current.last_segment(), candidate.last_segment()) else {
        return false;
    };
    let msn = a.min(b);
    let (Some(a), Some(b)) = (date_of(current, msn), date_of(candidate, msn)) else {
        return false;
    };
    a.abs_diff(b) > current.target_duration().max(candidate.target_duration())
}

/// Returns when a segment was made: its own date, or the last one before it and durations since.
fn date_of(playlist: &MediaPlaylist, msn: MediaSequenceNumber) -> Option<Duration> {
    let first = playlist.segments().next()?.msn.0;
    let index = usize::try_from(msn.0.checked_sub(first)?).ok()?;
    let mut since = Duration::ZERO;
    for segment in playlist.segments().take(index.checked_add(1)?).rev() {
        if segment.msn != msn {
            since += segment.duration;
        }
        if let Some(date) = segment.program_date_time {
            return Some(parse_date_time(date)?.saturating_add(since));
        }
        if segment.is_discontinuity {
            return None;
        }
    }
    None
}

/// Returns how long a parent that lags this far needs to pass what is shown.
fn catch_up(current: &MediaPlaylist, candidate: &MediaPlaylist) -> Duration {
    let segments = current
        .open_msn()
        .0
        .saturating_sub(candidate.open_msn().0)
        .saturating_add(1);
    current
        .target_duration()
        .saturating_mul(u32::try_from(segments).unwrap_or(u32::MAX))
}

fn new_parts(before: Option<&MediaPlaylist>, now: &MediaPlaylist) -> Range<usize> {
    let all = now.parts().len();
    let Some(last) = before.and_then(MediaPlaylist::last_position) else {
        return 0..all;
    };
    let new = now
        .parts()
        .rev()
        .take_while(|part| part.position > last)
        .count();
    all - new..all
}

fn hint_change(before: Option<&MediaPlaylist>, now: &MediaPlaylist) -> Option<HintChange> {
    let old = || before.into_iter().flat_map(MediaPlaylist::preload_hints);
    let added = now
        .preload_hints()
        .filter(|hint| !old().any(|other| other == *hint));
    let gone = old().filter(|hint| !now.preload_hints().any(|other| other == *hint));
    let change = HintChange {
        added: added.map(HintedResource::from).collect(),
        withdrawn: gone
            .filter(|hint| !is_listed(now, hint.uri))
            .map(HintedResource::from)
            .collect(),
    };
    let is_empty = change.added.is_empty() && change.withdrawn.is_empty();
    (!is_empty).then_some(change)
}

/// Returns whether a hinted resource has come true. The newest is looked for first.
fn is_listed(playlist: &MediaPlaylist, uri: &str) -> bool {
    playlist.parts().rev().any(|part| part.uri == uri)
        || playlist.maps().any(|map| map.uri == uri)
        || playlist.segments().rev().any(|segment| segment.uri == uri)
}

impl From<PreloadHint<'_>> for HintedResource {
    fn from(hint: PreloadHint<'_>) -> Self {
        Self {
            kind: hint.kind,
            uri: hint.uri.to_owned(),
            byterange_start: hint.byterange_start,
            byterange_length: hint.byterange_length,
        }
    }
}

/// Segments that may be missed without any time passing: those of a parent that lagged.
const AHEAD_ALLOWED: u64 = 30;

/// Shorter segments are not believed to be published one by one.
const SEGMENT_MIN: Duration = Duration::from_millis(100);

/// CA-07: how many answers in a row it takes to believe that a stream began again.
const ANSWERS_TO_CONFIRM: u32 = 3;

#[cfg(test)]
#[path = "rendition_tests.rs"]
mod tests;
