//! How a node asks its parents.
//!
//! What is here: connections to parents, the choice among them, their health, retries.
//! Who calls it: fills and the live hub's chains. Deliberately not here: caching and media.

mod choice;
mod config;
mod connection;
mod connector;
mod dial;
mod error;
mod health;
mod members;
mod pool;
mod request;
mod response;
mod retry;
mod trust;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

pub use self::config::{
    ClientCertificate, ParentConfig, ParentId, Selection, UpstreamConfig, UpstreamLimits,
};
pub use self::connector::{Connector, SimulatedNetwork};
pub use self::error::{ConnectError, UpstreamError, UpstreamSetupError};
pub use self::health::CircuitStatus;
pub use self::pool::PoolStatus;
pub use self::request::{Class, ForwardRequest};
pub use self::response::{ForwardBody, ForwardResponse};
pub(crate) use self::retry::RetryBudget;

use self::choice::Choice;
use self::connection::Replay;
use self::dial::Dialer;
use self::health::{Fault, Health};
use self::pool::Pool;
use self::request::{Canonical, NodeName};
use crate::tasks::Tasks;

/// The parents of a node, ready to be asked. Cheap to clone, for use on any worker.
#[derive(Clone)]
pub struct Upstream {
    shared: Arc<Shared>,
}

struct Shared {
    node_name: NodeName,
    limits: UpstreamLimits,
    parents: Vec<Parent>,
    choice: Choice,
    retries: RetryBudget,
}

struct Parent {
    config: ParentConfig,
    health: Arc<Health>,
    parked: Arc<Pool>,
    bulk: Arc<Pool>,
}

/// One parent as an operator reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentStatus {
    /// Which one, as in [`ForwardResponse::parent`].
    pub id: ParentId,
    /// Its name.
    pub name: String,
    /// Whether requests go there.
    pub circuit: CircuitStatus,
    /// Failures since its last good answer.
    pub failures_in_a_row: u32,
    /// How often it began to be left alone since the node was started.
    pub times_failed: u64,
    /// The connections for held requests.
    pub parked: PoolStatus,
    /// The connections for everything else.
    pub bulk: PoolStatus,
}

impl Upstream {
    /// Checks `config`, reads its certificates, and is ready; no connection is opened yet.
    ///
    /// # Errors
    /// [`UpstreamSetupError`] names the parent or the file that cannot be used.
    pub fn new(
        config: UpstreamConfig,
        connector: Connector,
        tasks: &Tasks,
    ) -> Result<Self, UpstreamSetupError> {
        let UpstreamConfig {
            parents,
            selection,
            node_name,
            mut limits,
        } = config;
        limits.idle_timeout = limits.idle_timeout.min(TIME_MAX);
        limits.backoff_min = limits.backoff_min.min(TIME_MAX);
        limits.backoff_max = limits.backoff_max.min(TIME_MAX);
        if parents.is_empty() {
            return Err(UpstreamSetupError::NoParents);
        }
        let health: Vec<Arc<Health>> = parents
            .iter()
            .map(|parent| Arc::new(Health::new(&parent.name, &node_name, &limits)))
            .collect();
        let choice = Choice::new(selection, &parents, &health, limits.moved_presentations_max);
        let parents = parents
            .into_iter()
            .zip(health)
            .enumerate()
            .map(|(id, (config, health))| {
                let dialer = Arc::new(Dialer::new(&config, connector.clone(), tasks.clone())?);
                let pool = |class| {
                    Arc::new(Pool::new(
                        ParentId(id),
                        class,
                        Arc::clone(&dialer),
                        Arc::clone(&health),
                        limits.clone(),
                        tasks.clone(),
                    ))
                };
                Ok(Parent {
                    parked: pool(Class::Parked),
                    bulk: pool(Class::Bulk),
                    config,
                    health,
                })
            })
            .collect::<Result<_, UpstreamSetupError>>()?;
        Ok(Self {
            shared: Arc::new(Shared {
                node_name: NodeName::new(&node_name)?,
                retries: RetryBudget::new(limits.retry_budget_percent, limits.retry_reserve_max),
                limits,
                parents,
                choice,
            }),
        })
    }

    /// Asks a parent and returns the head of its answer, with the body still arriving.
    ///
    /// If no connection can be opened, or it ends before a head, the next parent is asked, within the retry
    /// budget. Any status is an answer.
    ///
    /// # Errors
    /// [`UpstreamError`] says what went wrong with the parent that was asked last.
    ///
    /// # Cancel safety
    /// Dropping the future takes the request back: its HTTP/2 stream is reset, its HTTP/1.1 connection closed.
    /// Other requests are not disturbed.
    ///
    /// # Limits
    /// One attempt waits for a connection at most twice the connect timeout, and then for the head
    /// `first_byte_timeout`. All attempts together take no longer than one such attempt may.
    pub async fn fetch(&self, request: &ForwardRequest) -> Result<ForwardResponse, UpstreamError> {
        let shared = &*self.shared;
        let waiting = shared.limits.connect_timeout.saturating_mul(2);
        let deadline = Deadline::after(waiting.saturating_add(request.first_byte_timeout));
        shared.retries.earn();
        let mut tried = Vec::new();
        let mut disappointment = None;
        loop {
            let now = Instant::now();
            let choice = &shared.choice;
            let Some(chosen) = choice.choose(&request.affinity, request.avoid, &tried, now) else {
                return Err(disappointment.expect("there are parents, so one was asked"));
            };
            let parent = chosen.parent;
            let error = match shared.ask(parent, request, deadline).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            // The right to probe ends only now: the verdict was noted.
            drop(chosen);
            tried.push(parent);
            let has_other = tried.len() < shared.parents.len();
            let has_time = !deadline.left().is_zero();
            if !(error.may_be_retried(&request.method)
                && has_other
                && has_time
                && shared.retries.spend())
            {
                return Err(error);
            }
            tracing::debug!(parent = shared.name(parent), %error, "asking the next parent");
            disappointment = Some(error);
        }
    }

    /// Returns the parent that a second attempt at the same resource should not ask, if another may be.
    ///
    /// Parents that share keys by hash serve the same. Ordered ones are origins, which may number
    /// differently under one URL: a presentation stays with one of them (CA-08).
    pub(crate) fn first_choice(&self, affinity: &str) -> Option<ParentId> {
        self.shared.choice.first(affinity)
    }

    /// Returns the name of a parent, as in logs, metrics and `Cache-Status`.
    pub fn name(&self, parent: ParentId) -> &str {
        self.shared.name(parent)
    }

    /// Returns the names of all parents in the order in which they are asked for what belongs to `affinity`
    /// while all of them are healthy.
    pub fn preferred(&self, affinity: &str) -> Vec<String> {
        let order = self.shared.choice.preference(affinity, Instant::now());
        order
            .into_iter()
            .map(|parent| self.name(parent).to_owned())
            .collect()
    }

    /// Returns all parents in the order of the configuration.
    pub fn parents(&self) -> Vec<ParentStatus> {
        let describe = |(id, parent): (usize, &Parent)| {
            let (circuit, failures_in_a_row) = parent.health.status();
            ParentStatus {
                id: ParentId(id),
                name: parent.config.name.clone(),
                circuit,
                failures_in_a_row,
                times_failed: parent.health.times_failed(),
                parked: parent.parked.status(),
                bulk: parent.bulk.status(),
            }
        };
        self.shared
            .parents
            .iter()
            .enumerate()
            .map(describe)
            .collect()
    }
}

impl Shared {
    /// Asks one parent, twice if a kept connection turns out dead.
    async fn ask(
        &self,
        id: ParentId,
        request: &ForwardRequest,
        deadline: Deadline,
    ) -> Result<ForwardResponse, UpstreamError> {
        let parent = &self.parents[id.0];
        let pool = match request.class {
            Class::Parked => &parent.parked,
            Class::Bulk => &parent.bulk,
        };
        let canonical = Canonical::new(request, &parent.config, &self.node_name)?;
        let mut lease = pool.checkout(self.wait(deadline)).await?;
        let mut is_replay = false;
        loop {
            let sent_at = Instant::now();
            let limit = request.first_byte_timeout.min(deadline.left());
            let lost = match timeout(limit, lease.send(&canonical)).await {
                Ok(Ok(response)) => {
                    let head_at = Instant::now();
                    let (head, incoming) = response.into_parts();
                    let health = &parent.health;
                    health.note_answer(head.status, request.class, head_at);
                    return Ok(ForwardResponse {
                        head,
                        body: ForwardBody::new(incoming, lease),
                        parent: id,
                        sent_at,
                        head_at,
                    });
                }
                Ok(Err(lost)) => lost,
                Err(_elapsed) => {
                    if lease.is_silent() {
                        lease.retire_connection();
                    }
                    parent.health.note_failure(Fault::Silent, Instant::now());
                    return Err(UpstreamError::FirstByteTimeout { parent: id });
                }
            };
            if lost.replay == Replay::OnOtherConnection {
                lease.retire_connection();
            }
            drop(lease);
            // The lease has judged whether the request may go out again (RFC 9110 9.2.2).
            lease = match lost.replay {
                Replay::OnFreshConnection if !is_replay => {
                    pool.checkout_fresh(self.wait(deadline)).await?
                }
                Replay::OnOtherConnection if !is_replay => {
                    pool.checkout(self.wait(deadline)).await?
                }
                Replay::OnFreshConnection | Replay::OnOtherConnection | Replay::No => {
                    parent.health.note_failure(Fault::Lost, Instant::now());
                    return Err(UpstreamError::Lost {
                        parent: id,
                        has_begun: lost.has_begun,
                        source: lost.source,
                    });
                }
            };
            is_replay = true;
        }
    }

    /// Returns how long one attempt may wait for a connection.
    fn wait(&self, deadline: Deadline) -> Duration {
        let longest = self.limits.connect_timeout.saturating_mul(2);
        deadline.left().min(longest)
    }

    fn name(&self, parent: ParentId) -> &str {
        self.parents
            .get(parent.0)
            .map_or("unknown", |parent| &parent.config.name)
    }
}

/// The end of the time that all attempts of one request have together. Any duration is a legal one.
#[derive(Clone, Copy)]
struct Deadline {
    started: Instant,
    time: Duration,
}

impl Deadline {
    fn after(time: Duration) -> Self {
        Self {
            started: Instant::now(),
            time,
        }
    }

    fn left(&self) -> Duration {
        self.time.saturating_sub(self.started.elapsed())
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.shared.parents.iter().map(|p| &p.config.name).collect();
        f.debug_struct("Upstream")
            .field("parents", &names)
            .finish_non_exhaustive()
    }
}

/// Longer idle and backoff times mean "for ever" and count as this: no clock arithmetic may overflow.
const TIME_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[cfg(test)]
mod tests;
