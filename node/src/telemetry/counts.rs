//! Counts and samples: noted as things happen, shown to Prometheus when somebody looks.
//!
//! A handle of `metrics` cannot be read, and the main numbers are read from the same counts: the handle is told the
//! sum before each rendering. And all workers would write to it: one that notes something would wait for the memory of
//! another. So each worker has a place of its own, and who looks adds up. Who calls it: `handles` makes counts, everything
//! that has something to tell adds to them, `Telemetry` shows them. Deliberately not here: levels, and histograms of what is rare.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use metrics::{Counter, Histogram};
use parking_lot::Mutex;

/// A counter that can also be read.
#[derive(Clone, Debug)]
pub(crate) struct Count {
    places: Places<AtomicU64>,
}

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.places.own().fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        let places = self.places.all();
        places.map(|place| place.load(Ordering::Relaxed)).sum()
    }
}

/// A histogram of what happens with every request.
#[derive(Clone, Debug)]
pub(super) struct Samples {
    shown: Histogram,
    /// In seconds.
    noted: Places<Mutex<Vec<f64>>>,
}

impl Samples {
    pub(super) fn record(&self, time: Duration) {
        let mut noted = self.noted.own().lock();
        noted.push(time.as_secs_f64());
        if noted.len() >= NOTED_MAX {
            let full = std::mem::take(&mut *noted);
            drop(noted);
            self.tell(full);
        }
    }

    /// Tells the histogram what has been noted since it was told last.
    fn show(&self) {
        for place in self.noted.all() {
            let noted = std::mem::take(&mut *place.lock());
            self.tell(noted);
        }
    }

    fn tell(&self, noted: Vec<f64>) {
        for seconds in noted {
            self.shown.record(seconds);
        }
    }
}

/// Every count of a node, with the handle it is shown by.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// As many as there are series: those of the catalog, and some per presentation.
    all: Mutex<Vec<(Counter, Count)>>,
    samples: Mutex<Vec<Samples>>,
}

impl Counts {
    /// Returns a count that `shown` shows.
    pub(super) fn count(&self, shown: Counter) -> Count {
        let count = Count {
            places: Places::new(),
        };
        self.all.lock().push((shown, count.clone()));
        count
    }

    /// Returns samples that `shown` shows.
    pub(super) fn samples(&self, shown: Histogram) -> Samples {
        let samples = Samples {
            shown,
            noted: Places::new(),
        };
        self.samples.lock().push(samples.clone());
        samples
    }

    /// Shows all of them.
    pub(super) fn show(&self) {
        for (shown, count) in &*self.all.lock() {
            shown.absolute(count.value());
        }
        self.show_samples();
    }

    /// Shows the samples, which otherwise pile up.
    pub(super) fn show_samples(&self) {
        for samples in &*self.samples.lock() {
            samples.show();
        }
    }
}

/// A value for each worker; more threads than places share them.
#[derive(Debug)]
struct Places<T> {
    places: Arc<[Place<T>]>,
}

impl<T> Clone for Places<T> {
    fn clone(&self) -> Self {
        Self {
            places: Arc::clone(&self.places),
        }
    }
}

/// Two lines of a processor's cache, which fetches them in pairs: no worker waits for what another writes beside it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Place<T>(T);

impl<T: Default> Places<T> {
    fn new() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let places = (0..cores.min(PLACES_MAX)).map(|_| Place::default());
        Self {
            places: places.collect(),
        }
    }
}

impl<T> Places<T> {
    fn own(&self) -> &T {
        let number = NUMBER.with(|number| *number);
        &self.places[number % self.places.len()].0
    }

    fn all(&self) -> impl Iterator<Item = &T> {
        self.places.iter().map(|place| &place.0)
    }
}

thread_local! {
    /// Which of the threads that note something this is.
    static NUMBER: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
}

/// Places of one count at most: two kilobytes.
const PLACES_MAX: usize = 16;

/// Samples that wait in one place at most.
const NOTED_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use std::thread;

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn what_many_threads_add_is_one_sum() {
        let counts = Counts::default();
        let count = counts.count(Counter::noop());
        thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| (0..100).for_each(|_| count.add(3)));
            }
        });
        assert_eq!(count.value(), 40 * 100 * 3);
    }

    #[test]
    fn every_sample_is_shown_once_whether_it_waited_or_not() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let key = metrics::Key::from_static_name("waited");
        let metadata = metrics::Metadata::new("", metrics::Level::INFO, None);
        let shown = metrics::Recorder::register_histogram(&recorder, &key, &metadata);
        let counts = Counts::default();
        let samples = counts.samples(shown);
        let each = NOTED_MAX + 7;
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..each).for_each(|_| samples.record(Duration::from_secs(2))));
            }
        });
        for _ in 0..2 {
            counts.show();
            let text = recorder.handle().render();
            assert!(
                text.contains(&format!("waited_count {}", 3 * each)),
                "{text}"
            );
            assert!(
                text.contains(&format!("waited_sum {}", 3 * each * 2)),
                "{text}"
            );
        }
    }
}
