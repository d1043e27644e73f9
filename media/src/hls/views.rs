//! What a media playlist is asked for: values that borrow from its text.
//!
//! Returned by the accessors of [`MediaPlaylist`](super::MediaPlaylist); read by everyone.

use std::ops::Range;
use std::time::Duration;

use crate::position::{MediaSequenceNumber, Position};

/// Attributes of `EXT-X-SERVER-CONTROL` (rfc8216bis 4.4.3.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerControl {
    /// Whether the server holds requests for what is to come.
    pub can_block_reload: bool,
    /// The skip boundary: how far from the end segments may be left out of a delta update.
    pub can_skip_until: Option<Duration>,
    /// Whether delta updates may leave out date ranges too.
    pub can_skip_dateranges: bool,
    /// How far from the end playback begins.
    pub hold_back: Option<Duration>,
    /// The same in low-latency mode.
    pub part_hold_back: Option<Duration>,
}

/// What `EXT-X-PLAYLIST-TYPE` promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaylistType {
    /// Segments are only added.
    Event,
    /// Nothing changes.
    Vod,
}

/// A sub-range of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte; `None` if it follows from a segment that the playlist does not show.
    pub start: Option<u64>,
    /// Number of bytes.
    pub length: u64,
}

/// A media segment that is complete: it has a duration and a URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Where it is, relative to the playlist.
    pub uri: &'a str,
    /// Its number.
    pub msn: MediaSequenceNumber,
    /// Its `EXTINF` duration.
    pub duration: Duration,
    /// Which bytes of the resource it is; `None` is all of them.
    pub byte_range: Option<ByteRange>,
    /// Whether its media is absent (CA-19).
    pub is_gap: bool,
    /// Whether something changes between its predecessor and it.
    pub is_discontinuity: bool,
    /// Which of [`MediaPlaylist::parts`](super::MediaPlaylist::parts) are its own.
    pub parts: Range<usize>,
    /// Which of [`MediaPlaylist::maps`](super::MediaPlaylist::maps) it needs.
    pub map: Option<usize>,
    /// Its `EXT-X-PROGRAM-DATE-TIME`, as written.
    pub program_date_time: Option<&'a str>,
}

/// A Partial Segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Where it is, relative to the playlist.
    pub uri: &'a str,
    /// Its parent's number and its index there.
    pub position: Position,
    /// Its duration.
    pub duration: Duration,
    /// Which bytes of the resource it is; `None` is all of them.
    pub byte_range: Option<ByteRange>,
    /// Whether playback can begin with it.
    pub is_independent: bool,
    /// Whether its media is absent (CA-19).
    pub is_gap: bool,
}

/// An initialization segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map<'a> {
    /// Where it is, relative to the playlist.
    pub uri: &'a str,
    /// Which bytes of the resource it is; `None` is all of them.
    pub byte_range: Option<ByteRange>,
}

/// An `EXT-X-KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// The encryption method; `NONE` ends encryption.
    pub method: &'a str,
    /// Where the key is; of any scheme.
    pub uri: Option<&'a str>,
    /// How the key is represented; `None` is `identity`.
    pub format: Option<&'a str>,
}

/// What a preload hint announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HintKind {
    /// The next part.
    Part,
    /// The next initialization segment.
    Map,
}

/// An `EXT-X-PRELOAD-HINT` (rfc8216bis 4.4.5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreloadHint<'a> {
    /// What is announced.
    pub kind: HintKind,
    /// Where it will be, relative to the playlist; possibly on another host.
    pub uri: &'a str,
    /// Its first byte.
    pub byterange_start: u64,
    /// Its number of bytes; `None` is to the end of the resource (LL-20).
    pub byterange_length: Option<u64>,
}

/// An `EXT-X-RENDITION-REPORT` (rfc8216bis 4.4.5.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenditionReport<'a> {
    /// The other rendition's playlist, relative to this one.
    pub uri: &'a str,
    /// Its last segment; `None` means the same as this playlist's.
    pub last_msn: Option<MediaSequenceNumber>,
    /// Its last part.
    pub last_part: Option<u32>,
}

/// An `EXT-X-DATERANGE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DateRange<'a> {
    /// Its identity in the playlist.
    pub id: &'a str,
    /// Its class, if it has one.
    pub class: Option<&'a str>,
    /// The whole line.
    pub line: &'a str,
}

/// An `EXT-X-DEFINE`: a variable of the playlist (rfc8216bis 4.4.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Define<'a> {
    /// Set in the playlist.
    Value(&'a str),
    /// Taken from the multivariant playlist.
    Import(&'a str),
    /// Taken from the query of the request, which the body therefore does not depend on (CA-21).
    QueryParameter(&'a str),
}

/// An `EXT-X-SKIP`: the playlist is a delta update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped<'a> {
    /// How many segments are left out.
    pub segments: u64,
    /// Tab-separated ids of date ranges that were removed.
    pub recently_removed_date_ranges: Option<&'a str>,
}
