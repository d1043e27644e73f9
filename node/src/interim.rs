//! Interim responses (1xx) on their way from a parent to the one viewer whose request brought them.
//!
//! ```text
//! parent ─► connection's task ─► InterimSink ─► InterimOutbox ─► listener, before the head of the answer
//! ```
//!
//! RFC 9110 15.2: a proxy passes them on. They belong to one request: they are never stored, and viewers who
//! follow another one's fill get none. A listener has one outbox per connection and opens it for one
//! request at a time; a sink whose request has been answered is deaf. Who calls it: `listen` and `upstream` at
//! the ends; what is between carries a sink. Deliberately not here: 100, which each hop says for itself, and
//! 101. On HTTP/2 and HTTP/3 none are passed on: those listeners have no outbox.

use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

/// Where interim responses wait for the connection to their client. The default is for connections that
/// cannot send any.
#[derive(Clone, Debug, Default)]
pub struct InterimOutbox {
    shared: Option<Arc<Shared>>,
}

/// Takes the interim responses to one request, until that is answered. The default takes none.
#[derive(Clone, Debug, Default)]
pub struct InterimSink {
    outbox: Option<Arc<Shared>>,
    /// Which request of the connection, from 1.
    number: u64,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Whether `heads` is not empty, so that nobody takes the lock to find nothing.
    has_heads: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Requests so far.
    requests: u64,
    /// Whether the latest of them is not answered yet.
    is_open: bool,
    /// Heads on the wire's form, not yet taken.
    heads: BytesMut,
    /// Bytes of heads that this request may still have.
    bytes_left: usize,
    /// The connection, while it waits for the answer.
    waker: Option<Waker>,
}

impl InterimOutbox {
    /// Returns an outbox for a connection of HTTP/1.1.
    pub(crate) fn http1() -> Self {
        let shared = Shared {
            state: Mutex::default(),
            has_heads: AtomicBool::new(false),
        };
        Self {
            shared: Some(Arc::new(shared)),
        }
    }

    /// Opens it for the next request and waits for its answer, which closes it: what comes later is dropped,
    /// and what came before is sent first.
    ///
    /// There is no other request under way meanwhile.
    pub(crate) async fn until<T>(
        &self,
        mut answer: Pin<&mut (impl Future<Output = T> + ?Sized)>,
    ) -> T {
        let Some(shared) = &self.shared else {
            return answer.await;
        };
        shared.state.lock().open();
        let answered = std::future::poll_fn(|cx| shared.poll_until(answer.as_mut(), cx)).await;
        // A parent may send both in one packet.
        std::future::poll_fn(|cx| shared.poll_taken(cx)).await;
        answered
    }

    /// Returns what takes the interim responses to the request that is under way.
    pub(crate) fn sink(&self) -> InterimSink {
        let number = self.shared.as_ref().map_or(0, |s| s.state.lock().requests);
        InterimSink {
            outbox: self.shared.clone(),
            number,
        }
    }

    /// Takes the heads that wait, to be sent before anything else.
    pub(crate) fn take(&self) -> Option<Bytes> {
        let shared = self.shared.as_ref()?;
        // Relaxed: the connection was woken after the store, or looks again when it is.
        if !shared.has_heads.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = shared.state.lock();
        shared.has_heads.store(false, Ordering::Relaxed);
        let heads = state.heads.split().freeze();
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake(); // The answer may wait for this.
        }
        (!heads.is_empty()).then_some(heads)
    }
}

impl Shared {
    fn poll_until<T>(
        &self,
        answer: Pin<&mut (impl Future<Output = T> + ?Sized)>,
        cx: &mut Context<'_>,
    ) -> Poll<T> {
        let polled = answer.poll(cx);
        let mut state = self.state.lock();
        let before = if polled.is_pending() {
            state.waker.replace(cx.waker().clone())
        } else {
            state.is_open = false;
            state.waker.take()
        };
        drop(state);
        drop(before);
        polled
    }

    fn poll_taken(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.has_heads.load(Ordering::Relaxed) {
            return Poll::Ready(()); // Closed before: none can come any more.
        }
        let before = self.state.lock().waker.replace(cx.waker().clone());
        drop(before);
        Poll::Pending
    }
}

impl State {
    fn open(&mut self) {
        self.requests += 1;
        self.is_open = true;
        self.bytes_left = HEADS_BYTES_MAX;
    }
}

impl InterimSink {
    /// Returns whether anybody may hear of interim responses.
    pub(crate) fn is_connected(&self) -> bool {
        self.outbox.is_some()
    }

    /// Sends one, if the request is not answered yet.
    ///
    /// Beyond 16 KiB for one request they are dropped: a parent may send them without end.
    pub(crate) fn send(&self, status: StatusCode, fields: &HeaderMap) {
        let Some(outbox) = self.outbox.as_ref().filter(|_| is_passed_on(status)) else {
            return;
        };
        let head = head(status, &cache::fields::passed_on(fields));
        let mut state = outbox.state.lock();
        let is_mine = state.is_open && state.requests == self.number;
        if !is_mine || head.len() > state.bytes_left {
            return;
        }
        state.bytes_left -= head.len();
        state.heads.extend_from_slice(&head);
        outbox.has_heads.store(true, Ordering::Relaxed);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// RFC 9110 15.2.1, 15.2.2: 100 and 101 are about one connection.
fn is_passed_on(status: StatusCode) -> bool {
    let about_a_connection = [StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS];
    status.is_informational() && !about_a_connection.contains(&status)
}

/// Writes a head as HTTP/1.1 has it (RFC 9112 4).
fn head(status: StatusCode, fields: &HeaderMap) -> Vec<u8> {
    let mut line = String::with_capacity(64);
    let reason = status.canonical_reason().unwrap_or_default();
    write!(line, "HTTP/1.1 {} {reason}\r\n", status.as_u16())
        .expect("writing to a string cannot fail");
    let mut head = line.into_bytes();
    for (name, value) in fields {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        // A field value has no line break.
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Bytes of interim heads for one request.
const HEADS_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;

    const EARLY_HINTS: StatusCode = StatusCode::EARLY_HINTS;

    fn link() -> HeaderMap {
        let mut fields = HeaderMap::new();
        fields.insert("link", "</a>; rel=preload".parse().unwrap());
        fields.insert("connection", "x-hop".parse().unwrap());
        fields.insert("x-hop", "1".parse().unwrap());
        fields
    }

    /// Returns an outbox with a request under way, and its sink.
    fn opened() -> (InterimOutbox, InterimSink) {
        let outbox = InterimOutbox::http1();
        outbox.shared.as_ref().unwrap().state.lock().open();
        let sink = outbox.sink();
        (outbox, sink)
    }

    #[test]
    fn rfc_9110_15_2_interim_responses_are_passed_on_without_fields_of_one_hop() {
        let (outbox, sink) = opened();
        assert!(outbox.take().is_none());
        sink.send(StatusCode::PROCESSING, &HeaderMap::new());
        sink.send(EARLY_HINTS, &link());
        let heads = "HTTP/1.1 102 Processing\r\n\r\n\
            HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n";
        assert_eq!(outbox.take().unwrap(), heads);
        assert!(outbox.take().is_none());
    }

    #[test]
    fn rfc_9110_15_2_1_what_is_about_one_connection_or_is_final_is_not_interim() {
        let (outbox, sink) = opened();
        for status in [100, 101, 200, 404] {
            sink.send(StatusCode::from_u16(status).unwrap(), &link());
        }
        assert!(outbox.take().is_none());
    }

    #[tokio::test]
    async fn nothing_is_sent_once_the_request_is_answered_or_to_the_next_one() {
        let outbox = InterimOutbox::http1();
        let first = outbox.until(pin!(async { outbox.sink() })).await;
        first.send(EARLY_HINTS, &link());
        assert!(outbox.take().is_none(), "the request is answered");
        let second = async {
            first.send(EARLY_HINTS, &link());
            assert!(outbox.take().is_none(), "it is not its request");
            outbox.sink().send(EARLY_HINTS, &link());
            assert!(outbox.take().is_some());
        };
        outbox.until(pin!(second)).await;
    }

    #[tokio::test]
    async fn what_comes_together_with_the_answer_is_sent_before_it() {
        let outbox = InterimOutbox::http1();
        let answer = pin!(async { outbox.sink().send(EARLY_HINTS, &link()) });
        let mut answered = pin!(outbox.until(answer));
        assert!(poll!(answered.as_mut()).is_pending());
        assert!(outbox.take().is_some());
        assert!(poll!(answered.as_mut()).is_ready());
    }

    #[test]
    fn interim_responses_without_end_are_dropped_beyond_their_limit() {
        let (outbox, sink) = opened();
        for _ in 0..100_000 {
            sink.send(EARLY_HINTS, &link());
        }
        assert!(outbox.take().unwrap().len() <= HEADS_BYTES_MAX);
        sink.send(EARLY_HINTS, &link());
        assert!(outbox.take().is_none());
    }

    #[test]
    fn a_connection_that_cannot_send_them_has_a_sink_that_takes_none() {
        let outbox = InterimOutbox::default();
        assert!(!outbox.sink().is_connected());
        outbox.sink().send(EARLY_HINTS, &link());
        assert!(outbox.take().is_none());
    }
}
