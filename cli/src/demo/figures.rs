//! The figures that the page shows, as JSON: each node's counters and the origin's.

use std::sync::{Arc, OnceLock};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use lab::origin::{Counts, Fault, Origin};
use node::Clock;
use node::telemetry::{Figures, LapseReport, Telemetry};
use serde::Serialize;

use super::Cdn;
use super::places::Link;

/// What is watched. The origin serves the figures before there is anything to watch, hence the lock.
pub(super) struct Watched {
    clock: Clock,
    faults: usize,
    running: OnceLock<Everything>,
}

struct Everything {
    nodes: Vec<WatchedNode>,
    shield: Arc<Telemetry>,
    origin: Arc<Origin>,
    links: Vec<Link>,
}

struct WatchedNode {
    name: &'static str,
    place: &'static str,
    telemetry: Arc<Telemetry>,
}

/// What the page reads once a second.
#[derive(Serialize)]
struct Shown<'a> {
    /// Unix time in milliseconds.
    at: u64,
    /// Seconds since the start.
    uptime: f64,
    nodes: Vec<ShownNode>,
    origin: Counts,
    /// What the shield has caught the origin doing wrong, as its `/status` says it.
    lapses: LapseReport,
    notices: Vec<String>,
    addresses: &'a [Link],
}

#[derive(Serialize)]
struct ShownNode {
    name: &'static str,
    place: &'static str,
    figures: Figures,
}

impl Watched {
    /// Starts the clock of the figures.
    pub(super) fn starting_now(faults: &[Fault]) -> Self {
        Self {
            clock: Clock::system(),
            faults: faults.len(),
            running: OnceLock::new(),
        }
    }

    /// Begins to watch what runs.
    pub(super) fn begin(&self, cdn: &Cdn, links: Vec<Link>) {
        let edges = cdn.edges.iter().map(|(name, edge)| WatchedNode {
            name,
            place: "edge",
            telemetry: Arc::clone(edge.telemetry()),
        });
        let shield = WatchedNode {
            name: "shield",
            place: "shield",
            telemetry: Arc::clone(cdn.shield.telemetry()),
        };
        let everything = Everything {
            nodes: edges.chain([shield]).collect(),
            shield: Arc::clone(cdn.shield.telemetry()),
            origin: Arc::clone(cdn.origin.origin()),
            links,
        };
        self.running.set(everything).ok();
    }

    /// Returns the figures at this moment.
    pub(super) fn as_json(&self) -> Bytes {
        let since = self.clock.now().duration_since(UNIX_EPOCH);
        let running = self.running.get();
        let nodes: Vec<ShownNode> = running
            .map(|running| running.nodes.iter().map(WatchedNode::shown).collect())
            .unwrap_or_default();
        let origin = running.map(|running| running.origin.counts());
        let origin = origin.unwrap_or_default();
        let lapses = running.map(|running| running.shield.lapses());
        let shown = Shown {
            at: u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX),
            uptime: self.clock.uptime().as_secs_f64(),
            notices: notices(self.faults, &nodes),
            nodes,
            origin,
            lapses: lapses.unwrap_or_default(),
            addresses: running.map(|running| &*running.links).unwrap_or_default(),
        };
        serde_json::to_vec(&shown)
            .expect("numbers and text are always JSON")
            .into()
    }
}

impl WatchedNode {
    fn shown(&self) -> ShownNode {
        ShownNode {
            name: self.name,
            place: self.place,
            figures: self.telemetry.snapshot(),
        }
    }
}

/// Says what goes wrong, in sentences: an origin that misbehaves should not look like a bad CDN.
fn notices(faults: usize, nodes: &[ShownNode]) -> Vec<String> {
    let mut notices = Vec::new();
    match faults {
        0 => {}
        1 => notices.push("The origin has one fault, as asked for.".to_owned()),
        n => notices.push(format!("The origin has {n} faults, as asked for.")),
    }
    for ShownNode { name, figures, .. } in nodes {
        let mut add = |count: u64, what: &str| {
            if count > 0 {
                notices.push(format!("{name}: {count} {what}."));
            }
        };
        add(
            figures.forward_failures,
            "requests to its parent got no answer",
        );
        add(figures.fills_failed, "responses broke off before their end");
        add(
            figures.regressions_prevented,
            "older playlists were not shown",
        );
    }
    notices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_can_be_asked_for_before_anything_runs() {
        let text = Watched::starting_now(&[]).as_json();
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(json["nodes"], serde_json::json!([]));
        assert_eq!(
            json["lapses"],
            serde_json::json!({ "total": 0, "recent": [] })
        );
        assert!(json["at"].as_u64().unwrap() > 1_700_000_000_000);
    }

    #[test]
    fn what_goes_wrong_is_said_in_sentences() {
        let figures = Figures {
            regressions_prevented: 2,
            ..Figures::default()
        };
        let node = ShownNode {
            name: "fra",
            place: "edge",
            figures,
        };
        assert_eq!(
            notices(1, &[node]),
            [
                "The origin has one fault, as asked for.",
                "fra: 2 older playlists were not shown."
            ]
        );
    }
}
