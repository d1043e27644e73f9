//! When a connection last did something, and what is under way on it.
//!
//! What is here: the clockwork behind three limits, the time to bring a request head, the time
//! without a request, and the time without taking anything of a response, for HTTP/1.1 and HTTP/2 alike; hyper's own timer cannot tell them apart. And the
//! bodies of responses, which are asked for bytes as `order` allows. Who calls it: `tcp`. Deliberately not here: HTTP/3, whose
//! driver sees its requests itself.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use http::Response;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::ListenLimits;
use super::order::{BodyId, Order};
use super::priority::Urgency;
use crate::body::{Body, BodyError};
use crate::exchange::Protocol;
use crate::interim::InterimOutbox;

/// What happens on one connection, shared by its socket, its requests and its driver.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The index of what the order is open to, for those who may give: they need no lock to know. It is stored under the
    /// lock, and a body that may not give looks again under it.
    open_to: AtomicUsize,
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
    order: Order,
    next_body: BodyId,
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
            order: Order::new(),
            next_body: BodyId(0),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                open_to: AtomicUsize::new(Urgency::LEAST.index()),
            }),
        }
    }

    /// Notes that the connection is polled now.
    pub(super) fn turn_begins(&self, now: Instant) {
        self.shared.state.lock().turn_began = now;
    }

    /// Counts a request until what is returned is dropped.
    pub(super) fn request(&self) -> InFlight {
        let mut state = self.shared.state.lock();
        state.in_flight += 1;
        state.waiting_for_us += 1;
        state.head_since = None;
        let body = state.next_body;
        // As many as there are numbers are never under way at once.
        state.next_body = BodyId(body.0.wrapping_add(1));
        InFlight {
            activity: self.clone(),
            body,
            urgency: Urgency::DEFAULT,
            phase: Phase::WaitsForUs,
        }
    }

    /// Lets bodies of less urgency be held from now on; `waker` polls the connection.
    pub(super) fn ordered(&self, waker: &Waker) {
        self.shared.state.lock().order.driven_by(waker);
    }

    /// Notes that the connection has been polled and has nothing left that it could write.
    pub(super) fn all_written(&self, waker: &Waker) {
        if self.shared.open_to.load(Ordering::Relaxed) == Urgency::LEAST.index() {
            return;
        }
        let mut state = self.shared.state.lock();
        state.order.driven_by(waker);
        state.order.all_written();
        self.shared.publish(&state);
    }

    fn bytes_read(&self) {
        let mut state = self.shared.state.lock();
        if state.heads_only && state.in_flight == 0 && state.head_since.is_none() {
            state.head_since = Some(state.now());
        }
    }

    /// Returns when the connection becomes overdue if nothing happens, and for what.
    pub(super) fn deadline(&self, limits: &ListenLimits) -> (Instant, Overdue) {
        let state = self.shared.state.lock();
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

impl Shared {
    fn publish(&self, state: &State) {
        let open_to = state.order.open_to().index();
        self.open_to.store(open_to, Ordering::Relaxed);
    }
}

/// One request under way, to the end of its response body.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Activity,
    body: BodyId,
    urgency: Urgency,
    phase: Phase,
}

/// Whom a request under way waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// For us: for an answer, or for more of its body.
    WaitsForUs,
    /// For the client, which is to take what its body gave.
    Gives,
    /// For the client, which is to take more urgent bodies first.
    IsHeld,
}

impl InFlight {
    /// Lets the body of `response` be the one that is counted, as urgent as the request asked for, or else as it is.
    pub(super) fn counting(
        mut self,
        response: Response<Body>,
        asked: Option<Urgency>,
        protocol: Protocol,
    ) -> Response<CountedBody> {
        debug_assert_eq!(self.phase, Phase::WaitsForUs, "before it gives");
        match protocol {
            // One response at a time: it goes before nobody.
            Protocol::Http1 => {}
            Protocol::Http2 | Protocol::Http3 => {
                self.urgency = Urgency::choose(asked, response.headers());
            }
        }
        response.map(|body| CountedBody {
            body,
            in_flight: self,
        })
    }

    /// Returns whether its body may give; if not, it is asked again when it may.
    fn may_give(&mut self, cx: &mut Context<'_>) -> bool {
        let open_to = self.activity.shared.open_to.load(Ordering::Relaxed);
        self.urgency.index() <= open_to || !self.is_held(cx)
    }

    #[cold]
    fn is_held(&mut self, cx: &mut Context<'_>) -> bool {
        let mut state = self.activity.shared.state.lock();
        let is_held = state.order.holds(self.body, self.urgency, cx.waker());
        if is_held {
            if self.phase == Phase::WaitsForUs {
                // It was not the client who took nothing until now.
                state.taken_since = state.now();
            }
            self.phase = state.moved(self.body, self.urgency, self.phase, Phase::IsHeld);
        }
        is_held
    }

    /// Notes whose turn it is: ours to bring more of the body, or the client's to take what is there.
    fn polled(&mut self, is_pending: bool) {
        let mut state = self.activity.shared.state.lock();
        let phase = if is_pending {
            Phase::WaitsForUs
        } else {
            state.taken_since = state.now();
            state.order.gave(self.urgency);
            self.activity.shared.publish(&state);
            Phase::Gives
        };
        self.phase = state.moved(self.body, self.urgency, self.phase, phase);
    }
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

    /// Counts a request where it is now, and no longer where it was.
    fn moved(&mut self, body: BodyId, urgency: Urgency, from: Phase, to: Phase) -> Phase {
        if from == to {
            return to;
        }
        self.leaves(body, urgency, from);
        match to {
            Phase::WaitsForUs => self.waiting_for_us += 1,
            Phase::Gives => self.order.begins(urgency),
            Phase::IsHeld => {}
        }
        to
    }

    fn leaves(&mut self, body: BodyId, urgency: Urgency, phase: Phase) {
        match phase {
            Phase::WaitsForUs => self.waiting_for_us -= 1,
            Phase::Gives => self.order.ends(urgency),
            Phase::IsHeld => self.order.forget(body),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.activity.shared.state.lock();
        debug_assert!(state.in_flight > 0, "every request is counted once");
        state.in_flight -= 1;
        state.leaves(self.body, self.urgency, self.phase);
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
        if !this.in_flight.may_give(cx) {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        // It is asked for more only when the client has room for it.
        this.in_flight.polled(polled.is_pending());
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
        sent.polled(false);
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
