//! The hub: which live renditions this node follows, and what their playlists have taught it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cache::CacheKey;
use media::Kind;
use parking_lot::RwLock;
use quick_cache::sync::Cache;

use super::epochs::Epochs;
use super::gate::Gates;
use super::hints::Hints;
use super::holds::Held;
use super::patience::Patience;
use super::rendition::Rendition;
use super::reopen::Openers;
use super::runs::Runs;
use super::urgency::MediaUrgency;
use super::viewer_uris::SeenUris;
use crate::node::LiveConfig;

/// The live renditions of a node.
#[derive(Debug)]
pub struct Hub {
    renditions: RwLock<HashMap<CacheKey, Arc<Rendition>>>,
    renditions_max: usize,
    /// Kinds of child URIs, learned from playlists; bounded by count (CA-01). Asked for by every request: looking
    /// writes nothing that workers share but a place's counter of use.
    learned: Cache<CacheKey, Learned>,
    /// The requests that are held.
    pub(crate) held: Arc<Held>,
    /// What is hinted right now.
    pub(crate) hints: Hints,
    /// Where parts end that are ranges of a resource.
    pub(crate) gates: Gates,
    /// What must not be stored any more, because its stream began again.
    pub(crate) epochs: Epochs,
    /// How late a second attempt begins, and how many there may be.
    pub(crate) patience: Patience,
    /// Which multivariant playlists opened the way to which renditions.
    pub(crate) openers: Openers,
    /// Which streams began again and are shown as going on.
    pub(crate) runs: Runs,
    /// Whose the URIs of playlists are.
    pub(crate) seen_uris: SeenUris,
}

/// What a playlist has said about a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Learned {
    kind: Kind,
    /// Of what is at the live edge.
    edge: Option<AtEdge>,
}

/// What is known of media at the live edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AtEdge {
    /// How often something new comes.
    pub(super) pace: Duration,
    /// How urgent it is among the media of its presentation.
    pub(super) urgency: MediaUrgency,
}

impl Hub {
    /// Creates a hub that follows and holds as much as `live` allows.
    pub fn new(live: &LiveConfig) -> Self {
        Self {
            renditions: RwLock::new(HashMap::new()),
            renditions_max: live.renditions_max,
            learned: Cache::new(LEARNED_MAX),
            held: Held::new(live),
            hints: Hints::default(),
            gates: Gates::default(),
            epochs: Epochs::default(),
            patience: Patience::default(),
            openers: Openers::default(),
            runs: Runs::default(),
            seen_uris: SeenUris::default(),
        }
    }

    /// Returns the rendition of `key`, if it is followed.
    pub fn rendition(&self, key: &CacheKey) -> Option<Arc<Rendition>> {
        self.renditions.read().get(key).cloned()
    }

    /// Returns every rendition, in no order.
    pub fn renditions(&self) -> Vec<Arc<Rendition>> {
        self.renditions.read().values().cloned().collect()
    }

    /// Returns the rendition of `key`, made by `make` if there was none.
    ///
    /// When the hub is full, the dormant renditions leave first; if none is dormant, the new one is
    /// not kept, and `None` says so.
    pub fn rendition_or(
        &self,
        key: &CacheKey,
        make: impl FnOnce() -> Arc<Rendition>,
    ) -> Option<Arc<Rendition>> {
        let mut renditions = self.renditions.write();
        if let Some(known) = renditions.get(key) {
            return Some(Arc::clone(known));
        }
        if renditions.len() >= self.renditions_max {
            renditions.retain(|_, rendition| !rendition.is_dormant());
        }
        if renditions.len() >= self.renditions_max {
            return None;
        }
        let made = make();
        renditions.insert(key.clone(), Arc::clone(&made));
        Some(made)
    }

    /// Forgets the rendition of `key`.
    pub fn forget(&self, key: &CacheKey) {
        self.renditions.write().remove(key);
    }

    /// Returns what a playlist has said `key` is.
    pub fn kind(&self, key: &CacheKey) -> Option<Kind> {
        self.learned.get(key).map(|learned| learned.kind)
    }

    /// Returns how often something new comes, if `key` is at the edge of a live playlist.
    pub(crate) fn pace(&self, key: &CacheKey) -> Option<Duration> {
        Some(self.learned.get(key)?.edge?.pace)
    }

    /// Returns how urgent `key` is, if it is media at the edge of a live playlist.
    pub(crate) fn urgency(&self, key: &CacheKey) -> Option<MediaUrgency> {
        Some(self.learned.get(key)?.edge?.urgency)
    }

    /// Remembers what a playlist says `key` is.
    pub fn learn(&self, key: &CacheKey, kind: Kind) {
        self.remember(key, Learned { kind, edge: None });
    }

    /// Remembers what `key` is, at the edge of a live playlist.
    pub(super) fn learn_at_edge(&self, key: &CacheKey, kind: Kind, edge: AtEdge) {
        let edge = Some(edge);
        self.remember(key, Learned { kind, edge });
    }

    fn remember(&self, key: &CacheKey, learned: Learned) {
        if self.learned.get(key) != Some(learned) {
            self.learned.insert(key.clone(), learned);
        }
    }
}

/// Child URIs remembered; a live rendition with 500 ms parts needs some 40.
const LEARNED_MAX: usize = 200_000;
