//! The simulated buffer: when a viewer starts, stalls and goes on.
//!
//! Arithmetic over the viewer's own clock (time since it arrived). Nothing has to tick: what
//! happened since the last event is worked out at the next one, to the exact instant the buffer ran
//! dry.

use std::time::Duration;

/// What a viewer has buffered and how far it has played.
#[derive(Debug, Clone)]
pub(crate) struct Buffer {
    /// Media appended so far, one figure per rendition that must play (video, audio).
    appended: Vec<Duration>,
    played: Duration,
    state: State,
    start_needs: Duration,
    resume_needs: Duration,
    is_ended: bool,
    figures: Figures,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Before the first frame.
    Starting,
    Playing {
        since: Duration,
    },
    Stalled {
        since: Duration,
    },
}

/// What the viewer felt.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Figures {
    /// From arrival to the first frame.
    pub(crate) startup: Option<Duration>,
    pub(crate) stalls: u64,
    pub(crate) stalled: Duration,
    pub(crate) played: Duration,
}

impl Buffer {
    /// Makes an empty buffer for `renditions` that play together.
    pub(crate) fn new(renditions: usize, start_needs: Duration, resume_needs: Duration) -> Self {
        Self {
            appended: vec![Duration::ZERO; renditions.max(1)],
            played: Duration::ZERO,
            state: State::Starting,
            start_needs,
            resume_needs,
            is_ended: false,
            figures: Figures::default(),
        }
    }

    /// Sets how much playing needs, once the playlist tells the part duration.
    pub(crate) fn needs(&mut self, start: Duration, resume: Duration) {
        self.start_needs = start;
        self.resume_needs = resume;
    }

    /// Appends media of one rendition.
    pub(crate) fn append(&mut self, rendition: usize, media: Duration, now: Duration) {
        self.advance(now);
        if let Some(appended) = self.appended.get_mut(rendition) {
            *appended += media;
        }
        self.wake(now);
    }

    /// Replaces a duration that was assumed (a hinted part's) by the one listed.
    pub(crate) fn correct(&mut self, rendition: usize, assumed: Duration, listed: Duration) {
        if let Some(appended) = self.appended.get_mut(rendition) {
            *appended = (*appended + listed).saturating_sub(assumed);
        }
    }

    /// Nothing more comes: what is buffered plays out, and running dry is the end, not a stall.
    pub(crate) fn end(&mut self, now: Duration) {
        self.advance(now);
        self.is_ended = true;
        self.wake(now);
    }

    /// Plays up to `now`.
    pub(crate) fn advance(&mut self, now: Duration) {
        let State::Playing { since } = self.state else {
            return;
        };
        let elapsed = now.saturating_sub(since);
        let level = self.level();
        if elapsed <= level {
            self.played += elapsed;
            self.state = State::Playing { since: now };
            return;
        }
        self.played += level;
        if self.is_ended {
            self.state = State::Playing { since: now };
        } else {
            self.figures.stalls += 1;
            self.state = State::Stalled {
                since: since + level,
            };
        }
    }

    fn wake(&mut self, now: Duration) {
        let has = |needs: Duration| self.is_ended || self.level() >= needs.max(NEEDS_MIN);
        match self.state {
            State::Starting if has(self.start_needs) => {
                self.figures.startup = Some(now);
                self.state = State::Playing { since: now };
            }
            State::Stalled { since } if has(self.resume_needs) => {
                self.figures.stalled += now.saturating_sub(since);
                self.state = State::Playing { since: now };
            }
            State::Starting | State::Stalled { .. } | State::Playing { .. } => {}
        }
    }

    /// Returns how much is buffered ahead of the playhead, as of the last event.
    pub(crate) fn level(&self) -> Duration {
        let least = self.appended.iter().min().copied().unwrap_or_default();
        least.saturating_sub(self.played)
    }

    /// Returns how much one rendition has buffered ahead, as of the last event.
    pub(crate) fn ahead(&self, rendition: usize) -> Duration {
        let appended = self.appended.get(rendition).copied().unwrap_or_default();
        appended.saturating_sub(self.played)
    }

    /// True between the first frame and the next stall.
    pub(crate) fn is_playing(&self) -> bool {
        matches!(self.state, State::Playing { .. })
    }

    /// True while a stall lasts.
    pub(crate) fn is_stalled(&self) -> bool {
        matches!(self.state, State::Stalled { .. })
    }

    /// Returns what was felt up to `now`, a stall that still lasts included.
    pub(crate) fn figures(&mut self, now: Duration) -> Figures {
        self.advance(now);
        let mut figures = self.figures;
        figures.played = self.played;
        if let State::Stalled { since } = self.state {
            figures.stalled += now.saturating_sub(since);
        }
        figures
    }
}

/// Playing needs some media, whatever was configured.
const NEEDS_MIN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn playing_starts_when_enough_parts_of_every_rendition_are_there() {
        let mut buffer = Buffer::new(2, ms(1500), ms(1000));
        buffer.append(0, ms(2000), ms(100));
        assert!(!buffer.is_playing());
        buffer.append(1, ms(1500), ms(180));
        assert!(buffer.is_playing());
        assert_eq!(buffer.figures(ms(180)).startup, Some(ms(180)));
    }

    #[test]
    fn a_stall_begins_at_the_instant_the_buffer_ran_dry() {
        let mut buffer = Buffer::new(1, ms(500), ms(1000));
        buffer.append(0, ms(500), ms(0));
        buffer.append(0, ms(500), ms(2000));
        assert_eq!(buffer.figures(ms(2000)).stalls, 1);
        assert!(buffer.is_stalled());
        buffer.append(0, ms(500), ms(2500));
        let figures = buffer.figures(ms(2600));
        assert_eq!((figures.stalls, figures.stalled), (1, ms(2000)));
        assert_eq!(figures.played, ms(600));
        assert!(buffer.is_playing());
    }

    #[test]
    fn parts_that_come_in_time_never_stall() {
        let mut buffer = Buffer::new(1, ms(1500), ms(1000));
        for part in 0..100 {
            buffer.append(0, ms(500), ms(part * 500 + (part % 3) * 200));
        }
        assert_eq!(buffer.figures(ms(50_000)).stalls, 0);
    }

    #[test]
    fn running_dry_at_the_end_is_no_stall() {
        let mut buffer = Buffer::new(1, ms(5000), ms(1000));
        buffer.append(0, ms(1000), ms(0));
        buffer.end(ms(10));
        let figures = buffer.figures(ms(60_000));
        assert_eq!((figures.stalls, figures.startup), (0, Some(ms(10))));
        assert_eq!(figures.played, ms(1000));
    }

    #[test]
    fn a_hinted_part_that_was_shorter_counts_as_it_was_listed() {
        let mut buffer = Buffer::new(1, ms(500), ms(500));
        buffer.append(0, ms(500), ms(0));
        buffer.correct(0, ms(500), ms(333));
        assert_eq!(buffer.level(), ms(333));
        assert_eq!(buffer.figures(ms(400)).stalls, 1);
    }

    #[test]
    fn a_stall_that_still_lasts_is_counted() {
        let mut buffer = Buffer::new(1, ms(500), ms(500));
        buffer.append(0, ms(500), ms(0));
        assert_eq!(buffer.figures(ms(3500)).stalled, ms(3000));
    }
}
