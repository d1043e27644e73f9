//! One line of the audit.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use purge_log::{Counts, NodeName, PurgeId, PurgeRequest, Sequence, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::auth::hex;

/// One line of the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number, from 1, across all files.
    pub number: u64,
    /// The SHA-256 of the line before it, without its line feed; zeros before the first.
    pub previous: String,
    /// When.
    pub at: UnixMillis,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The API started.
    Started {
        /// Bytes that a crash had left of a line, and that were cut.
        cut_bytes: u64,
    },
    /// A purge is in the log.
    Accepted {
        /// Which.
        id: PurgeId,
        /// Who asked: the principal.
        by: String,
        /// With which key or certificate.
        key: String,
        /// From where.
        from: String,
        /// What is purged.
        #[serde(flatten)]
        request: PurgeRequest,
        /// Whether it is only counted.
        dry_run: bool,
    },
    /// A purge was found in the log without a line here: this API ended between the two, or, on a log that several
    /// write to, another one took it while this one was away.
    Recovered {
        /// Which.
        id: PurgeId,
        /// Who asked.
        by: String,
        /// When it was accepted.
        accepted_at: UnixMillis,
        /// What is purged.
        #[serde(flatten)]
        request: PurgeRequest,
        /// Whether it is only counted.
        dry_run: bool,
    },
    /// A request was not what its sender may do, or made no sense.
    Refused {
        /// Who asked, if that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// From where.
        from: String,
        /// The problem, as the API names it.
        problem: String,
        /// What it said.
        detail: String,
    },
    /// More requests were refused before it was known who asks; the first of them has a line of its own.
    Strangers {
        /// When the first of them came.
        since: UnixMillis,
        /// How many, by problem.
        problems: BTreeMap<String, u64>,
        /// From where, the first few.
        from: Vec<String>,
    },
    /// A file of this audit was removed: there were more than are kept.
    Removed {
        /// The number of its last line.
        through: u64,
    },
    /// A node applied a purge.
    Applied {
        /// Which purge.
        sequence: Sequence,
        /// Which node.
        node: NodeName,
        /// When, by the node's clock.
        applied_at: UnixMillis,
        /// What the purge meant there.
        #[serde(flatten)]
        counts: Counts,
    },
    /// So many lines are missing here: too many waited for the disk. None of them is a purge that was accepted.
    Lost {
        /// How many.
        lines: u64,
    },
}

/// What a chain ends with, and the next line goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The number of the last line.
    pub number: u64,
    /// Its SHA-256 in hexadecimal.
    pub hash: String,
}

impl Link {
    /// Returns what comes before the first line.
    pub fn start() -> Self {
        Self {
            number: 0,
            hash: "0".repeat(64),
        }
    }

    /// Returns the link behind a line.
    pub(super) fn of(number: u64, line: &[u8]) -> Self {
        Self {
            number,
            hash: hex(digest::digest(&digest::SHA256, line).as_ref()),
        }
    }

    /// Writes an event as the next line, without its line feed.
    pub(super) fn append(&mut self, at: UnixMillis, event: Event) -> Vec<u8> {
        let number = self.number + 1;
        let line = Line {
            number,
            previous: self.hash.clone(),
            at,
            event,
        };
        let bytes = serde_json::to_vec(&line).expect("a line has only string keys");
        *self = Self::of(number, &bytes);
        bytes
    }
}

/// Bytes of one line: a request as large as may be, and room for the rest.
pub const LINE_BYTES_MAX: usize = 2 * purge_log::REQUEST_BYTES_MAX + 8192;
