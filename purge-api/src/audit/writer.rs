//! The thread that writes the audit.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use purge_log::UnixMillis;
use tokio::sync::{mpsc, oneshot, watch};

use super::AuditConfig;
use super::files::Aside;
use super::line::{Event, Link};
use super::open::create;

/// An event on its way to the disk.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) at: UnixMillis,
    pub(super) event: Event,
    /// Answered when it is on disk; dropped if it cannot be.
    pub(super) reply: Option<oneshot::Sender<()>>,
}

/// What the thread works on.
pub(super) struct Writer {
    path: PathBuf,
    bytes_max: u64,
    files_max: Option<usize>,
    file: File,
    bytes: u64,
    link: Link,
    lost: Arc<AtomicU64>,
    /// Dropped last, when the file is closed: that is how its end is known.
    _alive: watch::Sender<()>,
}

impl Writer {
    pub(super) fn new(
        config: &AuditConfig,
        file: File,
        bytes: u64,
        link: Link,
        lost: Arc<AtomicU64>,
        alive: watch::Sender<()>,
    ) -> Self {
        Self {
            path: config.path.clone(),
            bytes_max: config.bytes_max,
            files_max: config.files_max,
            file,
            bytes,
            link,
            lost,
            _alive: alive,
        }
    }

    /// Writes until nobody can ask any more, or the disk refuses.
    pub(super) fn run(mut self, mut waiting: mpsc::Receiver<Command>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while waiting.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            if let Err(error) = self.write(&mut batch) {
                // Everybody who waits sees the channel close, and so does everybody who comes.
                tracing::error!(%error, path = %self.path.display(), "the audit cannot be written");
                return;
            }
        }
    }

    fn write(&mut self, batch: &mut Vec<Command>) -> io::Result<()> {
        let mut text = Vec::new();
        let mut replies = Vec::new();
        let mut latest = batch.first().map_or(UnixMillis(0), |command| command.at);
        if self.bytes >= self.bytes_max {
            for through in self.set_aside()? {
                text.extend(self.link.append(latest, Event::Removed { through }));
                text.push(b'\n');
            }
        }
        for Command { at, event, reply } in batch.drain(..) {
            latest = at;
            text.extend(self.link.append(at, event));
            text.push(b'\n');
            replies.extend(reply);
        }
        let lines = self.lost.swap(0, Ordering::Relaxed);
        if lines > 0 {
            text.extend(self.link.append(latest, Event::Lost { lines }));
            text.push(b'\n');
        }
        self.file.write_all(&text)?;
        if !replies.is_empty() {
            self.file.sync_data()?;
        }
        self.bytes += u64::try_from(text.len()).unwrap_or(u64::MAX);
        for reply in replies {
            // Who asked may have left; the line stands.
            reply.send(()).ok();
        }
        Ok(())
    }

    /// Sets the full file aside and begins the next, which goes on with the chain.
    ///
    /// Returns which files were removed because there are too many, by the numbers of their last lines.
    fn set_aside(&mut self) -> io::Result<Vec<u64>> {
        self.file.sync_all()?;
        let aside = Aside::of(&self.path, self.link.number);
        std::fs::rename(&self.path, &aside.path)?;
        self.file = create(&self.path)?;
        self.file.lock()?;
        self.bytes = 0;
        let Some(files_max) = self.files_max else {
            return Ok(Vec::new());
        };
        let mut asides = Aside::all(&self.path)?;
        // The last one stays: an empty file goes on from it.
        asides.truncate(asides.len().saturating_sub(files_max.max(1)));
        let mut removed = Vec::new();
        for aside in asides {
            std::fs::remove_file(&aside.path)?;
            removed.push(aside.number);
        }
        Ok(removed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A process that is being started has a copy of the file for a moment, and with it the lock that closing gives back.
        self.file.unlock().ok();
    }
}

/// Events that share one fsync.
const BATCH_MAX: usize = 256;
