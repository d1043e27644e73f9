//! The feed: how entries get from the log to nodes, and word of them back.
//!
//! What is here: the messages of the feed ([`Message`], one JSON text per line), who asks for it and where
//! it begins ([`Subscription`]), the sending side ([`stream`]) and the receiving side ([`Cursor`]). The
//! purge API sends from its journal, a parent node from its window; both use what is here, so a node
//! cannot tell them apart. Deliberately not here: HTTP, authentication, reconnecting.
//!
//! ```text
//! GET  /v1/feed?node=fra-1&log=0123456789abcdef&after=41     begin, then entries and heartbeats, no end
//! POST /v1/feed/applied                                      an array of reports
//! ```
//!
//! A follower that was away goes on from where it was. If the log no longer has what it missed, or is not
//! the log it followed, the feed says `reset`: whoever reads that makes everything it has stale.

mod cursor;
mod lines;
mod message;
mod reports;
mod send;
mod subscription;

#[cfg(test)]
mod tests;

pub use cursor::{Cursor, FeedError, Position, Step};
pub use lines::{LINE_BYTES_MAX, LineError, Lines};
pub use message::Message;
pub use reports::{
    LINES_MAX, REPORTS_BYTES_MAX, REPORTS_MAX, ReportsError, read_reports, write_reports,
};
pub use send::{HEARTBEAT, Log, Missing, Refused, stream};
pub use subscription::{LATEST_MAX, Start, Subscription, SubscriptionError};

/// The path of the feed.
pub const FEED_PATH: &str = "/v1/feed";

/// The path of reports.
pub const REPORTS_PATH: &str = "/v1/feed/applied";

/// The media type of the feed.
pub const CONTENT_TYPE: &str = "application/x-ndjson";
