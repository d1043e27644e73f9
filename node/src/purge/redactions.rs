//! Which stretches of which presentations are gone, and which URLs with them.
//!
//! A purge of part of a timeline stands: playlists that come later are rewritten like those that are here, until
//! their windows have left the stretch behind. What is here is memory and judgment; who rewrites and who
//! purges is `timeline`. Who calls it: `timeline` for each playlist, `route` for each request while anything
//! stands. Deliberately not here: what outlives the process; a node that starts is told the newest purges again.
//!
//! # Limits
//!
//! Reaching one purges more, never less:
//!
//! | limit | then |
//! |---|---|
//! | [`STRETCHES_MAX`] per presentation | one stretch from the first to the last |
//! | [`URLS_MAX`] per presentation | the presentation as a whole |
//! | [`PRESENTATIONS_MAX`] | the host as a whole |

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cache::CacheKey;
use media::Kind;
use media::hls::Stretch;
use parking_lot::RwLock;

/// The stretches that are gone.
#[derive(Debug, Default)]
pub(crate) struct Redactions {
    /// All that a node without any pays for them.
    is_any: AtomicBool,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    by_host: HashMap<String, Vec<Presentation>>,
}

/// The stretches of one directory that are gone.
#[derive(Debug)]
struct Presentation {
    /// Begins and ends with a slash.
    directory: String,
    stretches: Vec<Stretch>,
    /// Uptime at which the newest was purged.
    purged_at: Duration,
    /// URLs that were in a stretch, and what becomes of requests for them.
    urls: HashMap<CacheKey, Access>,
    /// The last path segments of those.
    names: HashSet<Box<str>>,
    /// Whether nothing but playlists is left of it.
    is_whole: bool,
    /// Who may say that a stretch has passed: HLS playlists, once there was one, and before that MPDs.
    has_playlists: bool,
    /// Uptime until which an MPD names what is in a stretch, whatever a shorter playlist says.
    named_until: Duration,
}

/// Who says that a stretch has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// An HLS media playlist.
    Playlist,
    /// An MPD.
    Mpd,
}

/// What becomes of requests for a URL of which something was purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It was in the stretch and nowhere else: it is gone.
    Denied,
    /// Other segments are in the same resource: it was purged once, and may be fetched again.
    Shared,
    /// It was named again, outside of the stretch: it may be fetched.
    Outside,
}

impl Access {
    fn of(key: &CacheKey, kept: &HashSet<CacheKey>) -> Self {
        if kept.contains(key) {
            Self::Shared
        } else {
            Self::Denied
        }
    }
}

/// What stands for one playlist.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Standing {
    pub(crate) stretches: Vec<Stretch>,
    /// Uptime at which the newest was purged.
    pub(crate) purged_at: Duration,
}

impl Redactions {
    /// Returns whether anything stands.
    pub(crate) fn is_any(&self) -> bool {
        self.is_any.load(Ordering::Acquire)
    }

    /// Remembers that `stretch` of what is below `directory` is gone.
    pub(crate) fn add(&self, host: &str, directory: &str, stretch: Stretch, uptime: Duration) {
        let mut state = self.state.write();
        state.add(host, directory, stretch, uptime);
        self.is_any.store(true, Ordering::Release);
    }

    /// Returns what stands for a playlist; `None` if nothing does.
    pub(crate) fn standing(&self, host: &str, path: &str) -> Option<Standing> {
        let state = self.state.read();
        let mut all: Option<Standing> = None;
        for one in state.above(host, path) {
            let standing = all.get_or_insert_with(|| Standing {
                stretches: Vec::new(),
                purged_at: one.purged_at,
            });
            standing.purged_at = standing.purged_at.max(one.purged_at);
            if one.is_whole {
                standing.stretches.push(Stretch::Whole);
            }
            standing.stretches.extend(&one.stretches);
        }
        all
    }

    /// Notes that an MPD will name what is in a stretch until `uptime`.
    pub(crate) fn name_until(&self, host: &str, path: &str, uptime: Duration) {
        let mut state = self.state.write();
        for one in state.above_mut(host, path) {
            one.named_until = one.named_until.max(uptime);
        }
    }

    /// Returns whether a URL is gone and must not be fetched again.
    pub(crate) fn denies(&self, host: &str, path: &str, key: &CacheKey, kind: Kind) -> bool {
        let is_index = matches!(
            kind,
            Kind::MultivariantPlaylist | Kind::MediaPlaylist | Kind::Mpd
        );
        let state = self.state.read();
        state
            .above(host, path)
            .any(|one| (one.is_whole && !is_index) || one.urls.get(key) == Some(&Access::Denied))
    }

    /// Remembers what a playlist names: `meant` in the stretches, `kept` outside of them; returns what was not
    /// known yet and is to be purged.
    ///
    /// What is kept is denied no longer: names come again when a stream begins again (FM-14).
    pub(crate) fn learn(
        &self,
        (host, path): (&str, &str),
        meant: &HashSet<CacheKey>,
        kept: &HashSet<CacheKey>,
    ) -> Vec<CacheKey> {
        {
            let state = self.state.read();
            if state
                .above(host, path)
                .all(|one| one.has_learned(meant, kept))
            {
                return Vec::new();
            }
        }
        let mut state = self.state.write();
        let mut new = HashSet::new();
        for one in state.above_mut(host, path) {
            one.learn(meant, kept, &mut new);
            if one.urls.len() > URLS_MAX {
                tracing::error!(%host, path = %one.directory, "too many URLs are purged: all of it is");
                one.is_whole = true;
                one.urls = HashMap::new();
                one.names = HashSet::new();
            }
        }
        new.into_iter().collect()
    }

    /// Keeps of `uris` those whose name is one of what is gone, or that are wanted anyway.
    pub(crate) fn retain_known<'a>(
        &self,
        host: &str,
        path: &str,
        uris: &mut Vec<&'a str>,
        name_of: impl Fn(&'a str) -> (&'a str, bool),
    ) {
        let state = self.state.read();
        uris.retain(|uri| {
            let (name, is_wanted) = name_of(uri);
            is_wanted || state.above(host, path).any(|one| one.names.contains(name))
        });
    }

    /// Returns whether something of the resource of `key` is gone.
    pub(crate) fn knows(&self, host: &str, path: &str, key: &CacheKey) -> bool {
        let state = self.state.read();
        let is_gone = |access: &Access| matches!(access, Access::Denied | Access::Shared);
        state
            .above(host, path)
            .any(|one| one.urls.get(key).is_some_and(is_gone))
    }

    /// Forgets the stretches that have passed, and with the last of a presentation its URLs.
    pub(crate) fn expire(
        &self,
        (host, path): (&str, &str),
        reader: Reader,
        uptime: Duration,
        has_passed: impl Fn(&Stretch) -> bool,
    ) {
        {
            let state = self.state.read();
            let mut presentations = state.above(host, path);
            if !presentations.any(|one| one.has_news(reader, uptime, &has_passed)) {
                return;
            }
        }
        let mut state = self.state.write();
        for one in state.above_mut(host, path) {
            one.has_playlists |= reader == Reader::Playlist;
            if one.may_expire(reader, uptime) {
                one.stretches.retain(|stretch| !has_passed(stretch));
            }
        }
        state.drop_empty();
        self.is_any
            .store(!state.by_host.is_empty(), Ordering::Release);
    }
}

impl State {
    fn add(&mut self, host: &str, directory: &str, stretch: Stretch, uptime: Duration) {
        let count: usize = self.by_host.values().map(Vec::len).sum();
        let presentations = self.by_host.entry(host.to_owned()).or_default();
        let known = presentations
            .iter_mut()
            .find(|one| one.directory == directory);
        if let Some(known) = known {
            known.purged_at = uptime;
            known.add(stretch);
            return;
        }
        if count >= PRESENTATIONS_MAX {
            tracing::error!(%host, "parts of too many presentations are purged: all of the host is");
            presentations.clear();
            presentations.push(Presentation {
                is_whole: true,
                ..Presentation::new("/", Stretch::Whole, uptime)
            });
            return;
        }
        presentations.push(Presentation::new(directory, stretch, uptime));
    }

    fn above<'a>(&'a self, host: &str, path: &str) -> impl Iterator<Item = &'a Presentation> {
        let of_host = self.by_host.get(host).map_or(&[][..], Vec::as_slice);
        of_host
            .iter()
            .filter(move |one| path.starts_with(&one.directory))
    }

    fn above_mut<'a>(
        &'a mut self,
        host: &str,
        path: &str,
    ) -> impl Iterator<Item = &'a mut Presentation> {
        let of_host = self.by_host.get_mut(host);
        let of_host = of_host.map_or(&mut [][..], Vec::as_mut_slice);
        of_host
            .iter_mut()
            .filter(move |one| path.starts_with(&one.directory))
    }

    fn drop_empty(&mut self) {
        self.by_host.retain(|_, presentations| {
            presentations.retain(|one| !one.stretches.is_empty());
            !presentations.is_empty()
        });
    }
}

impl Presentation {
    fn new(directory: &str, stretch: Stretch, uptime: Duration) -> Self {
        Self {
            directory: directory.to_owned(),
            stretches: vec![stretch],
            purged_at: uptime,
            urls: HashMap::new(),
            names: HashSet::new(),
            is_whole: false,
            has_playlists: false,
            named_until: Duration::ZERO,
        }
    }

    fn may_expire(&self, reader: Reader, uptime: Duration) -> bool {
        match reader {
            Reader::Playlist => uptime >= self.named_until,
            Reader::Mpd => !self.has_playlists,
        }
    }

    /// Returns whether a reader says something that is not known yet.
    fn has_news(
        &self,
        reader: Reader,
        uptime: Duration,
        has_passed: impl Fn(&Stretch) -> bool,
    ) -> bool {
        let is_first = reader == Reader::Playlist && !self.has_playlists;
        is_first || (self.may_expire(reader, uptime) && self.stretches.iter().any(has_passed))
    }

    /// Returns whether there is nothing new to learn.
    fn has_learned(&self, meant: &HashSet<CacheKey>, kept: &HashSet<CacheKey>) -> bool {
        let is_denied = |key| self.urls.get(key) == Some(&Access::Denied);
        let is_known = |key| self.urls.get(key) == Some(&Access::of(key, kept));
        // Of what is gone as a whole, nothing is found any more.
        self.is_whole || (meant.iter().all(is_known) && !kept.iter().any(is_denied))
    }

    fn learn(
        &mut self,
        meant: &HashSet<CacheKey>,
        kept: &HashSet<CacheKey>,
        new: &mut HashSet<CacheKey>,
    ) {
        if self.is_whole {
            return;
        }
        for key in meant {
            let access = Access::of(key, kept);
            if self.urls.insert(key.clone(), access).is_none() {
                new.insert(key.clone());
                self.names.insert(last_segment(key).into());
            }
        }
        for key in kept {
            if self.urls.get(key) == Some(&Access::Denied) {
                self.urls.insert(key.clone(), Access::Outside);
            }
        }
    }

    fn add(&mut self, stretch: Stretch) {
        if self.stretches.contains(&stretch) {
            return;
        }
        self.stretches.push(stretch);
        if self.stretches.len() > STRETCHES_MAX {
            self.stretches = hulls(&self.stretches);
        }
    }
}

fn last_segment(key: &CacheKey) -> &str {
    let path = key.as_str().split('?').next().unwrap_or("");
    path.rsplit('/').next().unwrap_or(path)
}

/// Returns one stretch of each kind, from the first to the last.
fn hulls(stretches: &[Stretch]) -> Vec<Stretch> {
    let mut hulls: Vec<Stretch> = Vec::new();
    for &stretch in stretches {
        let wider = hulls
            .iter_mut()
            .find_map(|hull| Some((hull_of(*hull, stretch)?, hull)));
        match wider {
            Some((wider, hull)) => *hull = wider,
            None => hulls.push(stretch),
        }
    }
    hulls
}

fn hull_of(a: Stretch, b: Stretch) -> Option<Stretch> {
    match (a, b) {
        (Stretch::Msn { first, last }, Stretch::Msn { first: f, last: l }) => Some(Stretch::Msn {
            first: first.min(f),
            last: last.max(l),
        }),
        (Stretch::WallClock { from, to }, Stretch::WallClock { from: f, to: t }) => {
            Some(Stretch::WallClock {
                from: from.min(f),
                to: to.max(t),
            })
        }
        (Stretch::Whole, Stretch::Whole) => Some(Stretch::Whole),
        (Stretch::Msn { .. } | Stretch::WallClock { .. } | Stretch::Whole, _) => None,
    }
}

/// Stretches of one presentation that stand apart.
const STRETCHES_MAX: usize = 64;

/// URLs of one presentation that are remembered: ten renditions of six hours in one-second segments.
const URLS_MAX: usize = 262_144;

/// Presentations of which parts are gone.
const PRESENTATIONS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "live.example";
    const LIST: &str = "/a/v0/list.m3u8";

    fn msn(first: u64, last: u64) -> Stretch {
        Stretch::Msn { first, last }
    }

    fn keys(names: &[&str]) -> HashSet<CacheKey> {
        names.iter().map(|name| key(name)).collect()
    }

    fn key(name: &str) -> CacheKey {
        crate::request::key_of(HOST, &format!("/a/v0/{name}"), "")
    }

    fn denies(redactions: &Redactions, name: &str) -> bool {
        let path = format!("/a/v0/{name}");
        redactions.denies(HOST, &path, &key(name), Kind::from_path(&path))
    }

    fn standing(stretches: &[(u64, u64)]) -> Redactions {
        let redactions = Redactions::default();
        for &(first, last) in stretches {
            redactions.add(HOST, "/a/", msn(first, last), Duration::ZERO);
        }
        redactions
    }

    #[test]
    fn a_stretch_stands_for_what_is_below_its_directory_until_it_has_passed() {
        let redactions = standing(&[(1, 2), (5, 6)]);
        assert!(redactions.is_any());
        let stretches = |path| redactions.standing(HOST, path).map(|one| one.stretches);
        assert_eq!(stretches(LIST), Some(vec![msn(1, 2), msn(5, 6)]));
        assert_eq!(stretches("/ab/list.m3u8"), None);
        assert_eq!(redactions.standing("other.example", LIST), None);
        redactions.expire((HOST, LIST), Reader::Playlist, Duration::ZERO, |stretch| {
            *stretch == msn(1, 2)
        });
        assert_eq!(stretches(LIST), Some(vec![msn(5, 6)]));
        redactions.expire((HOST, LIST), Reader::Playlist, Duration::ZERO, |_| true);
        assert_eq!(stretches(LIST), None);
        assert!(!redactions.is_any());
    }

    #[test]
    fn a_stretch_stands_while_an_mpd_names_it_and_playlists_decide_where_there_are_any() {
        let at = Duration::from_secs;
        let passes = |redactions: &Redactions, reader, uptime| {
            redactions.expire((HOST, LIST), reader, uptime, |_| true);
            !redactions.is_any()
        };
        let longer_in_mpd = standing(&[(1, 2)]);
        longer_in_mpd.name_until(HOST, LIST, at(10));
        assert!(!passes(&longer_in_mpd, Reader::Playlist, at(9)));
        assert!(
            !passes(&longer_in_mpd, Reader::Mpd, at(9)),
            "a playlist was there"
        );
        assert!(passes(&longer_in_mpd, Reader::Playlist, at(10)));
        assert!(passes(&standing(&[(1, 2)]), Reader::Mpd, at(0)));
    }

    #[test]
    fn what_is_only_in_a_stretch_is_denied_and_what_others_share_is_purged_once() {
        let redactions = standing(&[(1, 2)]);
        let (meant, kept) = (keys(&["s1.mp4", "all.mp4"]), keys(&["s3.mp4", "all.mp4"]));
        assert_eq!(redactions.learn((HOST, LIST), &meant, &kept).len(), 2);
        assert!(redactions.learn((HOST, LIST), &meant, &kept).is_empty());
        assert!(denies(&redactions, "s1.mp4"));
        assert!(!denies(&redactions, "all.mp4"));
        assert!(!denies(&redactions, "s3.mp4"));
        assert!(redactions.knows(HOST, LIST, &key("all.mp4")));
    }

    #[test]
    fn fm_14_a_name_that_comes_again_outside_of_the_stretch_is_denied_no_longer() {
        let redactions = standing(&[(1, 2)]);
        redactions.learn((HOST, LIST), &keys(&["s1.mp4"]), &keys(&[]));
        redactions.learn((HOST, LIST), &keys(&[]), &keys(&["s1.mp4"]));
        assert!(!denies(&redactions, "s1.mp4"));
        assert!(!redactions.knows(HOST, LIST, &key("s1.mp4")));
        let again = redactions.learn((HOST, LIST), &keys(&["s1.mp4"]), &keys(&[]));
        assert!(
            again.is_empty(),
            "denied, and not purged with every version"
        );
        assert!(denies(&redactions, "s1.mp4"));
    }

    #[test]
    fn more_stretches_than_fit_become_one_that_is_wider() {
        let many: Vec<_> = (0..=STRETCHES_MAX as u64)
            .map(|n| (n * 10, n * 10))
            .collect();
        let redactions = standing(&many);
        redactions.add(HOST, "/a/", msn(3, 4), Duration::from_secs(1));
        let standing = redactions.standing(HOST, LIST).unwrap();
        assert_eq!(standing.stretches, [msn(0, 640), msn(3, 4)]);
        assert_eq!(standing.purged_at, Duration::from_secs(1));
    }

    #[test]
    fn more_urls_than_fit_take_the_presentation_as_a_whole() {
        let redactions = standing(&[(1, 2)]);
        let names: Vec<_> = (0..=URLS_MAX).map(|n| format!("{n}.mp4")).collect();
        let meant = names.iter().map(|name| key(name)).collect();
        let new = redactions.learn((HOST, LIST), &meant, &HashSet::new());
        assert_eq!(new.len(), URLS_MAX + 1);
        assert!(denies(&redactions, "whatever.mp4"));
        assert!(!denies(&redactions, "list.m3u8"), "playlists tell of it");
        let standing = redactions.standing(HOST, LIST).unwrap();
        assert!(standing.stretches.contains(&Stretch::Whole));
    }

    #[test]
    fn more_presentations_than_fit_take_the_host_as_a_whole() {
        let redactions = Redactions::default();
        for n in 0..=PRESENTATIONS_MAX {
            redactions.add(HOST, &format!("/{n}/"), msn(1, 1), Duration::ZERO);
        }
        let all = redactions.standing(HOST, "/elsewhere/list.m3u8").unwrap();
        assert_eq!(all.stretches, [Stretch::Whole, Stretch::Whole]);
    }
}
