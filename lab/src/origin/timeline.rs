//! When each part exists: pure arithmetic on an endless timeline.
//!
//! Segment `n` covers `[n, n + 1)` segment durations, part `k` of it the `k`-th part duration of that. A part
//! is published at its end, as an encoder would. The timeline begins before the origin's start by a
//! whole window, so that the first viewer finds a full playlist.

use std::time::Duration;

/// The shape of an endless presentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// Duration of a part.
    pub part: Duration,
    /// Duration of a segment.
    pub segment: Duration,
    /// Complete segments in a playlist.
    pub window: u64,
}

/// One part: its segment's number and its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartId {
    /// The Media Sequence Number of its segment.
    pub msn: u64,
    /// Its index in the segment.
    pub part: u64,
}

impl Timeline {
    /// Returns how many parts a segment has.
    pub fn parts_per_segment(&self) -> u64 {
        let parts = self.segment.as_nanos().div_ceil(self.part.as_nanos());
        u64::try_from(parts).unwrap_or(u64::MAX)
    }

    /// Returns where on the timeline the origin starts.
    pub fn lead(&self) -> Duration {
        times(self.segment, self.window)
    }

    /// Returns the interval of the timeline that a part covers.
    pub fn part_span(&self, id: PartId) -> (Duration, Duration) {
        let (start, end) = self.segment_span(id.msn);
        let from = start + times(self.part, id.part);
        (from.min(end), (from + self.part).min(end))
    }

    /// Returns the interval of the timeline that a segment covers.
    pub fn segment_span(&self, msn: u64) -> (Duration, Duration) {
        let start = times(self.segment, msn);
        (start, start + self.segment)
    }

    /// Returns the part after `id`.
    pub fn next(&self, id: PartId) -> PartId {
        if id.part + 1 < self.parts_per_segment() {
            PartId {
                msn: id.msn,
                part: id.part + 1,
            }
        } else {
            PartId {
                msn: id.msn + 1,
                part: 0,
            }
        }
    }

    /// Returns the part that is published next at `at`: the first one that has not ended yet.
    pub fn unpublished_at(&self, at: Duration) -> PartId {
        let msn = u64::try_from(at.as_nanos() / self.segment.as_nanos()).unwrap_or(u64::MAX);
        let into = at - times(self.segment, msn);
        let part = u64::try_from(into.as_nanos() / self.part.as_nanos()).unwrap_or(u64::MAX);
        PartId {
            msn,
            part: part.min(self.parts_per_segment() - 1),
        }
    }

    /// Returns the part that a request for `part` of `msn` means: LL-03 past the segment's end.
    pub fn normalized(&self, id: PartId) -> PartId {
        if id.part < self.parts_per_segment() {
            id
        } else {
            PartId {
                msn: id.msn + 1,
                part: 0,
            }
        }
    }
}

fn times(duration: Duration, factor: u64) -> Duration {
    let nanos = duration.as_nanos().saturating_mul(u128::from(factor));
    Duration::new(
        u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX),
        u32::try_from(nanos % 1_000_000_000).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(part_ms: u64) -> Timeline {
        Timeline {
            part: Duration::from_millis(part_ms),
            segment: Duration::from_secs(2),
            window: 10,
        }
    }

    #[test]
    fn parts_tile_their_segment_without_gap_or_overlap() {
        for part_ms in [200, 333, 500, 1000] {
            let timeline = timeline(part_ms);
            let mut id = PartId { msn: 7, part: 0 };
            let mut end = timeline.segment_span(7).0;
            while id.msn < 9 {
                let (from, to) = timeline.part_span(id);
                assert_eq!(from, end, "{part_ms} ms, {id:?}");
                assert!(to > from);
                end = to;
                id = timeline.next(id);
            }
            assert_eq!(end, timeline.segment_span(9).0);
        }
    }

    #[test]
    fn a_part_is_published_exactly_at_its_end() {
        let timeline = timeline(333);
        let id = PartId { msn: 3, part: 6 };
        let (_, end) = timeline.part_span(id);
        assert_eq!(end, Duration::from_secs(8), "the last part is shorter");
        assert_eq!(timeline.unpublished_at(end - Duration::from_nanos(1)), id);
        assert_eq!(timeline.unpublished_at(end), PartId { msn: 4, part: 0 });
    }

    #[test]
    fn ll_03_a_part_past_the_end_is_part_zero_of_the_next_segment() {
        let timeline = timeline(500);
        assert_eq!(
            timeline.normalized(PartId { msn: 5, part: 3 }),
            PartId { msn: 5, part: 3 }
        );
        assert_eq!(
            timeline.normalized(PartId { msn: 5, part: 4 }),
            PartId { msn: 6, part: 0 }
        );
        assert_eq!(
            timeline.normalized(PartId { msn: 5, part: 9 }),
            PartId { msn: 6, part: 0 }
        );
    }
}
