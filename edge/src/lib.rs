//! The viewer-facing tier: public TLS and HTTP/3; its parents are shields.
//!
//! What is here: an edge's [`Config`] and how a node is made of it. Who calls it: `cli`, tests, the
//! demonstration. What it calls: `node`, which does everything. Deliberately not here: any machinery,
//! and any way to spell an origin's credentials: an edge stands where strangers are.

mod config;

pub use config::{Config, Shield, Viewers};

use node::node::{Node, Running, StartError};

/// Starts an edge and returns what is running.
///
/// # Errors
///
/// A port in use, an unreadable certificate, parents that cannot be used; nothing is left running.
pub fn start(config: Config) -> Result<Running, StartError> {
    Node::start(&config.into_node_config())
}
