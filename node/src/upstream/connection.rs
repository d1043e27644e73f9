//! One open connection: the tasks that keep it going, and the right to one exchange on it.
//!
//! Who calls it: the pool starts the tasks and hands out leases; `Upstream::fetch` sends with a lease, and the
//! body of the answer keeps it. Deliberately not here: which connection is used (`pool`).

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use http::Response;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::dial::{Counted, Http2Driver, Http2Watch};
use super::members::MemberId;
use super::pool::Pool;
use super::request::{Canonical, RequestBody};

/// The right to one exchange on a connection; dropping it gives the place back.
///
/// Invariant: while a lease lives, its connection counts one exchange for it.
pub(super) struct Lease {
    pool: Arc<Pool>,
    member: MemberId,
    /// Whether the connection has answered anything: if it then dies, it died of age and not of this request.
    has_answered: Arc<AtomicBool>,
    is_over: bool,
    /// Bytes that the connection received so far, and had received when the request was sent.
    received: Arc<AtomicU64>,
    received_before: u64,
    wire: LeasedWire,
}

/// What an exchange is sent with.
pub(super) enum LeasedWire {
    /// The connection itself, to be given back to its task.
    Http1 {
        sender: Option<http1::SendRequest<RequestBody>>,
        back: mpsc::Sender<http1::SendRequest<RequestBody>>,
    },
    /// A handle on the connection.
    Http2 {
        sender: http2::SendRequest<RequestBody>,
        watch: Arc<Http2Watch>,
    },
}

/// An exchange that ended before the head of an answer.
#[derive(Debug)]
pub(super) struct Lost {
    /// What HTTP saw.
    pub(super) source: hyper::Error,
    /// Whether bytes of an answer had come.
    pub(super) has_begun: bool,
    /// Whether the parent is to be asked once more.
    pub(super) replay: Replay,
}

/// Whether an exchange that was lost is begun again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replay {
    /// Its loss tells something about the parent, or an answer had begun.
    No,
    /// A kept connection turned out dead, and others may be as old: on one that is opened for it.
    OnFreshConnection,
    /// The connection is dead or going away: on any other.
    OnOtherConnection,
}

impl Lease {
    /// Takes a place that the pool has counted.
    pub(super) fn new(
        pool: Arc<Pool>,
        member: MemberId,
        has_answered: Arc<AtomicBool>,
        received: Arc<AtomicU64>,
        wire: LeasedWire,
    ) -> Self {
        Self {
            pool,
            member,
            has_answered,
            is_over: false,
            received_before: received.load(Ordering::Acquire),
            received,
            wire,
        }
    }

    /// Keeps the connection from being used again. Exchanges under way on it go on.
    pub(super) fn retire_connection(&self) {
        self.pool.leave(self.member);
    }

    /// Returns whether the connection received nothing at all since the request was sent.
    ///
    /// One that lives has answered a ping at least, if there was time for it.
    pub(super) fn is_silent(&self) -> bool {
        self.received.load(Ordering::Acquire) == self.received_before
    }

    /// Ends the exchange after the last byte of the answer.
    pub(super) fn end(mut self) {
        self.is_over = true;
    }

    /// Sends the request and waits for the head of the answer.
    ///
    /// Cancel safety: dropping the future resets the HTTP/2 stream, or closes the HTTP/1.1 connection.
    pub(super) async fn send(&mut self, request: &Canonical) -> Result<Response<Incoming>, Lost> {
        let is_reused = self.has_answered.load(Ordering::Relaxed);
        self.received_before = self.received.load(Ordering::Acquire);
        let answered = match &mut self.wire {
            LeasedWire::Http1 { sender, .. } => {
                let sender = sender
                    .as_mut()
                    .expect("a lease has its sender until it is dropped");
                let answered = sender.send_request(request.http1()).await;
                answered.map_err(|source| {
                    let has_begun = self.received.load(Ordering::Acquire) != self.received_before;
                    // RFC 9110 9.2.2: what is not idempotent goes again only if it never went out.
                    let may_go_again = request.may_be_repeated() || source.is_canceled();
                    let replay = if is_reused && !has_begun && may_go_again {
                        Replay::OnFreshConnection
                    } else {
                        Replay::No
                    };
                    Lost {
                        source,
                        has_begun,
                        replay,
                    }
                })
            }
            LeasedWire::Http2 { sender, watch } => {
                let answered = sender.send_request(request.http2()).await;
                answered.map_err(|source| {
                    let is_dead = sender.is_closed() || watch.has_ended();
                    let died_of_age = is_reused && is_dead && request.may_be_repeated();
                    let replay = if was_not_processed(&source) || died_of_age {
                        Replay::OnOtherConnection
                    } else {
                        Replay::No
                    };
                    Lost {
                        source,
                        has_begun: false,
                        replay,
                    }
                })
            }
        };
        if answered.is_ok() {
            self.has_answered.store(true, Ordering::Relaxed);
        }
        answered
    }
}

/// Returns whether the parent is known not to have acted on an HTTP/2 request.
fn was_not_processed(error: &hyper::Error) -> bool {
    // The connection was going away before the request was sent.
    if error.is_canceled() {
        return true;
    }
    let http2 = error
        .source()
        .and_then(|source| source.downcast_ref::<h2::Error>());
    http2.is_some_and(|error| {
        // RFC 9113 6.8: streams beyond the last one that GOAWAY names were not processed.
        // RFC 9113 8.7: nor was one that was refused.
        (error.is_go_away() && error.is_remote())
            || error.reason() == Some(h2::Reason::REFUSED_STREAM)
    })
}

impl Drop for Lease {
    fn drop(&mut self) {
        match &mut self.wire {
            LeasedWire::Http1 { sender, back, .. } => {
                // The task makes sure that the exchange is over before the pool sees the connection again.
                // If the task is gone, so is the connection, and the sender is dropped here.
                if let Some(sender) = sender.take() {
                    if self.is_over {
                        self.pool.await_return(self.member);
                    }
                    drop(back.try_send(sender));
                }
            }
            LeasedWire::Http2 { .. } => self.pool.release(self.member),
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}

/// The part of a connection's task that does not depend on the version of HTTP.
pub(super) struct Keeper {
    /// Weak: a node that drops its pools closes their connections.
    pub(super) pool: Weak<Pool>,
    /// Which connection this is.
    pub(super) member: MemberId,
    /// The node's wish to end.
    pub(super) ending: CancellationToken,
}

impl Keeper {
    /// Keeps an HTTP/1.1 connection going until it ends, is unused for too long, or the node ends.
    pub(super) async fn drive_http1(
        self,
        mut driver: Box<http1::Connection<TokioIo<Counted>, RequestBody>>,
        mut back: mpsc::Receiver<http1::SendRequest<RequestBody>>,
    ) {
        let mut check_at = self.first_check();
        loop {
            tokio::select! {
                biased;
                _ended = &mut driver => break,
                () = self.ending.cancelled() => break,
                Some(mut sender) = back.recv() => {
                    let is_ready = tokio::select! {
                        biased;
                        _ended = &mut driver => false,
                        () = self.ending.cancelled() => false,
                        ready = sender.ready() => ready.is_ok(),
                    };
                    let Some(pool) = self.pool.upgrade().filter(|_| is_ready) else { break };
                    pool.give_back(self.member, sender);
                }
                () = sleep_until(check_at.unwrap_or_else(Instant::now)), if check_at.is_some() => {
                    check_at = self.next_check();
                }
            }
        }
    }

    /// Keeps an HTTP/2 connection open for requests, under the same conditions.
    pub(super) async fn drive_http2(self, mut driver: Box<Http2Driver>, watch: Arc<Http2Watch>) {
        let mut check_at = self.first_check();
        loop {
            tokio::select! {
                biased;
                _ended = poll_fn(|cx| watch.poll_driver(&mut driver, cx)) => break,
                () = self.ending.cancelled() => break,
                () = sleep_until(check_at.unwrap_or_else(Instant::now)), if check_at.is_some() => {
                    check_at = self.next_check();
                }
            }
        }
    }

    fn first_check(&self) -> Option<Instant> {
        let pool = self.pool.upgrade()?;
        Some(Instant::now() + pool.idle_timeout())
    }

    /// Returns when to look again; `None` when the pool has let the connection go, which then ends by itself.
    fn next_check(&self) -> Option<Instant> {
        self.pool.upgrade()?.expire(self.member, Instant::now())
    }
}

impl Drop for Keeper {
    /// Whatever ended the task, the pool learns that the connection is gone.
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.leave(self.member);
        }
    }
}
