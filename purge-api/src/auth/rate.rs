//! A token bucket: so many a second, and as many at once.

use std::time::Duration;

use purge_log::UnixMillis;

/// A token bucket that holds as many tokens as come in a second.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    tokens: f64,
    filled_at: UnixMillis,
}

impl Bucket {
    /// Returns a full bucket.
    pub(super) fn full(per_second: u32, now: UnixMillis) -> Self {
        Self {
            per_second: f64::from(per_second.max(1)),
            tokens: f64::from(per_second.max(1)),
            filled_at: now,
        }
    }

    /// Takes a token, or says how long it takes until there is one.
    pub(super) fn take(&mut self, now: UnixMillis) -> Result<(), Duration> {
        let passed = now.since(self.filled_at);
        self.filled_at = self.filled_at.max(now);
        let refilled = passed.as_secs_f64().mul_add(self.per_second, self.tokens);
        self.tokens = refilled.min(self.per_second);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64(
            (1.0 - self.tokens) / self.per_second,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_what_it_holds_then_what_comes_in() {
        let mut bucket = Bucket::full(5, UnixMillis(0));
        for _ in 0..5 {
            assert_eq!(bucket.take(UnixMillis(0)), Ok(()));
        }
        assert_eq!(bucket.take(UnixMillis(0)), Err(Duration::from_millis(200)));
        assert_eq!(bucket.take(UnixMillis(200)), Ok(()));
        assert!(bucket.take(UnixMillis(200)).is_err());
        for _ in 0..5 {
            assert_eq!(bucket.take(UnixMillis(60_000)), Ok(()));
        }
        assert!(bucket.take(UnixMillis(60_000)).is_err());
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_away() {
        let mut bucket = Bucket::full(1, UnixMillis(10_000));
        assert_eq!(bucket.take(UnixMillis(10_000)), Ok(()));
        assert!(bucket.take(UnixMillis(0)).is_err());
        assert!(bucket.take(UnixMillis(10_500)).is_err());
    }
}
