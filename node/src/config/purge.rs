//! The keys of the purge log that a node follows.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::parent::{Parent, read_any_parents};
use super::problem::Wrong;
use super::section::{Item, Section};
use super::values::{duration, text};
use crate::node::PurgeConfig;
use crate::purge::WhenLagging;

/// What a file says about purges: where their log is, and what to do while it cannot be heard.
#[derive(Clone, Debug, PartialEq)]
pub struct Purge {
    /// Where the log is served, in order of preference.
    pub logs: Vec<Parent>,
    /// How old the node's knowledge may be.
    pub lagging_after: Duration,
    /// What a lagging node does.
    pub when_lagging: WhenLagging,
}

impl Purge {
    /// Returns the configuration of a node that follows these logs.
    pub fn into_purge_config(self) -> PurgeConfig {
        PurgeConfig {
            parents: self
                .logs
                .into_iter()
                .map(Parent::into_parent_config)
                .collect(),
            lagging_after: self.lagging_after,
            when_lagging: self.when_lagging,
        }
    }
}

/// Reads `[purge]` and `[[purge_log]]`; a node without a log follows none.
pub(super) fn read_purge(root: &mut Section<'_>) -> Option<Purge> {
    let mut section = root.table("purge");
    let lagging_after = section.value("lagging_after", LAGGING_AFTER, duration(WAITS));
    let when_lagging = section.value("when_lagging", WhenLagging::Serve, when_lagging);
    let logs = read_any_parents(root, "purge_log", |parent, _| parent);
    if logs.is_empty() {
        if section.is_present() {
            root.incomplete(
                "`purge` has no log",
                "a node learns of purges from the purge API",
                "add [[purge_log]] with its name and url, or take [purge] away",
            );
        }
        return None;
    }
    Some(Purge {
        logs,
        lagging_after,
        when_lagging,
    })
}

fn when_lagging(item: &Item<'_>) -> Result<WhenLagging, Wrong> {
    let all = [
        WhenLagging::Serve,
        WhenLagging::Revalidate,
        WhenLagging::Fence,
    ];
    let said = text(item)?;
    all.into_iter()
        .find(|one| said == one.name())
        .ok_or_else(|| {
            Wrong::new(
                "is not a way to serve",
                "\"serve\", \"revalidate\" or \"fence\"",
            )
        })
}

const LAGGING_AFTER: Duration = Duration::from_secs(5);
const WAITS: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(3600);
