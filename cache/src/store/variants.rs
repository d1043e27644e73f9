//! The responses under one key, of which `Vary` selects one.
//!
//! The store keeps a list per key and never changes one in place, because its weight is part of
//! the budget: a change builds another list.

use std::sync::Arc;

use http::HeaderMap;

use super::Change;
use crate::key::CacheKey;
use crate::stored::StoredResponse;

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
        let mut weight_bytes = weight_of_key(key).saturating_add(response.weight_bytes());
        if weight_bytes > limit_bytes {
            return None;
        }
        // RFC 9111 4.1: of several that match, the most recent is used. What no request could
        // select any more is dropped.
        let older = older
            .iter()
            .filter(|old| !response.variant.is_any() && old.variant != response.variant);
        for old in older.take(VARIANTS_MAX - 1) {
            let with_old = weight_bytes.saturating_add(old.weight_bytes());
            if with_old > limit_bytes {
                break;
            }
            weight_bytes = with_old;
            responses.push(old.clone());
        }
        Some(Self {
            responses: responses.into_boxed_slice(),
            weight_bytes,
        })
    }

    /// Returns no responses, with a weight that stands for [bodies that
    /// grow](super::Store::growing).
    pub(super) fn ballast(weight_bytes: u64) -> Self {
        Self {
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

    /// Returns the responses as `decide` leaves them, `None` if none are left, and how many it
    /// changed.
    pub(super) fn changed(
        &self,
        key: &CacheKey,
        decide: impl Fn(&StoredResponse) -> Change,
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
            sum.saturating_add(response.weight_bytes())
        });
        let after = Self {
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
    key.as_str().len() as u64 + KEY_OVERHEAD_BYTES
}
