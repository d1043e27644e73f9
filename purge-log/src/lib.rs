//! The purge log as values: what is purged, and in which order.
//!
//! What is here: [`PurgeRequest`], read from JSON and checked once, so that everything behind it works
//! on targets that mean one thing. Who calls it: `purge-api` accepts and keeps them, `node` follows them.
//! Deliberately not here: sockets, files, authentication.

mod request;
mod target;

pub use request::{Mode, PurgeRequest, REQUEST_BYTES_MAX, RequestError};
pub use target::{Target, TargetError};
