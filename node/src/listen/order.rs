//! Whose turn it is to give bytes, on one HTTP/2 connection with responses of several urgencies (RFC 9218, LB-02).
//!
//! The library of HTTP/2 knows no urgency: its streams take turns, frame by frame, and what has been handed to it cannot be
//! overtaken. So a less urgent body is asked for nothing while a more urgent one gives. What is here: who may give, and when
//! that changes. Who calls it: `activity`, for every body that is asked for bytes, and whenever the socket has taken
//! everything. Deliberately not here: reading `Priority` (`priority`), HTTP/3, whose library knows urgencies.
//!
//! ```text
//!            a body of urgency 2 gives                     everything is written, and in a whole turn
//! open to 7 ──────────────────────────► open to 2          nobody gave who is as urgent as that
//!     ▲                            5 is held, not asked ──────────────────────────► open to 5, which is asked again
//!     └──── nobody is held ────────────────────────────────────────┘
//! ```
//!
//! Two things keep a more urgent response from stopping the others when it has no bytes, or its client does not read it. A
//! body is in nobody's way unless it gave; and once the socket has taken everything, it has to give again within a turn.

use std::task::Waker;

use super::priority::Urgency;

/// Who of the bodies of one connection may give bytes.
///
/// Invariant: while a body is held, the connection will be polled again: its waker has been called, or the socket, which has
/// not taken everything, will call it.
#[derive(Debug)]
pub(super) struct Order {
    /// The least urgent that may give.
    open_to: Urgency,
    /// Whether a body gave since the connection was last found with everything written.
    has_given: bool,
    /// Of each urgency: the bodies that gave when they were last asked, and are not at their end. No connection has more
    /// streams than 10,000.
    giving: [u16; Urgency::COUNT],
    /// Those that were asked and may not give yet, longest first.
    held: Vec<Held>,
    /// Polls the connection. Nobody is held before it is known.
    connection: Option<Waker>,
}

/// A body on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BodyId(pub(super) u32);

#[derive(Debug)]
struct Held {
    body: BodyId,
    urgency: Urgency,
    waker: Waker,
}

impl Order {
    /// Begins without bodies, open to all.
    pub(super) fn new() -> Self {
        Self {
            open_to: Urgency::LEAST,
            has_given: false,
            giving: [0; Urgency::COUNT],
            held: Vec::new(),
            connection: None,
        }
    }

    /// Returns the least urgent that may give.
    pub(super) fn open_to(&self) -> Urgency {
        self.open_to
    }

    /// Lets the connection be polled by `waker` when somebody is held.
    pub(super) fn driven_by(&mut self, waker: &Waker) {
        match &mut self.connection {
            Some(connection) => connection.clone_from(waker),
            None => self.connection = Some(waker.clone()),
        }
    }

    /// Holds a body that is asked for bytes, if it may not give; `waker` is called when it may.
    pub(super) fn holds(&mut self, body: BodyId, urgency: Urgency, waker: &Waker) -> bool {
        if urgency <= self.open_to {
            return false;
        }
        let Some(connection) = &self.connection else {
            return false;
        };
        // What was given may never get to the socket, if its stream's window is closed: then nobody else would.
        connection.wake_by_ref();
        match self.held.iter_mut().find(|held| held.body == body) {
            Some(held) => held.waker.clone_from(waker),
            None => self.held.push(Held {
                body,
                urgency,
                waker: waker.clone(),
            }),
        }
        true
    }

    /// Notes that a body that was held is no more.
    pub(super) fn forget(&mut self, body: BodyId) {
        self.held.retain(|held| held.body != body);
        self.free_if_empty();
    }

    /// Counts a body that begins to give.
    pub(super) fn begins(&mut self, urgency: Urgency) {
        self.giving[urgency.index()] += 1;
    }

    /// No longer counts a body: it has no bytes now, is held, or is no more.
    pub(super) fn ends(&mut self, urgency: Urgency) {
        debug_assert!(self.giving[urgency.index()] > 0, "ends once what began");
        self.giving[urgency.index()] -= 1;
    }

    /// Notes that a body gave.
    pub(super) fn gave(&mut self, urgency: Urgency) {
        self.open_to = self.open_to.min(urgency);
        self.has_given = true;
    }

    /// Notes that the connection has been polled and everything is written that could be.
    ///
    /// Those who gave and could give more have been woken in that poll, before whomever this wakes.
    pub(super) fn all_written(&mut self) {
        let most_urgent = &self.giving[..=self.open_to.index()];
        if self.has_given && most_urgent.iter().any(|&giving| giving > 0) {
            // They have until the next turn is over.
            self.has_given = false;
        } else {
            self.open_further();
        }
        if let (Some(connection), false) = (&self.connection, self.held.is_empty()) {
            connection.wake_by_ref();
        }
    }

    /// Lets the next urgency go of those who are held or give, or everybody if nobody does.
    fn open_further(&mut self) {
        self.has_given = false;
        let gives = self.open_to.less_urgent();
        let gives = gives.filter(|urgency| self.giving[urgency.index()] > 0);
        let held = self.held.iter().map(|held| held.urgency);
        self.open_to = gives.chain(held).min().unwrap_or(Urgency::LEAST);
        let open_to = self.open_to;
        self.held.retain(|held| {
            let stays = held.urgency > open_to;
            if !stays {
                held.waker.wake_by_ref();
            }
            stays
        });
        self.free_if_empty();
    }

    /// Of thousands of idle connections none keeps room for those that it held once.
    fn free_if_empty(&mut self) {
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake};

    use bytes::Bytes;
    use futures_util::StreamExt as _;
    use http::{HeaderValue, Response};
    use http_body::Body as _;
    use parking_lot::Mutex;
    use proptest::prelude::*;

    use super::super::activity::{Activity, CountedBody};
    use super::*;
    use crate::body::Body;
    use crate::exchange::Protocol;

    /// Pieces of one stream that the library takes before its body waits.
    const TAKEN_MAX: usize = 2;

    /// More polls than anything here needs.
    const POLLS_MAX: usize = 2_000;

    /// Who is to be polled, first come first served: 0 is the connection, the others are bodies.
    type Queue = Arc<Mutex<VecDeque<usize>>>;

    struct Task {
        number: usize,
        queue: Queue,
    }

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            let mut queue = self.queue.lock();
            if !queue.contains(&self.number) {
                queue.push_back(self.number);
            }
        }
    }

    /// Where a body has its pieces from.
    #[derive(Debug, Default)]
    struct Source {
        pieces: usize,
        is_at_end: bool,
        reader: Option<Waker>,
    }

    /// What hyper and h2 do with one response.
    struct Stream {
        urgency: u8,
        /// `None` at its end; the library may still have some of it.
        body: Option<CountedBody>,
        source: Arc<Mutex<Source>>,
        /// A piece that waits until the library takes more.
        waits: bool,
        /// Pieces that the library has taken and not sent.
        taken: usize,
        /// Pieces that the client lets be sent.
        window: usize,
        /// Whether it gave when it was last asked, and nothing but the socket kept it from giving since.
        could_give: bool,
    }

    impl Stream {
        fn room(&self) -> usize {
            self.window.min(TAKEN_MAX).saturating_sub(self.taken)
        }

        fn is_shut_by_client(&self) -> bool {
            self.waits && self.window <= self.taken
        }
    }

    /// One connection as hyper and h2 drive it, in small.
    struct World {
        activity: Activity,
        queue: Queue,
        streams: Vec<Option<Stream>>,
        /// Pieces that the socket takes.
        socket: usize,
        /// Whether it took less than there was: only then does it call when it takes more.
        was_full: bool,
        next_sent: usize,
        polls: usize,
    }

    impl World {
        fn new() -> Self {
            let world = Self {
                activity: Activity::new(false),
                queue: Queue::default(),
                streams: Vec::new(),
                socket: 0,
                was_full: false,
                next_sent: 0,
                polls: 0,
            };
            world.activity.ordered(&world.waker(0));
            world
        }

        fn waker(&self, number: usize) -> Waker {
            let queue = Arc::clone(&self.queue);
            Waker::from(Arc::new(Task { number, queue }))
        }

        fn wake(&self, number: usize) {
            self.waker(number).wake();
        }

        fn begin(&mut self, urgency: u8, window: usize) {
            let source = Arc::new(Mutex::new(Source::default()));
            let read = Arc::clone(&source);
            let pieces = futures_util::stream::poll_fn(move |cx| {
                let mut source = read.lock();
                if source.pieces > 0 {
                    source.pieces -= 1;
                    return Poll::Ready(Some(Ok(Bytes::from_static(b"piece"))));
                }
                if source.is_at_end {
                    return Poll::Ready(None);
                }
                source.reader = Some(cx.waker().clone());
                Poll::Pending
            });
            let mut response = Response::new(Body::assembled(pieces.boxed(), None));
            let field = HeaderValue::try_from(format!("u={urgency}")).unwrap();
            response.headers_mut().insert("priority", field);
            let in_flight = self.activity.request();
            let counted = in_flight.counting(response, None, Protocol::Http2);
            self.streams.push(Some(Stream {
                urgency,
                body: Some(counted.into_body()),
                source,
                waits: false,
                taken: 0,
                window,
                could_give: false,
            }));
            self.wake(self.streams.len());
        }

        fn feed(&mut self, slot: usize, pieces: usize, is_at_end: bool) {
            let Some(stream) = self.chosen(slot) else {
                return;
            };
            let mut source = stream.source.lock();
            if !source.is_at_end {
                source.pieces += pieces;
                source.is_at_end = is_at_end;
                if let Some(reader) = source.reader.take() {
                    reader.wake();
                }
            }
        }

        fn chosen(&mut self, slot: usize) -> Option<&mut Stream> {
            let count = self.streams.len().max(1);
            self.streams.get_mut(slot % count)?.as_mut()
        }

        /// Polls up to `limit` of those who are to be polled.
        fn run(&mut self, limit: usize) {
            for _ in 0..limit {
                let Some(number) = self.queue.lock().pop_front() else {
                    return;
                };
                self.polls += 1;
                assert!(
                    self.polls < POLLS_MAX,
                    "nobody is polled for nothing for ever"
                );
                match number.checked_sub(1) {
                    None => self.poll_connection(),
                    Some(index) => self.poll_stream(index),
                }
            }
        }

        /// What hyper does: it asks the body, and hands over what it gave when the library takes it.
        fn poll_stream(&mut self, index: usize) {
            let waker = self.waker(index + 1);
            let mut cx = Context::from_waker(&waker);
            while let Some(mut stream) = self.streams[index].take() {
                if stream.waits {
                    if stream.room() == 0 {
                        stream.could_give &= !stream.is_shut_by_client();
                        self.streams[index] = Some(stream);
                        return;
                    }
                    stream.waits = false;
                    stream.taken += 1;
                    self.wake(0);
                }
                let Some(body) = &mut stream.body else {
                    self.streams[index] = Some(stream);
                    return;
                };
                match Pin::new(body).poll_frame(&mut cx) {
                    Poll::Ready(Some(piece)) => {
                        assert!(piece.is_ok());
                        self.check_nobody_is_overtaken(stream.urgency);
                        stream.waits = true;
                        stream.could_give = true;
                    }
                    Poll::Ready(None) => {
                        stream.body = None;
                        stream.could_give = false;
                    }
                    Poll::Pending => {
                        stream.could_give = false;
                        self.streams[index] = Some(stream);
                        return;
                    }
                }
                self.streams[index] = Some(stream);
            }
        }

        fn check_nobody_is_overtaken(&self, urgency: u8) {
            for other in self.streams.iter().flatten() {
                let goes_before = other.urgency < urgency && other.could_give;
                assert!(!goes_before, "{urgency} gives before {}", other.urgency);
            }
        }

        /// What h2 does: streams take turns until the socket takes no more.
        fn poll_connection(&mut self) {
            self.was_full = false;
            loop {
                let count = self.streams.len();
                let next = (0..count).map(|i| (self.next_sent + i) % count).find(|&i| {
                    let stream = self.streams[i].as_ref();
                    stream.is_some_and(|stream| stream.taken.min(stream.window) > 0)
                });
                let Some(index) = next else {
                    break;
                };
                if self.socket == 0 {
                    self.was_full = true;
                    break;
                }
                self.socket -= 1;
                self.next_sent = index + 1;
                let stream = self.streams[index].as_mut().unwrap();
                stream.taken -= 1;
                stream.window -= 1;
                stream.could_give &= !stream.is_shut_by_client();
                self.wake(index + 1);
            }
            if !self.was_full {
                self.activity.all_written(&self.waker(0));
            }
        }

        fn give_room(&mut self, pieces: usize) {
            self.socket = self.socket.saturating_add(pieces);
            if self.was_full {
                self.wake(0);
            }
        }

        /// Lets everything be sent, and finds nobody left who could give and was not asked.
        fn check_nobody_is_stuck(&mut self) {
            self.give_room(usize::MAX);
            self.run(usize::MAX);
            for stream in self.streams.iter().flatten() {
                let pieces = stream.source.lock().pieces;
                let is_done = pieces == 0 && !stream.waits && stream.taken == 0;
                assert!(
                    is_done || stream.window == 0,
                    "{} of urgency {}",
                    pieces,
                    stream.urgency
                );
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Begin {
            urgency: u8,
            window: usize,
        },
        Feed {
            slot: usize,
            pieces: usize,
            is_at_end: bool,
        },
        Window {
            slot: usize,
            pieces: usize,
        },
        Socket(usize),
        Drop(usize),
        Run(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            2 => (0..8_u8, 0..12_usize).prop_map(|(urgency, window)| Op::Begin { urgency, window }),
            4 => (0..16_usize, 1..10_usize, any::<bool>())
                .prop_map(|(slot, pieces, is_at_end)| Op::Feed { slot, pieces, is_at_end }),
            2 => (0..16_usize, 1..10_usize).prop_map(|(slot, pieces)| Op::Window { slot, pieces }),
            2 => (1..10_usize).prop_map(Op::Socket),
            1 => (0..16_usize).prop_map(Op::Drop),
            4 => (1..20_usize).prop_map(Op::Run),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn lb_02_hx_17_nobody_is_overtaken_who_could_give_and_nobody_waits_for_good(
            ops in prop::collection::vec(op(), 1..60),
        ) {
            let mut world = World::new();
            for op in ops {
                match op {
                    Op::Begin { urgency, window } => world.begin(urgency, window),
                    Op::Feed { slot, pieces, is_at_end } => world.feed(slot, pieces, is_at_end),
                    Op::Window { slot, pieces } => {
                        if let Some(stream) = world.chosen(slot) {
                            stream.window += pieces;
                            let count = world.streams.len();
                            world.wake(slot % count + 1);
                            world.wake(0);
                        }
                    }
                    Op::Socket(pieces) => world.give_room(pieces),
                    Op::Drop(slot) => {
                        let count = world.streams.len().max(1);
                        if let Some(stream) = world.streams.get_mut(slot % count) {
                            *stream = None;
                        }
                    }
                    Op::Run(limit) => world.run(limit),
                }
            }
            world.check_nobody_is_stuck();
        }
    }
}
