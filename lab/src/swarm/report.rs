//! The figures of a run: as data, and as a text a person can read.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::client::Protocol;
use super::counts::OriginCounts;
use super::measure::{ErrorKind, Object, Tally};

/// What a run of the swarm measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The URL played.
    pub url: String,
    /// The HTTP version used.
    pub protocol: Protocol,
    /// How long the run took, seconds.
    pub seconds: f64,
    /// Viewers.
    pub viewers: Viewers,
    /// Requests made, by kind of object.
    pub requests: Requests,
    /// Errors, by kind.
    pub errors: Errors,
    /// Body bytes received.
    pub bytes: u64,
    /// Body bits received per second of the run.
    pub bits_per_second: f64,
    /// From publication at the origin to the last byte at the viewer, for what was new; `None`
    /// where the origin does not tell when it published (`Seawall-Published`).
    pub added_latency: AddedLatency,
    /// Playback as the simulated buffer saw it.
    pub playback: Playback,
    /// Playlists.
    pub playlists: Playlists,
    /// Media.
    pub media: MediaFigures,
    /// What our origin counted, if it was asked.
    pub origin: Option<OriginCounts>,
    /// Why the origin's counts are missing though they were asked for.
    pub origin_error: Option<String>,
}

/// Viewers of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Viewers {
    /// Asked for.
    pub asked: u64,
    /// Arrived before the run ended.
    pub arrived: u64,
    /// Saw a first frame.
    pub played: u64,
    /// Saw the presentation's end.
    pub finished: u64,
    /// Stalled at least once.
    pub stalled: u64,
}

/// Requests of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Requests {
    /// All of them.
    pub total: u64,
    /// Per second of the run.
    pub per_second: f64,
    /// Answered to the last byte, whatever the status.
    pub answered: u64,
    /// Given up by the viewer.
    pub aborted: u64,
    /// Under way when the run ended.
    pub unfinished: u64,
    /// By kind of object.
    pub by_object: Vec<Named>,
}

/// Errors of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Errors {
    /// All of them.
    pub total: u64,
    /// By kind.
    pub by_kind: Vec<Named>,
    /// Some of their texts.
    pub samples: Vec<String>,
}

/// A name and a number.
#[derive(Debug, Clone, Serialize)]
pub struct Named {
    /// The name.
    pub name: &'static str,
    /// The number.
    pub count: u64,
}

/// Added latency of live objects.
#[derive(Debug, Clone, Serialize)]
pub struct AddedLatency {
    /// Blocking reloads.
    pub playlist: Option<Quantiles>,
    /// Parts and segments new at the live edge.
    pub part: Option<Quantiles>,
    /// Objects that came before they were published: the clocks of origin and swarm disagree.
    pub clock_skews: u64,
}

/// Quantiles of a duration, milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Quantiles {
    /// How many were measured.
    pub count: u64,
    /// Median.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// Playback of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Playback {
    /// From arrival to the first frame.
    pub startup: Option<Quantiles>,
    /// Stalls of all viewers.
    pub stalls: u64,
    /// Seconds stalled, all viewers.
    pub stalled_seconds: f64,
    /// Seconds played, all viewers.
    pub played_seconds: f64,
    /// Changes of variant.
    pub switches: u64,
}

/// Playlists of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Playlists {
    /// Blocking reloads sent.
    pub blocking_reloads: u64,
    /// Playlists older than one the same viewer had before: must be 0.
    pub regressions: u64,
    /// Regressions that stayed and were followed as a new broadcast.
    pub restarts: u64,
    /// Blocking reloads answered without what they asked for.
    pub unsatisfied_reloads: u64,
    /// Reloads on a timer, without directives, after tune-in.
    pub polls_on_a_timer: u64,
    /// Reloads after a failed one.
    pub recoveries: u64,
    /// Delta updates asked for.
    pub delta_updates: u64,
    /// Delta updates that did not fit the list before them.
    pub delta_misfits: u64,
}

/// Media of a run.
#[derive(Debug, Clone, Serialize)]
pub struct MediaFigures {
    /// Objects jumped over after repeated failures.
    pub gaps: u64,
    /// Times a viewer had fallen out of the playlist's window.
    pub jumps: u64,
    /// Hints withdrawn by the origin.
    pub withdrawn_hints: u64,
}

/// The run as the report names it.
pub(crate) struct Run {
    pub(crate) url: String,
    pub(crate) protocol: Protocol,
    pub(crate) viewers: u64,
    pub(crate) took: Duration,
    pub(crate) origin: Option<Result<OriginCounts, String>>,
}

impl Report {
    pub(crate) fn new(run: Run, tally: &Tally) -> Self {
        let seconds = run.took.as_secs_f64().max(0.001);
        let requests = tally.requests_total();
        let (origin, origin_error) = match run.origin {
            Some(Ok(counts)) => (Some(counts), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        Self {
            url: run.url,
            protocol: run.protocol,
            seconds,
            viewers: Viewers {
                asked: run.viewers,
                arrived: tally.viewers_arrived,
                played: tally.startup.len(),
                finished: tally.viewers_finished,
                stalled: tally.viewers_stalled,
            },
            requests: Requests {
                total: requests,
                per_second: requests as f64 / seconds,
                answered: tally.answers,
                aborted: tally.aborted,
                unfinished: tally.unfinished,
                by_object: named(&Object::ALL.map(|(_, name)| name), &tally.requests),
            },
            errors: Errors {
                total: tally.errors_total(),
                by_kind: named(&ErrorKind::ALL.map(|(_, name)| name), &tally.errors),
                samples: tally.samples.clone(),
            },
            bytes: tally.bytes,
            bits_per_second: tally.bytes as f64 * 8.0 / seconds,
            added_latency: AddedLatency {
                playlist: Quantiles::of(&tally.added_playlist),
                part: Quantiles::of(&tally.added_part),
                clock_skews: tally.clock_skews,
            },
            playback: playback(tally),
            playlists: playlists(tally),
            media: MediaFigures {
                gaps: tally.gaps,
                jumps: tally.jumps,
                withdrawn_hints: tally.withdrawn_hints,
            },
            origin,
            origin_error,
        }
    }
}

fn playback(tally: &Tally) -> Playback {
    Playback {
        startup: Quantiles::of(&tally.startup),
        stalls: tally.stalls,
        stalled_seconds: tally.stalled.as_secs_f64(),
        played_seconds: tally.played.as_secs_f64(),
        switches: tally.switches,
    }
}

fn playlists(tally: &Tally) -> Playlists {
    Playlists {
        blocking_reloads: tally.blocking_reloads,
        regressions: tally.regressions,
        restarts: tally.restarts,
        unsatisfied_reloads: tally.unsatisfied_reloads,
        polls_on_a_timer: tally.polls,
        recoveries: tally.recoveries,
        delta_updates: tally.delta_updates,
        delta_misfits: tally.delta_misfits,
    }
}

pub(crate) fn named(names: &[&'static str], counts: &[u64]) -> Vec<Named> {
    let pairs = names.iter().zip(counts);
    pairs
        .map(|(name, count)| Named {
            name,
            count: *count,
        })
        .collect()
}

impl Quantiles {
    /// Returns the quantiles of a histogram of microseconds, or `None` of an empty one.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            p50_ms: at(0.50),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            max_ms: histogram.max() as f64 / 1000.0,
        })
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {:.1}  p95 {:.1}  p99 {:.1}  max {:.1} ms  ({} measured)",
            self.p50_ms, self.p95_ms, self.p99_ms, self.max_ms, self.count
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (url, seconds) = (&self.url, self.seconds);
        writeln!(f, "{url} over {:?}, {seconds:.1} s", self.protocol)?;
        self.show_requests(f)?;
        self.show_latency(f)?;
        self.show_playback(f)?;
        match (&self.origin, &self.origin_error) {
            (Some(origin), _) => row(f, "origin", origin),
            (None, Some(error)) => row(f, "origin", format_args!("no counts: {error}")),
            (None, None) => Ok(()),
        }
    }
}

impl Report {
    fn show_requests(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = &self.viewers;
        let viewers = format_args!(
            "{} arrived of {}, {} played, {} stalled, {} saw the end",
            v.arrived, v.asked, v.played, v.stalled, v.finished
        );
        row(f, "viewers", viewers)?;
        let r = &self.requests;
        let by_object = list(&r.by_object);
        let requests = format_args!(
            "{} ({:.0}/s): {by_object}; {} aborted, {} unfinished",
            r.total, r.per_second, r.aborted, r.unfinished
        );
        row(f, "requests", requests)?;
        let errors = format_args!("{} {}", self.errors.total, list(&self.errors.by_kind));
        row(f, "errors", errors)?;
        for sample in &self.errors.samples {
            row(f, "", sample)?;
        }
        let (bytes, bits) = (self.bytes as f64 / 1e6, self.bits_per_second / 1e6);
        row(
            f,
            "received",
            format_args!("{bytes:.1} MB, {bits:.1} Mbit/s"),
        )
    }

    fn show_latency(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |quantiles: &Option<Quantiles>| match quantiles {
            Some(quantiles) => quantiles.to_string(),
            None => "not told by the origin".to_owned(),
        };
        let added = &self.added_latency;
        let playlist = shown(&added.playlist);
        row(f, "added latency", format_args!("playlist  {playlist}"))?;
        row(f, "", format_args!("part      {}", shown(&added.part)))?;
        if added.clock_skews > 0 {
            let skews = added.clock_skews;
            let text = "objects came before their publication: clocks disagree";
            row(f, "", format_args!("{skews} {text}"))?;
        }
        Ok(())
    }

    fn show_playback(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = &self.playback;
        if let Some(startup) = &p.startup {
            row(f, "startup", startup)?;
        }
        let stalls = format_args!(
            "{} in {:.0} s played, {:.1} s stalled; {} switches",
            p.stalls, p.played_seconds, p.stalled_seconds, p.switches
        );
        row(f, "stalls", stalls)?;
        let p = &self.playlists;
        let playlists = format_args!(
            "{} ran backwards; {} blocking reloads, {} unsatisfied; {} polls on a timer, {} \
             recoveries; {} delta updates, {} misfits",
            p.regressions,
            p.blocking_reloads,
            p.unsatisfied_reloads,
            p.polls_on_a_timer,
            p.recoveries,
            p.delta_updates,
            p.delta_misfits
        );
        row(f, "playlists", playlists)?;
        let m = &self.media;
        let media = format_args!(
            "{} gaps, {} jumps, {} hints withdrawn",
            m.gaps, m.jumps, m.withdrawn_hints
        );
        row(f, "media", media)
    }
}

pub(crate) fn row(f: &mut fmt::Formatter<'_>, name: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "  {name:<14} {value}")
}

pub(crate) fn list(counts: &[Named]) -> String {
    let shown: Vec<String> = counts
        .iter()
        .filter(|named| named.count > 0)
        .map(|named| format!("{} {}", named.name, named.count))
        .collect();
    shown.join(", ")
}
