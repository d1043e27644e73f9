//! Fills: bringing a parent's answer into a body that everybody can read.
//!
//! ```text
//! obtain ─► join(key) ─┬─ lead ──► task: ask the parent ─► publish head and growing body ─► store
//!                      └─ follow ─► wait for what the task publishes
//! ```
//!
//! A fill belongs to nobody: it is its own task, the viewer who caused it follows it like every other,
//! and a viewer who leaves changes nothing (CA-06, FM-18).
//!
//! Who calls it: `cached` for what viewers ask, `live` for hinted parts and playlists.
//! Deliberately not here: whether a response may be stored (`cache`), and for how long (`route`).

mod ask;
mod attempt;
mod begun;
mod decode;
mod lint;
mod mpd;
mod order;
mod patch;
mod playlist;
mod pump;
mod reload;
mod resume;

pub(crate) use ask::{Ask, fetch, forward_fields, read_whole};
pub(crate) use begun::{Begun, keep};
pub(crate) use decode::{describe_changed, read_text};
pub(crate) use order::{Asked, FillOrder, HOLD_MARGIN, Judged, date_if_missing, end_to_end};
pub(crate) use reload::{Published, reload};

use std::sync::Arc;

use std::sync::atomic::{AtomicU64, Ordering};

use cache::{CacheKey, FillPermit, Followed, Joined, StoredResponse, Uncacheable};
use http::StatusCode;
use parking_lot::Mutex;

use crate::live::Rendition;
use crate::node::Node;
use crate::respond::Failure;
use crate::upstream::ForwardResponse;

/// What a fill gave to everyone who followed it.
#[derive(Clone, Debug)]
pub(crate) enum Filled {
    /// A response that those who wait now share; its body may still be growing.
    Response(Brought),
    /// The body was a live playlist, which the hub follows from now on.
    Rendition(Arc<Rendition>),
    /// A response that may not be shared: the first to take it has it, the others ask for themselves.
    Unshared(Arc<Mutex<Option<Own>>>, Uncacheable),
    /// Nothing.
    Failed(Failure),
}

/// A response for one viewer.
#[derive(Debug)]
pub(crate) enum Own {
    /// As it arrives.
    Arriving(Box<ForwardResponse>),
    /// Read whole: only its content tells that it is not for all.
    Read(Brought),
}

/// A response that a fill brought.
#[derive(Clone, Debug)]
pub(crate) struct Brought {
    /// The response as viewers get it.
    pub(crate) response: Arc<StoredResponse>,
    /// What the parent answered: 304 where it validated what was stored.
    pub(crate) status: StatusCode,
    /// Why it is not stored; `None` when it is, or will be once its body is complete.
    pub(crate) refusal: Option<Uncacheable>,
}

/// The map of running fills.
pub(crate) type Fills = cache::Collapse<CacheKey, Filled>;

type Permit = FillPermit<CacheKey, Filled>;

/// Obtains what `order` is for: from a fill that is already running, or from a new one.
///
/// Returns also whether the fill was already running: the request was collapsed (RFC 9111 4).
///
/// # Cancel safety
///
/// A caller that leaves changes nothing for the fill or its other followers.
pub(crate) async fn obtain(node: &Arc<Node>, order: &FillOrder) -> (Filled, bool) {
    let mut is_collapsed = true;
    let mut joined = node.fills.join(&order.collapse_key);
    loop {
        let follower = match joined {
            Joined::Follow(follower) => follower,
            Joined::Lead(permit) => {
                is_collapsed = false;
                // Taken first: on another thread the fill may be over before this one goes on.
                let follower = permit.follower();
                start(node, permit, order.clone());
                follower
            }
        };
        match follower.wait().await {
            Followed::Shared(filled) => return (filled, is_collapsed),
            // The fill's task died without a word: this follower's request starts the next one.
            Followed::Lead(permit) => joined = Joined::Lead(permit),
        }
    }
}

/// Obtains what `order` is for from a fill that nobody else joins.
///
/// For what was not to be shared last time: viewers must not queue behind each other for it. If the
/// parent has changed its mind, the response is stored all the same.
///
/// # Cancel safety
///
/// As [`obtain`].
pub(crate) async fn alone(node: &Arc<Node>, order: &FillOrder) -> Filled {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // No URL has a line break in it: nobody else has this key.
    let collapse_key = CacheKey::new(format!("{}\n#{number}", order.collapse_key));
    let order = FillOrder {
        collapse_key,
        ..order.clone()
    };
    obtain(node, &order).await.0
}

/// Starts a fill that revalidates what is served stale meanwhile, unless one runs (RFC 5861 3).
pub(crate) fn refresh(node: &Arc<Node>, order: FillOrder) {
    if let Joined::Lead(permit) = node.fills.join(&order.collapse_key) {
        start(node, permit, order);
    }
}

/// Starts a fill that nobody waits for yet, unless the response is stored or on its way (CA-15).
pub(crate) fn ahead(node: &Arc<Node>, order: FillOrder) {
    if node.store.get(&order.key, &order.fields).found().is_some() {
        return;
    }
    refresh(node, order);
}

fn start(node: &Arc<Node>, permit: Permit, order: FillOrder) {
    let owner = Arc::clone(node);
    node.tasks
        .spawn(async move { pump::run(&owner, permit, order).await });
}
