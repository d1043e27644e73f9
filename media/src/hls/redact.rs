//! Rewriting a media playlist so that it no longer names what was purged.
//!
//! ```text
//! #EXTINF:2,                               #EXTINF:2,
//! #EXT-X-BYTERANGE:700@0            ──►    #EXT-X-GAP
//! s12.mp4                                  s12.mp4?_seawall_purged
//! #EXT-X-PART:DURATION=.5,URI="p12.0"      #EXT-X-PART:DURATION=.5,URI="p12.0?_seawall_purged",GAP=YES
//! #EXT-X-PRELOAD-HINT:TYPE=PART,URI=..     (gone)
//! ```
//!
//! Called by the node once per version. The timeline stays: numbers, durations, dates, discontinuities, keys and
//! maps are as they were, so that what a player has already, and what a delta update skips, still fits
//! (rfc8216bis 6.2.1: a segment may become absent; it may not leave the middle). Rewriting twice changes
//! nothing, so tiers may do it each for itself. Deliberately not here: which segments (`stretch`).

use bytes::{BufMut, Bytes, BytesMut};

use super::attributes::Attributes;
use super::media_playlist::MediaPlaylist;
use super::stretch::{Meant, is_part_hint};
use super::text::Span;

/// The parameter of a URI that stands in a playlist in place of one that was purged.
///
/// rfc8216bis 4.4.4.7: a segment with `EXT-X-GAP` still has a URI, which clients do not load. One that did
/// would be told by the node that this is gone. Its path stays: hls.js gives up a playlist in which a segment that it knows
/// has another one, and compares without queries.
pub const PURGED_MARK: &str = "_seawall_purged";

/// What stands for a segment that never had a URI.
pub(super) const ABSENT_URI: &str = "gone?_seawall_purged";

/// Returns whether `target` stands for something that was purged.
pub fn is_purged(target: &str) -> bool {
    let Some((_, query)) = target.split_once('?') else {
        return false;
    };
    query.split('&').any(|parameter| parameter == PURGED_MARK)
}

/// Returns the URI that stands for a purged one.
fn purged(uri: &str) -> String {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    [path, "?", PURGED_MARK].concat()
}

/// Returns the text of `playlist` with every segment that is `meant` marked as absent and not named any more.
pub fn redact(playlist: &MediaPlaylist, meant: &Meant) -> Bytes {
    let text = &playlist.text;
    let mut out = BytesMut::with_capacity(text.len());
    let hints = meant.open;
    let header = Span {
        start: 0,
        end: playlist.segments_start,
    };
    put(&mut out, playlist.of_text(header), Rewrite::only(hints));
    let mut was_meant = false;
    for (index, row) in playlist.segments.iter().enumerate() {
        let is_meant = meant.segments.get(index).copied().unwrap_or(false);
        let start = row.byte_range.and_then(|range| range.start);
        let rewrite = Rewrite {
            is_gap: is_meant,
            without_hints: hints,
            // The range that it followed is not there any more.
            starts_at: start.filter(|_| was_meant && row.has_implicit_start),
        };
        put(
            &mut out,
            playlist.of_text(playlist.lines_of(index)),
            rewrite,
        );
        was_meant = is_meant;
    }
    let rewrite = Rewrite {
        is_gap: meant.open,
        ..Rewrite::only(hints)
    };
    put(&mut out, playlist.of_text(playlist.tail()), rewrite);
    out.freeze()
}

/// What is done to a run of lines.
#[derive(Clone, Copy)]
struct Rewrite {
    /// Its segment and parts are absent.
    is_gap: bool,
    /// No part is announced.
    without_hints: bool,
    /// The range of its segment begins here.
    starts_at: Option<u64>,
}

impl Rewrite {
    fn only(without_hints: bool) -> Self {
        Self {
            is_gap: false,
            without_hints,
            starts_at: None,
        }
    }
}

fn put(out: &mut BytesMut, lines: &str, rewrite: Rewrite) {
    if !rewrite.is_gap && !rewrite.without_hints && rewrite.starts_at.is_none() {
        out.put_slice(lines.as_bytes());
        return;
    }
    for line in lines.split_inclusive('\n') {
        let text = line.trim_ascii();
        let (tag, value) = text.split_once(':').unwrap_or((text, ""));
        match (tag, rewrite.starts_at) {
            ("#EXT-X-PRELOAD-HINT", _) if rewrite.without_hints && is_part_hint(value) => {}
            ("#EXT-X-BYTERANGE", Some(start)) if !rewrite.is_gap => {
                put_all(out, &["#EXT-X-BYTERANGE:", value, &format!("@{start}\n")]);
            }
            ("#EXT-X-BYTERANGE" | "#EXT-X-GAP", _) if rewrite.is_gap => {}
            ("#EXT-X-PART", _) if rewrite.is_gap => put_absent_part(out, value),
            _ if rewrite.is_gap && !text.is_empty() && !text.starts_with('#') => {
                put_all(out, &["#EXT-X-GAP\n", &purged(text), "\n"]);
            }
            _ => out.put_slice(line.as_bytes()),
        }
    }
}

/// rfc8216bis 4.4.4.9: an absent part keeps its place and duration.
fn put_absent_part(out: &mut BytesMut, attributes: &str) {
    let mut duration = "0";
    let mut independent = "";
    let mut uri = "";
    for attribute in Attributes::new(attributes, usize::MAX).flatten() {
        match attribute.name {
            "DURATION" => duration = attribute.value,
            "URI" => uri = attribute.value,
            "INDEPENDENT" if attribute.is_yes() => independent = ",INDEPENDENT=YES",
            _ => {}
        }
    }
    let uri = [",URI=\"", &purged(uri), "\""].concat();
    put_all(
        out,
        &[
            "#EXT-X-PART:DURATION=",
            duration,
            &uri,
            independent,
            ",GAP=YES\n",
        ],
    );
}

fn put_all(out: &mut BytesMut, pieces: &[&str]) {
    for piece in pieces {
        out.put_slice(piece.as_bytes());
    }
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
