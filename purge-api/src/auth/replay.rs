//! What was used before: nonces and `jti`s, until nobody could use them again anyway.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use purge_log::UnixMillis;
use serde::{Deserialize, Serialize};

/// Something that may be used once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// What, behind the key it came with and a slash.
    pub name: String,
    /// Until when it has to be remembered.
    pub until: UnixMillis,
}

/// What was used before a process started, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// What was used and could be used again.
    pub used: Vec<Used>,
    /// All nonces of signatures made since then are in `used`, or are claimed elsewhere; `None`: nobody knows of any.
    pub signatures_since: Option<UnixMillis>,
    /// The same of the `jti`s of tokens.
    pub tokens_since: Option<UnixMillis>,
}

/// What was used before.
///
/// Invariant: both sets have the same names.
#[derive(Debug)]
pub(super) struct Replay {
    names: HashSet<Arc<str>>,
    order: BTreeSet<(UnixMillis, Arc<str>)>,
    names_max: usize,
}

impl Replay {
    pub(super) fn new(names_max: usize) -> Self {
        Self {
            names: HashSet::new(),
            order: BTreeSet::new(),
            names_max,
        }
    }

    /// Returns whether `name` was used before.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Remembers a use, or says when there is room again: nothing is forgotten before its time.
    pub(super) fn remember(&mut self, used: Used, now: UnixMillis) -> Result<(), Duration> {
        while let Some((until, _)) = self.order.first()
            && *until < now
        {
            if let Some((_, name)) = self.order.pop_first() {
                self.names.remove(&name);
            }
        }
        if self.names.len() >= self.names_max {
            let first = self.order.first().map_or(now, |(until, _)| *until);
            return Err(first.since(now) + Duration::from_secs(1));
        }
        let name: Arc<str> = used.name.into();
        self.names.insert(Arc::clone(&name));
        self.order.insert((used.until, name));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, until: u64) -> Used {
        Used {
            name: name.to_owned(),
            until: UnixMillis(until),
        }
    }

    #[test]
    fn nothing_is_forgotten_before_its_time() {
        let mut replay = Replay::new(2);
        replay.remember(seen("a", 5_000), UnixMillis(0)).unwrap();
        replay.remember(seen("b", 1_000), UnixMillis(0)).unwrap();
        let wait = replay.remember(seen("c", 9_000), UnixMillis(1_000));
        assert_eq!(wait, Err(Duration::from_secs(1)), "full, but not forgetful");
        assert!(replay.contains("a") && replay.contains("b"));
        replay
            .remember(seen("c", 9_000), UnixMillis(1_001))
            .unwrap();
        assert!(replay.contains("a") && !replay.contains("b"));
    }
}
