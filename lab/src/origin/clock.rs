//! The origin's clock: wall time and presentation time, both derived from tokio's clock.
//!
//! Because nothing else is read, a test that pauses tokio's clock controls what is published. Media
//! time zero lies `history` before the start, so that a full window exists at once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A clock that counts from media time zero of the first broadcast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OriginClock {
    started: Instant,
    started_wall: SystemTime,
    history: Duration,
}

impl OriginClock {
    /// Starts the clock: it is `wall` now, and `history` was produced before.
    pub(crate) fn start(wall: SystemTime, history: Duration) -> Self {
        Self {
            started: Instant::now(),
            started_wall: wall,
            history,
        }
    }

    /// Returns the time since media time zero.
    pub(crate) fn now(&self) -> Duration {
        self.history + self.started.elapsed()
    }

    /// Returns the time since media time zero at which the origin started.
    pub(crate) fn history(&self) -> Duration {
        self.history
    }

    /// Returns the instant of `at`; the start of the clock for what was before it.
    pub(crate) fn instant(&self, at: Duration) -> Instant {
        self.started + at.saturating_sub(self.history)
    }

    /// Returns the wall time of `at`.
    pub(crate) fn wall(&self, at: Duration) -> SystemTime {
        let zero = self
            .started_wall
            .checked_sub(self.history)
            .unwrap_or(UNIX_EPOCH);
        zero + at
    }
}

/// Reads the machine's wall clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the origin reads the machine's wall clock"
)]
pub(crate) fn machine_wall() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn presentation_time_begins_at_the_history() {
        let wall = UNIX_EPOCH + Duration::from_secs(1000);
        let clock = OriginClock::start(wall, Duration::from_secs(20));
        assert_eq!(clock.now(), Duration::from_secs(20));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(clock.now(), Duration::from_secs(23));
        assert_eq!(clock.wall(clock.now()), wall + Duration::from_secs(3));
        assert_eq!(clock.instant(clock.now()), Instant::now());
    }
}
