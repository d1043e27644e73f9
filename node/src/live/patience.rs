//! How long a fill at the live edge waits before it makes a second attempt, and how many there may be.
//!
//! A part is worth something for one part duration. If it has not come by then, somebody is stuck; a
//! second request, on another connection, costs little and saves every viewer of that part. Who calls
//! it: fills. Deliberately not here: what an attempt is (`fill::attempt`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::upstream::RetryBudget;

/// The patience of one node.
#[derive(Debug)]
pub(crate) struct Patience {
    /// How long 99 of 100 parts take once they are published, in microseconds: an estimate.
    usual: AtomicU64,
    second_attempts: RetryBudget,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            usual: AtomicU64::new(0),
            second_attempts: RetryBudget::new(SECOND_ATTEMPTS_PERCENT, SECOND_ATTEMPTS_RESERVE),
        }
    }
}

impl Patience {
    /// Returns how long to wait where something new comes every `pace`.
    pub(crate) fn before_second_attempt(&self, pace: Duration) -> Duration {
        let usual = Duration::from_micros(self.usual.load(Ordering::Relaxed));
        // However slow parents have become: a second opinion within two target durations or never.
        pace.max(usual.min(pace * 4)).max(PACE_MIN)
    }

    /// Notes that a fill at the live edge began, which earns its share of a second attempt.
    pub(crate) fn began(&self) {
        self.second_attempts.earn();
    }

    /// Notes how long a part took once it was published.
    ///
    /// The estimate rises by 99 steps where a part took longer and falls by one where it did not, so it
    /// rests where one part in a hundred takes longer.
    pub(crate) fn arrived(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let step = |usual: u64| {
            let unit = (usual / 1_000).max(10);
            if took > usual {
                usual.saturating_add((unit * 99).min(took - usual))
            } else {
                usual.saturating_sub(unit.min(usual - took))
            }
        };
        // Relaxed: the number guards nothing but itself.
        let _previous = self
            .usual
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |usual| {
                Some(step(usual))
            });
    }

    /// Takes one second attempt; returns whether there was one.
    pub(crate) fn spend(&self) -> bool {
        self.second_attempts.spend()
    }
}

/// Of a hundred fills at the live edge so many may be attempted twice: an outage does not double its load.
const SECOND_ATTEMPTS_PERCENT: u32 = 10;

/// Saved up for the moment when everything breaks at once.
const SECOND_ATTEMPTS_RESERVE: u32 = 100;

/// A packager that announces shorter parts is still given this long.
const PACE_MIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const PART: Duration = Duration::from_millis(500);

    #[test]
    fn a_second_attempt_begins_after_one_part_duration_unless_parts_usually_take_longer() {
        let patience = Patience::default();
        assert_eq!(patience.before_second_attempt(PART), PART);
        for _ in 0..1_000 {
            patience.arrived(Duration::from_millis(30));
        }
        assert_eq!(patience.before_second_attempt(PART), PART);
        for _ in 0..10_000 {
            patience.arrived(Duration::from_millis(800));
        }
        let slow = patience.before_second_attempt(PART);
        assert!(slow > Duration::from_millis(750), "{slow:?}");
        assert!(slow <= Duration::from_millis(800), "{slow:?}");
    }

    #[test]
    fn parts_that_never_come_do_not_make_it_wait_for_ever() {
        let patience = Patience::default();
        for _ in 0..100_000 {
            patience.arrived(Duration::from_secs(60));
        }
        assert_eq!(patience.before_second_attempt(PART), PART * 4);
    }

    #[test]
    fn second_attempts_are_a_share_of_the_fills() {
        let patience = Patience::default();
        while patience.spend() {}
        for _ in 0..100 {
            patience.began();
        }
        let spent = (0..100).filter(|_| patience.spend()).count();
        assert_eq!(spent, 10);
    }
}
