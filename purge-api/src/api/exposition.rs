//! What the API counts, as text for Prometheus.
//!
//! Who calls it: `GET /metrics`, on either listener. What it calls: nothing that waits; it looks at what is in memory.
//! Deliberately not here: counting.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use super::Api;
use super::metrics::{BOUNDS_MS, Histogram};
use crate::journal::NodeProgress;

/// Every metric: name behind the prefix, type, labels, and what it means.
///
/// Invariant: `docs/metrics.md` has a row for each, and no other.
pub(super) const CATALOG: [(&str, &str, &str, &str); 13] = [
    (
        "accepted_total",
        "counter",
        "`verb`, `mode`",
        "Purges accepted, repetitions not counted.",
    ),
    (
        "refused_total",
        "counter",
        "`reason`",
        "Requests refused, by the name of the problem.",
    ),
    (
        "append_seconds",
        "histogram",
        "-",
        "From asking the journal to its word that a purge is kept: its turn, the write and the fsync, on NATS a majority's word.",
    ),
    (
        "applied_seconds",
        "histogram",
        "-",
        "From accepted here to the report here that a node applied the purge, by the API's clock.",
    ),
    (
        "head_sequence",
        "gauge",
        "-",
        "The last purge in the log, by its place.",
    ),
    (
        "tail_sequence",
        "gauge",
        "-",
        "The first purge that can still be read.",
    ),
    (
        "log_age_seconds",
        "gauge",
        "-",
        "How long ago it was certain that the log has no end further on; always 0 on a journal of this machine.",
    ),
    (
        "feeds",
        "gauge",
        "-",
        "Nodes that follow the log here right now.",
    ),
    (
        "events",
        "gauge",
        "-",
        "Streams of events that are open right now.",
    ),
    (
        "audit_up",
        "gauge",
        "-",
        "1 while the audit can be written; nothing is accepted without it.",
    ),
    (
        "node_applied_sequence",
        "gauge",
        "`node`",
        "The last purge that a node applied.",
    ),
    (
        "node_lag_purges",
        "gauge",
        "`node`",
        "Purges that a node has not applied yet.",
    ),
    (
        "node_silent_seconds",
        "gauge",
        "`node`",
        "How long a node has not reported.",
    ),
];

/// Returns everything that is counted.
pub(super) fn text(api: &Api) -> String {
    let mut out = Text::default();
    counted(&mut out, api);
    let shared = &api.shared;
    let bounds = shared.journal.bounds();
    out.one("head_sequence", bounds.head.0);
    out.one("tail_sequence", bounds.tail.0);
    out.one("log_age_seconds", shared.journal.age().as_secs_f64());
    out.one("feeds", shared.feed.open());
    let events = shared.events.available_permits();
    out.one("events", shared.limits.events_max.saturating_sub(events));
    out.one("audit_up", u8::from(shared.audit.is_whole()));
    of_nodes(&mut out, api);
    out.0
}

/// Writes what was counted since the process started.
fn counted(out: &mut Text, api: &Api) {
    let state = api.shared.metrics.state.lock();
    out.head("accepted_total");
    for ((verb, mode), count) in &state.accepted {
        let labels = format!("verb=\"{verb}\",mode=\"{mode}\"");
        out.line("accepted_total", &labels, count);
    }
    out.head("refused_total");
    for (kind, count) in &state.refused {
        let labels = format!("reason=\"{}\"", kind.name());
        out.line("refused_total", &labels, count);
    }
    out.histogram("append_seconds", &state.appended);
    out.histogram("applied_seconds", &state.applied);
}

/// Writes how far each node is.
fn of_nodes(out: &mut Text, api: &Api) {
    let head_of_log = api.shared.journal.bounds().head;
    let now = api.now();
    let nodes = api.shared.journal.nodes();
    let mut each = |name: &str, figure: &dyn Fn(&NodeProgress) -> u64| {
        out.head(name);
        for node in &nodes {
            let labels = format!("node=\"{}\"", node.node);
            out.line(name, &labels, figure(node));
        }
    };
    each("node_applied_sequence", &|node| node.through.0);
    each("node_lag_purges", &|node| {
        head_of_log.0.saturating_sub(node.through.0)
    });
    each("node_silent_seconds", &|node| {
        now.since(node.reported_at).as_secs()
    });
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str) {
        let found = CATALOG.iter().find(|metric| metric.0 == name);
        let (_, kind, _, meaning) = found.expect("what is written is in the catalog");
        let written = writeln!(
            self.0,
            "# HELP {PREFIX}{name} {meaning}\n# TYPE {PREFIX}{name} {kind}"
        );
        written.expect("a string can be written to");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        let written = if labels.is_empty() {
            writeln!(self.0, "{PREFIX}{name} {value}")
        } else {
            writeln!(self.0, "{PREFIX}{name}{{{labels}}} {value}")
        };
        written.expect("a string can be written to");
    }

    fn one(&mut self, name: &str, value: impl Display) {
        self.head(name);
        self.line(name, "", value);
    }

    fn histogram(&mut self, name: &str, histogram: &Histogram) {
        self.head(name);
        let bucket = format!("{name}_bucket");
        for (bound, count) in BOUNDS_MS.iter().zip(histogram.buckets) {
            let seconds = Duration::from_millis(*bound).as_secs_f64();
            self.line(&bucket, &format!("le=\"{seconds}\""), count);
        }
        self.line(&bucket, "le=\"+Inf\"", histogram.count);
        self.line(&format!("{name}_sum"), "", histogram.sum.as_secs_f64());
        self.line(&format!("{name}_count"), "", histogram.count);
    }
}

const PREFIX: &str = "seawall_purge_api_";
