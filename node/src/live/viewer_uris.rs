//! Playlists whose URIs are made for one viewer: found by comparing what comes anyway (CA-10, FM-10).
//!
//! ```text
//! a playlist ─► judge(its URIs against those of the answer before) ─┬─ Shared
//!                                                                   ├─ Suspicious   shared, and reported
//!                                                                   └─ OfOneViewer  each viewer gets its own
//! ```
//!
//! Two answers for one key are of the same question, so their URIs should be the same. If all of them differ in
//! the same place, and within each answer that place has one value, it is a token. Whose, its name or
//! the viewers say; docs/decisions/0010 has the reasons. Nothing is asked of the origin for this.
//!
//! Who calls it: fills and chains, with each playlist that they read, before anybody is given it. Deliberately
//! not here: giving each viewer its own (`cached`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cache::CacheKey;
use media::hls::{MediaPlaylist, MultivariantPlaylist, Playlist};
use moka::sync::Cache;

use super::rendition::Address;
use crate::node::Node;
use crate::rules::{LiveRule, ViewerUris};
use crate::telemetry::{Event, Misbehavior};

/// What was seen of the URIs of playlists.
#[derive(Debug)]
pub(crate) struct SeenUris {
    samples: Cache<CacheKey, Arc<Sample>>,
    /// Playlists that are of one viewer; judged anew from time to time.
    refused: Cache<CacheKey, ()>,
    /// What was told of late.
    told: Cache<CacheKey, ()>,
}

impl Default for SeenUris {
    fn default() -> Self {
        let weigher = |_: &CacheKey, sample: &Arc<Sample>| sample.bytes();
        Self {
            samples: Cache::builder()
                .weigher(weigher)
                .max_capacity(SAMPLES_BYTES_MAX)
                .build(),
            refused: Cache::builder()
                .max_capacity(REFUSED_MAX)
                .time_to_live(REFUSED_FOR)
                .build(),
            told: Cache::builder()
                .max_capacity(REFUSED_MAX)
                .time_to_live(TOLD_EVERY)
                .build(),
        }
    }
}

/// Whom a playlist is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// All who ask.
    Everybody,
    /// Whoever it was fetched for.
    OneViewer,
}

/// Judges a playlist that a fill brought, whose collapse key says what the origin can tell viewers apart by.
pub(crate) fn judge(
    node: &Node,
    address: &Address,
    collapse_key: &CacheKey,
    playlist: &Playlist,
) -> Audience {
    let asked_by = asked_by(collapse_key);
    let sample = match playlist {
        Playlist::Multivariant(multivariant) => Sample::of_multivariant(multivariant, asked_by),
        Playlist::Media(media) => Sample::of_media(media, asked_by),
    };
    judge_sample(node, address, sample)
}

/// Judges a version that a chain brought; the chain's requests are of no viewer.
pub(super) fn judge_version(node: &Node, address: &Address, version: &MediaPlaylist) -> Audience {
    judge_sample(node, address, Sample::of_media(version, String::new()))
}

/// Returns the viewer's fields among those that the parent gets, one per line.
fn asked_by(collapse_key: &CacheKey) -> String {
    let mut lines = collapse_key.as_str().split('\n');
    lines.next();
    // A fill that nobody joins has a number on a line of its own.
    let fields = lines.filter(|line| line.contains(':'));
    fields.collect::<Vec<_>>().join("\n")
}

fn judge_sample(node: &Node, address: &Address, now: Sample) -> Audience {
    let rule = &node.rules.of(&address.host, &address.path).live;
    if rule.viewer_uris == ViewerUris::Ignore {
        return Audience::Everybody;
    }
    let seen = &node.hub.seen_uris;
    let key = address.key();
    let now = Arc::new(now);
    let before = seen.samples.get(&key);
    let verdict = match &before {
        Some(before) => compare(before, &now, rule),
        None => at_first_sight(address, &now, rule),
    };
    seen.samples.insert(key.clone(), now);
    let is_refused = |key| rule.viewer_uris == ViewerUris::Refuse && seen.refused.contains_key(key);
    match verdict {
        Verdict::Shared if is_refused(&key) => Audience::OneViewer,
        Verdict::Shared => Audience::Everybody,
        Verdict::Suspicious(place) => {
            tell(node, address, Misbehavior::UrisSuspicious, &place);
            if is_refused(&key) {
                Audience::OneViewer
            } else {
                Audience::Everybody
            }
        }
        Verdict::OfOneViewer(place) => {
            tell(node, address, Misbehavior::UrisOfOneViewer, &place);
            if rule.viewer_uris == ViewerUris::Refuse {
                seen.refused.insert(key, ());
                Audience::OneViewer
            } else {
                Audience::Everybody
            }
        }
    }
}

/// Counts it, and logs an example with the evidence from time to time. Values are secrets.
fn tell(node: &Node, address: &Address, what: Misbehavior, place: &Place) {
    node.telemetry.record(Event::OriginMisbehaved {
        rule: what,
        host: &address.host,
        path: &address.path,
        evidence: format_args!("{place}"),
    });
    let key = address.key();
    let told = &node.hub.seen_uris.told;
    if !told.contains_key(&key) {
        told.insert(key, ());
        let (host, path) = (&address.host, &address.path);
        let found = match what {
            Misbehavior::UrisOfOneViewer => "the URIs of a playlist are made for one viewer",
            _ => "the URIs of a playlist may be made for one viewer",
        };
        tracing::warn!(%host, %path, evidence = %place, "{found}");
    }
}

/// What the comparison of two answers says.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Shared,
    Suspicious(Place),
    OfOneViewer(Place),
}

/// Where in its URIs a playlist has a token.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The value of the query parameter of this name.
    Parameter(String),
    /// A segment of the path, counted from zero, with the name before it.
    Segment(usize, String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parameter(name) => write!(f, "parameter {name:?}"),
            Self::Segment(index, before) => write!(f, "path segment {index} after {before:?}"),
        }
    }
}

/// Some URIs of one answer.
#[derive(Debug)]
struct Sample {
    /// What the origin can tell viewers apart by.
    asked_by: String,
    /// What each is for, a Media Sequence Number or a place in the list, and the URI.
    uris: Vec<(u64, String)>,
}

impl Sample {
    fn of_multivariant(playlist: &MultivariantPlaylist, asked_by: String) -> Self {
        let children = (0..).zip(playlist.media_playlists());
        Self::of(children.map(|(place, child)| (place, child.uri)), asked_by)
    }

    fn of_media(playlist: &MediaPlaylist, asked_by: String) -> Self {
        // The newest are in the next version, too.
        let segments = playlist.segments().rev();
        Self::of(
            segments.map(|segment| (segment.msn.0, segment.uri)),
            asked_by,
        )
    }

    fn of<'a>(uris: impl Iterator<Item = (u64, &'a str)>, asked_by: String) -> Self {
        let uris = uris
            .take(URIS_MAX)
            .filter(|(_, uri)| uri.len() <= URI_BYTES_MAX)
            .map(|(place, uri)| (place, uri.to_owned()))
            .collect();
        Self { asked_by, uris }
    }

    fn bytes(&self) -> u32 {
        let uris: usize = self.uris.iter().map(|(_, uri)| uri.len() + 32).sum();
        u32::try_from(uris + self.asked_by.len() + 64).unwrap_or(u32::MAX)
    }
}

/// A first answer says nothing of others; a name that means viewers is worth a word.
fn at_first_sight(address: &Address, now: &Sample, rule: &LiveRule) -> Verdict {
    let has = |query: &str, name: &str| {
        let mut parameters = query.split('&').map(|p| p.split('=').next().unwrap_or(p));
        parameters.any(|parameter| parameter == name)
    };
    let named = rule.viewer_parameters.iter().find(|name| {
        // Who asked with it gets it back; others have keys of their own.
        !has(&address.query, name)
            && now.uris.iter().any(|(_, uri)| {
                uri.split_once('?')
                    .is_some_and(|(_, query)| has(query, name))
            })
    });
    named.map_or(Verdict::Shared, |name| {
        Verdict::Suspicious(Place::Parameter(name.clone()))
    })
}

fn compare(before: &Sample, now: &Sample, rule: &LiveRule) -> Verdict {
    let Some(difference) = difference(before, now) else {
        return Verdict::Shared;
    };
    if let Some(place) = difference.places.iter().find(|place| is_named(place, rule)) {
        return Verdict::OfOneViewer(place.clone());
    }
    let Some(place) = difference.places.first() else {
        return Verdict::Shared;
    };
    if difference.is_renewal {
        return Verdict::Shared;
    }
    // What the origin cannot tell apart it cannot treat as two viewers.
    if before.asked_by != now.asked_by {
        return Verdict::OfOneViewer(place.clone());
    }
    Verdict::Suspicious(place.clone())
}

fn is_named(place: &Place, rule: &LiveRule) -> bool {
    let name = match place {
        Place::Parameter(name) | Place::Segment(_, name) => name,
    };
    rule.viewer_parameters.iter().any(|viewer| viewer == name)
}

/// How two answers differ.
#[derive(Debug, Default)]
struct Difference {
    /// Where, in all of their URIs.
    places: Vec<Place>,
    /// Whether a time is among what differs: a signature was renewed, which is of nobody in particular.
    is_renewal: bool,
}

/// Returns how the URIs of two answers differ, if each of them differs and all in the same places.
fn difference(before: &Sample, now: &Sample) -> Option<Difference> {
    let mut common = now.uris.iter().filter_map(|(place, uri)| {
        let (_, old) = before.uris.iter().find(|(other, _)| other == place)?;
        Some((old.as_str(), uri.as_str()))
    });
    let (old, new) = common.next()?;
    let first = changes(old, new)?;
    for (old, new) in common {
        // One value per answer: else it names a segment and not a viewer.
        if changes(old, new)? != first {
            return None;
        }
    }
    Some(Difference {
        is_renewal: first.iter().any(|change| is_of_time(change.new)),
        places: first.into_iter().map(|change| change.place).collect(),
    })
}

/// One place in which two URIs differ.
#[derive(Debug, PartialEq, Eq)]
struct Change<'a> {
    place: Place,
    old: &'a str,
    new: &'a str,
}

/// Returns where two URIs of one shape differ; `None` if nowhere, in their file names, or in shape.
fn changes<'a>(old: &'a str, new: &'a str) -> Option<Vec<Change<'a>>> {
    let (old_path, old_query) = old.split_once('?').unwrap_or((old, ""));
    let (new_path, new_query) = new.split_once('?').unwrap_or((new, ""));
    let (old_directory, old_name) = old_path.rsplit_once('/').unwrap_or(("", old_path));
    let (new_directory, new_name) = new_path.rsplit_once('/').unwrap_or(("", new_path));
    if old_name != new_name {
        return None;
    }
    let mut changes = segments_changed(old_directory, new_directory)?;
    changes.extend(parameters_changed(old_query, new_query)?);
    (!changes.is_empty()).then_some(changes)
}

fn segments_changed<'a>(old: &'a str, new: &'a str) -> Option<Vec<Change<'a>>> {
    if old.is_empty() != new.is_empty() || old.split('/').count() != new.split('/').count() {
        return None;
    }
    let mut last = "";
    let mut changes = Vec::new();
    for (index, (old, new)) in old.split('/').zip(new.split('/')).enumerate() {
        if old != new {
            // `/session/6f1c/` and `/session=6f1c/` both say what it is.
            let named = new.split_once('=').map_or(last, |(name, _)| name);
            changes.push(Change {
                place: Place::Segment(index, named.to_owned()),
                old,
                new,
            });
        }
        last = new;
    }
    Some(changes)
}

fn parameters_changed<'a>(old: &'a str, new: &'a str) -> Option<Vec<Change<'a>>> {
    if old.split('&').count() != new.split('&').count() {
        return None;
    }
    let mut changes = Vec::new();
    for (old, new) in old.split('&').zip(new.split('&')) {
        let (old_name, old) = old.split_once('=').unwrap_or((old, ""));
        let (name, new) = new.split_once('=').unwrap_or((new, ""));
        if old_name != name {
            return None;
        }
        if old != new {
            let place = Place::Parameter(name.to_owned());
            changes.push(Change { place, old, new });
        }
    }
    Some(changes)
}

/// Returns whether a value has a time of this century in it, in seconds or milliseconds, as signatures do that
/// expire.
fn is_of_time(value: &str) -> bool {
    value
        .split(|c: char| !c.is_ascii_digit())
        .any(|digits| matches!(digits.len(), 10 | 13) && digits.starts_with(['1', '2', '3', '4']))
}

/// What is remembered of all playlists' URIs.
const SAMPLES_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// URIs of one playlist that are compared: a token is in all of them.
const URIS_MAX: usize = 8;

/// A longer one is not compared.
const URI_BYTES_MAX: usize = 2048;

/// Playlists that are known to be of one viewer.
const REFUSED_MAX: u64 = 100_000;

/// A packager may be configured otherwise meanwhile: then sharing begins again by itself.
const REFUSED_FOR: Duration = Duration::from_secs(600);

/// An example of each playlist is logged so often.
const TOLD_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(asked_by: &str, uris: &[&str]) -> Sample {
        Sample {
            asked_by: asked_by.to_owned(),
            uris: (0..)
                .zip(uris)
                .map(|(n, uri)| (n, (*uri).to_owned()))
                .collect(),
        }
    }

    fn compared(before: &[&str], now: &[&str]) -> Verdict {
        let rule = LiveRule::default();
        compare(&sample("k", before), &sample("k", now), &rule)
    }

    fn parameter(name: &str) -> Place {
        Place::Parameter(name.to_owned())
    }

    #[test]
    fn ca_10_a_named_token_that_changes_in_all_uris_is_of_one_viewer() {
        let verdict = compared(
            &["v0/p.m3u8?session=1_a", "v1/p.m3u8?session=1_a"],
            &["v0/p.m3u8?session=2_b", "v1/p.m3u8?session=2_b"],
        );
        assert_eq!(verdict, Verdict::OfOneViewer(parameter("session")));
        let verdict = compared(&["/session/6f1c/v0.m3u8"], &["/session/77aa/v0.m3u8"]);
        let place = Place::Segment(2, "session".to_owned());
        assert_eq!(verdict, Verdict::OfOneViewer(place));
        let verdict = compared(&["/a/sid=1/v0.m3u8?x=1"], &["/a/sid=2/v0.m3u8?x=1"]);
        let place = Place::Segment(2, "sid".to_owned());
        assert_eq!(verdict, Verdict::OfOneViewer(place));
    }

    #[test]
    fn ca_10_a_token_of_another_name_is_reported_and_shared() {
        let verdict = compared(&["a.m4s?t=x1", "b.m4s?t=x1"], &["a.m4s?t=y2", "b.m4s?t=y2"]);
        assert_eq!(verdict, Verdict::Suspicious(parameter("t")));
    }

    #[test]
    fn ca_10_viewers_that_the_origin_can_tell_apart_are_apart_whatever_the_name() {
        let key = |rest: &str| asked_by(&CacheKey::new(format!("//h/p?x=1:2{rest}")));
        assert_eq!(
            key("\n#7"),
            key(""),
            "a number is of a fill, not of a viewer"
        );
        let before = sample(&key("\ncookie:a\n#7"), &["a.m4s?t=x1"]);
        let now = sample(&key("\ncookie:b"), &["a.m4s?t=y2"]);
        let verdict = compare(&before, &now, &LiveRule::default());
        assert_eq!(verdict, Verdict::OfOneViewer(parameter("t")));
    }

    #[test]
    fn what_differs_otherwise_is_shared_without_a_word() {
        for (before, now) in [
            // Nothing differs; or one URI of two does not.
            (&["a?sid=1"][..], &["a?sid=1"][..]),
            (&["a?sid=1", "b?sid=1"], &["a?sid=2", "b?sid=1"]),
            // Each URI has a value of its own: checksums, not viewers.
            (&["a?sid=1", "b?sid=2"], &["a?sid=3", "b?sid=4"]),
            // Other files, other shapes.
            (&["a.ts?sid=1"], &["b.ts?sid=2"]),
            (&["x/a.ts?sid=1"], &["a.ts?sid=2"]),
            (&["a.ts?sid=1"], &["a.ts?sid=2&x=1"]),
            (&["a.ts?sid=1"], &["a.ts?viewer=2"]),
            (&[], &["a.ts?sid=2"]),
            // Signatures that are renewed.
            (&["a.ts?e=1700000000&h=ab"], &["a.ts?e=1700000002&h=cd"]),
            (
                &["a.ts?hdnts=exp=1700000000~hmac=ab"],
                &["a.ts?hdnts=exp=1700000009~hmac=cd"],
            ),
        ] {
            assert_eq!(compared(before, now), Verdict::Shared, "{before:?} {now:?}");
        }
    }

    #[test]
    fn fm_10_a_name_alone_is_suspicious_unless_the_viewer_brought_it() {
        let address = |query: &str| Address {
            host: "h".to_owned(),
            path: "/p.m3u8".to_owned(),
            query: query.to_owned(),
        };
        let now = sample("k", &["a.ts?x=1&sid=7"]);
        let rule = LiveRule::default();
        assert_eq!(
            at_first_sight(&address("x=1"), &now, &rule),
            Verdict::Suspicious(parameter("sid"))
        );
        assert_eq!(
            at_first_sight(&address("sid=7"), &now, &rule),
            Verdict::Shared
        );
    }

    #[test]
    fn hostile_uris_are_compared_without_harm() {
        for (before, now) in [
            ("", "?"),
            ("?", "&&&&"),
            ("////", "///?=&="),
            ("?=a", "?=b"),
            ("é/ü?ä=ö", "é/x?ä=y"),
        ] {
            compared(&[before], &[now]);
        }
        assert!(!is_of_time(&"9".repeat(10_000)));
    }
}
