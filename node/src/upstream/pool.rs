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
use std::time::Duration;

use futures_util::FutureExt;
use hyper::client::conn::http1;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::config::{ParentId, UpstreamLimits};
use super::connection::{Keeper, Lease};
use super::dial::{Dialer, Opened, OpenedVersion};
use super::error::{ConnectError, UpstreamError};
use super::health::{Fault, Health};
use super::members::{MemberId, Members, Wire};
use super::request::{Class, RequestBody};
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
#[derive(Debug)]
struct State {
    members: Members,
    /// By ticket, so that the first is the one who waits longest, and who leaves is found.
    waiting: BTreeMap<u64, oneshot::Sender<Grant>>,
    next_ticket: u64,
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
    /// Connections that were opened since the node was started.
    pub opened: u64,
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
        let members = Members::new(
            limits.connections_per_parent_max,
            limits.streams_per_connection_max,
            dialer.expects_http2(),
        );
        let state = State {
            members,
            waiting: BTreeMap::new(),
            next_ticket: 0,
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
                && let Some(lease) = state.members.take(self)
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
            (line, granted, state.plan_dials())
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
        let has_room = self.state.lock().members.reserve_dial();
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
                opened = timeout(pool.limits.connect_timeout, pool.dialer.open()) => {
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
                let Some(lease) = state.members.take(self) else {
                    break;
                };
                let first = state.waiting.pop_first();
                grants.push((first.expect("someone waits").1, lease));
            }
            // A lease may be dropped where no task can be started any more, as a runtime ends.
            let can_dial = tokio::runtime::Handle::try_current().is_ok();
            let dials = if can_dial { state.plan_dials() } else { 0 };
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
        self.state.lock().members.await_return(member);
    }

    /// Takes back a place on an HTTP/2 connection.
    pub(super) fn release(self: &Arc<Self>, member: MemberId) {
        self.change(|members| members.free(member, None, Instant::now()));
    }

    /// Takes back an HTTP/1.1 connection whose exchange is over.
    pub(super) fn give_back(
        self: &Arc<Self>,
        member: MemberId,
        sender: http1::SendRequest<RequestBody>,
    ) {
        self.change(|members| members.free(member, Some(sender), Instant::now()));
    }

    /// Forgets a connection that has ended, or takes no more requests.
    pub(super) fn leave(self: &Arc<Self>, member: MemberId) {
        self.change(|members| members.remove(member));
    }

    fn change(self: &Arc<Self>, change: impl FnOnce(&mut Members)) {
        let someone_waits = {
            let mut state = self.state.lock();
            change(&mut state.members);
            !state.waiting.is_empty()
        };
        if someone_waits {
            self.settle();
        }
    }

    /// Lets a connection go that was unused for the idle timeout; returns when to look again.
    pub(super) fn expire(&self, member: MemberId, now: Instant) -> Option<Instant> {
        let idle_timeout = self.limits.idle_timeout;
        self.state.lock().members.expire(member, idle_timeout, now)
    }

    /// Returns the time after which an unused connection is closed.
    pub(super) fn idle_timeout(&self) -> Duration {
        self.limits.idle_timeout
    }

    /// Returns how busy the pool is.
    pub(super) fn status(&self) -> PoolStatus {
        let state = self.state.lock();
        let (connections, exchanges) = state.members.counts();
        PoolStatus {
            connections,
            opened: state.members.opened(),
            exchanges,
            waiting: state.waiting.len(),
        }
    }

    /// Adds an open connection, starts its task, and takes the first place on it if `is_wanted`.
    fn join(self: &Arc<Self>, opened: Opened, is_wanted: bool) -> Option<Lease> {
        let id = self.state.lock().members.next_id();
        let keeper = Keeper {
            pool: Arc::downgrade(self),
            member: id,
            ending: self.tasks.signal(),
        };
        let (wire, task) = match opened.version {
            OpenedVersion::Http1 { sender, driver } => {
                let (back, returned) = mpsc::channel(1);
                let wire = Wire::Http1 {
                    idle: Some(sender),
                    back,
                };
                (wire, keeper.drive_http1(driver, returned).boxed())
            }
            OpenedVersion::Http2 {
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
            state.members.add(id, wire, opened.received, Instant::now());
            is_wanted
                .then(|| state.members.take_from(id, self))
                .flatten()
        };
        // Outside of the lock: a runtime that ends drops the task at once, and the task then reports.
        self.tasks.spawn(task);
        lease
    }
}

impl State {
    fn plan_dials(&mut self) -> usize {
        self.members.plan_dials(self.waiting.len())
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
                let count = state.members.room_expected();
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
        self.pool.state.lock().members.dial_ended();
    }
}
