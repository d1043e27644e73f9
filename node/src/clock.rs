//! The one clock: wall time that follows tokio's clock.
//!
//! Everything that needs "now" takes it from here or as a value. Because the wall time is derived from
//! `tokio::time::Instant`, a test that pauses tokio's clock also controls dates, ages and lifetimes.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// A wall clock that moves with tokio's clock.
///
/// A step of the machine's wall clock (NTP) is not followed: ages stay monotonic for the life of the
/// process, which RFC 9111 4.2.3 arithmetic needs more than the exact date.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_wall: SystemTime,
}

impl Clock {
    /// Starts a clock at the machine's present wall time.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the machine's wall clock is read"
    )]
    pub fn system() -> Self {
        Self::starting_at(SystemTime::now())
    }

    /// Starts a clock that reads `wall` now.
    pub fn starting_at(wall: SystemTime) -> Self {
        Self {
            started: Instant::now(),
            started_wall: wall,
        }
    }

    /// Returns the present wall time.
    pub fn now(&self) -> SystemTime {
        self.started_wall + self.started.elapsed()
    }

    /// Returns the time since the clock was started.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the time from the start of the clock to `instant`.
    pub fn uptime_at(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.started)
    }

    /// Returns the wall time of a past or future `instant`.
    pub fn wall_at(&self, instant: Instant) -> SystemTime {
        self.started_wall + instant.saturating_duration_since(self.started)
    }
}
