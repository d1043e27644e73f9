//! Patches of live MPDs: which MPD each is of, and which one viewers were shown last (LD-14).
//!
//! A patch stands at a URL that names the version it is for, and always leads to the newest one: it changes as
//! often as the MPD does, and like it never to an older version. Who calls it: fills of MPDs and patches, and `purge`.
//! Deliberately not here: applying patches. What a node knows of an MPD it knows from whole ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cache::{CacheKey, StoredResponse};
use media::Kind;
use media::dash::{Patch, PatchLocation};
use moka::sync::Cache;

use crate::fill::Begun;
use crate::live::{self, Address};
use crate::node::Node;
use crate::request;

/// The patches that a node knows of.
#[derive(Debug)]
pub(crate) struct Patches {
    /// Whether any has ever been known: what is not media has to be looked for here, and most nodes never know one.
    are_any_known: AtomicBool,
    known: Cache<CacheKey, Arc<Patched>>,
    shown: Cache<CacheKey, Arc<Shown>>,
}

/// Which MPD a patch is of.
#[derive(Clone, Debug)]
pub(crate) struct Patched {
    /// The MPD's key.
    pub(crate) mpd: CacheKey,
    /// Where it is: URIs in the patch are relative to it.
    pub(crate) address: Address,
    /// How long the patch is there after the version was published that it is for.
    pub(crate) ttl: Option<Duration>,
}

/// A patch as it was last shown.
#[derive(Debug)]
pub(crate) struct Shown {
    /// What it says.
    pub(crate) patch: Patch,
    /// The response it came in.
    pub(crate) response: Arc<StoredResponse>,
    /// When the fill began that brought it.
    pub(crate) begun: Begun,
}

impl Default for Patches {
    fn default() -> Self {
        Self {
            are_any_known: AtomicBool::new(false),
            known: Cache::builder()
                .max_capacity(KNOWN_MAX)
                .time_to_idle(KNOWN_FOR)
                .build(),
            shown: Cache::builder()
                .max_capacity(SHOWN_BYTES_MAX)
                .weigher(|_, shown: &Arc<Shown>| {
                    let bytes = shown.response.body.len_if_known().unwrap_or(0);
                    u32::try_from(bytes.saturating_add(SHOWN_BYTES)).unwrap_or(u32::MAX)
                })
                .time_to_live(SHOWN_FOR)
                .build(),
        }
    }
}

impl Patches {
    /// Returns which MPD the response of `key` is a patch of, as far as one has said so.
    ///
    /// Versions that this node has not seen have their patches beside those it has, under another query.
    pub(crate) fn of(&self, key: &CacheKey) -> Option<Arc<Patched>> {
        // Relaxed: a request that came with the first MPD may as well have come before it.
        if !self.are_any_known.load(Ordering::Relaxed) {
            return None;
        }
        let known = self.known.get(key);
        known.or_else(|| self.known.get(&without_query(key)?))
    }

    /// Remembers where an MPD, or a patch of it, says that patches are.
    pub(crate) fn learn(
        &self,
        node: &Node,
        (mpd, address): (&CacheKey, &Address),
        locations: &[PatchLocation],
    ) {
        for location in locations.iter().take(LOCATIONS_MAX) {
            let Some((host, target)) = live::locate_child(node, address, &location.uri) else {
                continue;
            };
            let key = request::key_of_target(&host, &target);
            node.hub.learn(&key, Kind::Mpd);
            let patched = Patched {
                mpd: mpd.clone(),
                address: address.clone(),
                ttl: location.ttl,
            };
            let patched = Arc::new(patched);
            if let Some(beside) = without_query(&key) {
                self.known.insert(beside, Arc::clone(&patched));
            }
            self.known.insert(key, patched);
            self.are_any_known.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the patch shown under `key`, if `patch` leads to an older version than that.
    pub(crate) fn newer_one_shown(&self, key: &CacheKey, patch: &Patch) -> Option<Arc<Shown>> {
        let shown = self.shown.get(key)?;
        (patch.publish_time < shown.patch.publish_time).then_some(shown)
    }

    /// Returns the patch last shown under `key`.
    pub(crate) fn shown(&self, key: &CacheKey) -> Option<Arc<Shown>> {
        self.shown.get(key)
    }

    /// Remembers what is shown from now on under `key`.
    pub(crate) fn show(&self, key: &CacheKey, shown: Shown) {
        self.shown.insert(key.clone(), Arc::new(shown));
    }
}

/// Returns the key of the same path without a query; `None` if it has none.
fn without_query(key: &CacheKey) -> Option<CacheKey> {
    let (path, _) = key.as_str().split_once('?')?;
    Some(CacheKey::new(path.to_owned()))
}

/// Places of patches that are remembered: one per version, for as long as players may be that far behind.
const KNOWN_MAX: u64 = 50_000;
const KNOWN_FOR: Duration = Duration::from_secs(300);

/// Patches that were shown, in bytes, and what each takes beside its text.
const SHOWN_BYTES_MAX: u64 = 16 * 1024 * 1024;
const SHOWN_BYTES: u64 = 1024;

/// An origin that lags for longer is believed.
const SHOWN_FOR: Duration = Duration::from_secs(30);

/// Places that one MPD names.
const LOCATIONS_MAX: usize = 8;
