//! What a player looks up in a media playlist: what stands where, where to start, where to switch.
//!
//! Pure functions over [`media::hls`], which reads the text. `track.rs` and its cursor decide with
//! them what to request. Nothing is kept here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::hls::{
    ByteRange, Limits, Map, MediaPlaylist, MergeError, Part, Playlist, PlaylistError, merge_delta,
};
use media::{MediaSequenceNumber, Position};

use super::client::RequestRange;

/// A URI reference with an optional byte range of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) uri: Arc<str>,
    pub(crate) range: Option<RequestRange>,
}

/// Why a text is no media playlist a player can use.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum ListError {
    #[error(transparent)]
    Playlist(#[from] PlaylistError),
    #[error("a multivariant playlist where a media playlist should be")]
    Multivariant,
    #[error("a delta update without a playlist before it")]
    Unfounded,
    #[error("the delta update does not fit: {0}")]
    Delta(#[from] MergeError),
}

/// Reads a media playlist; a delta update is completed from the playlist before it.
pub(crate) fn read(
    text: Bytes,
    before: Option<&MediaPlaylist>,
) -> Result<MediaPlaylist, ListError> {
    let read = |text| match Playlist::parse(text, &Limits::default())? {
        Playlist::Media(list) => Ok(list),
        Playlist::Multivariant(_) => Err(ListError::Multivariant),
    };
    let list = read(text)?;
    if list.skip().is_none() {
        return Ok(list);
    }
    read(merge_delta(before.ok_or(ListError::Unfounded)?, &list)?)
}

/// What a playlist has at a position.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    Part {
        resource: Resource,
        duration: Duration,
    },
    /// A whole segment, where only it is listed.
    Segment {
        resource: Resource,
        duration: Duration,
    },
    /// The position is past the end of a complete segment, or a gap: go on there.
    GoOn(Position),
    /// It is not listed yet.
    NotYet,
    /// It is no longer listed.
    Gone,
}

/// Returns what `list` has at `at`.
pub(crate) fn find(list: &MediaPlaylist, at: Position) -> Found {
    if let Some(part) = part_at(list, at) {
        if part.is_gap {
            let next = at.part_index.unwrap_or(0).saturating_add(1);
            return Found::GoOn(Position::part(at.msn, next));
        }
        return Found::Part {
            resource: resource(part.uri, part.byte_range),
            duration: part.duration,
        };
    }
    if at.msn >= list.open_msn() {
        return Found::NotYet;
    }
    let Some(segment) = list.segment(at.msn) else {
        return Found::Gone;
    };
    let is_past_the_end = at.part_index.is_some_and(|index| index > 0) && !segment.parts.is_empty();
    if is_past_the_end || segment.is_gap {
        return Found::GoOn(first_of(at.msn.next(), at));
    }
    // What of the segment was buffered as parts before they were no longer listed.
    let had = list.part_target().unwrap_or_default() * at.part_index.unwrap_or(0);
    Found::Segment {
        resource: resource(segment.uri, segment.byte_range),
        duration: segment.duration.saturating_sub(had),
    }
}

/// Returns the part at a position, if it is listed.
pub(crate) fn part_at(list: &MediaPlaylist, at: Position) -> Option<Part<'_>> {
    let index = usize::try_from(at.part_index?).ok()?;
    let mut parts = if at.msn == list.open_msn() {
        list.open_parts()
    } else {
        list.segment(at.msn)?.parts
    };
    list.parts().nth(parts.nth(index)?)
}

/// Returns the initialization section that media at a position needs.
pub(crate) fn map_at(list: &MediaPlaylist, at: Position) -> Option<Resource> {
    let map = match list.segment(at.msn) {
        Some(segment) => list.maps().nth(segment.map?),
        None => list.maps().last(),
    };
    map.map(|Map { uri, byte_range }| resource(uri, byte_range))
}

/// Returns how much media `list` has after `position`.
pub(crate) fn duration_after(list: &MediaPlaylist, position: Position) -> Duration {
    let whole = list.segments().rev().take_while(|s| s.msn > position.msn);
    let whole: Duration = whole.map(|segment| segment.duration).sum();
    let open = list.open_msn();
    let is_counted = |part: &Part<'_>| {
        let is_of_a_whole_one = part.position.msn < open && part.position.msn > position.msn;
        part.position > position && !is_of_a_whole_one
    };
    let parts = list
        .parts()
        .rev()
        .take_while(|part| part.position > position);
    whole
        + parts
            .filter(is_counted)
            .map(|part| part.duration)
            .sum::<Duration>()
}

/// Returns where playing starts: the hold-back before the end of a live list, on a part that can be
/// decoded by itself; the beginning of an ended one.
pub(crate) fn start(list: &MediaPlaylist) -> Position {
    let open = list.open_msn();
    let first = list.segments().next().map_or(open, |segment| segment.msn);
    let at_segment = |msn| first_of(msn, list.next_position());
    if list.is_ended() {
        return at_segment(first);
    }
    let hold_back = match list.part_target() {
        Some(part) => list.part_hold_back().unwrap_or(part * 3),
        None => list.hold_back(),
    };
    let mut behind = Duration::ZERO;
    let mut oldest_part = open;
    for part in list.parts().rev() {
        behind += part.duration;
        if behind >= hold_back && part.is_independent {
            return part.position;
        }
        oldest_part = part.position.msn;
    }
    for segment in list
        .segments()
        .rev()
        .filter(|segment| segment.parts.is_empty())
    {
        behind += segment.duration;
        if behind >= hold_back {
            return at_segment(segment.msn);
        }
    }
    at_segment(first.min(oldest_part))
}

/// Returns the newest independent part at or before `at` in its segment: where a switch begins.
pub(crate) fn switch_at(list: &MediaPlaylist, at: Position) -> Option<Position> {
    // One segment ahead is a rendition that is a part ahead of this one's list.
    if at.msn > list.open_msn().next()
        || (at.msn < list.open_msn() && list.segment(at.msn).is_none())
    {
        return None;
    }
    let Some(index) = at.part_index else {
        return Some(at);
    };
    let mut of_segment = list.parts().filter(|part| part.position.msn == at.msn);
    let independent =
        of_segment.rfind(|part| part.is_independent && part.position.part_index <= Some(index));
    Some(independent.map_or(Position::part(at.msn, 0), |part| part.position))
}

/// True if the newest part is a byte range of something that grows.
pub(crate) fn has_ranged_parts(list: &MediaPlaylist) -> bool {
    let last = list.parts().next_back();
    last.is_some_and(|part| part.byte_range.is_some())
}

/// Returns the first position of a segment: its part zero where `like` is a part.
fn first_of(msn: MediaSequenceNumber, like: Position) -> Position {
    Position {
        msn,
        part_index: like.part_index.map(|_| 0),
    }
}

fn resource(uri: &str, range: Option<ByteRange>) -> Resource {
    Resource {
        uri: uri.into(),
        range: range.map(|range| RequestRange {
            // A range that follows from a segment no longer shown: its start is anyone's guess.
            start: range.start.unwrap_or(0),
            len: range.length,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n\
        #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5\n\
        #EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:10\n#EXT-X-MAP:URI=\"init.mp4\"\n\
        #EXTINF:2.0,\nseg10.m4s\n\
        #EXT-X-PART:DURATION=0.5,URI=\"seg11.0.m4s\",INDEPENDENT=YES\n\
        #EXT-X-PART:DURATION=0.5,URI=\"seg11.1.m4s\"\n\
        #EXTINF:2.0,\nseg11.m4s\n\
        #EXT-X-PART:DURATION=0.5,URI=\"seg12.m4s\",BYTERANGE=\"50@7\",INDEPENDENT=YES\n";

    fn list() -> MediaPlaylist {
        read(Bytes::from_static(LIST.as_bytes()), None).unwrap()
    }

    fn part(msn: u64, index: u32) -> Position {
        Position::part(MediaSequenceNumber(msn), index)
    }

    #[test]
    fn a_position_is_found_as_part_or_segment_or_leads_on() {
        let list = list();
        let uri = |at| match find(&list, at) {
            Found::Part { resource, .. } | Found::Segment { resource, .. } => {
                resource.uri.to_string()
            }
            other => format!("{other:?}"),
        };
        assert_eq!(uri(part(11, 1)), "seg11.1.m4s");
        assert_eq!(uri(part(10, 0)), "seg10.m4s");
        assert_eq!(find(&list, part(11, 2)), Found::GoOn(part(12, 0)));
        assert_eq!(find(&list, part(12, 1)), Found::NotYet);
        assert_eq!(find(&list, part(14, 0)), Found::NotYet);
        assert_eq!(find(&list, part(9, 0)), Found::Gone);
        let Found::Part { resource, .. } = find(&list, part(12, 0)) else {
            panic!()
        };
        assert_eq!(resource.range, Some(RequestRange { start: 7, len: 50 }));
        assert_eq!(map_at(&list, part(12, 0)).unwrap().uri.as_ref(), "init.mp4");
    }

    #[test]
    fn media_after_a_position_counts_whole_segments_and_open_parts() {
        let list = list();
        let segment = |msn| Position::segment(MediaSequenceNumber(msn));
        for (after, millis) in [
            (segment(10), 2500),
            (part(11, 0), 1000),
            (segment(11), 500),
            (part(12, 0), 0),
        ] {
            assert_eq!(
                duration_after(&list, after),
                Duration::from_millis(millis),
                "{after}"
            );
        }
    }

    #[test]
    fn a_start_is_the_hold_back_before_the_end_on_an_independent_part() {
        assert_eq!(start(&list()), part(11, 0));
    }

    #[test]
    fn a_delta_update_needs_the_playlist_before_it() {
        let delta = LIST.replace(
            "#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:2.0,\nseg10.m4s\n",
            "#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n",
        );
        let merged = read(Bytes::from(delta.clone()), Some(&list())).unwrap();
        assert_eq!(find(&merged, part(10, 0)), find(&list(), part(10, 0)));
        assert_eq!(
            read(Bytes::from(delta), None).unwrap_err(),
            ListError::Unfounded
        );
    }
}
