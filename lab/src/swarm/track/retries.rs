//! Media that did not arrive and will be asked for again, up to a limit.

use std::time::Duration;

use media::Position;
use media::hls::MediaPlaylist;

use super::super::listed::{Found, find};
use super::cursor::{Media, MediaKind};

/// The media of one track that are to be asked for again.
#[derive(Debug, Default)]
pub(super) struct Retries {
    waiting: Vec<Retry>,
}

#[derive(Debug)]
struct Retry {
    kind: MediaKind,
    position: Position,
    failures: u32,
    at: Duration,
}

/// Failed requests for one object before the player jumps over it.
const FAILURES_MAX: u32 = 3;
/// Objects waiting to be asked for again; more are given up at once.
const WAITING_MAX: usize = 8;
/// The first wait before media is asked for again; it doubles.
const PAUSE: Duration = Duration::from_millis(250);

impl Retry {
    fn is_of(&self, media: &Media) -> bool {
        self.position == media.position && self.kind == media.kind
    }
}

impl Retries {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn has(&self, position: Position) -> bool {
        self.waiting.iter().any(|retry| retry.position == position)
    }

    /// Where the first of them belongs.
    pub(super) fn first(&self) -> Option<Position> {
        self.waiting.iter().map(|retry| retry.position).min()
    }

    pub(super) fn due_at(&self) -> Option<Duration> {
        self.waiting.iter().map(|retry| retry.at).min()
    }

    /// Returns the first that is due and listed; forgets those that never will be.
    pub(super) fn take(
        &mut self,
        list: &MediaPlaylist,
        now: Duration,
        in_flight: &[Position],
    ) -> Option<(MediaKind, Position, Found)> {
        let mut at = 0;
        while let Some(retry) = self.waiting.get(at) {
            let is_due = retry.at <= now && !in_flight.contains(&retry.position);
            match find(list, retry.position) {
                found @ (Found::Part { .. } | Found::Segment { .. }) if is_due => {
                    return Some((retry.kind, retry.position, found));
                }
                Found::Part { .. } | Found::Segment { .. } => at += 1,
                Found::NotYet if !list.is_ended() => at += 1,
                Found::NotYet | Found::GoOn(_) | Found::Gone => drop(self.waiting.remove(at)),
            }
        }
        None
    }

    pub(super) fn forget(&mut self, media: &Media) {
        self.waiting.retain(|retry| !retry.is_of(media));
    }

    /// The viewer gave the request up and still wants the media: no failure.
    pub(super) fn again(&mut self, media: &Media, now: Duration) {
        let is_known = self.waiting.iter().any(|retry| retry.is_of(media));
        if !is_known && self.waiting.len() < WAITING_MAX {
            self.waiting.push(Retry {
                kind: media.kind,
                position: media.position,
                failures: 0,
                at: now,
            });
        }
    }

    /// The request failed. Returns whether it will be made again.
    pub(super) fn failed(&mut self, media: &Media, now: Duration) -> bool {
        if !self.waiting.iter().any(|retry| retry.is_of(media)) {
            if self.waiting.len() >= WAITING_MAX {
                return false;
            }
            self.again(media, now);
        }
        let waiting = self.waiting.iter_mut().find(|retry| retry.is_of(media));
        let retry = waiting.expect("it was just put there");
        retry.failures += 1;
        // A hint that was refused is asked for again as soon as it is listed.
        retry.at = match (media.is_hinted, retry.failures) {
            (true, _) => now,
            (false, failures) => now + PAUSE * (1 << (failures - 1).min(5)),
        };
        let is_tried_again = retry.failures < FAILURES_MAX;
        if !is_tried_again {
            self.forget(media);
        }
        is_tried_again
    }
}
