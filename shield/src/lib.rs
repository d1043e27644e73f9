//! The origin-facing tier: collapses what many edges ask into one request per part.
//!
//! What is here: a shield's [`Config`] and how a node is made of it. Who calls it: `cli`, tests, the
//! demonstration. What it calls: `node`, which does everything. Deliberately not here: any machinery,
//! and anything that only viewers need: a shield's clients are nodes.

mod config;

pub use config::{Config, Origin};

use node::node::{Node, Running, StartError};

/// Starts a shield and returns what is running.
///
/// # Errors
///
/// A port in use, an unreadable certificate, parents that cannot be used; nothing is left running.
pub fn start(config: Config) -> Result<Running, StartError> {
    Node::start(&config.into_node_config())
}
