//! Deadlines of held requests, shared: one timer per rendition, whatever is held.
//!
//! Held requests wait for versions. So that none waits for ever (LL-09), the chain's task also wakes
//! them when a deadline passes. Deadlines are rounded up to [`QUANTUM`], so a thousand requests that
//! came together share one entry here and one wake-up.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Deadlines are rounded up to a multiple of this.
pub(crate) const QUANTUM: Duration = Duration::from_millis(250);

/// The deadlines of one rendition's held requests, soonest first.
#[derive(Debug)]
pub(crate) struct Deadlines {
    started: Instant,
    state: Mutex<State>,
    first_changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Invariant: strictly ascending, all multiples of [`QUANTUM`] after `started`.
    ascending: VecDeque<Instant>,
}

impl Deadlines {
    /// Creates an empty set.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            state: Mutex::new(State::default()),
            first_changed: Notify::new(),
        }
    }

    /// Adds the deadline `after` from now, rounded up, and returns it.
    pub(crate) fn add(&self, after: Duration) -> Instant {
        let wanted = self.started.elapsed() + after;
        let quanta = wanted.as_nanos().div_ceil(QUANTUM.as_nanos());
        let deadline = self.started + QUANTUM * u32::try_from(quanta).unwrap_or(u32::MAX);
        if self.state.lock().add(deadline) {
            self.first_changed.notify_one();
        }
        deadline
    }

    /// Waits until the soonest deadline has passed, and forgets it. Cancel safe.
    pub(crate) async fn passed(&self) {
        loop {
            let soonest = self.state.lock().ascending.front().copied();
            let Some(soonest) = soonest else {
                self.first_changed.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(soonest) => {
                    self.state.lock().forget_until(soonest);
                    return;
                }
                () = self.first_changed.notified() => {}
            }
        }
    }
}

impl State {
    /// Returns whether the soonest deadline changed.
    fn add(&mut self, deadline: Instant) -> bool {
        let at = self.ascending.partition_point(|&d| d < deadline);
        if self.ascending.get(at) == Some(&deadline) {
            return false;
        }
        self.ascending.insert(at, deadline);
        at == 0
    }

    fn forget_until(&mut self, passed: Instant) {
        while self.ascending.front().is_some_and(|&d| d <= passed) {
            self.ascending.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_that_came_together_share_one_deadline() {
        let deadlines = Deadlines::new();
        let first = deadlines.add(Duration::from_millis(6_001));
        let second = deadlines.add(Duration::from_millis(6_200));
        assert_eq!(first, second);
        assert_eq!(first - deadlines.started, Duration::from_millis(6_250));
        assert_eq!(deadlines.state.lock().ascending.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sooner_deadline_added_while_waiting_is_kept() {
        let deadlines = std::sync::Arc::new(Deadlines::new());
        let later = deadlines.add(Duration::from_secs(9));
        let waiting = async {
            deadlines.passed().await;
            Instant::now()
        };
        let adding = async {
            tokio::task::yield_now().await;
            deadlines.add(Duration::from_secs(3))
        };
        let (woken, sooner) = tokio::join!(waiting, adding);
        assert_eq!(woken, sooner);
        deadlines.passed().await;
        assert_eq!(Instant::now(), later);
    }
}
