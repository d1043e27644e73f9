//! Purges as people see them: a bar while nodes apply one, and a line per node at the end.

use std::fmt::Write as _;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::output::{is_watched, say};

/// A purge that is followed.
pub(super) struct Following {
    bar: ProgressBar,
}

impl Following {
    /// Begins with what is known.
    pub(super) fn begin(status: &Value) -> Self {
        let nodes = nodes(status).len();
        let bar = if is_watched() {
            ProgressBar::new(u64::try_from(nodes).unwrap_or_default())
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("{bar:24.cyan} {pos}/{len} nodes  {msg}")
            .expect("the template is valid");
        bar.set_style(style);
        Self { bar }
    }

    /// Takes in an event.
    pub(super) fn event(&mut self, name: &str, data: &Value) {
        if name == "applied" {
            self.bar.inc(1);
            self.bar.set_message(node(data));
        }
    }

    /// Removes the bar, so that the result stands alone.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Prints a purge.
pub(super) fn status(status: &Value, as_json: bool) {
    if as_json {
        return say(&status.to_string());
    }
    let text = |name: &str| status[name].as_str().unwrap_or_default();
    let what = if status["dry_run"] == true {
        "counted, not purged"
    } else {
        text("mode")
    };
    say(&format!("{}  {}, {}", text("id"), text("state"), what));
    for one in nodes(status) {
        say(&format!("  {}", node(one)));
    }
    if nodes(status).is_empty() {
        say("  no node has reported yet");
    }
}

fn nodes(status: &Value) -> &[Value] {
    status["nodes"].as_array().map_or(&[], Vec::as_slice)
}

/// Returns a node as a line: name, state, time, counts.
fn node(node: &Value) -> String {
    let text = |name: &str| node[name].as_str().unwrap_or_default();
    let mut line = format!("{}  {}", text("node"), text("state"));
    if let Some(after) = node["reported_after_ms"].as_u64() {
        write!(line, " after {after} ms").expect("a string can be written to");
    }
    if let Some(responses) = node["counts"]["responses"].as_u64() {
        let bytes = node["counts"]["bytes"].as_u64().unwrap_or_default();
        let fills = node["counts"]["fills"].as_u64().unwrap_or_default();
        write!(
            line,
            "  {responses} responses, {bytes} bytes, {fills} fills"
        )
        .expect("a string can be written to");
    }
    line
}
