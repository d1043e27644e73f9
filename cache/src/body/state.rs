//! What a growing body has received, and who waits for more of it.
//!
//! `body` keeps one `State` behind one mutex and calls it from the writer and from readers. Nothing
//! here wakes or drops a waker of somebody else: they are handed out, for the caller to wake or drop
//! once the lock is released. (Dropping a waker may drop a task, and with it a reader of this body.)

use std::ops::Range;
use std::task::{Context, Waker};

use bytes::{Bytes, BytesMut};

use super::{BodyFailure, BodyState, CHUNK_BYTES_MAX, Progress};
use crate::seats::Seats;

/// Two neighbors that fit into this are copied into one, so that an upstream which sends byte by
/// byte costs memory in proportion to its bytes. Larger chunks are never copied.
pub(super) const MERGED_BYTES_MAX: usize = 4 * 1024;

/// Everything about a body that can still change.
///
/// Invariant: `state` leaves `Filling` once; after that nothing here changes but seats.
/// Invariant: while `Filling` or `Failed`, `received` is the sum of the lengths of `chunks`.
#[derive(Debug)]
pub(super) struct State {
    pub(super) chunks: Vec<Chunk>,
    received: u64,
    length: Option<u64>,
    state: BodyState,
    seats: Seats<Seat>,
    /// Readers and waiting futures that are alive.
    interested: usize,
    /// Whether somebody was interested at some time, or left before reading.
    was_wanted: bool,
    unread_waker: Option<Waker>,
}

/// Bytes and the position of the first of them.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) bytes: Bytes,
}

/// One who waits: for `received` to reach `at`, or for the end.
#[derive(Debug)]
struct Seat {
    at: u64,
    waker: Option<Waker>,
}

/// What remains of one who left: its own waker to drop, and the writer's to wake.
pub(super) struct Left {
    pub(super) own: Option<Waker>,
    pub(super) unread: Option<Waker>,
}

/// What a reader finds at its position.
pub(super) enum Found {
    Bytes(Bytes),
    NotYet,
    Completed,
    Failed(BodyFailure),
}

impl State {
    pub(super) const fn new(length: Option<u64>) -> Self {
        Self {
            chunks: Vec::new(),
            received: 0,
            length,
            state: BodyState::Filling,
            seats: Seats::new(),
            interested: 0,
            was_wanted: false,
            unread_waker: None,
        }
    }

    pub(super) const fn progress(&self) -> Progress {
        Progress {
            received: self.received,
            state: self.state,
        }
    }

    pub(super) const fn length(&self) -> Option<u64> {
        self.length
    }

    /// Adds bytes; bytes beyond an announced length end the body as too large.
    pub(super) fn push(&mut self, bytes: Bytes, woken: &mut Vec<Waker>) {
        if self.state != BodyState::Filling || bytes.is_empty() {
            return;
        }
        let after = self.received.saturating_add(bytes.len() as u64);
        if self.length.is_some_and(|length| after > length) {
            self.end(BodyState::Failed(BodyFailure::TooLarge), woken);
            return;
        }
        match self.chunks.last_mut() {
            Some(last) if last.bytes.len() + bytes.len() <= MERGED_BYTES_MAX => {
                let mut merged = BytesMut::with_capacity(last.bytes.len() + bytes.len());
                merged.extend_from_slice(&last.bytes);
                merged.extend_from_slice(&bytes);
                last.bytes = merged.freeze();
            }
            Some(_) | None => self.chunks.push(Chunk {
                start: self.received,
                bytes,
            }),
        }
        self.received = after;
        for seat in self.seats.iter_mut().filter(|seat| seat.at <= after) {
            woken.extend(seat.waker.take());
        }
    }

    /// Leaves `Filling` for good; later calls change nothing.
    pub(super) fn end(&mut self, end: BodyState, woken: &mut Vec<Waker>) {
        if self.state != BodyState::Filling {
            return;
        }
        debug_assert_ne!(end, BodyState::Filling, "a body ends once, one way");
        self.state = end;
        for seat in self.seats.iter_mut() {
            woken.extend(seat.waker.take());
        }
    }

    pub(super) fn find(&self, cursor: &mut usize, range: Range<u64>) -> Found {
        if let Some(bytes) = bytes_at(&self.chunks, cursor, range) {
            return Found::Bytes(bytes);
        }
        match self.state {
            BodyState::Filling => Found::NotYet,
            BodyState::Complete => Found::Completed,
            BodyState::Failed(failure) => Found::Failed(failure),
        }
    }

    /// Waits in `seat`, which is taken on the first call, for `received` to reach `at`. Returns the
    /// waker that waited there before.
    #[must_use = "drop it after unlocking"]
    pub(super) fn wait(
        &mut self,
        seat: &mut Option<usize>,
        at: u64,
        cx: &Context<'_>,
    ) -> Option<Waker> {
        let number = *seat.get_or_insert_with(|| self.seats.take(Seat { at, waker: None }));
        let seat = self.seats.at(number);
        seat.at = at;
        replace_unless_same(&mut seat.waker, cx)
    }

    pub(super) const fn enter(&mut self) {
        self.interested += 1;
        self.was_wanted = true;
    }

    /// Gives up a seat and returns whom to wake now that nobody reads any more.
    pub(super) fn leave(&mut self, seat: Option<usize>) -> Left {
        self.interested -= 1;
        Left {
            own: seat.and_then(|number| self.seats.give_back(number).waker),
            unread: self.unread_waker_if_unread(),
        }
    }

    pub(super) fn detach(&mut self) -> Option<Waker> {
        self.was_wanted = true;
        self.unread_waker_if_unread()
    }

    fn unread_waker_if_unread(&mut self) -> Option<Waker> {
        if self.is_unread() {
            self.unread_waker.take()
        } else {
            None
        }
    }

    pub(super) const fn is_unread(&self) -> bool {
        self.was_wanted && self.interested == 0
    }

    #[must_use = "drop it after unlocking"]
    pub(super) fn wait_unread(&mut self, cx: &Context<'_>) -> Option<Waker> {
        replace_unless_same(&mut self.unread_waker, cx)
    }
}

fn replace_unless_same(place: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        Some(_) | None => place.replace(cx.waker().clone()),
    }
}

/// Returns the next bytes of `range`, at most [`CHUNK_BYTES_MAX`], without copying.
///
/// `cursor` is where the last call found its chunk: reading on is constant time, a jump is a
/// binary search.
pub(super) fn bytes_at(chunks: &[Chunk], cursor: &mut usize, range: Range<u64>) -> Option<Bytes> {
    let holds = |chunk: &Chunk| {
        chunk.start <= range.start && range.start - chunk.start < chunk.bytes.len() as u64
    };
    let near = [*cursor, cursor.saturating_add(1)];
    let index = match near.into_iter().find(|i| chunks.get(*i).is_some_and(holds)) {
        Some(index) => index,
        None => chunks
            .partition_point(|chunk| chunk.start <= range.start)
            .checked_sub(1)?,
    };
    let chunk = chunks.get(index).filter(|chunk| holds(chunk))?;
    *cursor = index;
    let from = usize::try_from(range.start - chunk.start).expect("inside a chunk in memory");
    let wanted = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let until = from + wanted.min(CHUNK_BYTES_MAX).min(chunk.bytes.len() - from);
    Some(chunk.bytes.slice(from..until))
}
