//! A node: the state that all requests of one process share, and how it is put together.
//!
//! [`Node::assemble`] makes the parts and needs no network: tests drive it over a simulated one.
//! [`Node::start`] also binds sockets and starts worker threads, and returns what is running.

mod config;
mod running;
mod status;

pub use config::{AccessLogConfig, AdminConfig, LiveConfig, NodeConfig, NodeLimits, PurgeConfig};
pub use running::{Running, StartError};

use std::sync::Arc;
use std::time::Duration;

use cache::outcome::CacheNameError;
use cache::{CacheKey, CacheName, Store};
use http::{HeaderMap, HeaderValue};
use moka::sync::Cache;
use thread_local::ThreadLocal;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::admin::Status;
use crate::clock::Clock;
use crate::coding::Coders;
use crate::dash::Mpds;
use crate::fill::{self, Fills};
use crate::live::Hub;
use crate::next_objects::NextObjects;
use crate::purge::{self, Applier, FollowConfig, Follower, Purges};
use crate::record::Books;
use crate::request::{Admission, Targets};
use crate::respond::Members;
use crate::rules::Rules;
use crate::slices::Slices;
use crate::streams::{self, Streams};
use crate::tasks::Tasks;
use crate::telemetry::{
    AccessLog, AccessLogError, ConnectionsLevel, Levels, ParentLevel, Telemetry,
};
use crate::upstream::{
    CircuitStatus, Connector, ParentStatus, PoolStatus, Selection, Upstream, UpstreamConfig,
    UpstreamLimits, UpstreamSetupError,
};

/// What every request of a node shares.
#[derive(Debug)]
pub struct Node {
    /// The node's name in `Via`, `Cache-Status`, `CDN-Loop` and logs.
    pub name: String,
    pub(crate) clock: Clock,
    pub(crate) live: LiveConfig,
    pub(crate) limits: NodeLimits,
    pub(crate) playlist_limits: media::hls::Limits,
    /// The fields of every request to a parent; rules add some of the viewer's.
    pub(crate) forward_fields: Arc<HeaderMap>,
    pub(crate) rules: Rules,
    /// What was lately asked for, under these rules.
    pub(crate) targets: Targets,
    /// The name in `Cache-Status`.
    pub(crate) cache_name: CacheName,
    /// This node's member of `Via` (RFC 9110 7.6.3).
    pub(crate) via: HeaderValue,
    pub(crate) members: Members,
    pub(crate) heeds_children: bool,
    pub(crate) allows_cross_origin: bool,
    pub(crate) states_timing: bool,
    pub(crate) store: Store,
    pub(crate) fills: Fills,
    /// Keys whose last response could not be shared: asked for one by one for a while, so that a queue
    /// does not form behind each such answer.
    pub(crate) uncacheable: Cache<CacheKey, ()>,
    /// Places for requests that are relayed, each with its content in memory.
    pub(crate) relays: Semaphore,
    pub(crate) hub: Hub,
    pub(crate) next_objects: NextObjects,
    pub(crate) mpds: Mpds,
    pub(crate) coders: Coders,
    pub(crate) slices: Slices,
    pub(crate) upstream: Upstream,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) streams: Arc<Streams>,
    /// Of each worker its own, so that workers do not write to one count of users with every request.
    books: ThreadLocal<Arc<Books>>,
    pub(crate) purges: Purges,
    pub(crate) tasks: Tasks,
}

impl Node {
    /// Puts a node together without listening anywhere.
    ///
    /// # Errors
    ///
    /// Parents that cannot be used as configured, e.g. for an unreadable file of certificates; an
    /// access log that cannot be written.
    pub fn assemble(
        config: &NodeConfig,
        connector: Connector,
        clock: Clock,
        tasks: Tasks,
    ) -> Result<Arc<Self>, AssembleError> {
        let access_log = config
            .access_log
            .as_ref()
            .map(AccessLog::open)
            .transpose()?;
        let parents: Vec<_> = config
            .upstream
            .parents
            .iter()
            .map(|p| p.name.clone())
            .collect();
        let telemetry = Arc::new(Telemetry::new(&config.name, &parents, clock, access_log));
        let follows = connector.clone();
        let upstream = Upstream::new(config.upstream.clone(), connector, &tasks)?;
        let node = Arc::new(Self {
            name: config.name.clone(),
            clock,
            live: config.live.clone(),
            limits: config.limits.clone(),
            playlist_limits: media::hls::Limits {
                bytes_max: config.live.playlist_bytes_max,
                ..media::hls::Limits::default()
            },
            forward_fields: fill::forward_fields(),
            rules: config.rules.clone(),
            targets: Targets::default(),
            cache_name: CacheName::new(&config.name)?,
            via: via_of(&config.name),
            members: Members::new(&config.name),
            heeds_children: config.heeds_children,
            allows_cross_origin: config.cors,
            states_timing: config.server_timing,
            store: Store::new(counted_bytes(config.store_bytes)),
            fills: Fills::new(),
            uncacheable: Cache::builder()
                .max_capacity(UNCACHEABLE_MAX)
                .time_to_live(UNCACHEABLE_FOR)
                .build(),
            relays: Semaphore::new(config.limits.relays_max),
            coders: Coders::default(),
            slices: Slices::new(&config.limits),
            hub: Hub::new(&config.live),
            next_objects: NextObjects::new(&config.live),
            mpds: Mpds::default(),
            upstream,
            streams: Arc::new(Streams::new(&telemetry)),
            books: ThreadLocal::new(),
            purges: Purges::default(),
            telemetry,
            tasks,
        });
        if let Some(purge) = &config.purge {
            node.follow_purges(purge, follows)?;
        }
        // Weak: the telemetry belongs to the node and must not keep it alive.
        let observed = Arc::downgrade(&node);
        node.telemetry
            .observe(move || observed.upgrade().map(|n| n.levels()).unwrap_or_default());
        Ok(node)
    }

    /// Returns where this worker keeps what happens with requests.
    pub(crate) fn books(&self) -> Arc<Books> {
        let own = self.books.get_or(|| {
            Arc::new(Books {
                clock: self.clock,
                streams: Arc::clone(&self.streams),
                telemetry: Arc::clone(&self.telemetry),
            })
        });
        Arc::clone(own)
    }

    /// Follows the purge log, and applies what it says to this node.
    fn follow_purges(
        self: &Arc<Self>,
        config: &PurgeConfig,
        connector: Connector,
    ) -> Result<(), AssembleError> {
        let parents = UpstreamConfig {
            parents: config.parents.clone(),
            selection: Selection::Ordered,
            node_name: self.name.clone(),
            limits: UpstreamLimits::default(),
        };
        let parents = Upstream::new(parents, connector, &self.tasks)?;
        let usual = FollowConfig::new(self.name.parse()?);
        let (window_entries_max, children_max) = match &config.children {
            Some(children) => (usual.window_entries_max, children.children_max),
            // Nobody below: nothing is kept for them.
            None => (0, 0),
        };
        let config = FollowConfig {
            lagging_after: config.lagging_after,
            when_lagging: config.when_lagging,
            window_entries_max,
            children_max,
            ..usual
        };
        let applier = Arc::new(Applier::to(self));
        let follower = Follower::start(config, parents, applier, self.clock, &self.tasks);
        self.purges.follow(follower);
        Ok(())
    }

    /// Applies a purge here and now; returns what it meant.
    pub fn purge(&self, request: &purge_log::PurgeRequest) -> purge_log::Counts {
        purge::apply(self, request)
    }

    /// Returns what a purge would mean here; changes nothing.
    pub fn purgeable(&self, request: &purge_log::PurgeRequest) -> purge_log::Counts {
        purge::count(self, request)
    }

    /// Returns how far this node is in the purge log, if it follows one.
    pub fn purge_standing(&self) -> Option<purge::Standing> {
        self.purges.standing()
    }

    /// Returns what is in use right now.
    pub fn levels(&self) -> Levels {
        Levels {
            store_bytes: self.store.used_bytes(),
            store_responses: self.store.len() as u64,
            held_requests: self.hub.held.count() as u64,
            renditions: self.hub.renditions().len() as u64,
            parents: self.upstream.parents().iter().map(level_of).collect(),
            purges: self.purges.level(),
        }
    }

    /// Describes the node at this moment, as `/status` and `/readyz` show it.
    pub fn status(&self, is_draining: bool) -> Status {
        status::of(self, is_draining)
    }

    /// Returns the rules of admission of what arrives `now`.
    pub(crate) fn admission(&self, now: Instant) -> Admission<'_> {
        Admission {
            now,
            node_name: &self.name,
            rules: &self.rules,
            targets: &self.targets,
            target_bytes_max: self.limits.target_bytes_max,
        }
    }

    /// Returns what is known of each presentation, most viewers first.
    pub fn presentations(&self) -> Vec<streams::Report> {
        self.streams
            .report(&self.hub.renditions(), self.clock.uptime())
    }

    /// Returns the telemetry.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Ends every task of the node, waiting for them at most `deadline`; returns how many were left.
    pub async fn end(&self, deadline: Duration) -> usize {
        self.tasks.end(deadline).await
    }
}

/// The received protocol is 1.1 whatever the connection speaks: a fill belongs to no viewer, and all
/// versions share the semantics of 1.1.
fn via_of(name: &str) -> HeaderValue {
    HeaderValue::try_from(format!("1.1 {name}"))
        .expect("the upstream has checked the name to be a token")
}

fn level_of(parent: &ParentStatus) -> ParentLevel {
    ParentLevel {
        is_usable: parent.circuit != CircuitStatus::Open,
        times_failed: parent.times_failed,
        parked: connections_of(parent.parked),
        bulk: connections_of(parent.bulk),
    }
}

fn connections_of(pool: PoolStatus) -> ConnectionsLevel {
    ConnectionsLevel {
        open: pool.connections as u64,
        opened: pool.opened,
    }
}

/// Why a node cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// Its parents cannot be used as configured.
    #[error(transparent)]
    Upstream(#[from] UpstreamSetupError),
    /// Its name cannot stand in `Cache-Status`.
    #[error(transparent)]
    Name(#[from] CacheNameError),
    /// Its name is none for reports to the purge log.
    #[error(transparent)]
    NodeName(#[from] purge_log::NameError),
    /// Its access log cannot be written.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
}

/// Returns how many bytes the store may count, so that it takes at most `memory` of the machine.
///
/// While sizes stay alike the process takes what is counted. After they jump by orders of magnitude it
/// takes up to 1.39 times that, until the survivors are gone whose pages cannot be given back
/// (`cargo bench -p cache --bench memory`).
fn counted_bytes(memory: u64) -> u64 {
    memory / 100 * 71
}

/// How long a response that could not be shared is remembered as such.
const UNCACHEABLE_FOR: Duration = Duration::from_secs(60);

/// How many of them.
const UNCACHEABLE_MAX: u64 = 100_000;
