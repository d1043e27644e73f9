//! When a fill began, and whether what it brings may still be kept: the two fences that it passes.
//!
//! Who calls it: orders take the marks before anything is asked; the pump and `slices` store through [`keep`].

use std::sync::Arc;

use cache::{CacheKey, Inserted, Mark, Refusal, StoredResponse};
use http::HeaderMap;

use crate::node::Node;
use crate::telemetry::FillEnding;

/// Stores a response, unless its stream has begun again since the fill began (FM-14), or it was purged.
///
/// Returns how the fill ends by that.
pub(crate) fn keep(
    node: &Node,
    key: &CacheKey,
    response: Arc<StoredResponse>,
    begun: Begun,
) -> FillEnding {
    let kept = Arc::clone(&response);
    let may_store = || begun.lets_pass(node, key, &kept.headers);
    match node.store.insert_if(key.clone(), response, may_store) {
        Inserted::Refused(Refusal::Fenced) => FillEnding::Purged,
        Inserted::Refused(Refusal::TooLarge | Refusal::Incomplete) => FillEnding::NotStored,
        Inserted::Stored => FillEnding::Stored,
    }
}

/// When a fill began, as the fences see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    epoch: Mark,
    purge: Mark,
}

impl Begun {
    /// Returns the marks of a fill that begins now, before its request is sent.
    pub(crate) fn now(node: &Node) -> Self {
        Self {
            epoch: node.hub.epochs.mark(),
            purge: node.purges.mark(),
        }
    }

    /// Returns whether what the fill brings may be kept now.
    pub(crate) fn lets_pass(self, node: &Node, key: &CacheKey, fields: &HeaderMap) -> bool {
        node.hub.epochs.lets_pass(self.epoch, key) && node.purges.lets_pass(self.purge, key, fields)
    }
}
