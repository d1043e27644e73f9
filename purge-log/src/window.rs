//! The end of the log, in memory: what most followers read.
//!
//! Who calls it: journals keep one so that the feed rarely reads a disk, and a node keeps one to serve the
//! feed to its children. Deliberately not here: waiting for the next entry.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::{Bounds, Entry, LogId, Sequence};

/// The last entries of a log, without a gap.
///
/// Invariant: the entries are those from `tail` to `head`, each place once.
#[derive(Debug)]
pub struct Window {
    log: LogId,
    head: Sequence,
    entries: VecDeque<Arc<Entry>>,
    entries_max: usize,
}

/// Why an entry does not go into a window: it is not the one after its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {entry} does not follow {head}")]
pub struct GapError {
    /// The entry.
    pub entry: Sequence,
    /// The head.
    pub head: Sequence,
}

impl Window {
    /// Returns an empty window behind `head` that keeps `entries_max` entries, at least one.
    pub fn new(log: LogId, head: Sequence, entries_max: usize) -> Self {
        Self {
            log,
            head,
            entries: VecDeque::new(),
            entries_max: entries_max.max(1),
        }
    }

    /// Returns which part of the log is here.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            log: self.log,
            tail: self
                .entries
                .front()
                .map_or(self.head.next(), |entry| entry.sequence),
            head: self.head,
        }
    }

    /// Adds the entry after the head; the oldest leaves if there is one too many.
    ///
    /// # Errors
    ///
    /// The entry is not the one after the head.
    pub fn push(&mut self, entry: Arc<Entry>) -> Result<(), GapError> {
        if entry.sequence != self.head.next() {
            return Err(GapError {
                entry: entry.sequence,
                head: self.head,
            });
        }
        self.head = entry.sequence;
        self.entries.push_back(entry);
        if self.entries.len() > self.entries_max {
            self.entries.pop_front();
        }
        Ok(())
    }

    /// Forgets everything and goes on behind `head` of `log`.
    pub fn begin_anew(&mut self, log: LogId, head: Sequence) {
        self.log = log;
        self.head = head;
        self.entries.clear();
    }

    /// Forgets what comes before `tail`.
    pub fn cut(&mut self, tail: Sequence) {
        while self.entries.front().is_some_and(|e| e.sequence < tail) {
            self.entries.pop_front();
        }
    }

    /// Returns at most `entries_max` entries behind `after`; `None` when some of them are not here.
    pub fn read_after(&self, after: Sequence, entries_max: usize) -> Option<Vec<Arc<Entry>>> {
        let bounds = self.bounds();
        if !bounds.can_follow(after) {
            return None;
        }
        let skipped = usize::try_from(after.next().0 - bounds.tail.0).unwrap_or(usize::MAX);
        let read = self.entries.iter().skip(skipped).take(entries_max);
        Some(read.cloned().collect())
    }

    /// Returns the entry at `sequence`, if it is here.
    pub fn at(&self, sequence: Sequence) -> Option<&Arc<Entry>> {
        let first = self.entries.front()?.sequence;
        let index = usize::try_from(sequence.0.checked_sub(first.0)?).ok()?;
        self.entries.get(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, PurgeId, PurgeRequest, Target, UnixMillis};

    const LOG: LogId = LogId(7);

    fn entry(sequence: u64) -> Arc<Entry> {
        let sequence = Sequence(sequence);
        Arc::new(Entry {
            sequence,
            id: PurgeId { log: LOG, sequence },
            accepted_at: UnixMillis(0),
            request: PurgeRequest {
                target: Target::All,
                mode: Mode::Hard,
            },
            dry_run: false,
            by: "test".to_owned(),
        })
    }

    fn read(window: &Window, after: u64) -> Option<Vec<u64>> {
        let read = window.read_after(Sequence(after), 10)?;
        Some(read.iter().map(|entry| entry.sequence.0).collect())
    }

    #[test]
    fn the_oldest_leave_and_who_needs_them_is_told() {
        let mut window = Window::new(LOG, Sequence(3), 2);
        assert_eq!(read(&window, 3), Some(vec![]));
        for sequence in 4..=6 {
            window.push(entry(sequence)).unwrap();
        }
        assert_eq!(read(&window, 3), None, "entry 4 is gone");
        assert_eq!(read(&window, 4), Some(vec![5, 6]));
        assert_eq!(read(&window, 6), Some(vec![]));
        assert_eq!(read(&window, 7), None, "ahead of the head");
        assert_eq!(window.at(Sequence(5)).unwrap().sequence, Sequence(5));
        assert!(window.at(Sequence(4)).is_none());
        assert!(window.at(Sequence(7)).is_none());
    }

    #[test]
    fn f33_a_gap_or_a_repetition_is_refused() {
        let mut window = Window::new(LOG, Sequence::START, 10);
        window.push(entry(1)).unwrap();
        for sequence in [1, 3] {
            let refused = window.push(entry(sequence)).unwrap_err();
            assert_eq!(refused.head, Sequence(1));
        }
    }
}
