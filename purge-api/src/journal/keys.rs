//! The idempotency keys of late.
//!
//! Who calls it: the writer, before it gives a draft a place; the journal on NATS, when the servers contradict themselves. They are not kept apart from the entries that
//! they came with, so that a restart cannot lose one without the other.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use purge_log::{Sequence, UnixMillis};

use super::record::Key;

/// Which purge came with which key.
#[derive(Debug)]
pub(crate) struct Keys {
    known: HashMap<Key, Sequence>,
    /// In the order of their purges.
    order: VecDeque<(UnixMillis, Key)>,
    kept_for: Duration,
    keys_max: usize,
}

impl Keys {
    pub(crate) fn new(kept_for: Duration, keys_max: usize) -> Self {
        Self {
            known: HashMap::new(),
            order: VecDeque::new(),
            kept_for,
            keys_max,
        }
    }

    /// Returns the purge that came with `key`.
    pub(crate) fn find(&self, key: &Key) -> Option<Sequence> {
        self.known.get(key).copied()
    }

    /// Remembers a key; the oldest are forgotten if there are too many.
    pub(crate) fn remember(&mut self, key: Key, sequence: Sequence, at: UnixMillis) {
        self.known.insert(key.clone(), sequence);
        self.order.push_back((at, key));
        while self.order.len() > self.keys_max {
            self.forget_oldest();
        }
    }

    /// Forgets all: another log begins.
    pub(crate) fn clear(&mut self) {
        self.known.clear();
        self.order.clear();
    }

    /// Forgets what is too old at `now`, or came with a purge before `tail`.
    pub(crate) fn expire(&mut self, now: UnixMillis, tail: Sequence) {
        while let Some((at, key)) = self.order.front() {
            let is_gone = self.find(key).is_none_or(|sequence| sequence < tail);
            if !is_gone && now.since(*at) <= self.kept_for {
                return;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.known.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Draft;
    use super::*;
    use purge_log::{Mode, PurgeRequest, Target};

    fn key(text: &str) -> Key {
        let draft = Draft {
            accepted_at: UnixMillis(0),
            request: PurgeRequest {
                target: Target::All,
                mode: Mode::Hard,
            },
            dry_run: false,
            by: "origin".to_owned(),
            idempotency_key: Some(text.to_owned()),
            used: None,
        };
        draft.key().unwrap()
    }

    #[test]
    fn keys_are_forgotten_by_age_by_number_and_with_their_purge() {
        let mut keys = Keys::new(Duration::from_millis(100), 2);
        for (at, name) in [(0, "a"), (50, "b"), (60, "c")] {
            keys.remember(key(name), Sequence(at + 1), UnixMillis(at));
        }
        assert_eq!(keys.find(&key("a")), None, "one too many");
        keys.expire(UnixMillis(151), Sequence(1));
        assert_eq!(keys.find(&key("b")), None, "too old");
        assert_eq!(keys.find(&key("c")), Some(Sequence(61)));
        keys.expire(UnixMillis(151), Sequence(62));
        assert_eq!(keys.find(&key("c")), None, "its purge is gone");
    }
}
