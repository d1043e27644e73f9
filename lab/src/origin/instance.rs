//! The origin as a whole: what it is made of, and what its owner can ask and tell it.
//!
//! Requests are answered in `respond.rs`; connections are in `server.rs`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::clock::{OriginClock, machine_wall};
use super::config::{Extra, OriginConfig, OriginError};
use super::counts::{Counters, Counts, Requests};
use super::fault::Fault;
use super::live::{Edge, Live, run_clock};
use super::presentation::{Position, Presentation};
use super::recent::Recent;
use super::serve_text::{Text, TextKey};

/// A live origin: what is published, what was asked, and what shall go wrong.
///
/// Its one clock task runs on the runtime that serves its first connection; further connections may
/// be served on any runtime.
#[derive(Debug)]
pub struct Origin {
    pub(crate) show: Presentation,
    pub(crate) clock: OriginClock,
    pub(crate) live: Arc<Live>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) parts: Recent<PartKey, Bytes>,
    pub(crate) texts: Recent<TextKey, Arc<Text>>,
    pub(crate) extra: ExtraPages,
    /// Dropping the origin ends its clock.
    clock_task: Mutex<JoinSet<()>>,
}

/// Identity of a part's bytes: rendition, broadcast, number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartKey {
    pub(crate) rendition: &'static str,
    pub(crate) generation: u32,
    pub(crate) number: u64,
}

/// The pages that somebody else mounts.
pub(crate) struct ExtraPages(pub(crate) Option<Extra>);

impl std::fmt::Debug for ExtraPages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ExtraPages({})", self.0.is_some())
    }
}

/// Versions of texts, and parts, that are remembered: some renditions times a few variants.
const TEXTS_REMEMBERED: usize = 48;
const PARTS_REMEMBERED: usize = 48;

/// The most that may have been produced before the start.
const HISTORY_MAX: Duration = Duration::from_secs(24 * 3600);

impl Origin {
    /// Makes an origin whose presentation began one history ago.
    ///
    /// # Errors
    ///
    /// Fails if the configuration is not allowed.
    pub fn new(config: OriginConfig) -> Result<Self, OriginError> {
        let show = Presentation::new(&config)?;
        let window = Duration::from_secs(show.window * show.target_seconds());
        let history = config.history.unwrap_or(window);
        if history > HISTORY_MAX {
            return Err(OriginError::History(history));
        }
        let clock = OriginClock::start(config.start.unwrap_or_else(machine_wall), history);
        let live = Arc::new(Live::start(clock, &show, config.faults));
        Ok(Self {
            show,
            clock,
            live,
            counters: Arc::default(),
            parts: Recent::new(PARTS_REMEMBERED),
            texts: Recent::new(TEXTS_REMEMBERED),
            extra: ExtraPages(config.extra),
            clock_task: Mutex::new(JoinSet::new()),
        })
    }

    /// Starts the clock task, once.
    ///
    /// Until something is served nobody waits, so an origin can be made without a runtime.
    pub(crate) fn start_clock(&self) {
        let mut task = self.clock_task.lock();
        // A runtime that ended took the task with it.
        while task.try_join_next().is_some() {}
        if task.is_empty() {
            task.spawn(run_clock(Arc::downgrade(&self.live)));
        }
    }

    /// Returns what was asked since the start or the last reset.
    pub fn counts(&self) -> Counts {
        self.counters.snapshot()
    }

    /// Returns the requests for each URL and each object; the newest few thousand.
    pub fn requests_each(&self) -> Requests {
        self.counters.requests_each()
    }

    /// Forgets what was asked.
    pub fn reset_counts(&self) {
        self.counters.reset();
    }

    /// Returns how often `url` (path, and query in byte order) was asked for.
    pub fn requests_for(&self, url: &str) -> u64 {
        self.counters.requests(url)
    }

    /// Waits until `url` (path, and query in byte order) has been asked for. Cancel safe.
    pub async fn asked_for(&self, url: &str) {
        self.counters.asked_for(url).await;
    }

    /// Adds a rule of misbehavior.
    pub fn add_fault(&self, fault: Fault) {
        self.live.add_fault(fault);
    }

    /// Removes every rule of misbehavior; a restart or an end that happened stays.
    pub fn clear_faults(&self) {
        self.live.clear_faults();
    }

    /// Returns the place of the newest part; `None` right after a restart.
    pub fn live_edge(&self) -> Option<Position> {
        let newest = self.live.edge().published.checked_sub(1)?;
        Some(self.show.cadence.position(newest))
    }

    /// Waits at most three target durations for `check` to find something (LL-09).
    pub(crate) async fn held<T>(&self, mut check: impl FnMut(&Edge) -> Option<T>) -> Option<T> {
        if let Some(found) = check(&self.live.edge()) {
            return Some(found);
        }
        let _held = self.counters.hold();
        let longest = Duration::from_secs(3 * self.show.target_seconds());
        tokio::time::timeout(longest, self.live.until(check))
            .await
            .ok()
    }
}
