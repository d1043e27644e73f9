//! What parents did wrong lately, with the evidence: for operators, who have to tell their packager.
//!
//! Metrics say how often each rule was broken; this says where, and how one can tell. Who fills it:
//! [`super::Telemetry::record`]. Who reads it: `/status`, and the demonstration's page.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use super::event::Misbehavior;
use super::labels::LabelValue;
use super::redact;

/// The lapses that are remembered one by one.
#[derive(Debug, Default)]
pub(super) struct Lapses {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    total: u64,
    /// The newest last; at most [`EXAMPLES_MAX`].
    examples: VecDeque<Example>,
}

#[derive(Debug)]
struct Example {
    rule: Misbehavior,
    host: String,
    path: String,
    evidence: String,
    times: u64,
    last_at: Duration,
}

/// What parents did wrong since the node was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LapseReport {
    /// How often they broke a rule, of all rules.
    pub total: u64,
    /// An example of each rule and playlist, the newest first; older ones are forgotten.
    pub recent: Vec<LapseExample>,
}

/// One rule that a parent broke with one playlist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LapseExample {
    /// The rule, as the label `rule` of the metric.
    pub rule: &'static str,
    /// The host of the playlist.
    pub host: String,
    /// Its path, with credentials removed.
    pub path: String,
    /// How one can tell; of the last time, or of one within a second before it.
    pub evidence: String,
    /// How often.
    pub times: u64,
    /// How long ago the last time was, in whole seconds.
    pub seconds_ago: u64,
}

impl Lapses {
    /// Notes one at `now`, time since the start.
    pub(super) fn note(
        &self,
        rule: Misbehavior,
        (host, path): (&str, &str),
        evidence: fmt::Arguments<'_>,
        now: Duration,
    ) {
        let path = redact::path(path);
        let mut state = self.state.lock();
        state.total += 1;
        let is_it =
            |known: &Example| known.rule == rule && known.host == host && known.path == path;
        let known = state.examples.iter().position(is_it);
        let mut example = known
            .and_then(|at| state.examples.remove(at))
            .unwrap_or_else(|| Example {
                rule,
                host: host.to_owned(),
                path,
                evidence: String::new(),
                times: 0,
                last_at: Duration::ZERO,
            });
        // A packager that does it with every part does it in many renditions: a text a second will do.
        if example.times == 0 || now.saturating_sub(example.last_at) >= EVIDENCE_EVERY {
            example.evidence = bounded(evidence);
        }
        example.times += 1;
        example.last_at = now;
        if state.examples.len() == EXAMPLES_MAX {
            state.examples.pop_front();
        }
        state.examples.push_back(example);
    }

    /// Returns what is known at `now`, time since the start.
    pub(super) fn report(&self, now: Duration) -> LapseReport {
        let state = self.state.lock();
        let shown = |example: &Example| LapseExample {
            rule: example.rule.text(),
            host: example.host.clone(),
            path: example.path.clone(),
            evidence: example.evidence.clone(),
            times: example.times,
            seconds_ago: now.saturating_sub(example.last_at).as_secs(),
        };
        LapseReport {
            total: state.total,
            recent: state.examples.iter().rev().map(shown).collect(),
        }
    }
}

/// Writes `text` out, as far as [`EVIDENCE_BYTES_MAX`] goes: it may quote what a parent sent.
fn bounded(text: fmt::Arguments<'_>) -> String {
    let mut kept = Bounded(String::new());
    // An error says that it did not fit; what did is kept.
    kept.write_fmt(text).ok();
    kept.0
}

struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.0.len() + character.len_utf8() > EVIDENCE_BYTES_MAX {
                return Err(fmt::Error);
            }
            self.0.push(character);
        }
        Ok(())
    }
}

/// A person reads them.
const EXAMPLES_MAX: usize = 32;
const EVIDENCE_BYTES_MAX: usize = 256;
const EVIDENCE_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const WHERE: (&str, &str) = ("live.example", "/live/v0.m3u8");
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_same_again_is_one_example_that_counts() {
        let lapses = Lapses::default();
        let late = Misbehavior::PartLate;
        lapses.note(late, WHERE, format_args!("one"), SECOND);
        lapses.note(Misbehavior::MapMissing, WHERE, format_args!("two"), SECOND);
        lapses.note(late, WHERE, format_args!("three"), SECOND + SECOND / 2);
        let report = lapses.report(SECOND * 4);
        assert_eq!(report.total, 3);
        let seen: Vec<_> = report
            .recent
            .iter()
            .map(|one| (one.rule, &*one.evidence, one.times, one.seconds_ago))
            .collect();
        assert_eq!(
            seen,
            [("part_late", "one", 2, 2), ("map_missing", "two", 1, 3)]
        );
        lapses.note(late, WHERE, format_args!("four"), SECOND * 4);
        assert_eq!(lapses.report(SECOND * 4).recent[0].evidence, "four");
    }

    #[test]
    fn what_is_kept_is_bounded_and_without_secrets() {
        let lapses = Lapses::default();
        for n in 0..100 {
            let path = format!("/token=s3cret/{n}.m3u8");
            let evidence = "ä".repeat(1_000);
            let place = ("live.example", &*path);
            lapses.note(
                Misbehavior::PartLate,
                place,
                format_args!("{evidence}"),
                SECOND,
            );
        }
        let report = lapses.report(SECOND);
        assert_eq!((report.total, report.recent.len()), (100, EXAMPLES_MAX));
        let newest = &report.recent[0];
        assert_eq!(newest.path, "/-/99.m3u8");
        assert!(newest.evidence.len() <= EVIDENCE_BYTES_MAX);
    }
}
