//! One rendition as a player follows it: playlist in, what to request next out.
//!
//! Pure: time comes in as the viewer's own clock, requests go out as values. Tune-in (Appendix C),
//! blocking reloads, delta updates, polling where a playlist cannot block, hints and their
//! withdrawal, retries and jumps are decided here. `player.rs` chooses renditions; `viewer.rs` puts
//! the requests on the wire.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::Position;
use media::hls::{Answer, DeliveryDirectives, MediaPlaylist, answer};

use super::config::Wants;
use super::listed::{self, ListError};
use super::location::Location;

mod cursor;
mod retries;
mod tune_in;

use cursor::{Cursor, HintNews};
pub(crate) use cursor::{Media, MediaKind};
use tune_in::TuneIn;

/// A rendition being followed.
#[derive(Debug)]
pub(crate) struct Track {
    location: Location,
    takes_deltas: bool,
    list: Option<Arc<MediaPlaylist>>,
    /// What this viewer has seen of the rendition before it switched away.
    floor: Option<Position>,
    /// When the list came; the age of what a delta update builds on.
    list_at: Duration,
    older_in_a_row: u32,
    failures_in_a_row: u32,
    tune_in: TuneIn,
    cursor: Cursor,
    /// Media that came before what it follows: a hinted part overtakes a listed one that is slow.
    beyond: Vec<(Position, Duration)>,
}

/// The next request for the playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reload {
    /// Wait this long first.
    pub(crate) after: Duration,
    pub(crate) asks: Directives,
    pub(crate) why: Why,
}

/// The delivery directives of a playlist request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Directives {
    pub(crate) position: Option<Position>,
    pub(crate) skip: bool,
}

/// Why a playlist is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The rendition is new to the viewer.
    Join,
    /// Appendix C: the first answer was old.
    TuneIn,
    /// A blocking reload for the next part or segment.
    Next,
    /// The playlist cannot block: time has passed.
    Poll,
    /// The request before it brought nothing usable.
    Recover,
}

/// What a playlist told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    /// `None` when the presentation has ended.
    pub(crate) reload: Option<Reload>,
    /// The list is older than one this viewer had before (LL-22).
    pub(crate) is_regression: bool,
    /// The list does not have what the blocking reload asked for.
    pub(crate) is_unsatisfied: bool,
    /// A regression that stayed was accepted as a new broadcast.
    pub(crate) is_restart: bool,
    /// The part requested on a hint will not come; its request is to be given up (LL-19).
    pub(crate) withdrawn: Option<Position>,
    /// A hinted part's assumed duration and the listed one.
    pub(crate) correction: Option<(Duration, Duration)>,
}

/// After so many older lists in a row the rendition has been restarted, not mixed up.
const RESTART_AFTER: u32 = 5;

impl Track {
    /// Makes a track that has nothing yet.
    pub(crate) fn new(location: Location, wants: Wants, takes_deltas: bool) -> Self {
        Self {
            location,
            takes_deltas,
            list: None,
            floor: None,
            list_at: Duration::ZERO,
            older_in_a_row: 0,
            failures_in_a_row: 0,
            tune_in: TuneIn::Before,
            cursor: Cursor::new(wants),
            beyond: Vec::new(),
        }
    }

    /// Makes a track that goes on where another rendition's media ends.
    pub(crate) fn continuing(mut self, at: Option<Position>) -> Self {
        self.cursor.continue_at(at);
        self
    }

    /// Makes a track whose rendition this viewer has seen up to `floor`.
    pub(crate) fn not_before(mut self, floor: Option<Position>) -> Self {
        self.floor = floor;
        self
    }

    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    pub(crate) fn list(&self) -> Option<&Arc<MediaPlaylist>> {
        self.list.as_ref()
    }

    /// The first request: plain, or for the place a rendition report named (LT-04).
    pub(crate) fn join(&mut self, reported: Option<Position>) -> Reload {
        if reported.is_some() {
            self.tune_in = TuneIn::Done;
        }
        Reload {
            after: Duration::ZERO,
            asks: Directives {
                position: reported,
                skip: false,
            },
            why: Why::Join,
        }
    }

    /// Takes the answer to a playlist request.
    ///
    /// # Errors
    /// When the text is no media playlist; [`Track::on_failure`] says what to do then.
    pub(crate) fn on_text(
        &mut self,
        text: Bytes,
        asked: Directives,
        age: Option<Duration>,
        now: Duration,
    ) -> Result<Seen, ListError> {
        let list = listed::read(text, self.list.as_deref())?;
        self.failures_in_a_row = 0;
        let mut seen = Seen {
            reload: None,
            is_regression: false,
            is_unsatisfied: !satisfies(&list, asked),
            is_restart: false,
            withdrawn: None,
            correction: None,
        };
        let before = self.last_seen();
        if list.last_position() < before {
            seen.is_regression = true;
            self.older_in_a_row += 1;
            if self.older_in_a_row < RESTART_AFTER {
                seen.reload = Some(match &self.list {
                    Some(_) => self.next_reload(now, true),
                    // Back on a rendition that is now behind what it was: ask until it is not.
                    None => self.rejoin(&list),
                });
                return Ok(seen);
            }
            seen.is_restart = true;
            self.cursor.restart();
            self.beyond.clear();
        }
        self.older_in_a_row = 0;
        let is_unchanged = list.last_position() == before && list.is_ended() == self.is_ended();
        let list = Arc::new(list);
        self.list = Some(Arc::clone(&list));
        self.list_at = now;
        self.tune_in.advance(&list, age, now);
        if self.tune_in.is_done() {
            match self.cursor.on_list(&list) {
                HintNews::None => {}
                HintNews::Listed { assumed, listed } => seen.correction = Some((assumed, listed)),
                HintNews::Withdrawn(position) => seen.withdrawn = Some(position),
            }
        }
        if !list.is_ended() {
            seen.reload = Some(self.next_reload(now, is_unchanged || seen.is_unsatisfied));
        }
        Ok(seen)
    }

    /// The next request after an answer that brought nothing, or nothing usable.
    pub(crate) fn on_failure(&mut self, asked: Directives) -> Reload {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        // Players ask again at once without directives (PL-03), then ever more slowly.
        let waits = self.failures_in_a_row.saturating_sub(1).min(5);
        Reload {
            after: Duration::from_secs(u64::from(waits)),
            asks: Directives {
                // A delta update that did not fit: the same place, whole (LL-16).
                position: asked.position.filter(|_| asked.skip && waits == 0),
                skip: false,
            },
            why: Why::Recover,
        }
    }

    fn rejoin(&self, older: &MediaPlaylist) -> Reload {
        Reload {
            after: older
                .part_target()
                .unwrap_or(older.target_duration() / 2)
                .max(PAUSE_MIN),
            asks: Directives::default(),
            why: Why::Recover,
        }
    }

    /// `is_idle`: the last answer brought nothing new, so the next request must wait even where
    /// the server should have held it.
    fn next_reload(&self, now: Duration, is_idle: bool) -> Reload {
        let list = self.list.as_ref().expect("called with a list");
        let pause = list
            .part_target()
            .unwrap_or(list.target_duration() / 2)
            .max(PAUSE_MIN);
        if let Some(position) = self.tune_in.asks(list, now)
            && list.can_block_reload()
        {
            return Reload {
                after: Duration::ZERO,
                asks: Directives {
                    position: Some(position),
                    skip: false,
                },
                why: Why::TuneIn,
            };
        }
        if !list.can_block_reload() {
            // RFC 8216 6.3.4: a target duration after a change, half of one otherwise.
            let after = match list.part_target() {
                Some(part_target) => part_target,
                None if is_idle => list.target_duration() / 2,
                None => list.target_duration(),
            };
            return Reload {
                after: after.max(PAUSE_MIN),
                asks: Directives::default(),
                why: Why::Poll,
            };
        }
        let position = list.next_position();
        // RFC 8216bis 6.3.7: only on a list no older than half the skip boundary.
        let is_fresh = |boundary: Duration| now.saturating_sub(self.list_at) <= boundary / 2;
        Reload {
            after: if is_idle { pause } else { Duration::ZERO },
            asks: Directives {
                position: Some(position),
                skip: self.takes_deltas && list.can_skip_until().is_some_and(is_fresh),
            },
            why: Why::Next,
        }
    }

    /// Returns the next media to request, if any may be requested now.
    ///
    /// `in_flight` is how many media requests of this track run: listed media go one at a time, a
    /// hinted part beside them.
    pub(crate) fn next_media(&mut self, now: Duration, in_flight: usize) -> Option<Media> {
        let list = self.list.clone().filter(|_| self.tune_in.is_done())?;
        self.cursor.next(&list, now, in_flight)
    }

    /// Media arrived whole. Returns how much can be played now that could not before.
    pub(crate) fn on_media(&mut self, media: &Media) -> Duration {
        self.cursor.on_done(media);
        self.beyond.push((media.position, media.duration));
        self.joined()
    }

    /// Returns how much of what came continues what there was, since nothing before it is missing any more.
    pub(crate) fn joined(&mut self) -> Duration {
        let missing = self.cursor.first_missing();
        let continues = |(at, _): &mut (Position, Duration)| missing.is_none_or(|gap| *at < gap);
        let joined = self.beyond.extract_if(.., continues);
        joined.map(|(_, duration)| duration).sum()
    }

    /// Media was given up by the viewer itself and is still wanted.
    pub(crate) fn on_media_abort(&mut self, media: &Media, now: Duration) {
        self.cursor.on_abort(media, now);
    }

    /// Media did not arrive. If the player now jumps over the gap: returns how much can be played after all, the
    /// gap and what came beyond it.
    pub(crate) fn on_media_failure(&mut self, media: &Media, now: Duration) -> Option<Duration> {
        let gap = self.cursor.on_failure(media, now)?;
        self.beyond.push((media.position, gap));
        Some(self.joined())
    }

    /// When a postponed retry is due.
    pub(crate) fn retry_at(&self) -> Option<Duration> {
        self.cursor.retry_at()
    }

    /// Where the media that this track has, or is fetching, ends.
    pub(crate) fn continues_at(&self) -> Option<Position> {
        self.cursor.continues_at()
    }

    /// The newest place a playlist of this rendition has shown to this viewer.
    pub(crate) fn last_seen(&self) -> Option<Position> {
        let last = self.list.as_ref().and_then(|list| list.last_position());
        last.or(self.floor)
    }

    /// How often the viewer had fallen out of the playlist's window.
    pub(crate) fn jumps(&self) -> u64 {
        self.cursor.jumps()
    }

    /// True once the playlist has ended.
    pub(crate) fn is_ended(&self) -> bool {
        self.list.as_ref().is_some_and(|list| list.is_ended())
    }

    /// True once the playlist has ended and all its media were requested.
    pub(crate) fn is_drained(&self) -> bool {
        let list = self.list.as_ref().filter(|list| list.is_ended());
        list.is_some_and(|list| self.cursor.is_past(list))
    }
}

/// True if `list` is a right answer to `asked` (LL-01 to LL-04).
fn satisfies(list: &MediaPlaylist, asked: Directives) -> bool {
    let directives = DeliveryDirectives {
        position: asked.position,
        skip: None,
    };
    answer(list, &directives) == Answer::Now
}

/// The shortest wait between two requests that bring nothing new.
const PAUSE_MIN: Duration = Duration::from_millis(100);

impl Directives {
    /// Returns the query these directives make, in the order the specification asks for (LL-25).
    pub(crate) fn query(self) -> String {
        let mut query = String::new();
        if let Some(position) = self.position {
            query = format!("_HLS_msn={}", position.msn);
            if let Some(part) = position.part_index {
                query = format!("{query}&_HLS_part={part}");
            }
        }
        if self.skip {
            let joint = if query.is_empty() { "" } else { "&" };
            query = format!("{query}{joint}_HLS_skip=YES");
        }
        query
    }
}

#[cfg(test)]
mod tests;
