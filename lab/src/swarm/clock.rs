//! The one place of the swarm that reads the wall clock.
//!
//! Every interval is measured with tokio's monotonic clock. Wall time is needed for one thing: an
//! origin says when it published a part in Unix time, and added latency is the time from there to
//! the last byte. Nothing else is here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Wall time derived from one reading of the system clock and monotonic time since then.
///
/// A step of the system clock during a run therefore shifts nothing; runs are minutes long, so
/// drift does not matter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WallClock {
    unix_at_base: Duration,
    base: Instant,
}

impl WallClock {
    /// Reads the system clock once.
    #[expect(
        clippy::disallowed_methods,
        reason = "the swarm's one reading of the wall clock"
    )]
    pub(crate) fn read() -> Self {
        let unix_at_base = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            unix_at_base,
            base: Instant::now(),
        }
    }

    /// Returns the Unix time of `at`, in microseconds.
    pub(crate) fn unix_micros(&self, at: Instant) -> i64 {
        let since = at.saturating_duration_since(self.base);
        i64::try_from((self.unix_at_base + since).as_micros()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wall_time_advances_with_the_monotonic_clock() {
        let clock = WallClock::read();
        let before = clock.unix_micros(Instant::now());
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(clock.unix_micros(Instant::now()) - before, 1_500_000);
    }
}
