//! Purges as people see them: a bar while nodes apply one, and a line per PoP at the end.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::arguments::HowArguments;
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

/// Prints a purge: a line per PoP, and per node where that was asked for or one has not applied it.
pub(super) fn status(status: &Value, how: &HowArguments) {
    if how.json {
        return say(&status.to_string());
    }
    let text = |name: &str| status[name].as_str().unwrap_or_default();
    let what = if status["dry_run"] == true {
        "counted, not purged"
    } else {
        text("mode")
    };
    say(&format!("{}  {}, {}", text("id"), text("state"), what));
    for pop in Pop::all(nodes(status)) {
        say(&format!("  {pop}"));
        for one in pop.nodes {
            if how.nodes || one["state"] != "applied" {
                say(&format!("    {}", node(one)));
            }
        }
    }
    if nodes(status).is_empty() {
        say("  no node has reported yet");
    }
}

/// The nodes of one site.
struct Pop<'a> {
    name: &'a str,
    nodes: Vec<&'a Value>,
}

impl<'a> Pop<'a> {
    /// Sorts nodes by where they are, as their names tell: `fra-1` and `fra-2` are at `fra`.
    fn all(nodes: &'a [Value]) -> Vec<Self> {
        let mut pops: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for node in nodes {
            let name = node["node"].as_str().unwrap_or_default();
            pops.entry(pop_of(name)).or_default().push(node);
        }
        let pops = pops.into_iter();
        pops.map(|(name, nodes)| Self { name, nodes }).collect()
    }

    fn sum(&self, count: &str) -> u64 {
        let counts = self.nodes.iter().map(|node| &node["counts"][count]);
        counts.filter_map(Value::as_u64).sum()
    }
}

impl fmt::Display for Pop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let applied = self.nodes.iter().filter(|node| node["state"] == "applied");
        let (done, all) = (applied.clone().count(), self.nodes.len());
        write!(f, "{}  applied by {done} of {all}", self.name)?;
        let slowest = applied
            .filter_map(|node| node["reported_after_ms"].as_u64())
            .max();
        if let Some(after) = slowest {
            write!(f, " after {after} ms")?;
        }
        let [responses, bytes, fills] =
            ["responses", "bytes", "fills"].map(|count| self.sum(count));
        if self.nodes.iter().any(|node| node["counts"].is_object()) {
            write!(f, "  {responses} responses, {bytes} bytes, {fills} fills")?;
        }
        Ok(())
    }
}

/// Returns the site of a node: its name without the number at the end.
fn pop_of(node: &str) -> &str {
    match node.rsplit_once(['-', '.']) {
        Some((pop, number)) if !pop.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => pop,
        Some(_) | None => node,
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_are_sorted_by_where_their_names_say_they_are() {
        for (node, pop) in [
            ("fra-1", "fra"),
            ("edge-fra-12", "edge-fra"),
            ("fra", "fra"),
            ("fra-a", "fra-a"),
            ("-1", "-1"),
            ("10.0.0.7", "10.0.0"),
        ] {
            assert_eq!(pop_of(node), pop, "{node}");
        }
    }

    #[test]
    fn a_pop_has_applied_a_purge_when_the_slowest_of_its_nodes_has() {
        let nodes = [
            json!({"node": "ams-1", "state": "pending"}),
            json!({"node": "fra-1", "state": "applied", "reported_after_ms": 9,
                   "counts": {"responses": 3, "bytes": 900, "fills": 1}}),
            json!({"node": "fra-2", "state": "applied", "reported_after_ms": 12,
                   "counts": {"responses": 2, "bytes": 600, "fills": 0}}),
        ];
        let lines: Vec<String> = Pop::all(&nodes).iter().map(Pop::to_string).collect();
        assert_eq!(
            lines,
            [
                "ams  applied by 0 of 1",
                "fra  applied by 2 of 2 after 12 ms  5 responses, 1500 bytes, 1 fills",
            ]
        );
    }
}
