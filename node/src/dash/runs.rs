//! Presentations that began again, shown as the continuation of what players have (`live.rebase`).
//!
//! ```text
//! MPD ──► ─┬─ the availability start that is known    as it is, or as its run is shown
//!          ├─ a later one                             a run begins: `media::dash::Rebase`, a mark, old names end
//!          └─ an earlier one                          a parent lags (`fill::mpd`); if it stays, all is let go
//! ```
//!
//! What is shown of a run and what is stored under its marks is as with playlists (`live::runs`). Who calls it: fills of
//! MPDs, once per version. Deliberately not here: runs that cannot be told from their availability start, and texts
//! (`media`). What cannot be rewritten is shown as it is, and what was stored under its names goes (FM-14).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cache::CacheKey;
use http::{HeaderMap, header};
use media::dash::{
    Addressed, Crossing, Limits, Mpd, PeriodBefore, Rebase, Representation, Withheld,
    with_update_period,
};
use parking_lot::Mutex;
use quick_cache::sync::Cache;

use super::mpds::{Known, joined};
use crate::fill;
use crate::live::{self, Address, EndedNames, RUN_MARK};
use crate::node::Node;

/// The runs of the live MPDs that a node has seen.
#[derive(Debug)]
pub(crate) struct Runs {
    known: Cache<CacheKey, Arc<Run>>,
    /// The period that players come from, while they do.
    before: moka::sync::Cache<CacheKey, Arc<PeriodBefore>>,
    /// Held while a run begins.
    beginning: Mutex<()>,
}

/// What one start of one packager counts.
#[derive(Debug)]
struct Run {
    /// Its availability start.
    start: Duration,
    /// How it follows another one; `None` if it is shown as it is.
    following: Option<Following>,
}

/// How a run is shown that follows another one.
#[derive(Debug)]
struct Following {
    rebase: Rebase,
    mark: String,
    /// Until when they come (uptime).
    settles_at: Duration,
    /// Names of the runs before.
    ended: Vec<Arc<EndedNames>>,
}

impl Default for Runs {
    fn default() -> Self {
        Self {
            known: Cache::new(MPDS_MAX),
            before: moka::sync::Cache::builder()
                .max_capacity(BEFORE_BYTES_MAX)
                .weigher(|_, before: &Arc<PeriodBefore>| {
                    u32::try_from(before.bytes()).unwrap_or(u32::MAX)
                })
                .time_to_live(SETTLING_MAX)
                .build(),
            beginning: Mutex::default(),
        }
    }
}

impl Runs {
    /// Returns whether the MPD of `key` is shown as the continuation of another run.
    pub(crate) fn is_following(&self, key: &CacheKey) -> bool {
        self.known
            .peek(key)
            .is_some_and(|run| run.following.is_some())
    }
}

/// Returns an MPD as it is shown, and lets `fields` describe it.
pub(crate) fn shown(
    node: &Node,
    key: &CacheKey,
    address: &Address,
    mpd: Mpd,
    fields: &mut HeaderMap,
) -> Mpd {
    let mpd = of_run(node, key, address, mpd, fields);
    let rebases = node.rules.of(&address.host, &address.path).live.rebases;
    let often = with_update_period(&mpd, UPDATE_PERIOD_MAX)
        .filter(|_| rebases && mpd.availability_start.is_some())
        .and_then(parsed);
    let Some(often) = often else { return mpd };
    fill::describe_changed(fields);
    often
}

/// Returns an MPD as its run is shown, and lets `fields` describe it.
fn of_run(node: &Node, key: &CacheKey, address: &Address, mpd: Mpd, fields: &mut HeaderMap) -> Mpd {
    let run = run_of(node, key, address, &mpd);
    let Some(run) = run.filter(|run| run.following.is_some()) else {
        return mpd;
    };
    match rewritten(node, key, &run, &mpd) {
        Some(shown) => {
            fill::describe_changed(fields);
            // It says something else as time goes, of the same text of the origin.
            fields.remove(header::ETAG);
            fields.remove(header::LAST_MODIFIED);
            shown
        }
        None => {
            let _beginning = node.mpds.runs.beginning.lock();
            let start = mpd.availability_start.unwrap_or(run.start);
            let_go(node, key, address, (&mpd, start), Some(&run));
            mpd
        }
    }
}

/// Returns whether an MPD is of a run before the one shown: of a parent that lags (CA-07).
pub(crate) fn is_of_run_before(node: &Node, key: &CacheKey, address: &Address, mpd: &Mpd) -> bool {
    let run = node.mpds.runs.known.peek(key);
    let start = mpd.availability_start.filter(|_| mpd.is_dynamic());
    node.rules.of(&address.host, &address.path).live.rebases
        && run
            .zip(start)
            .is_some_and(|(run, start)| is_later(run.start, start))
}

/// Returns the run that an MPD is of; one that begins with it if need be.
fn run_of(node: &Node, key: &CacheKey, address: &Address, mpd: &Mpd) -> Option<Arc<Run>> {
    let runs = &node.mpds.runs;
    let _beginning = runs.beginning.lock();
    let known = runs.known.get(key);
    let Some(start) = mpd.availability_start.filter(|_| mpd.is_dynamic()) else {
        // It has ended, and is the end of what was shown if it says nothing else.
        let start = mpd.availability_start;
        return known.filter(|run| start.is_none_or(|start| !is_another(run.start, start)));
    };
    let Some(run) = known else {
        let run = Arc::new(Run {
            start,
            following: None,
        });
        runs.known.insert(key.clone(), run);
        return None;
    };
    if !is_another(run.start, start) {
        if run.following.is_none() && run.start != start {
            let run = Arc::new(Run {
                start,
                following: None,
            });
            runs.known.insert(key.clone(), run);
        }
        return Some(run);
    }
    let begun = begun(node, key, address, mpd, &run);
    if begun.is_none() {
        let_go(node, key, address, (mpd, start), Some(&run));
    }
    begun
}

/// Begins a run after another one; `None` if it cannot be shown as its continuation.
fn begun(
    node: &Node,
    key: &CacheKey,
    address: &Address,
    mpd: &Mpd,
    last: &Run,
) -> Option<Arc<Run>> {
    let start = mpd
        .availability_start
        .filter(|start| is_later(*start, last.start))?;
    let rule = node.rules.of(&address.host, &address.path);
    let shown = node.mpds.known(key);
    let goes_on = shown.as_ref().is_none_or(|shown| shown.mpd.is_dynamic());
    let series = series_of(node, address, mpd).filter(|_| rule.live.rebases && goes_on)?;
    let mark = node.hub.runs.new_mark(node, key.as_str());
    let period = mpd.minimum_update_period.unwrap_or_default();
    let mut run = Run {
        start,
        following: Some(Following {
            rebase: rebase_of(&mark, last, mpd, shown.as_deref())?,
            mark,
            settles_at: node.clock.uptime() + (period * 2).clamp(SETTLING_MIN, SETTLING_MAX),
            ended: Vec::new(),
        }),
    };
    node.mpds.runs.before.invalidate(key);
    if let Some(before) = shown
        .as_ref()
        .and_then(|shown| PeriodBefore::last_of(&shown.mpd))
    {
        node.mpds.runs.before.insert(key.clone(), Arc::new(before));
    }
    let withheld = withheld(node, mpd, start);
    let is_after = match withheld.and_then(|some| without(node, key, &mut run, mpd, some)) {
        Some(is_after) => is_after,
        None => rewritten(node, key, &run, mpd)?,
    };
    let began = |mpd: &Mpd| mpd.periods.last().and_then(|period| period.start);
    if shown
        .as_ref()
        .is_some_and(|shown| began(&is_after) <= began(&shown.mpd))
    {
        return None;
    }
    // What came since the last good version may be of either run.
    let unsure = shown.as_ref().map_or(Duration::MAX, |shown| {
        shown.unconfirmed_for(node.clock.uptime())
    });
    let since = node
        .clock
        .now()
        .checked_sub(unsure)
        .unwrap_or(SystemTime::UNIX_EPOCH);
    let mut ended = vec![Arc::new(live::end_series(node, &series, since))];
    if let Some(shown) = &shown
        && last.following.is_none()
        && let Some(series) = series_of(node, address, &shown.mpd)
    {
        ended.push(Arc::new(live::end_series(node, &series, since)));
    }
    if let Some(before) = &last.following {
        node.hub.runs.end_mark(&before.mark);
        ended.extend(before.ended.iter().take(RUNS_MAX).cloned());
    }
    if let Some(following) = &mut run.following {
        following.ended = ended;
        let (host, path, mark) = (&address.host, &address.path, &following.mark);
        tracing::info!(%host, %path, %mark, "a presentation began again and goes on in a new period");
    }
    let run = Arc::new(run);
    node.mpds.runs.known.insert(key.clone(), Arc::clone(&run));
    Some(run)
}

/// Returns what is not shown of the beginning of a run: what is older than players need to begin.
///
/// Whoever comes over begins with the first segment of its period, and one that comes to a time that it has had gets stuck.
fn withheld(node: &Node, mpd: &Mpd, run_start: Duration) -> Option<Withheld> {
    let [period] = mpd.periods.as_slice() else {
        return None;
    };
    let period_start = period.start?;
    let since = since(node, run_start.checked_add(period_start)?)?;
    let segment = Some(longest_segment(mpd)).filter(|segment| !segment.is_zero())?;
    let segments = since.checked_sub(to_play_from(mpd))?.as_nanos() / segment.as_nanos();
    let segments = u32::try_from(segments).ok().filter(|it| *it > 0)?;
    Some(Withheld {
        period_start,
        duration: segment.checked_mul(segments)?,
    })
}

/// Lets some of a run be withheld if that can be said of it; returns how it is shown then.
fn without(
    node: &Node,
    key: &CacheKey,
    run: &mut Run,
    mpd: &Mpd,
    withheld: Withheld,
) -> Option<Mpd> {
    run.following.as_mut()?.rebase.withheld = Some(withheld);
    let shown = rewritten(node, key, run, mpd);
    if shown.is_none() {
        run.following.as_mut()?.rebase.withheld = None;
    }
    shown
}

fn rebase_of(mark: &str, last: &Run, mpd: &Mpd, shown: Option<&Known>) -> Option<Rebase> {
    let milliseconds = u64::try_from(last.start.as_millis()).ok()?;
    let (availability_start, published_before) = match &last.following {
        Some(following) => (
            following.rebase.availability_start,
            following.rebase.published_later,
        ),
        None => (Duration::from_millis(milliseconds), Duration::ZERO),
    };
    let published = mpd.publish_time.unwrap_or_default();
    let shown = shown.and_then(|shown| shown.mpd.publish_time);
    let published_later = match shown {
        Some(shown) if published <= shown => shown - published + PUBLISHED_LATER_MIN,
        Some(_) => Duration::ZERO,
        // It was shown long ago: no later than this, as far as clocks go.
        None => published_before,
    };
    Some(Rebase {
        availability_start,
        published_later,
        parameter: format!("{RUN_MARK}={mark}"),
        period_suffix: mark.to_owned(),
        withheld: None,
    })
}

fn rewritten(node: &Node, key: &CacheKey, run: &Run, mpd: &Mpd) -> Option<Mpd> {
    let following = run.following.as_ref()?;
    let is_settling = node.clock.uptime() < following.settles_at;
    let own = mpd.periods.first().and_then(|period| period.start);
    let withheld = (following.rebase.withheld)
        .filter(|withheld| Some(withheld.period_start) == own)
        .map(|withheld| withheld.duration);
    let begins = [own, withheld]
        .into_iter()
        .flatten()
        .fold(run.start, Duration::saturating_add);
    // Nothing is available of before the run.
    let window = since(node, begins)
        .unwrap_or_default()
        .max(to_play_from(mpd));
    let before = node.mpds.runs.before.get(key).filter(|_| is_settling);
    let crossing = Crossing {
        before: before.as_deref(),
        window: Some(window).filter(|_| mpd.is_dynamic()),
    };
    parsed(following.rebase.rewrite(mpd, run.start, crossing)?)
}

/// Parses a text that is an MPD's with small changes.
fn parsed(text: Bytes) -> Option<Mpd> {
    let limits = Limits {
        bytes_max: text.len(),
        ..Limits::default()
    };
    Mpd::parse(text, &limits).ok()
}

/// Returns how long ago an instant was, which is since 1970.
fn since(node: &Node, then: Duration) -> Option<Duration> {
    let now = node.clock.now();
    now.duration_since(SystemTime::UNIX_EPOCH)
        .ok()?
        .checked_sub(then)
}

/// Returns as much of the past as players need to begin.
fn to_play_from(mpd: &Mpd) -> Duration {
    let segment = longest_segment(mpd);
    let delay = mpd.suggested_presentation_delay.unwrap_or(segment * 2);
    delay.min(SETTLING_MIN).saturating_add(segment * 2)
}

fn longest_segment(mpd: &Mpd) -> Duration {
    let segments = mpd.representations.iter().filter_map(|one| {
        let template = one.template.as_ref()?;
        let listed = template.timeline.iter().map(|run| run.duration).max();
        let timescale = template.timescale.unwrap_or(1).max(1);
        let listed =
            listed.map(|units| Duration::from_millis(units.saturating_mul(1000) / timescale));
        listed.or_else(|| template.segment_duration())
    });
    segments.max().unwrap_or_default().min(SEGMENT_MAX)
}

/// Lets go of everything that is known of the MPD's names: they may mean anything again.
fn let_go(
    node: &Node,
    key: &CacheKey,
    address: &Address,
    (mpd, start): (&Mpd, Duration),
    last: Option<&Run>,
) {
    let mut series = series_of(node, address, mpd).unwrap_or_default();
    if let Some(shown) = node.mpds.known(key) {
        series.extend(series_of(node, address, &shown.mpd).unwrap_or_default());
    }
    if let Some(following) = last.and_then(|last| last.following.as_ref()) {
        node.hub.runs.end_mark(&following.mark);
        for ended in &following.ended {
            node.hub.runs.resume(ended);
        }
    }
    live::forget_series(node, &series);
    let run = Arc::new(Run {
        start,
        following: None,
    });
    node.mpds.runs.known.insert(key.clone(), run);
}

/// Returns names of each representation's segments, which differ in their numbers, and its initialization segment's.
///
/// `None` if some of them are not asked for here: they could not be told apart.
fn series_of(node: &Node, address: &Address, mpd: &Mpd) -> Option<Vec<Vec<CacheKey>>> {
    let key = |representation: &Representation, path: String| {
        let bases = representation.base_urls.iter().rev();
        let uri = bases.fold(path, |uri, base| joined(&base.uri, &uri));
        let (host, target) = live::locate_child(node, address, &uri)?;
        Some(crate::request::key_of_target(&host, &target))
    };
    let mut series = Vec::new();
    for representation in mpd.representations.iter().take(REPRESENTATIONS_MAX) {
        let named = [8, 9].map(|number| {
            let segment = Addressed {
                number: Some(number),
                time: Some(number),
                sub_number: Some(number),
            };
            key(representation, representation.path_of(segment)?)
        });
        series.push(named.into_iter().collect::<Option<Vec<_>>>()?);
        if let Some(path) = representation.initialization_path() {
            series.push(vec![key(representation, path)?]);
        }
    }
    Some(series)
}

fn is_another(start: Duration, other: Duration) -> bool {
    is_later(start, other) || is_later(other, start)
}

/// Packagers that compute their start anew each time differ by less.
fn is_later(start: Duration, other: Duration) -> bool {
    start.saturating_sub(other) >= SAME_START
}

/// Packagers of one presentation, and one that computes its start anew each time, agree on it better than this.
const SAME_START: Duration = Duration::from_secs(1);

/// As many MPDs as a node may know of.
const MPDS_MAX: usize = 50_000;

/// Periods that players come from, in bytes.
const BEFORE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Runs of one MPD whose names are kept apart.
const RUNS_MAX: usize = 64;

/// Representations of one MPD whose names are kept apart.
const REPRESENTATIONS_MAX: usize = 64;

/// How long players come over from a run: each reads the MPD once per update period.
const SETTLING_MIN: Duration = Duration::from_secs(60);
const SETTLING_MAX: Duration = Duration::from_secs(600);

/// Players learn that a presentation began again when they read its MPD, and stand still until then.
const UPDATE_PERIOD_MAX: Duration = Duration::from_secs(4);

/// Longer segments than anybody makes.
const SEGMENT_MAX: Duration = Duration::from_secs(60);

/// What a later version is published later at least.
const PUBLISHED_LATER_MIN: Duration = Duration::from_secs(1);
