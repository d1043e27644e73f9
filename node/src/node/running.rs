//! A node that listens: sockets bound, workers running, until it is shut down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{AssembleError, Node, NodeConfig};
use crate::admin::{self, AdminError};
use crate::clock::Clock;
use crate::listen::{Addresses, BindError, Bound, Drained, Serving};
use crate::purge::{self, ChildrenError};
use crate::tasks::Tasks;
use crate::telemetry::Telemetry;
use crate::upstream::Connector;

/// A node that listens.
#[derive(Debug)]
pub struct Running {
    node: Arc<Node>,
    home: Home,
    serving: Serving,
    admin: Option<admin::Serving>,
    children: Option<purge::Serving>,
    certificate_pin: Option<String>,
    drain: CancellationToken,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot listen as configured.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Its parts do not fit together.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// Its private listener cannot run.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Its listener for children cannot run.
    #[error(transparent)]
    Children(#[from] ChildrenError),
    /// The system gives it no thread.
    #[error("a thread for fills cannot be started")]
    Thread(#[source] std::io::Error),
}

impl Node {
    /// Starts a node: binds every socket first, so that an error leaves nothing running.
    ///
    /// # Errors
    ///
    /// A port in use, an unreadable certificate, parents that cannot be used.
    pub fn start(config: &NodeConfig) -> Result<Running, StartError> {
        let bound = Bound::bind(&config.listen)?;
        let children = config.purge.as_ref().and_then(|p| p.children.as_ref());
        let children = children.map(purge::Bound::bind).transpose()?;
        let certificate_pin = bound
            .certificates()
            .map(|certificates| certificates.public_key_pin());
        let home = Home::open()?;
        let tasks = Tasks::at_home(home.handle.clone());
        let node = Self::assemble(config, Connector::Tcp, Clock::system(), tasks)?;
        let drain = CancellationToken::new();
        let admin = match &config.admin {
            Some(admin) => {
                let (shown, draining) = (Arc::clone(&node), drain.clone());
                let status = move || shown.status(draining.is_cancelled());
                let shown = Arc::clone(&node);
                let streams = move || shown.presentations();
                let telemetry = Arc::clone(node.telemetry());
                Some(admin::serve(admin, telemetry, status, streams)?)
            }
            None => None,
        };
        let children = children.map(|bound| bound.serve(&node)).transpose()?;
        let telemetry = Arc::clone(node.telemetry());
        let ending = node.tasks.signal();
        node.tasks.spawn(async move {
            ending.run_until_cancelled(telemetry.keep_up()).await;
        });
        let serving = bound.serve(Arc::clone(&node), drain.clone())?;
        node.telemetry().observe_connections(serving.connections());
        Ok(Running {
            node,
            home,
            serving,
            admin,
            children,
            certificate_pin,
            drain,
        })
    }
}

/// The thread on which fills, chains and connections to parents live.
#[derive(Debug)]
struct Home {
    handle: Handle,
    /// Stops the thread when dropped, so that a node that does not start leaves nothing running.
    stop: DropGuard,
    thread: JoinHandle<()>,
}

impl Home {
    fn open() -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Thread)?;
        let handle = runtime.handle().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("seawall-fills".to_owned())
            .spawn(move || runtime.block_on(stopped.cancelled()))
            .map_err(StartError::Thread)?;
        Ok(Self {
            handle,
            stop: stop.drop_guard(),
            thread,
        })
    }

    /// Ends the thread; what still runs on it is dropped.
    fn close(self) {
        drop(self.stop);
        // It has nothing to do but see the signal; a panic there is a bug that was already printed.
        self.thread.join().ok();
    }
}

impl Running {
    /// Returns where the node can be reached.
    pub fn addresses(&self) -> &Addresses {
        self.serving.addresses()
    }

    /// Returns where the private listener can be reached.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(admin::Serving::address)
    }

    /// Returns where children follow the purge log.
    pub fn children_address(&self) -> Option<SocketAddr> {
        self.children.as_ref().map(purge::Serving::address)
    }

    /// Returns the base64 of the SHA-256 of the certificate's public key, as browsers pin it.
    pub fn certificate_pin(&self) -> Option<&str> {
        self.certificate_pin.as_deref()
    }

    /// Returns the node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Returns the telemetry.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        self.node.telemetry()
    }

    /// Stops accepting, lets running responses end, and joins everything.
    ///
    /// Takes at most the listener's `drain_timeout` and a moment. Readiness is lost at once, so that
    /// a load balancer looks elsewhere.
    pub async fn shutdown(self) -> Drained {
        self.drain.cancel();
        let drained = self.serving.join().await;
        // Only now: viewers that were still reading needed the fills.
        self.node.end(FILLS_END_WITHIN).await;
        self.home.close();
        if let Some(children) = self.children {
            children.join().await;
        }
        if let Some(admin) = self.admin {
            admin.join().await;
        }
        drained
    }
}

/// Fills, chains and connections end at their next step.
const FILLS_END_WITHIN: Duration = Duration::from_secs(1);
