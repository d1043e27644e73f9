//! What the API counts, as text for Prometheus; and whether it is well.
//!
//! Who calls it: routes, and everything that accepts or refuses. Deliberately not here: what nodes count.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use axum::extract::{self, Extension};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use purge_log::{Mode, NodeName, Report, Sequence, UnixMillis};

use super::problem::{Problem, ProblemKind};
use super::{Api, allowed};
use crate::auth::{Caller, Verb};
use crate::journal::NodeProgress;

/// What was counted since the process started.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    accepted: BTreeMap<(&'static str, &'static str), u64>,
    refused: BTreeMap<ProblemKind, u64>,
    /// When purges of late were accepted, at most [`RECENT_MAX`].
    recent: BTreeMap<Sequence, UnixMillis>,
    /// Up to where reports of a node were counted: what it says again counts once.
    counted: BTreeMap<NodeName, Sequence>,
    applied: Histogram,
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [u64; BOUNDS_MS.len()],
    count: u64,
    sum_ms: u64,
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
        let millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
        self.count += 1;
        self.sum_ms = self.sum_ms.saturating_add(millis);
        for (bucket, bound) in self.buckets.iter_mut().zip(BOUNDS_MS) {
            *bucket += u64::from(millis <= bound);
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
    ([(header::CONTENT_TYPE, media_type)], text(&api)).into_response()
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

fn text(api: &Api) -> String {
    let mut out = String::new();
    let bounds = api.shared.journal.bounds();
    {
        let state = api.shared.metrics.state.lock();
        head(&mut out, "accepted_total", "counter", "purges accepted");
        for ((verb, mode), count) in &state.accepted {
            let labels = format!("verb=\"{verb}\",mode=\"{mode}\"");
            line(&mut out, "accepted_total", &labels, *count);
        }
        head(
            &mut out,
            "refused_total",
            "counter",
            "requests refused, by problem",
        );
        for (kind, count) in &state.refused {
            line(
                &mut out,
                "refused_total",
                &format!("reason=\"{}\"", kind.name()),
                *count,
            );
        }
        histogram(&mut out, &state.applied);
    }
    head(
        &mut out,
        "head_sequence",
        "gauge",
        "the last purge in the log",
    );
    line(&mut out, "head_sequence", "", bounds.head.0);
    head(
        &mut out,
        "tail_sequence",
        "gauge",
        "the first purge that can be read",
    );
    line(&mut out, "tail_sequence", "", bounds.tail.0);
    of_nodes(&mut out, api);
    out
}

/// Writes how far each node is.
fn of_nodes(out: &mut String, api: &Api) {
    let head_of_log = api.shared.journal.bounds().head;
    let now = api.now();
    let nodes = api.shared.journal.nodes();
    let applied = |node: &NodeProgress| node.through.0;
    let lag = |node: &NodeProgress| head_of_log.0.saturating_sub(node.through.0);
    let silent = |node: &NodeProgress| now.since(node.reported_at).as_secs();
    let mut write = |name: &str, help: &str, figure: &dyn Fn(&NodeProgress) -> u64| {
        head(out, name, "gauge", help);
        for node in &nodes {
            let labels = format!("node=\"{}\"", node.node);
            line(out, name, &labels, figure(node));
        }
    };
    write(
        "node_applied_sequence",
        "the last purge a node applied",
        &applied,
    );
    write("node_lag_purges", "purges a node has not applied yet", &lag);
    write(
        "node_silent_seconds",
        "how long a node has not reported",
        &silent,
    );
}

fn histogram(out: &mut String, applied: &Histogram) {
    let name = "applied_seconds";
    head(
        out,
        name,
        "histogram",
        "from accepted to the report of a node that it applied the purge",
    );
    for (bound, count) in BOUNDS_MS.iter().zip(applied.buckets) {
        let seconds = Duration::from_millis(*bound).as_secs_f64();
        line(
            out,
            "applied_seconds_bucket",
            &format!("le=\"{seconds}\""),
            count,
        );
    }
    line(out, "applied_seconds_bucket", "le=\"+Inf\"", applied.count);
    let sum = Duration::from_millis(applied.sum_ms).as_secs_f64();
    line(out, "applied_seconds_sum", "", sum);
    line(out, "applied_seconds_count", "", applied.count);
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    writeln!(
        out,
        "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}"
    )
    .expect("a string can be written to");
}

fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let written = if labels.is_empty() {
        writeln!(out, "{PREFIX}{name} {value}")
    } else {
        writeln!(out, "{PREFIX}{name}{{{labels}}} {value}")
    };
    written.expect("a string can be written to");
}

const PREFIX: &str = "seawall_purge_api_";

/// Upper bounds of the histogram: around what is promised, 150 ms at the median and a second at p99.
const BOUNDS_MS: [u64; 11] = [5, 10, 25, 50, 100, 150, 250, 500, 1000, 5000, 30_000];

/// Purges whose time to the nodes is measured.
const RECENT_MAX: usize = 10_000;
