//! The audit: who asked for what, what became of it, and who applied it, in a file that shows if it was changed.
//!
//! What is here: [`Audit`], which appends; `line`, what is written; [`verify()`], which reads. Who calls it: the API
//! for every purge and every refusal; the command line to verify. What it calls: a file, from a thread of
//! its own. Deliberately not here: the journal, which is what nodes believe; the audit is what people believe.
//!
//! Each line is a JSON text with the SHA-256 of the line before it, so that a line cannot be changed, removed
//! or added without all behind it. A file that is full is set aside under the number of its last line, and the
//! next one goes on with the chain, across restarts too.

mod files;
mod line;
mod open;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use purge_log::{PurgeId, UnixMillis};
use tokio::sync::{mpsc, oneshot, watch};

pub use files::{FilesError, verify_files};
pub use line::{Event, LINE_BYTES_MAX, Line, Link};
pub use open::AuditError;
pub use verify::{Verified, VerifyError, verify};

use open::Opened;
use writer::{Command, Writer};

/// Where the audit is written, and how much of it in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// The file.
    pub path: PathBuf,
    /// Bytes of one file; a full one is set aside as `FILE.NUMBER`.
    pub bytes_max: u64,
    /// How many of those are kept, at least one; without a number, all of them.
    pub files_max: Option<usize>,
    /// Whether each "this node applied that purge" is a line too.
    pub applied: bool,
}

/// The audit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    commands: mpsc::Sender<Command>,
    lost: Arc<AtomicU64>,
    applied: bool,
    /// Closes when the thread has let go of the file.
    ended: watch::Receiver<()>,
}

/// What opening an audit found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditReport {
    /// What the chain ends with.
    pub link: Link,
    /// Lines in the present file.
    pub lines: u64,
    /// Bytes behind the last whole line: what a crash left of a line that was not acknowledged. They are cut.
    pub cut_bytes: u64,
    /// The purges of late that have a line, at most [`PURGES_MAX`], so that those without can be given one.
    pub purges: BTreeSet<PurgeId>,
}

impl Audit {
    /// Opens the audit, verifies its present file, and begins one if there is none.
    ///
    /// Blocks: every line is read.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written, or its chain is broken: then it is left as it is.
    pub fn open(config: &AuditConfig) -> Result<(Self, AuditReport), AuditError> {
        let Opened {
            file,
            bytes,
            report,
        } = open::open(&config.path)?;
        let (commands, waiting) = mpsc::channel(WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let (alive, ended) = watch::channel(());
        let link = report.link.clone();
        let writer = Writer::new(config, file, bytes, link, Arc::clone(&lost), alive);
        std::thread::Builder::new()
            .name("purge-audit".to_owned())
            .spawn(move || writer.run(waiting))
            .map_err(AuditError::Thread)?;
        let applied = config.applied;
        let audit = Self {
            commands,
            lost,
            applied,
            ended,
        };
        Ok((audit, report))
    }

    /// Writes an event; when this returns, it is on disk.
    ///
    /// # Errors
    ///
    /// It cannot be written. The audit stays broken then: what cannot be audited must not be done.
    pub async fn write(&self, at: UnixMillis, event: Event) -> Result<(), Unwritable> {
        let (reply, written) = oneshot::channel();
        let command = Command {
            at,
            event,
            reply: Some(reply),
        };
        let sent = self.commands.send(command).await;
        sent.map_err(|_| Unwritable)?;
        written.await.map_err(|_| Unwritable)
    }

    /// Writes an event when there is time; if too many wait, it is counted and the audit says how many are missing.
    pub fn note(&self, at: UnixMillis, event: Event) {
        if matches!(event, Event::Applied { .. }) && !self.applied {
            return;
        }
        let reply = None;
        if self
            .commands
            .try_send(Command { at, event, reply })
            .is_err()
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what is queued is written and the file is closed, once the last clone of the audit is gone.
    pub async fn close(self) {
        let Self {
            commands,
            mut ended,
            ..
        } = self;
        drop(commands);
        while ended.changed().await.is_ok() {}
    }

    /// Returns whether events can still be written.
    pub fn is_whole(&self) -> bool {
        !self.commands.is_closed()
    }
}

/// The audit cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit cannot be written")]
pub struct Unwritable;

/// Purges of late that a report names: many more than can be between the log and the audit.
pub const PURGES_MAX: usize = 8192;

/// Events that may wait for the disk.
const WAITING_MAX: usize = 4096;
