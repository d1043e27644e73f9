//! Delta updates: the short form of a version, and the long form again (rfc8216bis 6.2.5.1).
//!
//! ```text
//! header                     header, version 9 or later
//! segments 10 .. 67    ──►   date ranges from among them, EXT-X-SKIP:SKIPPED-SEGMENTS=58
//! segments 68 .. 73          segments 68 .. 73
//! open parts, hints          open parts, hints
//! ```
//!
//! Called by the live hub, which makes one delta of each kind per version, and by the lab's players,
//! which merge. Deliberately not here: which form a request gets, and which date ranges are old enough
//! to be left out: that cannot be read from a text (`date_ranges`).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::date_ranges::OldDateRanges;
use super::media_playlist::MediaPlaylist;
use super::rows::KeyRow;
use super::text::Span;

/// Makes the delta update of a full playlist (LL-13).
///
/// Left out are segments that begin further than the skip boundary before the end of the last
/// complete segment, and the lines that apply to them; everything else stays byte for byte, except
/// the version, which becomes at least 9. What was set among the left-out segments and still holds
/// (a map, a key) is not said again: who merges has it from there (LL-15).
///
/// `None` when the directive is to be ignored (LL-11): no skip boundary, the stream has ended, the
/// playlist is a delta update itself, nothing is old enough, or the version is not in its header.
pub fn delta_update(playlist: &MediaPlaylist) -> Option<Bytes> {
    make(playlist, None)
}

/// Makes the delta update of a full playlist without its old date ranges (LL-14).
///
/// As [`delta_update`]; the version becomes at least 10. `old` is what the history of the rendition
/// said of this very playlist.
pub fn delta_update_of_both(playlist: &MediaPlaylist, old: &OldDateRanges) -> Option<Bytes> {
    make(playlist, Some(old))
}

fn make(playlist: &MediaPlaylist, old: Option<&OldDateRanges>) -> Option<Bytes> {
    let boundary = playlist.can_skip_until()?;
    if playlist.is_ended() || playlist.facts.skip.is_some() {
        return None;
    }
    // A version after the first segment tag cannot be raised in the header.
    if playlist
        .version_line
        .is_some_and(|line| line.end > playlist.segments_start)
    {
        return None;
    }
    let skipped = skippable(playlist, boundary);
    let kept_from = playlist.lines_of(skipped.checked_sub(1)?).end;
    let text = &playlist.text;
    let left_out = old.map_or_else(Vec::new, |old| lines_of_rows(playlist, &old.rows));
    let mut out = BytesMut::with_capacity(text.len() - (kept_from as usize) + HEADER_BYTES);
    // rfc8216bis 8: EXT-X-SKIP needs version 9, and 10 where it stands for date ranges, too.
    let version = if old.is_some() { 10 } else { 9 };
    put_header(&mut out, playlist, version, &left_out);
    for line in playlist
        .wide_lines
        .iter()
        .filter(|line| line.end <= kept_from && !left_out.contains(line))
    {
        put_line(&mut out, slice(text, *line));
    }
    out.put_slice(format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}").as_bytes());
    if let Some(old) = old {
        // rfc8216bis 4.4.5.2: required of an update that leaves out date ranges; it may be empty.
        let removed = old.removed.join("\t");
        out.put_slice(format!(",RECENTLY-REMOVED-DATERANGES=\"{removed}\"").as_bytes());
    }
    out.put_u8(b'\n');
    let kept = Span {
        start: kept_from,
        end: u32::try_from(text.len()).ok()?,
    };
    put_without(&mut out, text, kept, &left_out);
    Some(out.freeze())
}

fn lines_of_rows(playlist: &MediaPlaylist, rows: &[usize]) -> Vec<Span> {
    let row = |row: &usize| playlist.date_ranges.get(*row);
    rows.iter().filter_map(row).map(|row| row.line).collect()
}

/// Writes a span of the text without the lines, ascending, that are left out of it.
fn put_without(out: &mut BytesMut, text: &Bytes, span: Span, left_out: &[Span]) {
    let mut from = span.start;
    for line in left_out {
        if line.start >= from && line.end <= span.end {
            let before = Span {
                start: from,
                end: line.start,
            };
            out.put_slice(slice(text, before));
            from = line.end;
        }
    }
    let rest = Span {
        start: from,
        end: span.end,
    };
    out.put_slice(slice(text, rest));
}

/// Counts the segments that begin further than `boundary` before the end of the last one.
fn skippable(playlist: &MediaPlaylist, boundary: Duration) -> usize {
    let mut to_end = Duration::ZERO;
    let kept = playlist.segments.iter().rev().take_while(|row| {
        to_end += row.duration;
        to_end <= boundary
    });
    playlist.segments.len() - kept.count()
}

/// Writes what is before the first segment, with a version of at least `version_min`.
fn put_header(out: &mut BytesMut, playlist: &MediaPlaylist, version_min: u64, left_out: &[Span]) {
    let text = &playlist.text;
    let end = playlist.segments_start;
    let needs_version = playlist.version() < version_min;
    let version_line = match playlist.version_line {
        _ if !needs_version => Span { start: end, end },
        Some(line) => line,
        None => Span {
            start: playlist.header_end,
            end: playlist.header_end,
        },
    };
    let before = Span {
        start: 0,
        end: version_line.start,
    };
    put_without(out, text, before, left_out);
    if needs_version {
        put_line(out, format!("#EXT-X-VERSION:{version_min}\n").as_bytes());
    }
    let after = Span {
        start: version_line.end,
        end,
    };
    put_without(out, text, after, left_out);
}

/// Why a delta update cannot be merged; the full playlist must be asked for (LL-16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MergeError {
    /// The newer playlist is whole.
    #[error("the newer playlist is not a delta update")]
    NotADelta,
    /// The older playlist is a delta update itself.
    #[error("the older playlist is a delta update")]
    PreviousIsADelta,
    /// The older playlist does not have every skipped segment.
    #[error("a skipped segment is not in the older playlist")]
    SegmentMissing,
}

/// Merges a delta update into an older version of the same playlist; returns the whole text.
///
/// Parts of skipped segments are left out: only the live edge needs them. A map, key or bit rate
/// that the older version stated before the first merged segment is stated again.
///
/// # Errors
///
/// [`MergeError`]; the caller then asks for the full playlist.
pub fn merge_delta(previous: &MediaPlaylist, delta: &MediaPlaylist) -> Result<Bytes, MergeError> {
    let skip = delta.facts.skip.as_ref().ok_or(MergeError::NotADelta)?;
    if previous.facts.skip.is_some() {
        return Err(MergeError::PreviousIsADelta);
    }
    let first = delta
        .facts
        .media_sequence
        .checked_sub(previous.facts.media_sequence);
    let first = first.and_then(|first| usize::try_from(first).ok());
    let count = usize::try_from(skip.segments).ok();
    let (Some(first), Some(count)) = (first, count) else {
        return Err(MergeError::SegmentMissing);
    };
    let end = first
        .checked_add(count)
        .filter(|end| *end <= previous.segments.len());
    let end = end.ok_or(MergeError::SegmentMissing)?;
    let text = &delta.text;
    let mut out = BytesMut::with_capacity(text.len() + count * LINES_BYTES);
    out.put_slice(slice(
        text,
        Span {
            start: 0,
            end: skip.line.start,
        },
    ));
    if let Some(removed) = skip.recently_removed_date_ranges {
        put_date_ranges(&mut out, previous, delta, delta.of_text(removed));
    }
    if count > 0 {
        put_state(&mut out, previous, first);
    }
    for index in first..end {
        put_segment(&mut out, previous, index, index == first);
    }
    out.put_slice(text.get(skip.line.end as usize..).unwrap_or_default());
    Ok(out.freeze())
}

/// Writes the date ranges of an older version that a newer one left out and has not removed (LL-14).
fn put_date_ranges(
    out: &mut BytesMut,
    previous: &MediaPlaylist,
    delta: &MediaPlaylist,
    removed: &str,
) {
    for range in previous.date_ranges() {
        let is_removed = removed.split('\t').any(|id| id == range.id);
        let is_kept = delta.date_ranges().any(|kept| kept.line == range.line);
        if !is_removed && !is_kept {
            out.put_slice(range.line.as_bytes());
            out.put_u8(b'\n');
        }
    }
}

/// Writes what segments before `index` have set and still holds there.
pub(super) fn put_state(out: &mut BytesMut, playlist: &MediaPlaylist, index: usize) {
    let Some(before) = index
        .checked_sub(1)
        .and_then(|before| playlist.segments.get(before))
    else {
        return;
    };
    let map = (before.maps_seen as usize)
        .checked_sub(1)
        .and_then(|map| playlist.maps.get(map));
    if let Some(map) = map {
        put_line(out, slice(&playlist.text, map.line));
    }
    let keys = playlist
        .keys
        .get(..before.keys_seen as usize)
        .unwrap_or_default();
    for key in keys_in_force(playlist, keys) {
        put_line(out, slice(&playlist.text, key.line));
    }
    let bitrate = (before.bitrates_seen as usize).checked_sub(1);
    if let Some(line) = bitrate.and_then(|bitrate| playlist.bitrates.get(bitrate)) {
        put_line(out, slice(&playlist.text, *line));
    }
}

/// rfc8216bis 4.4.4.4: a key holds until another of the same format, or the method `NONE`.
fn keys_in_force<'a>(playlist: &MediaPlaylist, keys: &'a [KeyRow]) -> Vec<&'a KeyRow> {
    let mut in_force: Vec<&KeyRow> = Vec::new();
    for key in keys {
        if playlist.of_text(key.method) == "NONE" {
            in_force.clear();
            continue;
        }
        let format = playlist.optional(key.format);
        in_force.retain(|other| playlist.optional(other.format) != format);
        in_force.push(key);
    }
    in_force
}

/// Writes the lines of a segment, without those that apply to the whole playlist and without parts.
pub(super) fn put_segment(
    out: &mut BytesMut,
    playlist: &MediaPlaylist,
    index: usize,
    is_first: bool,
) {
    let Some(row) = playlist.segments.get(index) else {
        return;
    };
    let lines = slice(&playlist.text, playlist.lines_of(index));
    let start = row.byte_range.and_then(|range| range.start);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let tag = line
            .trim_ascii()
            .split(|byte| *byte == b':')
            .next()
            .unwrap_or_default();
        match (tag, start) {
            (b"#EXT-X-BYTERANGE", Some(start)) if is_first && row.has_implicit_start => {
                let length = row.byte_range.map_or(0, |range| range.length);
                put_line(
                    out,
                    format!("#EXT-X-BYTERANGE:{length}@{start}\n").as_bytes(),
                );
            }
            (tag, _) if PLAYLIST_LINES.contains(&tag) => {}
            _ => put_line(out, line),
        }
    }
}

fn slice(text: &Bytes, span: Span) -> &[u8] {
    text.get(span.start as usize..span.end as usize)
        .unwrap_or_default()
}

/// Writes a line, ended even if it was the last of its text.
pub(super) fn put_line(out: &mut BytesMut, line: &[u8]) {
    out.put_slice(line);
    if !line.ends_with(b"\n") {
        out.put_u8(b'\n');
    }
}

/// Tags among a segment's lines that a merge takes from the newer playlist or leaves out.
const PLAYLIST_LINES: [&[u8]; 14] = [
    b"#EXT-X-PART",
    b"#EXT-X-DATERANGE",
    b"#EXT-X-DEFINE",
    b"#EXT-X-DISCONTINUITY-SEQUENCE",
    b"#EXT-X-I-FRAMES-ONLY",
    b"#EXT-X-INDEPENDENT-SEGMENTS",
    b"#EXT-X-MEDIA-SEQUENCE",
    b"#EXT-X-PART-INF",
    b"#EXT-X-PLAYLIST-TYPE",
    b"#EXT-X-PRELOAD-HINT",
    b"#EXT-X-RENDITION-REPORT",
    b"#EXT-X-SERVER-CONTROL",
    b"#EXT-X-TARGETDURATION",
    b"#EXT-X-VERSION",
];

/// Room for the lines that only a delta has.
const HEADER_BYTES: usize = 512;
/// Room for a segment's lines.
const LINES_BYTES: usize = 96;

#[cfg(test)]
#[path = "delta_tests.rs"]
mod tests;
