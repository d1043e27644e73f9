//! The fence that a fill passes to be stored: nothing made before a purge is stored after it.
//!
//! A fill marks the fence when it begins. A purge is raised on it before anything is removed from
//! the store. When the fill has ended, the store asks the fence, in the same critical section in
//! which removals happen ([`Store::insert_if`](crate::Store::insert_if)):
//!
//! ```text
//! fill    mark ───── request, body ─────▶ insert_if(lets_pass) ─▶ refused if a purge meant it
//! purge          raise ─▶ unlink from collapse ─▶ remove from store
//! ```
//!
//! `node` owns one fence and says what a target covers. Deliberately not here: targets and the log
//! they come from; this file only remembers them, and only as many as fit.

use std::collections::VecDeque;

use crate::sync::Mutex;

/// The purges of late, in order, with what they mean.
///
/// Invariant: a fill that began before a purge passes only if the purge is remembered and does not
/// mean it. A purge that is forgotten means everything.
#[derive(Debug)]
pub struct Fence<T> {
    state: Mutex<State<T>>,
    remembered_max: usize,
}

#[derive(Debug)]
struct State<T> {
    /// The number of purges raised so far.
    raised: u64,
    /// The last of them.
    remembered: VecDeque<T>,
}

/// A moment between two purges: all that were raised before lie behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

impl<T> Fence<T> {
    /// Returns a fence that remembers `remembered_max` purges.
    ///
    /// A fill during which more purges are raised is not stored, whatever they mean: choose more
    /// than come during the longest fill.
    pub const fn new(remembered_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                raised: 0,
                remembered: VecDeque::new(),
            }),
            remembered_max,
        }
    }

    /// Returns the mark of a fill that begins now: before its request is sent.
    pub fn mark(&self) -> Mark {
        Mark(self.state.lock().raised)
    }

    /// Raises a purge. Call it before anything is removed, so that nothing slips in behind.
    pub fn raise(&self, target: T) {
        let mut state = self.state.lock();
        state.raised += 1;
        state.remembered.push_back(target);
        let forgotten = if state.remembered.len() > self.remembered_max {
            state.remembered.pop_front()
        } else {
            None
        };
        drop(state);
        drop(forgotten);
    }

    /// Returns whether what was begun at `mark` may be stored or joined now.
    ///
    /// `is_meant` says whether a purge means it; it runs under the lock, so keep it short.
    pub fn lets_pass(&self, mark: Mark, is_meant: impl Fn(&T) -> bool) -> bool {
        let state = self.state.lock();
        let since = state.raised.saturating_sub(mark.0);
        let remembered = state.remembered.len() as u64;
        since <= remembered
            && state
                .remembered
                .iter()
                .skip(usize::try_from(remembered - since).unwrap_or(usize::MAX))
                .all(|target| !is_meant(target))
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn invariant_5_a_fill_passes_unless_a_purge_since_it_began_means_it() {
        let fence = Fence::new(10);
        fence.raise("a");
        let mark = fence.mark();
        let passes = |key: &str| fence.lets_pass(mark, |target| *target == key);
        assert!(passes("a"), "the purge came before");
        fence.raise("b");
        assert!(passes("a"));
        assert!(!passes("b"));
        assert!(fence.lets_pass(fence.mark(), |target| *target == "b"));
        fence.raise("b");
        assert!(!passes("b"), "twice is harmless");
    }

    #[test]
    fn a_purge_that_is_forgotten_means_everything() {
        let fence = Fence::new(3);
        let mark = fence.mark();
        for _ in 0..3 {
            fence.raise("other");
            assert!(fence.lets_pass(mark, |target| *target == "mine"));
        }
        fence.raise("other");
        assert!(!fence.lets_pass(mark, |target| *target == "mine"));
        assert!(fence.lets_pass(fence.mark(), |target| *target == "mine"));
        assert_eq!(fence.state.lock().remembered.len(), 3);
    }
}

#[cfg(all(test, shuttle))]
mod shuttle_tests {
    use std::sync::Arc;

    use shuttle::{check_random, thread};

    use super::*;

    /// The critical section of a key, which the store gives; what is stored, and in which world.
    type Stored = Mutex<Option<&'static str>>;

    #[test]
    fn shuttle_nothing_made_before_a_purge_is_stored_after_it() {
        check_random(
            || {
                let fence = Arc::new(Fence::new(4));
                let stored: Arc<Stored> = Arc::new(Mutex::new(None));
                // What the origin would answer; it changes before the operator purges.
                let origin = Arc::new(Mutex::new("old"));
                let fill = {
                    let (fence, stored, origin) = (fence.clone(), stored.clone(), origin.clone());
                    thread::spawn(move || {
                        let mark = fence.mark();
                        let body = *origin.lock();
                        let mut stored = stored.lock();
                        if fence.lets_pass(mark, |()| true) {
                            *stored = Some(body);
                        }
                    })
                };
                *origin.lock() = "new";
                fence.raise(());
                *stored.lock() = None;
                fill.join().unwrap();
                assert_ne!(*stored.lock(), Some("old"));
            },
            3_000,
        );
    }
}
