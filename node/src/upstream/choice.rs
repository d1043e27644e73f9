//! Which parent is asked.
//!
//! Who calls it: `Upstream::fetch`, once per attempt. What it calls: [`Health`] for admission.
//! Deliberately not here: the URL. What belongs together has one affinity and goes one way (CA-08).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::config::{ParentConfig, ParentId, Selection};
use super::health::{Admission, Health};

/// Chooses among the parents of one node.
#[derive(Debug)]
pub(super) struct Choice {
    selection: Selection,
    candidates: Vec<Candidate>,
    moved: Mutex<Moved>,
}

#[derive(Debug)]
struct Candidate {
    /// The hash of the parent's name: a reordered configuration changes nobody's parent.
    seed: u64,
    weight: u32,
    health: Arc<Health>,
}

/// A parent to ask, with the right to do so.
#[derive(Debug)]
pub(super) struct Chosen {
    /// Who it is.
    pub(super) parent: ParentId,
    /// Held until the verdict on the parent is noted, then dropped.
    pub(super) _admission: Admission,
}

impl Choice {
    /// Creates the choice among `parents`, whose health stands in the same order.
    pub(super) fn new(
        selection: Selection,
        parents: &[ParentConfig],
        health: &[Arc<Health>],
        moved_max: usize,
    ) -> Self {
        let candidates = parents
            .iter()
            .zip(health)
            .map(|(parent, health)| Candidate {
                seed: xxh3_64(parent.name.as_bytes()),
                weight: parent.weight,
                health: Arc::clone(health),
            })
            .collect();
        Self {
            selection,
            candidates,
            moved: Mutex::new(Moved::new(moved_max)),
        }
    }

    /// Chooses a parent that is not in `tried`, or `None` if all were.
    ///
    /// The order of preference is the selection's. A parent that is left alone is passed over, `avoid` is
    /// asked only if nobody else is admitted, and if nobody is, the one that failed least recently is asked:
    /// a node never cuts itself off.
    pub(super) fn choose(
        &self,
        affinity: &str,
        avoid: Option<ParentId>,
        tried: &[ParentId],
        now: Instant,
    ) -> Option<Chosen> {
        let mut order = self.preference(affinity, now);
        order.retain(|parent| !tried.contains(parent));
        // Stable: everything else keeps its place, the one to avoid goes last.
        order.sort_by_key(|parent| Some(*parent) == avoid);
        for parent in order.iter().copied() {
            let Some(admission) = self.candidates[parent.0].health.admit(now) else {
                continue;
            };
            // A second opinion for one request moves nothing; a parent that is down moves the presentation.
            if avoid.is_none() {
                self.settle(affinity, parent, now);
            }
            return Some(Chosen {
                parent,
                _admission: admission,
            });
        }
        let parent = order.into_iter().min_by_key(|parent| {
            let is_avoided = Some(*parent) == avoid;
            (is_avoided, self.candidates[parent.0].health.last_failure())
        })?;
        Some(Chosen {
            parent,
            _admission: Admission::unconditional(),
        })
    }

    /// Returns the first parent for an affinity, if the others serve the same.
    pub(super) fn first(&self, affinity: &str) -> Option<ParentId> {
        match self.selection {
            Selection::Rendezvous => self.preference(affinity, Instant::now()).first().copied(),
            Selection::Ordered => None,
        }
    }

    /// Returns all parents, the preferred one first.
    pub(super) fn preference(&self, affinity: &str, now: Instant) -> Vec<ParentId> {
        let mut order: Vec<ParentId> = (0..self.candidates.len()).map(ParentId).collect();
        match self.selection {
            Selection::Rendezvous => {
                let score = |parent: ParentId| {
                    let candidate = &self.candidates[parent.0];
                    score(affinity, candidate.seed, candidate.weight)
                };
                // Stable: parents without weight keep the order of the configuration, at the end.
                order.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
            }
            Selection::Ordered => {
                let home = self.moved.lock().home(xxh3_64(affinity.as_bytes()), now);
                order.sort_by_key(|parent| Some(*parent) != home);
            }
        }
        order
    }

    /// Remembers where a presentation is, if that is not where it would start.
    fn settle(&self, affinity: &str, parent: ParentId, now: Instant) {
        match self.selection {
            // The hash remembers by itself, and a recovered parent gets its share back.
            Selection::Rendezvous => {}
            Selection::Ordered => {
                let presentation = xxh3_64(affinity.as_bytes());
                let mut moved = self.moved.lock();
                if parent == ParentId(0) {
                    moved.forget(presentation);
                } else {
                    moved.remember(presentation, parent, now);
                }
            }
        }
    }
}

/// The presentations that are not at the first parent, and since when they were not asked for.
///
/// Two generations instead of a list by age: when the young one has half of the limit, the old one is
/// dropped. What is asked for becomes young again, so what is dropped was not asked for lately.
#[derive(Debug)]
struct Moved {
    young: HashMap<u64, Home>,
    old: HashMap<u64, Home>,
    generation_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Home {
    parent: ParentId,
    asked_at: Instant,
}

impl Moved {
    fn new(max: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            generation_max: (max / 2).max(1),
        }
    }

    fn home(&self, presentation: u64, now: Instant) -> Option<ParentId> {
        let home = self
            .young
            .get(&presentation)
            .or_else(|| self.old.get(&presentation))?;
        let is_recent = now.saturating_duration_since(home.asked_at) < MOVED_FOR;
        is_recent.then_some(home.parent)
    }

    fn remember(&mut self, presentation: u64, parent: ParentId, now: Instant) {
        self.old.remove(&presentation);
        if self.young.len() >= self.generation_max && !self.young.contains_key(&presentation) {
            self.old = std::mem::take(&mut self.young);
        }
        let home = Home {
            parent,
            asked_at: now,
        };
        self.young.insert(presentation, home);
    }

    fn forget(&mut self, presentation: u64) {
        self.young.remove(&presentation);
        self.old.remove(&presentation);
    }
}

/// Returns the weighted rendezvous score of a parent for an affinity: the highest is asked.
///
/// With `u` drawn evenly from (0, 1), `weight / -ln(u)` is the highest among all parents with a probability
/// of `weight / sum of weights`, and taking a parent away moves only what it had.
fn score(affinity: &str, seed: u64, weight: u32) -> f64 {
    let drawn = xxh3_64_with_seed(affinity.as_bytes(), seed) >> 11;
    #[expect(
        clippy::cast_precision_loss,
        reason = "53 bits are what an f64 holds exactly"
    )]
    let even = (drawn as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(weight) / -even.ln()
}

/// A presentation that was not asked for so long starts at the first parent again: it is another broadcast.
const MOVED_FOR: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode, Uri};

    use super::super::config::UpstreamLimits;
    use super::super::health::Fault;
    use super::super::request::Class;
    use super::*;

    struct Site {
        choice: Choice,
        health: Vec<Arc<Health>>,
        now: Instant,
    }

    fn site(selection: Selection, parents: &[(&str, u32)]) -> Site {
        let configs: Vec<ParentConfig> = parents
            .iter()
            .map(|(name, weight)| ParentConfig {
                name: (*name).to_owned(),
                url: Uri::from_static("http://parent"),
                weight: *weight,
                h2c: false,
                ca_file: None,
                client_certificate: None,
                insecure_skip_verify: false,
                host: None,
                headers: HeaderMap::new(),
            })
            .collect();
        let limits = UpstreamLimits::default();
        let health: Vec<Arc<Health>> = configs
            .iter()
            .map(|p| Arc::new(Health::new(&p.name, "edge-1", &limits)))
            .collect();
        Site {
            choice: Choice::new(selection, &configs, &health, 100),
            health,
            now: Instant::now(),
        }
    }

    impl Site {
        fn asked(&self, affinity: &str) -> usize {
            self.choice
                .choose(affinity, None, &[], self.now)
                .expect("somebody is always asked")
                .parent
                .0
        }

        fn fail(&self, parent: usize) {
            for _ in 0..3 {
                self.health[parent].note_failure(Fault::Connect, self.now);
            }
        }

        fn answer(&self, parent: usize) {
            self.health[parent].note_answer(StatusCode::OK, Class::Bulk, self.now);
        }
    }

    const SHIELDS: [(&str, u32); 3] = [("shield-1", 1), ("shield-2", 1), ("shield-3", 2)];

    #[test]
    fn the_hash_is_frozen() {
        // Nodes of different versions must agree: these values may never change.
        for (affinity, seed, expected) in [
            ("", 0, 0x2d06_8005_38d3_94c2_u64),
            ("/live/one/", 0, 0x6073_994c_bdbb_8d04),
            ("/live/one/", xxh3_64(b"shield-1"), 0x3d02_5c4c_def6_8e97),
        ] {
            assert_eq!(
                xxh3_64_with_seed(affinity.as_bytes(), seed),
                expected,
                "{affinity} {seed}"
            );
        }
        let site = site(Selection::Rendezvous, &SHIELDS);
        let chosen: Vec<usize> = (0..16)
            .map(|n| site.asked(&format!("/live/{n}/")))
            .collect();
        assert_eq!(chosen, [2, 2, 2, 0, 2, 1, 2, 2, 0, 2, 2, 2, 0, 2, 1, 1]);
    }

    #[test]
    fn every_parent_gets_its_weight() {
        let site = site(Selection::Rendezvous, &SHIELDS);
        let mut counts = [0_u32; 3];
        for n in 0..10_000 {
            counts[site.asked(&format!("/live/{n}/"))] += 1;
        }
        for (count, expected) in counts.iter().zip([2_500_u32, 2_500, 5_000]) {
            assert!(count.abs_diff(expected) < 200, "{counts:?}");
        }
    }

    #[test]
    fn a_parent_that_fails_moves_only_what_it_had() {
        let site = site(Selection::Rendezvous, &SHIELDS);
        let before: Vec<usize> = (0..1_000)
            .map(|n| site.asked(&format!("/live/{n}/")))
            .collect();
        site.fail(1);
        for (n, parent) in before.iter().enumerate() {
            let after = site.asked(&format!("/live/{n}/"));
            assert!(after != 1 && (*parent == 1 || after == *parent));
        }
        site.answer(1);
        let healed: Vec<usize> = (0..1_000)
            .map(|n| site.asked(&format!("/live/{n}/")))
            .collect();
        assert_eq!(before, healed);
    }

    #[test]
    fn the_order_of_the_configuration_does_not_move_anything() {
        let there = site(Selection::Rendezvous, &SHIELDS);
        let back: Vec<_> = SHIELDS.iter().rev().copied().collect();
        let back = site(Selection::Rendezvous, &back);
        for n in 0..1_000 {
            let affinity = format!("/live/{n}/");
            assert_eq!(there.asked(&affinity), 2 - back.asked(&affinity));
        }
    }

    #[test]
    fn a_parent_without_weight_is_a_last_resort() {
        let site = site(Selection::Rendezvous, &[("spare", 0), ("shield-1", 1)]);
        assert!((0..100).all(|n| site.asked(&format!("/live/{n}/")) == 1));
        site.fail(1);
        assert_eq!(site.asked("/live/1/"), 0);
    }

    #[test]
    fn ca_08_a_presentation_moves_to_the_backup_and_stays_there() {
        let site = site(Selection::Ordered, &[("primary", 1), ("backup", 1)]);
        assert_eq!(site.asked("/live/one/"), 0);
        site.fail(0);
        assert_eq!(site.asked("/live/one/"), 1);
        site.answer(0);
        assert_eq!(site.asked("/live/one/"), 1);
        assert_eq!(site.asked("/live/two/"), 0);
        site.fail(1);
        assert_eq!(site.asked("/live/one/"), 0);
    }

    #[test]
    fn ca_08_one_failed_rendition_takes_the_whole_presentation_along() {
        let site = site(Selection::Ordered, &[("primary", 1), ("backup", 1)]);
        let tried = [ParentId(0)];
        let second = site.choice.choose("/live/one/", None, &tried, site.now);
        assert_eq!(second.map(|c| c.parent), Some(ParentId(1)));
        assert_eq!(site.asked("/live/one/"), 1);
    }

    #[test]
    fn ca_08_a_presentation_nobody_asked_for_starts_at_the_first_parent_again() {
        let mut site = site(Selection::Ordered, &[("primary", 1), ("backup", 1)]);
        site.fail(0);
        assert_eq!(site.asked("/live/one/"), 1);
        site.answer(0);
        site.now += MOVED_FOR;
        assert_eq!(site.asked("/live/one/"), 0);
    }

    #[test]
    fn the_table_of_moved_presentations_stays_within_its_limit() {
        let site = site(Selection::Ordered, &[("primary", 1), ("backup", 1)]);
        site.fail(0);
        for n in 0..1_000 {
            site.asked(&format!("/live/{n}/"));
            site.asked("/live/busy/");
            let moved = site.choice.moved.lock();
            assert!(moved.young.len() + moved.old.len() <= 100);
        }
        site.answer(0);
        assert_eq!(site.asked("/live/busy/"), 1);
        assert_eq!(site.asked("/live/0/"), 0);
    }

    #[test]
    fn the_one_to_avoid_is_asked_only_if_nobody_else_can_be() {
        let site = site(Selection::Ordered, &[("primary", 1), ("backup", 1)]);
        let avoiding = |parent| {
            let chosen = site
                .choice
                .choose("/live/one/", Some(ParentId(parent)), &[], site.now);
            chosen.map(|c| c.parent.0)
        };
        assert_eq!(avoiding(0), Some(1));
        // A second opinion moved nothing.
        assert_eq!(site.asked("/live/one/"), 0);
        site.fail(1);
        assert_eq!(avoiding(0), Some(0));
    }

    #[test]
    fn if_all_parents_are_down_the_one_that_failed_least_recently_is_asked() {
        let mut site = site(Selection::Rendezvous, &SHIELDS);
        for parent in [2, 0, 1] {
            site.fail(parent);
            site.now += Duration::from_millis(1);
        }
        assert!((0..100).all(|n| site.asked(&format!("/live/{n}/")) == 2));
    }

    #[test]
    fn a_parent_is_not_asked_twice_for_one_request() {
        let site = site(Selection::Ordered, &[("primary", 1), ("backup", 1)]);
        let tried = [ParentId(0), ParentId(1)];
        assert!(
            site.choice
                .choose("/live/one/", None, &tried, site.now)
                .is_none()
        );
    }
}
