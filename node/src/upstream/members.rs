//! The connections of one pool, open and being opened, as plain values.
//!
//! Who calls it: the pool, under its lock. Deliberately not here: those who wait, tasks, and time limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::connection::{Lease, LeasedWire};
use super::dial::Http2Watch;
use super::pool::Pool;
use super::request::RequestBody;

/// The connections of one pool.
///
/// Invariant: `list.len() + dialing <= connections_max`.
#[derive(Debug)]
pub(super) struct Members {
    list: Vec<Member>,
    /// Connections that are being opened.
    dialing: usize,
    connections_max: usize,
    streams_max: usize,
    /// How many requests the next connection is expected to take: as many as the last one.
    room_expected: usize,
    next: u64,
}

/// Which connection of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemberId(u64);

#[derive(Debug)]
struct Member {
    id: MemberId,
    wire: Wire,
    in_use: usize,
    /// Whether the exchange is over and the connection about to be given back.
    is_returning: bool,
    idle_since: Instant,
    has_answered: Arc<AtomicBool>,
    /// Bytes received so far.
    received: Arc<AtomicU64>,
}

/// What an open connection is used through.
#[derive(Debug)]
pub(super) enum Wire {
    /// One exchange at a time.
    Http1 {
        /// The connection, while nobody has it.
        idle: Option<http1::SendRequest<RequestBody>>,
        /// Where it goes after an exchange.
        back: mpsc::Sender<http1::SendRequest<RequestBody>>,
    },
    /// Many exchanges at once.
    Http2 {
        sender: http2::SendRequest<RequestBody>,
        watch: Arc<Http2Watch>,
    },
}

impl Members {
    /// Creates an empty list. A limit of 0 would be a pool that serves nobody, and counts as 1.
    pub(super) fn new(connections_max: usize, streams_max: usize, expects_http2: bool) -> Self {
        let streams_max = streams_max.max(1);
        Self {
            list: Vec::new(),
            dialing: 0,
            connections_max: connections_max.max(1),
            streams_max,
            room_expected: if expects_http2 { streams_max } else { 1 },
            next: 0,
        }
    }

    /// Takes a place on the connection that is busiest and still has room.
    ///
    /// Busiest first lets connections that a peak left behind become unused and time out; among unused ones
    /// the last used is the least likely to be dead.
    pub(super) fn take(&mut self, pool: &Arc<Pool>) -> Option<Lease> {
        let streams_max = self.streams_max;
        let member = self
            .list
            .iter_mut()
            .filter(|m| m.in_use < m.wire.room(streams_max))
            .max_by_key(|m| (m.in_use, m.idle_since))?;
        member.lease(pool)
    }

    /// Takes the first place on a connection that was just added.
    pub(super) fn take_from(&mut self, id: MemberId, pool: &Arc<Pool>) -> Option<Lease> {
        self.find(id)?.lease(pool)
    }

    /// Returns a name for a connection to add.
    pub(super) fn next_id(&mut self) -> MemberId {
        self.next += 1;
        MemberId(self.next)
    }

    /// Adds an open connection.
    pub(super) fn add(&mut self, id: MemberId, wire: Wire, received: Arc<AtomicU64>, now: Instant) {
        self.room_expected = wire.room(self.streams_max).max(1);
        self.list.push(Member {
            id,
            wire,
            in_use: 0,
            is_returning: false,
            idle_since: now,
            has_answered: Arc::default(),
            received,
        });
    }

    /// Forgets a connection; its task ends when nobody uses it any more.
    pub(super) fn remove(&mut self, id: MemberId) {
        self.list.retain(|m| m.id != id);
    }

    /// Notes that a connection will be given back at once.
    pub(super) fn await_return(&mut self, id: MemberId) {
        if let Some(member) = self.find(id) {
            member.is_returning = true;
        }
    }

    /// Takes a place back, and the connection itself in HTTP/1.1. One that was forgotten took its places along.
    pub(super) fn free(
        &mut self,
        id: MemberId,
        returned: Option<http1::SendRequest<RequestBody>>,
        now: Instant,
    ) {
        let Some(member) = self.find(id) else { return };
        debug_assert!(member.in_use > 0, "a place is given back once");
        member.in_use = member.in_use.saturating_sub(1);
        member.is_returning = false;
        member.idle_since = now;
        match &mut member.wire {
            Wire::Http1 { idle, .. } => *idle = returned,
            Wire::Http2 { .. } => {}
        }
    }

    /// Forgets a connection that was unused for `idle_timeout`; returns when to look again.
    pub(super) fn expire(
        &mut self,
        id: MemberId,
        idle_timeout: Duration,
        now: Instant,
    ) -> Option<Instant> {
        let member = self.find(id)?;
        if member.in_use > 0 {
            return Some(now + idle_timeout);
        }
        let expires_at = member.idle_since + idle_timeout;
        if now < expires_at {
            return Some(expires_at);
        }
        self.remove(id);
        None
    }

    /// Counts and returns the connections to open for `waiting` requests.
    pub(super) fn plan_dials(&mut self, waiting: usize) -> usize {
        let needed = waiting.div_ceil(self.room_expected);
        let returning = self.list.iter().filter(|m| m.is_returning).count();
        let room = self
            .connections_max
            .saturating_sub(self.list.len() + self.dialing);
        let dials = needed.saturating_sub(self.dialing + returning).min(room);
        self.dialing += dials;
        dials
    }

    /// Counts one connection to open, at the expense of an unused one if need be; returns whether it may be.
    pub(super) fn reserve_dial(&mut self) -> bool {
        if self.list.len() + self.dialing >= self.connections_max {
            let unused = self.list.iter().find(|m| m.in_use == 0).map(|m| m.id);
            let Some(unused) = unused else { return false };
            self.remove(unused);
        }
        self.dialing += 1;
        true
    }

    /// Notes that a connection is no longer being opened, whatever came of it.
    pub(super) fn dial_ended(&mut self) {
        debug_assert!(self.dialing > 0, "a connection is opened once");
        self.dialing = self.dialing.saturating_sub(1);
    }

    /// Returns how many requests the next connection is expected to take.
    pub(super) fn room_expected(&self) -> usize {
        self.room_expected
    }

    /// Returns how many connections were ever added.
    pub(super) fn opened(&self) -> u64 {
        self.next
    }

    /// Returns the number of open connections and of places in use.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.list.len(), self.list.iter().map(|m| m.in_use).sum())
    }

    fn find(&mut self, id: MemberId) -> Option<&mut Member> {
        self.list.iter_mut().find(|m| m.id == id)
    }
}

impl Member {
    fn lease(&mut self, pool: &Arc<Pool>) -> Option<Lease> {
        let wire = self.wire.lease()?;
        self.in_use += 1;
        Some(Lease::new(
            Arc::clone(pool),
            self.id,
            Arc::clone(&self.has_answered),
            Arc::clone(&self.received),
            wire,
        ))
    }
}

impl Wire {
    /// Returns how many exchanges the connection takes at once; 0 when it takes no more.
    fn room(&self, streams_max: usize) -> usize {
        match self {
            Self::Http1 { idle, .. } => {
                usize::from(idle.as_ref().is_some_and(|sender| !sender.is_closed()))
            }
            Self::Http2 { sender, watch } if sender.is_closed() || watch.has_ended() => 0,
            // A parent that allows no stream for now is asked nevertheless: the stream waits for its turn.
            Self::Http2 { watch, .. } => watch.streams_max().clamp(1, streams_max),
        }
    }

    fn lease(&mut self) -> Option<LeasedWire> {
        match self {
            Self::Http1 { idle, back } => Some(LeasedWire::Http1 {
                sender: Some(idle.take()?),
                back: back.clone(),
            }),
            Self::Http2 { sender, watch } => Some(LeasedWire::Http2 {
                sender: sender.clone(),
                watch: Arc::clone(watch),
            }),
        }
    }
}
