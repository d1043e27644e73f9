//! The purge API: what may be purged is accepted, kept in order, and told to every node.
//!
//! What is here: the journal that keeps the log, and its feed. The vocabulary of requests lies in `purge-log`, so that
//! nodes can share it. Deliberately not here: what a node does with a purge.

pub mod api;
pub mod audit;
pub mod auth;
pub mod config;
pub mod feed;
pub mod journal;
pub mod server;

pub use journal::Journal;
pub use purge_log::{
    Applied, Bounds, Counts, Entry, LogId, Mode, NodeName, PurgeId, PurgeRequest,
    REQUEST_BYTES_MAX, Report, RequestError, Sequence, StreamRange, Target, TargetError,
    UnixMillis, Url,
};
