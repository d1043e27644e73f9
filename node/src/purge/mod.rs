//! Following the purge log: every purge is applied here, in order, soon after it was accepted.
//!
//! What is here: [`Follower`], which keeps a connection to the purge API or to a parent node, applies what
//! comes through [`Apply`], reports what was applied, and knows how old its knowledge is; [`Children`],
//! with which a node serves the feed on, so that a PoP needs no route to the API, and the listener where
//! they find it. Who calls it: the node's
//! start; the exchange asks for the [`Verdict`] and for the [`Position`]. What it calls: `upstream` for
//! connections, `purge_log` for what the feed means. Deliberately not here: what a purge does to the store.
//!
//! ```text
//!             ┌─ Apply (store, fills, hub)
//! feed ─► cursor ─► window ─► children
//!             └─ outbox ─► reports, also those of children
//! ```
//!
//! Nothing is kept on disk: the store is in memory, so a node that starts has nothing that a purge could mean,
//! but for stretches of timelines that are to stay gone: it asks for the newest purges again.

mod apply;
mod children;
mod config;
mod follow;
mod listen;
mod minimums;
mod mpds;
mod outbox;
mod redactions;
mod standing;
mod timeline;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use purge_log::{Counts, Entry, Sequence};
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use apply::{Applier, MINIMUM, Purges, apply, count};
pub use children::{Children, FeedBody};
pub use config::{FollowConfig, WhenLagging};
pub(crate) use listen::{Bound, Serving};
pub use listen::{ChildrenConfig, ChildrenError, ChildrenTls, serve_stream};
pub(crate) use mpds::{denies_patch, redacted_mpd};
pub use purge_log::feed::Position;
pub use standing::{Standing, State, Verdict};
pub(crate) use timeline::{Redacted, redacted, redacted_to_store};

use crate::clock::Clock;
use crate::tasks::Tasks;
use crate::upstream::Upstream;
use outbox::Outbox;

/// What a purge does to a node.
///
/// Called from one task, in the order of the log. When a call returns, no request that arrives later may be
/// answered with anything made before: first raise the fence, then close running fills, then remove.
/// While it runs [`Standing::minimum`] is at the purge already, [`Standing::position`] when it has returned.
pub trait Apply: Send + Sync + 'static {
    /// Applies a purge, or only counts what it would mean if it is a dry run.
    fn apply(&self, entry: &Entry) -> Counts;

    /// Makes everything stale: purges were missed, and nobody can say which.
    fn reset(&self, through: Sequence) -> Counts;
}

/// A node's connection to the purge log. Cheap to clone.
#[derive(Clone)]
pub struct Follower {
    shared: Arc<Shared>,
}

struct Shared {
    config: FollowConfig,
    clock: Clock,
    apply: Arc<dyn Apply>,
    standing: watch::Sender<Standing>,
    /// There once the first connection said which log this is.
    children: OnceLock<Children>,
    outbox: Arc<Outbox>,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower")
            .field("node", &self.shared.config.node)
            .field("standing", &*self.shared.standing.borrow())
            .finish_non_exhaustive()
    }
}

impl Follower {
    /// Follows the log that `parents` serve, until `tasks` end.
    pub fn start(
        config: FollowConfig,
        parents: Upstream,
        apply: Arc<dyn Apply>,
        clock: Clock,
        tasks: &Tasks,
    ) -> Self {
        let outbox = Outbox::new(config.node.clone(), config.nodes_max);
        let shared = Arc::new(Shared {
            standing: watch::Sender::new(Standing::starting(Instant::now())),
            children: OnceLock::new(),
            outbox: Arc::new(outbox),
            config,
            clock,
            apply,
        });
        let ending = tasks.signal();
        let following = follow::follow(Arc::clone(&shared), parents.clone());
        let until = ending.clone();
        tasks.spawn(async move {
            until.run_until_cancelled(following).await;
        });
        let reporting = outbox::send(Arc::clone(&shared), parents);
        tasks.spawn(async move {
            ending.run_until_cancelled(reporting).await;
        });
        Self { shared }
    }

    /// Returns how far this node is, and how old that knowledge is.
    pub fn standing(&self) -> Standing {
        *self.shared.standing.borrow()
    }

    /// Returns a receiver that changes with every step of the log.
    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.shared.standing.subscribe()
    }

    /// Returns whether this node knows of all purges, by its configured patience.
    pub fn state(&self) -> State {
        self.standing()
            .state(Instant::now(), self.shared.config.lagging_after)
    }

    /// Returns what the configuration says about serving now.
    pub fn verdict(&self) -> Verdict {
        self.shared.config.when_lagging.judge(self.state())
    }

    /// Waits at most `limit` until everything up to `position` is applied; returns whether it is.
    ///
    /// A child that is ahead asks for at least its [`Standing::minimum`]: see whether this node is as far
    /// before answering from the store or a running fill; if not, fill for this child alone. A position in
    /// another log cannot be waited for.
    pub async fn wait_until(&self, position: Position, limit: Duration) -> bool {
        let mut standing = self.watch();
        let reached = standing.wait_for(|standing| standing.has_reached(position));
        tokio::time::timeout(limit, reached)
            .await
            .is_ok_and(|reached| reached.is_ok())
    }

    /// Returns what children of this node follow; `None` before this node has followed anybody.
    pub fn children(&self) -> Option<&Children> {
        self.shared.children.get()
    }
}
