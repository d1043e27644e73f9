//! One line of the feed.

use serde::{Deserialize, Serialize};

use crate::{Entry, LogId, Sequence};

/// One line of the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// The first line: what comes is the entry behind `after`, and so on.
    Begin {
        /// Which log is followed.
        log: LogId,
        /// Where it goes on.
        after: Sequence,
    },
    /// What the follower missed cannot be told: everything made up to here counts as purged.
    Reset {
        /// Which log is followed from now on.
        log: LogId,
        /// Where it goes on.
        through: Sequence,
    },
    /// The next entry.
    Entry(Entry),
    /// All is quiet: every purge that was accepted until `age_ms` ago is at or before `head`.
    ///
    /// A parent that is itself cut off says a growing age, so that nobody below takes its silence for peace.
    Heartbeat {
        /// The last entry.
        head: Sequence,
        /// How long ago that was certain, in milliseconds.
        #[serde(default)]
        age_ms: u64,
    },
}

impl Message {
    /// Writes the message as a line.
    pub fn write_to(&self, line: &mut Vec<u8>) {
        serde_json::to_writer(&mut *line, self).expect("a message has only string keys");
        line.push(b'\n');
    }
}
