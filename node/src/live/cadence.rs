//! When a playlist that has to be polled will change next, learned from when it was seen to change.
//!
//! A poll tells little: whatever it finds was published some time before it, and if it finds nothing new,
//! something will be published some time after it. But media is produced in real time, so publications are
//! as far apart as the media that they add is long, and each poll narrows down where on that grid they are:
//!
//! ```text
//! published     |       |       |       |       |           |       |
//! asked         ....x......x.....x....x.......x.xx..........x.......x
//!                   └ searching: earlier each time ┘└ too early: a little later from now on
//! ```
//!
//! While every poll finds something new, it may have been there for long, so the next one is made an eighth of
//! the way earlier. The first that comes too early ends the search; from then on a poll in time moves the
//! next one forward by a 256th, a premature one moves it back by an eighth, so about one poll in 33 comes too
//! early, whatever the jitter. Who calls it: the chain of a rendition that is polled. Deliberately not here:
//! asking, and what to do about errors.

use std::sync::Arc;
use std::time::Duration;

use media::hls::MediaPlaylist;

/// What is known of the rhythm of one rendition. Instants are uptimes of the node's clock.
#[derive(Debug, Default)]
pub(super) struct Cadence {
    newest: Option<Newest>,
    /// Whether a poll has come too early since the rhythm was lost.
    is_found: bool,
}

/// The newest version, as far as polls tell.
#[derive(Debug)]
struct Newest {
    playlist: Arc<MediaPlaylist>,
    /// When it was published: on the grid, later than most are.
    published_at: Duration,
    /// When the poll that found it was sent.
    found_at: Duration,
    /// When the last poll was sent that found nothing newer.
    missed_at: Option<Duration>,
}

impl Cadence {
    /// Notes that a poll sent at `asked_at` found a new version.
    pub(super) fn changed(&mut self, playlist: &Arc<MediaPlaylist>, asked_at: Duration) {
        let pace = pace(playlist);
        let added = self
            .newest
            .as_ref()
            .and_then(|newest| Some((newest, added(&newest.playlist, playlist)?)));
        let published_at = match added {
            Some((newest, added)) => {
                let predicted = newest.published_at.saturating_add(added);
                match newest.missed_at {
                    Some(missed_at) => {
                        self.is_found = true;
                        predicted.saturating_add(pace / LATER).max(missed_at)
                    }
                    None if self.is_found => predicted.saturating_sub(pace / EARLIER),
                    None => predicted.saturating_sub(pace / SEARCH),
                }
            }
            None => {
                self.is_found = false;
                asked_at
            }
        };
        // It was there when it was asked for. But segments of unequal length and jitter put single versions
        // before the grid; only one that is far before it says that the grid is wrong.
        let tolerance = if self.is_found {
            pace / TOLERANCE
        } else {
            Duration::ZERO
        };
        self.newest = Some(Newest {
            playlist: Arc::clone(playlist),
            published_at: published_at.min(asked_at.saturating_add(tolerance)),
            found_at: asked_at,
            missed_at: None,
        });
    }

    /// Notes that a poll sent at `asked_at` found the version that was known.
    pub(super) fn unchanged(&mut self, playlist: &Arc<MediaPlaylist>, asked_at: Duration) {
        if self.newest.is_none() {
            self.changed(playlist, asked_at);
        }
        if let Some(newest) = &mut self.newest {
            newest.missed_at = Some(asked_at);
        }
    }

    /// Returns when to ask next; zero if nothing is known.
    ///
    /// rfc8216bis 6.3.4: half a target duration after a poll that found nothing new. After one that did, it
    /// asks a client for a whole one; that would keep whichever phase the first request happened to have, and
    /// this is one client in place of thousands, so here the half is enough, too. A stream that has brought
    /// nothing for three target durations is asked once per target duration.
    pub(super) fn next_poll(&self) -> Duration {
        let Some(newest) = &self.newest else {
            return Duration::ZERO;
        };
        let playlist = &newest.playlist;
        let pace = pace(playlist);
        match newest.missed_at {
            None => {
                let expected = newest.published_at.saturating_add(pace);
                expected.max(newest.found_at.saturating_add(pace / 2))
            }
            Some(missed_at) => {
                let target = playlist.target_duration().max(PACE_MIN);
                let has_stalled =
                    missed_at.saturating_sub(newest.published_at) >= target.saturating_mul(3);
                let rest = if has_stalled { target } else { rest(playlist) };
                missed_at.saturating_add(rest)
            }
        }
    }
}

/// Returns how often something new is expected: with parts each part, else as long as segments have been.
fn pace(playlist: &MediaPlaylist) -> Duration {
    let target = playlist.target_duration();
    let usual = playlist.part_target().unwrap_or_else(|| {
        let newest = playlist.segments().rev().take(SEGMENTS_ASKED);
        let count = u32::try_from(newest.len()).unwrap_or(u32::MAX);
        let whole: Duration = newest.map(|segment| segment.duration).sum();
        whole.checked_div(count).unwrap_or(target)
    });
    usual.min(target).max(PACE_MIN)
}

/// Returns how long to rest after a poll that came too early.
fn rest(playlist: &MediaPlaylist) -> Duration {
    let whole = playlist.part_target().unwrap_or(playlist.target_duration());
    (whole / 2).max(PACE_MIN / 2)
}

/// Returns how much media `now` has beyond `before`; `None` if they do not meet.
fn added(before: &MediaPlaylist, now: &MediaPlaylist) -> Option<Duration> {
    let open = before.open_msn();
    if now.media_sequence() > open || now.open_msn() < open {
        return None;
    }
    let segments = now.segments().rev().take_while(|s| s.msn >= open);
    let segments: Duration = segments.map(|segment| segment.duration).sum();
    let is_positive = |added: &Duration| !added.is_zero();
    (segments + open_media(now))
        .checked_sub(open_media(before))
        .filter(is_positive)
}

/// Returns how long the parts of the open segment are.
fn open_media(playlist: &MediaPlaylist) -> Duration {
    let parts = playlist.parts().rev().take(playlist.open_parts().len());
    parts.map(|part| part.duration).sum()
}

/// The share of the pace by which polls move forward until the first one comes too early.
const SEARCH: u32 = 8;

/// The share by which a poll in time moves the next one forward.
const EARLIER: u32 = 256;

/// The share by which one that came too early moves the next one back.
const LATER: u32 = 8;

/// The share by which a version may be before the grid without moving it.
const TOLERANCE: u32 = 4;

/// A playlist that claims to change more often is still not asked more often.
const PACE_MIN: Duration = Duration::from_millis(200);

/// Segments are as long as the last few have been.
const SEGMENTS_ASKED: usize = 4;

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use bytes::Bytes;
    use media::hls::{Limits, Playlist};

    use super::*;

    /// A playlist of `count` segments of these milliseconds, from number zero on.
    fn playlist(target: u64, durations: &[u64]) -> Arc<MediaPlaylist> {
        let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:{target}\n");
        for (msn, milliseconds) in durations.iter().enumerate() {
            let (whole, rest) = (milliseconds / 1000, milliseconds % 1000);
            writeln!(text, "#EXTINF:{whole}.{rest:03},\ns{msn}.ts").unwrap();
        }
        match Playlist::parse(Bytes::from(text), &Limits::default()) {
            Ok(Playlist::Media(playlist)) => Arc::new(playlist),
            other => panic!("{other:?}"),
        }
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// An encoder: segment `n` is published after the sum of all durations up to it, plus jitter.
    struct Encoder {
        durations: Vec<u64>,
        jitter: fn(usize) -> u64,
    }

    impl Encoder {
        fn published_at(&self, n: usize) -> u64 {
            self.durations[..=n].iter().sum::<u64>() + (self.jitter)(n)
        }

        fn version_at(&self, now: Duration) -> usize {
            let is_there = |n: &usize| ms(self.published_at(*n)) <= now;
            (0..self.durations.len()).take_while(is_there).count()
        }
    }

    /// Polls from `start` on; returns the delay of each version, in order, and the number of polls.
    fn poll(encoder: &Encoder, start: Duration, versions: usize) -> (Vec<Duration>, usize) {
        let mut cadence = Cadence::default();
        let (mut now, mut seen) = (start, 0);
        let (mut delays, mut polls) = (Vec::new(), 0);
        while delays.len() < versions {
            let version = encoder.version_at(now);
            polls += 1;
            if version > seen {
                cadence.changed(&playlist(2, &encoder.durations[..version]), now);
                delays.push(now - ms(encoder.published_at(version - 1)));
                seen = version;
            } else {
                cadence.unchanged(&playlist(2, &encoder.durations[..seen]), now);
            }
            assert!(cadence.next_poll() > now, "time goes on");
            now = cadence.next_poll();
        }
        (delays, polls)
    }

    fn mean(delays: &[Duration]) -> Duration {
        delays.iter().sum::<Duration>() / u32::try_from(delays.len()).unwrap()
    }

    #[test]
    fn polls_come_to_be_made_just_after_publication_whatever_their_first_phase() {
        let encoder = Encoder {
            durations: vec![2_000; 300],
            jitter: |_| 0,
        };
        for phase in [0, 100, 777, 1_500, 1_999] {
            let (delays, polls) = poll(&encoder, ms(20_000 + phase), 250);
            let learned = mean(&delays[50..]);
            assert!(learned < ms(250), "from {phase}: {learned:?}");
            assert!(polls < 250 + 250 / 20, "{polls} polls for 250 versions");
        }
    }

    #[test]
    fn jitter_and_segments_of_unequal_length_cost_a_few_polls_and_little_delay() {
        let encoder = Encoder {
            durations: (0..300).map(|n| [1_920, 1_920, 2_160][n % 3]).collect(),
            jitter: |n| [0, 80, 20, 120, 50][n % 5],
        };
        let (delays, polls) = poll(&encoder, ms(20_300), 250);
        let learned = mean(&delays[50..]);
        assert!(learned < ms(400), "{learned:?}");
        assert!(polls < 250 + 250 / 8, "{polls} polls for 250 versions");
    }

    #[test]
    fn what_found_nothing_new_is_asked_again_after_half_a_target_duration() {
        let mut cadence = Cadence::default();
        assert_eq!(cadence.next_poll(), Duration::ZERO);
        let version = playlist(6, &[6_000; 3]);
        cadence.changed(&version, ms(1_000));
        assert_eq!(cadence.next_poll(), ms(7_000));
        cadence.unchanged(&version, ms(7_000));
        assert_eq!(cadence.next_poll(), ms(10_000));
        cadence.unchanged(&version, ms(10_000));
        assert_eq!(cadence.next_poll(), ms(13_000));
    }

    #[test]
    fn a_stream_that_stands_still_is_asked_once_per_target_duration() {
        let mut cadence = Cadence::default();
        let version = playlist(2, &[2_000; 3]);
        cadence.changed(&version, ms(1_000));
        cadence.unchanged(&version, ms(7_500));
        assert_eq!(cadence.next_poll(), ms(9_500));
    }

    #[test]
    fn a_stream_that_began_again_is_learned_anew() {
        let mut cadence = Cadence::default();
        cadence.changed(&playlist(2, &[2_000; 5]), ms(1_000));
        cadence.changed(&playlist(2, &[2_000; 2]), ms(50_000));
        assert_eq!(cadence.next_poll(), ms(52_000));
    }

    #[test]
    fn absurd_playlists_are_polled_at_a_sane_pace() {
        for playlist in [playlist(0, &[]), playlist(0, &[0, 0]), playlist(1, &[1, 1])] {
            let mut cadence = Cadence::default();
            cadence.changed(&playlist, ms(1_000));
            assert!(cadence.next_poll() >= ms(1_100));
            cadence.unchanged(&playlist, ms(2_000));
            assert!(cadence.next_poll() >= ms(2_100));
        }
    }
}
