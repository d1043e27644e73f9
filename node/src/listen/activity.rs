//! When a connection last did something, and what is under way on it.
//!
//! What is here: the clockwork behind three limits, the time to bring a request head, the time
//! without a request, and the time without taking anything of a response, for HTTP/1.1 and HTTP/2 alike; hyper's own timer cannot tell them apart. Who
//! calls it: `tcp`. Deliberately not here: HTTP/3, whose driver sees its requests itself.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::ListenLimits;
use crate::body::{Body, BodyError};
use crate::interim::InterimOutbox;

/// What happens on one connection, shared by its socket, its requests and its driver.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    in_flight: usize,
    /// Of those in flight, how many wait for us: for an answer, or for more of its body.
    waiting_for_us: usize,
    /// Since when no client has taken more of any body.
    taken_since: Instant,
    /// Since when no request is in flight.
    idle_since: Instant,
    /// Since when a request head is awaited or has begun to come in; not while one is in flight.
    head_since: Option<Instant>,
    /// Whether bytes announce a request head; on HTTP/2 they may be a ping.
    heads_only: bool,
    /// When the connection was last polled.
    turn_began: Instant,
}

impl State {
    /// Returns the present time; that of the turn is as good where everything happens in one.
    fn now(&self) -> Instant {
        // Streams of HTTP/2 are polled without their connection.
        if self.heads_only {
            self.turn_began
        } else {
            Instant::now()
        }
    }
}

/// Why a connection is ended by this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// A request head took too long.
    Head,
    /// There was no request for too long.
    Idle,
    /// Responses are there and the client takes none of them for too long.
    Stalled,
}

impl Activity {
    /// Starts with a new connection, which owes its first request head from now on.
    pub(super) fn new(heads_only: bool) -> Self {
        let now = Instant::now();
        let state = State {
            in_flight: 0,
            waiting_for_us: 0,
            taken_since: now,
            idle_since: now,
            head_since: Some(now),
            heads_only,
            turn_began: now,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Notes that the connection is polled now.
    pub(super) fn turn_begins(&self, now: Instant) {
        self.state.lock().turn_began = now;
    }

    /// Counts a request until what is returned is dropped.
    pub(super) fn request(&self) -> InFlight {
        let mut state = self.state.lock();
        state.in_flight += 1;
        state.waiting_for_us += 1;
        state.head_since = None;
        InFlight {
            activity: self.clone(),
            waits_for_us: true,
        }
    }

    fn bytes_read(&self) {
        let mut state = self.state.lock();
        if state.heads_only && state.in_flight == 0 && state.head_since.is_none() {
            state.head_since = Some(state.now());
        }
    }

    /// Returns when the connection becomes overdue if nothing happens, and for what.
    pub(super) fn deadline(&self, limits: &ListenLimits) -> (Instant, Overdue) {
        let state = self.state.lock();
        if state.waiting_for_us > 0 {
            return (state.turn_began + limits.idle_timeout, Overdue::Idle);
        }
        if state.in_flight > 0 {
            return (state.taken_since + limits.idle_timeout, Overdue::Stalled);
        }
        match state.head_since {
            Some(since) => (since + limits.head_timeout, Overdue::Head),
            None => (state.idle_since + limits.idle_timeout, Overdue::Idle),
        }
    }
}

/// One request under way, to the end of its response body.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Activity,
    waits_for_us: bool,
}

impl InFlight {
    /// Notes whose turn it is: ours to bring more of the body, or the client's to take what is there.
    fn set_waits_for_us(&mut self, waits_for_us: bool) {
        let mut state = self.activity.state.lock();
        if !waits_for_us {
            state.taken_since = state.now();
        }
        if self.waits_for_us != waits_for_us {
            self.waits_for_us = waits_for_us;
            if waits_for_us {
                state.waiting_for_us += 1;
            } else {
                state.waiting_for_us -= 1;
            }
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.activity.state.lock();
        debug_assert!(state.in_flight > 0, "every request is counted once");
        state.in_flight -= 1;
        if self.waits_for_us {
            state.waiting_for_us -= 1;
        }
        if state.in_flight == 0 {
            state.idle_since = state.now();
        }
    }
}

/// A body that counts as a request under way until it is dropped.
#[derive(Debug)]
pub(super) struct CountedBody {
    pub(super) body: Body,
    pub(super) in_flight: InFlight,
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        // It is asked for more only when the client has room for it.
        this.in_flight.set_waits_for_us(polled.is_pending());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}

/// A socket that notes when bytes come in, gives back bytes already read from it first, and sends interim
/// responses between those of HTTP.
#[derive(Debug)]
pub(super) struct WatchedIo<IO> {
    pub(super) io: IO,
    pub(super) already_read: Bytes,
    pub(super) activity: Activity,
    pub(super) interim: InterimOutbox,
    /// What is not yet written of interim responses: it goes before anything else.
    pub(super) unsent: Bytes,
}

impl<IO: AsyncWrite + Unpin> WatchedIo<IO> {
    fn poll_write_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unsent.has_remaining() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.unsent))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for WatchedIo<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.already_read.has_remaining() {
            let length = this.already_read.len().min(buffer.remaining());
            buffer.put_slice(&this.already_read.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let filled_before = buffer.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buffer);
        if buffer.filled().len() > filled_before {
            this.activity.bytes_read();
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for WatchedIo<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_write_unsent(cx))?;
        Pin::new(&mut this.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_write_unsent(cx))?;
        Pin::new(&mut this.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_unsent(cx))?;
        // hyper flushes when it has written all it has, and whenever it was woken. The outbox is open until
        // the service has answered, so no byte of that answer is before these.
        if let Some(heads) = this.interim.take() {
            this.unsent = heads;
            ready!(this.poll_write_unsent(cx))?;
        }
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_owes_its_first_head_then_may_idle_between_requests() {
        let limits = ListenLimits::default();
        let activity = Activity::new(true);
        let begun = Instant::now();
        assert_eq!(
            activity.deadline(&limits),
            (begun + limits.head_timeout, Overdue::Head)
        );

        let request = activity.request();
        tokio::time::advance(Duration::from_secs(100)).await;
        activity.turn_begins(Instant::now());
        assert!(
            activity.deadline(&limits).0 > Instant::now(),
            "a held request is not idle"
        );

        let mut sent = activity.request();
        sent.set_waits_for_us(false);
        assert!(
            activity.deadline(&limits).0 > Instant::now(),
            "another is still held"
        );
        drop(request);
        let stalled = Instant::now() + limits.idle_timeout;
        assert_eq!(activity.deadline(&limits), (stalled, Overdue::Stalled));
        drop(sent);
        let idle = Instant::now() + limits.idle_timeout;
        assert_eq!(activity.deadline(&limits), (idle, Overdue::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_byte_of_a_head_starts_its_time_and_later_ones_do_not_prolong_it() {
        let limits = ListenLimits::default();
        let activity = Activity::new(true);
        drop(activity.request());
        tokio::time::advance(Duration::from_secs(20)).await;
        let begun = Instant::now();
        activity.turn_begins(begun);
        activity.bytes_read();
        tokio::time::advance(Duration::from_secs(5)).await;
        activity.turn_begins(Instant::now());
        activity.bytes_read();
        assert_eq!(
            activity.deadline(&limits),
            (begun + limits.head_timeout, Overdue::Head)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_on_http2_is_no_request_head() {
        let limits = ListenLimits::default();
        let activity = Activity::new(false);
        drop(activity.request());
        activity.bytes_read();
        assert_eq!(activity.deadline(&limits).1, Overdue::Idle);
    }
}
