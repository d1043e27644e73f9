//! Reads a media playlist: one pass over its lines, filling the tables of [`MediaPlaylist`].
//!
//! Called by `Playlist::parse`. Unknown tags and comments stay in the text and in no table.

use std::time::Duration;

use bytes::Bytes;

use super::attributes::{Attributes, Flaw};
use super::media_playlist::MediaPlaylist;
use super::playlist::{Limits, MULTIVARIANT_TAGS, PlaylistError};
use super::rows::{
    DateRangeRow, DefineRow, HintRow, KeyRow, MapRow, PartRow, ReportRow, SegmentRow, SkipRow,
};
use super::text::{Line, Lines, Span, before, integer, offset, seconds};
use super::values::{after, byte_range, define, end_of, flawed, malformed, number, read, too_many};
use super::views::{ByteRange, HintKind, PlaylistType, ServerControl};
use crate::position::MediaSequenceNumber;

/// Reads `source`, which is `text`.
pub(super) fn parse(
    text: Bytes,
    source: &str,
    limits: &Limits,
) -> Result<MediaPlaylist, PlaylistError> {
    let mut parser = Parser::new(source, limits);
    for line in Lines::new(source) {
        if line.number as usize > limits.lines_max {
            return Err(too_many("lines", limits.lines_max, &line));
        }
        parser.line(&line)?;
    }
    let mut list = parser.finish()?;
    list.text = text;
    Ok(list)
}

struct Parser<'a> {
    source: &'a str,
    limits: &'a Limits,
    list: MediaPlaylist,
    /// What has been said of the segment whose URI is still to come.
    pending: Pending,
    /// Parts seen of the segment whose URI is still to come.
    pending_parts: u32,
    has_segment_tags: bool,
    target_duration: Option<Duration>,
    part_end: Option<(&'a str, u64)>,
    segment_end: Option<(&'a str, u64)>,
}

#[derive(Default)]
struct Pending {
    duration: Option<Duration>,
    byte_range: Option<ByteRange>,
    program_date_time: Option<Span>,
    is_gap: bool,
    is_discontinuity: bool,
}

impl<'a> Parser<'a> {
    fn new(source: &'a str, limits: &'a Limits) -> Self {
        let mut list = MediaPlaylist::default();
        list.facts.version = 1;
        list.segments_start = offset(source.len());
        // A segment with a date takes some 90 bytes.
        list.segments
            .reserve((source.len() / 128).min(limits.segments_max));
        Self {
            source,
            limits,
            list,
            pending: Pending::default(),
            pending_parts: 0,
            has_segment_tags: false,
            target_duration: None,
            part_end: None,
            segment_end: None,
        }
    }

    fn line(&mut self, line: &Line<'a>) -> Result<(), PlaylistError> {
        if line.number == 1 {
            self.list.header_end = line.span.end;
            Ok(())
        } else if line.text.starts_with("#EXT") {
            self.tag(line)
        } else if line.text.is_empty() || line.text.starts_with('#') {
            Ok(())
        } else {
            self.uri(line)
        }
    }

    fn tag(&mut self, line: &Line<'a>) -> Result<(), PlaylistError> {
        let (name, value) = line.tag();
        if self.segment_tag(name, value, line)? {
            if !self.has_segment_tags {
                self.has_segment_tags = true;
                self.list.segments_start = line.span.start;
            }
        } else if self.playlist_tag(name, value, line)? {
            if self.has_segment_tags {
                self.list.wide_lines.push(line.span);
            }
        } else if MULTIVARIANT_TAGS.contains(&name) {
            return Err(PlaylistError::MixedTags { line: line.number });
        }
        Ok(())
    }

    /// Reads a tag that applies to segments (rfc8216bis 4.4.4); returns whether it is one.
    fn segment_tag(
        &mut self,
        name: &str,
        value: &'a str,
        line: &Line<'a>,
    ) -> Result<bool, PlaylistError> {
        match name {
            "#EXTINF" => {
                let duration = before(value, b',').0.trim_ascii();
                let duration = seconds(duration).ok_or_else(|| malformed("EXTINF", line))?;
                self.pending.duration = Some(duration);
            }
            "#EXT-X-PART" => self.part(value, line)?,
            "#EXT-X-PROGRAM-DATE-TIME" => {
                self.pending.program_date_time = Some(Span::of(self.source, value));
            }
            "#EXT-X-BYTERANGE" => {
                let range = byte_range(value).ok_or_else(|| malformed("EXT-X-BYTERANGE", line))?;
                self.pending.byte_range = Some(range);
            }
            "#EXT-X-DISCONTINUITY" => self.pending.is_discontinuity = true,
            "#EXT-X-GAP" => self.pending.is_gap = true,
            "#EXT-X-BITRATE" => self.list.bitrates.push(line.span),
            "#EXT-X-MAP" => self.map(value, line)?,
            "#EXT-X-KEY" => self.key(value, line)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads a tag that applies to the playlist; returns whether it is one.
    fn playlist_tag(
        &mut self,
        name: &str,
        value: &'a str,
        line: &Line<'a>,
    ) -> Result<bool, PlaylistError> {
        let facts = &mut self.list.facts;
        match name {
            "#EXT-X-VERSION" => {
                facts.version = number(value, "EXT-X-VERSION", line)?;
                self.list.version_line = Some(line.span);
            }
            "#EXT-X-TARGETDURATION" => {
                let duration = seconds(value.trim_ascii());
                let duration = duration.ok_or_else(|| malformed("EXT-X-TARGETDURATION", line))?;
                self.target_duration = Some(duration);
            }
            "#EXT-X-MEDIA-SEQUENCE" => {
                facts.media_sequence = number(value, "EXT-X-MEDIA-SEQUENCE", line)?;
            }
            "#EXT-X-DISCONTINUITY-SEQUENCE" => {
                facts.discontinuity_sequence = number(value, "EXT-X-DISCONTINUITY-SEQUENCE", line)?;
            }
            "#EXT-X-PLAYLIST-TYPE" => {
                facts.playlist_type = match value.trim_ascii() {
                    "EVENT" => Some(PlaylistType::Event),
                    "VOD" => Some(PlaylistType::Vod),
                    _ => return Err(malformed("EXT-X-PLAYLIST-TYPE", line)),
                };
            }
            "#EXT-X-ENDLIST" => facts.is_ended = true,
            "#EXT-X-I-FRAMES-ONLY" => facts.is_i_frames_only = true,
            "#EXT-X-INDEPENDENT-SEGMENTS" => facts.has_independent_segments = true,
            "#EXT-X-START" | "#EXT-X-ALLOW-CACHE" => {}
            "#EXT-X-SERVER-CONTROL" => self.server_control(value, line)?,
            "#EXT-X-PART-INF" => self.part_information(value, line)?,
            "#EXT-X-SKIP" => self.skip(value, line)?,
            "#EXT-X-PRELOAD-HINT" => self.preload_hint(value, line)?,
            "#EXT-X-RENDITION-REPORT" => self.rendition_report(value, line)?,
            "#EXT-X-DATERANGE" => self.date_range(value, line)?,
            "#EXT-X-DEFINE" => self.define(value, line)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Closes a segment at its URI.
    fn uri(&mut self, line: &Line<'a>) -> Result<(), PlaylistError> {
        let pending = std::mem::take(&mut self.pending);
        let duration = pending.duration.ok_or_else(|| malformed("EXTINF", line))?;
        if self.list.segments.len() >= self.limits.segments_max {
            return Err(too_many("segments", self.limits.segments_max, line));
        }
        let range = pending
            .byte_range
            .map(|range| after(range, line.text, self.segment_end));
        self.segment_end = range.and_then(|range| Some((line.text, end_of(range)?)));
        self.pending_parts = 0;
        self.list.segments.push(SegmentRow {
            end: line.span.end,
            uri: Span::of(self.source, line.text),
            program_date_time: pending.program_date_time,
            duration,
            byte_range: range,
            has_implicit_start: pending
                .byte_range
                .is_some_and(|range| range.start.is_none()),
            is_gap: pending.is_gap,
            is_discontinuity: pending.is_discontinuity,
            parts_seen: offset(self.list.parts.len()),
            maps_seen: offset(self.list.maps.len()),
            keys_seen: offset(self.list.keys.len()),
            bitrates_seen: offset(self.list.bitrates.len()),
        });
        Ok(())
    }

    fn part(&mut self, value: &'a str, line: &Line<'a>) -> Result<(), PlaylistError> {
        const TAG: &str = "EXT-X-PART";
        if self.list.parts.len() >= self.limits.parts_max {
            return Err(too_many("parts", self.limits.parts_max, line));
        }
        let (mut uri, mut duration, mut range) = (None, None, None);
        let (mut is_independent, mut is_gap) = (false, false);
        for attribute in self.attributes(value) {
            let attribute = attribute.map_err(|flaw| self.flawed(flaw, TAG, line))?;
            match attribute.name {
                "URI" => uri = Some(attribute.value),
                "DURATION" => duration = Some(read(seconds(attribute.value), TAG, line)?),
                "BYTERANGE" => range = Some(read(byte_range(attribute.value), TAG, line)?),
                "INDEPENDENT" => is_independent = attribute.is_yes(),
                "GAP" => is_gap = attribute.is_yes(),
                _ => {}
            }
        }
        let uri = read(uri, TAG, line)?;
        let range = range.map(|range| after(range, uri, self.part_end));
        self.part_end = range.and_then(|range| Some((uri, end_of(range)?)));
        self.list.parts.push(PartRow {
            uri: Span::of(self.source, uri),
            duration: read(duration, TAG, line)?,
            byte_range: range,
            parent: offset(self.list.segments.len()),
            part_index: self.pending_parts,
            is_independent,
            is_gap,
        });
        self.pending_parts += 1;
        Ok(())
    }

    fn map(&mut self, value: &'a str, line: &Line<'a>) -> Result<(), PlaylistError> {
        const TAG: &str = "EXT-X-MAP";
        let (mut uri, mut range) = (None, None);
        for attribute in self.attributes(value) {
            let attribute = attribute.map_err(|flaw| self.flawed(flaw, TAG, line))?;
            match attribute.name {
                "URI" => uri = Some(Span::of(self.source, attribute.value)),
                "BYTERANGE" => range = Some(read(byte_range(attribute.value), TAG, line)?),
                _ => {}
            }
        }
        // rfc8216bis 4.4.4.5: without an offset, the range begins at zero.
        let range = range.map(|range| ByteRange {
            start: range.start.or(Some(0)),
            ..range
        });
        let uri = read(uri, TAG, line)?;
        self.list.maps.push(MapRow {
            line: line.span,
            uri,
            byte_range: range,
        });
        Ok(())
    }

    fn key(&mut self, value: &'a str, line: &Line<'a>) -> Result<(), PlaylistError> {
        const TAG: &str = "EXT-X-KEY";
        let (mut method, mut uri, mut format) = (None, None, None);
        for attribute in self.attributes(value) {
            let attribute = attribute.map_err(|flaw| self.flawed(flaw, TAG, line))?;
            let span = Some(Span::of(self.source, attribute.value));
            match attribute.name {
                "METHOD" => method = span,
                "URI" => uri = span,
                "KEYFORMAT" => format = span,
                _ => {}
            }
        }
        let method = read(method, TAG, line)?;
        self.list.keys.push(KeyRow {
            line: line.span,
            method,
            uri,
            format,
        });
        Ok(())
    }

    fn server_control(&mut self, value: &'a str, line: &Line<'a>) -> Result<(), PlaylistError> {
        const TAG: &str = "EXT-X-SERVER-CONTROL";
        let mut control = ServerControl::default();
        for attribute in self.attributes(value) {
            let attribute = attribute.map_err(|flaw| self.flawed(flaw, TAG, line))?;
            let duration = || read(seconds(attribute.value), TAG, line).map(Some);
            match attribute.name {
                "CAN-BLOCK-RELOAD" => control.can_block_reload = attribute.is_yes(),
                "CAN-SKIP-UNTIL" => control.can_skip_until = duration()?,
                "CAN-SKIP-DATERANGES" => control.can_skip_dateranges = attribute.is_yes(),
                "HOLD-BACK" => control.hold_back = duration()?,
                "PART-HOLD-BACK" => control.part_hold_back = duration()?,
                _ => {}
            }
        }
        self.list.facts.server_control = control;
        Ok(())
    }

    fn part_information(&mut self, value: &'a str, line: &Line<'a>) -> Result<(), PlaylistError> {
        const TAG: &str = "EXT-X-PART-INF";
        let target = self.required(value, "PART-TARGET", TAG, line)?;
        let target = seconds(target).filter(|target| !target.is_zero());
        self.list.facts.part_target = Some(read(target, TAG, line)?);
        Ok(())
    }

    fn skip(&mut self, value: &'a str, line: &Line<'a>) -> Result<(), PlaylistError> {
        const TAG: &str = "EXT-X-SKIP";
        let (mut segments, mut removed) = (None, None);
        for attribute in self.attributes(value) {
            let attribute = attribute.map_err(|flaw| self.flawed(flaw, TAG, line))?;
            match attribute.name {
                "SKIPPED-SEGMENTS" => segments = integer(attribute.value),
                "RECENTLY-REMOVED-DATERANGES" => {
                    removed = Some(Span::of(self.source, attribute.value));
                }
                _ => {}
            }
        }
        let segments = read(segments, TAG, line)?;
        if segments > self.limits.segments_max as u64 {
            return Err(too_many("skipped segments", self.limits.segments_max, line));
        }
        // rfc8216bis 4.4.5.2: at most once, and before the segments that are not skipped.
        if self.list.facts.skip.is_some() || !self.list.segments.is_empty() {
            return Err(malformed(TAG, line));
        }
        self.list.facts.skip = Some(SkipRow {
            line: line.span,
            segments,
            recently_removed_date_ranges: removed,
        });
        Ok(())
    }

    fn preload_hint(&mut self, value: &'a str, line: &Line<'a>) -> Result<(), PlaylistError> {
        const TAG: &str = "EXT-X-PRELOAD-HINT";
        let (mut kind, mut uri, mut start, mut length) = (None, None, 0, None);
        for attribute in self.attributes(value) {
            let attribute = attribute.map_err(|flaw| self.flawed(flaw, TAG, line))?;
            match attribute.name {
                "TYPE" => kind = Some(attribute.value),
                "URI" => uri = Some(Span::of(self.source, attribute.value)),
                "BYTERANGE-START" => start = read(integer(attribute.value), TAG, line)?,
                "BYTERANGE-LENGTH" => length = Some(read(integer(attribute.value), TAG, line)?),
                _ => {}
            }
        }
        let kind = match read(kind, TAG, line)? {
            "PART" => HintKind::Part,
            "MAP" => HintKind::Map,
            // A type of the future is none of ours (rfc8216bis 4.4.5.3).
            _ => return Ok(()),
        };
        if self.list.hints.len() >= self.limits.hints_max {
            return Err(too_many("preload hints", self.limits.hints_max, line));
        }
        self.list.hints.push(HintRow {
            kind,
            uri: read(uri, TAG, line)?,
            byterange_start: start,
            byterange_length: length,
        });
        Ok(())
    }

    fn rendition_report(&mut self, value: &'a str, line: &Line<'a>) -> Result<(), PlaylistError> {
        const TAG: &str = "EXT-X-RENDITION-REPORT";
        let (mut uri, mut last_msn, mut last_part) = (None, None, None);
        for attribute in self.attributes(value) {
            let attribute = attribute.map_err(|flaw| self.flawed(flaw, TAG, line))?;
            let number = || read(integer(attribute.value), TAG, line);
            match attribute.name {
                "URI" => uri = Some(Span::of(self.source, attribute.value)),
                "LAST-MSN" => last_msn = Some(MediaSequenceNumber(number()?)),
                "LAST-PART" => last_part = Some(read(u32::try_from(number()?).ok(), TAG, line)?),
                _ => {}
            }
        }
        let uri = read(uri, TAG, line)?;
        self.list.reports.push(ReportRow {
            uri,
            last_msn,
            last_part,
        });
        Ok(())
    }

    fn date_range(&mut self, value: &'a str, line: &Line<'a>) -> Result<(), PlaylistError> {
        const TAG: &str = "EXT-X-DATERANGE";
        let (mut id, mut class) = (None, None);
        for attribute in self.attributes(value) {
            let attribute = attribute.map_err(|flaw| self.flawed(flaw, TAG, line))?;
            let span = Some(Span::of(self.source, attribute.value));
            match attribute.name {
                "ID" => id = span,
                "CLASS" => class = span,
                _ => {}
            }
        }
        let id = read(id, TAG, line)?;
        self.list.date_ranges.push(DateRangeRow {
            id,
            class,
            line: line.span,
        });
        Ok(())
    }

    fn define(&mut self, value: &'a str, line: &Line<'a>) -> Result<(), PlaylistError> {
        if let Some((name, kind)) = define(value, self.limits, line)? {
            self.list.defines.push(DefineRow {
                name: Span::of(self.source, name),
                kind,
            });
        }
        Ok(())
    }

    fn required(
        &self,
        value: &'a str,
        name: &str,
        tag: &'static str,
        line: &Line<'_>,
    ) -> Result<&'a str, PlaylistError> {
        for attribute in self.attributes(value) {
            let attribute = attribute.map_err(|flaw| self.flawed(flaw, tag, line))?;
            if attribute.name == name {
                return Ok(attribute.value);
            }
        }
        Err(malformed(tag, line))
    }

    fn attributes(&self, value: &'a str) -> Attributes<'a> {
        Attributes::new(value, self.limits.attributes_max)
    }

    fn flawed(&self, flaw: Flaw, tag: &'static str, line: &Line<'_>) -> PlaylistError {
        flawed(flaw, tag, self.limits, line)
    }

    fn finish(mut self) -> Result<MediaPlaylist, PlaylistError> {
        let missing = PlaylistError::Missing {
            tag: "EXT-X-TARGETDURATION",
        };
        self.list.facts.target_duration = self.target_duration.ok_or(missing)?;
        Ok(self.list)
    }
}

#[cfg(test)]
#[path = "media_parser_tests.rs"]
mod tests;
