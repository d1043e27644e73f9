//! How many extra requests the failures of parents may cause.
//!
//! Who calls it: `Upstream::fetch`, before it asks a second parent; fills, before a second attempt. Deliberately not here: the one replay on
//! a fresh connection when a kept one turned out dead, which costs the parent nothing and is not counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// A share of requests that may be sent a second time, with a reserve that can be saved up.
///
/// Invariant: over its life at most `reserve_max + percent / 100 * requests` retries are allowed.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// In hundredths of a retry.
    saved: AtomicU64,
    saved_max: u64,
    percent: u64,
}

impl RetryBudget {
    /// Starts with a full reserve, so that a node that has just begun can fail over.
    pub(crate) fn new(percent: u32, reserve_max: u32) -> Self {
        let saved_max = u64::from(reserve_max) * RETRY;
        Self {
            saved: AtomicU64::new(saved_max),
            saved_max,
            percent: u64::from(percent),
        }
    }

    /// Counts a request, which earns its share of a retry.
    pub(crate) fn earn(&self) {
        self.update(|saved| Some((saved + self.percent).min(self.saved_max)));
    }

    /// Takes one retry; returns whether there was one.
    pub(crate) fn spend(&self) -> bool {
        self.update(|saved| saved.checked_sub(RETRY))
    }

    fn update(&self, change: impl FnMut(u64) -> Option<u64>) -> bool {
        // Relaxed: the number guards nothing but itself.
        self.saved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change)
            .is_ok()
    }
}

/// One retry, in hundredths.
const RETRY: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_retry_is_earned_by_ten_requests_at_ten_percent() {
        let budget = RetryBudget::new(10, 1);
        assert!(budget.spend());
        for _ in 0..9 {
            budget.earn();
            assert!(!budget.spend());
        }
        budget.earn();
        assert!(budget.spend());
        assert!(!budget.spend());
    }

    #[test]
    fn the_reserve_does_not_grow_beyond_its_limit() {
        let budget = RetryBudget::new(100, 2);
        for _ in 0..1_000 {
            budget.earn();
        }
        assert!(budget.spend() && budget.spend());
        assert!(!budget.spend());
    }
}
