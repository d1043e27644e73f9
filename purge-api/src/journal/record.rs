//! A purge on its way into the log, and as it is kept.

use std::sync::Arc;

use purge_log::{Entry, LogId, PurgeId, PurgeRequest, RequestError, Sequence, UnixMillis};
use serde::{Deserialize, Serialize};

use super::error::AppendError;
use crate::auth::Used;

/// A purge that is to be appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// When it was accepted.
    pub accepted_at: UnixMillis,
    /// What is purged.
    pub request: PurgeRequest,
    /// Whether nodes only count what the purge would mean.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks: the name of a key, never the key.
    pub by: String,
    /// What makes a repetition of the request harmless, together with `by`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// What came with the request and may not be used again: in one entry with the purge, neither is lost without the
    /// other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
}

impl Draft {
    /// Returns the entry that this draft is at `sequence` of `log`.
    pub(crate) fn into_entry(self, log: LogId, sequence: Sequence) -> Entry {
        Entry {
            sequence,
            id: PurgeId { log, sequence },
            accepted_at: self.accepted_at,
            request: self.request,
            dry_run: self.dry_run,
            by: self.by,
        }
    }

    /// Returns what a repetition is recognized by.
    pub(crate) fn key(&self) -> Option<Key> {
        let key = self.idempotency_key.as_ref()?;
        Some(Key {
            by: self.by.clone(),
            key: key.clone(),
        })
    }

    /// Returns whether both ask for the same.
    pub(crate) fn asks_for(&self, other: &Self) -> bool {
        self.request == other.request && self.dry_run == other.dry_run
    }
}

/// An idempotency key and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    by: String,
    key: String,
}

/// A draft that was checked, and its bytes in the log.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) draft: Draft,
    pub(crate) bytes: Vec<u8>,
}

impl Record {
    /// Checks `draft` and writes it down.
    ///
    /// # Errors
    ///
    /// The request means nothing, the key is none, or there is too much of it.
    pub(crate) fn new(draft: Draft) -> Result<Self, AppendError> {
        draft
            .request
            .target
            .check()
            .map_err(RequestError::Target)
            .map_err(AppendError::Request)?;
        if let Some(key) = &draft.idempotency_key {
            let is_plain = key.bytes().all(|b| b.is_ascii_graphic());
            if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX || !is_plain {
                return Err(AppendError::Key);
            }
        }
        let bytes = serde_json::to_vec(&draft).expect("a draft has only string keys");
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(AppendError::TooLarge(bytes.len()));
        }
        Ok(Self { draft, bytes })
    }
}

/// Reads what [`Record::new`] wrote.
pub(crate) fn read(bytes: &[u8]) -> Result<Draft, serde_json::Error> {
    serde_json::from_slice(bytes)
}

/// Reads an entry.
pub(crate) fn read_entry(
    bytes: &[u8],
    log: LogId,
    sequence: Sequence,
) -> Result<Arc<Entry>, serde_json::Error> {
    Ok(Arc::new(read(bytes)?.into_entry(log, sequence)))
}

/// Bytes of one purge as it is kept.
pub const ENTRY_BYTES_MAX: usize = 2 * purge_log::REQUEST_BYTES_MAX;

/// Bytes of an idempotency key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
