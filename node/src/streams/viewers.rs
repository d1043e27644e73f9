//! How many viewers a presentation has: distinct viewers in the last half minute, by two sets that
//! take turns.

use std::collections::HashSet;
use std::time::Duration;

use parking_lot::Mutex;

/// The distinct viewers of late.
///
/// Players ask at least once per target duration, so a viewer who has not asked in a window is gone.
/// Exact up to [`VIEWERS_MAX`]; beyond, it says so many.
#[derive(Debug, Default)]
pub(super) struct Viewers {
    windows: Mutex<Windows>,
}

#[derive(Debug, Default)]
struct Windows {
    number: u64,
    current: HashSet<u64>,
    last: HashSet<u64>,
}

impl Viewers {
    /// Notes that a viewer, known by a hash, was there at `uptime`.
    pub(super) fn seen(&self, viewer: u64, uptime: Duration) {
        let mut windows = self.windows.lock();
        windows.turn(uptime);
        if windows.current.len() < VIEWERS_MAX {
            windows.current.insert(viewer);
        }
    }

    /// Returns how many viewers there are at `uptime`.
    pub(super) fn count(&self, uptime: Duration) -> usize {
        let mut windows = self.windows.lock();
        windows.turn(uptime);
        windows.current.len().max(windows.last.len())
    }
}

impl Windows {
    fn turn(&mut self, uptime: Duration) {
        let number = uptime.as_secs() / WINDOW_SECONDS;
        match number.saturating_sub(self.number) {
            0 => return,
            1 => self.last = std::mem::take(&mut self.current),
            _ => {
                self.last.clear();
                self.current.clear();
            }
        }
        self.number = number;
    }
}

/// Longer than the slowest player's pause between requests: a target duration of ten seconds.
const WINDOW_SECONDS: u64 = 15;

/// Per presentation: at eight bytes each, and a set's slack, some 4 MB.
const VIEWERS_MAX: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_counts_once_and_until_a_window_has_passed_without_it() {
        let at = Duration::from_secs;
        let viewers = Viewers::default();
        for second in 0..15 {
            viewers.seen(1, at(second));
            viewers.seen(2, at(second));
        }
        assert_eq!(viewers.count(at(14)), 2);
        viewers.seen(1, at(16));
        assert_eq!(viewers.count(at(16)), 2, "the window has just begun");
        assert_eq!(viewers.count(at(31)), 1);
        assert_eq!(viewers.count(at(46)), 0);
        assert_eq!(viewers.count(at(1000)), 0);
    }
}
