//! Tune-in: how a viewer finds the live edge through a cache (rfc8216bis Appendix C).
//!
//! The first answer may be old. Its `Age` says how old; the viewer then asks for a playlist that
//! has as much more media as time has passed.

use std::time::Duration;

use media::hls::MediaPlaylist;
use media::{MediaSequenceNumber, Position};

use super::super::listed;

/// How far the tune-in of one rendition has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TuneIn {
    Before,
    Rounds {
        first_last: Position,
        first_at: Duration,
        goal: Duration,
        rounds: u32,
    },
    Done,
}

/// Normally two requests are enough; a cache whose ages never settle gets no more than this.
const ROUNDS_MAX: u32 = 3;

impl TuneIn {
    pub(super) fn is_done(&self) -> bool {
        *self == Self::Done
    }

    /// Takes the list that just came.
    pub(super) fn advance(&mut self, list: &MediaPlaylist, age: Option<Duration>, now: Duration) {
        *self = match *self {
            Self::Done => Self::Done,
            Self::Before => Self::first(list, age, now),
            Self::Rounds { rounds, .. } if rounds >= ROUNDS_MAX => Self::Done,
            Self::Rounds {
                first_last,
                first_at,
                goal,
                rounds,
            } => {
                let gained = listed::duration_after(list, first_last);
                let goal_now = goal + now.saturating_sub(first_at);
                if is_fresh(list, age) || gained >= goal_now {
                    Self::Done
                } else {
                    Self::Rounds {
                        first_last,
                        first_at,
                        goal,
                        rounds: rounds + 1,
                    }
                }
            }
        };
    }

    fn first(list: &MediaPlaylist, age: Option<Duration>, now: Duration) -> Self {
        let Some(last) = list.last_position() else {
            return Self::Done;
        };
        if list.is_ended() || !list.can_block_reload() || is_fresh(list, age) {
            return Self::Done;
        }
        let is_sub_second = list
            .part_target()
            .is_some_and(|part| part < Duration::from_secs(1));
        let rounding = if is_sub_second {
            Duration::from_secs(1)
        } else {
            Duration::ZERO
        };
        Self::Rounds {
            first_last: last,
            first_at: now,
            goal: age.unwrap_or_default() + rounding,
            rounds: 1,
        }
    }

    /// Returns the position to ask for, while the tune-in lasts.
    pub(super) fn asks(&self, list: &MediaPlaylist, now: Duration) -> Option<Position> {
        let Self::Rounds {
            first_last,
            first_at,
            goal,
            ..
        } = *self
        else {
            return None;
        };
        let goal_now = goal + now.saturating_sub(first_at);
        let missing = goal_now.saturating_sub(listed::duration_after(list, first_last));
        Some(ahead(list, missing))
    }
}

/// LT-01: without `Age` a list is taken as current; with sub-second parts any `Age` is too old.
fn is_fresh(list: &MediaPlaylist, age: Option<Duration>) -> bool {
    let part = list.part_target().unwrap_or(list.target_duration());
    age.is_none_or(|age| age < Duration::from_secs(part.as_secs()))
}

/// Returns the position of the part, or segment, that comes `missing` after the list's end.
fn ahead(list: &MediaPlaylist, missing: Duration) -> Position {
    let next = list.next_position();
    let (Some(part), Some(part_target)) = (next.part_index, list.part_target()) else {
        let target = list.target_duration().max(Duration::from_millis(100));
        let segments = (missing.as_secs_f64() / target.as_secs_f64()) as u64;
        return Position::segment(later(next.msn, segments.saturating_sub(1)));
    };
    let part_target = part_target.max(Duration::from_millis(10));
    let parts = (missing.as_secs_f64() / part_target.as_secs_f64()) as u64;
    let per_segment = list
        .target_duration()
        .as_secs_f64()
        .max(part_target.as_secs_f64());
    let per_segment = (per_segment / part_target.as_secs_f64()).ceil() as u64;
    // LL-03 reads a part past the end as part 0 of the next segment, so the estimate wraps itself.
    let index = u64::from(part).saturating_add(parts.saturating_sub(1));
    let wrapped = u32::try_from(index % per_segment).unwrap_or(0);
    Position::part(later(next.msn, index / per_segment), wrapped)
}

fn later(msn: MediaSequenceNumber, segments: u64) -> MediaSequenceNumber {
    MediaSequenceNumber(msn.0.saturating_add(segments))
}
