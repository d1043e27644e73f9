//! The live MPDs that fills have read: what viewers were shown, and which segments they name.
//!
//! Called by fills and by `early`. Bounded by the bytes of the texts; an MPD that leaves is only read anew
//! when a fill next brings it. Deliberately not here: answering with an MPD; that is the store's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache::{CacheKey, StoredResponse};
use media::dash::{Addressed, Continuation, Mpd, Representation};
use moka::sync::Cache;

use super::patches::Patches;
use super::runs::Runs;
use crate::fill::Begun;
use crate::live::{self, Address};
use crate::node::Node;
use crate::request;

/// The live MPDs that a node knows.
#[derive(Debug)]
pub(crate) struct Mpds {
    known: Cache<CacheKey, Arc<Known>>,
    /// By directory, the MPDs that name segments in it.
    directories: Cache<CacheKey, Arc<Vec<CacheKey>>>,
    /// Their patches.
    pub(crate) patches: Patches,
    /// What began again of them.
    pub(crate) runs: Runs,
    /// What tells the time of origins to players.
    clocks: Cache<CacheKey, ()>,
}

/// An MPD as it was last shown.
#[derive(Debug)]
pub(crate) struct Known {
    /// What it says as it is shown.
    pub(crate) mpd: Mpd,
    /// When its origin says that it was published.
    pub(crate) published: Published,
    /// The response it came in.
    pub(crate) response: Arc<StoredResponse>,
    /// When the fill began that brought it: a purge since then means that it is not shown again.
    pub(crate) begun: Begun,
    /// When a parent last answered with it, by the node's uptime in milliseconds.
    confirmed: AtomicU64,
    /// When it was last doubted, by the node's uptime in milliseconds; zero if it never was.
    doubted: AtomicU64,
    named: Vec<Named>,
}

/// When an origin says that a version was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    /// The availability start of its run.
    pub(crate) start: Option<Duration>,
    /// When the version was published.
    pub(crate) at: Option<Duration>,
}

/// Where the segments of a representation are.
#[derive(Debug)]
struct Named {
    representation: usize,
    /// Path and query of a segment begin with this; the template makes the rest.
    base: String,
    /// Where the segment lies, which is below `base` if the template names directories.
    directory: String,
    /// How its timeline goes on, if its segments are listed.
    continuation: Option<Continuation>,
}

impl Default for Mpds {
    fn default() -> Self {
        let weigh = |_: &CacheKey, known: &Arc<Known>| {
            let named = known.named.len() * NAMED_BYTES;
            u32::try_from(known.mpd.text.len() + named + KNOWN_BYTES).unwrap_or(u32::MAX)
        };
        Self {
            known: Cache::builder()
                .max_capacity(TEXT_BYTES_MAX)
                .weigher(weigh)
                .time_to_idle(IDLE_AFTER)
                .build(),
            directories: Cache::builder()
                .max_capacity(DIRECTORIES_MAX)
                .time_to_idle(IDLE_AFTER)
                .build(),
            patches: Patches::default(),
            runs: Runs::default(),
            clocks: Cache::builder()
                .max_capacity(CLOCKS_MAX)
                .time_to_live(CLOCKS_FOR)
                .build(),
        }
    }
}

impl Mpds {
    /// Returns the MPD last shown under `key`.
    pub(crate) fn known(&self, key: &CacheKey) -> Option<Arc<Known>> {
        self.known.get(key)
    }

    /// Returns the MPDs that are known, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (CacheKey, Arc<Known>)> {
        self.known
            .iter()
            .map(|(key, known)| ((*key).clone(), known))
    }

    /// Remembers that the response of `key` is the time, which nobody may keep (LD-13).
    pub(super) fn learn_clock(&self, key: CacheKey) {
        self.clocks.insert(key, ());
    }

    /// Returns whether the response of `key` is the time.
    pub(crate) fn is_clock(&self, key: &CacheKey) -> bool {
        self.clocks.contains_key(key)
    }

    /// Remembers what is shown from now on under `key`, and where its segments are.
    pub(crate) fn show(
        &self,
        node: &Node,
        (key, address): (&CacheKey, &Address),
        (mpd, published): (Mpd, Published),
        response: Arc<StoredResponse>,
        begun: Begun,
    ) {
        let named = named(node, address, &mpd);
        let mut directories: Vec<_> = named.iter().map(|named| named.directory.as_str()).collect();
        directories.sort_unstable();
        directories.dedup();
        for directory in directories {
            self.enlist(&request::key_of(&address.host, directory, ""), key);
        }
        self.patches
            .learn(node, (key, address), &mpd.patch_locations);
        let known = Known {
            mpd,
            published,
            response,
            begun,
            confirmed: AtomicU64::new(milliseconds(node.clock.uptime())),
            doubted: AtomicU64::new(0),
            named,
        };
        self.known.insert(key.clone(), Arc::new(known));
    }

    fn enlist(&self, directory: &CacheKey, mpd: &CacheKey) {
        let with = |listed: Option<Arc<Vec<CacheKey>>>| {
            let mut all = listed.map_or_else(Vec::new, |listed| (*listed).clone());
            if !all.contains(mpd) {
                all.truncate(MPDS_PER_DIRECTORY_MAX - 1);
                all.insert(0, mpd.clone());
            }
            Arc::new(all)
        };
        self.directories
            .entry_by_ref(directory)
            .and_upsert_with(|entry| with(entry.map(moka::Entry::into_value)));
    }

    /// Returns how long after `now` the segment at `target` becomes available, if it is the next one.
    ///
    /// Where several MPDs name it, the one by which it comes first counts: a low-latency presentation
    /// and an ordinary one may share their segments.
    pub(crate) fn next_in(&self, host: &str, target: &str, now: Duration) -> Option<Duration> {
        let listed = self
            .directories
            .get(&request::key_of(host, directory(target), ""))?;
        let mut soonest = None;
        for known in listed.iter().filter_map(|key| self.known.get(key)) {
            for named in &known.named {
                let Some((representation, segment)) = known.segment(named, target) else {
                    continue;
                };
                let wait = match &named.continuation {
                    Some(continuation) => continuation.next_in(segment, now),
                    None => known.mpd.next_in(representation, segment.number?, now),
                }?;
                soonest = Some(soonest.map_or(wait, |soonest: Duration| soonest.min(wait)));
            }
        }
        soonest
    }

    /// Returns the MPDs by which the segment at `target` should be there at `now`, and is one of the newest.
    pub(super) fn by_which_is_new(
        &self,
        host: &str,
        target: &str,
        now: Duration,
    ) -> Vec<(CacheKey, Arc<Known>)> {
        let directory = request::key_of(host, directory(target), "");
        let Some(listed) = self.directories.get(&directory) else {
            return Vec::new();
        };
        let known = listed
            .iter()
            .filter_map(|key| Some((key.clone(), self.known.get(key)?)));
        known
            .filter(|(_, known)| known.pace(target, now).is_some())
            .collect()
    }

    /// Returns the duration of the segment at `target`, if it is one of the newest that an MPD names at `now`.
    pub(crate) fn pace(&self, host: &str, target: &str, now: Duration) -> Option<Duration> {
        let directory = request::key_of(host, directory(target), "");
        let listed = self.directories.get(&directory)?;
        let mut known = listed.iter().filter_map(|key| self.known.get(key));
        known.find_map(|known| known.pace(target, now))
    }
}

impl Published {
    /// Returns when an origin says that `mpd` was published.
    pub(crate) fn of(mpd: &Mpd) -> Self {
        Self {
            start: mpd.availability_start,
            at: mpd.publish_time,
        }
    }

    /// Returns whether `mpd` is older than the version that this is of, which is shown as `shown`.
    pub(crate) fn is_after(self, mpd: &Mpd, shown: &Mpd) -> bool {
        let as_published = Mpd {
            availability_start: self.start,
            publish_time: self.at,
            presentation: shown.presentation,
            ..Mpd::default()
        };
        mpd.is_older_than(&as_published)
    }
}

impl Known {
    /// Notes that a parent has answered with it again.
    pub(crate) fn confirm(&self, uptime: Duration) {
        self.confirmed
            .fetch_max(milliseconds(uptime), Ordering::Relaxed);
    }

    /// Returns how long no parent has answered with it.
    pub(crate) fn unconfirmed_for(&self, uptime: Duration) -> Duration {
        let confirmed = Duration::from_millis(self.confirmed.load(Ordering::Relaxed));
        uptime.saturating_sub(confirmed)
    }

    /// Returns whether it is to be doubted, by `uptime`: not again before long.
    pub(super) fn is_doubted(&self, uptime: Duration) -> bool {
        let now = milliseconds(uptime).max(1);
        let last = self.doubted.load(Ordering::Relaxed);
        (last == 0 || now.saturating_sub(last) >= milliseconds(DOUBTED_EVERY))
            && (self.doubted)
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Returns the duration of the segment at `target`, if it is one of the newest at `now`.
    fn pace(&self, target: &str, now: Duration) -> Option<Duration> {
        self.named.iter().find_map(|named| {
            let (representation, segment) = self.segment(named, target)?;
            if let Some(continuation) = &named.continuation {
                return continuation.pace(segment, NEWEST_SEGMENTS, now);
            }
            let number = segment.number?;
            let last = self.mpd.last_available(representation, now)?;
            let is_new = number.saturating_sub(1) <= last
                && last.saturating_sub(number) < u64::from(NEWEST_SEGMENTS);
            let duration = representation.template.as_ref()?.segment_duration()?;
            is_new.then_some(duration)
        })
    }

    /// Returns the representation and the name of the segment at `target`, if it is one of `named`.
    fn segment(&self, named: &Named, target: &str) -> Option<(&Representation, Addressed)> {
        let representation = self.mpd.representations.get(named.representation)?;
        let rest = target.strip_prefix(&named.base)?;
        Some((representation, representation.segment_of(rest)?))
    }
}

/// Finds where the segments of each representation are; those of other hosts, and those whose template
/// changes their directory from segment to segment, are left out.
fn named(node: &Node, address: &Address, mpd: &Mpd) -> Vec<Named> {
    let representations = mpd.representations.iter().enumerate();
    let named = representations.filter_map(|(index, representation)| {
        let template = representation.template.as_ref()?;
        let continuation = Continuation::of(mpd, representation);
        if continuation.is_none() {
            template.segment_duration()?;
        }
        let first = Addressed {
            number: Some(template.first_number()),
            ..Addressed::default()
        };
        let path = representation.path_of(first)?;
        let bases = representation.base_urls.iter().rev();
        let uri = bases.fold(path.clone(), |uri, base| joined(&base.uri, &uri));
        let (_, target) = live::locate_child(node, address, &uri)?;
        Some(Named {
            representation: index,
            base: target.strip_suffix(&path)?.to_owned(),
            directory: directory(&target).to_owned(),
            continuation,
        })
    });
    named.take(REPRESENTATIONS_MAX).collect()
}

/// Returns a reference below a `BaseURL`, for resolving both against the MPD at once.
pub(crate) fn joined(base: &str, reference: &str) -> String {
    let is_absolute = reference.starts_with('/') || reference.contains("://");
    match base.rfind('/') {
        Some(end) if !is_absolute => {
            let directory = base.get(..=end).unwrap_or_default();
            format!("{directory}{reference}")
        }
        Some(_) | None => reference.to_owned(),
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns a target up to the last `/` of its path.
fn directory(target: &str) -> &str {
    let path = target.split('?').next().unwrap_or(target);
    let end = path.rfind('/').map_or(0, |end| end + 1);
    path.get(..end).unwrap_or_default()
}

/// Texts of MPDs, in bytes.
const TEXT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What an MPD takes beside its text, about, and each of its representations.
const KNOWN_BYTES: usize = 4 * 1024;
const NAMED_BYTES: usize = 1024;

/// Directories that are remembered to have segments.
const DIRECTORIES_MAX: u64 = 100_000;

/// Clocks of origins that are known.
const CLOCKS_MAX: u64 = 10_000;

/// A clock is named again by each version of an MPD.
const CLOCKS_FOR: Duration = Duration::from_secs(3600);

/// MPDs that name segments in one directory, e.g. by quality or protection; the newest count.
const MPDS_PER_DIRECTORY_MAX: usize = 8;

/// Segments that players at the live edge still ask for: most of them stay three behind.
const NEWEST_SEGMENTS: u32 = 4;

/// An MPD whose newest segments are not there is asked for again no sooner than this.
const DOUBTED_EVERY: Duration = Duration::from_secs(1);

/// Representations of one MPD whose segments are known.
const REPRESENTATIONS_MAX: usize = 64;

/// An MPD that nobody asks for leaves.
const IDLE_AFTER: Duration = Duration::from_secs(60);
