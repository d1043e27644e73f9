//! Every metric of a node: name, type, unit, labels, meaning.
//!
//! The one place where metric names are written. Who reads it: `handles`, which resolves them at
//! start, and the test that compares the list with `docs/metrics.md`.

use metrics::{Key, Label, Level, Metadata, Recorder, Unit};

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A count that only grows.
    Counter,
    /// A level.
    Gauge,
    /// A distribution in buckets.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name, with its unit and `_total` where Prometheus wants them.
    pub name: &'static str,
    /// What it is.
    pub kind: Type,
    /// The unit of its values.
    pub unit: Unit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, in one sentence.
    pub meaning: &'static str,
}

impl Metric {
    /// Returns the key of the series with these label values.
    pub(super) fn key(&self, values: &[&str]) -> Key {
        debug_assert_eq!(self.labels.len(), values.len(), "{}", self.name);
        let label = |(name, value): (&&'static str, &&str)| Label::new(*name, (*value).to_owned());
        Key::from_parts(
            self.name,
            self.labels
                .iter()
                .zip(values)
                .map(label)
                .collect::<Vec<_>>(),
        )
    }

    /// Tells `recorder` what the metric means.
    pub(super) fn describe(&self, recorder: &impl Recorder) {
        let (name, unit, meaning) = (self.name.into(), Some(self.unit), self.meaning.into());
        match self.kind {
            Type::Counter => recorder.describe_counter(name, unit, meaning),
            Type::Gauge => recorder.describe_gauge(name, unit, meaning),
            Type::Histogram => recorder.describe_histogram(name, unit, meaning),
        }
    }
}

pub(super) const METADATA: Metadata<'static> = Metadata::new("seawall", Level::INFO, None);

macro_rules! catalog {
    ($($ident:ident = $name:literal, $kind:ident, $unit:ident, [$($label:literal),*], $meaning:literal;)*) => {
        $(pub(super) const $ident: Metric = Metric {
            name: $name,
            kind: Type::$kind,
            unit: Unit::$unit,
            labels: &[$($label),*],
            meaning: $meaning,
        };)*

        /// Every metric of a node.
        pub const CATALOG: &[Metric] = &[$($ident),*];
    };
}

catalog! {
    BUILD_INFO = "seawall_build_info", Gauge, Count, ["version", "node"],
        "Always 1; the labels say what runs.";
    UPTIME = "seawall_uptime_seconds", Gauge, Seconds, [],
        "Time since the node was started.";

    REQUESTS = "seawall_requests_total", Counter, Count, ["protocol", "status", "outcome"],
        "Finished requests by protocol, status class and what the cache did.";
    REQUESTS_BY_KIND = "seawall_media_requests_total", Counter, Count, ["kind", "outcome"],
        "Finished requests by what was asked for and what the cache did.";
    VIEWER_BYTES = "seawall_viewer_bytes_total", Counter, Bytes, ["kind"],
        "Body bytes handed to viewers' connections.";
    ENDINGS = "seawall_request_endings_total", Counter, Count, ["ending"],
        "Finished requests by how they ended; viewer_left counts viewers that left early.";
    FAILURES = "seawall_failures_total", Counter, Count, ["failure"],
        "Requests that could not be answered, by failure.";
    FIRST_BYTE = "seawall_first_byte_seconds", Histogram, Seconds, ["outcome"],
        "Time from a request's arrival to the head of its answer, without held requests.";
    DURATION = "seawall_request_duration_seconds", Histogram, Seconds, ["protocol"],
        "Time from a request's arrival to its last byte.";
    HOLD = "seawall_hold_seconds", Histogram, Seconds, ["result"],
        "How long requests were held on purpose: released with what they asked for, expired, or left by the viewer.";
    HELD = "seawall_held_requests", Gauge, Count, [],
        "Requests held right now.";
    CONNECTIONS = "seawall_connections", Gauge, Count, [],
        "Open connections of clients.";

    FORWARD = "seawall_forward_requests_total", Counter, Count, ["parent", "class", "status"],
        "Requests to parents by connection class and status class; none means no answer.";
    FORWARD_WAIT = "seawall_forward_wait_seconds", Histogram, Seconds, ["class"],
        "Time from asking a parent to the head of its answer; parked requests are held by it.";
    FORWARD_CONNECTIONS = "seawall_forward_connections", Gauge, Count, ["parent", "class"],
        "Open connections to parents.";
    FORWARD_CONNECTIONS_OPENED = "seawall_forward_connections_opened_total", Counter, Count, ["parent", "class"],
        "Connections opened to parents; requests beyond them went over one that was there.";
    SECOND_ATTEMPTS = "seawall_forward_second_attempts_total", Counter, Count, ["result"],
        "Second requests for what was late at the live edge, made beside the first, by what came of them.";
    PARENT_UP = "seawall_parent_up", Gauge, Count, ["parent"],
        "1 while requests go to the parent, 0 while it is left alone because it failed.";
    PARENT_FAILURES = "seawall_parent_failures_total", Counter, Count, ["parent"],
        "How often the parent began to be left alone because it failed.";
    MISBEHAVIOR = "seawall_origin_misbehavior_total", Counter, Count, ["rule"],
        "Answers of parents that broke a rule players rely on, by rule.";

    FILLS = "seawall_fills_started_total", Counter, Count, ["reason"],
        "Fills begun, because a viewer asked or ahead of the first viewer.";
    FILLS_FINISHED = "seawall_fills_finished_total", Counter, Count, ["ending"],
        "Fills by how they ended.";
    FILLS_RUNNING = "seawall_fills_running", Gauge, Count, [],
        "Fills running right now.";
    FILL_BYTES = "seawall_fill_bytes_total", Counter, Bytes, [],
        "Body bytes that fills received from parents.";
    FILL_DURATION = "seawall_fill_duration_seconds", Histogram, Seconds, [],
        "Time from the start of a fill to its end.";

    NEXT_OBJECTS = "seawall_next_objects_total", Counter, Count, ["became"],
        "Objects that players announced as their next, by what became of them; none while that is off.";

    CHAINS_RUNNING = "seawall_chains_running", Gauge, Count, [],
        "Chains that follow a live rendition right now.";
    CHAINS_STARTED = "seawall_chains_started_total", Counter, Count, [],
        "Chains begun.";
    CHAIN_FAILURES = "seawall_chain_failures_total", Counter, Count, ["failure"],
        "Times a chain could not bring the next version, by failure.";
    RENDITIONS = "seawall_renditions", Gauge, Count, [],
        "Live renditions known right now.";
    VERSIONS = "seawall_versions_published_total", Counter, Count, [],
        "Live playlist versions published to viewers.";
    EDGE_LAG = "seawall_live_edge_lag_seconds", Histogram, Seconds, [],
        "How old a live playlist version was when it arrived, by the parent's word.";
    REGRESSIONS = "seawall_regressions_prevented_total", Counter, Count, [],
        "Older playlist versions that parents answered and viewers were not shown.";

    STREAM_VIEWERS = "seawall_stream_viewers", Gauge, Count, ["stream"],
        "Distinct viewers in the last half minute, by session or else by address.";
    STREAM_REQUESTS = "seawall_stream_requests_total", Counter, Count, ["stream"],
        "Finished requests of viewers.";
    STREAM_FORWARD = "seawall_stream_forward_requests_total", Counter, Count, ["stream"],
        "Requests to parents; offload is one minus their share of the viewers' requests.";
    STREAM_OBJECTS = "seawall_stream_objects_total", Counter, Count, ["stream"],
        "Objects that parents sent whole.";
    STREAM_VIEWER_BYTES = "seawall_stream_viewer_bytes_total", Counter, Bytes, ["stream"],
        "Body bytes handed to viewers' connections.";
    STREAM_PARENT_BYTES = "seawall_stream_parent_bytes_total", Counter, Bytes, ["stream"],
        "Body bytes that parents sent.";
    STREAM_HELD = "seawall_stream_held_total", Counter, Count, ["stream"],
        "Requests that were held on purpose.";
    STREAM_HOLD = "seawall_stream_hold_seconds", Histogram, Seconds, ["stream"],
        "How long requests were held on purpose.";
    STREAM_REPORTS = "seawall_stream_reports_total", Counter, Count, ["stream"],
        "Requests in which a player reports how playing goes (CMCD).";
    STREAM_STARVED = "seawall_stream_starved_total", Counter, Count, ["stream"],
        "Reports of a buffer that ran dry; their share of the reports is the rebuffer ratio.";
    STREAM_BUFFER = "seawall_stream_buffer_seconds", Histogram, Seconds, ["stream"],
        "Media in players' buffers, as they report it.";
    STREAM_STARTUP = "seawall_stream_startup_seconds", Histogram, Seconds, ["stream"],
        "Time from a session's first request until it plays, as its reports show.";
    STREAM_THROUGHPUT = "seawall_stream_throughput_bits_per_second", Histogram, BitsPerSecond, ["stream"],
        "Throughput that players measured.";

    STORE_BYTES = "seawall_store_bytes", Gauge, Bytes, [],
        "Bytes of stored responses.";
    STORE_RESPONSES = "seawall_store_responses", Gauge, Count, [],
        "Stored responses.";

    PURGE_APPLIED = "seawall_purge_applied", Gauge, Count, [],
        "The last purge of the log that is applied here, by its place in the log.";
    PURGE_HEAD = "seawall_purge_head", Gauge, Count, [],
        "The last purge that is known to be in the log, by its place in the log.";
    PURGE_BEHIND = "seawall_purge_behind", Gauge, Count, [],
        "Purges that are known to be in the log and not applied here yet.";
    PURGE_LAG = "seawall_purge_lag_seconds", Gauge, Seconds, [],
        "How old the node's knowledge of the log is: a purge accepted before that is applied.";
    PURGE_STATE = "seawall_purge_state", Gauge, Count, ["state"],
        "1 for what holds: none without a log, starting before it was heard, current, or lagging.";
    PURGE_CHILDREN = "seawall_purge_children", Gauge, Count, [],
        "Nodes that follow the purge log here right now.";
    PURGES = "seawall_purges_applied_total", Counter, Count, ["target"],
        "Purges of the log that were applied, by what they were for.";
    PURGE_MATCHED = "seawall_purge_matched_objects_total", Counter, Count, ["target"],
        "Stored responses and followed playlists that purges of the log meant, by what they were for.";
    PURGE_DOOMED = "seawall_purge_doomed_fills_total", Counter, Count, [],
        "Running fills that a purge of the log closed to newcomers and to the store.";
    PURGE_RESETS = "seawall_purge_resets_total", Counter, Count, [],
        "Times everything became stale because purges were missed, or the log was another one.";

    LOG_LINES = "seawall_log_lines_total", Counter, Count, [],
        "Lines handed to the access log's writer.";
    LOG_DROPPED = "seawall_log_lines_dropped_total", Counter, Count, [],
        "Lines of the access log that were dropped because its writer could not keep up.";
}
