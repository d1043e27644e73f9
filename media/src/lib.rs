//! HLS and DASH as text and arithmetic: no I/O, no async, no caching.
//!
//! What is here, in reading order: [`Kind`], what a resource is; [`Position`], where in a stream;
//! [`hls`], playlists, the judgment of requests for them, and the live rendition; [`dash`], what
//! delivery needs of an MPD; [`cmcd`], what players say of themselves; [`uri`], where a child URI leads. Time comes in as values. Who calls it:
//! the node's router and live hub, and the lab's players. Deliberately not here: what to cache and for
//! how long, which the node decides from what it learns here.
//!
//! Every text is a peer's: each parser has named limits, answers what it cannot read with an error,
//! and never panics.

pub mod cmcd;
pub mod dash;
pub mod hls;
mod kind;
mod position;
mod time;
pub mod uri;

pub use kind::{Kind, is_playlist_content_type, is_playlist_path};
pub use position::{MediaSequenceNumber, Position};
pub use time::{format_date_time, parse_date_time, parse_duration};
