//! The text form of a fault rule, as `--fault` takes it.
//!
//! `ACTION[@MATCH][xTIMES][:FROM-TO]`, where MATCH is a path in which `*` stands for anything or
//! `kind=KIND`: `stall@*.m4sx1`, `status=503@kind=part:10s-20s`, `endlist:30s-`.

use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use super::fault::{Action, Fault, Matches};
use super::presentation::ObjectKind;

/// A fault rule that cannot be read; the message says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{rule}` is not a fault: {problem}; write ACTION[@MATCH][xTIMES][:FROM-TO], where MATCH is a path \
     with * for anything or kind=KIND, and ACTION is one of {ACTIONS}"
)]
pub struct FaultError {
    rule: String,
    problem: &'static str,
}

/// The actions as they are written.
pub const ACTIONS: &str = "stall, stall-for=2s, dribble=1000/100ms, status=503, reset, \
reset-at=1000, truncate-at=1000, late-part=300ms, msn-regress=2, restart, endlist, withdraw-hint, \
echo-query, no-cache";
const ACTION: &str = "the action is unknown";
const KIND: &str = "the kind is none of multivariant, playlist, mpd, init, segment, part, other";
const DURATION: &str = "a time is like 250ms, 2s, 1.5s or 3m";
const NUMBER: &str = "a number is missing, not whole, or out of range";

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(rule: &str) -> Result<Self, FaultError> {
        parse(rule).map_err(|problem| FaultError {
            rule: rule.to_owned(),
            problem,
        })
    }
}

fn parse(rule: &str) -> Result<Fault, &'static str> {
    let (rest, during) = match rule.rsplit_once(':') {
        Some((rest, times)) => (rest, Some(span(times)?)),
        None => (rule, None),
    };
    let (rest, times) = match rest.rsplit_once('x') {
        Some((rest, count)) if !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit()) => {
            (rest, Some(number(count)?))
        }
        Some(_) | None => (rest, None),
    };
    let (action, matches) = match rest.split_once('@') {
        Some((action, matches)) => (action, parse_matches(matches)?),
        None => (rest, Matches::Everything),
    };
    Ok(Fault {
        matches,
        action: parse_action(action)?,
        times,
        during,
    })
}

fn parse_matches(text: &str) -> Result<Matches, &'static str> {
    match text.strip_prefix("kind=") {
        Some(kind) => {
            let found = ObjectKind::ALL.into_iter().find(|k| k.name() == kind);
            found.map(Matches::Kind).ok_or(KIND)
        }
        None if text == "*" => Ok(Matches::Everything),
        None => Ok(Matches::Path(text.to_owned())),
    }
}

fn parse_action(word: &str) -> Result<Action, &'static str> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let action = match (name, value) {
        ("stall", None) => Action::Stall,
        ("stall-for", Some(value)) => Action::StallFor(duration(value)?),
        ("dribble", Some(value)) => {
            let (bytes, every) = value.split_once('/').ok_or(ACTION)?;
            Action::Dribble {
                bytes_per_step: number::<usize>(bytes)
                    .and_then(|n| (n > 0).then_some(n).ok_or(NUMBER))?,
                every: duration(every)?,
            }
        }
        ("status", Some(value)) => {
            let status = number(value)?;
            if !(200..=599).contains(&status) {
                return Err("a status is between 200 and 599");
            }
            Action::Status(status)
        }
        ("reset", None) => Action::ResetBeforeHead,
        ("reset-at", Some(value)) => Action::ResetAtByte(number(value)?),
        ("truncate-at", Some(value)) => Action::TruncateAtByte(number(value)?),
        ("late-part", Some(value)) => Action::LatePart(duration(value)?),
        ("msn-regress", Some(value)) => Action::MsnRegress(number(value)?),
        ("restart", None) => Action::RestartReusingNames,
        ("endlist", None) => Action::EndList,
        ("withdraw-hint", None) => Action::WithdrawHint,
        ("echo-query", None) => Action::EchoQueryIntoChildUris,
        ("no-cache", None) => Action::NoCacheEverywhere,
        _ => return Err(ACTION),
    };
    Ok(action)
}

fn number<N: FromStr>(text: &str) -> Result<N, &'static str> {
    text.parse().map_err(|_| NUMBER)
}

fn span(text: &str) -> Result<Range<Duration>, &'static str> {
    let (from, to) = text
        .split_once('-')
        .ok_or("the time is FROM-TO, FROM- or -TO")?;
    let from = if from.is_empty() {
        Duration::ZERO
    } else {
        duration(from)?
    };
    let to = if to.is_empty() {
        Duration::MAX
    } else {
        duration(to)?
    };
    if from >= to {
        return Err("the time ends before it begins");
    }
    Ok(from..to)
}

/// Parses `250ms`, `2s`, `1.5s` or `3m`; a year at most.
fn duration(text: &str) -> Result<Duration, &'static str> {
    let (digits, unit_seconds) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 0.001),
        None => match (text.strip_suffix('s'), text.strip_suffix('m')) {
            (Some(digits), _) => (digits, 1.0),
            (None, Some(digits)) => (digits, 60.0),
            (None, None) => return Err(DURATION),
        },
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(DURATION);
    }
    let value: f64 = digits.parse().map_err(|_| DURATION)?;
    let seconds = value * unit_seconds;
    if seconds > 31_536_000.0 {
        return Err(DURATION);
    }
    Ok(Duration::from_micros((seconds * 1e6).round() as u64))
}

#[cfg(test)]
mod tests {
    use super::{Action, Duration, Fault, ObjectKind};

    fn parse(rule: &str) -> Fault {
        rule.parse().unwrap()
    }

    #[test]
    fn every_action_has_a_text() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("stall", Action::Stall),
            ("stall-for=2s", Action::StallFor(ms(2000))),
            (
                "dribble=100/50ms",
                Action::Dribble {
                    bytes_per_step: 100,
                    every: ms(50),
                },
            ),
            ("status=503", Action::Status(503)),
            ("reset", Action::ResetBeforeHead),
            ("reset-at=1000", Action::ResetAtByte(1000)),
            ("truncate-at=0", Action::TruncateAtByte(0)),
            ("late-part=1.5s", Action::LatePart(ms(1500))),
            ("msn-regress=3", Action::MsnRegress(3)),
            ("restart", Action::RestartReusingNames),
            ("endlist", Action::EndList),
            ("withdraw-hint", Action::WithdrawHint),
            ("echo-query", Action::EchoQueryIntoChildUris),
            ("no-cache", Action::NoCacheEverywhere),
        ] {
            assert_eq!(parse(text), Fault::new(expected), "{text}");
        }
    }

    #[test]
    fn a_match_a_count_and_a_time_follow_the_action() {
        let seconds = Duration::from_secs;
        let status = Fault::new(Action::Status(503));
        for (text, expected) in [
            ("status=503@*", status.clone()),
            ("status=503@/live/v0/*", status.clone().path("/live/v0/*")),
            ("status=503@*.m4sx3", status.clone().path("*.m4s").times(3)),
            ("status=503x2", status.clone().times(2)),
            (
                "status=503@kind=part",
                status.clone().kind(ObjectKind::Part),
            ),
            (
                "status=503@*:10s-11s",
                status.clone().during(seconds(10)..seconds(11)),
            ),
            (
                "status=503:-11s",
                status.clone().during(seconds(0)..seconds(11)),
            ),
            (
                "status=503@kind=mpdx1:1.5s-",
                status
                    .kind(ObjectKind::Mpd)
                    .once()
                    .during(Duration::from_millis(1500)..Duration::MAX),
            ),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn an_error_names_the_problem_and_lists_what_is_allowed() {
        for (rule, expected) in [
            ("", "the action is unknown"),
            ("explode", "the action is unknown"),
            ("stall-for", "the action is unknown"),
            ("stall-for=2", "a time is like"),
            ("stall-for=-2s", "a time is like"),
            ("stall-for=99999999999m", "a time is like"),
            ("status=99", "between 200 and 599"),
            ("status=x", "a number is missing"),
            ("dribble=0/1s", "a number is missing"),
            ("dribble=5", "the action is unknown"),
            ("stall@kind=video", "multivariant, playlist"),
            ("stallx99999999999", "a number is missing"),
            ("stall:5s-5s", "ends before it begins"),
            ("stall:5s", "FROM-TO"),
        ] {
            let error = rule.parse::<Fault>().unwrap_err().to_string();
            assert!(error.contains(expected), "{rule}: {error}");
            assert!(error.contains("ACTION is one of stall, stall-for=2s"));
        }
    }
}
