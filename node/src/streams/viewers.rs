//! How many viewers a presentation has: distinct viewers in the last half minute, by two sets that
//! take turns.
//!
//! The sets are shared by all workers, and most requests are of viewers who are in them: each worker
//! remembers whom it has put there lately and does not take the lock to do it again.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// The distinct viewers of late.
///
/// Players ask at least once per target duration, so a viewer who has not asked in a window is gone.
/// Exact up to [`VIEWERS_MAX`]; beyond, it says so many.
#[derive(Debug)]
pub(super) struct Viewers {
    /// Which of a process's, so that workers do not take one for another.
    id: u64,
    windows: Mutex<Windows>,
}

impl Default for Viewers {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            windows: Mutex::default(),
        }
    }
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
        let noted = Noted {
            of: self.id,
            window: window_at(uptime),
            viewer,
        };
        if !NOTED.with_borrow_mut(|all| is_new(all, noted)) {
            return;
        }
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
        let number = window_at(uptime);
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

/// What a worker has noted: a viewer of a presentation in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Noted {
    of: u64,
    window: u64,
    viewer: u64,
}

thread_local! {
    /// What this worker noted last in each place; empty before the first.
    static NOTED: RefCell<Vec<Noted>> = const { RefCell::new(Vec::new()) };
}

/// Returns whether `noted` is not what was noted last in its place, and puts it there.
fn is_new(all: &mut Vec<Noted>, noted: Noted) -> bool {
    if all.is_empty() {
        all.resize(NOTED_MAX, Noted::default());
    }
    let place = usize::try_from(noted.viewer % NOTED_MAX as u64).unwrap_or(0);
    std::mem::replace(&mut all[place], noted) != noted
}

fn window_at(uptime: Duration) -> u64 {
    uptime.as_secs() / WINDOW_SECONDS
}

/// Places per worker. A viewer whose place another takes is only noted once more.
const NOTED_MAX: usize = 4096;

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
