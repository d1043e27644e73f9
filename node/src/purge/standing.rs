//! How far a node is in the log, and how old that knowledge is.

use std::time::Duration;

use purge_log::Sequence;
use purge_log::feed::Position;
use tokio::time::Instant;

/// How far a node is in the log, and how old that knowledge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Everything up to here is applied. `None` before the first connection.
    pub position: Option<Position>,
    /// Everything up to here is applied, or is being applied at this moment.
    ///
    /// The most that a fill asks its parent for, see `minimums`. Read it after the fill has marked the fence: every purge the mark
    /// lies behind is then in it. With `position` instead, a fill that begins in the middle of a purge would
    /// pass the fence with an answer that its parent made before.
    pub minimum: Option<Position>,
    /// The last entry that is known to be in the log.
    pub head: Sequence,
    /// Whether a feed is open.
    pub is_connected: bool,
    /// Every purge that was accepted before this moment is applied. `None` before that was ever known.
    pub confirmed_at: Option<Instant>,
    /// How often it missed purges, so that everything became stale.
    pub resets: u64,
    /// When the node began to follow.
    pub started_at: Instant,
}

/// Whether a node knows of all purges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It began a moment ago and has not heard from the log.
    Starting,
    /// As of a moment ago.
    Current,
    /// Purges that were accepted since may be unknown here.
    Lagging {
        /// Since when.
        since: Instant,
    },
}

/// What a node does about requests, as far as purges are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Serve what is stored.
    Serve,
    /// Ask a parent before a stored response is served.
    Revalidate,
    /// Be not ready.
    Fence,
}

impl Standing {
    pub(super) fn starting(now: Instant) -> Self {
        Self {
            position: None,
            minimum: None,
            head: Sequence::START,
            is_connected: false,
            confirmed_at: None,
            resets: 0,
            started_at: now,
        }
    }

    /// Returns the sequence up to which everything is applied.
    pub fn applied(&self) -> Sequence {
        self.position
            .map_or(Sequence::START, |position| position.applied)
    }

    /// Returns how many known purges are not applied yet.
    pub fn behind(&self) -> u64 {
        self.head.0.saturating_sub(self.applied().0)
    }

    /// Returns how old the knowledge is at `now`.
    pub fn lag(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.confirmed_at.unwrap_or(self.started_at))
    }

    /// Returns whether everything up to `position` is applied.
    pub fn has_reached(&self, position: Position) -> bool {
        self.position
            .is_some_and(|here| here.log == position.log && here.applied >= position.applied)
    }

    /// Judges the age of the knowledge at `now`.
    pub fn state(&self, now: Instant, lagging_after: Duration) -> State {
        let is_old = self.lag(now) > lagging_after;
        match self.confirmed_at {
            Some(_) if !is_old => State::Current,
            None if !is_old => State::Starting,
            confirmed_at => State::Lagging {
                since: confirmed_at.unwrap_or(self.started_at),
            },
        }
    }
}
