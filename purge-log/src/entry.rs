//! An entry of the purge log, and what nodes say about it.
//!
//! Who calls it: the journal makes entries, the feed carries them, nodes apply and report them.
//! Deliberately not here: how an entry is kept.

use serde::{Deserialize, Serialize};

use crate::{LogId, NodeName, PurgeId, PurgeRequest, Sequence, UnixMillis};

/// An accepted purge at its place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place.
    pub sequence: Sequence,
    /// What it is called from outside.
    pub id: PurgeId,
    /// When it was accepted, by the clock of the purge API.
    pub accepted_at: UnixMillis,
    /// What is purged.
    pub request: PurgeRequest,
    /// Whether nodes only count what the purge would mean.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
    /// Who asked: the name of a key, never the key.
    pub by: String,
}

/// What a purge meant to one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Stored responses and followed playlists that were purged, or would be.
    pub responses: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Running fills that nobody may join any more and that will not be stored.
    #[serde(default)]
    pub fills: u64,
}

/// One purge as one node applied it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Which purge.
    pub sequence: Sequence,
    /// When, by the node's clock.
    pub at: UnixMillis,
    /// What it meant there.
    #[serde(flatten)]
    pub counts: Counts,
}

/// What one node tells the log, through its parents if it follows one.
///
/// Saying it twice is harmless, and what was lost is said again: `through` counts for every purge up to
/// it, with or without a line of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who.
    pub node: NodeName,
    /// Which log its sequences are of.
    pub log: LogId,
    /// Everything up to here is applied.
    pub through: Sequence,
    /// How old the report is by now: relays add the time they kept it.
    #[serde(default)]
    pub age_ms: u64,
    /// The purges it applied since its last report, as far as they are still known.
    #[serde(default)]
    pub applied: Vec<Applied>,
}

/// Which part of the log can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Which log.
    pub log: LogId,
    /// The first entry that can still be read, or would be the first if there is none.
    pub tail: Sequence,
    /// The last entry, or what was the last if there is none.
    pub head: Sequence,
}

impl Bounds {
    /// Returns whether somebody who applied everything up to `after` can go on from there.
    pub fn can_follow(&self, after: Sequence) -> bool {
        self.tail <= after.next() && after <= self.head
    }
}

fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_missed_entries_or_was_ahead_cannot_follow() {
        let bounds = Bounds {
            log: LogId(1),
            tail: Sequence(5),
            head: Sequence(9),
        };
        let can = |after| bounds.can_follow(Sequence(after));
        assert!(!can(3), "entry 4 is gone");
        assert!(can(4));
        assert!(can(9));
        assert!(!can(10), "the log is younger than the follower");
    }

    #[test]
    fn an_empty_log_is_followed_from_its_start() {
        let bounds = Bounds {
            log: LogId(1),
            tail: Sequence(1),
            head: Sequence::START,
        };
        assert!(bounds.can_follow(Sequence::START));
        assert!(!bounds.can_follow(Sequence(1)));
    }
}
