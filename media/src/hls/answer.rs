//! The judgment of one request against one version of a playlist (rfc8216bis 6.2.5.2).
//!
//! Called by the live hub for every request, and again for every version while it is held.
//! Deliberately not here: how long to hold (LL-09), and which version is the newest.

use std::time::Duration;

use super::directives::DeliveryDirectives;
use super::media_playlist::MediaPlaylist;
use crate::position::{MediaSequenceNumber, Position};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This version, or a delta update of it, is the answer.
    Now,
    /// A later version will be.
    Hold,
    /// None soon enough will be; the status is 400.
    Refuse(Refusal),
}

/// Why a request is not held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// LL-07: the segment is more than two after the last.
    SegmentTooFarAhead,
    /// LL-08: the part is further after the last than the advance part limit.
    PartTooFarAhead,
}

/// Judges a request against a version.
///
/// The same request is answered [`Answer::Now`] by every later version of the same numbering:
/// whoever is released stays released.
///
/// - LL-04: whatever the version has, or once had, is answered at once with the whole of it.
/// - LL-10: after the end, positions mean nothing.
/// - LL-12: neither do they without `CAN-BLOCK-RELOAD`; whether to ask the parent is the caller's.
pub fn answer(playlist: &MediaPlaylist, directives: &DeliveryDirectives) -> Answer {
    if !playlist.can_block_reload() {
        return Answer::Now;
    }
    answer_server(playlist, directives)
}

/// Judges a request of a server that knows that this one holds requests, whatever the playlist says to
/// viewers.
pub fn answer_server(playlist: &MediaPlaylist, directives: &DeliveryDirectives) -> Answer {
    let Some(wanted) = directives.position else {
        return Answer::Now;
    };
    if playlist.is_ended() || has(playlist, wanted) {
        return Answer::Now;
    }
    match too_far(playlist, wanted) {
        Some(refusal) => Answer::Refuse(refusal),
        None => Answer::Hold,
    }
}

/// Returns how many parts ahead of the last a request may be (LL-08).
///
/// rfc8216bis leaves the rounding open: we round up, and never refuse what others would hold.
pub fn advance_part_limit(part_target: Duration) -> u64 {
    const SECOND: Duration = Duration::from_secs(1);
    if part_target >= SECOND {
        return 3;
    }
    let parts = (SECOND * 3)
        .as_nanos()
        .div_ceil(part_target.as_nanos().max(1));
    u64::try_from(parts).unwrap_or(u64::MAX)
}

/// Returns whether the version has what is wanted, or anything later.
fn has(playlist: &MediaPlaylist, wanted: Position) -> bool {
    let open = playlist.open_msn();
    let open_parts = playlist.open_parts().len() as u64;
    let Some(index) = wanted.part_index.map(u64::from) else {
        // LL-01: parts alone do not make a segment.
        return wanted.msn < open;
    };
    if wanted.msn >= open {
        return wanted.msn == open && index < open_parts;
    }
    // LL-03: past the end of a segment means part zero of the next.
    let is_last = wanted.msn.next() == open;
    !is_last || open_parts > 0 || !is_past_the_end(playlist, index)
}

/// Returns whether the last complete segment shows its parts and has none of this index.
fn is_past_the_end(playlist: &MediaPlaylist, index: u64) -> bool {
    let parts = playlist
        .segments()
        .next_back()
        .map_or(0, |last| last.parts.len() as u64);
    parts > 0 && index >= parts
}

/// Returns why `wanted`, which the version does not have, is too far ahead of it.
fn too_far(playlist: &MediaPlaylist, wanted: Position) -> Option<Refusal> {
    let open = playlist.open_msn();
    // LL-07: last + 2; the open segment is last + 1.
    if wanted.msn > open.next() {
        return Some(Refusal::SegmentTooFarAhead);
    }
    let part_target = playlist.part_target()?;
    let index = u64::from(wanted.part_index?);
    let ahead = parts_ahead(playlist, wanted.msn, index);
    (ahead > advance_part_limit(part_target)).then_some(Refusal::PartTooFarAhead)
}

/// Counts from the last part to part `index` of `msn`, across the segment boundary.
fn parts_ahead(playlist: &MediaPlaylist, msn: MediaSequenceNumber, index: u64) -> u64 {
    let open = playlist.open_msn();
    let open_parts = playlist.open_parts().len() as u64;
    if msn < open {
        // LL-03: past the end of the last complete segment is part zero of the open one.
        1
    } else if msn == open {
        (index + 1).saturating_sub(open_parts)
    } else {
        let left = playlist.parts_per_segment().saturating_sub(open_parts);
        left.saturating_add(index + 1)
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
