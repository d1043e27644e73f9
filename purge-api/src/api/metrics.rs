//! What the API counts, and whether it is well.
//!
//! Who calls it: routes, and everything that accepts or refuses. Deliberately not here: the text that shows it, which
//! is in `exposition`; what nodes count.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{self, Extension};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use purge_log::{Mode, NodeName, Report, Sequence, UnixMillis};

use super::problem::{Problem, ProblemKind};
use super::{Api, allowed, exposition};
use crate::auth::{Caller, Verb};

/// What was counted since the process started.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) state: Mutex<State>,
}

/// See [`Metrics`].
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) accepted: BTreeMap<(&'static str, &'static str), u64>,
    pub(super) refused: BTreeMap<ProblemKind, u64>,
    /// From asking the journal to its answer that a purge is kept.
    pub(super) appended: Histogram,
    /// When purges of late were accepted, at most [`RECENT_MAX`].
    recent: BTreeMap<Sequence, UnixMillis>,
    /// Up to where reports of a node were counted: what it says again counts once.
    counted: BTreeMap<NodeName, Sequence>,
    pub(super) applied: Histogram,
}

/// How often something took how long.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    pub(super) buckets: [u64; BOUNDS_MS.len()],
    pub(super) count: u64,
    pub(super) sum: Duration,
}

impl Metrics {
    pub(super) fn accepted(&self, verb: Verb, mode: Mode, sequence: Sequence, at: UnixMillis) {
        let mode = match mode {
            Mode::Soft => "soft",
            Mode::Hard => "hard",
        };
        let mut state = self.state.lock();
        *state.accepted.entry((verb.as_str(), mode)).or_default() += 1;
        state.recent.insert(sequence, at);
        if state.recent.len() > RECENT_MAX {
            state.recent.pop_first();
        }
    }

    /// Counts how long the journal took to keep a purge: its turn, the write and the fsync, or a majority's word.
    pub(super) fn appended(&self, took: Duration) {
        self.state.lock().appended.add(took);
    }

    pub(super) fn refused(&self, kind: ProblemKind) {
        *self.state.lock().refused.entry(kind).or_default() += 1;
    }

    /// Counts what a report says for the first time, and returns that much of it.
    pub(super) fn applied(
        &self,
        report: &Report,
        nodes_max: usize,
        now: UnixMillis,
    ) -> Vec<purge_log::Applied> {
        let mut state = self.state.lock();
        let counted = state.counted.get(&report.node).copied();
        if counted.is_none() && state.counted.len() >= nodes_max {
            return Vec::new();
        }
        let counted = counted.unwrap_or_default();
        let news = report.applied.iter();
        let news: Vec<_> = news
            .filter(|line| line.sequence > counted)
            .cloned()
            .collect();
        for line in &news {
            if let Some(accepted_at) = state.recent.get(&line.sequence).copied() {
                state.applied.add(now.since(accepted_at));
            }
        }
        if let Some(last) = news.iter().map(|line| line.sequence).max() {
            state.counted.insert(report.node.clone(), last);
        }
        news
    }
}

impl Histogram {
    fn add(&mut self, value: Duration) {
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        for (bucket, bound) in self.buckets.iter_mut().zip(BOUNDS_MS) {
            *bucket += u64::from(value <= Duration::from_millis(bound));
        }
    }
}

/// `GET /metrics`, for those who may read.
pub(super) async fn metrics(
    extract::State(api): extract::State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    allowed(Some(&caller), Verb::Read)?;
    Ok(private_metrics(extract::State(api)).await)
}

/// `GET /metrics` on the private listener.
pub(super) async fn private_metrics(extract::State(api): extract::State<Api>) -> Response {
    let media_type = "text/plain; version=0.0.4";
    ([(header::CONTENT_TYPE, media_type)], exposition::text(&api)).into_response()
}

/// `GET /healthz`: whether purges can be accepted.
pub(super) async fn health(extract::State(api): extract::State<Api>) -> Response {
    if api.shared.closing.is_cancelled() {
        return Problem::new(ProblemKind::Closing, "shutting down").into_response();
    }
    if !api.shared.audit.is_whole() {
        return Problem::new(ProblemKind::Storage, "the audit cannot be written").into_response();
    }
    "ok\n".into_response()
}

/// Upper bounds of histograms: around what is promised, 150 ms at the median and a second at p99.
pub(super) const BOUNDS_MS: [u64; 13] =
    [1, 2, 5, 10, 25, 50, 100, 150, 250, 500, 1000, 5000, 30_000];

/// Purges whose time to the nodes is measured.
const RECENT_MAX: usize = 10_000;
