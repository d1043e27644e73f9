//! The test harness: a whole CDN in one process, on a simulated network, in virtual time.
//!
//! A scenario reads from top to bottom: an origin that does what it is told, nodes in front of it, viewers.
//! Everything runs on one thread with tokio's clock paused, so a run is always the same.

pub mod network;
pub mod origin;
pub mod playlist;
pub mod purge_log;
pub mod viewer;

use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use node::Clock;
use node::listen::{ListenConfig, ListenLimits, QuicConfig};
use node::node::{LiveConfig, Node, NodeConfig, NodeLimits, PurgeConfig};
use node::purge::{ChildrenConfig, WhenLagging};
use node::rules::Rules;
use node::tasks::Tasks;
use node::upstream::{
    Connector, ParentConfig, Selection, SimulatedNetwork, UpstreamConfig, UpstreamLimits,
};
use tokio::io::DuplexStream;

pub use network::Network;
pub use origin::{Feed, Origin};
pub use playlist::Live;
pub use purge_log::PurgeLog;
pub use viewer::Viewer;

/// A CDN under construction.
pub struct Cdn {
    network: Network,
    clock: Clock,
}

/// Runs a scenario in virtual time.
pub fn cdn<F: Future<Output = ()>>(scenario: impl FnOnce(Cdn) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without network needs nothing");
    runtime.block_on(async {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let cdn = Cdn {
            network: Network::default(),
            clock: Clock::starting_at(wall),
        };
        let limit = tokio::time::timeout(Duration::from_secs(3600), scenario(cdn));
        limit
            .await
            .expect("a scenario ends within an hour of virtual time");
    });
}

impl Cdn {
    /// Adds an origin called `name`.
    pub fn origin(&self, name: &str) -> Origin {
        let origin = Origin::default();
        let accepting = origin.clone();
        self.network
            .listen(name, Arc::new(move |pipe| accepting.accept(pipe)));
        origin
    }

    /// Adds a node called `name` whose parents are `parents`, with good defaults.
    pub fn node(&self, name: &str, parents: &[&str]) -> Arc<Node> {
        self.node_with(name, parents, |_| {})
    }

    /// Adds a node whose configuration `change` adapts.
    pub fn node_with(
        &self,
        name: &str,
        parents: &[&str],
        change: impl FnOnce(&mut NodeConfig),
    ) -> Arc<Node> {
        let mut config = config(name, parents);
        change(&mut config);
        let limits = config.listen.limits.clone();
        let connector = Connector::Simulated(Arc::new(Pipes(self.network.clone())));
        let node = Node::assemble(&config, connector, self.clock, Tasks::new())
            .expect("the parents are usable");
        let accepting = Arc::clone(&node);
        let accept = move |pipe: DuplexStream| {
            let node = Arc::clone(&accepting);
            let limits = limits.clone();
            viewer::spawn(async move {
                let client = ([127, 0, 0, 1], 1).into();
                node::listen::serve_stream(pipe, client, node, &limits, &Tasks::new()).await;
            });
        };
        self.network.listen(name, Arc::new(accept));
        if config.purge.is_some_and(|purge| purge.children.is_some()) {
            let feeding = Arc::downgrade(&node);
            let accept = move |pipe: DuplexStream| {
                viewer::spawn(node::purge::serve_stream(pipe, Weak::clone(&feeding)));
            };
            let feed = feed_of(name);
            self.network.listen(&feed, Arc::new(accept));
        }
        node
    }

    /// Adds a purge API at `name` that keeps its last `entries_max` purges.
    pub fn purge_log(&self, name: &str, entries_max: usize) -> PurgeLog {
        PurgeLog::start(self, name, entries_max)
    }

    /// Returns a viewer of the node called `name`.
    pub fn viewer(&self, name: &str) -> Viewer {
        Viewer::of(&self.network, name)
    }

    /// Returns the network.
    pub fn network(&self) -> &Network {
        &self.network
    }
}

struct Pipes(Network);

impl SimulatedNetwork for Pipes {
    fn connect<'a>(&'a self, authority: &'a str) -> BoxFuture<'a, io::Result<DuplexStream>> {
        Box::pin(std::future::ready(self.0.connect(authority)))
    }
}

/// Returns the configuration of a node with good defaults and these parents.
pub fn config(name: &str, parents: &[&str]) -> NodeConfig {
    NodeConfig {
        name: name.to_owned(),
        listen: ListenConfig {
            https: Vec::new(),
            http: Vec::new(),
            http3: false,
            quic: QuicConfig::default(),
            certificate: None,
            workers: 1,
            limits: ListenLimits::default(),
        },
        upstream: UpstreamConfig {
            parents: parents.iter().map(|name| parent(name)).collect(),
            selection: Selection::Ordered,
            node_name: name.to_owned(),
            limits: UpstreamLimits::default(),
        },
        store_bytes: 64 * 1024 * 1024,
        live: LiveConfig::default(),
        limits: NodeLimits::default(),
        admin: None,
        access_log: None,
        purge: None,
        heeds_children: true,
        cors: true,
        server_timing: false,
        rules: Rules::dropping(vec!["CMCD".to_owned()]),
    }
}

fn parent(name: &str) -> ParentConfig {
    ParentConfig {
        name: name.to_owned(),
        url: format!("http://{name}")
            .parse()
            .expect("names are authorities"),
        weight: 1,
        h2c: false,
        ca_file: None,
        insecure_skip_verify: false,
        host: None,
        headers: http::HeaderMap::new(),
        client_certificate: None,
    }
}

/// Returns the configuration of a node that follows the purge log at the first of `logs` that answers, and
/// serves it on at [`feed_of`] its name.
pub fn following(logs: &[&str]) -> Option<PurgeConfig> {
    Some(PurgeConfig {
        parents: logs.iter().map(|name| parent(name)).collect(),
        lagging_after: Duration::from_secs(5),
        when_lagging: WhenLagging::Serve,
        children: Some(ChildrenConfig {
            address: ([127, 0, 0, 1], 0).into(),
            tls: None,
            children_max: 16,
        }),
    })
}

/// Returns where children of the node called `name` follow the purge log.
pub fn feed_of(name: &str) -> String {
    format!("{name}-feed")
}

/// Lets virtual time pass. Everything that could happen meanwhile has happened when it returns.
pub async fn pass(time: Duration) {
    tokio::time::advance(Duration::ZERO).await;
    tokio::time::sleep_until(tokio::time::Instant::now() + time).await;
}
