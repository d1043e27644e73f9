//! Scripted misbehavior: what real origins do on a bad day, on demand.
//!
//! A [`Fault`] says which requests, what happens to them, how often and when. It is written as
//! `ACTION@MATCH[xTIMES][:FROM-TO]`, e.g. `stall@*.m4sx1`, `status=503@*:10s-11s`.

use std::str::FromStr;
use std::time::Duration;

/// One scripted misbehavior.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What happens.
    pub action: Action,
    /// Which paths: a pattern in which `*` stands for anything.
    pub pattern: String,
    /// How often at most; `None` is always.
    pub times: Option<u32>,
    /// When, since the origin's start; `None` is always.
    pub during: Option<(Duration, Duration)>,
}

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Never answers.
    Stall,
    /// Answers after this time.
    StallFor(Duration),
    /// Sends the body in steps of so many bytes, with a pause between.
    Dribble(usize, Duration),
    /// Answers with this status.
    Status(u16),
    /// Resets the connection before the head.
    ResetBeforeHead,
    /// Resets the connection after so many bytes of the body.
    ResetAt(usize),
    /// Ends the connection after so many bytes, as if that were all.
    TruncateAt(usize),
    /// Publishes parts this much later.
    LatePart(Duration),
    /// Shows playlists that end so many segments earlier.
    MsnRegress(u64),
    /// Begins again with Media Sequence Number 0 and the same names.
    Restart,
    /// Ends the stream.
    EndList,
    /// Hints another part than the one that comes.
    WithdrawHint,
    /// Adds the request's query to every child URI.
    EchoQuery,
    /// Says `no-cache` everywhere.
    NoCache,
}

/// Why a fault cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a fault: {problem}; write ACTION@PATTERN[xTIMES][:FROM-TO], where ACTION is one of {ACTIONS}"
)]
pub struct FaultError {
    text: String,
    problem: String,
}

/// The actions as they are written.
pub const ACTIONS: &str = "stall, stall-for=2s, dribble=1000/100ms, status=503, reset, reset-at=1000, \
    truncate-at=1000, late-part=300ms, msn-regress=2, restart, endlist, withdraw-hint, echo-query, no-cache";

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let error = |problem: &str| FaultError {
            text: text.to_owned(),
            problem: problem.to_owned(),
        };
        let (action, rest) = text.split_once('@').unwrap_or((text, "*"));
        let (rest, during) = match rest.rsplit_once(':') {
            None => (rest, None),
            Some((rest, span)) => {
                let (from, to) = span
                    .split_once('-')
                    .ok_or_else(|| error("the time is FROM-TO"))?;
                let both = duration(from).zip(duration(to));
                (
                    rest,
                    Some(both.ok_or_else(|| error("times are like 10s or 500ms"))?),
                )
            }
        };
        let (pattern, times) = match rest.rsplit_once('x') {
            Some((pattern, times))
                if times.bytes().all(|b| b.is_ascii_digit()) && !times.is_empty() =>
            {
                let times = times.parse().map_err(|_| error("the count is too large"))?;
                (pattern, Some(times))
            }
            _ => (rest, None),
        };
        let action = parse_action(action).ok_or_else(|| error("the action is unknown"))?;
        Ok(Self {
            action,
            pattern: pattern.to_owned(),
            times,
            during,
        })
    }
}

fn parse_action(text: &str) -> Option<Action> {
    let (name, value) = text
        .split_once('=')
        .map_or((text, None), |(n, v)| (n, Some(v)));
    let action = match (name, value) {
        ("stall", None) => Action::Stall,
        ("stall-for", Some(value)) => Action::StallFor(duration(value)?),
        ("dribble", Some(value)) => {
            let (bytes, pause) = value.split_once('/')?;
            Action::Dribble(bytes.parse().ok().filter(|b| *b > 0)?, duration(pause)?)
        }
        ("status", Some(value)) => {
            Action::Status(value.parse().ok().filter(|s| (200..600).contains(s))?)
        }
        ("reset", None) => Action::ResetBeforeHead,
        ("reset-at", Some(value)) => Action::ResetAt(value.parse().ok()?),
        ("truncate-at", Some(value)) => Action::TruncateAt(value.parse().ok()?),
        ("late-part", Some(value)) => Action::LatePart(duration(value)?),
        ("msn-regress", Some(value)) => Action::MsnRegress(value.parse().ok()?),
        ("restart", None) => Action::Restart,
        ("endlist", None) => Action::EndList,
        ("withdraw-hint", None) => Action::WithdrawHint,
        ("echo-query", None) => Action::EchoQuery,
        ("no-cache", None) => Action::NoCache,
        _ => return None,
    };
    Some(action)
}

fn duration(text: &str) -> Option<Duration> {
    if let Some(milliseconds) = text.strip_suffix("ms") {
        return milliseconds.parse().ok().map(Duration::from_millis);
    }
    let seconds = text.strip_suffix('s').unwrap_or(text);
    seconds.parse().ok().map(Duration::from_secs)
}

/// The faults of an origin, and how often each has happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    armed: Vec<(Fault, u32)>,
}

impl Faults {
    /// Adds a fault.
    pub(crate) fn add(&mut self, fault: Fault) {
        self.armed.push((fault, 0));
    }

    /// Removes every fault.
    pub(crate) fn clear(&mut self) {
        self.armed.clear();
    }

    /// Takes every fault that a request for `path` meets at `at` since the start, and counts it.
    pub(crate) fn take(&mut self, path: &str, at: Duration) -> Vec<Action> {
        let met = self.armed.iter_mut().filter(|(fault, happened)| {
            fault.times.is_none_or(|times| *happened < times)
                && fault
                    .during
                    .is_none_or(|(from, to)| (from..to).contains(&at))
                && matches(&fault.pattern, path)
        });
        met.map(|(fault, happened)| {
            *happened += 1;
            fault.action
        })
        .collect()
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or("");
    let Some(mut rest) = path.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for piece in pieces {
        if let Some(before) = last.replace(piece) {
            let Some((_, after)) = rest.split_once::<&str>(before) else {
                return false;
            };
            rest = after;
        }
    }
    match last {
        None => rest.is_empty(),
        Some(piece) => rest.ends_with(piece),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_are_written() {
        let fault: Fault = "status=503@*/v1/*x3:10s-1500ms".parse().unwrap();
        assert_eq!(fault.action, Action::Status(503));
        assert_eq!(fault.pattern, "*/v1/*");
        assert_eq!(fault.times, Some(3));
        assert_eq!(
            fault.during,
            Some((Duration::from_secs(10), Duration::from_millis(1500)))
        );
        let plain: Fault = "stall".parse().unwrap();
        assert_eq!((plain.action, plain.pattern.as_str()), (Action::Stall, "*"));
        let dribble: Fault = "dribble=100/20ms@*.m4s".parse().unwrap();
        assert_eq!(
            dribble.action,
            Action::Dribble(100, Duration::from_millis(20))
        );
    }

    #[test]
    fn a_fault_that_cannot_be_read_lists_what_is_allowed() {
        for text in [
            "explode",
            "status=99",
            "dribble=0/1s",
            "stall@*:soon",
            "late-part",
        ] {
            let error = text.parse::<Fault>().unwrap_err().to_string();
            assert!(error.contains("withdraw-hint"), "{error}");
            assert!(
                error.starts_with(&format!("`{text}` is not a fault")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_pattern_matches_like_a_shell_does() {
        for (pattern, path, expected) in [
            ("*", "/live/v0/seg1.m4s", true),
            ("*.m4s", "/live/v0/seg1.m4s", true),
            ("*.m3u8", "/live/v0/seg1.m4s", false),
            ("/live/v0/*", "/live/v1/seg1.m4s", false),
            ("*/seg1.*.m4s", "/live/v1/seg1.0.m4s", true),
            ("*/seg1.*.m4s", "/live/v1/seg1.m4s", false),
            ("/a", "/a", true),
            ("/a", "/ab", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_fault_happens_as_often_and_when_it_says() {
        let mut faults = Faults::default();
        faults.add("reset@*x2:1s-2s".parse().unwrap());
        let at = Duration::from_millis;
        assert!(faults.take("/x", at(500)).is_empty());
        assert_eq!(faults.take("/x", at(1000)), [Action::ResetBeforeHead]);
        assert_eq!(faults.take("/x", at(1100)), [Action::ResetBeforeHead]);
        assert!(faults.take("/x", at(1200)).is_empty());
    }
}
