//! The connections to one parent for one class of requests, and those who wait for one.
//!
//! ```text
//!  checkout --- room on a connection ------------------------------> Lease --> ForwardBody --> dropped
//!     |                                                               ^                          |
//!     +-- no room --> waiting (FIFO, bounded) --- first in line ------+------- place free -------+
//!                        |                                            |
//!                        +--> dial (a task, up to the limit) -- open -+-- not open: an error for those
//!                                                                         it was opened for
//! ```
//!
//! Who calls it: `Upstream::fetch` checks out, connection tasks report. What it calls: `dial`.
//! Deliberately not here: which parent is asked (`choice`), and sending (`connection`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use futures_util::FutureExt;
use hyper::client::conn::{http1, http2};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::config::{ParentId, UpstreamLimits};
use super::connection::{Keeper, Lease, LeasedWire};
use super::dial::{Dialer, Http2Watch, Opened};
use super::error::{ConnectError, UpstreamError};
use super::health::{Fault, Health};
use super::request::{Class, NoBody};
use crate::tasks::Tasks;

/// The connections to one parent for one class of requests.
///
/// FM-19: held requests and bulk transfers never share one, so that neither waits behind the other.
#[derive(Debug)]
pub(super) struct Pool {
    parent: ParentId,
    class: Class,
    dialer: Arc<Dialer>,
    health: Arc<Health>,
    limits: UpstreamLimits,
    tasks: Tasks,
    state: Mutex<State>,
}

/// Invariant: whoever waits has room on no connection, and `waiting.len() <= limits.waiting_max`.
/// Invariant: `members.len() + dialing <= limits.connections_per_parent_max`.
#[derive(Debug)]
struct State {
    members: Vec<Member>,
    dialing: usize,
    /// By ticket, so that the first is the one who waits longest, and who leaves is found.
    waiting: BTreeMap<u64, oneshot::Sender<Grant>>,
    next_ticket: u64,
    next_member: u64,
    /// Whether the next connection is expected to carry several requests: the last one did.
    is_multiplexed: bool,
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
}

#[derive(Debug)]
enum Wire {
    Http1 {
        /// The connection, while nobody has it.
        idle: Option<http1::SendRequest<NoBody>>,
        back: mpsc::Sender<http1::SendRequest<NoBody>>,
        received: Arc<AtomicU64>,
    },
    Http2 {
        sender: http2::SendRequest<NoBody>,
        watch: Arc<Http2Watch>,
    },
}

/// What one who waits is told.
#[derive(Debug)]
enum Grant {
    Leased(Lease),
    Failed(Arc<ConnectError>),
}

/// How busy a pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// Open connections.
    pub connections: usize,
    /// Exchanges under way, until the last byte of the answer.
    pub exchanges: usize,
    /// Requests that wait for a connection.
    pub waiting: usize,
}

impl Pool {
    /// Creates a pool without connections.
    pub(super) fn new(
        parent: ParentId,
        class: Class,
        dialer: Arc<Dialer>,
        health: Arc<Health>,
        limits: UpstreamLimits,
        tasks: Tasks,
    ) -> Self {
        let state = State {
            members: Vec::new(),
            dialing: 0,
            waiting: BTreeMap::new(),
            next_ticket: 0,
            next_member: 0,
            is_multiplexed: dialer.expects_http2(),
        };
        Self {
            parent,
            class,
            dialer,
            health,
            limits,
            tasks,
            state: Mutex::new(state),
        }
    }

    /// Takes a place on a connection, or waits for one.
    ///
    /// # Errors
    /// [`UpstreamError::QueueFull`], [`UpstreamError::QueueTimeout`] after `wait`, and
    /// [`UpstreamError::Connect`] if the connection that was opened for this request could not be.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in the queue; a connection that is being opened stays.
    pub(super) async fn checkout(self: &Arc<Self>, wait: Duration) -> Result<Lease, UpstreamError> {
        let (_line, granted, dials) = {
            let mut state = self.state.lock();
            if state.waiting.is_empty()
                && let Some(lease) = state.take(self)
            {
                return Ok(lease);
            }
            if state.waiting.len() >= self.limits.waiting_max {
                return Err(UpstreamError::QueueFull {
                    parent: self.parent,
                });
            }
            let (sender, granted) = oneshot::channel();
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.waiting.insert(ticket, sender);
            let line = InLine { pool: self, ticket };
            (line, granted, state.plan_dials(&self.limits))
        };
        for _ in 0..dials {
            self.start_dial(None);
        }
        self.redeem(granted, wait).await
    }

    /// Takes a place on a connection opened for this request, to replay it after a kept connection died.
    ///
    /// An unused connection makes room if need be; if all are in use, this is an ordinary [`Pool::checkout`].
    pub(super) async fn checkout_fresh(
        self: &Arc<Self>,
        wait: Duration,
    ) -> Result<Lease, UpstreamError> {
        let has_room = self.state.lock().reserve_dial(&self.limits);
        if !has_room {
            return self.checkout(wait).await;
        }
        let (sender, granted) = oneshot::channel();
        self.start_dial(Some(sender));
        self.redeem(granted, wait).await
    }

    async fn redeem(
        &self,
        granted: oneshot::Receiver<Grant>,
        wait: Duration,
    ) -> Result<Lease, UpstreamError> {
        let parent = self.parent;
        match timeout(wait, granted).await {
            Ok(Ok(Grant::Leased(lease))) => Ok(lease),
            Ok(Ok(Grant::Failed(source))) => Err(match *source {
                ConnectError::Ending => UpstreamError::Ending,
                _ => UpstreamError::Connect { parent, source },
            }),
            // The task that opened the connection was dropped with its runtime.
            Ok(Err(_)) => Err(UpstreamError::Ending),
            Err(_elapsed) => Err(UpstreamError::QueueTimeout { parent }),
        }
    }

    /// Opens one connection in a task of its own: who asked for it may leave, others will use it.
    fn start_dial(self: &Arc<Self>, first: Option<oneshot::Sender<Grant>>) {
        let slot = DialSlot {
            pool: Arc::clone(self),
        };
        let ending = self.tasks.signal();
        self.tasks.spawn(async move {
            let pool = &slot.pool;
            let opened = tokio::select! {
                biased;
                () = ending.cancelled() => Err(ConnectError::Ending),
                opened = timeout(pool.limits.connect_timeout, pool.dialer.open(pool.class)) => {
                    opened.unwrap_or(Err(ConnectError::Timeout))
                }
            };
            match opened {
                Ok(opened) => slot.opened(opened, first),
                Err(error) => slot.not_opened(error, first),
            }
        });
    }

    /// Gives connections to those who wait, and opens more if that does not suffice.
    fn settle(self: &Arc<Self>) {
        let (grants, dials) = {
            let mut state = self.state.lock();
            let mut grants = Vec::new();
            while !state.waiting.is_empty() {
                let Some(lease) = state.take(self) else { break };
                let first = state.waiting.pop_first();
                grants.push((first.expect("someone waits").1, lease));
            }
            // A lease may be dropped where no task can be started any more, as a runtime ends.
            let can_dial = tokio::runtime::Handle::try_current().is_ok();
            let dials = if can_dial {
                state.plan_dials(&self.limits)
            } else {
                0
            };
            (grants, dials)
        };
        for (waiting, lease) in grants {
            // Who has just left returns the lease, whose drop comes here again. Never under the lock.
            drop(waiting.send(Grant::Leased(lease)));
        }
        for _ in 0..dials {
            self.start_dial(None);
        }
    }

    /// Notes that an HTTP/1.1 connection will be given back at once: nobody needs a new one instead.
    pub(super) fn await_return(&self, member: MemberId) {
        let mut state = self.state.lock();
        if let Some(member) = state.members.iter_mut().find(|m| m.id == member) {
            member.is_returning = true;
        }
    }

    /// Takes back a place on an HTTP/2 connection.
    pub(super) fn release(self: &Arc<Self>, member: MemberId) {
        self.free(member, |_wire| {});
    }

    /// Takes back an HTTP/1.1 connection whose exchange is over.
    pub(super) fn give_back(
        self: &Arc<Self>,
        member: MemberId,
        sender: http1::SendRequest<NoBody>,
    ) {
        self.free(member, |wire| match wire {
            Wire::Http1 { idle, .. } => *idle = Some(sender),
            Wire::Http2 { .. } => {}
        });
    }

    fn free(self: &Arc<Self>, id: MemberId, give: impl FnOnce(&mut Wire)) {
        let someone_waits = {
            let mut state = self.state.lock();
            // A connection that ended took its places along.
            if let Some(member) = state.members.iter_mut().find(|m| m.id == id) {
                debug_assert!(member.in_use > 0, "a place is given back once");
                member.in_use = member.in_use.saturating_sub(1);
                member.is_returning = false;
                member.idle_since = Instant::now();
                give(&mut member.wire);
            }
            !state.waiting.is_empty()
        };
        if someone_waits {
            self.settle();
        }
    }

    /// Forgets a connection that has ended, or takes no more requests.
    pub(super) fn leave(self: &Arc<Self>, member: MemberId) {
        let (left, someone_waits) = {
            let mut state = self.state.lock();
            (state.remove(member), !state.waiting.is_empty())
        };
        drop(left);
        if someone_waits {
            self.settle();
        }
    }

    /// Lets a connection go that was unused for the idle timeout; returns when to look again.
    pub(super) fn expire(&self, member: MemberId, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        let found = state.members.iter().find(|m| m.id == member)?;
        if found.in_use > 0 {
            return Some(now + self.limits.idle_timeout);
        }
        let expires_at = found.idle_since + self.limits.idle_timeout;
        if now < expires_at {
            return Some(expires_at);
        }
        state.remove(member);
        None
    }

    /// Returns the time after which an unused connection is closed.
    pub(super) fn idle_timeout(&self) -> Duration {
        self.limits.idle_timeout
    }

    /// Returns how busy the pool is.
    pub(super) fn status(&self) -> PoolStatus {
        let state = self.state.lock();
        PoolStatus {
            connections: state.members.len(),
            exchanges: state.members.iter().map(|m| m.in_use).sum(),
            waiting: state.waiting.len(),
        }
    }

    /// Adds an open connection, starts its task, and takes the first place on it if `is_wanted`.
    fn join(self: &Arc<Self>, opened: Opened, is_wanted: bool) -> Option<Lease> {
        let id = self.state.lock().next_id();
        let keeper = Keeper {
            pool: Arc::downgrade(self),
            member: id,
            ending: self.tasks.signal(),
        };
        let is_multiplexed = matches!(opened, Opened::Http2 { .. });
        let (wire, task) = match opened {
            Opened::Http1 {
                sender,
                driver,
                received,
            } => {
                let (back, returned) = mpsc::channel(1);
                let wire = Wire::Http1 {
                    idle: Some(sender),
                    back,
                    received,
                };
                (wire, keeper.drive_http1(driver, returned).boxed())
            }
            Opened::Http2 {
                sender,
                driver,
                watch,
            } => {
                let task = keeper.drive_http2(driver, Arc::clone(&watch)).boxed();
                (Wire::Http2 { sender, watch }, task)
            }
        };
        let lease = {
            let mut state = self.state.lock();
            state.is_multiplexed = is_multiplexed;
            state.members.push(Member {
                id,
                wire,
                in_use: 0,
                is_returning: false,
                idle_since: Instant::now(),
                has_answered: Arc::default(),
            });
            let member = state.members.last_mut().filter(|_| is_wanted);
            member.and_then(|member| member.lease(self))
        };
        // Outside of the lock: a runtime that ends drops the task at once, and the task then reports.
        self.tasks.spawn(task);
        lease
    }
}

impl State {
    /// Takes a place on the connection that is busiest and still has room.
    ///
    /// Busiest first lets connections that a peak left behind become unused and time out; among unused ones
    /// the last used is the least likely to be dead.
    fn take(&mut self, pool: &Arc<Pool>) -> Option<Lease> {
        let streams_max = pool.limits.streams_per_connection_max;
        let member = self
            .members
            .iter_mut()
            .filter(|m| m.has_room(streams_max))
            .max_by_key(|m| (m.in_use, m.idle_since))?;
        member.lease(pool)
    }

    fn next_id(&mut self) -> MemberId {
        self.next_member += 1;
        MemberId(self.next_member)
    }

    /// Counts and returns the connections to open for those who wait.
    fn plan_dials(&mut self, limits: &UpstreamLimits) -> usize {
        let needed = self.waiting.len().div_ceil(self.served_by_one(limits));
        let room = limits
            .connections_per_parent_max
            .max(1)
            .saturating_sub(self.members.len() + self.dialing);
        let returning = self.members.iter().filter(|m| m.is_returning).count();
        let dials = needed.saturating_sub(self.dialing + returning).min(room);
        self.dialing += dials;
        dials
    }

    /// Counts one connection to open, at the expense of an unused one if need be.
    fn reserve_dial(&mut self, limits: &UpstreamLimits) -> bool {
        if self.members.len() + self.dialing >= limits.connections_per_parent_max.max(1) {
            let unused = self.members.iter().find(|m| m.in_use == 0).map(|m| m.id);
            let Some(unused) = unused else { return false };
            self.remove(unused);
        }
        self.dialing += 1;
        true
    }

    /// Returns how many requests the next connection is expected to take.
    fn served_by_one(&self, limits: &UpstreamLimits) -> usize {
        if self.is_multiplexed {
            limits.streams_per_connection_max.max(1)
        } else {
            1
        }
    }

    fn remove(&mut self, id: MemberId) -> Option<Member> {
        let index = self.members.iter().position(|m| m.id == id)?;
        Some(self.members.remove(index))
    }
}

impl Member {
    fn has_room(&self, streams_max: usize) -> bool {
        match &self.wire {
            Wire::Http1 { idle, .. } => idle.as_ref().is_some_and(|sender| !sender.is_closed()),
            Wire::Http2 { sender, watch } => {
                let room = watch.streams_max().min(streams_max).max(1);
                self.in_use < room && !sender.is_closed() && !watch.has_ended()
            }
        }
    }

    fn lease(&mut self, pool: &Arc<Pool>) -> Option<Lease> {
        let wire = self.wire.lease()?;
        self.in_use += 1;
        let has_answered = Arc::clone(&self.has_answered);
        Some(Lease::new(Arc::clone(pool), self.id, has_answered, wire))
    }
}

impl Wire {
    fn lease(&mut self) -> Option<LeasedWire> {
        match self {
            Self::Http1 {
                idle,
                back,
                received,
            } => Some(LeasedWire::Http1 {
                sender: Some(idle.take()?),
                back: back.clone(),
                received: Arc::clone(received),
            }),
            Self::Http2 { sender, watch } => Some(LeasedWire::Http2 {
                sender: sender.clone(),
                watch: Arc::clone(watch),
            }),
        }
    }
}

/// A place in the queue, given up on drop.
struct InLine<'a> {
    pool: &'a Pool,
    ticket: u64,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let left = self.pool.state.lock().waiting.remove(&self.ticket);
        drop(left);
    }
}

/// A connection that is being opened and counts as one.
struct DialSlot {
    pool: Arc<Pool>,
}

impl DialSlot {
    fn opened(self, opened: Opened, first: Option<oneshot::Sender<Grant>>) {
        let pool = Arc::clone(&self.pool);
        let lease = pool.join(opened, first.is_some());
        drop(self);
        if let (Some(first), Some(lease)) = (first, lease) {
            drop(first.send(Grant::Leased(lease)));
        }
        pool.settle();
    }

    fn not_opened(self, error: ConnectError, first: Option<oneshot::Sender<Grant>>) {
        let pool = Arc::clone(&self.pool);
        tracing::debug!(parent = pool.parent.0, class = ?pool.class, %error, "connection not opened");
        if !matches!(error, ConnectError::Ending) {
            pool.health.note_failure(Fault::Connect, Instant::now());
        }
        let error = Arc::new(error);
        let told: Vec<_> = first.map_or_else(
            || {
                let mut state = pool.state.lock();
                let count = state.served_by_one(&pool.limits);
                std::iter::from_fn(|| state.waiting.pop_first())
                    .take(count)
                    .map(|(_, waiting)| waiting)
                    .collect()
            },
            |first| vec![first],
        );
        drop(self);
        for waiting in told {
            drop(waiting.send(Grant::Failed(Arc::clone(&error))));
        }
        pool.settle();
    }
}

impl Drop for DialSlot {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        state.dialing = state.dialing.saturating_sub(1);
    }
}
