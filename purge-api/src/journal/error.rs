//! Why the journal refuses, one enum per operation.

use std::io;
use std::path::PathBuf;

use purge_log::{RequestError, Sequence};

use super::record::{ENTRY_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX};

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the journal `{}` is open in another process: only one purge API may write to it", .0.display())]
    InUse(PathBuf),
    /// The file or its directory.
    #[error("the journal `{}` cannot be opened ({}): its directory must exist and be writable", path.display(), source.kind())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not as it was written.
    #[error("the journal `{}` is damaged: {ADVICE}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What was found.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An entry cannot be read, or one is missing.
    #[error("the journal is damaged at entry {sequence}: {ADVICE}")]
    Entry {
        /// Where.
        sequence: Sequence,
        /// What was found.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It was written by a newer version.
    #[error(
        "the journal has format {found}, this version reads {known}: start the version that wrote it"
    )]
    Format {
        /// What was found.
        found: u64,
        /// What is read.
        known: u64,
    },
    /// The NATS servers.
    #[error("the stream `{stream}` cannot be used as the journal: {reason}")]
    Nats {
        /// Which stream.
        stream: String,
        /// What stands in the way.
        reason: &'static str,
        /// What the server or the client said.
        source: Option<StorageError>,
    },
    /// The system cannot start a thread.
    #[error("the journal's thread cannot be started")]
    Thread(#[source] io::Error),
}

/// What an operator can do about a damaged journal.
const ADVICE: &str = "restore it from a copy, or move it away to begin a new log (every node that follows then makes all it has stale, once)";

/// Why a purge is not in the log.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The request means nothing.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It is too large to be kept.
    #[error("the purge has {0} bytes as it is kept, at most {ENTRY_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// The idempotency key is none.
    #[error("an idempotency key is visible ASCII, at most {IDEMPOTENCY_KEY_BYTES_MAX} bytes")]
    Key,
    /// The same key was used for something else.
    #[error("the idempotency key was used for another purge, {0}")]
    KeyReused(Sequence),
    /// Too many purges wait for the disk.
    #[error("too many purges wait to be written")]
    Busy,
    /// The journal is closed.
    #[error("the journal is closed")]
    Closed,
    /// The disk refused. Whether the purge is in the log is known when the journal is opened again.
    #[error("the journal cannot be written")]
    Storage(#[source] StorageError),
    /// Nobody can say: the journal ended before it answered.
    #[error("the journal ended before it answered: the purge may be in the log")]
    Unknown,
}

/// Why something that may be used once is not the caller's.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Somebody used it before.
    #[error("it was used before")]
    Used,
    /// Whether it was used cannot be asked.
    #[error("whether the credentials were used before cannot be asked")]
    Storage(#[source] StorageError),
}

/// Why the journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Entries that were asked for are no longer there, or never were.
    #[error("the entries are no longer in the log")]
    Behind,
    /// The disk refused.
    #[error("the journal cannot be read")]
    Storage(#[source] StorageError),
    /// An entry is not as it was written.
    #[error("entry {sequence} of the journal cannot be read")]
    Entry {
        /// Where.
        sequence: Sequence,
        /// What was found.
        source: serde_json::Error,
    },
    /// The process ends.
    #[error("the journal ended before it answered")]
    Ended,
}

/// What the store said. Cheap to clone, because one failed fsync is the answer to all who waited for it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct StorageError(std::sync::Arc<dyn std::error::Error + Send + Sync>);

impl StorageError {
    /// Keeps what the store said.
    pub(super) fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(std::sync::Arc::new(error))
    }
}
