//! What happens in a node, counted and logged.
//!
//! ```text
//! exchange, fills, chains, upstream ──► Event ──► Telemetry ──┬─► handles ──► /metrics, Figures
//!                                                             └─► access log, one JSON line a request
//! ```
//!
//! What is here: the events, the list of metrics, the access log. Who calls it: everything in a node
//! that has something to tell; `admin` renders it. Deliberately not here: a global recorder. Several
//! nodes live in one process in tests and in the demonstration, and each has its own numbers.

mod access_log;
mod catalog;
mod counts;
mod event;
mod figures;
mod handles;
mod labels;
mod lapses;
mod redact;

pub use access_log::{AccessLog, AccessLogError};
pub use catalog::{CATALOG, Metric, Type};
pub use event::{
    Ending, Event, FillEnding, FinishedRequest, Misbehavior, NextObject, SecondAttempt,
};
pub use figures::{ConnectionsLevel, Figures, Levels, ParentLevel, PurgeLevel};
pub(crate) use handles::StreamHandles;
pub use lapses::{LapseExample, LapseReport};
pub(crate) use redact::{path as path_without_secrets, uri as uri_without_secrets};

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use tokio::time::MissedTickBehavior;

use crate::clock::Clock;
use crate::listen::OpenConnections;
use crate::respond::{Failure, Outcome};
use crate::upstream::Class;
use counts::{Count, Counts};
use handles::Handles;
use labels::{FillReason, HoldResult, LabelValue, PurgeKind, PurgeState, StatusClass};
use lapses::Lapses;

/// The telemetry of one node.
///
/// Invariant: nothing a viewer sends becomes a label; every series exists from the start, but for those
/// of presentations, which exist from their first playlist.
pub struct Telemetry {
    handles: Handles,
    counts: Counts,
    recorder: PrometheusRecorder,
    rendered: PrometheusHandle,
    clock: Clock,
    access_log: Option<AccessLog>,
    levels: OnceLock<LevelsSource>,
    connections: OnceLock<OpenConnections>,
    lapses: Lapses,
}

/// Where [`Levels`] come from.
type LevelsSource = Box<dyn Fn() -> Levels + Send + Sync>;

impl Telemetry {
    /// Creates the telemetry of the node called `node` with these parents, in their configured order.
    pub fn new(
        node: &str,
        parents: &[String],
        clock: Clock,
        access_log: Option<AccessLog>,
    ) -> Self {
        let recorder = builder().build_recorder();
        let counts = Counts::default();
        Self {
            handles: Handles::resolve(&recorder, &counts, node, parents),
            counts,
            rendered: recorder.handle(),
            recorder,
            clock,
            access_log,
            levels: OnceLock::new(),
            connections: OnceLock::new(),
            lapses: Lapses::default(),
        }
    }

    /// Names where levels (store, held requests, parents) are read when metrics are rendered. The
    /// first source stays.
    pub fn observe(&self, levels: impl Fn() -> Levels + Send + Sync + 'static) {
        self.levels.get_or_init(|| Box::new(levels));
    }

    /// Names where the open connections of clients are counted, once there is a listener.
    pub fn observe_connections(&self, connections: OpenConnections) {
        self.connections.get_or_init(|| connections);
    }

    /// Returns whether each finished request is logged, so that what only the log says need not be noted otherwise.
    pub(crate) fn logs_requests(&self) -> bool {
        self.access_log.is_some()
    }

    /// Counts an event, and logs it if it is a finished request.
    pub fn record(&self, event: Event<'_>) {
        let handles = &self.handles;
        match event {
            Event::RequestFinished(request) => self.request_finished(&request),
            Event::ForwardFinished {
                parent,
                class,
                status,
                waited,
            } => {
                let status = StatusClass::of(status);
                handles.parent(parent).requests.at(class).at(status).add(1);
                handles.forward_wait.at(class).record(waited);
            }
            Event::FillStarted { is_ahead } => {
                let reason = if is_ahead {
                    FillReason::Ahead
                } else {
                    FillReason::Asked
                };
                handles.fills.at(reason).add(1);
                handles.fills_running.begin();
            }
            Event::FillFinished {
                ending,
                bytes,
                duration,
            } => {
                handles.fills_finished.at(ending).add(1);
                handles.fill_bytes.add(bytes);
                handles.fill_duration.record(duration);
                handles.fills_running.end();
            }
            Event::ChainStarted => {
                handles.chains_started.add(1);
                handles.chains_running.begin();
            }
            Event::ChainStopped => handles.chains_running.end(),
            Event::ChainFailed(failure) => handles.chain_failures.at(failure).add(1),
            Event::VersionPublished { age } => {
                handles.versions.add(1);
                handles.edge_lag.record(age);
            }
            Event::PurgeApplied { target, counts } => {
                let kind = PurgeKind::of(target);
                handles.purges.purges.at(kind).add(1);
                handles.purges.matched.at(kind).add(counts.responses);
                handles.purges.doomed.add(counts.fills);
            }
            Event::SecondAttemptEnded(result) => handles.second_attempts.at(result).add(1),
            Event::NextObjectAnnounced(became) => handles.next_objects.at(became).add(1),
            Event::RegressionPrevented => handles.regressions.add(1),
            Event::OriginMisbehaved {
                rule,
                host,
                path,
                evidence,
            } => {
                handles.misbehavior.at(rule).add(1);
                let now = self.clock.uptime();
                self.lapses.note(rule, (host, path), evidence, now);
            }
        }
    }

    fn request_finished(&self, request: &FinishedRequest<'_>) {
        let handles = &self.handles;
        let FinishedRequest {
            protocol,
            kind,
            outcome,
            ending,
            ..
        } = *request;
        let status = StatusClass::of(request.status);
        handles.requests.at(protocol).at(status).at(outcome).add(1);
        handles.requests_by_kind.at(kind).at(outcome).add(1);
        handles.viewer_bytes.at(kind).add(request.bytes);
        handles.endings.at(ending).add(1);
        handles.duration.at(protocol).record(request.duration);
        if let Some(failure) = request.failure {
            handles.failures.at(failure).add(1);
        }
        if request.held.is_zero() {
            handles.first_byte.at(outcome).record(request.first_byte);
        } else {
            handles.hold.at(hold_result(request)).record(request.held);
        }
        if let Some(log) = &self.access_log
            && log.write(request, self.clock.now())
        {
            handles.log_lines.add(1);
        }
    }

    /// Registers the series of a presentation. Call it once for each.
    pub(crate) fn stream(&self, name: &str) -> StreamHandles {
        StreamHandles::resolve(&self.recorder, &self.counts, name)
    }

    /// Returns every metric in the Prometheus text format.
    pub fn render(&self) -> String {
        self.counts.show();
        self.show_levels(&self.levels());
        self.rendered.render()
    }

    /// Returns what parents did wrong, with examples of it.
    pub fn lapses(&self) -> LapseReport {
        self.lapses.report(self.clock.uptime())
    }

    /// Returns the main numbers.
    pub fn snapshot(&self) -> Figures {
        let handles = &self.handles;
        let levels = self.levels();
        let outcome = |outcome: Outcome| {
            handles
                .requests_by_kind
                .all()
                .map(|by| by.at(outcome).value())
                .sum::<u64>()
        };
        let forward = || {
            handles
                .parents
                .iter()
                .flat_map(|parent| parent.requests.all())
        };
        Figures {
            requests: sum(handles.endings.all()),
            hits: outcome(Outcome::Hit) + outcome(Outcome::Live),
            collapsed: outcome(Outcome::Collapsed),
            held: outcome(Outcome::Held),
            misses: outcome(Outcome::Miss),
            failed: outcome(Outcome::Failed),
            server_errors: handles
                .requests
                .all()
                .map(|by_status| sum(by_status.at(StatusClass::ServerError).all()))
                .sum(),
            viewer_aborts: handles.endings.at(Ending::ViewerLeft).value(),
            viewer_bytes: sum(handles.viewer_bytes.all()),
            forward_requests: forward().map(|by_status| sum(by_status.all())).sum(),
            forward_failures: forward().map(|s| s.at(StatusClass::None).value()).sum(),
            fills: sum(handles.fills.all()),
            fills_ahead: handles.fills.at(FillReason::Ahead).value(),
            fills_failed: handles.fills_finished.at(FillEnding::Failed).value(),
            fill_bytes: handles.fill_bytes.value(),
            versions: handles.versions.value(),
            regressions_prevented: handles.regressions.value(),
            chains: handles.chains_running.value(),
            held_now: levels.held_requests,
            renditions: levels.renditions,
            store_bytes: levels.store_bytes,
            store_responses: levels.store_responses,
            connections: self.connections(),
        }
    }

    /// Moves histogram samples into their buckets every [`UPKEEP_EVERY`], for ever. The node owns the
    /// task that runs this; without it, samples would pile up until somebody renders.
    ///
    /// Cancel safe.
    pub async fn keep_up(&self) {
        let mut ticks = tokio::time::interval(UPKEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.counts.show_samples();
            self.rendered.run_upkeep();
        }
    }

    fn levels(&self) -> Levels {
        self.levels
            .get()
            .map_or_else(Levels::default, |source| source())
    }

    fn connections(&self) -> u64 {
        self.connections
            .get()
            .map_or(0, |connections| connections.count() as u64)
    }

    fn show_levels(&self, levels: &Levels) {
        let handles = &self.handles;
        handles.uptime.set(self.clock.uptime().as_secs_f64());
        handles.held.set(float(levels.held_requests));
        handles.renditions.set(float(levels.renditions));
        handles.store_bytes.set(float(levels.store_bytes));
        handles.store_responses.set(float(levels.store_responses));
        handles.connections.set(float(self.connections()));
        for (level, parent) in levels.parents.iter().zip(&handles.parents) {
            parent.up.set(if level.is_usable { 1.0 } else { 0.0 });
            parent.failures.absolute(level.times_failed);
            for (class, connections) in [(Class::Parked, level.parked), (Class::Bulk, level.bulk)] {
                parent.open.at(class).set(float(connections.open));
                parent.opened.at(class).absolute(connections.opened);
            }
        }
        self.show_purges(levels.purges.as_ref());
        if let Some(log) = &self.access_log {
            handles.log_dropped.absolute(log.dropped());
        }
    }

    fn show_purges(&self, level: Option<&PurgeLevel>) {
        let handles = &self.handles.purges;
        let holds = PurgeState::of(level.map(|level| level.state));
        for state in PurgeState::ALL {
            let is_held = *state == holds;
            handles
                .state
                .at(*state)
                .set(if is_held { 1.0 } else { 0.0 });
        }
        let Some(level) = level else { return };
        handles.applied.set(float(level.applied));
        handles.head.set(float(level.head));
        handles
            .behind
            .set(float(level.head.saturating_sub(level.applied)));
        handles.lag.set(level.lag.as_secs_f64());
        handles.children.set(float(level.children));
        handles.resets.absolute(level.resets);
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

fn hold_result(request: &FinishedRequest<'_>) -> HoldResult {
    match (request.failure, request.status) {
        (Some(Failure::HoldExpired), _) => HoldResult::Expired,
        (_, None) => HoldResult::Left,
        (_, Some(_)) => HoldResult::Released,
    }
}

fn builder() -> PrometheusBuilder {
    let seconds = Matcher::Suffix("_seconds".to_owned());
    let rates = Matcher::Suffix("_bits_per_second".to_owned());
    PrometheusBuilder::new()
        .set_buckets_for_metric(seconds, &SECONDS_BUCKETS)
        .expect("the list of buckets is not empty")
        .set_buckets_for_metric(rates, &RATE_BUCKETS)
        .expect("the list of buckets is not empty")
}

fn sum<'a>(counts: impl Iterator<Item = &'a Count>) -> u64 {
    counts.map(Count::value).sum()
}

/// Gauges are floats; below 2^53 nothing is lost.
#[allow(clippy::cast_precision_loss, reason = "levels stay below 2^53")]
fn float(level: u64) -> f64 {
    level as f64
}

/// How often histogram samples are moved into their buckets (metrics-rs#467).
pub const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// From a cached answer to the longest hold.
const SECONDS_BUCKETS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0,
];

/// From a phone at the edge of a cell to a television on fiber, in bits per second.
const RATE_BUCKETS: [f64; 10] = [2.5e5, 5e5, 1e6, 2e6, 4e6, 8e6, 1.6e7, 3.2e7, 1e8, 1e9];

#[cfg(test)]
mod tests;
