//! The handles of every metric, resolved once at start: recording is an addition, never a lookup.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, Recorder};

use super::catalog::{self, METADATA, Metric};
use super::counts::{Count, Counts, Samples};
use super::event::{Ending, FillEnding, Misbehavior, NextObject, SecondAttempt};
use super::labels::{FillReason, HoldResult, LabelValue, PurgeKind, PurgeState, StatusClass};
use crate::exchange::Protocol;
use crate::respond::{Failure, Outcome};
use crate::upstream::{Class, ParentId};
use media::Kind;

/// A level that rises and falls by events, and can also be read.
#[derive(Debug)]
pub(super) struct Running {
    shown: Gauge,
    value: AtomicU64,
}

impl Running {
    pub(super) fn begin(&self) {
        self.value.fetch_add(1, Ordering::Relaxed);
        self.shown.increment(1.0);
    }

    pub(super) fn end(&self) {
        let before = self.value.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "what ends has begun");
        self.shown.decrement(1.0);
    }

    pub(super) fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// One handle for each value of a label.
#[derive(Debug)]
pub(super) struct By<T> {
    by_index: Vec<T>,
}

impl<T> By<T> {
    fn each<L: LabelValue>(make: impl FnMut(&'static str) -> T) -> Self {
        Self {
            by_index: L::ALL.iter().map(|value| value.text()).map(make).collect(),
        }
    }

    pub(super) fn at<L: LabelValue>(&self, value: L) -> &T {
        &self.by_index[value.index()]
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.by_index.iter()
    }
}

/// The handles of one parent.
#[derive(Debug)]
pub(super) struct ParentHandles {
    /// By class, then by status class.
    pub(super) requests: By<By<Count>>,
    pub(super) failures: Counter,
    pub(super) up: Gauge,
    /// Open connections, by class.
    pub(super) open: By<Gauge>,
    /// Connections opened since the start, by class.
    pub(super) opened: By<Counter>,
}

/// Every handle of a node.
#[derive(Debug)]
pub(super) struct Handles {
    pub(super) uptime: Gauge,
    /// By protocol, status class, outcome.
    pub(super) requests: By<By<By<Count>>>,
    /// By kind, outcome.
    pub(super) requests_by_kind: By<By<Count>>,
    pub(super) viewer_bytes: By<Count>,
    pub(super) endings: By<Count>,
    pub(super) failures: By<Count>,
    pub(super) first_byte: By<Samples>,
    pub(super) duration: By<Samples>,
    pub(super) hold: By<Histogram>,
    pub(super) held: Gauge,
    pub(super) connections: Gauge,
    /// In the order of the configuration, then one for "no parent could be chosen".
    pub(super) parents: Vec<ParentHandles>,
    pub(super) forward_wait: By<Histogram>,
    pub(super) second_attempts: By<Count>,
    pub(super) misbehavior: By<Count>,
    pub(super) fills: By<Count>,
    pub(super) fills_finished: By<Count>,
    pub(super) fills_running: Running,
    pub(super) fill_bytes: Count,
    pub(super) fill_duration: Histogram,
    pub(super) next_objects: By<Count>,
    pub(super) chains_running: Running,
    pub(super) chains_started: Count,
    pub(super) chain_failures: By<Count>,
    pub(super) renditions: Gauge,
    pub(super) versions: Count,
    pub(super) edge_lag: Histogram,
    pub(super) regressions: Count,
    pub(super) store_bytes: Gauge,
    pub(super) store_responses: Gauge,
    pub(super) purges: PurgeHandles,
    pub(super) log_lines: Count,
    pub(super) log_dropped: Counter,
}

/// The handles of the purge log.
#[derive(Debug)]
pub(super) struct PurgeHandles {
    pub(super) applied: Gauge,
    pub(super) head: Gauge,
    pub(super) behind: Gauge,
    pub(super) lag: Gauge,
    pub(super) state: By<Gauge>,
    pub(super) children: Gauge,
    pub(super) purges: By<Count>,
    pub(super) matched: By<Count>,
    pub(super) doomed: Count,
    pub(super) resets: Counter,
}

impl Handles {
    /// Registers every series of the catalog with `recorder`.
    pub(super) fn resolve(
        recorder: &impl Recorder,
        counts: &Counts,
        node: &str,
        parents: &[String],
    ) -> Self {
        for metric in catalog::CATALOG {
            metric.describe(recorder);
        }
        let r = Registrar(recorder, counts);
        r.gauge(&catalog::BUILD_INFO, &[env!("CARGO_PKG_VERSION"), node])
            .set(1.0);
        Self {
            uptime: r.gauge(&catalog::UPTIME, &[]),
            requests: By::each::<Protocol>(|protocol| {
                By::each::<StatusClass>(|status| {
                    By::each::<Outcome>(|o| r.count(&catalog::REQUESTS, &[protocol, status, o]))
                })
            }),
            requests_by_kind: By::each::<Kind>(|kind| {
                By::each::<Outcome>(|o| r.count(&catalog::REQUESTS_BY_KIND, &[kind, o]))
            }),
            viewer_bytes: By::each::<Kind>(|kind| r.count(&catalog::VIEWER_BYTES, &[kind])),
            endings: By::each::<Ending>(|ending| r.count(&catalog::ENDINGS, &[ending])),
            failures: By::each::<Failure>(|f| r.count(&catalog::FAILURES, &[f])),
            first_byte: By::each::<Outcome>(|o| r.samples(&catalog::FIRST_BYTE, &[o])),
            duration: By::each::<Protocol>(|p| r.samples(&catalog::DURATION, &[p])),
            hold: By::each::<HoldResult>(|result| r.histogram(&catalog::HOLD, &[result])),
            held: r.gauge(&catalog::HELD, &[]),
            connections: r.gauge(&catalog::CONNECTIONS, &[]),
            parents: parents
                .iter()
                .map(|name| r.parent(name))
                .chain([r.no_parent()])
                .collect(),
            forward_wait: By::each::<Class>(|class| r.histogram(&catalog::FORWARD_WAIT, &[class])),
            second_attempts: By::each::<SecondAttempt>(|result| {
                r.count(&catalog::SECOND_ATTEMPTS, &[result])
            }),
            misbehavior: By::each::<Misbehavior>(|rule| r.count(&catalog::MISBEHAVIOR, &[rule])),
            fills: By::each::<FillReason>(|reason| r.count(&catalog::FILLS, &[reason])),
            fills_finished: By::each::<FillEnding>(|e| r.count(&catalog::FILLS_FINISHED, &[e])),
            fills_running: r.running(&catalog::FILLS_RUNNING),
            fill_bytes: r.count(&catalog::FILL_BYTES, &[]),
            fill_duration: r.histogram(&catalog::FILL_DURATION, &[]),
            next_objects: By::each::<NextObject>(|next| r.count(&catalog::NEXT_OBJECTS, &[next])),
            chains_running: r.running(&catalog::CHAINS_RUNNING),
            chains_started: r.count(&catalog::CHAINS_STARTED, &[]),
            chain_failures: By::each::<Failure>(|f| r.count(&catalog::CHAIN_FAILURES, &[f])),
            renditions: r.gauge(&catalog::RENDITIONS, &[]),
            versions: r.count(&catalog::VERSIONS, &[]),
            edge_lag: r.histogram(&catalog::EDGE_LAG, &[]),
            regressions: r.count(&catalog::REGRESSIONS, &[]),
            store_bytes: r.gauge(&catalog::STORE_BYTES, &[]),
            store_responses: r.gauge(&catalog::STORE_RESPONSES, &[]),
            purges: r.purges(),
            log_lines: r.count(&catalog::LOG_LINES, &[]),
            log_dropped: r.counter(&catalog::LOG_DROPPED, &[]),
        }
    }

    /// Returns the handles of a parent, or those of "none".
    pub(super) fn parent(&self, parent: Option<ParentId>) -> &ParentHandles {
        let none = self.parents.len() - 1;
        let index = parent.map_or(none, |ParentId(index)| index.min(none));
        &self.parents[index]
    }
}

/// The handles of one presentation.
#[derive(Debug)]
pub(crate) struct StreamHandles {
    pub(crate) viewers: Gauge,
    pub(crate) requests: Count,
    pub(crate) forward_requests: Count,
    pub(crate) objects: Count,
    pub(crate) viewer_bytes: Count,
    pub(crate) parent_bytes: Count,
    pub(crate) held: Count,
    pub(crate) hold: Histogram,
    pub(crate) reports: Count,
    pub(crate) starved: Count,
    pub(crate) buffer: Histogram,
    pub(crate) startup: Histogram,
    pub(crate) throughput: Histogram,
}

impl StreamHandles {
    /// Registers the series of a presentation.
    pub(super) fn resolve(recorder: &impl Recorder, counts: &Counts, stream: &str) -> Self {
        let r = Registrar(recorder, counts);
        let stream = &[stream];
        Self {
            viewers: r.gauge(&catalog::STREAM_VIEWERS, stream),
            requests: r.count(&catalog::STREAM_REQUESTS, stream),
            forward_requests: r.count(&catalog::STREAM_FORWARD, stream),
            objects: r.count(&catalog::STREAM_OBJECTS, stream),
            viewer_bytes: r.count(&catalog::STREAM_VIEWER_BYTES, stream),
            parent_bytes: r.count(&catalog::STREAM_PARENT_BYTES, stream),
            held: r.count(&catalog::STREAM_HELD, stream),
            hold: r.histogram(&catalog::STREAM_HOLD, stream),
            reports: r.count(&catalog::STREAM_REPORTS, stream),
            starved: r.count(&catalog::STREAM_STARVED, stream),
            buffer: r.histogram(&catalog::STREAM_BUFFER, stream),
            startup: r.histogram(&catalog::STREAM_STARTUP, stream),
            throughput: r.histogram(&catalog::STREAM_THROUGHPUT, stream),
        }
    }
}

struct Registrar<'a, R>(&'a R, &'a Counts);

impl<R: Recorder> Registrar<'_, R> {
    fn counter(&self, metric: &Metric, values: &[&str]) -> Counter {
        debug_assert_eq!(metric.kind, catalog::Type::Counter, "{}", metric.name);
        self.0.register_counter(&metric.key(values), &METADATA)
    }

    fn count(&self, metric: &Metric, values: &[&str]) -> Count {
        self.1.count(self.counter(metric, values))
    }

    fn gauge(&self, metric: &Metric, values: &[&str]) -> Gauge {
        debug_assert_eq!(metric.kind, catalog::Type::Gauge, "{}", metric.name);
        self.0.register_gauge(&metric.key(values), &METADATA)
    }

    fn running(&self, metric: &Metric) -> Running {
        Running {
            shown: self.gauge(metric, &[]),
            value: AtomicU64::new(0),
        }
    }

    fn histogram(&self, metric: &Metric, values: &[&str]) -> Histogram {
        debug_assert_eq!(metric.kind, catalog::Type::Histogram, "{}", metric.name);
        self.0.register_histogram(&metric.key(values), &METADATA)
    }

    fn samples(&self, metric: &Metric, values: &[&str]) -> Samples {
        self.1.samples(self.histogram(metric, values))
    }

    fn parent(&self, name: &str) -> ParentHandles {
        let up = self.gauge(&catalog::PARENT_UP, &[name]);
        up.set(1.0);
        ParentHandles {
            requests: self.forward(name),
            failures: self.counter(&catalog::PARENT_FAILURES, &[name]),
            up,
            open: By::each::<Class>(|class| {
                self.gauge(&catalog::FORWARD_CONNECTIONS, &[name, class])
            }),
            opened: By::each::<Class>(|class| {
                self.counter(&catalog::FORWARD_CONNECTIONS_OPENED, &[name, class])
            }),
        }
    }

    fn purges(&self) -> PurgeHandles {
        PurgeHandles {
            applied: self.gauge(&catalog::PURGE_APPLIED, &[]),
            head: self.gauge(&catalog::PURGE_HEAD, &[]),
            behind: self.gauge(&catalog::PURGE_BEHIND, &[]),
            lag: self.gauge(&catalog::PURGE_LAG, &[]),
            state: By::each::<PurgeState>(|state| self.gauge(&catalog::PURGE_STATE, &[state])),
            children: self.gauge(&catalog::PURGE_CHILDREN, &[]),
            purges: By::each::<PurgeKind>(|kind| self.count(&catalog::PURGES, &[kind])),
            matched: By::each::<PurgeKind>(|kind| self.count(&catalog::PURGE_MATCHED, &[kind])),
            doomed: self.count(&catalog::PURGE_DOOMED, &[]),
            resets: self.counter(&catalog::PURGE_RESETS, &[]),
        }
    }

    /// "none" is counted but has no health to show.
    fn no_parent(&self) -> ParentHandles {
        ParentHandles {
            requests: self.forward("none"),
            failures: Counter::noop(),
            up: Gauge::noop(),
            open: By::each::<Class>(|_| Gauge::noop()),
            opened: By::each::<Class>(|_| Counter::noop()),
        }
    }

    fn forward(&self, name: &str) -> By<By<Count>> {
        By::each::<Class>(|class| {
            By::each::<StatusClass>(|s| self.count(&catalog::FORWARD, &[name, class, s]))
        })
    }
}
