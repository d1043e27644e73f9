//! What a request is for, in its normal form: all that follows from its host, its path and its query.
//!
//! In a live stream thousands ask for the same within a second, and none of this depends on who asks. Each worker keeps
//! the targets that it was lately asked for, so that the second viewer costs a comparison of two texts. Who calls it:
//! admission. Deliberately not here: methods and fields, which are of one request.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use cache::CacheKey;
use http::uri::PathAndQuery;
use media::Kind;
use media::hls::PURGED_MARK;
use thread_local::ThreadLocal;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Query, affinity_of, is_mark, key_of, name_of, normal};
use crate::respond::Failure;
use crate::rules::{Rule, Rules};

/// What requests are for, whoever sends them.
pub struct Target {
    /// The host asked for: lower case, without the scheme's default port.
    pub host: String,
    /// The path, byte for byte.
    pub path: String,
    /// The canonical query, without what never belongs to a key (CA-02), with delivery directives.
    pub query: Query,
    /// What the operator says about such requests.
    pub rule: Arc<Rule>,
    pub(super) key: CacheKey,
    pub(super) rendition_key: CacheKey,
    /// The query as viewers send it, with what belongs to no key; it may have secrets in it.
    sent_query: String,
    kind: Kind,
    presentation: u64,
    is_of_purged: bool,
}

impl Target {
    fn of(host: &str, sent: Option<&PathAndQuery>, rules: &Rules) -> Result<Self, Failure> {
        let host = normal::plain_host(host).ok_or(Failure::HostMissing)?;
        let path = sent.map_or("", PathAndQuery::path);
        if !normal::is_plain_path(path) {
            return Err(Failure::PathRefused);
        }
        let sent_query = sent.and_then(PathAndQuery::query).unwrap_or("");
        let rule = Arc::clone(rules.of(&host, path));
        let query = Query::canonical(sent_query, &rule.query);
        let key = key_of(&host, path, query.whole());
        let rendition_key = if query.directives().is_empty() {
            key.clone()
        } else {
            key_of(&host, path, query.without_directives())
        };
        let mut parameters = query.without_directives().split('&');
        Ok(Self {
            is_of_purged: parameters.any(|parameter| parameter == PURGED_MARK),
            presentation: presentation_of(&host, path),
            kind: Kind::from_path(path),
            path: path.to_owned(),
            sent_query: sent_query.to_owned(),
            host,
            query,
            rule,
            key,
            rendition_key,
        })
    }

    /// Returns the query as viewers send it.
    pub(crate) fn sent_query(&self) -> &str {
        &self.sent_query
    }

    /// Returns what its path says it is, where no playlist has said otherwise (CA-01).
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns which presentation it belongs to, as [`presentation_of`].
    pub(crate) fn presentation(&self) -> u64 {
        self.presentation
    }

    /// Returns whether it is what stands in a playlist for something that was purged.
    pub(crate) fn is_of_purged(&self) -> bool {
        self.is_of_purged
    }

    /// Returns what belongs together and should come from one parent (CA-08).
    pub fn affinity(&self) -> String {
        affinity_of(&self.host, &self.path)
    }

    /// Returns the parameters that neither belong to the key nor are forwarded, as they were sent.
    pub(crate) fn dropped_parameters(&self) -> impl Iterator<Item = &str> {
        let rule = &self.rule.query;
        self.sent_query.split('&').filter(|parameter| {
            let name = name_of(parameter);
            !parameter.is_empty() && !rule.keeps(name) && !is_mark(name)
        })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What was sent stays out of logs: the key has no secrets.
        f.debug_struct("Target")
            .field("key", &self.key)
            .field("rule", &self.rule.name)
            .finish_non_exhaustive()
    }
}

/// The targets that each worker of a node was lately asked for.
#[derive(Debug, Default)]
pub struct Targets {
    /// Of each worker its own: nothing is shared, so nothing is waited for.
    workers: ThreadLocal<RefCell<Kept>>,
}

/// The targets that one worker keeps; which of those that share a slot depends on who came last.
#[derive(Debug, Default)]
struct Kept {
    slots: Vec<Option<Slot>>,
}

/// A target with the texts that it was made from.
struct Slot {
    host: Box<str>,
    sent: Box<str>,
    target: Arc<Target>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}

impl Targets {
    /// Returns the target that a host and a path with query name, both as they were sent, under `rules`.
    ///
    /// All calls have to be with the same rules.
    ///
    /// # Errors
    ///
    /// A malformed host, or a path that servers could read differently (B58 to B61).
    pub(super) fn resolve(
        &self,
        host: &str,
        sent: Option<&PathAndQuery>,
        rules: &Rules,
    ) -> Result<Arc<Target>, Failure> {
        let text = sent.map_or("", PathAndQuery::as_str);
        let mut kept = self.workers.get_or_default().borrow_mut();
        let slot = kept.slot(host, text);
        if let Some(slot) = slot
            && *slot.sent == *text
            && *slot.host == *host
        {
            return Ok(Arc::clone(&slot.target));
        }
        let target = Arc::new(Target::of(host, sent, rules)?);
        // What is dropped from a query differs from viewer to viewer (CMCD, tokens): nobody else will ask for it. And
        // what a worker keeps has a limit.
        let is_anybodys = target.dropped_parameters().next().is_none();
        if is_anybodys && host.len() + text.len() <= SENT_BYTES_MAX {
            *slot = Some(Slot {
                host: host.into(),
                sent: text.into(),
                target: Arc::clone(&target),
            });
        }
        Ok(target)
    }
}

impl Kept {
    fn slot(&mut self, host: &str, sent: &str) -> &mut Option<Slot> {
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        let hash = xxh3_64_with_seed(sent.as_bytes(), xxh3_64(host.as_bytes()));
        let index = usize::try_from(hash % SLOTS as u64).unwrap_or(0);
        &mut self.slots[index]
    }
}

/// Returns a number for the presentation that a path belongs to, in the way of [`affinity_of`].
pub(crate) fn presentation_of(host: &str, path: &str) -> u64 {
    xxh3_64_with_seed(first_segment(path).as_bytes(), xxh3_64(host.as_bytes()))
}

/// Returns the first segment of a path, or nothing for what is at the root.
pub(crate) fn first_segment(path: &str) -> &str {
    let path = path.trim_start_matches('/');
    path.split_once('/').map_or("", |(first, _)| first)
}

/// Targets that a worker keeps at most.
const SLOTS: usize = 512;

/// The longest that are kept: with their normal forms some two kilobytes each, and a megabyte together.
const SENT_BYTES_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(targets: &Targets, host: &str, sent: &str, rules: &Rules) -> Arc<Target> {
        let sent = PathAndQuery::try_from(sent).unwrap();
        targets.resolve(host, Some(&sent), rules).unwrap()
    }

    #[test]
    fn a_target_is_made_once_for_all_who_ask_for_it() {
        let (targets, rules) = (Targets::default(), Rules::default());
        let first = resolve(&targets, "Live.Example:443", "/a/1.m4s?b=1", &rules);
        let second = resolve(&targets, "Live.Example:443", "/a/1.m4s?b=1", &rules);
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(first.host, "live.example");
    }

    #[test]
    fn texts_that_differ_in_one_byte_or_in_where_they_end_are_different_targets() {
        let (targets, rules) = (Targets::default(), Rules::default());
        let sent = [
            ("a", "/b"),
            ("a", "/B"),
            ("a", "/b?"),
            ("a", "/b?c"),
            ("a", "/bc"),
            ("ab", "/c"),
            ("a:80", "/b"),
        ];
        // Each pair in both orders, whether or not they share a slot.
        for (one, other) in sent
            .iter()
            .flat_map(|one| sent.iter().map(move |o| (one, o)))
        {
            let first = resolve(&targets, one.0, one.1, &rules);
            let second = resolve(&targets, other.0, other.1, &rules);
            assert_eq!(
                Arc::ptr_eq(&first, &second),
                one == other,
                "{one:?} {other:?}"
            );
            assert_eq!(
                second.path,
                other.1.trim_end_matches("?c").trim_end_matches('?')
            );
        }
    }

    #[test]
    fn a_slot_that_several_share_always_gives_what_was_asked_for() {
        let (targets, rules) = (Targets::default(), Rules::default());
        for _ in 0..2 {
            for number in 0..3 * SLOTS {
                let path = format!("/live/{number}.m4s");
                assert_eq!(resolve(&targets, "x", &path, &rules).path, path);
            }
        }
    }

    #[test]
    fn what_is_refused_is_refused_each_time() {
        let (targets, rules) = (Targets::default(), Rules::default());
        let dots = PathAndQuery::from_static("/a/../b");
        for _ in 0..2 {
            let refused = targets.resolve("x", Some(&dots), &rules).unwrap_err();
            assert_eq!(refused, Failure::PathRefused);
            let refused = targets.resolve("x/y", Some(&dots), &rules).unwrap_err();
            assert_eq!(refused, Failure::HostMissing);
        }
    }

    #[test]
    fn long_targets_and_those_of_one_viewer_are_made_anew() {
        let targets = Targets::default();
        let rules = Rules::dropping(vec!["CMCD".to_owned()]);
        let long = format!("/{}", "a".repeat(SENT_BYTES_MAX));
        for sent in [long.as_str(), "/a?CMCD=bl%3D400&b=1"] {
            let first = resolve(&targets, "x", sent, &rules);
            let second = resolve(&targets, "x", sent, &rules);
            assert!(!Arc::ptr_eq(&first, &second), "{sent}");
            assert_eq!(first.key, second.key);
        }
    }

    #[test]
    fn what_was_sent_is_not_shown() {
        let targets = Targets::default();
        let rules = Rules::dropping(vec!["token".to_owned()]);
        let target = resolve(&targets, "x", "/a?token=s3cret", &rules);
        assert!(!format!("{target:?}{targets:?}").contains("s3cret"));
        assert_eq!(target.sent_query(), "token=s3cret");
    }
}
