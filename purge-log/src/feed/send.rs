//! The sending side: entries as they come, a heartbeat when none does.
//!
//! Who calls it: the purge API over its journal, a node over its window. The stream is pulled: a follower
//! that reads slowly holds a place in the log, not a queue. It ends when the log does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::message::Message;
use super::subscription::Start;
use crate::{Bounds, Entry, LogId, Report, Sequence};

/// A log that can be followed.
pub trait Log: Clone + Send + Sync + 'static {
    /// Returns a receiver of the bounds that changes with every entry.
    fn subscribe(&self) -> watch::Receiver<Bounds>;

    /// Returns how long ago it was certain that there is no entry behind the head.
    fn age(&self) -> Duration;

    /// Returns at most `entries_max` entries behind `after`, in order.
    fn read_after(
        &self,
        after: Sequence,
        entries_max: usize,
    ) -> impl Future<Output = Result<Vec<Arc<Entry>>, Missing>> + Send;

    /// Takes note of reports, or queues them for whom they are for.
    ///
    /// # Errors
    ///
    /// Nodes that were one too many; the others are noted.
    fn report(&self, reports: Vec<Report>) -> Result<(), Refused>;
}

/// Why reports are not noted: the log follows as many nodes as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{nodes_max} nodes report already, one more is not followed")]
pub struct Refused {
    /// The limit.
    pub nodes_max: usize,
}

/// Why entries cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// They are no longer there.
    #[error("the entries are no longer in the log")]
    Behind,
    /// The log is broken, for now at least.
    #[error("the log cannot be read")]
    Broken,
}

/// A follower that is being sent to.
struct Sending<L> {
    log: L,
    bounds: watch::Receiver<Bounds>,
    /// Where the follower is; `None` before the first line.
    at: Option<(LogId, Sequence)>,
    start: Start,
    beat_at: Instant,
}

/// Returns the feed of `log` from `start` on, as bytes of whole lines.
///
/// It ends when the log ends or cannot be read; the follower then connects again.
pub fn stream<L: Log>(log: L, start: Start) -> impl Stream<Item = Bytes> + Send {
    let sending = Sending {
        bounds: log.subscribe(),
        log,
        at: None,
        start,
        beat_at: Instant::now(),
    };
    stream::unfold(sending, |mut sending| async move {
        let bytes = sending.next().await?;
        Some((bytes, sending))
    })
}

impl<L: Log> Sending<L> {
    async fn next(&mut self) -> Option<Bytes> {
        let mut lines = Vec::new();
        loop {
            let bounds = *self.bounds.borrow_and_update();
            let (log, after) = match self.at {
                Some(at) => at,
                None => self.begin(bounds, &mut lines),
            };
            let read = if bounds.log == log && bounds.can_follow(after) {
                self.log.read_after(after, ENTRIES_MAX).await
            } else {
                Err(Missing::Behind)
            };
            match read {
                // The bounds promised more than there is: rather a new connection than a busy wait.
                Ok(entries) if entries.is_empty() && after < bounds.head => return None,
                Ok(entries) => self.at = Some((log, write_entries(&entries, after, &mut lines))),
                Err(Missing::Behind) => self.reset(&mut lines),
                Err(Missing::Broken) => return None,
            }
            self.beat_if_due(&mut lines);
            if !lines.is_empty() {
                return Some(lines.into());
            }
            tokio::select! {
                changed = self.bounds.changed() => changed.ok()?,
                () = sleep_until(self.beat_at) => {}
            }
        }
    }

    /// Writes the first line, and a second one if the follower cannot go on from where it is.
    fn begin(&mut self, bounds: Bounds, lines: &mut Vec<u8>) -> (LogId, Sequence) {
        let at = match self.start {
            Start::After(log, after) => (log, after),
            Start::Latest(latest) => {
                let first = Sequence(bounds.head.0.saturating_sub(latest));
                (bounds.log, first.max(bounds.tail.previous()))
            }
        };
        let (log, after) = at;
        Message::Begin { log, after }.write_to(lines);
        self.at = Some(at);
        at
    }

    fn reset(&mut self, lines: &mut Vec<u8>) {
        let Bounds { log, head, .. } = *self.bounds.borrow_and_update();
        Message::Reset { log, through: head }.write_to(lines);
        self.at = Some((log, head));
    }

    /// Writes a heartbeat when it is time, or when a follower has just caught up.
    fn beat_if_due(&mut self, lines: &mut Vec<u8>) {
        // The age first: a head that is read later is at least as far.
        let age = self.log.age();
        let Bounds { log, head, .. } = *self.bounds.borrow();
        let is_due = !lines.is_empty() || self.beat_at <= Instant::now();
        if is_due && self.at == Some((log, head)) {
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            Message::Heartbeat { head, age_ms }.write_to(lines);
            self.beat_at = Instant::now() + HEARTBEAT;
        }
    }
}

/// Writes entries and returns the last of them, or `after`.
fn write_entries(entries: &[Arc<Entry>], after: Sequence, lines: &mut Vec<u8>) -> Sequence {
    for entry in entries {
        Message::Entry(Entry::clone(entry)).write_to(lines);
    }
    entries.last().map_or(after, |entry| entry.sequence)
}

/// Time between heartbeats while nothing else is said.
pub const HEARTBEAT: Duration = Duration::from_secs(1);

/// Entries that are read at once.
const ENTRIES_MAX: usize = 32;
