//! The journal's thread: the only one that writes.
//!
//! Who calls it: the journal starts it and sends it commands. All purges that wait are one transaction and
//! one fsync, so a storm costs as many fsyncs as the disk can make, not as many as there are purges.
//! Deliberately not here: reading.
//!
//! Invariant: an entry is in `recent`, in `bounds` and in an answer only after it is on disk. Once a commit
//! has failed nothing is written any more: what the disk has is then not known until it is read anew.

use std::sync::Arc;

use purge_log::{Applied, Bounds, Entry, NodeName, Sequence, UnixMillis};
use redb::{Durability, ReadableTable, WriteTransaction};
use tokio::sync::{mpsc, oneshot, watch};

use super::disk::{APPLIED, ENTRIES, META, NODES};
use super::embedded::Shared;
use super::error::{AppendError, StorageError};
use super::keys::Keys;
use super::record::{self, Record};
use super::{Appended, JournalConfig};

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Append a purge.
    Append { record: Record, reply: Reply },
    /// Keep what nodes reported.
    Keep(Vec<Noted>),
    /// Remove what is too old.
    Compact {
        now: UnixMillis,
        reply: oneshot::Sender<Result<(), AppendError>>,
    },
    /// End.
    Close { reply: oneshot::Sender<()> },
}

/// Who waits for what becomes of a purge.
#[derive(Debug)]
pub(super) struct Reply(pub(super) oneshot::Sender<Result<Appended, AppendError>>);

impl Reply {
    /// Answers. Who asked may have left: the purge is in the log all the same.
    fn send(self, answer: Result<Appended, AppendError>) {
        self.0.send(answer).ok();
    }
}

/// What one node reported, for the disk.
#[derive(Debug)]
pub(super) struct Noted {
    pub(super) node: NodeName,
    pub(super) through: Sequence,
    pub(super) reported_at: UnixMillis,
    pub(super) applied: Vec<Applied>,
}

/// The state of the thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    publishing: watch::Sender<Bounds>,
    config: JournalConfig,
    kept: Kept,
    bounds: Bounds,
    /// Commits that are on disk only after the next durable one.
    undurable: u32,
    failure: Option<StorageError>,
    /// The latest time that anybody told.
    compacted_at: UnixMillis,
}

/// What is in the log, as the writer counts it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) keys: Keys,
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// What the answer will be if the commit succeeds.
enum Answer {
    New(Arc<Entry>),
    Known(Sequence),
    Refused(AppendError),
}

/// What one transaction does.
#[derive(Default)]
struct Batch {
    appends: Vec<(Record, Reply)>,
    noted: Vec<Noted>,
    compact: Option<UnixMillis>,
    compacted: Vec<oneshot::Sender<Result<(), AppendError>>>,
    closed: Option<oneshot::Sender<()>>,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        publishing: watch::Sender<Bounds>,
        config: JournalConfig,
        kept: Kept,
    ) -> Self {
        let bounds = *publishing.borrow();
        Self {
            shared,
            publishing,
            config,
            kept,
            bounds,
            undurable: 0,
            failure: None,
            compacted_at: UnixMillis::default(),
        }
    }

    /// Writes until the last sender is gone or [`Command::Close`] comes.
    pub(super) fn run(mut self, mut waiting: mpsc::Receiver<Command>) {
        let mut closed = None;
        while let Some(first) = waiting.blocking_recv() {
            let mut batch = Batch::default();
            batch.take(first);
            while batch.closed.is_none() && batch.appends.len() < self.config.batch_max {
                let Ok(next) = waiting.try_recv() else { break };
                batch.take(next);
            }
            closed = batch.closed.take();
            self.write(batch);
            if closed.is_some() {
                break;
            }
        }
        if self.failure.is_none()
            && let Err(error) = self.shared.disk.finish()
        {
            tracing::error!(%error, "the journal was not closed properly");
        }
        // The file closes when the last reader of `shared` is gone; whoever closed the journal knows.
        drop(waiting);
        drop(self);
        if let Some(closed) = closed {
            closed.send(()).ok();
        }
    }

    fn write(&mut self, batch: Batch) {
        let outcome = match &self.failure {
            Some(error) => Err(error.clone()),
            None => self.transact(&batch),
        };
        let replies = batch.appends.into_iter().map(|(_, reply)| reply);
        match outcome {
            Ok(answers) => {
                self.publish(&answers);
                for (reply, answer) in replies.zip(answers) {
                    reply.send(self.answer(answer));
                }
                for reply in batch.compacted {
                    reply.send(Ok(())).ok();
                }
            }
            Err(error) => {
                if self.failure.is_none() {
                    tracing::error!(%error, "the journal cannot be written and takes no more purges");
                }
                for reply in replies {
                    reply.send(Err(AppendError::Storage(error.clone())));
                }
                for reply in batch.compacted {
                    reply.send(Err(AppendError::Storage(error.clone()))).ok();
                }
                self.failure = Some(error);
            }
        }
    }

    /// Writes a batch and commits it. If this fails, nothing more may be written.
    fn transact(&mut self, batch: &Batch) -> Result<Vec<Answer>, StorageError> {
        let now = batch.now(self.compacted_at);
        let mut write = self
            .shared
            .disk
            .database
            .begin_write()
            .map_err(StorageError::new)?;
        let answers = self.append_all(&write, &batch.appends)?;
        keep(&write, &batch.noted, self.bounds.tail)?;
        let is_compacting = batch.compact.is_some() || !batch.appends.is_empty();
        if is_compacting {
            self.compacted_at = now;
            self.remove_old(&write, now)?;
        }
        let is_durable = is_compacting || self.undurable >= UNDURABLE_MAX;
        self.undurable = if is_durable { 0 } else { self.undurable + 1 };
        let durability = if is_durable {
            Durability::Immediate
        } else {
            Durability::None
        };
        write
            .set_durability(durability)
            .map_err(StorageError::new)?;
        write.commit().map_err(StorageError::new)?;
        Ok(answers)
    }

    fn append_all(
        &mut self,
        write: &WriteTransaction,
        appends: &[(Record, Reply)],
    ) -> Result<Vec<Answer>, StorageError> {
        if appends.is_empty() {
            return Ok(Vec::new());
        }
        let mut entries = write.open_table(ENTRIES).map_err(StorageError::new)?;
        let mut answers = Vec::with_capacity(appends.len());
        for (Record { draft, bytes }, _) in appends {
            self.kept.keys.expire(draft.accepted_at, self.bounds.tail);
            let key = draft.key();
            if let Some(sequence) = key.as_ref().and_then(|key| self.kept.keys.find(key)) {
                let known = entries.get(sequence.0).map_err(StorageError::new)?;
                let known = known.map(|bytes| record::read(bytes.value())).transpose();
                let is_same = known
                    .map_err(StorageError::new)?
                    .is_some_and(|known| known.asks_for(draft));
                answers.push(if is_same {
                    Answer::Known(sequence)
                } else {
                    Answer::Refused(AppendError::KeyReused(sequence))
                });
                continue;
            }
            let sequence = self.bounds.head.next();
            entries
                .insert(sequence.0, bytes.as_slice())
                .map_err(StorageError::new)?;
            if let Some(key) = key {
                self.kept.keys.remember(key, sequence, draft.accepted_at);
            }
            self.bounds.head = sequence;
            self.kept.entries += 1;
            self.kept.bytes += bytes.len() as u64;
            let entry = draft.clone().into_entry(self.bounds.log, sequence);
            answers.push(Answer::New(Arc::new(entry)));
        }
        let mut meta = write.open_table(META).map_err(StorageError::new)?;
        meta.insert("head", self.bounds.head.0)
            .map_err(StorageError::new)?;
        Ok(answers)
    }

    /// Removes the oldest purges while they are too old, too many or too large, at most [`REMOVED_MAX`].
    fn remove_old(
        &mut self,
        write: &WriteTransaction,
        now: UnixMillis,
    ) -> Result<(), StorageError> {
        let mut entries = write.open_table(ENTRIES).map_err(StorageError::new)?;
        let before = self.bounds.tail;
        for _ in 0..REMOVED_MAX {
            let Some((sequence, length, accepted_at)) = oldest(&entries)? else {
                break;
            };
            let is_excess = self.kept.entries > self.config.entries_max
                || self.kept.bytes > self.config.bytes_max;
            if !is_excess && now.since(accepted_at) <= self.config.keep_for {
                break;
            }
            entries.pop_first().map_err(StorageError::new)?;
            self.kept.entries -= 1;
            self.kept.bytes -= length;
            self.bounds.tail = sequence.next();
        }
        if before != self.bounds.tail {
            let mut applied = write.open_table(APPLIED).map_err(StorageError::new)?;
            let gone = ..(self.bounds.tail.0, "");
            applied
                .retain_in(gone, |_, _| false)
                .map_err(StorageError::new)?;
        }
        let gone = self
            .shared
            .progress
            .lock()
            .forget_silent(now, self.config.keep_for);
        if !gone.is_empty() {
            let mut nodes = write.open_table(NODES).map_err(StorageError::new)?;
            for node in gone {
                nodes.remove(node.as_str()).map_err(StorageError::new)?;
            }
        }
        Ok(())
    }

    /// Shows readers what is on disk now.
    fn publish(&self, answers: &[Answer]) {
        {
            let mut recent = self.shared.recent.lock();
            for answer in answers {
                if let Answer::New(entry) = answer {
                    recent
                        .push(Arc::clone(entry))
                        .expect("the writer gives places without a gap");
                }
            }
            recent.cut(self.bounds.tail);
        }
        self.shared.progress.lock().cut(self.bounds.tail);
        self.publishing.send_if_modified(|bounds| {
            let is_news = *bounds != self.bounds;
            *bounds = self.bounds;
            is_news
        });
    }

    fn answer(&self, answer: Answer) -> Result<Appended, AppendError> {
        match answer {
            Answer::New(entry) => Ok(Appended::New(entry)),
            Answer::Refused(error) => Err(error),
            Answer::Known(sequence) => match self.shared.disk.entry(sequence) {
                Ok(Some(entry)) => Ok(Appended::Known(entry)),
                // Compacted in this very batch: it was applied or is void, but it cannot be shown.
                Ok(None) => Err(AppendError::Unknown),
                Err(_) => Err(AppendError::Unknown),
            },
        }
    }
}

impl Batch {
    fn take(&mut self, command: Command) {
        match command {
            Command::Append { record, reply } => self.appends.push((record, reply)),
            Command::Keep(noted) => self.noted.extend(noted),
            Command::Compact { now, reply } => {
                self.compact = self.compact.max(Some(now));
                self.compacted.push(reply);
            }
            Command::Close { reply } => self.closed = Some(reply),
        }
    }

    /// Returns the latest time that anybody in the batch, or before it, knew of.
    fn now(&self, known: UnixMillis) -> UnixMillis {
        let accepted = self
            .appends
            .iter()
            .map(|(record, _)| record.draft.accepted_at);
        accepted.chain(self.compact).fold(known, UnixMillis::max)
    }
}

/// Returns place, bytes and time of the oldest purge.
fn oldest(
    entries: &impl ReadableTable<u64, &'static [u8]>,
) -> Result<Option<(Sequence, u64, UnixMillis)>, StorageError> {
    let Some((sequence, bytes)) = entries.first().map_err(StorageError::new)? else {
        return Ok(None);
    };
    let draft = record::read(bytes.value()).map_err(StorageError::new)?;
    let length = bytes.value().len() as u64;
    Ok(Some((
        Sequence(sequence.value()),
        length,
        draft.accepted_at,
    )))
}

/// Writes reports down; what is about purges that are gone, is not.
fn keep(write: &WriteTransaction, noted: &[Noted], tail: Sequence) -> Result<(), StorageError> {
    if noted.is_empty() {
        return Ok(());
    }
    let mut nodes = write.open_table(NODES).map_err(StorageError::new)?;
    let mut applied = write.open_table(APPLIED).map_err(StorageError::new)?;
    for Noted {
        node,
        through,
        reported_at,
        applied: lines,
    } in noted
    {
        nodes
            .insert(node.as_str(), (through.0, reported_at.0))
            .map_err(StorageError::new)?;
        for line in lines.iter().filter(|line| line.sequence >= tail) {
            let counts = line.counts;
            let row = [
                line.at.0,
                reported_at.0,
                counts.responses,
                counts.bytes,
                counts.fills,
            ];
            applied
                .insert((line.sequence.0, node.as_str()), row)
                .map_err(StorageError::new)?;
        }
    }
    Ok(())
}

/// Purges that one commit removes, so that no caller waits for a great cleaning.
const REMOVED_MAX: usize = 2048;

/// Commits of reports alone that may be lost with the process: nodes say again what they reported.
const UNDURABLE_MAX: u32 = 64;
