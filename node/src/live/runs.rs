//! Streams that began again, shown as the continuation of what viewers have (`live.rebase`).
//!
//! A *run* is what one start of one encoder numbers. Where an operator says so, the first version of a run is not shown with
//! numbers that go back, but follows what was shown behind a discontinuity (`media::hls::Joint`), and its URIs have a
//! mark, `_seawall_run=MARK`:
//!
//! ```text
//! viewer asks for     seg5.m4s                     seg5.m4s?_seawall_run=6f1c
//! stored under        that: of the run before      that: of this run
//! origin is asked     never again                  seg5.m4s
//! ```
//!
//! So what is stored of the run before stays what it was for who still has its names, and nothing of a new run is ever taken for
//! it (FM-14). This node takes off marks of its own only: to a child a mark is part of the URI, and a mark of a parent is part
//! of the URI here. Renditions that one multivariant playlist named agree on the numbers of a run.
//!
//! Who calls it: the chain that publishes; `cached` and `fill` for marks. Deliberately not here: how it is noticed that a
//! run began (`media::hls::Rendition`), and streams that are not rebased (`epochs`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use cache::CacheKey;
use media::Kind;
use media::hls::{Joint, MediaPlaylist, Playlist, PlaylistError, RunNumbers};
use parking_lot::{Mutex, RwLock};
use quick_cache::sync::Cache;
use xxhash_rust::xxh3::xxh3_64;

use super::children::locate;
use super::epochs;
use super::rendition::{Address, Phase, Rendition};
use super::version::Version;
use crate::node::Node;
use crate::request;

/// The query parameter that tells a run's URIs from those of the runs before it.
pub(crate) const MARK: &str = "_seawall_run";

/// The runs that follow others.
#[derive(Debug)]
pub(crate) struct Runs {
    /// How each rendition's run follows what was shown of it.
    joints: Cache<CacheKey, Arc<Following>>,
    /// The last run that began, by presentation.
    latest: Cache<CacheKey, Arc<Run>>,
    /// Marks of this node, and whether their run has ended.
    marks: Cache<String, bool>,
    /// What was named in runs that ended and had no mark, oldest first.
    names: RwLock<VecDeque<Names>>,
    /// Held while a run begins, so that the renditions of a presentation begin the same one.
    beginning: Mutex<()>,
    is_any: AtomicBool,
}

/// A run that all renditions of a presentation share.
#[derive(Debug)]
struct Run {
    mark: String,
    numbers: RunNumbers,
    /// Uptime.
    began_at: Duration,
}

/// A rendition of a run.
#[derive(Debug)]
struct Following {
    run: Arc<Run>,
    joint: Joint,
}

/// Names that mean nothing any more.
#[derive(Debug, Default)]
pub(crate) struct EndedNames(Vec<Names>);

/// The names of media in a run: what numbered names have in common, or one name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    Numbered { prefix: String, suffix: String },
    One(CacheKey),
}

impl Default for Runs {
    fn default() -> Self {
        Self {
            joints: Cache::new(RENDITIONS_MAX),
            latest: Cache::new(RENDITIONS_MAX),
            marks: Cache::new(MARKS_MAX),
            names: RwLock::default(),
            beginning: Mutex::default(),
            is_any: AtomicBool::new(false),
        }
    }
}

impl Runs {
    /// Returns what a parent is asked for in place of `target`: that, without marks of this node.
    pub(crate) fn unmarked(&self, target: String) -> String {
        if !self.is_any.load(Ordering::Relaxed) || !target.contains(MARK) {
            return target;
        }
        let Some((path, query)) = target.split_once('?') else {
            return target;
        };
        let others = query.split('&').filter(|parameter| {
            mark_of(parameter).is_none_or(|mark| self.marks.peek(mark).is_none())
        });
        let others: Vec<&str> = others.collect();
        request::path_and_query(path, &others.join("&"))
    }

    /// Returns whether `key` names media of a run that ended: no parent has it any more, and what has its name now is
    /// something else.
    pub(crate) fn have_ended(&self, key: &CacheKey, kind: Kind) -> bool {
        // A template may well name segments by a number alone.
        let is_media = matches!(
            kind,
            Kind::InitSegment | Kind::Segment | Kind::Part | Kind::Other
        );
        if !is_media || !self.is_any.load(Ordering::Relaxed) {
            return false;
        }
        let mut own = marks_in(key)
            .filter_map(|mark| self.marks.peek(mark))
            .peekable();
        if own.peek().is_some() {
            return own.any(|has_ended| has_ended);
        }
        self.names.read().iter().any(|names| names.have(key))
    }

    /// Returns when the run of a rendition began (uptime), if it follows another one.
    fn following(&self, address: &Address) -> Option<Arc<Following>> {
        if !self.is_any.load(Ordering::Relaxed) {
            return None;
        }
        self.joints.get(&address.key())
    }

    /// Returns the mark of a run that begins now, of which `said` says what it is of.
    pub(crate) fn new_mark(&self, node: &Node, said: &str) -> String {
        // Another node's mark of the same stream is another.
        let said = format!("{}{:?}{said}", node.name, node.clock.now());
        let mark = format!("{:012x}", xxh3_64(said.as_bytes()) >> 16);
        self.marks.insert(mark.clone(), false);
        self.is_any.store(true, Ordering::Relaxed);
        mark
    }

    /// Lets nothing more be asked for under a mark of this node.
    pub(crate) fn end_mark(&self, mark: &str) {
        self.marks.insert(mark.to_owned(), true);
    }

    /// Lets names mean what they meant before they were ended.
    pub(crate) fn resume(&self, ended: &EndedNames) {
        let mut all = self.names.write();
        all.retain(|names| !ended.0.contains(names));
    }

    fn name(&self, names: Vec<Names>) {
        let mut all = self.names.write();
        for one in names {
            if !all.contains(&one) {
                all.push_back(one);
            }
        }
        let too_many = all.len().saturating_sub(NAMES_MAX);
        all.drain(..too_many);
    }
}

/// Returns whether the stream at `address`, of which `before` is shown, is to go on with `run`.
///
/// Not after an end, which viewers took for one; nor where the specification lets no segment leave (EVENT, VOD).
pub(super) fn is_rebased(
    node: &Node,
    address: &Address,
    before: &MediaPlaylist,
    run: &MediaPlaylist,
) -> bool {
    let goes_on =
        |playlist: &MediaPlaylist| !playlist.is_ended() && playlist.playlist_type().is_none();
    node.rules.of(&address.host, &address.path).live.rebases && goes_on(before) && goes_on(run)
}

/// Begins the run whose first version is `run`, after what is shown of `rendition`.
pub(super) fn begin(node: &Node, rendition: &Rendition, before: &Version, run: &MediaPlaylist) {
    let runs = &node.hub.runs;
    let address = &rendition.address;
    let _beginning = runs.beginning.lock();
    let presentation = presentation_of(node, address);
    let last = runs.following(address);
    let latest = runs.latest.get(&presentation).filter(|latest| {
        let is_another = last
            .as_ref()
            .is_none_or(|last| last.run.mark != latest.mark);
        // What was shown since is of a run that began on its own.
        is_another && before.arrived_at() <= latest.began_at
    });
    end_names(node, address, before);
    let is_there = |uri: &str| {
        let located = locate(address, uri, &node.rules);
        located.is_some_and(|(host, target)| {
            let key = request::key_of_target(&host, &target);
            node.store.get(&key, &node.forward_fields).found().is_some()
        })
    };
    let agreed = latest.as_ref().map(|latest| &latest.numbers);
    let elapsed = node.clock.uptime().saturating_sub(before.arrived_at());
    let joint = Joint::after(&before.playlist, run, elapsed, agreed, is_there);
    let run = latest.unwrap_or_else(|| begun(node, joint.numbers(), &presentation));
    if let Some(last) = last.filter(|last| last.run.mark != run.mark) {
        runs.marks.insert(last.run.mark.clone(), true);
    }
    let (host, path, mark) = (&address.host, &address.path, &run.mark);
    tracing::info!(%host, %path, %mark, "a stream began again and goes on behind a discontinuity");
    let mark = run.mark.clone();
    runs.joints
        .insert(address.key(), Arc::new(Following { run, joint }));
    suspect_siblings(node, &presentation, &mark, before.arrived_at());
}

/// Makes a rendition that was not known part of its presentation's run, if that follows another one.
pub(super) fn join(node: &Node, address: &Address, run: &MediaPlaylist) {
    let runs = &node.hub.runs;
    if !runs.is_any.load(Ordering::Relaxed) || runs.following(address).is_some() {
        return;
    }
    let Some(latest) = runs.latest.get(&presentation_of(node, address)) else {
        return;
    };
    let joint = Joint::joining(run, &latest.numbers);
    let following = Following { run: latest, joint };
    runs.joints.insert(address.key(), Arc::new(following));
}

/// Returns a version of a run as viewers are shown it, and until when (uptime) no delta update is made of it: a player would
/// merge it with what it was told before the run. `None` for one that is shown as it is.
///
/// # Errors
///
/// The rewritten text cannot be read again. Then it must not be shown at all.
pub(super) fn shown(
    node: &Node,
    address: &Address,
    run: &MediaPlaylist,
) -> Result<Option<(Arc<MediaPlaylist>, Duration)>, PlaylistError> {
    let Some(following) = node.hub.runs.following(address) else {
        return Ok(None);
    };
    let Following { run: shared, joint } = &*following;
    let mark = |uri: &str| marked(node, address, uri, &shared.mark);
    let shift_of = |uri: &str| {
        let sibling = locate(address, uri, &node.rules);
        let key = sibling.map(|(host, target)| request::key_of_target(&host, &target));
        let sibling = key.and_then(|key| node.hub.runs.joints.get(&key));
        let numbers = sibling.map_or(shared.numbers, |sibling| sibling.joint.numbers());
        numbers.shift
    };
    let text = joint.rewrite(run, mark, shift_of);
    let Playlist::Media(playlist) = Playlist::parse(text, &node.playlist_limits)? else {
        return Ok(None);
    };
    let skipped = playlist.can_skip_until().unwrap_or_default();
    Ok(Some((Arc::new(playlist), shared.began_at + skipped)))
}

/// Returns a URI with the mark of its run; `None` for one that this node will not be asked for.
fn marked(node: &Node, address: &Address, uri: &str, mark: &str) -> Option<String> {
    // Variables are for players to fill in.
    if uri.contains("{$") {
        return None;
    }
    locate(address, uri, &node.rules)?;
    let separator = if uri.contains('?') { '&' } else { '?' };
    Some(format!("{uri}{separator}{MARK}={mark}"))
}

fn begun(node: &Node, numbers: RunNumbers, presentation: &CacheKey) -> Arc<Run> {
    let runs = &node.hub.runs;
    let run = Arc::new(Run {
        mark: runs.new_mark(node, &format!("{presentation:?}")),
        numbers,
        began_at: node.clock.uptime(),
    });
    runs.latest.insert(presentation.clone(), Arc::clone(&run));
    run
}

/// Remembers what the run that ends had named, and keeps of it what was there before it ended.
fn end_names(node: &Node, address: &Address, before: &Version) {
    let key = |uri: &str| {
        let (host, target) = locate(address, uri, &node.rules)?;
        Some(request::key_of_target(&host, &target))
    };
    // What was shown of it unmarked.
    let origin = &before.origin;
    let segments: Vec<CacheKey> = origin.segments().filter_map(|one| key(one.uri)).collect();
    let parts: Vec<CacheKey> = origin.parts().filter_map(|one| key(one.uri)).collect();
    let hints: Vec<CacheKey> = origin
        .preload_hints()
        .filter_map(|one| key(one.uri))
        .collect();
    let maps: Vec<CacheKey> = origin.maps().filter_map(|one| key(one.uri)).collect();
    let shown = before.playlist.segments().filter_map(|one| key(one.uri));
    let shown: Vec<CacheKey> = shown
        .chain(before.playlist.parts().filter_map(|one| key(one.uri)))
        .collect();
    let mut names = numbered(&segments);
    names.extend(numbered(&parts));
    names.extend(maps.iter().chain(&hints).cloned().map(Names::One));
    let named = segments
        .iter()
        .chain(&parts)
        .chain(&hints)
        .chain(&maps)
        .chain(&shown);
    let since = node.clock.now() - node.clock.uptime().saturating_sub(before.arrived_at());
    epochs::turn(node, named.cloned(), since);
    node.hub.runs.name(names);
}

/// Ends names of an MPD, each series of which differs in numbers, and keeps what was stored under them before `since`.
pub(crate) fn end_series(node: &Node, series: &[Vec<CacheKey>], since: SystemTime) -> EndedNames {
    epochs::turn(node, series.iter().flatten().cloned(), since);
    let names: Vec<Names> = series.iter().flat_map(|keys| numbered(keys)).collect();
    node.hub.runs.name(names.clone());
    EndedNames(names)
}

/// Lets go of what is stored under names of an MPD: they begin again, and nothing tells them apart.
pub(crate) fn forget_series(node: &Node, series: &[Vec<CacheKey>]) {
    epochs::begin(node, series.iter().flatten().cloned());
}

/// Lets the renditions of a presentation that are not of its newest run believe at once that they began again, too.
///
/// `since` is when the run before was last seen (uptime): what was opened later is of the new one, and was shown as it is.
fn suspect_siblings(node: &Node, presentation: &CacheKey, mark: &str, since: Duration) {
    for sibling in node.hub.renditions() {
        let following = node.hub.runs.following(&sibling.address);
        let is_of_it = following.is_some_and(|following| following.run.mark == mark);
        if !is_of_it && presentation_of(node, &sibling.address) == *presentation {
            let is_new = sibling.opened_at() > since;
            sibling.suspect(is_new || sibling.phase() == Phase::Dormant);
        }
    }
}

/// Returns what the renditions of one presentation have in common: the playlist that named them.
fn presentation_of(node: &Node, address: &Address) -> CacheKey {
    let opener = node.hub.openers.of(&address.key());
    opener.map_or_else(|| address.key(), |opener| opener.key())
}

/// Returns what the names have in common around a number that differs; the names themselves if they are not like that.
fn numbered(keys: &[CacheKey]) -> Vec<Names> {
    let texts: Vec<&str> = keys.iter().map(CacheKey::as_str).collect();
    let (Some(first), Some(last)) = (texts.iter().min(), texts.iter().max()) else {
        return Vec::new();
    };
    let prefix = common(first.chars(), last.chars());
    let prefix = first
        .get(..prefix)
        .unwrap_or("")
        .trim_end_matches(|c: char| c.is_ascii_digit());
    let mut suffix = first.len();
    for text in &texts {
        suffix = suffix.min(common(first.chars().rev(), text.chars().rev()));
    }
    let suffix = first.get(first.len() - suffix..).unwrap_or("");
    let suffix = suffix.trim_start_matches(|c: char| c.is_ascii_digit());
    let names = Names::Numbered {
        prefix: prefix.to_owned(),
        suffix: suffix.to_owned(),
    };
    // A directory says nothing of what is in it.
    let is_name = texts.len() > 1 && keys.iter().all(|key| names.have(key));
    if is_name {
        vec![names]
    } else {
        keys.iter().cloned().map(Names::One).collect()
    }
}

fn is_of_number(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '.' | '-' | '_')
}

/// Returns the bytes that two texts have in common at their beginning.
fn common(a: impl Iterator<Item = char>, b: impl Iterator<Item = char>) -> usize {
    a.zip(b)
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a.len_utf8())
        .sum()
}

impl Names {
    fn have(&self, key: &CacheKey) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Numbered { prefix, suffix } => {
                let number = key.as_str().strip_prefix(prefix.as_str());
                let number = number.and_then(|rest| rest.strip_suffix(suffix.as_str()));
                number.is_some_and(|number| !number.is_empty() && number.chars().all(is_of_number))
            }
        }
    }
}

fn mark_of(parameter: &str) -> Option<&str> {
    let (name, value) = parameter.split_once('=')?;
    (name == MARK).then_some(value)
}

fn marks_in(key: &CacheKey) -> impl Iterator<Item = &str> {
    let (_, query) = key.as_str().split_once('?').unwrap_or_default();
    query.split(['&', '\n']).filter_map(mark_of)
}

/// As many as a node may know of.
const RENDITIONS_MAX: usize = 50_000;

/// Runs that began: a stream begins again a few times a day.
const MARKS_MAX: usize = 50_000;

/// A rendition has names for its segments, parts and initialization segment.
const NAMES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Vec<CacheKey> {
        let keys = names
            .iter()
            .map(|name| CacheKey::new(format!("//h/live/{name}")));
        keys.collect()
    }

    #[test]
    fn names_have_in_common_what_is_around_their_number() {
        for (named, have, have_not) in [
            (&["seg95.m4s", "seg104.m4s"][..], "seg3.m4s", "init.mp4"),
            (&["v_8.m4s", "v_9.m4s"][..], "v_10.m4s", "a_8.m4s"),
            (&["ch1_7.ts", "ch1_8.ts"][..], "ch1_9.ts", "ch2_9.ts"),
            (&["7.0.m4s", "7.1.m4s", "8.0.m4s"][..], "9.3.m4s", "x.m4s"),
            (&["s1.ts?t=a", "s2.ts?t=a"][..], "s3.ts?t=a", "s3.ts"),
        ] {
            let names = numbered(&keys(named));
            let does = |name: &str| {
                let key = keys(&[name]).remove(0);
                names.iter().any(|names| names.have(&key))
            };
            assert!(does(have), "{named:?} {have}");
            assert!(!does(have_not), "{named:?} {have_not}");
        }
    }

    #[test]
    fn names_without_a_number_are_themselves() {
        let names = numbered(&keys(&["aef3.m4s", "b01c.m4s"]));
        assert_eq!(names.len(), 2);
        assert!(names.iter().all(|names| matches!(names, Names::One(_))));
    }

    #[test]
    fn only_marks_of_this_node_are_taken_off() {
        let runs = Runs::default();
        runs.is_any.store(true, Ordering::Relaxed);
        runs.marks.insert("1a".to_owned(), false);
        for (marked, unmarked) in [
            ("/s?_seawall_run=1a", "/s"),
            ("/s?_seawall_run=2b", "/s?_seawall_run=2b"),
            (
                "/s?_seawall_run=1a&_seawall_run=2b&t=1",
                "/s?_seawall_run=2b&t=1",
            ),
            ("/s?t=_seawall_run=1a", "/s?t=_seawall_run=1a"),
            ("/_seawall_run=1a", "/_seawall_run=1a"),
        ] {
            assert_eq!(runs.unmarked(marked.to_owned()), unmarked, "{marked}");
        }
    }
}
