//! A response body that can be read while it is written.
//!
//! A fill holds the one [`Writer`]; everybody else holds the [`GrowingBody`] and takes a [`Reader`]
//! per viewer. Each reader sees every byte of its range in order, then one terminal state. A body
//! that has completed is read without any lock. `node` writes from its upstream task and reads from
//! its listeners; the store keeps bodies that completed.
//!
//! Deliberately not here: whether a partial range is a 206 or a 416 (`range`), limits on the size
//! of a body and on the time without progress (`node` decides and calls [`Writer::fail`]), and the
//! promise of one writer per key (`collapse`).
//!
//! Interleavings are searched under shuttle; the command is in `sync.rs`.

mod progress;
mod state;

use std::fmt;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

pub use self::progress::{BodyFailure, BodyState, Progress};
use self::state::{Chunk, Found, State, bytes_at};
use crate::codings::Codings;
use crate::slice::Sliced;
use crate::sync::Mutex;

/// The most bytes a [`Reader`] hands out at once.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// A response body that can be read while it is written.
///
/// A cheap handle on shared bytes. Bytes stay in memory while a handle or a reader lives.
///
/// Invariant: `Filling` becomes `Complete` or `Failed`, once; a failed body never looks like a
/// whole one.
#[derive(Clone)]
pub struct GrowingBody {
    shared: Arc<Shared>,
}

struct Shared {
    /// The final chunks. Invariant: set while `state` is locked, before it says `Complete`.
    complete: OnceLock<Complete>,
    state: Mutex<State>,
    kept: Kept,
}

/// What is kept with a body beside its bytes.
enum Kept {
    Nothing,
    /// The coded forms of a text, for as long as the text is kept.
    Codings(Box<Codings>),
    /// The chunks share memory with nothing else: the store need not copy them.
    Owned,
    /// Where the bytes are instead.
    Sliced(Sliced),
}

struct Complete {
    chunks: Box<[Chunk]>,
    length: u64,
}

impl GrowingBody {
    /// Returns a body without bytes and the only writer to it.
    pub fn new() -> (Writer, Self) {
        Self::filling(None, Kept::Nothing)
    }

    /// Returns a body that must end at exactly `bytes`, and the only writer to it.
    ///
    /// A body that ends before is `Truncated`, one that goes on is `TooLarge` (RFC 9112 6.3,
    /// RFC 9113 8.1.1).
    pub fn with_length(bytes: u64) -> (Writer, Self) {
        Self::filling(Some(bytes), Kept::Nothing)
    }

    fn filling(length: Option<u64>, kept: Kept) -> (Writer, Self) {
        let body = Self {
            shared: Arc::new(Shared {
                complete: OnceLock::new(),
                state: Mutex::new(State::new(length)),
                kept,
            }),
        };
        let writer = Writer {
            body: body.clone(),
            woken: Vec::new(),
        };
        (writer, body)
    }

    /// Returns a body that is already complete.
    pub fn full(bytes: Bytes) -> Self {
        let (mut writer, body) = Self::new();
        writer.push(bytes);
        writer.complete();
        body
    }

    /// Returns a complete body that keeps its coded forms beside it.
    ///
    /// For texts that many clients want compressed: the forms are made once, and shared (CA-18).
    pub fn text(bytes: Bytes) -> Self {
        let (mut writer, body) = Self::filling(None, Kept::Codings(Box::default()));
        writer.push(bytes);
        writer.complete();
        body
    }

    /// Returns a body that is written in memory of its own, for the store to keep, and its writer.
    pub(crate) fn owned() -> (Writer, Self) {
        Self::filling(None, Kept::Owned)
    }

    /// Returns whether the store can keep the body as it is: it shares memory with nothing else, or was
    /// made to be kept.
    pub(crate) fn is_owned(&self) -> bool {
        !matches!(self.shared.kept, Kept::Nothing)
    }

    /// Returns the coded forms, if this body keeps any.
    pub fn codings(&self) -> Option<&Codings> {
        match &self.shared.kept {
            Kept::Codings(codings) => Some(codings),
            Kept::Nothing | Kept::Owned | Kept::Sliced(_) => None,
        }
    }

    /// Returns a body that is kept in slices elsewhere: complete, and without bytes of its own.
    pub fn sliced_as(sliced: Sliced) -> Self {
        let (writer, body) = Self::filling(None, Kept::Sliced(sliced));
        writer.complete();
        body
    }

    /// Returns how the body is kept, if it is in slices. Its readers would read nothing.
    pub fn sliced(&self) -> Option<&Sliced> {
        match &self.shared.kept {
            Kept::Sliced(sliced) => Some(sliced),
            Kept::Nothing | Kept::Owned | Kept::Codings(_) => None,
        }
    }

    /// Returns how far the body has come.
    pub fn progress(&self) -> Progress {
        match self.shared.complete.get() {
            Some(complete) => Progress {
                received: complete.length,
                state: BodyState::Complete,
            },
            None => self.shared.state.lock().progress(),
        }
    }

    /// Returns the length of the body in bytes once it is complete.
    pub fn len_if_complete(&self) -> Option<u64> {
        self.shared.complete.get().map(|complete| complete.length)
    }

    /// Returns the length of the body in bytes, where it is complete or was announced.
    pub fn len_if_known(&self) -> Option<u64> {
        self.len_if_complete()
            .or_else(|| self.shared.state.lock().length())
    }

    /// Returns the bytes of a complete body in order, in the slices in which they are kept.
    ///
    /// Of a body that is not complete there are none.
    pub fn slices(&self) -> impl Iterator<Item = &Bytes> {
        let chunks = self.shared.complete.get().map(|complete| &complete.chunks);
        chunks.into_iter().flatten().map(|chunk| &chunk.bytes)
    }

    /// Returns a reader of the bytes in `range`; `u64::MAX` as its end means until the end.
    ///
    /// Positions that have not been received wait while the body fills. A range that ends beyond
    /// the end of the body ends there.
    pub fn reader(&self, range: Range<u64>) -> Reader {
        Reader {
            position: range.start,
            end: range.end,
            cursor: 0,
            interest: Interest::of(self),
        }
    }

    /// Waits until at least `bytes` are received, or the body has ended. Cancel safe.
    ///
    /// Counts as reading, for [`Writer::unread`], from its first poll on.
    pub async fn received_at_least(&self, bytes: u64) -> Progress {
        let mut interest = Interest::of(self);
        poll_fn(|cx| interest.poll_received(bytes, cx)).await
    }

    /// Waits until the body has ended. Cancel safe.
    pub async fn ended(&self) -> Progress {
        self.received_at_least(u64::MAX).await
    }

    /// Says that whoever asked for the body has left without ever reading it.
    ///
    /// Lets [`Writer::unread`] resolve for a body that never had a reader.
    pub fn detached(&self) {
        let woken = self.shared.state.lock().detach();
        woken.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for GrowingBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { received, state } = self.progress();
        f.debug_struct("GrowingBody")
            .field("received", &received)
            .field("state", &state)
            .finish()
    }
}

/// The only hand that adds to a body.
///
/// Dropping it without [`complete`](Self::complete) or [`fail`](Self::fail) fails the body as
/// `Abandoned`.
#[derive(Debug)]
pub struct Writer {
    body: GrowingBody,
    /// Kept from push to push, so that waking readers allocates nothing.
    woken: Vec<Waker>,
}

impl Writer {
    /// Adds bytes, which every reader can see at once.
    ///
    /// Small neighbors are merged by copying; anything above 4 KiB is kept as it is.
    pub fn push(&mut self, bytes: Bytes) {
        self.body.shared.state.lock().push(bytes, &mut self.woken);
        self.wake();
    }

    /// Ends the body as whole, or as `Truncated` if bytes of its announced length are missing.
    pub fn complete(mut self) {
        let shared = &self.body.shared;
        let mut state = shared.state.lock();
        let Progress {
            received,
            state: now,
        } = state.progress();
        if state.length().is_some_and(|length| received != length) {
            state.end(BodyState::Failed(BodyFailure::Truncated), &mut self.woken);
        } else if now == BodyState::Filling {
            let complete = Complete {
                chunks: std::mem::take(&mut state.chunks).into_boxed_slice(),
                length: received,
            };
            let is_first = shared.complete.set(complete).is_ok();
            debug_assert!(
                is_first,
                "only the one writer completes, and consumes itself"
            );
            state.end(BodyState::Complete, &mut self.woken);
        }
        drop(state);
        self.wake();
    }

    /// Ends the body as failed; readers get what was received, then the failure.
    pub fn fail(mut self, failure: BodyFailure) {
        self.end_failed(failure);
    }

    /// Waits until nobody reads the body, after somebody did or [`detached`](Self::detached) was
    /// called. Cancel safe; one task at a time waits.
    ///
    /// Readers and unfinished waits count; handles do not. Somebody may begin to read between this
    /// and what the caller does next: see [`cancel_if_unread`](Self::cancel_if_unread).
    pub async fn unread(&self) {
        poll_fn(|cx| {
            let mut state = self.body.shared.state.lock();
            if state.is_unread() {
                return Poll::Ready(());
            }
            let before = state.wait_unread(cx);
            drop(state);
            drop(before);
            Poll::Pending
        })
        .await;
    }

    /// Ends the body as `Cancelled` if nobody reads it; otherwise gives the writer back.
    ///
    /// # Errors
    ///
    /// The writer itself, when somebody has begun to read.
    pub fn cancel_if_unread(mut self) -> Result<(), Self> {
        let mut state = self.body.shared.state.lock();
        if !state.is_unread() {
            drop(state);
            return Err(self);
        }
        state.end(BodyState::Failed(BodyFailure::Cancelled), &mut self.woken);
        drop(state);
        self.wake();
        Ok(())
    }

    /// Says that whoever asked for the body has left; see [`GrowingBody::detached`].
    pub fn detached(&self) {
        self.body.detached();
    }

    /// Returns a handle on the body that is being written.
    pub fn body(&self) -> GrowingBody {
        self.body.clone()
    }

    fn end_failed(&mut self, failure: BodyFailure) {
        self.body
            .shared
            .state
            .lock()
            .end(BodyState::Failed(failure), &mut self.woken);
        self.wake();
    }

    fn wake(&mut self) {
        self.woken.drain(..).for_each(Waker::wake);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end_failed(BodyFailure::Abandoned);
    }
}

/// One reader of one range of a body.
///
/// Dropping it early is how a viewer leaves; nobody else notices but [`Writer::unread`].
#[derive(Debug)]
pub struct Reader {
    position: u64,
    end: u64,
    cursor: usize,
    interest: Interest,
}

impl Reader {
    /// Polls for the next bytes, at most [`CHUNK_BYTES_MAX`] of them, never none.
    ///
    /// `None` is the clean end of the range or of a complete body. After a failure every call
    /// returns the failure again, so that no caller can take it for a clean end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyFailure>>> {
        if self.position >= self.end {
            return Poll::Ready(None);
        }
        let found = match self.find(cx) {
            // It may have completed while we took the lock; the second look needs none.
            Found::Completed => self.find(cx),
            found @ (Found::Bytes(_) | Found::NotYet | Found::Failed(_)) => found,
        };
        match found {
            Found::Bytes(bytes) => {
                self.position += bytes.len() as u64;
                Poll::Ready(Some(Ok(bytes)))
            }
            Found::NotYet => Poll::Pending,
            Found::Completed => Poll::Ready(None),
            Found::Failed(failure) => Poll::Ready(Some(Err(failure))),
        }
    }

    /// Waits for the next bytes; see [`poll_next`](Self::poll_next). Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Bytes, BodyFailure>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Returns the bytes still to come, where that is known: the body is complete, its length was
    /// announced, or the rest of the range is already received.
    pub fn remaining_if_known(&self) -> Option<u64> {
        let body = &self.interest.body;
        let end = match body.len_if_known() {
            Some(length) => self.end.min(length),
            None if self.end <= body.progress().received => self.end,
            None => return None,
        };
        Some(end.saturating_sub(self.position))
    }

    /// Looks once, without a lock where the body is complete; waits if there is nothing yet.
    fn find(&mut self, cx: &Context<'_>) -> Found {
        let range = self.position..self.end;
        let shared = &self.interest.body.shared;
        if let Some(complete) = shared.complete.get() {
            return bytes_at(&complete.chunks, &mut self.cursor, range)
                .map_or(Found::Completed, Found::Bytes);
        }
        let mut state = shared.state.lock();
        let found = state.find(&mut self.cursor, range);
        if matches!(found, Found::NotYet) {
            let at = self.position.saturating_add(1);
            let before = state.wait(&mut self.interest.seat, at, cx);
            drop(state);
            drop(before);
        }
        found
    }
}

/// Being one of those who want a body, until dropped.
struct Interest {
    body: GrowingBody,
    /// Where we wait, once we had to.
    seat: Option<usize>,
    /// Whether the body was still filling when we came: only then does anybody count us.
    is_counted: bool,
}

impl Interest {
    fn of(body: &GrowingBody) -> Self {
        let is_counted = body.shared.complete.get().is_none();
        if is_counted {
            body.shared.state.lock().enter();
        }
        Self {
            body: body.clone(),
            seat: None,
            is_counted,
        }
    }

    fn poll_received(&mut self, bytes: u64, cx: &Context<'_>) -> Poll<Progress> {
        if self.body.shared.complete.get().is_some() {
            return Poll::Ready(self.body.progress());
        }
        let mut state = self.body.shared.state.lock();
        let progress = state.progress();
        if progress.received >= bytes || progress.state != BodyState::Filling {
            return Poll::Ready(progress);
        }
        let before = state.wait(&mut self.seat, bytes, cx);
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        if self.is_counted {
            let left = self.body.shared.state.lock().leave(self.seat);
            drop(left.own);
            left.unread.into_iter().for_each(Waker::wake);
        }
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.body.fmt(f)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests;

#[cfg(all(test, shuttle))]
mod shuttle_tests;
