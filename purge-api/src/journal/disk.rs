//! The journal's file: what is in it, and reading it.
//!
//! Who calls it: the journal reads, the writer writes. The file is a `redb` database; why, is in
//! `docs/decisions/0007-purge-journal.md`. Deliberately not here: when to write.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `format`, `log`, `head`, `open` | numbers |
//! | `entries` | sequence | the draft, in JSON |
//! | `applied` | sequence, node | when, reported when, responses, bytes, fills |
//! | `nodes` | node | through, reported when |

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use aws_lc_rs::rand;
use purge_log::{Bounds, Counts, Entry, LogId, NodeName, Sequence, UnixMillis, Window};
use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable,
    TableDefinition,
};

use super::JournalConfig;
use super::error::{OpenError, ReadError, StorageError};
use super::keys::Keys;
use super::progress::{AppliedDetail, Line, NodeProgress, Progress};
use super::record::{self, Draft};
use crate::auth::{Remembered, SKEW_MAX};

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
pub(super) const APPLIED: TableDefinition<'_, (u64, &str), [u64; 5]> =
    TableDefinition::new("applied");
pub(super) const NODES: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("nodes");

/// The journal's file, open.
pub(super) struct Disk {
    path: PathBuf,
    pub(super) database: Database,
    pub(super) log: LogId,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("path", &self.path)
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

/// A file that was just opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) disk: Disk,
    pub(super) is_new: bool,
    pub(super) was_cut_off: bool,
}

/// What a whole reading of the file found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) bounds: Bounds,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) recent: Window,
    pub(super) keys: Keys,
    pub(super) progress: Progress,
    pub(super) remembered: Remembered,
}

impl Disk {
    /// Opens or begins the file at `path` and verifies its pages.
    pub(super) fn open(path: &Path) -> Result<Opened, OpenError> {
        let opened = Self::open_with(path, |builder| builder.create(path))?;
        if opened.is_new {
            // A new file is only there after a power failure if its directory was written too.
            sync_directory(path).map_err(|source| OpenError::File {
                path: path.to_owned(),
                source,
            })?;
        }
        Ok(opened)
    }

    /// Opens whatever `create` makes; `path` is for messages.
    pub(super) fn open_with(
        path: &Path,
        create: impl FnOnce(&mut Builder) -> Result<Database, DatabaseError>,
    ) -> Result<Opened, OpenError> {
        let mut builder = Builder::new();
        builder
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true);
        let database = create(&mut builder).map_err(|error| refusal(path, error))?;
        let damaged = |source: StorageError| OpenError::Damaged {
            path: path.to_owned(),
            source: Box::new(source),
        };
        let known = known_log(&database).map_err(damaged)?;
        let is_new = known.is_none();
        let log = match known {
            Some((FORMAT, log)) => LogId(log),
            Some((found, _)) => {
                return Err(OpenError::Format {
                    found,
                    known: FORMAT,
                });
            }
            None => begin(&database).map_err(damaged)?,
        };
        let was_cut_off = set_open(&database, true).map_err(damaged)?;
        Ok(Opened {
            disk: Self {
                path: path.to_owned(),
                database,
                log,
            },
            is_new,
            was_cut_off,
        })
    }

    /// Writes down that the file was closed properly, and everything else that is not on disk yet.
    pub(super) fn finish(&self) -> Result<(), StorageError> {
        set_open(&self.database, false).map(|_was_open| ())
    }

    /// Reads every entry once: each place once, each entry as it was written.
    pub(super) fn verify(&self, config: &JournalConfig) -> Result<Found, OpenError> {
        let damaged = |source: StorageError| OpenError::Damaged {
            path: self.path.clone(),
            source: Box::new(source),
        };
        let read = self.begin_read().map_err(damaged)?;
        let meta = read
            .open_table(META)
            .map_err(|e| damaged(StorageError::new(e)))?;
        let head = meta
            .get("head")
            .map_err(|e| damaged(StorageError::new(e)))?;
        let head = Sequence(head.map_or(0, |head| head.value()));
        let entries = read
            .open_table(ENTRIES)
            .map_err(|e| damaged(StorageError::new(e)))?;
        let first = entries.first().map_err(|e| damaged(StorageError::new(e)))?;
        let tail = first.map_or(head.next(), |(sequence, _)| Sequence(sequence.value()));
        let mut found = Found {
            bounds: Bounds {
                log: self.log,
                tail,
                head,
            },
            entries: 0,
            bytes: 0,
            recent: Window::new(self.log, tail.previous(), config.recent_max),
            keys: Keys::new(config.keys_kept_for, config.keys_max),
            progress: Progress::new(config.nodes_max, config.applied_max, head.next()),
            remembered: Remembered::default(),
        };
        if tail == Sequence::START.next() {
            // Nothing ever left: every nonce that came with a purge is here.
            found.remembered.signatures_since = Some(UnixMillis::default());
        }
        for row in entries.iter().map_err(|e| damaged(StorageError::new(e)))? {
            let (sequence, bytes) = row.map_err(|e| damaged(StorageError::new(e)))?;
            found.take(Sequence(sequence.value()), bytes.value())?;
        }
        if found.recent.bounds().head != head {
            return Err(OpenError::Entry {
                sequence: found.recent.bounds().head.next(),
                source: "it is missing".into(),
            });
        }
        self.read_progress(&read, &mut found.progress)
            .map_err(damaged)?;
        Ok(found)
    }

    fn read_progress(
        &self,
        read: &ReadTransaction,
        progress: &mut Progress,
    ) -> Result<(), StorageError> {
        for row in read
            .open_table(NODES)
            .map_err(StorageError::new)?
            .iter()
            .map_err(StorageError::new)?
        {
            let (node, value) = row.map_err(StorageError::new)?;
            let Ok(node) = node.value().parse::<NodeName>() else {
                continue;
            };
            let (through, reported_at) = value.value();
            progress.restore(NodeProgress {
                node,
                through: Sequence(through),
                reported_at: UnixMillis(reported_at),
            });
        }
        Ok(())
    }

    /// Returns the entry at `sequence`.
    pub(super) fn entry(&self, sequence: Sequence) -> Result<Option<Arc<Entry>>, ReadError> {
        let read = self.begin_read().map_err(ReadError::Storage)?;
        let entries = read.open_table(ENTRIES).map_err(failed)?;
        let row = entries.get(sequence.0).map_err(failed)?;
        row.map(|bytes| self.parse(sequence, bytes.value()))
            .transpose()
    }

    /// Returns entries behind `after`, in order.
    pub(super) fn read_after(
        &self,
        after: Sequence,
        entries_max: usize,
    ) -> Result<Vec<Arc<Entry>>, ReadError> {
        let read = self.begin_read().map_err(ReadError::Storage)?;
        let entries = read.open_table(ENTRIES).map_err(failed)?;
        let mut found = Vec::new();
        let mut expected = after.next();
        for row in entries
            .range(after.next().0..)
            .map_err(failed)?
            .take(entries_max)
        {
            let (sequence, bytes) = row.map_err(failed)?;
            let sequence = Sequence(sequence.value());
            // Compaction may have come between the caller's look at the bounds and this one.
            if sequence != expected {
                return Err(ReadError::Behind);
            }
            expected = sequence.next();
            found.push(self.parse(sequence, bytes.value())?);
        }
        Ok(found)
    }

    /// Returns entries before `before`, newest first.
    pub(super) fn list(
        &self,
        before: Sequence,
        entries_max: usize,
        scanned_max: usize,
        is_meant: impl Fn(&Entry) -> bool,
    ) -> Result<super::Page, ReadError> {
        let read = self.begin_read().map_err(ReadError::Storage)?;
        let entries = read.open_table(ENTRIES).map_err(failed)?;
        let mut page = super::Page {
            entries: Vec::new(),
            next: None,
        };
        let rows = entries.range(..before.0).map_err(failed)?.rev();
        for (scanned, row) in rows.enumerate() {
            let (sequence, bytes) = row.map_err(failed)?;
            let sequence = Sequence(sequence.value());
            if page.entries.len() >= entries_max || scanned >= scanned_max {
                page.next = Some(sequence.next());
                return Ok(page);
            }
            let entry = self.parse(sequence, bytes.value())?;
            if is_meant(&entry) {
                page.entries.push(entry);
            }
        }
        Ok(page)
    }

    /// Returns what was kept of the reports about `sequence`.
    pub(super) fn applied(&self, sequence: Sequence) -> Result<Vec<Line>, ReadError> {
        let read = self.begin_read().map_err(ReadError::Storage)?;
        let applied = read.open_table(APPLIED).map_err(failed)?;
        let mut lines = Vec::new();
        let range = (sequence.0, "")..(sequence.next().0, "");
        for row in applied.range(range).map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            let Ok(node) = key.value().1.parse() else {
                continue;
            };
            let [at, reported_at, responses, bytes, fills] = value.value();
            let counts = Counts {
                responses,
                bytes,
                fills,
            };
            let detail = AppliedDetail {
                at: UnixMillis(at),
                reported_at: UnixMillis(reported_at),
                counts,
            };
            lines.push(Line { node, detail });
        }
        Ok(lines)
    }

    fn begin_read(&self) -> Result<ReadTransaction, StorageError> {
        self.database.begin_read().map_err(StorageError::new)
    }

    fn parse(&self, sequence: Sequence, bytes: &[u8]) -> Result<Arc<Entry>, ReadError> {
        record::read_entry(bytes, self.log, sequence)
            .map_err(|source| ReadError::Entry { sequence, source })
    }
}

impl Found {
    /// Remembers what came with a purge and could be used again when the next one was accepted.
    fn remember(&mut self, draft: &Draft) {
        let accepted_at = draft.accepted_at;
        // Purges that left took their nonces with them. Those were made before this one was accepted, by clocks that
        // may have been ahead.
        self.remembered.signatures_since.get_or_insert_with(|| {
            let skew = u64::try_from(SKEW_MAX.as_millis()).unwrap_or(u64::MAX);
            UnixMillis(accepted_at.0.saturating_add(skew))
        });
        if self.entries.is_multiple_of(FORGET_EVERY) {
            self.remembered
                .used
                .retain(|used| used.until >= accepted_at);
        }
        self.remembered.used.extend(draft.used.clone());
    }

    fn take(&mut self, sequence: Sequence, bytes: &[u8]) -> Result<(), OpenError> {
        let damaged = |source: Box<dyn std::error::Error + Send + Sync>| OpenError::Entry {
            sequence,
            source,
        };
        let draft = record::read(bytes).map_err(|e| damaged(e.into()))?;
        if let Some(key) = draft.key() {
            self.keys.expire(draft.accepted_at, self.bounds.tail);
            self.keys.remember(key, sequence, draft.accepted_at);
        }
        self.entries += 1;
        self.bytes += bytes.len() as u64;
        self.remember(&draft);
        let entry = draft.into_entry(self.bounds.log, sequence);
        self.recent
            .push(Arc::new(entry))
            .map_err(|e| damaged(e.into()))
    }
}

/// Returns format and name of the log that is in the file, if one is.
fn known_log(database: &Database) -> Result<Option<(u64, u64)>, StorageError> {
    let read = database.begin_read().map_err(StorageError::new)?;
    let meta = match read.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(StorageError::new(error)),
    };
    let number = |key| meta.get(key).map(|row| row.map(|row| row.value()));
    let format = number("format").map_err(StorageError::new)?;
    let log = number("log").map_err(StorageError::new)?;
    Ok(format.zip(log))
}

/// Begins a log in an empty file.
fn begin(database: &Database) -> Result<LogId, StorageError> {
    let log = random_log()?;
    let write = database.begin_write().map_err(StorageError::new)?;
    {
        let mut meta = write.open_table(META).map_err(StorageError::new)?;
        meta.insert("format", FORMAT).map_err(StorageError::new)?;
        meta.insert("log", log.0).map_err(StorageError::new)?;
        meta.insert("head", 0).map_err(StorageError::new)?;
        write.open_table(ENTRIES).map_err(StorageError::new)?;
        write.open_table(APPLIED).map_err(StorageError::new)?;
        write.open_table(NODES).map_err(StorageError::new)?;
    }
    write.commit().map_err(StorageError::new)?;
    Ok(log)
}

/// Notes that the file is open, or not, and returns whether it was.
fn set_open(database: &Database, is_open: bool) -> Result<bool, StorageError> {
    let write = database.begin_write().map_err(StorageError::new)?;
    let was_open = {
        let mut meta = write.open_table(META).map_err(StorageError::new)?;
        let before = meta.insert("open", u64::from(is_open));
        before
            .map_err(StorageError::new)?
            .is_some_and(|b| b.value() == 1)
    };
    write.commit().map_err(StorageError::new)?;
    Ok(was_open)
}

fn random_log() -> Result<LogId, StorageError> {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes)
        .map_err(|_| StorageError::new(io::Error::other("the system has no randomness")))?;
    Ok(LogId(u64::from_be_bytes(bytes)))
}

fn refusal(path: &Path, error: DatabaseError) -> OpenError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(path),
        DatabaseError::Storage(redb::StorageError::Io(source))
            if source.kind() != io::ErrorKind::InvalidData
                && source.kind() != io::ErrorKind::UnexpectedEof =>
        {
            OpenError::File { path, source }
        }
        other => OpenError::Damaged {
            path,
            source: Box::new(other),
        },
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty());
    std::fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> ReadError {
    ReadError::Storage(StorageError::new(error))
}

/// Entries that are read between two looks at what can no longer be used.
const FORGET_EVERY: u64 = 4096;

/// What this version writes.
const FORMAT: u64 = 1;

/// Memory for pages of the file. The feed reads the entries of late from their own window.
const CACHE_BYTES: usize = 32 * 1024 * 1024;
