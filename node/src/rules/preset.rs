//! What is known of origins by name, so that an operator need not find it out.
//!
//! A preset is a place to begin: it changes what a rule begins with, and every key of the rule counts more.
//! `seawall check` shows what came of it, key by key; docs/configuration.md says why. Who calls it: `config`.
//! Deliberately not here: credentials, which are the origin's (`[[origin]]`).

use super::fields::QueryRule;
use super::policies::Group;
use super::{LiveRule, Rule, ViewerUris};

/// An origin that is known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Any origin: what holds without a preset.
    Generic,
    /// Apple's reference origin and segmenters: to the letter of the specification.
    Apple,
    /// MediaMTX behind a CDN, with `hlsCDNSecret`.
    Mediamtx,
    /// AWS Elemental MediaPackage v2.
    Mediapackage,
    /// OvenMediaEngine, with `OriginMode`.
    Ovenmediaengine,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 5] = [
        Self::Generic,
        Self::Apple,
        Self::Mediamtx,
        Self::Mediapackage,
        Self::Ovenmediaengine,
    ];

    /// Returns the name used in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Apple => "apple",
            Self::Mediamtx => "mediamtx",
            Self::Mediapackage => "mediapackage",
            Self::Ovenmediaengine => "ovenmediaengine",
        }
    }

    /// Returns what a rule begins with that would otherwise begin with `rule`.
    pub fn apply(self, rule: Rule) -> Rule {
        let rule = Rule {
            live: LiveRule {
                preset: Some(self),
                ..rule.live
            },
            ..rule
        };
        match self {
            Self::Generic => rule,
            Self::Apple => apple(rule),
            Self::Mediamtx => mediamtx(rule),
            Self::Mediapackage => mediapackage(rule),
            Self::Ovenmediaengine => ovenmediaengine(rule),
        }
    }
}

/// It knows no sessions and no viewers: a 404 is one, and every URI is everybody's.
fn apple(rule: Rule) -> Rule {
    Rule {
        live: LiveRule {
            reopens: false,
            viewer_uris: ViewerUris::Ignore,
            ..rule.live
        },
        ..rule
    }
}

/// It writes every parameter of a playlist's query into every URI of the playlist, so one that reaches it
/// gives each part as many keys as there are values. The secret of a CDN is a field.
fn mediamtx(rule: Rule) -> Rule {
    Rule {
        query: kept(&[]),
        live: LiveRule {
            reopens: true,
            ..rule.live
        },
        ..rule
    }
}

/// It names the parameters that it reads; all others are to be neither forwarded nor in the key.
fn mediapackage(rule: Rule) -> Rule {
    Rule {
        query: kept(&[
            "aws.drmsettings",
            "aws.manifestfilter",
            "aws.manifestsettings",
            "end",
            "start",
            "time_delay",
        ]),
        ..rule
    }
}

/// It forbids to store the very playlists that have to be shared, whoever asks (CA-09), and without
/// `OriginMode` it writes a session into every URI.
fn ovenmediaengine(rule: Rule) -> Rule {
    let policies = rule.policies.with(|group, policy| {
        policy.ignore_cache_control |= group == Group::Playlist;
    });
    let mut viewer_parameters = rule.live.viewer_parameters;
    if !viewer_parameters.iter().any(|name| name == "session") {
        viewer_parameters.push("session".to_owned());
    }
    Rule {
        policies,
        live: LiveRule {
            viewer_uris: ViewerUris::Refuse,
            viewer_parameters,
            ..rule.live
        },
        ..rule
    }
}

fn kept(names: &[&str]) -> QueryRule {
    QueryRule::Kept(names.iter().map(|name| (*name).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_changes_only_what_it_is_for() {
        let plain = Rule::default();
        for preset in Preset::ALL {
            let rule = preset.apply(plain.clone());
            assert_eq!(rule.live.preset, Some(preset));
            assert_eq!(rule.forwarded_fields, plain.forwarded_fields);
            assert_eq!(rule.relays_methods, plain.relays_methods);
            for group in Group::ALL {
                let ignores = rule.policies.of_group(group).ignore_cache_control;
                let is_expected = preset == Preset::Ovenmediaengine && group == Group::Playlist;
                assert_eq!(ignores, is_expected, "{preset:?} {group:?}");
            }
        }
        let generic = Preset::Generic.apply(Rule::default());
        assert_eq!(generic.query, plain.query);
    }
}
