//! The purge log as values: what is purged, and in which order.
//!
//! What is here: [`PurgeRequest`], read from JSON and checked once, so that everything behind it works
//! on targets that mean one thing; [`Entry`], an accepted one at its place; [`feed`], how entries travel. Who calls it: `purge-api`
//! accepts and keeps them, `node` follows them. Deliberately not here: sockets, files, authentication.

mod entry;
pub mod feed;
mod request;
mod sequence;
mod target;
mod window;

pub use entry::{Applied, Bounds, Counts, Entry, Report};
pub use request::{Mode, PurgeRequest, REQUEST_BYTES_MAX, RequestError};
pub use sequence::{
    LogId, NODE_NAME_BYTES_MAX, NameError, NodeName, PurgeId, Sequence, UnixMillis,
};
pub use target::{
    SURROGATE_KEY_BYTES_MAX, SURROGATE_KEYS_MAX, StreamRange, Target, TargetError, URLS_MAX, Url,
};
pub use window::{GapError, Window};
