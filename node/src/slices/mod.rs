//! Slices: large bodies brought and kept in aligned pieces, so that a byte costs no gigabyte.
//!
//! ```text
//! miss ─► portion ─┬─ Undecided ─► GET ──────────► large? ─► head, and slice 0 of what is arriving
//!                  └─ Probe ─────► GET with Range ► 206 ───► head, and the slice that came
//! head found ─► answer ─► Walk: slice, slice, ... each from the store or a fill, the next one ahead
//! ```
//!
//! A range of a body that nobody has asked for yet is answered by asking the parent for the slice
//! around it (B72). What came tells how long the body is and which version: the *head*, a stored response
//! whose body says that it is kept in slices. From then on every reader walks from slice to slice, and
//! each slice is a stored response of its own, filled once however many read it. A slice is asked for
//! with the strong entity tag of its head. What comes with another tag or length means that the
//! version is gone: the head is dropped, running answers end as broken, new requests begin anew. Two
//! versions are never mixed.
//!
//! Only segments and other files are kept so, never playlists, parts, or what a live playlist has
//! named: those are read while they grow. Nor is what has no strong tag, or comes from a parent that
//! does not answer ranges: that is brought whole.
//!
//! Who calls it: `fill` for what to ask and what came, `respond` to answer from a head. What it calls:
//! `cache::slice` for arithmetic, `fill` for each slice.

mod read;
mod receive;

pub(crate) use read::{answer, newer_version};
pub(crate) use receive::{Received, receive};

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use cache::range::Beginning;
use cache::slice::{SliceBytes, Sliced, ask_for};
use cache::{ByteRanges, CacheKey, StoredResponse};
use http::{HeaderMap, header};
use media::Kind;
use moka::sync::Cache;

use crate::fill::FillOrder;
use crate::node::{Node, NodeLimits};
use crate::request::{Request, Wants};

/// What a node knows of slices beside what is in its store.
#[derive(Debug)]
pub(crate) struct Slices {
    slice_bytes: Option<SliceBytes>,
    from_bytes: u64,
    /// What is brought whole, since its parent does not answer ranges as it said.
    whole: Cache<CacheKey, ()>,
}

impl Slices {
    pub(crate) fn new(limits: &NodeLimits) -> Self {
        Self {
            slice_bytes: SliceBytes::new(limits.slice_bytes),
            from_bytes: limits.slice_from_bytes,
            whole: Cache::builder()
                .max_capacity(WHOLE_MAX)
                .time_to_live(WHOLE_FOR)
                .build(),
        }
    }
}

/// How much of a response a fill asks for.
#[derive(Clone, Debug)]
pub(crate) enum Portion {
    /// All of it, however large.
    Whole,
    /// All of it; if it is large, it will be kept in slices.
    Undecided,
    /// The slice around what a viewer wants of a body that is not known yet.
    Probe(Range<u64>),
    /// A slice of a known version.
    Slice(Slice),
}

/// One slice of one version.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    /// Under which key the head is stored.
    pub(crate) head_key: CacheKey,
    /// The head, with the tag that pins the version.
    pub(crate) head: Arc<StoredResponse>,
    /// How the head's body is kept.
    pub(crate) sliced: Sliced,
    /// Which bytes of it.
    pub(crate) range: Range<u64>,
}

/// Returns how much to ask for when `request` finds nothing stored under `key`.
pub(crate) fn portion_of(node: &Node, request: &Request, kind: Kind, key: &CacheKey) -> Portion {
    let may_be_large = match kind {
        Kind::Segment | Kind::Other => true,
        Kind::MultivariantPlaylist
        | Kind::MediaPlaylist
        | Kind::Mpd
        | Kind::InitSegment
        | Kind::Part
        | Kind::Key => false,
    };
    let Some(slice_bytes) = node.slices.slice_bytes.filter(|_| may_be_large) else {
        return Portion::Whole;
    };
    if node.hub.kind(key).is_some() || node.slices.whole.contains_key(key) {
        return Portion::Whole;
    }
    let is_ranged = request.wants == Wants::Content && !node.uncacheable.contains_key(key);
    let ranges = ByteRanges::of(&request.fields).filter(|_| is_ranged);
    match ranges.and_then(|ranges| ranges.beginning()) {
        Some(Beginning::At(position)) => Portion::Probe(slice_bytes.around(position)),
        // Where the last slice begins is not known yet: a byte is enough to learn it.
        Some(Beginning::BeforeEnd) => Portion::Probe(0..1),
        None => Portion::Undecided,
    }
}

impl Portion {
    /// Returns the fields with which to ask for this much, given those for the whole.
    pub(crate) fn asked_with(&self, fields: &Arc<HeaderMap>) -> Arc<HeaderMap> {
        let range = match self {
            Self::Whole | Self::Undecided => return Arc::clone(fields),
            Self::Probe(range) | Self::Slice(Slice { range, .. }) => range,
        };
        let mut fields = HeaderMap::clone(fields);
        ask_for(&mut fields, range);
        if let Self::Slice(slice) = self
            && let Some(tag) = slice.head.headers.get(header::ETAG)
        {
            // RFC 9110 13.1.5: another version answers whole, and is not read.
            fields.insert(header::IF_RANGE, tag.clone());
        }
        Arc::new(fields)
    }

    /// Returns what to ask for after a probe that came to nothing.
    #[must_use]
    pub(crate) fn without_probe(self) -> Self {
        match self {
            Self::Probe(_) => Self::Undecided,
            Self::Whole | Self::Undecided | Self::Slice(_) => self,
        }
    }
}

/// Returns the order for slice `number` of a head that was found by `order`.
fn slice_order(
    order: &FillOrder,
    head: &Arc<StoredResponse>,
    sliced: Sliced,
    number: u64,
) -> FillOrder {
    let key = sliced.key(&order.key, number);
    FillOrder {
        collapse_key: key.clone(),
        key,
        directives: cache::RequestDirectives::default(),
        validated: None,
        portion: Portion::Slice(Slice {
            head_key: order.key.clone(),
            head: Arc::clone(head),
            sliced,
            range: sliced.range(number),
        }),
        ..order.clone()
    }
}

/// Returns the response that a slice is stored as. Its version is pinned: it is as good as its head.
fn slice_response(head: &StoredResponse, body: cache::GrowingBody) -> StoredResponse {
    let mut headers = HeaderMap::new();
    // A purge by surrogate key means the slices, too.
    for name in ["surrogate-key", "cache-groups"] {
        for value in head.headers.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    StoredResponse {
        headers,
        body,
        variant: cache::Variant::default(),
        freshness_lifetime: Duration::MAX,
        must_revalidate: false,
        ..head.clone()
    }
}

/// How long a resource whose parent does not answer ranges is brought whole.
const WHOLE_FOR: Duration = Duration::from_secs(60);

/// How many of them are remembered.
const WHOLE_MAX: u64 = 10_000;
