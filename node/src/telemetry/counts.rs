//! Counts: added to as things happen, shown to Prometheus when somebody looks.
//!
//! A handle of `metrics` cannot be read, and the main numbers are read from the same counts. One addition is
//! enough: the handle is told the sum before each rendering. Who calls it: `handles` makes counts, everything
//! that has something to tell adds to them, `Telemetry` shows them. Deliberately not here: levels and histograms.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Counter;
use parking_lot::Mutex;

/// A counter that can also be read.
#[derive(Clone, Debug)]
pub(crate) struct Count {
    value: Arc<AtomicU64>,
}

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.value.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// Every count of a node, with the handle it is shown by.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// As many as there are series: those of the catalog, and some per presentation.
    all: Mutex<Vec<(Counter, Count)>>,
}

impl Counts {
    /// Returns a count that `shown` shows.
    pub(super) fn count(&self, shown: Counter) -> Count {
        let count = Count {
            value: Arc::default(),
        };
        self.all.lock().push((shown, count.clone()));
        count
    }

    /// Shows all of them.
    pub(super) fn show(&self) {
        for (shown, count) in &*self.all.lock() {
            shown.absolute(count.value());
        }
    }
}
