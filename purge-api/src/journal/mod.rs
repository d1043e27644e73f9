//! The purge journal: every accepted purge, in order, kept before it is acknowledged.
//!
//! What is here: [`Journal`], what the API appends to and the feed reads from, on either of two engines: a
//! file of this machine, or a replicated stream of a NATS cluster. Who calls it: the HTTP API and the feed.
//! Deliberately not here: who may purge, and how a request is spelled.

mod config;
mod disk;
mod embedded;
mod error;
mod keys;
mod nats;
mod progress;
mod record;
mod writer;

#[cfg(test)]
mod engines_tests;
#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use purge_log::feed::Refused;
use purge_log::{Bounds, Entry, LogId, PurgeId, Report, Sequence, UnixMillis};
use tokio::sync::watch;

pub use config::{JournalConfig, NatsConfig, NatsLogin};
pub use error::{AppendError, ClaimError, OpenError, ReadError, StorageError};
pub use progress::{AppliedDetail, NodeApplied, NodeProgress};
pub use record::{Draft, ENTRY_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX};

use crate::auth::{Remembered, Used};
use embedded::Embedded;
use nats::Nats;

/// The purge journal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal(Engine);

#[derive(Clone, Debug)]
enum Engine {
    /// A file of this machine.
    Embedded(Embedded),
    /// A stream of a NATS server or cluster.
    Nats(Nats),
}

/// What opening a journal found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenReport {
    /// Which part of the log is there.
    pub bounds: Bounds,
    /// Entries that were read and found whole.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether the journal was begun just now.
    pub is_new: bool,
    /// Whether it was not closed properly, and what had not been acknowledged was rolled back.
    pub was_cut_off: bool,
    /// What was used once, before.
    pub remembered: Remembered,
}

/// What became of a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log, and on disk.
    New(Arc<Entry>),
    /// The same request with the same idempotency key is in the log already: this is it.
    Known(Arc<Entry>),
}

impl Appended {
    /// Returns the entry, whenever it was appended.
    pub fn entry(&self) -> &Arc<Entry> {
        match self {
            Self::New(entry) | Self::Known(entry) => entry,
        }
    }
}

/// Some entries, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Those that were asked for.
    pub entries: Vec<Arc<Entry>>,
    /// Where to go on: `before` of the next page. `None` when nothing older is there.
    pub next: Option<Sequence>,
}

impl Journal {
    /// Opens the journal at `path`, verifies all of it, and begins one if there is none.
    ///
    /// Blocks: every page and every entry is read and checked.
    ///
    /// # Errors
    ///
    /// Another process has it open; it cannot be read or written; it is damaged. A damaged journal is
    /// never half used: see [`OpenError`] for what to do.
    pub fn open(path: &Path, config: JournalConfig) -> Result<(Self, OpenReport), OpenError> {
        let (embedded, report) = Embedded::open(path, config)?;
        Ok((Self(Engine::Embedded(embedded)), report))
    }

    /// Uses a stream of a NATS server or cluster as the journal, and begins one if there is none.
    ///
    /// Several purge APIs may use the same stream at once: none of them is a single point of failure.
    ///
    /// # Errors
    ///
    /// The server cannot be reached or has no JetStream; the stream was made for something else; its
    /// entries are no purges.
    pub async fn connect(
        nats: NatsConfig,
        config: JournalConfig,
    ) -> Result<(Self, OpenReport), OpenError> {
        let (nats, report) = Nats::connect(nats, config).await?;
        Ok((Self(Engine::Nats(nats)), report))
    }

    /// Appends a purge; when this returns, it is on disk and on its way to the nodes.
    ///
    /// Those who append at the same time share one fsync.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]. After [`AppendError::Unknown`] the purge may be in the log or not: say it again
    /// with the same idempotency key.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the purge is appended whether or not somebody waits for the answer.
    pub async fn append(&self, draft: Draft) -> Result<Appended, AppendError> {
        match &self.0 {
            Engine::Embedded(journal) => journal.append(draft).await,
            Engine::Nats(journal) => journal.append(draft).await,
        }
    }

    /// Takes `used` for the caller alone, among all who append to this journal.
    ///
    /// # Errors
    ///
    /// See [`ClaimError`].
    pub async fn claim(&self, used: &Used) -> Result<(), ClaimError> {
        match &self.0 {
            // One process: what it remembers is all there is, and what it must not forget comes with the purge.
            Engine::Embedded(_) => Ok(()),
            Engine::Nats(journal) => journal.claim(used).await,
        }
    }

    /// Returns which part of the log can be read now.
    pub fn bounds(&self) -> Bounds {
        match &self.0 {
            Engine::Embedded(journal) => journal.bounds(),
            Engine::Nats(journal) => journal.bounds(),
        }
    }

    /// Returns how long ago it was certain that there is no entry behind the head.
    pub fn age(&self) -> Duration {
        match &self.0 {
            // All appends pass through here: what is not in the log was not accepted.
            Engine::Embedded(_) => Duration::ZERO,
            Engine::Nats(journal) => journal.age(),
        }
    }

    /// Waits until whoever is at `after` of `log` can be told what comes next, or that there is no such place.
    ///
    /// Another purge API of the same log may have read further than this one.
    ///
    /// Returns whether that came to be in time.
    pub async fn reaches(&self, log: LogId, after: Sequence) -> bool {
        match &self.0 {
            Engine::Embedded(_) => true,
            Engine::Nats(journal) => journal.reaches(log, after).await,
        }
    }

    /// Returns a receiver that changes with every entry, and whose sender is gone when the journal is closed.
    pub fn subscribe(&self) -> watch::Receiver<Bounds> {
        match &self.0 {
            Engine::Embedded(journal) => journal.subscribe(),
            Engine::Nats(journal) => journal.subscribe(),
        }
    }

    /// Returns the purge called `id`, if it is still in the log.
    ///
    /// # Errors
    ///
    /// The disk cannot be read.
    pub async fn find(&self, id: PurgeId) -> Result<Option<Arc<Entry>>, ReadError> {
        match &self.0 {
            Engine::Embedded(journal) => journal.find(id).await,
            Engine::Nats(journal) => journal.find(id).await,
        }
    }

    /// Returns at most `entries_max` entries behind `after`, in order; none when there is nothing new.
    ///
    /// # Errors
    ///
    /// [`ReadError::Behind`] when some of them are no longer there, or `after` is not in this log.
    pub async fn read_after(
        &self,
        after: Sequence,
        entries_max: usize,
    ) -> Result<Vec<Arc<Entry>>, ReadError> {
        match &self.0 {
            Engine::Embedded(journal) => journal.read_after(after, entries_max).await,
            Engine::Nats(journal) => journal.read_after(after, entries_max).await,
        }
    }

    /// Returns entries before `before`, newest first, that `is_meant` keeps.
    ///
    /// # Errors
    ///
    /// The disk cannot be read.
    ///
    /// # Limits
    ///
    /// At most `entries_max` entries are returned and [`SCANNED_MAX`] looked at; [`Page::next`] goes on.
    pub async fn list(
        &self,
        before: Option<Sequence>,
        entries_max: usize,
        is_meant: impl Fn(&Entry) -> bool + Send + 'static,
    ) -> Result<Page, ReadError> {
        match &self.0 {
            Engine::Embedded(journal) => journal.list(before, entries_max, is_meant).await,
            Engine::Nats(journal) => journal.list(before, entries_max, is_meant).await,
        }
    }

    /// Takes note of what nodes say they applied.
    ///
    /// # Errors
    ///
    /// A node that is one too many; the others are noted.
    pub fn report(&self, reports: Vec<Report>, now: UnixMillis) -> Result<(), Refused> {
        match &self.0 {
            Engine::Embedded(journal) => journal.report(reports, now),
            Engine::Nats(journal) => journal.report(reports, now),
        }
    }

    /// Returns which nodes applied the purge at `sequence`, and when, as far as is known.
    ///
    /// # Errors
    ///
    /// The disk cannot be read.
    pub async fn applied(&self, sequence: Sequence) -> Result<Vec<NodeApplied>, ReadError> {
        match &self.0 {
            Engine::Embedded(journal) => journal.applied(sequence).await,
            Engine::Nats(journal) => Ok(journal.applied(sequence)),
        }
    }

    /// Returns every node that ever reported and was not forgotten, in order of their names.
    pub fn nodes(&self) -> Vec<NodeProgress> {
        match &self.0 {
            Engine::Embedded(journal) => journal.nodes(),
            Engine::Nats(journal) => journal.nodes(),
        }
    }

    /// Returns a receiver that changes with every report that says something new.
    pub fn progress(&self) -> watch::Receiver<u64> {
        match &self.0 {
            Engine::Embedded(journal) => journal.progress(),
            Engine::Nats(journal) => journal.progress(),
        }
    }

    /// Removes what is too old at `now`: purges, and nodes that said nothing for as long.
    ///
    /// Appending does this too, so that only a journal nobody appends to needs it.
    ///
    /// # Errors
    ///
    /// The disk cannot be written.
    pub async fn compact(&self, now: UnixMillis) -> Result<(), AppendError> {
        match &self.0 {
            Engine::Embedded(journal) => journal.compact(now).await,
            Engine::Nats(journal) => {
                journal.compact(now);
                Ok(())
            }
        }
    }

    /// Finishes what is queued and takes no more; feeds end. The file closes with the last clone of the journal.
    pub async fn close(self) {
        match self.0 {
            Engine::Embedded(journal) => journal.close().await,
            Engine::Nats(journal) => journal.close().await,
        }
    }
}

/// Entries that one page looks at.
pub const SCANNED_MAX: usize = 10_000;
