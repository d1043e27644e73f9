//! The keys of the purge log that a node follows, and serves on to its children.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::common::address;
use super::parent::{Parent, read_any_parents};
use super::problem::Wrong;
use super::section::{Item, Section};
use super::values::{count, duration, file, text};
use crate::node::PurgeConfig;
use crate::purge::{ChildrenConfig, ChildrenTls, WhenLagging};

/// What a file says about purges: where their log is, and what to do while it cannot be heard.
#[derive(Clone, Debug, PartialEq)]
pub struct Purge {
    /// Where the log is served, in order of preference.
    pub logs: Vec<Parent>,
    /// How old the node's knowledge may be.
    pub lagging_after: Duration,
    /// What a lagging node does.
    pub when_lagging: WhenLagging,
    /// Where nodes below this one follow the log, if anywhere.
    pub children: Option<ChildrenConfig>,
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
            children: self.children,
        }
    }
}

/// Reads `[purge]` and `[[purge_log]]`; a node without a log follows none.
pub(super) fn read_purge(root: &mut Section<'_>) -> Option<Purge> {
    let mut section = root.table("purge");
    let lagging_after = section.value("lagging_after", LAGGING_AFTER, duration(WAITS));
    let when_lagging = section.value("when_lagging", WhenLagging::Serve, when_lagging);
    let children = read_children(section.table("children"));
    let logs = read_any_parents(root, "purge_log", |parent, _| parent);
    if logs.is_empty() {
        if section.is_present() {
            root.incomplete(
                "`purge` has no log",
                "a node learns of purges from the purge API, or from a parent that serves its log on",
                "add [[purge_log]] with its name and url, or take [purge] away",
            );
        }
        return None;
    }
    Some(Purge {
        logs,
        lagging_after,
        when_lagging,
        children,
    })
}

fn read_children(mut section: Section<'_>) -> Option<ChildrenConfig> {
    let listen = if section.is_present() {
        section.required("listen", "\"10.0.0.5:9444\"", address)
    } else {
        section.optional("listen", address)
    };
    let certificate = section.optional("certificate", file);
    let key = section.optional("key", file);
    let client_ca = section.optional("client_ca", file);
    let children_max = section.value("children_max", CHILDREN_MAX, count(1..=100_000));
    let has = |key: &&str| section.has(key);
    let address = listen?;
    if !TLS_KEYS.iter().any(has) {
        if !address.ip().is_loopback() {
            section.wrong(
                "listen",
                "is open to other machines without TLS",
                "add certificate, key and client_ca, which signs the certificates of children",
            );
        }
    } else if let Some(missing) = TLS_KEYS.into_iter().find(|key| !has(key)) {
        let present = TLS_KEYS.into_iter().find(has).unwrap_or("listen");
        let allowed = format!("certificate, key and client_ca together; `{missing}` is missing");
        section.wrong(present, "is not all that TLS needs", &allowed);
    }
    let tls = match (certificate, key, client_ca) {
        (Some(certificate), Some(key), Some(client_ca)) => Some(ChildrenTls {
            certificate,
            key,
            client_ca,
        }),
        (_, _, _) => None,
    };
    Some(ChildrenConfig {
        address,
        tls,
        children_max,
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

/// All of them or none: who is asked for no certificate could be anybody.
const TLS_KEYS: [&str; 3] = ["certificate", "key", "client_ca"];

const CHILDREN_MAX: usize = 1_000;
const LAGGING_AFTER: Duration = Duration::from_secs(5);
const WAITS: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(3600);
