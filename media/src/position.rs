//! Where in a live stream: media sequence numbers, part indexes, and both as one ordered position.
//!
//! Used by everything in `hls`; the node names what it asks for and what it has by these.
//! Deliberately not here: judgment of requests, which is `hls::answer`.

use std::cmp::Ordering;
use std::fmt;

/// The number of a media segment in its playlist's numbering (rfc8216bis 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaSequenceNumber(pub u64);

impl MediaSequenceNumber {
    /// Returns the number of the segment that follows, or itself at the end of numbers.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for MediaSequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in a live stream: a part of a segment, or the whole segment.
///
/// Positions are ordered by when they come to exist: every part of a segment before the whole
/// segment, and that before the first part of the next.
///
/// ```
/// use media::{MediaSequenceNumber, Position};
/// let msn = MediaSequenceNumber(7);
/// assert!(Position::part(msn, 3) < Position::segment(msn));
/// assert!(Position::segment(msn) < Position::part(msn.next(), 0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The segment's number; of a part, the number of its parent segment.
    pub msn: MediaSequenceNumber,
    /// The part's index in its parent, from zero; `None` is the whole segment.
    pub part_index: Option<u32>,
}

impl Position {
    /// Returns the position of a part.
    pub const fn part(msn: MediaSequenceNumber, part_index: u32) -> Self {
        Self {
            msn,
            part_index: Some(part_index),
        }
    }

    /// Returns the position of a whole segment.
    pub const fn segment(msn: MediaSequenceNumber) -> Self {
        Self {
            msn,
            part_index: None,
        }
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |position: &Self| position.part_index.map_or(u64::MAX, u64::from);
        self.msn
            .cmp(&other.msn)
            .then_with(|| place(self).cmp(&place(other)))
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part_index {
            Some(index) => write!(f, "{}.{index}", self.msn),
            None => write!(f, "{}", self.msn),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_ordered_by_when_they_come_to_exist() {
        let msn = MediaSequenceNumber;
        let order = [
            Position::part(msn(1), 0),
            Position::part(msn(1), u32::MAX),
            Position::segment(msn(1)),
            Position::part(msn(2), 0),
            Position::segment(msn(2)),
        ];
        assert!(order.is_sorted_by(|a, b| a < b));
    }
}
