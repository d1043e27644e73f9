//! What a run counts and times, per thread, merged at the end.
//!
//! Viewers of a thread share one [`Tally`] behind a lock that only they and the once-a-second
//! progress reader take. `report.rs` turns the merged tally into figures.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::buffer::Figures;
use super::client::{DialError, FetchError};

/// What kind of object a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    Multivariant,
    Playlist,
    Init,
    Part,
    Segment,
}

impl Object {
    pub(crate) const ALL: [(Self, &'static str); 5] = [
        (Self::Multivariant, "multivariant"),
        (Self::Playlist, "playlist"),
        (Self::Init, "init"),
        (Self::Part, "part"),
        (Self::Segment, "segment"),
    ];
}

/// Why a request counts as an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    Connect,
    Timeout,
    Reset,
    Truncated,
    Protocol,
    /// Informational or redirecting: nothing a player of ours follows.
    StatusOther,
    Status4xx,
    Status5xx,
    /// A body that is not the promised one.
    BadContent,
    BadPlaylist,
}

impl ErrorKind {
    pub(crate) const ALL: [(Self, &'static str); 10] = [
        (Self::Connect, "connect"),
        (Self::Timeout, "timeout"),
        (Self::Reset, "reset"),
        (Self::Truncated, "truncated"),
        (Self::Protocol, "protocol"),
        (Self::StatusOther, "status_other"),
        (Self::Status4xx, "status_4xx"),
        (Self::Status5xx, "status_5xx"),
        (Self::BadContent, "bad_content"),
        (Self::BadPlaylist, "bad_playlist"),
    ];

    /// Judges a status that is neither 200 nor 206.
    pub(crate) fn of_status(status: http::StatusCode) -> Self {
        if status.is_client_error() {
            Self::Status4xx
        } else if status.is_server_error() {
            Self::Status5xx
        } else {
            Self::StatusOther
        }
    }

    pub(crate) fn of_fetch(error: &FetchError) -> Self {
        match error {
            FetchError::Dial(DialError::Timeout) => Self::Timeout,
            FetchError::Dial(_) => Self::Connect,
            FetchError::Reset => Self::Reset,
            FetchError::Truncated { .. } => Self::Truncated,
            FetchError::TooLong { .. } => Self::BadContent,
            FetchError::Protocol(_) => Self::Protocol,
        }
    }
}

/// The sums of one thread, or of the whole run.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) requests: [u64; Object::ALL.len()],
    pub(crate) errors: [u64; ErrorKind::ALL.len()],
    /// The first error texts, for people.
    pub(crate) samples: Vec<String>,
    pub(crate) answers: u64,
    /// Given up by the viewer: a switch, a withdrawn hint, a chance abort.
    pub(crate) aborted: u64,
    /// Under way when the run ended.
    pub(crate) unfinished: u64,
    pub(crate) bytes: u64,
    /// From publication to the last byte, microseconds.
    pub(crate) added_playlist: Histogram<u64>,
    pub(crate) added_part: Histogram<u64>,
    /// Last bytes that came before their publication: the clocks disagree.
    pub(crate) clock_skews: u64,
    pub(crate) startup: Histogram<u64>,
    pub(crate) viewers_arrived: u64,
    pub(crate) viewers_finished: u64,
    pub(crate) viewers_stalled: u64,
    pub(crate) stalls: u64,
    pub(crate) stalled: Duration,
    pub(crate) played: Duration,
    pub(crate) regressions: u64,
    pub(crate) restarts: u64,
    pub(crate) unsatisfied_reloads: u64,
    pub(crate) blocking_reloads: u64,
    pub(crate) polls: u64,
    pub(crate) recoveries: u64,
    pub(crate) delta_updates: u64,
    pub(crate) delta_misfits: u64,
    pub(crate) withdrawn_hints: u64,
    pub(crate) switches: u64,
    pub(crate) gaps: u64,
    pub(crate) jumps: u64,
    /// Viewers whose buffer plays, or stands still, right now.
    pub(crate) playing_now: i64,
    pub(crate) stalled_now: i64,
}

/// The longest time a histogram keeps apart, in microseconds: ten minutes.
const MICROS_MAX: u64 = 600_000_000;

/// Error texts kept per thread.
const SAMPLES_MAX: usize = 5;

/// Makes an empty histogram of microseconds; all have the same bounds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(MICROS_MAX, 3).expect("constant bounds are valid")
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            requests: [0; Object::ALL.len()],
            errors: [0; ErrorKind::ALL.len()],
            samples: Vec::new(),
            answers: 0,
            aborted: 0,
            unfinished: 0,
            bytes: 0,
            added_playlist: histogram(),
            added_part: histogram(),
            clock_skews: 0,
            startup: histogram(),
            viewers_arrived: 0,
            viewers_finished: 0,
            viewers_stalled: 0,
            stalls: 0,
            stalled: Duration::ZERO,
            played: Duration::ZERO,
            regressions: 0,
            restarts: 0,
            unsatisfied_reloads: 0,
            blocking_reloads: 0,
            polls: 0,
            recoveries: 0,
            delta_updates: 0,
            delta_misfits: 0,
            withdrawn_hints: 0,
            switches: 0,
            gaps: 0,
            jumps: 0,
            playing_now: 0,
            stalled_now: 0,
        }
    }
}

impl Tally {
    pub(crate) fn request(&mut self, object: Object) {
        self.requests[object as usize] += 1;
    }

    pub(crate) fn error(&mut self, kind: ErrorKind, text: impl FnOnce() -> String) {
        self.errors[kind as usize] += 1;
        if self.samples.len() < SAMPLES_MAX {
            let sample = text();
            if !self.samples.contains(&sample) {
                self.samples.push(sample);
            }
        }
    }

    /// Times a live object from its publication to its last byte, both in Unix microseconds.
    pub(crate) fn added_latency(&mut self, object: Object, published: i64, last_byte: i64) {
        let Ok(micros) = u64::try_from(last_byte.saturating_sub(published)) else {
            self.clock_skews += 1;
            return;
        };
        match object {
            Object::Multivariant | Object::Playlist => &mut self.added_playlist,
            Object::Init | Object::Part | Object::Segment => &mut self.added_part,
        }
        .saturating_record(micros);
    }

    /// Adds what one viewer felt, when it leaves.
    pub(crate) fn viewer(&mut self, figures: &Figures) {
        if let Some(startup) = figures.startup {
            let micros = u64::try_from(startup.as_micros()).unwrap_or(u64::MAX);
            self.startup.saturating_record(micros);
        }
        self.stalls += figures.stalls;
        self.stalled += figures.stalled;
        self.played += figures.played;
        self.viewers_stalled += u64::from(figures.stalls > 0);
    }

    pub(crate) fn requests_total(&self) -> u64 {
        self.requests.iter().sum()
    }

    pub(crate) fn errors_total(&self) -> u64 {
        self.errors.iter().sum()
    }

    /// Adds the tally of another thread.
    pub(crate) fn merge(&mut self, other: &Self) {
        let pairs = self.requests.iter_mut().zip(other.requests);
        for (sum, more) in pairs.chain(self.errors.iter_mut().zip(other.errors)) {
            *sum += more;
        }
        for sample in &other.samples {
            if self.samples.len() < SAMPLES_MAX && !self.samples.contains(sample) {
                self.samples.push(sample.clone());
            }
        }
        for (histogram, more) in [
            (&mut self.added_playlist, &other.added_playlist),
            (&mut self.added_part, &other.added_part),
            (&mut self.startup, &other.startup),
        ] {
            histogram.add(more).expect("both have the same bounds");
        }
        for (sum, more) in [
            (&mut self.answers, other.answers),
            (&mut self.aborted, other.aborted),
            (&mut self.unfinished, other.unfinished),
            (&mut self.bytes, other.bytes),
            (&mut self.clock_skews, other.clock_skews),
            (&mut self.viewers_arrived, other.viewers_arrived),
            (&mut self.viewers_finished, other.viewers_finished),
            (&mut self.viewers_stalled, other.viewers_stalled),
            (&mut self.stalls, other.stalls),
            (&mut self.regressions, other.regressions),
            (&mut self.restarts, other.restarts),
            (&mut self.unsatisfied_reloads, other.unsatisfied_reloads),
            (&mut self.blocking_reloads, other.blocking_reloads),
            (&mut self.polls, other.polls),
            (&mut self.recoveries, other.recoveries),
            (&mut self.delta_updates, other.delta_updates),
            (&mut self.delta_misfits, other.delta_misfits),
            (&mut self.withdrawn_hints, other.withdrawn_hints),
            (&mut self.switches, other.switches),
            (&mut self.gaps, other.gaps),
            (&mut self.jumps, other.jumps),
        ] {
            *sum += more;
        }
        self.stalled += other.stalled;
        self.played += other.played;
        self.playing_now += other.playing_now;
        self.stalled_now += other.stalled_now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_tallies_are_the_sum_of_their_threads() {
        let (mut one, mut two) = (Tally::default(), Tally::default());
        one.request(Object::Part);
        two.request(Object::Part);
        two.request(Object::Playlist);
        two.error(ErrorKind::Reset, || "reset".to_owned());
        two.added_latency(Object::Part, 1_000, 3_500);
        one.merge(&two);
        assert_eq!((one.requests_total(), one.errors_total()), (3, 1));
        assert_eq!(one.added_part.len(), 1);
        assert_eq!(one.samples, ["reset"]);
    }

    #[test]
    fn a_last_byte_before_publication_is_a_clock_skew_not_a_latency() {
        let mut tally = Tally::default();
        tally.added_latency(Object::Playlist, 5_000, 4_000);
        assert_eq!((tally.clock_skews, tally.added_playlist.len()), (1, 0));
    }
}
