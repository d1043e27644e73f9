//! A node that listens: sockets bound, workers running, until it is shut down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{AssembleError, Node, NodeConfig, status};
use crate::admin::{self, AdminError};
use crate::clock::Clock;
use crate::listen::{Addresses, BindError, Bound, Drained, Serving};
use crate::telemetry::Telemetry;
use crate::upstream::Connector;

/// A node that listens.
#[derive(Debug)]
pub struct Running {
    node: Arc<Node>,
    serving: Serving,
    admin: Option<admin::Serving>,
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
    /// The system gives it no thread.
    #[error("a thread for upkeep cannot be started")]
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
        let certificate_pin = bound
            .certificates()
            .map(|certificates| certificates.public_key_pin());
        let node = Self::assemble(config, Connector::Tcp, Clock::system())?;
        let drain = CancellationToken::new();
        let admin = match &config.admin {
            Some(admin) => {
                let (shown, draining) = (Arc::clone(&node), drain.clone());
                let status = move || status::of(&shown, draining.is_cancelled());
                Some(admin::serve(admin, Arc::clone(node.telemetry()), status)?)
            }
            None => None,
        };
        keep_up(Arc::clone(node.telemetry()), drain.clone())?;
        let serving = bound.serve(Arc::clone(&node), drain.clone())?;
        node.telemetry().observe_connections(serving.connections());
        Ok(Running {
            node,
            serving,
            admin,
            certificate_pin,
            drain,
        })
    }
}

/// Folds samples into histograms regularly, from a thread that no viewer waits for.
fn keep_up(telemetry: Arc<Telemetry>, drain: CancellationToken) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(StartError::Thread)?;
    let upkeep = move || runtime.block_on(drain.run_until_cancelled(telemetry.keep_up()));
    let thread = std::thread::Builder::new().name("seawall-upkeep".to_owned());
    // Not joined: it ends by itself as soon as the drain begins, and owns nothing.
    thread.spawn(upkeep).map_err(StartError::Thread)?;
    Ok(())
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
        // Fills and chains ran on the workers' runtimes and ended with them.
        self.node.end(Duration::ZERO).await;
        if let Some(admin) = self.admin {
            admin.join().await;
        }
        drained
    }
}
