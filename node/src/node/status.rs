//! How a node is doing, for `/status` and `/readyz`.

use super::Node;
use crate::admin::{
    NotReady, ParentHealth, PurgeStanding, RENDITIONS_SHOWN_MAX, RenditionPosition, Status,
};
use crate::live::{Phase, Rendition};
use crate::purge::{State, Verdict};
use crate::telemetry;
use crate::upstream::{CircuitStatus, ParentStatus};

/// Describes `node` at this moment.
pub(super) fn of(node: &Node, is_draining: bool) -> Status {
    let parents: Vec<_> = node.upstream.parents().iter().map(parent).collect();
    let mut not_ready = Vec::new();
    if is_draining {
        not_ready.push(NotReady::Draining);
    }
    if node.purges.verdict() == Verdict::Fence {
        not_ready.push(NotReady::PurgesMissed);
    }
    if parents.iter().all(|parent| !parent.is_usable) {
        not_ready.push(NotReady::NoParentUsable);
    }
    let renditions = node.hub.renditions();
    Status {
        name: node.name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: node.clock.uptime().as_secs(),
        not_ready,
        parents,
        purges: purges(node),
        renditions: renditions
            .iter()
            .take(RENDITIONS_SHOWN_MAX)
            .map(|rendition| position(node, rendition))
            .collect(),
        renditions_total: renditions.len(),
        lapses: node.telemetry.lapses(),
        figures: node.telemetry.snapshot(),
    }
}

fn purges(node: &Node) -> Option<PurgeStanding> {
    let (standing, level) = node.purges.standing().zip(node.purges.level())?;
    Some(PurgeStanding {
        state: match level.state {
            State::Starting => "starting",
            State::Current => "current",
            State::Lagging { .. } => "lagging",
        },
        log: standing.position.map(|position| position.log.to_string()),
        applied: level.applied,
        head: level.head,
        lag_seconds: level.lag.as_secs_f64(),
        is_connected: standing.is_connected,
        children: level.children,
    })
}

fn parent(status: &ParentStatus) -> ParentHealth {
    ParentHealth {
        name: status.name.clone(),
        is_usable: status.circuit != CircuitStatus::Open,
        failures_in_a_row: status.failures_in_a_row,
        connections: status.parked.connections + status.bulk.connections,
        exchanges: status.parked.exchanges + status.bulk.exchanges,
        waiting: status.parked.waiting + status.bulk.waiting,
    }
}

fn position(node: &Node, rendition: &Rendition) -> RenditionPosition {
    let version = rendition.version();
    let last = version
        .as_ref()
        .and_then(|version| version.playlist.last_position());
    RenditionPosition {
        host: rendition.address.host.clone(),
        path: telemetry::path_without_secrets(&rendition.address.path),
        phase: match rendition.phase() {
            Phase::Dormant => "dormant",
            Phase::Refreshing => "refreshing",
            Phase::Following => "following",
            Phase::Troubled(_) => "troubled",
            Phase::Ended => "ended",
        },
        msn: last.map(|position| position.msn.0),
        part_index: last.and_then(|position| position.part_index).map(u64::from),
        age_seconds: version.map(|version| version.age(node.clock.uptime()).as_secs_f64()),
        waiting: rendition.waiting(),
    }
}
