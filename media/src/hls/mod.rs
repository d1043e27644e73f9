//! HLS: playlists, requests for them, and the live state they add up to.
//!
//! ```text
//! text ──► Playlist ─┬─► MultivariantPlaylist
//!                    └─► MediaPlaylist ─┬─► answer       (one request against one version)
//!                                       ├─► delta_update (the short form of a version)
//!                                       ├─► redact       (a version without what was purged)
//!                                       ├─► Joint        (a stream that began again, as its own continuation)
//!                                       ├─► with_reports (what it says of its siblings, as it is here)
//!                                       └─► Rendition    (versions over time)
//! ```
//!
//! The rules cited as `LL-..` and `CA-..` are those of `docs/reference/protocol.md`.

mod answer;
mod attributes;
mod date_ranges;
mod delta;
mod directives;
mod kept;
mod lint;
mod media_parser;
mod media_playlist;
mod multivariant;
mod playlist;
mod rebase;
mod redact;
mod rendition;
mod reports;
mod rows;
mod server_control;
mod stretch;
mod text;
#[cfg(test)]
mod timeline;
mod values;
mod views;

pub use crate::position::{MediaSequenceNumber, Position};
pub use answer::{Answer, Refusal, advance_part_limit, answer, answer_server};
pub use date_ranges::{DATE_RANGES_MAX, DateRangeHistory, OldDateRanges};
pub use delta::{MergeError, delta_update, delta_update_of_both, merge_delta};
pub use directives::{DeliveryDirectives, DirectiveError, Skip};
pub use lint::{LAPSES_MAX, Lapse, lint};
pub use media_playlist::MediaPlaylist;
pub use multivariant::{ChildKind, ChildPlaylist, ContentSteering, MultivariantPlaylist};
pub use playlist::{Limits, Playlist, PlaylistError};
pub use rebase::{Joint, RunNumbers};
pub use redact::{PURGED_MARK, is_purged, redact};
pub use rendition::{HintChange, HintedResource, Rendition, Update};
pub use reports::with_reports;
pub use server_control::with_server_control;
pub use stretch::{Meant, Stretch};
pub use views::{
    ByteRange, DateRange, Define, HintKind, Key, Map, Part, PlaylistType, PreloadHint,
    RenditionReport, Segment, ServerControl, Skipped,
};
