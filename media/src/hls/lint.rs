//! The origin linter: what a packager does that players stumble over.
//!
//! A cache passes on what it gets, and viewers blame the cache. This compares each version of a playlist
//! with the one before and names what breaks a rule, with the evidence. Called by the live hub with every
//! newer version; cheap, because it looks only at what is new. Deliberately not here: time (a version that
//! came late is the chain's to notice) and going backwards ([`Rendition`](super::Rendition)).

use std::time::Duration;

use super::media_playlist::MediaPlaylist;
use super::views::Segment;
use crate::position::{MediaSequenceNumber, Position};
use crate::time::parse_date_time;

/// A rule that a playlist breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lapse {
    /// LL-22: the target duration is not what it was.
    #[error("the target duration changed from {before:?} to {now:?}")]
    TargetDurationChanged {
        /// What it was.
        before: Duration,
        /// What it is.
        now: Duration,
    },
    /// A part is longer than the part target (rfc8216bis 4.4.4.9).
    #[error("part {part} lasts {lasts:?}, longer than the part target")]
    PartTooLong {
        /// Which part.
        part: Position,
        /// How long it is.
        lasts: Duration,
    },
    /// A segment, rounded to seconds, is longer than the target duration (rfc8216bis 4.4.3.1).
    #[error("segment {segment} lasts {lasts:?}, longer than the target duration")]
    SegmentTooLong {
        /// Which segment.
        segment: MediaSequenceNumber,
        /// How long it is.
        lasts: Duration,
    },
    /// The date of a segment is not where its predecessor ends, without a discontinuity.
    #[error("the date of segment {segment} is {off:?} away from the end of the one before")]
    DateJumped {
        /// Which segment.
        segment: MediaSequenceNumber,
        /// By how much.
        off: Duration,
    },
    /// A fragmented MP4 segment has no `EXT-X-MAP` (rfc8216bis 3.1.2).
    #[error("segment {segment} is fragmented MP4 and has no EXT-X-MAP")]
    MapMissing {
        /// Which segment.
        segment: MediaSequenceNumber,
    },
}

/// Returns what `now` does wrong that `before` did not, at most [`LAPSES_MAX`] of it.
pub fn lint(before: Option<&MediaPlaylist>, now: &MediaPlaylist) -> Vec<Lapse> {
    let mut lapses = Vec::new();
    if let Some(before) = before.map(MediaPlaylist::target_duration)
        && before != now.target_duration()
    {
        let now = now.target_duration();
        lapses.push(Lapse::TargetDurationChanged { before, now });
    }
    let last = before.and_then(MediaPlaylist::last_position);
    let new_parts = now
        .parts()
        .rev()
        .take_while(|part| last.is_none_or(|last| part.position > last));
    let part_target = now.part_target().unwrap_or(Duration::MAX);
    lapses.extend(
        new_parts
            .filter(|part| part.duration > part_target.saturating_add(TOLERANCE))
            .map(|part| Lapse::PartTooLong {
                part: part.position,
                lasts: part.duration,
            }),
    );
    let last = before.and_then(MediaPlaylist::last_segment);
    let new_segments = now
        .segments()
        .rev()
        .take_while(|segment| last.is_none_or(|last| segment.msn > last));
    for segment in new_segments.take(LAPSES_MAX) {
        lapses.extend(lapses_of(now, &segment));
    }
    lapses.truncate(LAPSES_MAX);
    lapses
}

fn lapses_of(playlist: &MediaPlaylist, segment: &Segment<'_>) -> Vec<Lapse> {
    let mut lapses = Vec::new();
    let msn = segment.msn;
    // Rounded to the nearest second: 6.4 s may be in a playlist with a target duration of 6.
    let longest = playlist.target_duration() + Duration::from_millis(500);
    if segment.duration >= longest {
        lapses.push(Lapse::SegmentTooLong {
            segment: msn,
            lasts: segment.duration,
        });
    }
    if segment.map.is_none() && is_fragmented_mp4(segment.uri) {
        lapses.push(Lapse::MapMissing { segment: msn });
    }
    if let Some(off) = date_jump(playlist, segment)
        && off > playlist.target_duration() / 2
    {
        lapses.push(Lapse::DateJumped { segment: msn, off });
    }
    lapses
}

/// Returns how far the date of a segment is from the end of the one before, if both say a date.
fn date_jump(playlist: &MediaPlaylist, segment: &Segment<'_>) -> Option<Duration> {
    let number = segment.msn.0.checked_sub(1)?;
    let before = playlist.segment(MediaSequenceNumber(number))?;
    if segment.is_discontinuity {
        return None;
    }
    let ended = parse_date_time(before.program_date_time?)?.saturating_add(before.duration);
    let began = parse_date_time(segment.program_date_time?)?;
    Some(began.abs_diff(ended))
}

fn is_fragmented_mp4(uri: &str) -> bool {
    let path = uri.split(['?', '#']).next().unwrap_or(uri);
    FRAGMENTED.iter().any(|extension| path.ends_with(extension))
}

/// Lapses told of one version: a packager that does one thing wrong does it in every segment.
pub const LAPSES_MAX: usize = 8;

/// Durations are written with few digits.
const TOLERANCE: Duration = Duration::from_millis(2);

const FRAGMENTED: [&str; 4] = [".m4s", ".cmfv", ".cmfa", ".mp4"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hls::timeline::parse;

    const HEAD: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-PART-INF:PART-TARGET=1\n\
                        #EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-MAP:URI=\"i.mp4\"\n";
    const DATE: &str = "#EXT-X-PROGRAM-DATE-TIME:2026-02-14T02:13:";

    fn of(text: &str) -> Vec<Lapse> {
        lint(None, &parse(format!("{HEAD}{text}")))
    }

    #[test]
    fn ll_22_a_target_duration_that_changes_is_a_lapse_once() {
        let before = parse(format!("{HEAD}#EXTINF:4,\na.ts\n"));
        let now = parse(format!(
            "{}#EXTINF:4,\na.ts\n#EXTINF:5,\nb.ts\n",
            HEAD.replace("DURATION:4", "DURATION:5")
        ));
        let lapse = Lapse::TargetDurationChanged {
            before: Duration::from_secs(4),
            now: Duration::from_secs(5),
        };
        assert_eq!(lint(Some(&before), &now), [lapse]);
        assert_eq!(lint(Some(&now), &now), []);
    }

    #[test]
    fn parts_and_segments_longer_than_their_targets_are_lapses() {
        let part = |duration| format!("#EXT-X-PART:URI=\"p.m4s\",DURATION={duration}\n");
        assert_eq!(of(&part("1.001")), []);
        assert!(matches!(
            of(&part("1.2"))[..],
            [Lapse::PartTooLong { part, .. }] if part.msn.0 == 7
        ));
        assert_eq!(of("#EXTINF:4.4,\na.m4s\n"), []);
        assert!(matches!(
            of("#EXTINF:4.5,\na.m4s\n")[..],
            [Lapse::SegmentTooLong { segment, .. }] if segment.0 == 7
        ));
    }

    #[test]
    fn a_date_that_is_not_where_the_segment_before_ended_is_a_lapse() {
        let two = |second: &str, tag: &str| {
            of(&format!(
                "{DATE}10Z\n#EXTINF:4,\na.m4s\n{tag}{DATE}{second}\n#EXTINF:4,\nb.m4s\n"
            ))
        };
        assert_eq!(two("14.2Z", ""), []);
        assert_eq!(two("40Z", "#EXT-X-DISCONTINUITY\n"), []);
        let off = Duration::from_secs(26);
        let segment = MediaSequenceNumber(8);
        assert_eq!(two("40Z", ""), [Lapse::DateJumped { segment, off }]);
    }

    #[test]
    fn fragmented_mp4_without_a_map_is_a_lapse_and_transport_streams_need_none() {
        let head = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n";
        let of = |uri| lint(None, &parse(format!("{head}#EXTINF:4,\n{uri}\n")));
        let segment = MediaSequenceNumber(0);
        assert_eq!(of("a.m4s?t=1"), [Lapse::MapMissing { segment }]);
        assert_eq!(of("a.ts"), []);
    }

    #[test]
    fn a_playlist_that_does_everything_wrong_says_so_briefly() {
        let many: String = (0..1_000)
            .map(|n| format!("#EXTINF:9,\ns{n}.m4s\n"))
            .collect();
        assert_eq!(of(&many).len(), LAPSES_MAX);
    }
}
