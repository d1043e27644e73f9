//! Rows of a playlist's tables: spans of the text and what was computed from them.

use std::time::Duration;

use super::text::Span;
use super::views::{ByteRange, HintKind};
use crate::position::MediaSequenceNumber;

#[derive(Clone, Debug)]
pub(super) struct SegmentRow {
    /// Where the line after the URI begins; the segment's lines begin where its predecessor's end.
    pub end: u32,
    pub uri: Span,
    pub program_date_time: Option<Span>,
    pub duration: Duration,
    pub byte_range: Option<ByteRange>,
    /// Whether its `EXT-X-BYTERANGE` leaves the start to its predecessor.
    pub has_implicit_start: bool,
    pub is_gap: bool,
    pub is_discontinuity: bool,
    /// How many of each had been seen when the segment ended.
    pub parts_seen: u32,
    pub maps_seen: u32,
    pub keys_seen: u32,
    pub bitrates_seen: u32,
}

#[derive(Clone, Debug)]
pub(super) struct PartRow {
    pub uri: Span,
    pub duration: Duration,
    pub byte_range: Option<ByteRange>,
    /// Index of the parent among the segments; one past the last for the open segment.
    pub parent: u32,
    pub part_index: u32,
    pub is_independent: bool,
    pub is_gap: bool,
}

#[derive(Clone, Debug)]
pub(super) struct MapRow {
    pub line: Span,
    pub uri: Span,
    pub byte_range: Option<ByteRange>,
}

#[derive(Clone, Debug)]
pub(super) struct KeyRow {
    pub line: Span,
    pub method: Span,
    pub uri: Option<Span>,
    pub format: Option<Span>,
}

#[derive(Clone, Debug)]
pub(super) struct HintRow {
    pub kind: HintKind,
    pub uri: Span,
    pub byterange_start: u64,
    pub byterange_length: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) struct ReportRow {
    pub uri: Span,
    pub last_msn: Option<MediaSequenceNumber>,
    pub last_part: Option<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct DateRangeRow {
    pub id: Span,
    pub class: Option<Span>,
    pub line: Span,
}

#[derive(Clone, Debug)]
pub(super) struct DefineRow {
    pub name: Span,
    pub kind: DefineKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DefineKind {
    Value,
    Import,
    QueryParameter,
}

#[derive(Clone, Debug)]
pub(super) struct SkipRow {
    pub line: Span,
    pub segments: u64,
    pub recently_removed_date_ranges: Option<Span>,
}
