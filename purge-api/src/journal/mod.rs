//! The purge journal: every accepted purge, in order, on disk before it is acknowledged.
//!
//! What is here: [`Journal`], what the API appends to and the feed reads from. Who calls it: the HTTP API
//! and the feed. What it calls: `redb` through `disk`, from a thread of its own, so that no task waits for
//! a disk. Deliberately not here: who may purge, and how a request is spelled.
//!
//! ```text
//! append ─► queue ─► writer: all that wait in one transaction, one fsync ─► recent entries ─► head
//!                                                                       └─► each caller's answer
//! ```

mod config;
mod disk;
mod error;
mod keys;
mod progress;
mod record;
mod writer;

#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use purge_log::feed::Refused;
use purge_log::{Bounds, Entry, PurgeId, Report, Sequence, UnixMillis, Window};
use tokio::sync::{mpsc, oneshot, watch};

pub use config::JournalConfig;
pub use error::{AppendError, OpenError, ReadError, StorageError};
pub use progress::{AppliedDetail, NodeApplied, NodeProgress};
pub use record::{Draft, ENTRY_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX};

use disk::Disk;
use progress::Progress;
use record::Record;
use writer::{Command, Kept, Reply, Writer};

/// The purge journal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

/// What readers and the writer share.
#[derive(Debug)]
struct Shared {
    disk: Disk,
    /// Entries of late: what the feed mostly reads.
    recent: Mutex<Window>,
    /// The writer holds the sender: who follows learns that the journal was closed.
    bounds: watch::Receiver<Bounds>,
    progress: Mutex<Progress>,
    /// Ticks with every report that said something new.
    progressed: watch::Sender<u64>,
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
        Self::start(Disk::open(path)?, config)
    }

    fn start(opened: disk::Opened, config: JournalConfig) -> Result<(Self, OpenReport), OpenError> {
        let disk::Opened {
            disk,
            is_new,
            was_cut_off,
        } = opened;
        let found = disk.verify(&config)?;
        let (publishing, bounds) = watch::channel(found.bounds);
        let shared = Arc::new(Shared {
            disk,
            recent: Mutex::new(found.recent),
            bounds,
            progress: Mutex::new(found.progress),
            progressed: watch::Sender::new(0),
        });
        let (commands, waiting) = mpsc::channel(config.waiting_max);
        let (entries, bytes) = (found.entries, found.bytes);
        let kept = Kept {
            keys: found.keys,
            entries,
            bytes,
        };
        let writer = Writer::new(Arc::clone(&shared), publishing, config, kept);
        std::thread::Builder::new()
            .name("purge-journal".to_owned())
            .spawn(move || writer.run(waiting))
            .map_err(OpenError::Thread)?;
        let report = OpenReport {
            bounds: found.bounds,
            entries,
            bytes,
            is_new,
            was_cut_off,
        };
        Ok((Self { shared, commands }, report))
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
        let record = Record::new(draft)?;
        let (reply, answer) = oneshot::channel();
        let reply = Reply(reply);
        match self.commands.try_send(Command::Append { record, reply }) {
            Ok(()) => answer.await.map_err(|_| AppendError::Unknown)?,
            Err(mpsc::error::TrySendError::Full(_)) => Err(AppendError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(AppendError::Closed),
        }
    }

    /// Returns which part of the log can be read now.
    pub fn bounds(&self) -> Bounds {
        *self.shared.bounds.borrow()
    }

    /// Returns how long ago it was certain that there is no entry behind the head.
    pub fn age(&self) -> Duration {
        // All appends pass through here: what is not in the log was not accepted.
        Duration::ZERO
    }

    /// Returns a receiver that changes with every entry, and whose sender is gone when the journal is closed.
    pub fn subscribe(&self) -> watch::Receiver<Bounds> {
        self.shared.bounds.clone()
    }

    /// Returns the purge called `id`, if it is still in the log.
    ///
    /// # Errors
    ///
    /// The disk cannot be read.
    pub async fn find(&self, id: PurgeId) -> Result<Option<Arc<Entry>>, ReadError> {
        let bounds = self.bounds();
        if id.log != bounds.log || id.sequence < bounds.tail || id.sequence > bounds.head {
            return Ok(None);
        }
        let recent = self.shared.recent.lock().at(id.sequence).cloned();
        if recent.is_some() {
            return Ok(recent);
        }
        self.on_disk(move |disk| disk.entry(id.sequence)).await
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
        let recent = self.shared.recent.lock().read_after(after, entries_max);
        if let Some(entries) = recent {
            return Ok(entries);
        }
        if !self.bounds().can_follow(after) {
            return Err(ReadError::Behind);
        }
        self.on_disk(move |disk| disk.read_after(after, entries_max))
            .await
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
        let before = before.unwrap_or(Sequence(u64::MAX));
        self.on_disk(move |disk| disk.list(before, entries_max, SCANNED_MAX, is_meant))
            .await
    }

    /// Takes note of what nodes say they applied.
    ///
    /// # Errors
    ///
    /// A node that is one too many; the others are noted.
    pub fn report(&self, reports: Vec<Report>, now: UnixMillis) -> Result<(), Refused> {
        let bounds = self.bounds();
        let (noted, refused) = {
            let mut progress = self.shared.progress.lock();
            progress.note(reports, bounds, now)
        };
        if !noted.is_empty() {
            self.shared.progressed.send_modify(|ticks| *ticks += 1);
            // A queue that is full of purges has better things to write. What is not kept is said
            // again by the node: its next report counts for everything before.
            self.commands.try_send(Command::Keep(noted)).ok();
        }
        refused.map_or(Ok(()), Err)
    }

    /// Returns which nodes applied the purge at `sequence`, and when, as far as is known.
    ///
    /// # Errors
    ///
    /// The disk cannot be read.
    pub async fn applied(&self, sequence: Sequence) -> Result<Vec<NodeApplied>, ReadError> {
        let remembered = self.shared.progress.lock().applied(sequence);
        if let Some(applied) = remembered {
            return Ok(applied);
        }
        let lines = self.on_disk(move |disk| disk.applied(sequence)).await?;
        Ok(self.shared.progress.lock().complete(sequence, lines))
    }

    /// Returns every node that ever reported and was not forgotten, in order of their names.
    pub fn nodes(&self) -> Vec<NodeProgress> {
        self.shared.progress.lock().nodes()
    }

    /// Returns a receiver that changes with every report that says something new.
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.shared.progressed.subscribe()
    }

    /// Removes what is too old at `now`: purges, and nodes that said nothing for as long.
    ///
    /// Appending does this too, so that only a journal nobody appends to needs it.
    ///
    /// # Errors
    ///
    /// The disk cannot be written.
    pub async fn compact(&self, now: UnixMillis) -> Result<(), AppendError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Compact { now, reply };
        let sent = self.commands.send(command).await;
        sent.map_err(|_| AppendError::Closed)?;
        answer.await.map_err(|_| AppendError::Unknown)?
    }

    /// Finishes what is queued and takes no more; feeds end. The file closes with the last clone of the journal.
    pub async fn close(self) {
        let (reply, closed) = oneshot::channel();
        if self.commands.send(Command::Close { reply }).await.is_ok() {
            closed.await.ok();
        }
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Disk) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || read(&shared.disk))
            .await
            .map_err(|_| ReadError::Ended)?
    }
}

/// Entries that one page looks at.
pub const SCANNED_MAX: usize = 10_000;
