//! What ends when a stream begins again under names that it has used before.
//!
//! A restarted encoder numbers from zero: its `seg1.m4s` is another than the one that is stored for two
//! weeks (FM-14). So with the first version of a new epoch everything stored in the directories of its
//! media goes, fills that began before are cut off, and what they bring is not stored any more:
//!
//! ```text
//! new epoch ─► raise the fence ─► unlink running fills ─► remove from the store ─► show the version
//! ```
//!
//! Who calls it: a chain that publishes, and fills that are about to store. Deliberately not here: how a
//! new epoch is told from a parent that lags (`media::hls::Rendition`).

use std::time::SystemTime;

use cache::{CacheKey, Fence, Mark};

use crate::node::Node;

/// The epochs that began of late.
#[derive(Debug)]
pub(crate) struct Epochs {
    fence: Fence<Vec<String>>,
}

impl Default for Epochs {
    fn default() -> Self {
        Self {
            fence: Fence::new(REMEMBERED_MAX),
        }
    }
}

impl Epochs {
    /// Returns the mark of a fill that begins now.
    pub(crate) fn mark(&self) -> Mark {
        self.fence.mark()
    }

    /// Returns whether what was begun at `mark` under `key` is of an epoch that still runs.
    pub(crate) fn lets_pass(&self, mark: Mark, key: &CacheKey) -> bool {
        let directory = directory_of(key);
        self.fence.lets_pass(mark, |directories| {
            directories.iter().any(|ended| ended == directory)
        })
    }
}

/// Makes everything unreachable that was stored, or is being brought, beside `children`.
pub(super) fn begin(node: &Node, children: impl Iterator<Item = CacheKey>) {
    end(node, children, None);
}

/// Makes unreachable what was stored beside `children` after `since`, or is being brought: it may be of the epoch that
/// begins, under the names of the one that ends.
pub(super) fn turn(node: &Node, children: impl Iterator<Item = CacheKey>, since: SystemTime) {
    end(node, children, Some(since));
}

fn end(node: &Node, children: impl Iterator<Item = CacheKey>, since: Option<SystemTime>) {
    let mut directories: Vec<String> = children.map(|key| directory_of(&key).to_owned()).collect();
    directories.sort_unstable();
    directories.dedup();
    let is_ended = |key: &CacheKey| {
        let directory = directory_of(key);
        directories.iter().any(|ended| ended == directory)
    };
    node.hub.epochs.fence.raise(directories.clone());
    drop(node.fills.unlink_where(|key, _| is_ended(key)));
    let removed = node.store.remove_where(|key, stored| {
        is_ended(key) && since.is_none_or(|since| stored.response_time > since)
    });
    tracing::info!(?directories, removed, "a stream began again");
}

/// Returns the URL up to the last slash of its path.
fn directory_of(key: &CacheKey) -> &str {
    // The key of a slice, or of a fill with fields of its own, continues on another line.
    let path = key.as_str().split(['?', '\n']).next().unwrap_or("");
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// More epochs than begin while one fill lasts.
const REMEMBERED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_key_is_its_path_without_the_last_name() {
        for (key, directory) in [
            ("//live.example/a/v0/s1.m4s", "//live.example/a/v0"),
            ("//live.example/a/s1.m4s?t=/x/y", "//live.example/a"),
            ("//live.example/s1.m4s", "//live.example"),
            (
                "//live.example/a/s1.m4s\naccept:text/html",
                "//live.example/a",
            ),
        ] {
            assert_eq!(directory_of(&CacheKey::from(key)), directory, "{key}");
        }
    }

    #[test]
    fn fm_14_a_fill_that_began_in_the_epoch_before_is_not_stored() {
        let epochs = Epochs::default();
        let key = CacheKey::from("//live.example/a/s1.m4s");
        let before = epochs.mark();
        assert!(epochs.lets_pass(before, &key));
        epochs.fence.raise(vec!["//live.example/a".to_owned()]);
        assert!(!epochs.lets_pass(before, &key));
        assert!(epochs.lets_pass(before, &CacheKey::from("//live.example/b/s1.m4s")));
        assert!(epochs.lets_pass(epochs.mark(), &key));
    }
}
