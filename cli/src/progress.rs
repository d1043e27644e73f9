//! A line that moves while a run takes its time, on standard error and only when a person looks.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::is_watched;

/// A bar over the time that a run takes.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Starts a bar for a run of `duration`.
    pub(crate) fn over(duration: Duration) -> Self {
        let bar = if is_watched() {
            ProgressBar::new(duration.as_secs())
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("{bar:24.cyan} {pos:>4}/{len} s  {msg}")
            .expect("the template is valid");
        bar.set_style(style);
        Self { bar }
    }

    /// Shows how far the run is and how it stands.
    pub(crate) fn show(&self, elapsed: Duration, message: String) {
        self.bar.set_position(elapsed.as_secs());
        self.bar.set_message(message);
    }

    /// Removes the bar, so that the report stands alone.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
