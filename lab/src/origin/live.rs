//! What is published now, and waiting for what is not.
//!
//! One [`State`] says how many parts are out; one clock task per origin advances it at the exact
//! instant of each event and wakes everybody who waits. A request advances it too, so an answer is
//! never older than the clock. Faults that concern the broadcast as a whole (late parts, a withdrawn
//! hint, a restart, the end) act here.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::address::part_file;
use super::clock::OriginClock;
use super::config::PartsAs;
use super::fault::{Fault, FaultBook, Plan, Turn};
use super::presentation::{Cadence, ObjectKind, Presentation};

/// The live edge at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    /// Which broadcast this is; a restart begins the next one.
    pub(crate) generation: u32,
    /// Media time zero of this broadcast, on the origin's clock.
    pub(crate) zero: Duration,
    /// Parts that are out; also the number of the next one.
    pub(crate) published: u64,
    /// Whether the broadcast is over.
    pub(crate) has_ended: bool,
    /// Parts whose hinted name was withdrawn, and which are published under the other one.
    pub(crate) renamed: Arc<BTreeSet<u64>>,
}

impl Edge {
    /// Returns how many segments are whole; at the end of the broadcast a short last one counts.
    pub(crate) fn complete_segments(&self, cadence: Cadence) -> u64 {
        if self.has_ended {
            self.published.div_ceil(cadence.parts_per_segment)
        } else {
            self.published / cadence.parts_per_segment
        }
    }

    /// Returns the numbers of the published parts of segment `msn`.
    pub(crate) fn parts_of(&self, cadence: Cadence, msn: u64) -> std::ops::Range<u64> {
        let parts = cadence.parts_of(msn);
        parts.start.min(self.published)..parts.end.min(self.published)
    }

    /// Returns the edge as a twin that lags `segments` behind would see it.
    pub(crate) fn regressed(mut self, cadence: Cadence, segments: u64) -> Self {
        let parts = segments.saturating_mul(cadence.parts_per_segment);
        self.published = self.published.saturating_sub(parts).max(1);
        self
    }
}

/// The running broadcast.
#[derive(Debug)]
pub(crate) struct Live {
    clock: OriginClock,
    timing: Timing,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

/// What scheduling needs to know and never changes.
#[derive(Debug)]
struct Timing {
    cadence: Cadence,
    history: Duration,
    tracks: Vec<&'static str>,
    has_hint_names: bool,
    remembered_parts: usize,
}

#[derive(Debug)]
struct State {
    faults: FaultBook,
    edge: Edge,
    /// When the newest part was published.
    last_at: Duration,
    /// When the next part will be.
    next_at: Duration,
    /// When the present hint will be withdrawn.
    withdraw_at: Option<Duration>,
    /// When the newest parts were published, the last one for `edge.published - 1`.
    published_at: VecDeque<Duration>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Publish,
    WithdrawHint,
    Turn(Turn),
}

impl Live {
    /// Starts the broadcast with everything published that the clock says.
    pub(crate) fn start(clock: OriginClock, show: &Presentation, faults: Vec<Fault>) -> Self {
        let timing = Timing {
            cadence: show.cadence,
            history: clock.history(),
            tracks: show.renditions.iter().map(|r| r.name()).collect(),
            has_hint_names: show.parts_as == PartsAs::Files,
            remembered_parts: usize::try_from(
                (2 * show.window + 8) * show.cadence.parts_per_segment,
            )
            .expect("a window is limited by config"),
        };
        let mut state = State {
            faults: FaultBook::new(faults),
            edge: Edge {
                generation: 0,
                zero: Duration::ZERO,
                published: 0,
                has_ended: false,
                renamed: Arc::default(),
            },
            last_at: Duration::ZERO,
            next_at: Duration::ZERO,
            withdraw_at: None,
            published_at: VecDeque::new(),
        };
        state.schedule(&timing, 0);
        let live = Self {
            clock,
            timing,
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
        };
        live.edge();
        live
    }

    /// Returns the live edge now.
    pub(crate) fn edge(&self) -> Edge {
        let mut state = self.state.lock();
        let changed = state.advance(&self.timing, self.clock.now());
        let edge = state.edge.clone();
        drop(state);
        if changed {
            self.changes.send_modify(|count| *count += 1);
        }
        edge
    }

    /// Waits until `check` finds something in the edge. Cancel safe.
    pub(crate) async fn until<T>(&self, mut check: impl FnMut(&Edge) -> Option<T>) -> T {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(found) = check(&self.edge()) {
                return found;
            }
            // The sender lives in `self`: it cannot be gone.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns when part `number` of the present broadcast was or will be published.
    pub(crate) fn published_at(&self, number: u64) -> Duration {
        let state = self.state.lock();
        let edge = &state.edge;
        let back = edge.published.checked_sub(number + 1);
        let remembered = back.and_then(|back| {
            let index = state.published_at.len().checked_sub(1)?;
            let index = index.checked_sub(usize::try_from(back).ok()?)?;
            state.published_at.get(index).copied()
        });
        remembered.unwrap_or_else(|| edge.zero + self.timing.cadence.start_of(number + 1))
    }

    /// Returns what goes wrong with the response to a request made now.
    pub(crate) fn plan(&self, path: &str, kind: ObjectKind) -> Plan {
        let at = self.clock.now().saturating_sub(self.timing.history);
        self.state.lock().faults.plan(path, kind, at)
    }

    /// Adds a rule of misbehavior; one about parts also concerns the part that comes next.
    pub(crate) fn add_fault(&self, fault: Fault) {
        self.edge();
        let mut state = self.state.lock();
        let place = state.faults.add(fault);
        state.amend(&self.timing, place);
        drop(state);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Removes every rule; what they already did to the broadcast stays.
    pub(crate) fn clear_faults(&self) {
        self.edge();
        let mut state = self.state.lock();
        state.faults = FaultBook::default();
        state.schedule(&self.timing, 0);
        drop(state);
        self.changes.send_modify(|count| *count += 1);
    }

    fn next_event_at(&self) -> Option<Instant> {
        let next = self.state.lock().next_event(&self.timing);
        next.map(|(at, _)| self.clock.instant(at))
    }
}

/// Advances the broadcast at each of its events until nobody holds it anymore.
///
/// The one clock task: everybody who waits is woken by it and by nothing else.
pub(crate) async fn run_clock(live: Weak<Live>) {
    let Some(mut changes) = live.upgrade().map(|live| live.changes.subscribe()) else {
        return;
    };
    loop {
        let Some(strong) = live.upgrade() else { return };
        changes.borrow_and_update();
        strong.edge();
        let next = strong.next_event_at();
        drop(strong);
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

impl Timing {
    /// Returns the time since start that faults count in; `None` for what was out at the start.
    fn since_start(&self, at: Duration) -> Option<Duration> {
        at.checked_sub(self.history)
            .filter(|since| !since.is_zero())
    }

    fn paths(&self, number: u64) -> Vec<String> {
        let at = self.cadence.position(number);
        let file = part_file(at.msn, at.part_index, false);
        self.tracks
            .iter()
            .map(|track| format!("/live/{track}/{file}"))
            .collect()
    }
}

impl State {
    /// Brings the broadcast to `now`; returns whether anything changed.
    fn advance(&mut self, timing: &Timing, now: Duration) -> bool {
        let mut changed = false;
        while let Some((at, event)) = self.next_event(timing)
            && at <= now
        {
            changed = true;
            match event {
                Event::Publish => self.publish(timing, at),
                Event::WithdrawHint => {
                    self.withdraw_at = None;
                    Arc::make_mut(&mut self.edge.renamed).insert(self.edge.published);
                }
                Event::Turn(turn) => self.turn(timing, turn, at),
            }
        }
        changed
    }

    fn next_event(&self, timing: &Timing) -> Option<(Duration, Event)> {
        let turn = self.faults.next_turn().map(|(since_start, turn)| {
            let at = timing.history.saturating_add(since_start);
            (at.max(self.last_at), Event::Turn(turn))
        });
        let publish = (!self.edge.has_ended).then_some((self.next_at, Event::Publish));
        let withdraw = self.withdraw_at.map(|at| (at, Event::WithdrawHint));
        [publish, withdraw, turn]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    fn publish(&mut self, timing: &Timing, at: Duration) {
        if self.published_at.len() == timing.remembered_parts {
            self.published_at.pop_front();
        }
        self.published_at.push_back(at);
        self.edge.published += 1;
        self.last_at = at;
        // Names are only asked for inside the window.
        let oldest = self
            .edge
            .published
            .saturating_sub(timing.remembered_parts as u64);
        if self
            .edge
            .renamed
            .first()
            .is_some_and(|first| *first < oldest)
        {
            Arc::make_mut(&mut self.edge.renamed).pop_first();
        }
        self.schedule(timing, 0);
    }

    fn turn(&mut self, timing: &Timing, turn: Turn, at: Duration) {
        self.faults.take_turn();
        self.last_at = at;
        match turn {
            Turn::End => {
                self.edge.has_ended = true;
                self.withdraw_at = None;
            }
            Turn::Restart => {
                self.edge = Edge {
                    generation: self.edge.generation + 1,
                    zero: at,
                    published: 0,
                    has_ended: false,
                    renamed: Arc::default(),
                };
                self.published_at.clear();
                self.schedule(timing, 0);
            }
        }
    }

    /// Decides when the next part is published, by the rules from place `from` on.
    fn schedule(&mut self, timing: &Timing, from: usize) {
        let nominal = self.edge.zero + timing.cadence.start_of(self.edge.published + 1);
        self.next_at = nominal.max(self.last_at);
        self.withdraw_at = None;
        self.amend(timing, from);
    }

    /// Lets the rules from place `from` on change what is scheduled.
    fn amend(&mut self, timing: &Timing, from: usize) {
        if self.faults.is_empty() {
            return;
        }
        let Some(at) = timing.since_start(self.next_at) else {
            return;
        };
        let paths = timing.paths(self.edge.published);
        self.next_at += self.faults.lateness(from, &paths, at);
        let given = timing.since_start(self.last_at).unwrap_or_default();
        if timing.has_hint_names && self.faults.withdraws_hint(from, &paths, given) {
            let half = Duration::from_secs_f64(timing.cadence.part_seconds() / 2.0);
            self.withdraw_at = Some(self.last_at.max(timing.history) + half);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::{Action, OriginConfig};

    fn live(faults: Vec<Fault>) -> Arc<Live> {
        let config = OriginConfig::default();
        let show = Presentation::new(&config).unwrap();
        let history = Duration::from_secs(24);
        let clock = OriginClock::start(std::time::UNIX_EPOCH, history);
        Arc::new(Live::start(clock, &show, faults))
    }

    async fn pass(millis: u64) {
        tokio::time::advance(Duration::from_millis(millis)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_window_is_full_at_the_start_and_a_part_comes_each_half_second() {
        let live = live(vec![]);
        assert_eq!(live.edge().published, 48);
        pass(499).await;
        assert_eq!(live.edge().published, 48);
        pass(1).await;
        assert_eq!(live.edge().published, 49);
        assert_eq!(live.published_at(48), Duration::from_millis(24_500));
        pass(3_600_000).await;
        assert_eq!(live.edge().published, 49 + 7200);
    }

    #[tokio::test(start_paused = true)]
    async fn waiters_are_woken_at_the_exact_instant_by_the_clock_task() {
        let live = live(vec![]);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(run_clock(Arc::downgrade(&live)));
        let started = Instant::now();
        live.until(|edge| (edge.published >= 51).then_some(()))
            .await;
        assert_eq!(started.elapsed(), Duration::from_millis(1500));
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_task_ends_with_the_broadcast() {
        let live = live(vec![]);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(run_clock(Arc::downgrade(&live)));
        tokio::task::yield_now().await;
        drop(live);
        assert!(tasks.join_next().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_part_delays_only_itself_if_the_next_is_due_later() {
        let fault = Fault::new(Action::LatePart(Duration::from_millis(300))).path("*seg12.1.m4s");
        let live = live(vec![fault]);
        pass(1000).await;
        assert_eq!(live.edge().published, 49);
        pass(300).await;
        assert_eq!(live.edge().published, 50);
        assert_eq!(live.published_at(49), Duration::from_millis(25_300));
        pass(200).await;
        assert_eq!(live.edge().published, 51);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_added_later_concerns_the_part_that_comes_next() {
        let live = live(vec![]);
        live.add_fault(Fault::new(Action::LatePart(Duration::from_millis(300))).once());
        pass(500).await;
        assert_eq!(live.edge().published, 48);
        pass(300).await;
        assert_eq!(live.edge().published, 49);
        pass(200).await;
        assert_eq!(live.edge().published, 50);
    }

    #[tokio::test(start_paused = true)]
    async fn a_withdrawn_hint_renames_the_part_half_a_part_later() {
        let live = live(vec![Fault::new(Action::WithdrawHint).path("*/seg12.1.m4s")]);
        pass(749).await;
        assert!(live.edge().renamed.is_empty());
        pass(1).await;
        assert_eq!(
            live.edge().renamed.iter().copied().collect::<Vec<_>>(),
            [49]
        );
        assert_eq!(live.edge().published, 49);
        pass(250).await;
        assert_eq!(live.edge().published, 50);
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_begins_again_at_segment_zero() {
        let at = Duration::from_millis(700)..Duration::MAX;
        let live = live(vec![Fault::new(Action::RestartReusingNames).during(at)]);
        pass(700).await;
        let edge = live.edge();
        assert_eq!((edge.generation, edge.published), (1, 0));
        pass(500).await;
        assert_eq!(live.edge().published, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_stops_the_clock_of_parts() {
        let at = Duration::from_millis(700)..Duration::MAX;
        let live = live(vec![Fault::new(Action::EndList).during(at)]);
        pass(60_000).await;
        let edge = live.edge();
        assert!(edge.has_ended);
        assert_eq!(edge.published, 49);
        let cadence = Cadence {
            segment_seconds: 2,
            parts_per_segment: 4,
        };
        assert_eq!(edge.complete_segments(cadence), 13);
    }
}
