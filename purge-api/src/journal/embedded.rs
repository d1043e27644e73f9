//! The journal on this machine's disk.
//!
//! Who calls it: [`super::Journal`]. What it calls: `redb` through `disk`, from the thread of `writer`, so
//! that no task waits for a disk. Deliberately not here: what callers see, which is in the parent.
//!
//! ```text
//! append ─► queue ─► writer: all that wait in one transaction, one fsync ─► recent entries ─► head
//!                                                                       └─► each caller's answer
//! ```

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use purge_log::feed::Refused;
use purge_log::{Bounds, Entry, PurgeId, Report, Sequence, UnixMillis, Window};
use tokio::sync::{mpsc, oneshot, watch};

use super::disk::{self, Disk};
use super::progress::{NodeApplied, NodeProgress, Progress};
use super::record::Record;
use super::writer::{Command, Kept, Reply, Writer};
use super::{
    AppendError, Appended, Draft, JournalConfig, OpenError, OpenReport, Page, ReadError,
    SCANNED_MAX,
};
use crate::auth::Remembered;

/// The journal on this machine's disk. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Embedded {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

/// What readers and the writer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) disk: Disk,
    /// Entries of late: what the feed mostly reads.
    pub(super) recent: Mutex<Window>,
    /// The writer holds the sender: who follows learns that the journal was closed.
    bounds: watch::Receiver<Bounds>,
    pub(super) progress: Mutex<Progress>,
    /// Ticks with every report that said something new.
    progressed: watch::Sender<u64>,
}

impl Embedded {
    /// Opens the journal at `path`, verifies all of it, and begins one if there is none.
    pub(super) fn open(
        path: &Path,
        config: JournalConfig,
    ) -> Result<(Self, OpenReport), OpenError> {
        Self::start(Disk::open(path)?, config)
    }

    pub(super) fn start(
        opened: disk::Opened,
        config: JournalConfig,
    ) -> Result<(Self, OpenReport), OpenError> {
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
            remembered: if is_new {
                Remembered::default()
            } else {
                found.remembered
            },
        };
        Ok((Self { shared, commands }, report))
    }

    /// Appends a purge; when this returns, it is on disk and on its way to the nodes.
    pub(super) async fn append(&self, draft: Draft) -> Result<Appended, AppendError> {
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
    pub(super) fn bounds(&self) -> Bounds {
        *self.shared.bounds.borrow()
    }

    /// Returns a receiver that changes with every entry, and whose sender is gone when the journal is closed.
    pub(super) fn subscribe(&self) -> watch::Receiver<Bounds> {
        self.shared.bounds.clone()
    }

    /// Returns the purge called `id`, if it is still in the log.
    pub(super) async fn find(&self, id: PurgeId) -> Result<Option<Arc<Entry>>, ReadError> {
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
    pub(super) async fn read_after(
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
    pub(super) async fn list(
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
    pub(super) fn report(&self, reports: Vec<Report>, now: UnixMillis) -> Result<(), Refused> {
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
    pub(super) async fn applied(&self, sequence: Sequence) -> Result<Vec<NodeApplied>, ReadError> {
        let remembered = self.shared.progress.lock().applied(sequence);
        if let Some(applied) = remembered {
            return Ok(applied);
        }
        let lines = self.on_disk(move |disk| disk.applied(sequence)).await?;
        Ok(self.shared.progress.lock().complete(sequence, lines))
    }

    /// Returns every node that ever reported and was not forgotten, in order of their names.
    pub(super) fn nodes(&self) -> Vec<NodeProgress> {
        self.shared.progress.lock().nodes()
    }

    /// Returns a receiver that changes with every report that says something new.
    pub(super) fn progress(&self) -> watch::Receiver<u64> {
        self.shared.progressed.subscribe()
    }

    /// Removes what is too old at `now`: purges, and nodes that said nothing for as long.
    pub(super) async fn compact(&self, now: UnixMillis) -> Result<(), AppendError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Compact { now, reply };
        let sent = self.commands.send(command).await;
        sent.map_err(|_| AppendError::Closed)?;
        answer.await.map_err(|_| AppendError::Unknown)?
    }

    /// Finishes what is queued and takes no more; feeds end. The file closes with the last clone of the journal.
    pub(super) async fn close(self) {
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
