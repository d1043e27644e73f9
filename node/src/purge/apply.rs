//! What a purge does to this node: raise the fence, cut off running fills, clear the live hub, change
//! the store. In this order, so that nothing made before a purge is found, joined or stored after it
//! (invariant 5; the model in `purge-api/tests` checks it).
//!
//! Who calls it: the follower, for each entry of the log. What it calls: `cache` says what a target
//! means. Deliberately not here: how entries come, and in which order.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use cache::{
    CacheKey, Fence, Mark, Purge, PurgeTarget, Purged, StoredResponse, carries_surrogate_key,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue};
use media::Kind;
use purge_log::feed::Position;
use purge_log::{Counts, Entry, Mode, PurgeRequest, Sequence, Target, Url};
use tokio::time::Instant;

use super::minimums::Minimums;
use super::redactions::Redactions;
use super::timeline::{self, Part};
use super::{Apply, Children, Follower, Standing, Verdict};
use crate::live::Rendition;
use crate::node::Node;
use crate::request::{self, Query, Request};
use crate::telemetry::{Event, PurgeLevel};

/// The purges of a node: the fence that fills pass, and the log that it follows, if any.
#[derive(Debug)]
pub(crate) struct Purges {
    fence: Fence<Arc<[PurgeTarget]>>,
    /// Stretches of timelines that are gone.
    pub(super) redactions: Redactions,
    minimums: Minimums,
    follower: OnceLock<Follower>,
}

impl Default for Purges {
    fn default() -> Self {
        Self {
            fence: Fence::new(REMEMBERED_MAX),
            redactions: Redactions::default(),
            minimums: Minimums::default(),
            follower: OnceLock::new(),
        }
    }
}

impl Purges {
    /// Returns the mark of a fill that begins now, before its request is sent.
    pub(crate) fn mark(&self) -> Mark {
        self.fence.mark()
    }

    /// Returns whether what was begun at `mark` may be stored now.
    pub(crate) fn lets_pass(&self, mark: Mark, key: &CacheKey, fields: &HeaderMap) -> bool {
        let key = plain(key);
        self.fence.lets_pass(mark, |targets| {
            targets
                .iter()
                .any(|target| target.means_fill(&key, Some(fields)))
        })
    }

    /// Returns whether a request is for what was purged with part of a timeline, and must not be fetched again.
    pub(crate) fn deny(&self, request: &Request, kind: Kind) -> bool {
        self.redactions.is_any()
            && self.redactions.denies(
                &request.target.host,
                &request.target.path,
                request.key(),
                kind,
            )
    }

    /// Raises the fence for a change that is no purge: parents are not asked to know it.
    pub(crate) fn raise_change(&self, target: PurgeTarget) {
        self.fence.raise(Arc::from([target]));
    }

    /// Raises the fence for everything: nothing that began before is stored.
    pub(super) fn raise(&self, targets: Vec<PurgeTarget>) -> Arc<[PurgeTarget]> {
        let targets: Arc<[PurgeTarget]> = targets.into();
        if let Some(position) = self.standing().and_then(|standing| standing.minimum) {
            self.minimums.note(position, &targets);
        }
        self.fence.raise(Arc::clone(&targets));
        targets
    }

    /// Names the log that the node follows. The first stays.
    pub(crate) fn follow(&self, follower: Follower) {
        self.follower.get_or_init(|| follower);
    }

    /// Returns how far this node is in the log it follows, if it follows one.
    pub(crate) fn standing(&self) -> Option<Standing> {
        self.follower.get().map(Follower::standing)
    }

    /// Returns how far this node is at this moment, if it follows a log.
    pub(crate) fn level(&self) -> Option<PurgeLevel> {
        let follower = self.follower.get()?;
        let standing = follower.standing();
        Some(PurgeLevel {
            state: follower.state(),
            applied: standing.applied().0,
            head: standing.head.max(standing.applied()).0,
            lag: standing.lag(Instant::now()),
            children: follower.children().map_or(0, Children::following) as u64,
            resets: standing.resets,
        })
    }

    /// Returns what children of this node follow, once this node has heard from the log.
    pub(crate) fn children(&self) -> Option<Children> {
        self.follower.get()?.children().cloned()
    }

    /// Returns what the configuration says about serving now.
    pub(crate) fn verdict(&self) -> Verdict {
        self.follower
            .get()
            .map_or(Verdict::Serve, Follower::verdict)
    }

    /// Returns what a request for `key` asks its parent to have applied. Read it after [`Purges::mark`].
    ///
    /// `fields` are those of the response, where they are known.
    pub(crate) fn minimum(
        &self,
        key: &CacheKey,
        fields: Option<&HeaderMap>,
    ) -> Option<HeaderValue> {
        let Position { log, applied } = self.minimums.of(&plain(key), fields)?;
        HeaderValue::try_from(format!("{log}/{applied}")).ok()
    }

    /// Returns what waits a moment for what a child has applied already, and tells whether it is applied here,
    /// too; `None` if nothing is missing.
    ///
    /// Who follows no log, or another one, cannot be behind in it.
    pub(crate) fn catching_up(&self, request: &Request) -> Option<BoxFuture<'_, bool>> {
        let follower = self.follower.get()?;
        let asked = minimum_of(request)?;
        let here = follower.standing();
        let is_of_another_log = here.position.is_some_and(|p| p.log != asked.log);
        if is_of_another_log || here.has_reached(asked) {
            return None;
        }
        Some(follower.wait_until(asked, CATCH_UP_MAX).boxed())
    }
}

fn minimum_of(request: &Request) -> Option<Position> {
    let value = request.fields.get(MINIMUM)?.to_str().ok()?;
    let (log, applied) = value.split_once('/')?;
    Some(Position {
        log: log.parse().ok()?,
        applied: Sequence(applied.parse().ok()?),
    })
}

/// What a follower applies purges to.
pub(crate) struct Applier {
    /// Weak: the follower belongs to the node.
    node: Weak<Node>,
}

impl Applier {
    /// Returns what applies purges to `node`.
    pub(crate) fn to(node: &Arc<Node>) -> Self {
        Self {
            node: Arc::downgrade(node),
        }
    }
}

impl Apply for Applier {
    fn apply(&self, entry: &Entry) -> Counts {
        let Some(node) = self.node.upgrade() else {
            return Counts::default();
        };
        if entry.dry_run {
            return count(&node, &entry.request);
        }
        let counts = apply(&node, &entry.request);
        node.telemetry.record(Event::PurgeApplied {
            target: &entry.request.target,
            counts,
        });
        counts
    }

    fn reset(&self, through: Sequence) -> Counts {
        let Some(node) = self.node.upgrade() else {
            return Counts::default();
        };
        if !node.store.is_empty() {
            tracing::warn!(%through, "PurgesMissed: everything stored is stale now");
        }
        let everything = PurgeRequest {
            target: Target::All,
            mode: Mode::Soft,
        };
        apply(&node, &everything)
    }
}

/// Applies a purge to `node`; returns what it meant.
pub(crate) fn apply(node: &Node, request: &PurgeRequest) -> Counts {
    if let Some(part) = part_of(request) {
        return timeline::purge(node, &part);
    }
    let targets = node.purges.raise(targets_of(node, &request.target));
    let cut = node.fills.unlink_where(|key, filled| {
        let response = filled.and_then(|filled| filled.response());
        let fields = response.map(|response| &response.headers);
        let key = plain(key);
        targets.iter().any(|target| target.means_fill(&key, fields))
    });
    let mut counts = Counts {
        fills: cut.len() as u64,
        ..Counts::default()
    };
    drop(cut);
    for rendition in meant_renditions(node, &targets) {
        rendition.retire();
        node.hub.forget(&rendition.address.key());
        counts.responses += 1;
        counts.bytes += bytes_of(&rendition);
    }
    let purge = match request.mode {
        Mode::Hard => Purge::Hard,
        Mode::Soft => Purge::Soft {
            now: node.clock.now(),
        },
    };
    for target in targets.iter() {
        add(&mut counts, node.store.purge(target.clone(), purge));
    }
    counts
}

/// Returns what a purge would mean to `node`.
pub(crate) fn count(node: &Node, request: &PurgeRequest) -> Counts {
    if let Some(part) = part_of(request) {
        return timeline::count(node, &part);
    }
    let targets = targets_of(node, &request.target);
    let mut counts = Counts::default();
    for rendition in meant_renditions(node, &targets) {
        counts.responses += 1;
        counts.bytes += bytes_of(&rendition);
    }
    for target in targets {
        add(&mut counts, node.store.purgeable(target));
    }
    counts
}

/// Returns the part of a timeline that is to be gone, if that is what is asked for.
fn part_of(request: &PurgeRequest) -> Option<Part> {
    match (&request.target, request.mode) {
        (
            Target::Stream {
                host,
                path,
                range: Some(range),
            },
            Mode::Hard,
        ) => Some(Part::new(plain_host(host), path, *range)),
        // A soft purge rewrites nothing, and what is asked about once too often stays as it is.
        _ => None,
    }
}

pub(super) fn add(counts: &mut Counts, purged: Purged) {
    counts.responses += purged.responses;
    counts.bytes += purged.body_bytes;
}

fn meant_renditions(node: &Node, targets: &[PurgeTarget]) -> Vec<Arc<Rendition>> {
    let is_meant = |rendition: &Arc<Rendition>| {
        let key = rendition.address.key();
        let version = rendition.version();
        targets.iter().any(|target| match (target, &version) {
            (PurgeTarget::SurrogateKeys(wanted), Some(version)) => {
                carries_surrogate_key(version.fields(), |key| wanted.iter().any(|w| w == key))
            }
            (PurgeTarget::SurrogateKeys(_), None) => false,
            (_, _) => target.means(&key, &HeaderMap::new()),
        })
    };
    let mut renditions = node.hub.renditions();
    renditions.retain(is_meant);
    renditions
}

fn bytes_of(rendition: &Rendition) -> u64 {
    rendition
        .version()
        .map_or(0, |version| version.playlist.text().len() as u64)
}

/// Returns what an entry of the log means in terms of this node's keys: the same normal form that
/// requests have.
fn targets_of(node: &Node, target: &Target) -> Vec<PurgeTarget> {
    match target {
        Target::Url { host, path, query } => vec![url(node, host, path, query)],
        Target::Urls(urls) => urls
            .iter()
            .map(|Url { host, path, query }| url(node, host, path, query))
            .collect(),
        // A stretch of a timeline names no URLs, and which of them were in it cannot be told any more
        // once a playlist has moved on: the whole presentation is revalidated, which is never too little.
        Target::Prefix { host, path } | Target::Stream { host, path, .. } => {
            vec![PurgeTarget::Prefix {
                host: plain_host(host),
                path: path.clone(),
            }]
        }
        Target::SurrogateKeys(keys) => vec![PurgeTarget::SurrogateKeys(keys.clone())],
        Target::Host(host) => vec![PurgeTarget::Host(plain_host(host))],
        Target::All => vec![PurgeTarget::All],
    }
}

fn url(node: &Node, host: &str, path: &str, query: &str) -> PurgeTarget {
    let host = plain_host(host);
    let query = Query::canonical(query, &node.rules.of(&host, path).query);
    PurgeTarget::Url {
        key: request::key_of(&host, path, query.without_directives()),
        besides: request::DIRECTIVES.map(str::to_owned).to_vec(),
    }
}

fn plain_host(host: &str) -> String {
    request::plain_host(host).unwrap_or_else(|| host.to_owned())
}

/// Returns the key without what tells fills and slices of one URL apart.
pub(super) fn plain(key: &CacheKey) -> CacheKey {
    match key.as_str().split_once('\n') {
        Some((url, _)) => CacheKey::new(url),
        None => key.clone(),
    }
}

/// Returns the response that a fill has published, if it has.
impl crate::fill::Filled {
    fn response(&self) -> Option<&Arc<StoredResponse>> {
        match self {
            Self::Response(brought) => Some(&brought.response),
            Self::Rendition(_) | Self::Unshared(..) | Self::Failed(_) => None,
        }
    }
}

/// What a node asks its parent to have applied: the log and the sequence number.
pub(crate) const MINIMUM: HeaderName = HeaderName::from_static("seawall-purge-minimum");

/// How long a node that is behind its child waits before it goes past its store.
const CATCH_UP_MAX: Duration = Duration::from_millis(200);

/// More purges than come while one fill lasts: at 50 per second, more than a minute.
const REMEMBERED_MAX: usize = 4096;
