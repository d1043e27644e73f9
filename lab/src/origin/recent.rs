//! A small memory of what was made last: playlists and parts that many clients ask for at once.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// The last few values made, found by key; the oldest leaves when a new one comes.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    limit: usize,
    kept: Mutex<VecDeque<(K, V)>>,
}

impl<K: PartialEq, V: Clone> Recent<K, V> {
    /// Creates a memory of at most `limit` values.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: Mutex::new(VecDeque::with_capacity(limit)),
        }
    }

    /// Returns the value for `key`, making it if it is not remembered.
    ///
    /// Two that ask at the same time may both make it; the values are equal.
    pub(crate) fn get_or_make(&self, key: K, make: impl FnOnce() -> V) -> V {
        if let Some((_, value)) = self.kept.lock().iter().rev().find(|(k, _)| *k == key) {
            return value.clone();
        }
        let value = make();
        let mut kept = self.kept.lock();
        if kept.len() == self.limit {
            kept.pop_front();
        }
        kept.push_back((key, value.clone()));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remembered_value_is_not_made_again_until_it_is_pushed_out() {
        let recent = Recent::new(2);
        let made = std::cell::Cell::new(0);
        let get = |key: u32| {
            recent.get_or_make(key, || {
                made.set(made.get() + 1);
                key * 10
            })
        };
        assert_eq!((get(1), get(1), made.get()), (10, 10, 1));
        assert_eq!((get(2), get(3), made.get()), (20, 30, 3));
        assert_eq!((get(1), made.get()), (10, 4));
    }
}
