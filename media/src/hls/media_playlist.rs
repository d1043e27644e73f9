//! The playlist of one rendition: its facts, segments, parts and tail.
//!
//! Built by `media_parser`; read by the judgment of requests, delta updates, the live rendition, and
//! the node, which learns from it what URIs are. Tables hold spans of the one text; what accessors
//! return borrows from it.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use super::rows::{
    DateRangeRow, DefineKind, DefineRow, HintRow, KeyRow, MapRow, PartRow, ReportRow, SegmentRow,
    SkipRow,
};
use super::text::Span;
use super::views::{
    DateRange, Define, Key, Map, Part, PlaylistType, PreloadHint, RenditionReport, Segment,
    ServerControl, Skipped,
};
use crate::position::{MediaSequenceNumber, Position};

/// A media playlist: one version of a rendition, as text and as tables over it.
#[derive(Clone, Debug, Default)]
pub struct MediaPlaylist {
    pub(super) text: Bytes,
    pub(super) facts: Facts,
    pub(super) segments: Vec<SegmentRow>,
    pub(super) parts: Vec<PartRow>,
    pub(super) maps: Vec<MapRow>,
    pub(super) keys: Vec<KeyRow>,
    /// Lines of `EXT-X-BITRATE`.
    pub(super) bitrates: Vec<Span>,
    pub(super) hints: Vec<HintRow>,
    pub(super) reports: Vec<ReportRow>,
    pub(super) date_ranges: Vec<DateRangeRow>,
    pub(super) defines: Vec<DefineRow>,
    /// Lines after the first segment tag that apply to the whole playlist, such as date ranges.
    pub(super) wide_lines: Vec<Span>,
    /// Where the first segment's tags begin; the end of the text if there are none.
    pub(super) segments_start: u32,
    /// The line of `EXT-X-VERSION`.
    pub(super) version_line: Option<Span>,
    /// Where the line after `#EXTM3U` begins.
    pub(super) header_end: u32,
}

/// What holds for the whole playlist.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub version: u64,
    pub target_duration: Duration,
    pub part_target: Option<Duration>,
    pub media_sequence: u64,
    pub discontinuity_sequence: u64,
    pub playlist_type: Option<PlaylistType>,
    pub is_ended: bool,
    pub is_i_frames_only: bool,
    pub has_independent_segments: bool,
    pub server_control: ServerControl,
    pub skip: Option<SkipRow>,
}

impl MediaPlaylist {
    /// Returns the text, byte for byte as it was given.
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// Returns `EXT-X-VERSION`; one if it is absent.
    pub fn version(&self) -> u64 {
        self.facts.version
    }

    /// Returns whether the stream has ended: there will be no more segments.
    pub fn is_ended(&self) -> bool {
        self.facts.is_ended
    }

    /// Returns whether the playlist has parts.
    pub fn is_low_latency(&self) -> bool {
        self.facts.part_target.is_some()
    }

    /// Returns the longest duration of a part, if the playlist has parts.
    pub fn part_target(&self) -> Option<Duration> {
        self.facts.part_target
    }

    /// Returns the longest duration of a segment.
    pub fn target_duration(&self) -> Duration {
        self.facts.target_duration
    }

    /// Returns what the playlist says the server can do.
    pub fn server_control(&self) -> &ServerControl {
        &self.facts.server_control
    }

    /// Returns whether the server holds requests for what is to come.
    pub fn can_block_reload(&self) -> bool {
        self.facts.server_control.can_block_reload
    }

    /// Returns the skip boundary, if the server makes delta updates.
    pub fn can_skip_until(&self) -> Option<Duration> {
        self.facts.server_control.can_skip_until
    }

    /// Returns whether delta updates may leave out date ranges too.
    pub fn can_skip_dateranges(&self) -> bool {
        self.facts.server_control.can_skip_dateranges
    }

    /// Returns how far from the end playback begins: at least three target durations by default.
    pub fn hold_back(&self) -> Duration {
        self.facts
            .server_control
            .hold_back
            .unwrap_or(self.facts.target_duration * 3)
    }

    /// Returns how far from the end low-latency playback begins.
    pub fn part_hold_back(&self) -> Option<Duration> {
        self.facts.server_control.part_hold_back
    }

    /// Returns `EXT-X-PLAYLIST-TYPE`.
    pub fn playlist_type(&self) -> Option<PlaylistType> {
        self.facts.playlist_type
    }

    /// Returns whether segments are single I-frames.
    pub fn is_i_frames_only(&self) -> bool {
        self.facts.is_i_frames_only
    }

    /// Returns whether every segment can be decoded alone.
    pub fn has_independent_segments(&self) -> bool {
        self.facts.has_independent_segments
    }

    /// Returns the number of the first segment, shown or skipped.
    pub fn media_sequence(&self) -> MediaSequenceNumber {
        MediaSequenceNumber(self.facts.media_sequence)
    }

    /// Returns `EXT-X-DISCONTINUITY-SEQUENCE`.
    pub fn discontinuity_sequence(&self) -> u64 {
        self.facts.discontinuity_sequence
    }

    /// Returns what is left out, if the playlist is a delta update.
    pub fn skip(&self) -> Option<Skipped<'_>> {
        self.facts.skip.as_ref().map(|row| Skipped {
            segments: row.segments,
            recently_removed_date_ranges: self.optional(row.recently_removed_date_ranges),
        })
    }

    /// Returns the number of the segment after the last complete one, which may already have parts.
    pub fn open_msn(&self) -> MediaSequenceNumber {
        self.msn_of(self.segments.len())
    }

    /// Returns the last complete segment; `None` if the playlist has none.
    pub fn last_segment(&self) -> Option<MediaSequenceNumber> {
        let open = self.open_msn().0;
        (open > self.facts.media_sequence).then(|| MediaSequenceNumber(open - 1))
    }

    /// Returns the last thing the playlist has: a part of the open segment, or the last segment.
    pub fn last_position(&self) -> Option<Position> {
        match self.open_parts().len().checked_sub(1) {
            Some(last) => Some(Position::part(self.open_msn(), part_number(last))),
            None => self.last_segment().map(Position::segment),
        }
    }

    /// Returns what a report of the playlist says is last in it (rfc8216bis 4.4.5.4): a part where it has parts, also
    /// if the segment that it ends is complete.
    pub fn reported_position(&self) -> Option<Position> {
        let last = self.last_position()?;
        let of_last = self.segments.len().checked_sub(1)?;
        let parts = self.parts.iter().rev();
        let parts = parts.take_while(|part| part.parent as usize == of_last);
        match (last.part_index, parts.count().checked_sub(1)) {
            (None, Some(part)) => Some(Position::part(last.msn, part_number(part))),
            _ => Some(last),
        }
    }

    /// Returns what a blocking reload for the next change asks for.
    ///
    /// With parts: the part after the last, or part zero of the next segment if the open segment has
    /// just closed. Without: the segment after the last.
    pub fn next_position(&self) -> Position {
        let open = self.open_msn();
        if self.is_low_latency() {
            Position::part(open, part_number(self.open_parts().len()))
        } else {
            Position::segment(open)
        }
    }

    /// Returns which of [`Self::parts`] belong to the segment that is not complete yet.
    pub fn open_parts(&self) -> Range<usize> {
        let start = self
            .segments
            .last()
            .map_or(0, |row| row.parts_seen as usize);
        start..self.parts.len()
    }

    /// Returns the complete segments, oldest first.
    pub fn segments(
        &self,
    ) -> impl ExactSizeIterator<Item = Segment<'_>> + DoubleEndedIterator + Clone {
        (0..self.segments.len()).map(|index| self.segment_at(index))
    }

    /// Returns a complete segment by its number, if the playlist shows it.
    pub fn segment(&self, msn: MediaSequenceNumber) -> Option<Segment<'_>> {
        let first = self.msn_of(0).0;
        let index = usize::try_from(msn.0.checked_sub(first)?).ok()?;
        (index < self.segments.len()).then(|| self.segment_at(index))
    }

    /// Returns the parts, oldest first.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = Part<'_>> + DoubleEndedIterator + Clone {
        self.parts.iter().map(|row| Part {
            uri: self.of_text(row.uri),
            position: Position::part(self.msn_of(row.parent as usize), row.part_index),
            duration: row.duration,
            byte_range: row.byte_range,
            is_independent: row.is_independent,
            is_gap: row.is_gap,
        })
    }

    /// Returns the initialization segments, in order.
    pub fn maps(&self) -> impl ExactSizeIterator<Item = Map<'_>> + Clone {
        self.maps.iter().map(|row| Map {
            uri: self.of_text(row.uri),
            byte_range: row.byte_range,
        })
    }

    /// Returns the keys, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = Key<'_>> + Clone {
        self.keys.iter().map(|row| Key {
            method: self.of_text(row.method),
            uri: self.optional(row.uri),
            format: self.optional(row.format),
        })
    }

    /// Returns what is announced.
    pub fn preload_hints(&self) -> impl ExactSizeIterator<Item = PreloadHint<'_>> + Clone {
        self.hints.iter().map(|row| PreloadHint {
            kind: row.kind,
            uri: self.of_text(row.uri),
            byterange_start: row.byterange_start,
            byterange_length: row.byterange_length,
        })
    }

    /// Returns what the playlist says of its siblings.
    pub fn rendition_reports(&self) -> impl ExactSizeIterator<Item = RenditionReport<'_>> + Clone {
        self.reports.iter().map(|row| RenditionReport {
            uri: self.of_text(row.uri),
            last_msn: row.last_msn,
            last_part: row.last_part,
        })
    }

    /// Returns the date ranges, in order.
    pub fn date_ranges(&self) -> impl ExactSizeIterator<Item = DateRange<'_>> + Clone {
        self.date_ranges.iter().map(|row| DateRange {
            id: self.of_text(row.id),
            class: self.optional(row.class),
            line: self.of_text(row.line).trim_ascii(),
        })
    }

    /// Returns the variables, in order.
    pub fn defines(&self) -> impl ExactSizeIterator<Item = Define<'_>> + Clone {
        self.defines.iter().map(|row| {
            let name = self.of_text(row.name);
            match row.kind {
                DefineKind::Value => Define::Value(name),
                DefineKind::Import => Define::Import(name),
                DefineKind::QueryParameter => Define::QueryParameter(name),
            }
        })
    }

    /// Returns the names of query parameters that variables are taken from (CA-21).
    pub fn query_parameter_names(&self) -> impl Iterator<Item = &str> {
        self.defines().filter_map(|define| match define {
            Define::QueryParameter(name) => Some(name),
            Define::Value(_) | Define::Import(_) => None,
        })
    }

    /// Returns how many parts a segment of the playlist has: as many as the last complete one with
    /// parts, or as fill a target duration.
    pub(super) fn parts_per_segment(&self) -> u64 {
        let closed = self
            .segments
            .last()
            .map_or(0, |row| row.parts_seen as usize);
        if let Some(last) = closed.checked_sub(1).and_then(|last| self.parts.get(last)) {
            return u64::from(last.part_index) + 1;
        }
        let part = self.facts.part_target.unwrap_or_default().as_nanos().max(1);
        let parts = self.facts.target_duration.as_nanos().div_ceil(part);
        u64::try_from(parts).unwrap_or(u64::MAX).max(1)
    }

    /// Returns the number of the segment at `index` in the tables.
    pub(super) fn msn_of(&self, index: usize) -> MediaSequenceNumber {
        let skipped = self.facts.skip.as_ref().map_or(0, |row| row.segments);
        MediaSequenceNumber(self.facts.media_sequence + skipped + index as u64)
    }

    /// Returns the lines of the segment at `index` in the tables.
    pub(super) fn lines_of(&self, index: usize) -> Span {
        let before = index
            .checked_sub(1)
            .and_then(|before| self.segments.get(before));
        let start = before.map_or(self.segments_start, |row| row.end);
        Span {
            start,
            end: self.segments.get(index).map_or(start, |row| row.end),
        }
    }

    pub(super) fn of_text(&self, span: Span) -> &str {
        span.of_text(&self.text)
    }

    pub(super) fn optional(&self, span: Option<Span>) -> Option<&str> {
        span.map(|span| self.of_text(span))
    }

    fn segment_at(&self, index: usize) -> Segment<'_> {
        let row = self.segments.get(index).expect("the index is of a row");
        let before = index
            .checked_sub(1)
            .and_then(|before| self.segments.get(before));
        let parts_start = before.map_or(0, |row| row.parts_seen as usize);
        Segment {
            uri: self.of_text(row.uri),
            msn: self.msn_of(index),
            duration: row.duration,
            byte_range: row.byte_range,
            is_gap: row.is_gap,
            is_discontinuity: row.is_discontinuity,
            parts: parts_start..row.parts_seen as usize,
            map: (row.maps_seen as usize).checked_sub(1),
            program_date_time: self.optional(row.program_date_time),
        }
    }
}

fn part_number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
