//! Opens the present file of the audit: verified, locked, and cut behind its last whole line.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::files::{FilesError, directory, last_link};
use super::line::Event;
use super::verify::{VerifyError, verify};
use super::{AuditReport, PURGES_MAX};

/// Why an audit cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file or its directory.
    #[error("the audit `{}` cannot be opened ({}): its directory must exist and be writable", path.display(), source.kind())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process writes to it.
    #[error("the audit `{}` is open in another process", .0.display())]
    InUse(PathBuf),
    /// Its chain is broken.
    #[error("the audit `{}` is not as it was written: keep it as evidence, move it away, and start anew", path.display())]
    Broken {
        /// Which.
        path: PathBuf,
        /// Where.
        source: VerifyError,
    },
    /// The file before it, which it goes on from.
    #[error("the audit `{}` has no line, and cannot go on from those set aside: keep them as evidence and start anew", path.display())]
    Before {
        /// Which.
        path: PathBuf,
        /// What is wrong with the one before.
        source: FilesError,
    },
    /// The system cannot start a thread.
    #[error("the thread of the audit cannot be started")]
    Thread(#[source] io::Error),
}

/// An open file of the audit.
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) bytes: u64,
    pub(super) report: AuditReport,
}

/// Opens or creates the file at `path`.
pub(super) fn open(path: &Path) -> Result<Opened, AuditError> {
    let unusable = |source| AuditError::File {
        path: path.to_owned(),
        source,
    };
    let mut file = create(path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(AuditError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => return Err(unusable(source)),
    }
    let mut purges = VecDeque::new();
    let verified = verify(BufReader::new(&file), |line| {
        if let Event::Accepted { id, .. } | Event::Recovered { id, .. } = &line.event {
            purges.push_back(*id);
            if purges.len() > PURGES_MAX {
                purges.pop_front();
            }
        }
    });
    let verified = verified.map_err(|source| AuditError::Broken {
        path: path.to_owned(),
        source,
    })?;
    if verified.cut_bytes > 0 {
        file.set_len(verified.bytes).map_err(unusable)?;
    }
    file.seek(SeekFrom::Start(verified.bytes))
        .map_err(unusable)?;
    let link = match verified.lines {
        // Ended between setting a file aside and the first line of the next.
        0 => last_link(path).map_err(|source| AuditError::Before {
            path: path.to_owned(),
            source,
        })?,
        _ => verified.ends,
    };
    let report = AuditReport {
        link,
        lines: verified.lines,
        cut_bytes: verified.cut_bytes,
        purges: purges.into_iter().collect(),
    };
    Ok(Opened {
        file,
        bytes: verified.bytes,
        report,
    })
}

/// Opens a file that only its owner reads, and makes sure that its name survives a crash.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    File::open(directory(path))?.sync_all()?;
    Ok(file)
}
