//! Delivery directives: whether a playlist request is answered now, held, or refused.
//!
//! Pure. The rules are rfc8216bis 6.2.5.2; their ids are those of the project's protocol notes.

use super::address::DeliveryDirectives;
use super::live::Edge;
use super::presentation::{Cadence, Position};

/// What to do with a media playlist request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// Answer with the newest playlist.
    Now,
    /// Hold it until so many parts are published.
    When(u64),
    /// Refuse it with 400: it asks too far ahead.
    TooFar,
}

/// Decides about a request with `directives` at `edge`.
pub(crate) fn decide(cadence: Cadence, edge: &Edge, directives: DeliveryDirectives) -> Reload {
    let Some(msn) = directives.msn else {
        return Reload::Now;
    };
    // LL-10: a playlist that ended ignores the directives.
    if edge.has_ended {
        return Reload::Now;
    }
    // LL-07: more than two beyond the last segment. Segments count once they are whole.
    let complete = edge.complete_segments(cadence);
    if msn > complete + 1 {
        return Reload::TooFar;
    }
    let per_segment = cadence.parts_per_segment;
    let needed = match directives.part {
        // LL-01: a whole segment; its parts alone do not do.
        None => cadence.parts_of(msn).end,
        // LL-03: past the end means the first part of the next segment.
        Some(part) if part >= per_segment => cadence.parts_of(msn + 1).start + 1,
        // LL-02: that part or anything later.
        Some(part_index) => cadence.number(Position { msn, part_index }) + 1,
    };
    // LL-04: what is there is answered, however old.
    if needed <= edge.published {
        return Reload::Now;
    }
    // LL-08: counted in parts, across segments, from the last published part.
    let beyond = directives.part.and_then(|part| {
        let asked = cadence.parts_of(msn).start.saturating_add(part);
        (asked + 1).checked_sub(edge.published)
    });
    if beyond.is_some_and(|beyond| beyond > advance_part_limit(cadence)) {
        return Reload::TooFar;
    }
    Reload::When(needed)
}

/// How many parts ahead may be asked for: three seconds' worth if parts are below one second, else
/// three (rfc8216bis 6.2.5.2; it leaves the rounding open).
fn advance_part_limit(cadence: Cadence) -> u64 {
    let part = cadence.part_seconds();
    if part < 1.0 {
        (3.0 / part).ceil() as u64
    } else {
        3
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    const CADENCE: Cadence = Cadence {
        segment_seconds: 3,
        parts_per_segment: 6,
    };

    /// Segment 10 is the last whole one, `parts` parts of segment 11 are out.
    fn edge(parts: u64) -> Edge {
        Edge {
            generation: 0,
            zero: Duration::ZERO,
            published: 66 + parts,
            has_ended: false,
            renamed: Arc::default(),
        }
    }

    fn check(edge: &Edge, msn: u64, part: Option<u64>, expected: Reload) {
        let directives = DeliveryDirectives {
            msn: Some(msn),
            part,
            wants_delta: false,
        };
        assert_eq!(
            decide(CADENCE, edge, directives),
            expected,
            "{msn} {part:?}"
        );
    }

    #[test]
    fn ll_01_a_segment_is_waited_for_until_it_is_whole() {
        check(&edge(3), 11, None, Reload::When(72));
        check(&edge(5), 11, None, Reload::When(72));
        check(&edge(6), 11, None, Reload::Now);
    }

    #[test]
    fn ll_02_a_part_is_waited_for_until_it_or_a_later_one_is_there() {
        check(&edge(3), 11, Some(3), Reload::When(70));
        check(&edge(4), 11, Some(3), Reload::Now);
        check(&edge(9), 11, Some(3), Reload::Now);
    }

    #[test]
    fn ll_03_part_past_the_end_means_part_zero_of_the_next_segment() {
        check(&edge(6), 11, Some(6), Reload::When(73));
        check(&edge(6), 11, Some(7), Reload::When(73));
        check(&edge(7), 11, Some(6), Reload::Now);
    }

    #[test]
    fn ll_04_what_is_older_than_the_window_is_answered_at_once() {
        check(&edge(3), 0, Some(0), Reload::Now);
        check(&edge(3), 0, Some(5000), Reload::Now);
        check(&edge(3), 10, None, Reload::Now);
    }

    #[test]
    fn ll_07_more_than_two_segments_ahead_is_refused() {
        check(&edge(3), 12, None, Reload::When(78));
        check(&edge(3), 13, None, Reload::TooFar);
        check(&edge(3), 13, Some(0), Reload::TooFar);
        check(&edge(3), u64::MAX, None, Reload::TooFar);
        check(&edge(3), u64::MAX, Some(u64::MAX), Reload::TooFar);
    }

    #[test]
    fn ll_08_more_parts_ahead_than_the_advance_part_limit_is_refused() {
        // The last part is 11.2, and six parts are allowed: up to 12.2.
        check(&edge(3), 12, Some(2), Reload::When(75));
        check(&edge(3), 12, Some(3), Reload::TooFar);
        check(&edge(3), 11, Some(8), Reload::When(73));
        check(&edge(3), 11, Some(9), Reload::TooFar);
        check(&edge(3), 11, Some(u64::MAX - 70), Reload::TooFar);
    }

    #[test]
    fn ll_08_long_parts_allow_three() {
        let cadence = Cadence {
            segment_seconds: 6,
            parts_per_segment: 6,
        };
        assert_eq!(advance_part_limit(cadence), 3);
        assert_eq!(advance_part_limit(CADENCE), 6);
    }

    #[test]
    fn ll_10_an_ended_playlist_ignores_directives() {
        let ended = Edge {
            has_ended: true,
            ..edge(3)
        };
        check(&ended, 11, Some(5), Reload::Now);
        check(&ended, 1000, None, Reload::Now);
    }
}
