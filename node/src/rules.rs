//! What an operator says about hosts and paths: which rule a request falls under, and what it asks for.
//!
//! A node reads its rules once, at start. Who calls it: admission looks up the rule of a request, and
//! everything behind it asks that rule; `seawall explain` asks why. Deliberately not here: how rules are
//! written in a file (`config`), and the caching arithmetic that their policies steer (`cache`).

mod dash;
mod fields;
mod live;
mod pattern;
mod policies;
mod preset;

pub use dash::{DashRule, MpdClock};
pub use fields::{QueryRule, ResponseFields, refusal_to_forward, refusal_to_strip};
pub use live::{LiveRule, ViewerUris};
pub use pattern::{HostPattern, PathPattern, PatternError, Scope, Unmatched};
pub use policies::{Group, Policies, targeted_fields};
pub use preset::Preset;

use std::borrow::Cow;
use std::sync::Arc;

use http::header::HeaderName;

use crate::request::hex;

/// The rules of a node. The first one that matches counts, else the fallback.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// In the order of the configuration.
    pub listed: Vec<ScopedRule>,
    /// What holds where no other rule matches.
    pub fallback: Arc<Rule>,
}

/// A rule with the requests it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct ScopedRule {
    /// Which requests it is for.
    pub scope: Scope,
    /// What it says.
    pub rule: Arc<Rule>,
}

impl Rules {
    /// Returns rules of which the only one drops these query parameters everywhere.
    pub fn dropping(query_dropped: Vec<String>) -> Self {
        Self {
            listed: Vec::new(),
            fallback: Arc::new(Rule {
                query: QueryRule::Dropped(query_dropped),
                ..Rule::default()
            }),
        }
    }

    /// Returns the same rules, with `query` where none of them matches.
    #[must_use]
    pub fn with_fallback_query(mut self, query: QueryRule) -> Self {
        Arc::make_mut(&mut self.fallback).query = query;
        self
    }

    /// Returns the rule for a host (in its normal form) and a path (as admitted, encoded).
    pub fn of(&self, host: &str, path: &str) -> &Arc<Rule> {
        if self.listed.is_empty() {
            return &self.fallback;
        }
        let path = path_to_match(path);
        self.listed
            .iter()
            .find(|listed| listed.scope.judge(host, &path).is_none())
            .map_or(&self.fallback, |listed| &listed.rule)
    }

    /// Returns each listed rule up to the one that matches, with what kept it from matching.
    ///
    /// Without a match, all of them. For `seawall explain`.
    pub fn considered(&self, host: &str, path: &str) -> Vec<(&Rule, Option<Unmatched>)> {
        let path = path_to_match(path);
        let mut considered = Vec::new();
        for listed in &self.listed {
            let unmatched = listed.scope.judge(host, &path);
            considered.push((&*listed.rule, unmatched));
            if unmatched.is_none() {
                break;
            }
        }
        considered
    }
}

/// What an operator says about the requests that one rule matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name, as `seawall explain` and events show it.
    pub name: String,
    /// How responses may be kept, by kind of media.
    pub policies: Policies,
    /// Which query parameters belong to the key and are forwarded (CA-02).
    pub query: QueryRule,
    /// Fields of the viewer's request that reach the parent, and by which `Vary` may select.
    pub forwarded_fields: Vec<HeaderName>,
    /// Which fields of responses are kept.
    pub response_fields: ResponseFields,
    /// Whether methods other than GET, HEAD and OPTIONS are relayed; otherwise they get a 405.
    pub relays_methods: bool,
    /// How live playlists are followed.
    pub live: LiveRule,
    /// How live MPDs are shown.
    pub dash: DashRule,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            name: FALLBACK.to_owned(),
            policies: Policies::default(),
            query: QueryRule::default(),
            forwarded_fields: Vec::new(),
            response_fields: ResponseFields::default(),
            relays_methods: false,
            live: LiveRule::default(),
            dash: DashRule::default(),
        }
    }
}

/// The name of the rule that holds where no other does.
pub const FALLBACK: &str = "default";

/// Returns the path in which patterns are looked for: decoded, but for encoded slashes, and with one slash
/// where there are several.
///
/// An origin decodes before it chooses what to answer, and most merge slashes. If `/a//%70rivate/` did not
/// match `/a/private/`, a viewer could choose under which rule the origin's answer is kept.
fn path_to_match(path: &str) -> Cow<'_, str> {
    if !path.contains('%') && !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [high, low, tail @ ..]) => {
                match hex(*high).zip(hex(*low)).map(|(h, l)| h << 4 | l) {
                    // A slash in a name is not one between names.
                    Some(b'/') | None => decoded.extend([b'%', *high, *low]),
                    Some(byte) => decoded.push(byte),
                }
                rest = tail;
            }
            (b'/', _) if decoded.last() == Some(&b'/') => rest = after,
            _ => {
                decoded.push(first);
                rest = after;
            }
        }
    }
    // Admission lets only paths through that decode to UTF-8; others match as they are written.
    String::from_utf8(decoded).map_or(Cow::Borrowed(path), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(listed: &[(&str, &[&str], &[&str])]) -> Rules {
        let listed = listed
            .iter()
            .map(|(name, hosts, paths)| ScopedRule {
                scope: Scope {
                    hosts: hosts
                        .iter()
                        .map(|h| HostPattern::parse(h).unwrap())
                        .collect(),
                    paths: paths
                        .iter()
                        .map(|p| PathPattern::parse(p).unwrap())
                        .collect(),
                },
                rule: Arc::new(Rule {
                    name: (*name).to_owned(),
                    ..Rule::default()
                }),
            })
            .collect();
        Rules {
            listed,
            ..Rules::default()
        }
    }

    #[test]
    fn the_first_rule_that_matches_host_and_path_counts() {
        let rules = rules(&[
            ("clips", &["vod.example"], &["/vod/**/*.mp4"]),
            ("vod", &["vod.example", "*.vod.example"], &["/vod"]),
            ("private", &[], &["/private/"]),
            ("rest of live", &["live.example"], &[]),
        ]);
        for (host, path, expected) in [
            ("vod.example", "/vod/a/b.mp4", "clips"),
            ("vod.example", "/vod/b.mp4", "clips"),
            ("vod.example", "/vod/a/b.m4s", "vod"),
            ("a.vod.example", "/vod/b.mp4", "vod"),
            ("vod.example:8443", "/vod", "vod"),
            ("vod.example", "/vodka/a", "default"),
            ("b.a.vod.example", "/vod/b.mp4", "default"),
            ("other.example", "/private/a", "private"),
            ("other.example", "/%70rivate/a", "private"),
            ("other.example", "/private//a", "private"),
            ("vod.example", "/vod//a//%62.mp4", "clips"),
            ("other.example", "/private%2Fa", "default"),
            ("live.example", "/anything", "rest of live"),
            ("other.example", "/anything", "default"),
        ] {
            assert_eq!(rules.of(host, path).name, expected, "{host}{path}");
        }
    }

    #[test]
    fn it_can_be_told_why_rules_did_not_match() {
        let rules = rules(&[
            ("a", &["a.example"], &[]),
            ("b", &[], &["/b/"]),
            ("c", &[], &["/c/"]),
            ("d", &[], &[]),
        ]);
        let considered: Vec<_> = rules
            .considered("x.example", "/c/1")
            .into_iter()
            .map(|(rule, why)| (rule.name.as_str(), why))
            .collect();
        assert_eq!(
            considered,
            [
                ("a", Some(Unmatched::Host)),
                ("b", Some(Unmatched::Path)),
                ("c", None)
            ]
        );
    }
}
