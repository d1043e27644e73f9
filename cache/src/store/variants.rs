//! The responses under one key, of which `Vary` selects one.
//!
//! The store keeps a list per key and never changes one in place, because its weight is part of
//! the budget: a change builds another list.

use std::sync::Arc;

use http::HeaderMap;

use super::Change;
use super::index::{EntryId, INDEX_KEY_BYTES, INDEX_TAG_BYTES};
use crate::key::CacheKey;
use crate::stored::StoredResponse;
use crate::surrogate::for_each_surrogate_key;

/// The most variants under one key; the oldest makes room. A `Vary` on a field that viewers choose
/// freely must not fill the store with copies of one playlist.
pub(super) const VARIANTS_MAX: usize = 8;

/// What a key costs beside its text and responses: map entry, list links, this list.
const KEY_OVERHEAD_BYTES: u64 = 192;

/// The responses under one key.
///
/// Invariant: newest first, empty only in a ballast, at most [`VARIANTS_MAX`], no two of the same variant,
/// nothing behind one that answers every request; `weight_bytes` is the sum of all.
#[derive(Debug)]
pub(super) struct Variants {
    /// What the index knows this list by.
    pub(super) id: EntryId,
    responses: Box<[Arc<StoredResponse>]>,
    weight_bytes: u64,
}

impl Variants {
    /// Returns the responses with one more, or `None` if it alone is heavier than `limit_bytes`.
    ///
    /// The oldest are left out until the rest fits.
    pub(super) fn with(
        before: Option<&Self>,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        limit_bytes: u64,
    ) -> Option<Self> {
        let older = before.map_or(&[][..], |before| &before.responses[..]);
        let mut responses = vec![response.clone()];
        let mut weight_bytes = weight_of_key(key).saturating_add(weight_of(&response));
        if weight_bytes > limit_bytes {
            return None;
        }
        // RFC 9111 4.1: of several that match, the most recent is used. What no request could
        // select any more is dropped.
        let older = older
            .iter()
            .filter(|old| !response.variant.is_any() && old.variant != response.variant);
        for old in older.take(VARIANTS_MAX - 1) {
            let with_old = weight_bytes.saturating_add(weight_of(old));
            if with_old > limit_bytes {
                break;
            }
            weight_bytes = with_old;
            responses.push(old.clone());
        }
        Some(Self {
            id: EntryId::default(),
            responses: responses.into_boxed_slice(),
            weight_bytes,
        })
    }

    /// Returns no responses, with a weight that stands for [bodies that
    /// grow](super::Store::growing).
    pub(super) fn ballast(weight_bytes: u64) -> Self {
        Self {
            id: EntryId::default(),
            responses: Box::default(),
            weight_bytes,
        }
    }

    pub(super) const fn is_ballast(&self) -> bool {
        self.responses.is_empty()
    }

    pub(super) fn select(&self, request_fields: &HeaderMap) -> Option<&Arc<StoredResponse>> {
        self.responses
            .iter()
            .find(|response| response.variant.matches(request_fields))
    }

    /// Returns the heads, for the index.
    pub(super) fn heads(&self) -> impl Iterator<Item = &HeaderMap> {
        self.iter().map(|response| &response.headers)
    }

    /// Returns the responses as `decide` leaves them, `None` if none are left, and how many it
    /// changed.
    pub(super) fn changed(
        &self,
        key: &CacheKey,
        mut decide: impl FnMut(&StoredResponse) -> Change,
    ) -> (Option<Self>, usize) {
        let mut changed = 0;
        let mut responses = Vec::with_capacity(self.responses.len());
        for response in &self.responses {
            match decide(response) {
                Change::Keep => responses.push(response.clone()),
                Change::Remove => changed += 1,
                Change::Replace(other) => {
                    debug_assert_eq!(other.variant, response.variant);
                    changed += 1;
                    responses.push(other);
                }
            }
        }
        if responses.is_empty() {
            return (None, changed);
        }
        let weight_bytes = responses.iter().fold(weight_of_key(key), |sum, response| {
            sum.saturating_add(weight_of(response))
        });
        let after = Self {
            id: self.id,
            responses: responses.into_boxed_slice(),
            weight_bytes,
        };
        (Some(after), changed)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &StoredResponse> {
        self.responses.iter().map(AsRef::as_ref)
    }

    pub(super) fn len(&self) -> usize {
        self.responses.len()
    }

    pub(super) const fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }
}

fn weight_of_key(key: &CacheKey) -> u64 {
    key.as_str().len() as u64 + KEY_OVERHEAD_BYTES + INDEX_KEY_BYTES
}

/// Returns what a response weighs with its part of the index.
fn weight_of(response: &StoredResponse) -> u64 {
    let mut tags_bytes = 0;
    for_each_surrogate_key(&response.headers, |_| tags_bytes += INDEX_TAG_BYTES);
    response.weight_bytes().saturating_add(tags_bytes)
}
