//! The segments of before a run: what stays of them in a playlist of the run.
//!
//! Those whose bytes are still there stay as they were, for the runway; the others, and the one that was being made, are gaps.
//! Called by `rebase` when a run begins. Deliberately not here: which of them there is room for.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::delta::{put_line, put_segment, put_state};
use super::media_playlist::MediaPlaylist;
use super::redact::ABSENT_URI;

/// A segment of before the run.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// Its lines after another one.
    pub(super) lines: Bytes,
    /// Its lines as the first of the playlist, with what segments before it have set.
    pub(super) first_lines: Bytes,
    pub(super) is_discontinuity: bool,
}

impl Kept {
    /// Returns the open segment as one that will not come, with the parts of it that did.
    pub(super) fn open_segment(before: &MediaPlaylist, is_there: &impl Fn(&str) -> bool) -> Self {
        let mut lines = BytesMut::new();
        let parts: Vec<_> = before.parts().skip(before.open_parts().start).collect();
        let has_all = parts.iter().all(|part| part.is_gap || is_there(part.uri));
        let mut is_discontinuity = false;
        for line in before.of_text(before.tail()).split_inclusive('\n') {
            let tag = line.trim_ascii().split(':').next().unwrap_or_default();
            is_discontinuity |= tag == "#EXT-X-DISCONTINUITY";
            let is_part = tag == "#EXT-X-PART";
            if (is_part && has_all) || OF_A_SEGMENT.contains(&tag) {
                put_line(&mut lines, line.as_bytes());
            }
        }
        let duration: Duration = parts.iter().map(|part| part.duration).sum();
        put_absent(&mut lines, duration);
        Self::new(
            before,
            before.segments.len(),
            lines.freeze(),
            is_discontinuity,
        )
    }

    /// Returns a segment that never was, to stand for a number.
    pub(super) fn absent(before: &MediaPlaylist) -> Self {
        let mut lines = BytesMut::new();
        put_absent(&mut lines, before.target_duration());
        Self::new(before, before.segments.len(), lines.freeze(), false)
    }

    fn new(before: &MediaPlaylist, index: usize, lines: Bytes, is_discontinuity: bool) -> Self {
        let mut first_lines = BytesMut::new();
        put_state(&mut first_lines, before, index);
        first_lines.put_slice(&lines);
        Self {
            lines,
            first_lines: first_lines.freeze(),
            is_discontinuity,
        }
    }
}

/// Returns the segments of before the run.
pub(super) fn kept_of(before: &MediaPlaylist, is_there: &impl Fn(&str) -> bool) -> Vec<Kept> {
    let lines_of = |index: usize, is_there: bool, is_first: bool| {
        let mut lines = BytesMut::new();
        put_segment(&mut lines, before, index, is_first);
        if is_there {
            lines.freeze()
        } else {
            as_gap(&lines)
        }
    };
    let segments = before.segments().enumerate();
    let kept = segments.map(|(index, segment)| {
        let is_there = segment.is_gap || is_there(segment.uri);
        let mut first_lines = BytesMut::new();
        put_state(&mut first_lines, before, index);
        first_lines.put_slice(&lines_of(index, is_there, true));
        Kept {
            lines: lines_of(index, is_there, false),
            first_lines: first_lines.freeze(),
            is_discontinuity: segment.is_discontinuity,
        }
    });
    kept.collect()
}

/// Returns the lines of a segment as those of one that is not there.
///
/// Its URI stays: hls.js gives up a playlist in which a segment that it knows has another one.
fn as_gap(lines: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(lines.len() + 32);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let text = line.trim_ascii();
        if text.starts_with(b"#EXT-X-BYTERANGE") {
            continue;
        }
        if !text.is_empty() && !text.starts_with(b"#") {
            out.put_slice(b"#EXT-X-GAP\n");
        }
        out.put_slice(line);
    }
    out.freeze()
}

fn put_absent(out: &mut BytesMut, duration: Duration) {
    let seconds = duration.as_secs_f64();
    out.put_slice(format!("#EXTINF:{seconds:.5},\n#EXT-X-GAP\n{ABSENT_URI}\n").as_bytes());
}

/// Tags of the open segment that belong to it, and not to the playlist.
const OF_A_SEGMENT: [&str; 5] = [
    "#EXT-X-BITRATE",
    "#EXT-X-DISCONTINUITY",
    "#EXT-X-KEY",
    "#EXT-X-MAP",
    "#EXT-X-PROGRAM-DATE-TIME",
];
