//! The purge API: what may be purged is accepted, kept in order, and told to every node.
//!
//! What is here: the vocabulary of requests, which lies in `purge-log` so that nodes can share it.
//! Who calls it: nothing yet. Deliberately not here: what a node does with a purge.

pub use purge_log::{Mode, PurgeRequest, REQUEST_BYTES_MAX, RequestError, Target, TargetError};
