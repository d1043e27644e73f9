//! Whether a parent is worth asking, learned from what it does.
//!
//! ```text
//!            failures_max failures in a row
//!   Closed ---------------------------------> Open (left alone until a time)
//!     ^                                        |  ^
//!     | an answer             the time is over |  | the probe fails: twice the time
//!     +----------------- Probing (one request) +--+
//! ```
//!
//! Who calls it: the pool notes connections that could not be opened, `Upstream::fetch` notes answers and
//! silence, `choice` asks for admission. Deliberately not here: active checks. A parent that nobody asks
//! needs no verdict, and one that is asked gives it.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::config::UpstreamLimits;
use super::request::Class;

/// What is known about one parent.
#[derive(Debug)]
pub(super) struct Health {
    parent: String,
    /// Makes the jitter of this node differ from that of others.
    jitter_seed: u64,
    failures_max: u32,
    backoff_min: Duration,
    backoff_max: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    circuit: Circuit,
    failures_in_a_row: u32,
    last_failure: Option<Instant>,
    /// How often the parent began to be left alone; failed probes do not count again.
    times_failed: u64,
}

/// Whether requests go to a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Circuit {
    Closed,
    /// `reopened` counts the probes that failed since the circuit opened.
    Open {
        until: Instant,
        reopened: u32,
    },
    Probing {
        until: Instant,
        reopened: u32,
    },
}

/// Whether requests go to a parent, as an operator reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitStatus {
    /// The parent is asked.
    Closed,
    /// The parent is left alone.
    Open,
    /// One request is finding out whether the parent has recovered.
    HalfOpen,
}

/// What a parent did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No connection could be opened.
    Connect,
    /// No head within the first byte timeout.
    Silent,
    /// The exchange ended before a head.
    Lost,
    /// An answer with a 5xx status.
    ServerError,
}

/// The right to send one request; the right to probe ends with it.
#[derive(Debug)]
pub(super) struct Admission {
    probe: Option<Arc<Health>>,
}

impl Health {
    /// Creates the state of a parent that nothing is known about: it is asked.
    pub(super) fn new(parent: &str, node_name: &str, limits: &UpstreamLimits) -> Self {
        Self {
            parent: parent.to_owned(),
            jitter_seed: xxh3_64_with_seed(
                parent.as_bytes(),
                xxh3_64_with_seed(node_name.as_bytes(), 0),
            ),
            failures_max: limits.failures_max.max(1),
            backoff_min: limits.backoff_min,
            backoff_max: limits.backoff_max,
            state: Mutex::new(State {
                circuit: Circuit::Closed,
                failures_in_a_row: 0,
                last_failure: None,
                times_failed: 0,
            }),
        }
    }

    /// Admits a request at `now`, or `None` while the parent is left alone.
    pub(super) fn admit(self: &Arc<Self>, now: Instant) -> Option<Admission> {
        let mut state = self.state.lock();
        match state.circuit {
            Circuit::Closed => Some(Admission { probe: None }),
            Circuit::Open { until, reopened } if now >= until => {
                state.circuit = Circuit::Probing { until, reopened };
                Some(Admission {
                    probe: Some(Arc::clone(self)),
                })
            }
            Circuit::Open { .. } | Circuit::Probing { .. } => None,
        }
    }

    /// Notes the head of an answer to a request of `class`.
    pub(super) fn note_answer(&self, status: StatusCode, class: Class, now: Instant) {
        // LL-09: a held request is answered 503 when the encoder stalls. That says nothing about the parent.
        let stalled = class == Class::Parked && status == StatusCode::SERVICE_UNAVAILABLE;
        if stalled {
            return;
        }
        // CA-19: a 404 or 410, as GAP resources give, is an answer like any other.
        if status.is_server_error() {
            self.note_failure(Fault::ServerError, now);
        } else {
            self.note_success();
        }
    }

    /// Notes that the parent failed at `now`.
    pub(super) fn note_failure(&self, fault: Fault, now: Instant) {
        let (opened_for, failures) = {
            let mut state = self.state.lock();
            state.failures_in_a_row = state.failures_in_a_row.saturating_add(1);
            state.last_failure = Some(now);
            let reopened = match state.circuit {
                Circuit::Closed if state.failures_in_a_row >= self.failures_max => Some(0),
                Circuit::Probing { reopened, .. } => Some(reopened.saturating_add(1)),
                // What began before the circuit opened ends late: it tells nothing new.
                Circuit::Closed | Circuit::Open { .. } => None,
            };
            let opened_for = reopened.map(|reopened| {
                let time = self.backoff(reopened);
                state.times_failed += u64::from(reopened == 0);
                state.circuit = Circuit::Open {
                    until: now + time,
                    reopened,
                };
                time
            });
            (opened_for, state.failures_in_a_row)
        };
        if let Some(time) = opened_for {
            tracing::warn!(
                parent = self.parent,
                ?fault,
                failures,
                left_alone_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
                "ParentFailed"
            );
        }
    }

    /// Returns when the parent failed last, to find the one that failed least recently.
    pub(super) fn last_failure(&self) -> Option<Instant> {
        self.state.lock().last_failure
    }

    /// Returns how often the parent began to be left alone.
    pub(super) fn times_failed(&self) -> u64 {
        self.state.lock().times_failed
    }

    /// Returns whether requests go to the parent, and its failures in a row.
    pub(super) fn status(&self) -> (CircuitStatus, u32) {
        let state = self.state.lock();
        let circuit = match state.circuit {
            Circuit::Closed => CircuitStatus::Closed,
            Circuit::Open { .. } => CircuitStatus::Open,
            Circuit::Probing { .. } => CircuitStatus::HalfOpen,
        };
        (circuit, state.failures_in_a_row)
    }

    fn note_success(&self) {
        let was_open = {
            let mut state = self.state.lock();
            state.failures_in_a_row = 0;
            std::mem::replace(&mut state.circuit, Circuit::Closed) != Circuit::Closed
        };
        if was_open {
            tracing::info!(parent = self.parent, "ParentRecovered");
        }
    }

    /// Returns how long to leave the parent alone: doubling, capped, and spread by a quarter either way so
    /// that nodes do not come back together.
    fn backoff(&self, reopened: u32) -> Duration {
        let doubled = self
            .backoff_min
            .saturating_mul(2_u32.saturating_pow(reopened))
            .min(self.backoff_max);
        let spread = xxh3_64_with_seed(&reopened.to_le_bytes(), self.jitter_seed) % 512;
        // From 768/1024 to 1279/1024. The spread fits in 32 bits by construction.
        doubled.saturating_mul(768 + u32::try_from(spread).unwrap_or(0)) / 1024
    }
}

impl Admission {
    /// Admits a request whatever the state: the way out when nobody else is left.
    pub(super) fn unconditional() -> Self {
        Self { probe: None }
    }
}

impl Drop for Admission {
    /// A probe that ended without a verdict, e.g. because its viewer left, leaves the next one to try.
    fn drop(&mut self) {
        let Some(health) = &self.probe else { return };
        let mut state = health.state.lock();
        if let Circuit::Probing { until, reopened } = state.circuit {
            state.circuit = Circuit::Open { until, reopened };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Arc<Health> {
        Arc::new(Health::new(
            "shield-1",
            "edge-1",
            &UpstreamLimits::default(),
        ))
    }

    fn fail(health: &Health, times: u32, now: Instant) {
        for _ in 0..times {
            health.note_failure(Fault::Connect, now);
        }
    }

    /// The longest time for which the circuit can be open after `probes` failed probes.
    fn longest(probes: u32) -> Duration {
        (Duration::from_secs(1) * 2_u32.pow(probes)).min(Duration::from_secs(30)) * 5 / 4
    }

    #[test]
    fn the_circuit_opens_at_the_third_failure_in_a_row() {
        let (health, now) = (health(), Instant::now());
        fail(&health, 2, now);
        health.note_answer(StatusCode::OK, Class::Bulk, now);
        fail(&health, 2, now);
        assert!(health.admit(now).is_some());
        fail(&health, 1, now);
        assert!(health.admit(now).is_none());
        assert_eq!(health.status(), (CircuitStatus::Open, 3));
        assert_eq!(health.times_failed(), 1);
    }

    #[test]
    fn a_half_open_circuit_admits_one_probe_at_a_time() {
        let (health, now) = (health(), Instant::now());
        fail(&health, 3, now);
        let later = now + longest(0);
        let probe = health.admit(later).expect("the time is over");
        assert!(health.admit(later).is_none());
        drop(probe);
        let probe = health
            .admit(later)
            .expect("the probe ended without a verdict");
        health.note_answer(StatusCode::OK, Class::Bulk, later);
        drop(probe);
        assert_eq!(health.status(), (CircuitStatus::Closed, 0));
    }

    #[test]
    fn every_failed_probe_doubles_the_time_up_to_the_limit() {
        let (health, mut now) = (health(), Instant::now());
        fail(&health, 3, now);
        for probes in 0..10 {
            let shortest = longest(probes) * 3 / 5;
            assert!(
                health
                    .admit(now + shortest - Duration::from_millis(1))
                    .is_none()
            );
            now += longest(probes);
            let _probe = health.admit(now).expect("the time is over");
            health.note_failure(Fault::Silent, now);
        }
    }

    #[test]
    fn nodes_do_not_come_back_together() {
        let limits = UpstreamLimits::default();
        let times: std::collections::HashSet<_> = (0..32)
            .map(|n| Health::new("shield-1", &format!("edge-{n}"), &limits).backoff(0))
            .collect();
        assert!(times.len() > 24, "{times:?}");
    }

    #[test]
    fn ca_19_a_missing_resource_is_an_answer_and_not_a_failure() {
        let (health, now) = (health(), Instant::now());
        fail(&health, 2, now);
        health.note_answer(StatusCode::NOT_FOUND, Class::Bulk, now);
        assert_eq!(health.status(), (CircuitStatus::Closed, 0));
    }

    #[test]
    fn ll_09_a_held_request_answered_503_says_nothing_about_the_parent() {
        let (health, now) = (health(), Instant::now());
        for _ in 0..100 {
            health.note_answer(StatusCode::SERVICE_UNAVAILABLE, Class::Parked, now);
        }
        assert_eq!(health.status(), (CircuitStatus::Closed, 0));
        for _ in 0..3 {
            health.note_answer(StatusCode::SERVICE_UNAVAILABLE, Class::Bulk, now);
        }
        assert_eq!(health.status(), (CircuitStatus::Open, 3));
    }
}
