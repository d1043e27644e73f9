//! The viewer-facing tier: public TLS and HTTP/3; its parents are shields.
//!
//! What is here: an edge's [`Config`] and how a node is made of it. Who calls it: `cli`, tests, the
//! demonstration. What it calls: `node`, which does everything. Deliberately not here: any machinery,
//! and any way to spell an origin's credentials: an edge stands where strangers are.

mod config;

pub use config::{Config, Shield, Viewers};
