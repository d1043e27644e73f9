//! Reads a file of the audit and checks its chain.

use std::io::{self, BufRead};

use super::line::{LINE_BYTES_MAX, Line, Link};

/// What was found in a file whose chain holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What the file goes on from: the end of the file before it.
    pub begins: Link,
    /// What it ends with.
    pub ends: Link,
    /// Its whole lines.
    pub lines: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes behind the last whole line: what a crash leaves.
    pub cut_bytes: u64,
}

/// Why a file is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be read.
    #[error("the audit cannot be read")]
    Read(#[from] io::Error),
    /// A line cannot be read.
    #[error("line {line} cannot be read: {reason}")]
    Malformed {
        /// Which line of the file, from 1.
        line: u64,
        /// Why not.
        reason: String,
    },
    /// A line is not the one that was written behind the one before it.
    #[error(
        "the chain breaks at line {line}: it, or the line before it, was changed, removed or added"
    )]
    Broken {
        /// Which line of the file, from 1.
        line: u64,
    },
}

/// Checks a file of the audit, and shows each line to `see`.
///
/// A chain shows what was changed between its ends. That the end itself was not cut off is shown by a copy of
/// [`Verified::ends`] kept elsewhere.
///
/// # Errors
///
/// See [`VerifyError`].
pub fn verify(mut text: impl BufRead, mut see: impl FnMut(&Line)) -> Result<Verified, VerifyError> {
    let mut found: Option<Verified> = None;
    let mut buffer = Vec::new();
    let mut cut_bytes = 0;
    for number in 1.. {
        buffer.clear();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let read = io::Read::take(&mut text, limit + 1).read_until(b'\n', &mut buffer)?;
        if read == 0 {
            break;
        }
        let Some(line) = buffer.strip_suffix(b"\n") else {
            if read > LINE_BYTES_MAX {
                let reason = format!("it has more than {LINE_BYTES_MAX} bytes");
                return Err(VerifyError::Malformed {
                    line: number,
                    reason,
                });
            }
            cut_bytes = u64::try_from(read).unwrap_or(u64::MAX);
            break;
        };
        let parsed: Line =
            serde_json::from_slice(line).map_err(|error| VerifyError::Malformed {
                line: number,
                reason: error.to_string(),
            })?;
        let so_far = found.get_or_insert_with(|| Verified::before(&parsed));
        let follows =
            parsed.number == so_far.ends.number + 1 && parsed.previous == so_far.ends.hash;
        if !follows || (parsed.number == 1 && so_far.ends != Link::start()) {
            return Err(VerifyError::Broken { line: number });
        }
        so_far.ends = Link::of(parsed.number, line);
        so_far.lines += 1;
        so_far.bytes += u64::try_from(read).unwrap_or(u64::MAX);
        see(&parsed);
    }
    let mut found = found.unwrap_or_else(Verified::nothing);
    found.cut_bytes = cut_bytes;
    Ok(found)
}

impl Verified {
    pub(super) fn nothing() -> Self {
        Self {
            begins: Link::start(),
            ends: Link::start(),
            lines: 0,
            bytes: 0,
            cut_bytes: 0,
        }
    }

    /// Returns what a file that begins with `line` goes on from.
    fn before(line: &Line) -> Self {
        let begins = Link {
            number: line.number.saturating_sub(1),
            hash: line.previous.clone(),
        };
        Self {
            ends: begins.clone(),
            begins,
            ..Self::nothing()
        }
    }
}
