//! Requests that are refused before it is known who asks: one line each would let anybody fill the audit.
//!
//! Who calls it: the API for every refusal. The first has a line of its own; those that follow within a minute are
//! counted, and have one line together at its end. Deliberately not here: refusals of those who showed who they
//! are, which their rates bound.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use purge_log::UnixMillis;

use super::problem::Problem;
use super::{Api, Peer};
use crate::audit::Event;

/// Strangers that were refused of late.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether one had a line of its own, so that others are counted.
    is_counting: bool,
    since: Option<UnixMillis>,
    problems: BTreeMap<String, u64>,
    from: Vec<String>,
}

impl State {
    fn count(&mut self, from: String, problem: &Problem, now: UnixMillis) {
        self.since.get_or_insert(now);
        // As many names as there are kinds of problems.
        *self
            .problems
            .entry(problem.kind.name().to_owned())
            .or_default() += 1;
        if self.from.len() < FROM_MAX && !self.from.contains(&from) {
            self.from.push(from);
        }
    }

    /// Returns what was counted, and begins anew.
    fn take(&mut self) -> Option<Event> {
        let Self {
            since,
            problems,
            from,
            ..
        } = std::mem::take(self);
        Some(Event::Strangers {
            since: since?,
            problems,
            from,
        })
    }
}

impl Strangers {
    /// Counts a refusal; returns whether it has a line of its own, and begins a minute.
    fn is_first(&self, from: &Peer, problem: &Problem, now: UnixMillis) -> bool {
        let mut state = self.state.lock();
        if state.is_counting {
            state.count(from.address.to_string(), problem, now);
            return false;
        }
        state.is_counting = true;
        true
    }
}

impl Api {
    /// Writes down that a stranger was refused, now or with others.
    pub(super) fn note_stranger(&self, from: &Peer, problem: &Problem) {
        if !self.shared.strangers.is_first(from, problem, self.now()) {
            return;
        }
        self.note_refused(from, None, problem);
        let api = self.clone();
        self.shared.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(TOGETHER_FOR) => {}
                () = api.shared.closing.cancelled() => {}
            }
            let counted = api.shared.strangers.state.lock().take();
            if let Some(event) = counted {
                api.shared.audit.note(api.now(), event);
            }
        });
    }
}

/// How long refused strangers share a line.
const TOGETHER_FOR: Duration = Duration::from_secs(60);

/// Addresses that one line names.
const FROM_MAX: usize = 16;
