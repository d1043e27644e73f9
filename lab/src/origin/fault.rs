//! Scripted misbehavior: which requests go wrong, how, how often and when.
//!
//! A [`Fault`] is a rule. Rules about responses become a [`Plan`] for one request; rules about the
//! presentation (late parts, restarts, the end) are read by `live.rs` when it schedules. The text form
//! is in `fault_text.rs`. Deliberately not here: doing it; bodies go wrong in `body.rs`, connections
//! in `server.rs`.

use std::ops::Range;
use std::time::Duration;

use super::presentation::ObjectKind;

/// One rule of misbehavior.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which objects it is about.
    pub matches: Matches,
    /// What happens to them.
    pub action: Action,
    /// How many times it happens; `None` is every time.
    pub times: Option<u32>,
    /// When it happens, in time since the origin started; `None` is always.
    pub during: Option<Range<Duration>>,
}

impl Fault {
    /// Creates a rule that applies `action` to everything, always.
    pub fn new(action: Action) -> Self {
        Self {
            matches: Matches::Everything,
            action,
            times: None,
            during: None,
        }
    }

    /// Restricts the rule to paths that match `glob`: `*` stands for any characters.
    #[must_use]
    pub fn path(self, glob: impl Into<String>) -> Self {
        Self {
            matches: Matches::Path(glob.into()),
            ..self
        }
    }

    /// Restricts the rule to objects of `kind`.
    #[must_use]
    pub fn kind(self, kind: ObjectKind) -> Self {
        Self {
            matches: Matches::Kind(kind),
            ..self
        }
    }

    /// Lets the rule apply `times` times.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self {
            times: Some(times),
            ..self
        }
    }

    /// Lets the rule apply once.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Lets the rule apply only in this range of time since the origin started.
    #[must_use]
    pub fn during(self, range: Range<Duration>) -> Self {
        Self {
            during: Some(range),
            ..self
        }
    }
}

/// Which objects a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matches {
    /// All of them.
    Everything,
    /// Those whose path matches; `*` stands for any characters, also `/`.
    Path(String),
    /// Those of one kind.
    Kind(ObjectKind),
}

impl Matches {
    fn covers(&self, path: &str, kind: ObjectKind) -> bool {
        match self {
            Self::Everything => true,
            Self::Path(glob) => glob_matches(glob.as_bytes(), path.as_bytes()),
            Self::Kind(wanted) => *wanted == kind,
        }
    }
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The request is never answered.
    Stall,
    /// The answer begins this much later.
    StallFor(Duration),
    /// The body comes in steps of so many bytes, one each so often.
    Dribble {
        /// Bytes of a step, at least 1.
        bytes_per_step: usize,
        /// Time between steps.
        every: Duration,
    },
    /// This status is answered, with a short text.
    Status(u16),
    /// The connection is reset instead of an answer.
    ResetBeforeHead,
    /// The connection is reset after this many bytes of the body.
    ResetAtByte(u64),
    /// The body ends after this many bytes as if it were whole: short of its `Content-Length` or
    /// without the last chunk, and the connection is closed in order.
    TruncateAtByte(u64),
    /// Matching parts are published this much later, and so is what follows them.
    LatePart(Duration),
    /// Playlists are this many segments older than they should be.
    MsnRegress(u64),
    /// At the beginning of `during` the broadcast begins again at segment 0 with other content
    /// under the same names; once.
    RestartReusingNames,
    /// At the beginning of `during` the broadcast ends; once.
    EndList,
    /// The hint for a matching part is withdrawn half a part after it was given: the name is 404
    /// from then on, and the part is published under another. Only where parts are files.
    WithdrawHint,
    /// Child URIs of playlists carry the request's query, without directives.
    EchoQueryIntoChildUris,
    /// Every response says `Cache-Control: no-cache`.
    NoCacheEverywhere,
}

/// What goes wrong with one response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) is_stalled: bool,
    pub(crate) delay: Duration,
    pub(crate) status: Option<u16>,
    pub(crate) resets_before_head: bool,
    pub(crate) regress_segments: u64,
    pub(crate) echoes_query: bool,
    pub(crate) is_no_cache: bool,
    pub(crate) body: BodyPlan,
}

/// What goes wrong with one body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BodyPlan {
    pub(crate) reset_at: Option<u64>,
    pub(crate) truncate_at: Option<u64>,
    pub(crate) dribble: Option<(usize, Duration)>,
}

/// The rules in force and how often each was applied.
#[derive(Debug, Default)]
pub(crate) struct FaultBook {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    fault: Fault,
    applied: u32,
}

/// A change of the whole broadcast that a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Restart,
    End,
}

impl FaultBook {
    pub(crate) fn new(faults: Vec<Fault>) -> Self {
        let rules = faults
            .into_iter()
            .map(|fault| Rule { fault, applied: 0 })
            .collect();
        Self { rules }
    }

    /// Adds a rule and returns its place.
    pub(crate) fn add(&mut self, fault: Fault) -> usize {
        self.rules.push(Rule { fault, applied: 0 });
        self.rules.len() - 1
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns what goes wrong with the response to a request for `path` at `at`, time since start.
    pub(crate) fn plan(&mut self, path: &str, kind: ObjectKind, at: Duration) -> Plan {
        let mut plan = Plan::default();
        for rule in &mut self.rules {
            if !rule.is_open(at) || !rule.fault.matches.covers(path, kind) {
                continue;
            }
            if plan.take(&rule.fault.action) {
                rule.applied += 1;
            }
        }
        plan
    }

    /// Returns how much later the part is published that would be published at `at`, by the rules
    /// from place `from` on.
    pub(crate) fn lateness(&mut self, from: usize, paths: &[String], at: Duration) -> Duration {
        let mut late = Duration::ZERO;
        for rule in self.rules.iter_mut().skip(from) {
            if let Action::LatePart(by) = rule.fault.action
                && rule.is_open(at)
                && rule.covers_part(paths)
            {
                rule.applied += 1;
                late += by;
            }
        }
        late
    }

    /// Returns whether the hint for the part at `paths`, given at `at`, will be withdrawn by the rules
    /// from place `from` on.
    pub(crate) fn withdraws_hint(&mut self, from: usize, paths: &[String], at: Duration) -> bool {
        let found = self.rules.iter_mut().skip(from).find(|rule| {
            rule.fault.action == Action::WithdrawHint && rule.is_open(at) && rule.covers_part(paths)
        });
        if let Some(rule) = found {
            rule.applied += 1;
            return true;
        }
        false
    }

    /// Returns the next change of the broadcast and when it is due, in time since start.
    pub(crate) fn next_turn(&self) -> Option<(Duration, Turn)> {
        self.turns()
            .map(|(_, at, turn)| (at, turn))
            .min_by_key(|(at, _)| *at)
    }

    /// Marks the next change as done.
    pub(crate) fn take_turn(&mut self) {
        let next = self.turns().min_by_key(|(_, at, _)| *at).map(|(i, _, _)| i);
        if let Some(index) = next {
            self.rules[index].applied = 1;
        }
    }

    fn turns(&self) -> impl Iterator<Item = (usize, Duration, Turn)> + '_ {
        self.rules.iter().enumerate().filter_map(|(index, rule)| {
            let turn = match rule.fault.action {
                Action::RestartReusingNames => Turn::Restart,
                Action::EndList => Turn::End,
                Action::Stall
                | Action::StallFor(_)
                | Action::Dribble { .. }
                | Action::Status(_)
                | Action::ResetBeforeHead
                | Action::ResetAtByte(_)
                | Action::TruncateAtByte(_)
                | Action::LatePart(_)
                | Action::MsnRegress(_)
                | Action::WithdrawHint
                | Action::EchoQueryIntoChildUris
                | Action::NoCacheEverywhere => return None,
            };
            let at = rule
                .fault
                .during
                .as_ref()
                .map_or(Duration::ZERO, |d| d.start);
            (rule.applied == 0).then_some((index, at, turn))
        })
    }
}

impl Rule {
    fn is_open(&self, at: Duration) -> bool {
        let is_left = self.fault.times.is_none_or(|times| self.applied < times);
        is_left && self.fault.during.as_ref().is_none_or(|d| d.contains(&at))
    }

    fn covers_part(&self, paths: &[String]) -> bool {
        paths
            .iter()
            .any(|path| self.fault.matches.covers(path, ObjectKind::Part))
    }
}

impl Plan {
    /// Takes `action` into the plan; false if it is not about responses.
    fn take(&mut self, action: &Action) -> bool {
        match *action {
            Action::Stall => self.is_stalled = true,
            Action::StallFor(delay) => self.delay += delay,
            Action::Dribble {
                bytes_per_step,
                every,
            } => self.body.dribble = Some((bytes_per_step.max(1), every)),
            Action::Status(status) => self.status = Some(status),
            Action::ResetBeforeHead => self.resets_before_head = true,
            Action::ResetAtByte(at) => self.body.reset_at = Some(at),
            Action::TruncateAtByte(at) => self.body.truncate_at = Some(at),
            Action::MsnRegress(by) => self.regress_segments = by,
            Action::EchoQueryIntoChildUris => self.echoes_query = true,
            Action::NoCacheEverywhere => self.is_no_cache = true,
            Action::LatePart(_)
            | Action::RestartReusingNames
            | Action::EndList
            | Action::WithdrawHint => return false,
        }
        true
    }
}

/// Matches `text` against `glob`, where `*` stands for any bytes. Linear in practice: it goes back to
/// the last star only.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut last_star = None;
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                last_star = Some((g, t));
                g += 1;
            }
            Some(byte) if *byte == text[t] => {
                g += 1;
                t += 1;
            }
            Some(_) | None => {
                let Some((star, from)) = last_star else {
                    return false;
                };
                last_star = Some((star, from + 1));
                g = star + 1;
                t = from + 1;
            }
        }
    }
    glob.get(g..)
        .is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_star_stands_for_any_characters() {
        for (glob, text, expected) in [
            ("*", "/live/v0/seg1.m4s", true),
            ("/live/*/seg*.3.m4s", "/live/v0/seg12.3.m4s", true),
            ("/live/*/seg*.3.m4s", "/live/v0/seg12.4.m4s", false),
            ("*.m3u8", "/live/index.m3u8", true),
            ("*.m3u8", "/live/index.m3u8x", false),
            ("/a*b*c", "/aXbXbXc", true),
            ("/a", "/ab", false),
            ("", "", true),
            ("", "x", false),
            ("**", "", true),
        ] {
            let matched = glob_matches(glob.as_bytes(), text.as_bytes());
            assert_eq!(matched, expected, "{glob} {text}");
        }
    }

    #[test]
    fn a_rule_applies_as_often_and_as_long_as_it_says() {
        let fault = Fault::new(Action::Status(503))
            .path("/live/*")
            .times(2)
            .during(SECOND..SECOND * 3);
        let mut book = FaultBook::new(vec![fault]);
        let mut status = |path: &str, at| book.plan(path, ObjectKind::Segment, at).status;
        assert_eq!(status("/live/a", Duration::ZERO), None);
        assert_eq!(status("/plain/a", SECOND), None);
        assert_eq!(status("/live/a", SECOND), Some(503));
        assert_eq!(status("/live/a", SECOND * 3), None);
        assert_eq!(status("/live/b", SECOND * 2), Some(503));
        assert_eq!(status("/live/b", SECOND * 2), None);
    }

    #[test]
    fn rules_add_up_in_one_plan() {
        let mut book = FaultBook::new(vec![
            Fault::new(Action::StallFor(SECOND)).kind(ObjectKind::Part),
            Fault::new(Action::TruncateAtByte(7)),
            Fault::new(Action::LatePart(SECOND)),
        ]);
        let plan = book.plan("/x", ObjectKind::Part, SECOND);
        assert_eq!((plan.delay, plan.body.truncate_at), (SECOND, Some(7)));
        let plan = book.plan("/x", ObjectKind::Init, SECOND);
        assert_eq!(
            (plan.delay, plan.body.truncate_at),
            (Duration::ZERO, Some(7))
        );
    }

    #[test]
    fn turns_of_the_broadcast_come_in_order_and_once() {
        let mut book = FaultBook::new(vec![
            Fault::new(Action::EndList).during(SECOND * 5..SECOND * 6),
            Fault::new(Action::RestartReusingNames).during(SECOND * 2..SECOND * 3),
        ]);
        assert_eq!(book.next_turn(), Some((SECOND * 2, Turn::Restart)));
        book.take_turn();
        assert_eq!(book.next_turn(), Some((SECOND * 5, Turn::End)));
        book.take_turn();
        assert_eq!(book.next_turn(), None);
    }
}
