//! The files of an audit: the present one, and those that were set aside when they were full.
//!
//! Who calls it: opening, to go on where the last file ended; the writer, to set one aside; the command line, to
//! check all of them. Deliberately not here: what is in a file.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use super::line::{Line, Link};
use super::verify::{Verified, VerifyError, verify};

/// A file that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aside {
    /// The number of its last line.
    pub(super) number: u64,
    pub(super) path: PathBuf,
}

impl Aside {
    /// Returns where the audit at `path` is set aside when its last line has this number.
    pub(super) fn of(path: &Path, number: u64) -> Self {
        let mut aside = path.to_owned().into_os_string();
        aside.push(format!(".{number}"));
        Self {
            number,
            path: aside.into(),
        }
    }

    /// Returns what was set aside of the audit at `path`, oldest first.
    pub(super) fn all(path: &Path) -> io::Result<Vec<Self>> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory(path))? {
            let entry = entry?;
            let other = entry.file_name();
            let other = other.to_string_lossy();
            let number = other
                .strip_prefix(&*name)
                .and_then(|rest| rest.strip_prefix('.'))
                .and_then(|number| number.parse().ok());
            found.extend(number.map(|number| Self {
                number,
                path: entry.path(),
            }));
        }
        found.sort_by_key(|aside| aside.number);
        Ok(found)
    }
}

/// Returns the directory that `path` is in.
pub(super) fn directory(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Why the files of an audit are not what was written.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file or the directory cannot be read.
    #[error("`{}` cannot be read ({})", path.display(), source.kind())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what was written.
    #[error("`{}` is not as it was written", path.display())]
    Broken {
        /// Which.
        path: PathBuf,
        /// Where.
        source: VerifyError,
    },
    /// A file does not go on where the one before it ends.
    #[error(
        "`{}` begins with line {found}, and the file before it ends with line {ends}: one is missing, or was changed",
        path.display()
    )]
    Apart {
        /// Which.
        path: PathBuf,
        /// The number of its first line.
        found: u64,
        /// The number of the last line before it.
        ends: u64,
    },
}

/// Checks every file of the audit at `path`, those that were set aside first, and shows each line to `see`.
///
/// Lines are read one by one: memory does not grow with the files. Returns how many files there are, and what
/// they are together.
///
/// # Errors
///
/// See [`FilesError`].
pub fn verify_files(
    path: &Path,
    mut see: impl FnMut(&Line),
) -> Result<(usize, Verified), FilesError> {
    let unreadable = |path: &Path, source| FilesError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let asides = Aside::all(path).map_err(|source| unreadable(path, source))?;
    let mut paths: Vec<_> = asides.into_iter().map(|aside| aside.path).collect();
    paths.push(path.to_owned());
    let mut all: Option<Verified> = None;
    for path in &paths {
        let file = File::open(path).map_err(|source| unreadable(path, source))?;
        let one = verify(BufReader::new(file), &mut see);
        let one = one.map_err(|source| FilesError::Broken {
            path: path.clone(),
            source,
        })?;
        all = Some(match all {
            None => one,
            // Set aside, and ended before its successor had a line.
            Some(all) if one.lines == 0 => Verified {
                cut_bytes: one.cut_bytes,
                ..all
            },
            Some(all) if all.ends == one.begins && all.cut_bytes == 0 => Verified {
                begins: all.begins,
                ends: one.ends,
                lines: all.lines + one.lines,
                bytes: all.bytes + one.bytes,
                cut_bytes: one.cut_bytes,
            },
            Some(all) => {
                return Err(FilesError::Apart {
                    path: path.clone(),
                    found: one.begins.number + 1,
                    ends: all.ends.number,
                });
            }
        });
    }
    Ok((paths.len(), all.unwrap_or_else(Verified::nothing)))
}

/// Returns what the last file that was set aside ends with: where an empty present file goes on.
pub(super) fn last_link(path: &Path) -> Result<Link, FilesError> {
    let unreadable = |path: &Path, source| FilesError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let asides = Aside::all(path).map_err(|source| unreadable(path, source))?;
    let Some(Aside { path, .. }) = asides.last() else {
        return Ok(Link::start());
    };
    let file = File::open(path).map_err(|source| unreadable(path, source))?;
    let verified = verify(BufReader::new(file), |_| {});
    match verified {
        Ok(verified) => Ok(verified.ends),
        Err(source) => Err(FilesError::Broken {
            path: path.clone(),
            source,
        }),
    }
}
