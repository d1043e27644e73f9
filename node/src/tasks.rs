//! Ownership of every background task of a node: fills, chains, connection drivers.
//!
//! Design invariant 10: every task is owned, and shutdown joins them with a deadline. In a running node
//! they have a thread of their own, their *home*: a burst of answers to viewers on a worker does not
//! delay the next part on its way in (`docs/decisions/0004-a-thread-for-fills.md`).

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

/// The tasks of one node and the signal that asks them to end.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    ending: CancellationToken,
    /// Where tasks run; the caller's runtime when there is none.
    home: Option<Handle>,
}

impl Tasks {
    /// Creates an owner without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates an owner whose tasks run on the runtime of `home`.
    pub fn at_home(home: Handle) -> Self {
        Self {
            home: Some(home),
            ..Self::default()
        }
    }

    /// Runs `future` as a task at home, or on the caller's runtime if there is no home.
    ///
    /// The task should end by itself soon after [`Tasks::ending`] resolves.
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match &self.home {
            Some(home) => self.tracker.spawn_on(future, home),
            None => self.tracker.spawn(future),
        };
    }

    /// Resolves when the tasks are asked to end.
    pub fn ending(&self) -> WaitForCancellationFuture<'_> {
        self.ending.cancelled()
    }

    /// Returns the signal itself, for what outlives a borrow.
    pub fn signal(&self) -> CancellationToken {
        self.ending.clone()
    }

    /// Returns how many tasks are running.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Asks every task to end and waits for them at most `deadline`; returns how many were left.
    pub async fn end(&self, deadline: Duration) -> usize {
        self.tracker.close();
        self.ending.cancel();
        let joined = tokio::time::timeout(deadline, self.tracker.wait()).await;
        if joined.is_ok() {
            0
        } else {
            self.tracker.len()
        }
    }
}
