//! Who applied what: the reports of nodes.
//!
//! Who calls it: the journal notes reports and answers the API from here. What a node reported is in memory
//! for purges of late and on disk for all of them; losing it loses no purge. Deliberately not here:
//! judging whether a node is late.

use std::collections::BTreeMap;
use std::time::Duration;

use purge_log::feed::Refused;
use purge_log::{Bounds, Counts, NodeName, Report, Sequence, UnixMillis};

use super::writer::Noted;

/// How far a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeProgress {
    /// Which node.
    pub node: NodeName,
    /// Everything up to here is applied there.
    pub through: Sequence,
    /// When it reported last, by our clock.
    pub reported_at: UnixMillis,
}

/// That a node applied a purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeApplied {
    /// Which node.
    pub node: NodeName,
    /// When and to what effect. `None` when only a later report says that the purge lies behind the node:
    /// it started after the purge, or its report of it was lost.
    pub detail: Option<AppliedDetail>,
}

/// When a node applied a purge, and to what effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppliedDetail {
    /// When, by the node's clock.
    pub at: UnixMillis,
    /// When it was reported, by our clock.
    pub reported_at: UnixMillis,
    /// What the purge meant there.
    pub counts: Counts,
}

/// One kept line of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) node: NodeName,
    pub(super) detail: AppliedDetail,
}

/// The reports of all nodes.
#[derive(Debug)]
pub(super) struct Progress {
    nodes: BTreeMap<NodeName, NodeProgress>,
    nodes_max: usize,
    lines: BTreeMap<Sequence, Vec<Line>>,
    lines_held: usize,
    lines_max: usize,
    /// Lines about purges before this one are on disk only.
    remembered_from: Sequence,
}

impl Progress {
    pub(super) fn new(nodes_max: usize, lines_max: usize, remembered_from: Sequence) -> Self {
        Self {
            nodes: BTreeMap::new(),
            nodes_max,
            lines: BTreeMap::new(),
            lines_held: 0,
            lines_max,
            remembered_from,
        }
    }

    /// Takes over what was kept about a node.
    pub(super) fn restore(&mut self, node: NodeProgress) {
        if self.nodes.len() < self.nodes_max {
            self.nodes.insert(node.node.clone(), node);
        }
    }

    /// Notes reports and returns what is new in them, and the refusal if a node was one too many.
    pub(super) fn note(
        &mut self,
        reports: Vec<Report>,
        bounds: Bounds,
        now: UnixMillis,
    ) -> (Vec<Noted>, Option<Refused>) {
        let mut noted = Vec::new();
        let mut refusal = None;
        for report in reports {
            // A report about another log says nothing about this one: its node is told so by the feed.
            if report.log != bounds.log {
                continue;
            }
            let is_known = self.nodes.contains_key(&report.node);
            if !is_known && self.nodes.len() >= self.nodes_max {
                refusal = Some(Refused {
                    nodes_max: self.nodes_max,
                });
                continue;
            }
            let reported_at = UnixMillis(now.0.saturating_sub(report.age_ms));
            if let Some(news) = self.note_one(report, bounds, reported_at) {
                noted.push(news);
            }
        }
        (noted, refusal)
    }

    fn note_one(
        &mut self,
        report: Report,
        bounds: Bounds,
        reported_at: UnixMillis,
    ) -> Option<Noted> {
        let Report { node, through, .. } = report;
        // That there is such a node is news: it must be missed when it is gone.
        let is_new = !self.nodes.contains_key(&node);
        let known = self
            .nodes
            .entry(node.clone())
            .or_insert_with(|| NodeProgress {
                node: node.clone(),
                through: Sequence::START,
                reported_at,
            });
        let is_further = through > known.through;
        // Nobody can be further than the log: what is said beyond it is not believed.
        known.through = known.through.max(through.min(bounds.head));
        known.reported_at = known.reported_at.max(reported_at);
        let through = known.through;
        let mut applied = report.applied;
        applied.retain(|line| bounds.tail <= line.sequence && line.sequence <= through);
        for line in &applied {
            let detail = AppliedDetail {
                at: line.at,
                reported_at,
                counts: line.counts,
            };
            self.remember(line.sequence, &node, detail);
        }
        (is_new || is_further || !applied.is_empty()).then_some(Noted {
            node,
            through,
            reported_at,
            applied,
        })
    }

    fn remember(&mut self, sequence: Sequence, node: &NodeName, detail: AppliedDetail) {
        if sequence < self.remembered_from {
            return;
        }
        let lines = self.lines.entry(sequence).or_default();
        // The first report of a purge counts: a repetition would make it look slower than it was.
        if lines.iter().any(|line| line.node == *node) {
            return;
        }
        lines.push(Line {
            node: node.clone(),
            detail,
        });
        self.lines_held += 1;
        while self.lines_held > self.lines_max {
            let Some((oldest, lines)) = self.lines.pop_first() else {
                return;
            };
            self.lines_held -= lines.len();
            self.remembered_from = oldest.next();
        }
    }

    /// Returns who applied the purge at `sequence`; `None` when the details are on disk only.
    pub(super) fn applied(&self, sequence: Sequence) -> Option<Vec<NodeApplied>> {
        if sequence < self.remembered_from {
            return None;
        }
        let lines = self.lines.get(&sequence).cloned().unwrap_or_default();
        Some(self.complete(sequence, lines))
    }

    /// Adds to `lines` the nodes that are further than `sequence` without a line of their own.
    pub(super) fn complete(&self, sequence: Sequence, lines: Vec<Line>) -> Vec<NodeApplied> {
        let mut details: BTreeMap<NodeName, AppliedDetail> = lines
            .into_iter()
            .map(|line| (line.node, line.detail))
            .collect();
        let further = self.nodes.values().filter(|n| n.through >= sequence);
        let mut applied: Vec<_> = further
            .map(|known| NodeApplied {
                node: known.node.clone(),
                detail: details.remove(&known.node),
            })
            .collect();
        // Nodes that were forgotten since applied it all the same.
        applied.extend(details.into_iter().map(|(node, detail)| NodeApplied {
            node,
            detail: Some(detail),
        }));
        applied.sort_by(|a, b| a.node.cmp(&b.node));
        applied
    }

    /// Returns all nodes, by name.
    pub(super) fn nodes(&self) -> Vec<NodeProgress> {
        self.nodes.values().cloned().collect()
    }

    /// Forgets lines about purges before `tail`.
    pub(super) fn cut(&mut self, tail: Sequence) {
        while let Some(oldest) = self.lines.first_entry() {
            if *oldest.key() >= tail {
                return;
            }
            self.lines_held -= oldest.remove().len();
        }
    }

    /// Forgets nodes that said nothing for `kept_for`, and returns them.
    pub(super) fn forget_silent(&mut self, now: UnixMillis, kept_for: Duration) -> Vec<NodeName> {
        let is_silent = |node: &NodeProgress| now.since(node.reported_at) > kept_for;
        let gone: Vec<_> = self
            .nodes
            .values()
            .filter(|n| is_silent(n))
            .map(|n| n.node.clone())
            .collect();
        for node in &gone {
            self.nodes.remove(node);
        }
        gone
    }
}
