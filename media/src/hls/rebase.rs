//! Showing a stream that began again, or another origin's, as the continuation of what viewers have.
//!
//! ```text
//! shown before     10  11  12  13.0 13.1                the origin restarts and counts from 0
//! the run                                   0   1  1.0
//! shown            10  11  12  [13]    ║   14  15  16.0   ║ EXT-X-DISCONTINUITY
//!                  └ kept ──┘  gap
//! ```
//!
//! A *run* is what one start of one encoder numbers. A [`Joint`] is how a run follows what was shown: by how much its
//! numbers are shifted, which of the old segments stay for the runway, and where the discontinuity is. Rewritten are
//! numbers, and the URIs of the run, which get a mark: names that are used again name something else
//! (rfc8216bis 6.2.1: a URI is never given to another segment). Called by the live hub, once per version. Deliberately not
//! here: how it is noticed that a run began (`rendition`), and what the mark is.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::attributes::Attributes;
use super::delta::{put_line, put_state};
use super::kept::{Kept, kept_of};
use super::media_playlist::MediaPlaylist;
use super::text::Span;
use crate::time::parse_date_time;

/// What all renditions of a presentation agree on about a run, so that equal numbers stay equal media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunNumbers {
    /// What is added to the run's media sequence numbers, modulo 2^64.
    pub shift: u64,
    /// The discontinuity sequence number of the run's first segment, as it is shown.
    pub discontinuity: u64,
    /// The run's own number of its first segment that is shown.
    first: u64,
    /// The run's own `EXT-X-DISCONTINUITY-SEQUENCE` once that segment is the first of its playlist.
    header: u64,
    /// Whether the run itself has a discontinuity before that segment.
    has_tag: bool,
}

/// How a run follows what was shown before it.
#[derive(Clone, Debug)]
pub struct Joint {
    numbers: RunNumbers,
    /// Whether the run itself has a discontinuity before its first segment, once that can be seen.
    has_own_tag: OnceLock<bool>,
    /// Segments of before the run, oldest first.
    kept: Vec<Kept>,
    /// How many segments the playlist had.
    window: usize,
    /// Whether what is kept is encrypted where it ends.
    is_encrypted: bool,
}

impl Joint {
    /// Makes `run`, the first version of a run, follow `before`, the last that was shown.
    ///
    /// `elapsed` is how long ago that was. What the run has of the time before is not shown again: by its dates if both have some,
    /// else all but what can have been made since. `agreed` is what another rendition of the presentation found, if one did. Segments before the run stay, those whose
    /// resource is not there (`is_there`) as gaps: nobody can bring them any more, and players find their place by them.
    pub fn after(
        before: &MediaPlaylist,
        run: &MediaPlaylist,
        elapsed: Duration,
        agreed: Option<&RunNumbers>,
        is_there: impl Fn(&str) -> bool,
    ) -> Self {
        let has_open = !before.open_parts().is_empty();
        let end = before.open_msn().0.saturating_add(u64::from(has_open));
        let discontinuity = next_discontinuity(before);
        let (numbers, missing) = match agreed {
            Some(agreed) => RunNumbers::agreeing(run, agreed, end, discontinuity),
            None => {
                let first = first_shown(before, run, elapsed);
                (RunNumbers::of(run, first, end, discontinuity), Some(0))
            }
        };
        let mut kept = Vec::new();
        // No tag takes a map back, and no segment may be longer than the target duration.
        let fits = before.target_duration() <= run.target_duration()
            && (before.maps.is_empty() || !run.maps.is_empty());
        if let Some(missing) = missing.filter(|_| fits) {
            kept = kept_of(before, &is_there);
            if has_open {
                kept.push(Kept::open_segment(before, &is_there));
            }
            kept.extend((0..missing).map(|_| Kept::absent(before)));
        }
        Self {
            numbers,
            has_own_tag: OnceLock::new(),
            is_encrypted: is_encrypted(before),
            window: before.segments.len().max(run.segments.len()),
            kept,
        }
    }

    /// Makes a rendition of which nothing was shown yet part of a run that others follow.
    pub fn joining(run: &MediaPlaylist, agreed: &RunNumbers) -> Self {
        Self {
            numbers: agreed.seen_by(run),
            has_own_tag: OnceLock::new(),
            kept: Vec::new(),
            window: 0,
            is_encrypted: false,
        }
    }

    /// Returns what other renditions of the presentation have to agree with.
    pub fn numbers(&self) -> RunNumbers {
        self.numbers
    }

    /// Returns the text that viewers are shown for a version of the run.
    ///
    /// `mark` returns a URI of the run as it is shown, `None` for one that stays as it is; `shift_of` what is added to the numbers
    /// in a report of the rendition at a URI.
    pub fn rewrite(
        &self,
        run: &MediaPlaylist,
        mark: impl Fn(&str) -> Option<String>,
        shift_of: impl Fn(&str) -> u64,
    ) -> Bytes {
        let kept = self.kept_beside(run);
        // What the run has from before the joint is not shown.
        let before = self.numbers.first.saturating_sub(run.media_sequence().0);
        let before = usize::try_from(before)
            .unwrap_or(usize::MAX)
            .min(run.segments.len());
        let has_joint = run.media_sequence().0 <= self.numbers.first;
        let first = run.msn_of(before).0.wrapping_add(self.numbers.shift);
        let mut out = BytesMut::with_capacity(run.text.len() * 5 / 4 + kept.len() * KEPT_BYTES);
        self.put_header(&mut out, run, first - kept.len() as u64, kept);
        for (index, kept) in kept.iter().enumerate() {
            out.put_slice(if index == 0 {
                &kept.first_lines
            } else {
                &kept.lines
            });
        }
        if has_joint {
            let has_tag = has_tag(run, before);
            if before < run.segments.len() || !run.open_parts().is_empty() {
                self.has_own_tag.get_or_init(|| has_tag);
            }
            if !has_tag {
                out.put_slice(b"#EXT-X-DISCONTINUITY\n");
            }
            if self.is_encrypted && !kept.is_empty() && !has_key(run, before) {
                out.put_slice(b"#EXT-X-KEY:METHOD=NONE\n");
            }
        }
        let mut state = BytesMut::new();
        put_state(&mut state, run, before);
        let state = String::from_utf8_lossy(&state);
        let media = Span {
            start: run.lines_of(before).start,
            end: u32::try_from(run.text.len()).unwrap_or(u32::MAX),
        };
        let media = if before == run.segments.len() {
            run.tail()
        } else {
            media
        };
        for line in state
            .split_inclusive('\n')
            .chain(run.of_text(media).split_inclusive('\n'))
        {
            put_marked(&mut out, line, &mark, &shift_of);
        }
        out.freeze()
    }

    /// Returns which of the old segments are still shown: as many as the playlist had room for, and none when the run's
    /// own first segment has left.
    fn kept_beside(&self, run: &MediaPlaylist) -> &[Kept] {
        if run.media_sequence().0 > self.numbers.first {
            return &[];
        }
        let shown = run.open_msn().0.saturating_sub(self.numbers.first);
        let room = self
            .window
            .saturating_sub(usize::try_from(shown).unwrap_or(usize::MAX));
        let from = self.kept.len().saturating_sub(room);
        self.kept.get(from..).unwrap_or_default()
    }

    fn put_header(&self, out: &mut BytesMut, run: &MediaPlaylist, first: u64, kept: &[Kept]) {
        let header = Span {
            start: 0,
            end: run.segments_start,
        };
        let numbers = &self.numbers;
        let discontinuities = if run.media_sequence().0 > numbers.first {
            let since = run.discontinuity_sequence().saturating_sub(numbers.header);
            let has_tag = self.has_own_tag.get().copied();
            let has_tag = has_tag.unwrap_or(numbers.has_tag);
            (numbers.discontinuity + since).saturating_sub(u64::from(has_tag))
        } else {
            let among = kept.iter().filter(|kept| kept.is_discontinuity).count() as u64;
            (numbers.discontinuity - 1).saturating_sub(among)
        };
        for line in run.of_text(header).split_inclusive('\n') {
            if !is_numbering(line) {
                put_line(out, line.as_bytes());
            }
        }
        out.put_slice(format!("#EXT-X-MEDIA-SEQUENCE:{first}\n").as_bytes());
        let says_any = discontinuities > 0;
        if says_any {
            out.put_slice(format!("#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}\n").as_bytes());
        }
    }
}

impl RunNumbers {
    /// Returns the numbers of a run whose segment `first` is shown as `end`.
    fn of(run: &MediaPlaylist, first: u64, end: u64, discontinuity: u64) -> Self {
        let before = usize::try_from(first.saturating_sub(run.media_sequence().0));
        let before = before.unwrap_or(usize::MAX).min(run.segments.len());
        let skipped = run.segments.iter().take(before);
        let among = skipped.filter(|row| row.is_discontinuity).count() as u64;
        Self {
            shift: end.wrapping_sub(first),
            discontinuity,
            first,
            header: run.discontinuity_sequence() + among,
            has_tag: has_tag(run, before),
        }
    }

    /// Returns the same numbers for a rendition whose playlist is `run`.
    fn seen_by(self, run: &MediaPlaylist) -> Self {
        if run.media_sequence().0 > self.first {
            // The beginning of the run has left the window already.
            return self;
        }
        let shown = self.first.wrapping_add(self.shift);
        Self::of(run, self.first, shown, self.discontinuity)
    }

    /// Returns the numbers that agree with those of other renditions, as far as nothing goes back by it, and how many
    /// segments are then missing between; `None` if too many to stand for them.
    fn agreeing(
        run: &MediaPlaylist,
        agreed: &Self,
        end: u64,
        discontinuity: u64,
    ) -> (Self, Option<u64>) {
        let first = agreed.first.max(run.media_sequence().0);
        let shown = first.wrapping_add(agreed.shift);
        if shown < end || agreed.discontinuity < discontinuity {
            let agreed = discontinuity.max(agreed.discontinuity);
            let keeps = agreed == discontinuity;
            return (Self::of(run, first, end, agreed), keeps.then_some(0));
        }
        let missing = shown - end;
        let keeps = missing <= ABSENT_MAX && agreed.discontinuity == discontinuity;
        (agreed.seen_by(run), keeps.then_some(missing))
    }
}

/// Returns the run's own number of the first segment that is not of the time before.
fn first_shown(before: &MediaPlaylist, run: &MediaPlaylist, elapsed: Duration) -> u64 {
    let count = run.segments.len();
    let index = match (end_of(before), begins(run)) {
        (Some(end), Some(begins)) => {
            let slack = run.target_duration() / 2;
            let is_later = |begins: &Option<Duration>| begins.is_some_and(|b| b + slack >= end);
            begins.iter().position(is_later).unwrap_or(count)
        }
        _ => {
            let mut made = Duration::ZERO;
            let recent = run.segments().rev().take_while(|segment| {
                let is_recent = made < elapsed;
                made += segment.duration;
                is_recent
            });
            count - recent.count()
        }
    };
    run.msn_of(index).0
}

/// Returns when the last segment of a playlist, or the last part, ended.
fn end_of(playlist: &MediaPlaylist) -> Option<Duration> {
    let (mut at, mut since) = (None, Duration::ZERO);
    for segment in playlist.segments() {
        let date = segment.program_date_time.and_then(parse_date_time);
        (at, since) = match date {
            Some(date) => (Some(date), segment.duration),
            None => (at, since + segment.duration),
        };
    }
    let open = playlist.parts().skip(playlist.open_parts().start);
    Some(at? + since + open.map(|part| part.duration).sum())
}

/// Returns when each segment began, as far as its dates tell; `None` if there is none.
fn begins(playlist: &MediaPlaylist) -> Option<Vec<Option<Duration>>> {
    let mut next = None;
    let begins = playlist.segments().map(|segment| {
        let date = segment.program_date_time.and_then(parse_date_time);
        let begins = date.or(next);
        next = begins.map(|begins| begins + segment.duration);
        begins
    });
    let begins: Vec<_> = begins.collect();
    begins.iter().any(Option::is_some).then_some(begins)
}

/// Returns the discontinuity sequence number of what follows a discontinuity at the end of a playlist.
fn next_discontinuity(before: &MediaPlaylist) -> u64 {
    let among = before
        .segments
        .iter()
        .filter(|row| row.is_discontinuity)
        .count() as u64;
    let tail = before.of_text(before.tail());
    let open = tail
        .lines()
        .any(|line| line.trim_ascii() == "#EXT-X-DISCONTINUITY");
    let has_open = open && !before.open_parts().is_empty();
    before.discontinuity_sequence() + among + u64::from(has_open) + 1
}

/// Returns whether a run has a discontinuity before the segment at `index`.
fn has_tag(run: &MediaPlaylist, index: usize) -> bool {
    match run.segments.get(index) {
        Some(row) => row.is_discontinuity,
        None => {
            let tail = run.of_text(run.tail());
            tail.lines()
                .any(|line| line.trim_ascii() == "#EXT-X-DISCONTINUITY")
        }
    }
}

fn is_encrypted(before: &MediaPlaylist) -> bool {
    let last = before.keys.last();
    last.is_some_and(|key| before.of_text(key.method) != "NONE")
}

/// Returns whether a key has been said by the segment of a run at `index`.
fn has_key(run: &MediaPlaylist, index: usize) -> bool {
    run.segments
        .get(index)
        .map_or(!run.keys.is_empty(), |row| row.keys_seen > 0)
}

fn is_numbering(line: &str) -> bool {
    let tag = line.trim_ascii().split(':').next().unwrap_or_default();
    matches!(
        tag,
        "#EXT-X-MEDIA-SEQUENCE" | "#EXT-X-DISCONTINUITY-SEQUENCE"
    )
}

/// Writes a line of the run with its URI marked and its numbers shifted.
fn put_marked(
    out: &mut BytesMut,
    line: &str,
    mark: &impl Fn(&str) -> Option<String>,
    shift_of: &impl Fn(&str) -> u64,
) {
    let text = line.trim_ascii();
    if text.is_empty() {
        return;
    }
    if !text.starts_with('#') {
        put_line(out, mark(text).as_deref().unwrap_or(text).as_bytes());
        return;
    }
    let Some((tag, value)) = text.split_once(':') else {
        put_line(out, line.as_bytes());
        return;
    };
    match tag {
        "#EXT-X-MEDIA-SEQUENCE" | "#EXT-X-DISCONTINUITY-SEQUENCE" => {}
        "#EXT-X-RENDITION-REPORT" => put_report(out, value, shift_of),
        "#EXT-X-PART" | "#EXT-X-MAP" | "#EXT-X-KEY" | "#EXT-X-PRELOAD-HINT" => {
            let marked = with_uri_marked(value, mark);
            match marked {
                Some(value) => put_line(out, format!("{tag}:{value}").as_bytes()),
                None => put_line(out, line.as_bytes()),
            }
        }
        _ => put_line(out, line.as_bytes()),
    }
}

fn with_uri_marked(value: &str, mark: &impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut attributes = Attributes::new(value, usize::MAX).flatten();
    let uri = attributes.find(|attribute| attribute.name == "URI")?.value;
    let marked = mark(uri)?;
    let (from, to) = (format!("URI=\"{uri}\""), format!("URI=\"{marked}\""));
    Some(value.replacen(&from, &to, 1))
}

fn put_report(out: &mut BytesMut, value: &str, shift_of: &impl Fn(&str) -> u64) {
    let attributes = || Attributes::new(value, usize::MAX).flatten();
    let uri = attributes().find(|attribute| attribute.name == "URI");
    let last = attributes().find(|attribute| attribute.name == "LAST-MSN");
    let number = last.and_then(|last| Some((last.value, last.value.parse::<u64>().ok()?)));
    let value = match (uri, number) {
        (Some(uri), Some((was, number))) => {
            let is = number.wrapping_add(shift_of(uri.value));
            value.replacen(&format!("LAST-MSN={was}"), &format!("LAST-MSN={is}"), 1)
        }
        _ => value.to_owned(),
    };
    put_line(out, format!("#EXT-X-RENDITION-REPORT:{value}").as_bytes());
}

/// Renditions are that many segments apart at most when their encoder stops.
const ABSENT_MAX: u64 = 3;

/// Room for the lines of a kept segment.
const KEPT_BYTES: usize = 128;

#[cfg(test)]
#[path = "rebase_tests.rs"]
mod tests;
