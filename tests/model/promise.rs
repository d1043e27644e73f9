//! The promise: what Seawall does where the law leaves it a choice.
//!
//! It hits when it can, validates when it must, asks once for all, and serves stale only where the origin
//! says so. Where the law has several readings, nothing is promised. Who calls it: `run`, after `judge`.

use std::mem::discriminant;

use crate::judge::{Answer, Asking, Meanwhile, Shelf, is_not_modified};
use crate::reading::{Directive, Reading, combined, delta_seconds, list};
use crate::stored::{Exchange, Stored, text};

/// What the operator of the edge decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operator {
    /// `Cache-Control` of viewers is obeyed.
    pub(crate) obeys_viewers: bool,
    /// `Date` of the origin counts as age.
    pub(crate) trusts_date: bool,
}

/// The longest that the operator lets a 4xx live, and how long one about which nothing is said.
pub(crate) const CLIENT_ERROR_SECONDS: u64 = 10;

/// What is promised about a request.
#[derive(Debug)]
enum Promised<'a> {
    /// Nothing.
    Unknown(&'static str),
    /// It is answered from the store, and the origin is not asked.
    Hit(&'a Stored),
    /// It is answered from the store, and the origin is asked once.
    StaleMeanwhile(&'a Stored),
    /// The origin is asked, about the stored response if it has a validator.
    Validation(&'a Stored),
    /// The origin is asked.
    Miss,
    /// Nothing stored answers it, and the viewer wants nothing else.
    NotStored,
}

/// Checks answers to `asking`; `before` is what was stored when it came.
///
/// # Errors
///
/// The promise that was broken.
pub(crate) fn check(
    before: &Shelf,
    after: &Shelf,
    operator: Operator,
    asking: &Asking,
    meanwhile: &Meanwhile<'_>,
    answers: &[Answer],
) -> Result<(), String> {
    let promised = obeying(operator, asking, predict(before, operator, asking));
    let exchanges = meanwhile.exchanges;
    let kept = || match &promised {
        Promised::Unknown(_) => Ok(()),
        Promised::Hit(stored) => {
            if !exchanges.is_empty() {
                return Err("a fresh response is a hit, but the origin was asked".to_owned());
            }
            answers.iter().try_for_each(|answer| {
                is_from(stored, operator, answer)?;
                is_transformed(stored, asking, answer)
            })
        }
        Promised::StaleMeanwhile(stored) => {
            if exchanges.is_empty() || exchanges.len() > attempts(exchanges) {
                return Err(format!("one refresh, not {}", exchanges.len()));
            }
            answers
                .iter()
                .try_for_each(|answer| is_from(stored, operator, answer))
        }
        Promised::Validation(stored) => {
            validates(stored, exchanges)?;
            is_answer_of(operator, Some(stored), exchanges, asking, answers)
        }
        Promised::Miss => is_answer_of(operator, None, exchanges, asking, answers),
        Promised::NotStored => {
            let is_refused = answers.iter().all(|answer| answer.status == 504);
            (exchanges.is_empty() && is_refused)
                .then_some(())
                .ok_or_else(|| "RFC 9111 5.2.1.7: 504, and the origin is not asked".to_owned())
        }
    };
    kept()
        .and_then(|()| asks_once(before, after, asking, meanwhile))
        .map_err(|broken| format!("promised {}: {broken}", name_of(&promised)))
}

fn name_of(promised: &Promised<'_>) -> String {
    match promised {
        Promised::Unknown(why) => format!("nothing ({why})"),
        Promised::Hit(stored) => format!("a hit on reply {}", stored.made),
        Promised::StaleMeanwhile(stored) => format!("reply {} while revalidating", stored.made),
        Promised::Validation(stored) => format!("validation of reply {}", stored.made),
        Promised::Miss => "a miss".to_owned(),
        Promised::NotStored => "504".to_owned(),
    }
}

/// Returns what is promised to a request without directives.
fn predict<'a>(shelf: &'a Shelf, operator: Operator, asking: &'a Asking) -> Promised<'a> {
    let mut of_path = shelf
        .responses
        .iter()
        .filter(|stored| stored.path == asking.path);
    let Some(first) = of_path.next() else {
        return Promised::Miss;
    };
    let vary = first.varies_by();
    if of_path.any(|other| other.varies_by() != vary) {
        return Promised::Unknown("the origin changed what it varies by");
    }
    let Some(stored) = shelf.selected(&asking.path, &asking.fields).last() else {
        return Promised::Miss;
    };
    let twins = shelf.responses.iter().filter(|s| s.made == stored.made);
    if twins.count() > 1 || stored.is_vaguely_validated {
        return Promised::Unknown("a 304 could mean several responses");
    }
    let of_path = shelf.responses.iter().filter(|s| s.path == stored.path);
    let mut since = of_path.skip_while(|other| other.made != stored.made);
    if !since.all(is_certainly_stored) {
        return Promised::Unknown("it need not be stored, or still be");
    }
    if stored.is_invalid {
        return Promised::Unknown("it was changed by another method");
    }
    let mut judged = stored
        .readings
        .iter()
        .map(|reading| predict_by(stored, reading, operator, asking.asked_ms));
    let Some(first) = judged.next() else {
        return Promised::Unknown("nothing can be read");
    };
    if judged.any(|other| discriminant(&other) != discriminant(&first)) {
        return Promised::Unknown("the directives can be read in several ways");
    }
    first
}

fn predict_by<'a>(
    stored: &'a Stored,
    reading: &Reading,
    operator: Operator,
    now_ms: i64,
) -> Promised<'a> {
    let (age_least, age_greatest) = age_ms(stored, operator, now_ms);
    let (least, greatest) = lifetime_ms(stored, reading);
    if reading.no_cache {
        return Promised::Validation(stored);
    }
    if age_greatest < least {
        return Promised::Hit(stored);
    }
    if age_least < greatest {
        return Promised::Unknown("its age or lifetime is not certain");
    }
    match reading.stale_while_revalidate {
        Some(window) if window > 0 && !reading.forbids_stale() => {
            if stored.status != 200 {
                Promised::Unknown("whether an error is served stale")
            } else if age_greatest - least < window * 1000 {
                Promised::StaleMeanwhile(stored)
            } else if age_least - greatest > window * 1000 {
                Promised::Validation(stored)
            } else {
                Promised::Unknown("at the end of its window")
            }
        }
        _ => Promised::Validation(stored),
    }
}

fn age_ms(stored: &Stored, operator: Operator, now_ms: i64) -> (i64, i64) {
    if operator.trusts_date {
        stored.age_by_both_ms(now_ms)
    } else {
        stored.age_by_age_ms(now_ms)
    }
}

/// Returns the lifetime as the operator limits it: no heuristics, errors briefly.
fn lifetime_ms(stored: &Stored, reading: &Reading) -> (i64, i64) {
    let stated = stored.lifetime_ms(reading);
    let most = i64::try_from(CLIENT_ERROR_SECONDS * 1000).unwrap_or(i64::MAX);
    match stored.status {
        _ if reading.no_cache => (0, 0),
        500.. => (0, 0),
        400.. => stated.map_or((most, most), |(least, greatest)| {
            (least.min(most), greatest.min(most))
        }),
        _ => stated.unwrap_or((0, 0)),
    }
}

/// Whether nothing keeps it from being stored: no cookie, no viewer who asked, nothing that makes it useless.
fn is_certainly_stored(stored: &Stored) -> bool {
    let has_validator = ["etag", "last-modified"]
        .iter()
        .any(|name| stored.fields.contains_key(*name));
    !stored.is_unwanted
        && !stored.fields.contains_key("set-cookie")
        && !stored.varies_by().iter().any(|name| name == "*")
        && stored.readings.iter().all(|reading| {
            let is_useful =
                lifetime_ms(stored, reading).0 > 0 || (has_validator && stored.status < 400);
            let is_public = !stored.is_for_some_authorized || reading.allows_authorized();
            is_useful && is_public && stored.refusal(reading).is_none()
        })
}

/// Applies what the viewer says of age and validation (RFC 9111 5.2.1).
fn obeying<'a>(operator: Operator, asking: &'a Asking, promised: Promised<'a>) -> Promised<'a> {
    let mut directives = list(&combined(&asking.fields, "cache-control"));
    if directives.is_empty() && combined(&asking.fields, "pragma") == "no-cache" {
        directives = list("no-cache"); // RFC 9111 5.4
    }
    if !operator.obeys_viewers {
        return promised;
    }
    let only_if_cached = directives.iter().any(|d| d.name == "only-if-cached");
    let promised = directives.iter().fold(promised, |promised, said| {
        obey(operator, asking, promised, said)
    });
    match promised {
        Promised::Validation(_) | Promised::Miss if only_if_cached => Promised::NotStored,
        Promised::StaleMeanwhile(_) if only_if_cached => Promised::Unknown("only if cached, stale"),
        promised => promised,
    }
}

fn obey<'a>(
    operator: Operator,
    asking: &Asking,
    promised: Promised<'a>,
    said: &Directive,
) -> Promised<'a> {
    let stored = match promised {
        Promised::Hit(stored) | Promised::StaleMeanwhile(stored) => stored,
        Promised::Validation(_) if said.name == "max-stale" => {
            return Promised::Unknown("the viewer takes what is stale");
        }
        promised => return promised,
    };
    if combined(&stored.fields, "cache-control").contains("immutable") {
        return Promised::Unknown("immutable outweighs what viewers say");
    }
    let is_fresh = matches!(promised, Promised::Hit(_));
    let (age_least, age_greatest) = age_ms(stored, operator, asking.asked_ms);
    let margin_ms = said
        .argument
        .as_deref()
        .and_then(delta_seconds)
        .map(|n| n * 1000);
    let lifetimes = stored.readings.iter().map(|r| lifetime_ms(stored, r).0);
    let lifetime_ms = lifetimes.min().unwrap_or(0);
    match (said.name.as_str(), margin_ms) {
        ("no-cache", _) => Promised::Validation(stored),
        ("max-age", Some(most)) if age_greatest <= most && is_fresh => promised,
        ("max-age", Some(most)) if age_least > most => Promised::Validation(stored),
        ("min-fresh", Some(left)) if lifetime_ms - age_greatest >= left && is_fresh => promised,
        ("min-fresh", Some(left)) if lifetime_ms - age_least < left => Promised::Validation(stored),
        ("only-if-cached" | "max-stale", _) if is_fresh => promised,
        _ => Promised::Unknown("what the viewer says can be taken in several ways"),
    }
}

fn is_from(stored: &Stored, operator: Operator, answer: &Answer) -> Result<(), String> {
    if answer.status == 304 || answer.status == 416 {
        return Ok(());
    }
    if answer.made() != Some(stored.made) {
        return Err(format!("answered with reply {:?}", answer.made()));
    }
    if answer.fields.contains_key("set-cookie") {
        return Err("a cookie from the store".to_owned());
    }
    let (least, greatest) = age_ms(stored, operator, answer.answered_ms);
    let stated = text(&answer.fields, "age").unwrap_or("");
    let is_true = stated
        .parse::<i64>()
        .is_ok_and(|seconds| (least / 1000..=greatest / 1000).contains(&seconds));
    if is_true {
        return Ok(());
    }
    Err(format!("Age is {stated:?} at {least} to {greatest} ms"))
}

/// RFC 9111 4.3.2, RFC 9110 14.2: a hit honors conditions and ranges.
fn is_transformed(stored: &Stored, asking: &Asking, answer: &Answer) -> Result<(), String> {
    let is_conditional = ["if-none-match", "if-modified-since"]
        .iter()
        .any(|name| asking.fields.contains_key(*name));
    if stored.status != 200 {
        return Ok(());
    }
    // Without Last-Modified, Date may be compared; that is not promised.
    let has_validator =
        asking.fields.contains_key("if-none-match") || stored.fields.contains_key("last-modified");
    if is_conditional && has_validator && is_not_modified(stored, asking).is_ok() {
        return (answer.status == 304)
            .then_some(())
            .ok_or_else(|| "RFC 9110 13.2.2: 304 to who has it already".to_owned());
    }
    let range = text(&asking.fields, "range");
    if range.is_some_and(|range| range != NOT_SATISFIABLE)
        && !asking.is_head
        && !is_conditional
        && !asking.fields.contains_key("if-range")
        && answer.status != 206
    {
        return Err("RFC 9110 14.2: 206 to a range".to_owned());
    }
    Ok(())
}

/// A range that no body of this test has.
pub(crate) const NOT_SATISFIABLE: &str = "bytes=100000-";

/// RFC 9111 4.3.1: the validators of what is stored go into the question.
fn validates(stored: &Stored, exchanges: &[Exchange]) -> Result<(), String> {
    let Some(first) = exchanges.first() else {
        return Err("it must be validated, but the origin was not asked".to_owned());
    };
    let is_asked = |condition: &str, validator: &str| {
        let validator = text(&stored.fields, validator);
        validator.is_none() || text(&first.asked, condition) == validator
    };
    if !is_asked("if-none-match", "etag") {
        return Err("RFC 9111 4.3.1: the tag is not asked about".to_owned());
    }
    if !stored.fields.contains_key("etag") && !is_asked("if-modified-since", "last-modified") {
        return Err("RFC 9111 4.3.1: Last-Modified is not asked about".to_owned());
    }
    Ok(())
}

/// The newest reply is the answer, or an error, or what is stored instead of one (RFC 5861 4).
fn is_answer_of(
    operator: Operator,
    stored: Option<&Stored>,
    exchanges: &[Exchange],
    asking: &Asking,
    answers: &[Answer],
) -> Result<(), String> {
    let Some(last) = exchanges.last() else {
        return Err("the origin was not asked".to_owned());
    };
    let [answer] = answers else { return Ok(()) };
    let is_error = last
        .reply
        .as_ref()
        .is_none_or(|reply| matches!(reply.status, 500 | 502..=504));
    if is_error {
        match stored.map_or(Some(false), |s| replaces_errors(s, operator, asking)) {
            None => return Ok(()),
            Some(true) if answer.status == 304 => return Ok(()),
            Some(true) => {
                let made = stored.map(|stored| stored.made);
                return (answer.made() == made)
                    .then_some(())
                    .ok_or_else(|| "RFC 5861 4: what is stored replaces the error".to_owned());
            }
            Some(false) if answer.status >= 500 => return Ok(()),
            Some(false) => return Err("RFC 5861 4: nothing allows to hide the error".to_owned()),
        }
    }
    if answer.status == 304 || answer.status == 416 || answer.made() == Some(last.made) {
        return Ok(());
    }
    let is_contradiction = last.reply.as_ref().is_some_and(|reply| reply.status == 304);
    if is_contradiction && answer.status >= 500 {
        return Ok(());
    }
    Err(format!("RFC 9111 4.3.3: reply {} is the answer", last.made))
}

/// Returns whether a stored response replaces errors; `None` where that is not certain.
fn replaces_errors(stored: &Stored, operator: Operator, asking: &Asking) -> Option<bool> {
    let (age_least, age_greatest) = age_ms(stored, operator, asking.asked_ms);
    let mut verdict = None;
    for reading in &stored.readings {
        let (least, greatest) = lifetime_ms(stored, reading);
        let window_ms = reading.stale_if_error.unwrap_or(0) * 1000;
        // A fresh one that the viewer did not want, and one at the end of its window: who knows.
        if age_least < greatest || stored.status != 200 {
            return None;
        }
        let by_this = match window_ms {
            _ if reading.forbids_stale() => false,
            0 => false,
            window if age_greatest - least < window => true,
            window if age_least - greatest > window => false,
            _ => return None,
        };
        if verdict.is_some_and(|verdict| verdict != by_this) {
            return None;
        }
        verdict = Some(by_this);
    }
    verdict
}

/// CA-05: many requests for what may be shared are one question.
fn asks_once(
    before: &Shelf,
    after: &Shelf,
    asking: &Asking,
    meanwhile: &Meanwhile<'_>,
) -> Result<(), String> {
    let exchanges = meanwhile.exchanges;
    let is_lasting = |stored: &Stored| {
        let lasts = |r: &Reading| lifetime_ms(stored, r).0 > 0 && !r.no_cache;
        is_certainly_stored(stored) && stored.readings.iter().all(lasts)
    };
    let brings_lasting = |exchange: &Exchange| {
        let brought = after.responses.iter().find(|s| s.made == exchange.made);
        brought.is_some_and(is_lasting)
    };
    // What was not to be shared once is asked for by everyone apart until it is.
    let mut known = before.responses.iter().filter(|s| s.path == asking.path);
    let questions = match exchanges.first() {
        Some(first) if brings_lasting(first) && known.all(is_lasting) => 1,
        _ => meanwhile.viewers,
    };
    let most = questions * attempts(exchanges);
    if exchanges.len() > most {
        return Err(format!(
            "CA-05: {} requests where {most} do",
            exchanges.len()
        ));
    }
    Ok(())
}

/// How often one question may be asked: again after a 304 that contradicts itself; after a cut in a
/// second attempt, and in each on a fresh connection if a kept one was cut.
fn attempts(exchanges: &[Exchange]) -> usize {
    let is_cut = |exchange: &Exchange| exchange.reply.is_none();
    let is_304 = |exchange: &Exchange| exchange.reply.as_ref().is_some_and(|r| r.status == 304);
    match (exchanges.iter().any(is_cut), exchanges.iter().any(is_304)) {
        (false, false) => 1,
        (false, true) => 2,
        (true, _) => 4,
    }
}
