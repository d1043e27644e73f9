//! The law: which answers RFC 9111, 9110 and 5861 allow a shared cache to give.
//!
//! A cache may always forward, so the law says little about what must be a hit; that is `promise`. Who
//! calls it: `run`, with what was asked, what the origin was asked meanwhile, and what was answered.

use bytes::Bytes;
use http::HeaderMap;

use crate::reading::{Reading, combined};
use crate::stored::{Exchange, Stored, date_ms, is_same_weakly, parse_date_ms, text};

/// What a viewer asked, as the cache would forward it.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    pub(crate) path: String,
    pub(crate) is_head: bool,
    pub(crate) fields: HeaderMap,
    pub(crate) asked_ms: i64,
}

/// What a viewer got.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) is_whole: bool,
    pub(crate) answered_ms: i64,
}

impl Answer {
    /// Returns the number of the reply that its fields are from.
    pub(crate) fn made(&self) -> Option<usize> {
        text(&self.fields, "x-made")?.parse().ok()
    }
}

/// Everything that may be in the cache.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) responses: Vec<Stored>,
}

impl Shelf {
    /// Learns what the origin replied.
    pub(crate) fn absorb(&mut self, exchange: &Exchange) {
        let Some(reply) = &exchange.reply else { return };
        if reply.status != 304 {
            self.responses.push(Stored::of(exchange, reply));
            return;
        }
        let updated: Vec<Stored> = self
            .selected(&exchange.path, &exchange.asked)
            .filter_map(|stored| stored.updated(exchange, reply))
            .collect();
        self.responses.extend(updated);
    }

    /// RFC 9111 4.4: an unsafe method that succeeds leaves nothing that may be used unvalidated.
    pub(crate) fn invalidate(&mut self, path: &str) {
        let of_path = self.responses.iter_mut().filter(|s| s.path == path);
        of_path.for_each(|stored| stored.is_invalid = true);
    }

    /// Returns the responses that a request selects (RFC 9111 4.1).
    pub(crate) fn selected<'a>(
        &'a self,
        path: &'a str,
        request: &'a HeaderMap,
    ) -> impl Iterator<Item = &'a Stored> {
        self.responses
            .iter()
            .filter(move |stored| stored.path == path && stored.is_selected_by(request))
    }
}

/// What happened at the origin while a request was answered.
pub(crate) struct Meanwhile<'a> {
    /// The requests for the same path.
    pub(crate) exchanges: &'a [Exchange],
    /// How many viewers asked the same at once.
    pub(crate) viewers: usize,
}

/// Judges an answer; `shelf` knows of the exchanges meanwhile.
///
/// # Errors
///
/// What is wrong with it, with the section that says so.
pub(crate) fn judge(
    shelf: &Shelf,
    meanwhile: &Meanwhile<'_>,
    asking: &Asking,
    answer: &Answer,
) -> Result<(), String> {
    if !answer.is_whole {
        return Err("RFC 9112 8: the body ended early".to_owned());
    }
    let from = answer.made();
    let candidates: Vec<&Stored> = shelf
        .responses
        .iter()
        .filter(|stored| stored.path == asking.path)
        .filter(|stored| from == Some(stored.made) || (from.is_none() && answer.status == 304))
        .collect();
    if from.is_none() && answer.status != 304 {
        return judge_own(meanwhile, asking, answer);
    }
    if candidates.is_empty() {
        return Err(format!(
            "RFC 9111 4.3.4: no response has fields of reply {from:?}"
        ));
    }
    let mut objections = Vec::new();
    for stored in candidates {
        let of_now = meanwhile.exchanges.iter().find(|e| e.made == stored.made);
        // A reply of now answers: it is new, or a 304 has just said that what is stored is good
        // (RFC 9111 4.3.3). Whether several viewers may share it, `judge_sharing` says.
        let may_be_used = match of_now {
            Some(_) => Ok(()),
            None => may_be_reused(stored, asking, meanwhile, answer.answered_ms),
        };
        let is_direct = of_now.is_some();
        match may_be_used.and_then(|()| is_made_of(stored, asking, answer, is_direct)) {
            Ok(()) => return Ok(()),
            Err(objection) => objections.push(format!("of reply {}: {objection}", stored.made)),
        }
    }
    Err(objections.join("\n    and "))
}

/// RFC 9111 4: what several viewers get of one exchange must be storable, but for errors.
pub(crate) fn judge_sharing(
    shelf: &Shelf,
    meanwhile: &Meanwhile<'_>,
    answers: &[Answer],
) -> Result<(), String> {
    for exchange in meanwhile.exchanges {
        let served = answers
            .iter()
            .filter(|answer| answer.made() == Some(exchange.made))
            .count();
        if served < 2 {
            continue;
        }
        let of_it = shelf.responses.iter().filter(|s| s.made == exchange.made);
        let refusals: Vec<&str> = of_it
            .flat_map(|stored| stored.readings.iter().map(|r| sharing_refusal(stored, r)))
            .collect::<Option<Vec<&str>>>()
            .unwrap_or_default();
        if let Some(refusal) = refusals.first() {
            return Err(format!(
                "RFC 9111 4: {served} viewers share reply {}, but {refusal}",
                exchange.made
            ));
        }
    }
    Ok(())
}

/// FM-01, beyond the law: an error is told to everybody who waits for it, unless it is one viewer's own.
fn sharing_refusal(stored: &Stored, reading: &Reading) -> Option<&'static str> {
    if stored.status >= 400 && !reading.private {
        return None;
    }
    stored.refusal(reading)
}

/// An answer that the cache made up itself.
fn judge_own(meanwhile: &Meanwhile<'_>, asking: &Asking, answer: &Answer) -> Result<(), String> {
    let has_failed = meanwhile.exchanges.iter().any(|e| e.reply.is_none())
        // RFC 9110 15.4.5: a 304 that is about nothing that was asked about is no answer.
        || meanwhile.exchanges.iter().any(|e| e.reply.as_ref().is_some_and(|r| r.status == 304));
    match answer.status {
        504 if combined(&asking.fields, "cache-control").contains("only-if-cached") => Ok(()),
        502..=504 if has_failed => Ok(()),
        status => Err(format!(
            "RFC 9110 15.6: the cache itself answered {status}, though the origin did not fail"
        )),
    }
}

/// RFC 9111 4: whether a response from an earlier exchange may answer without another.
fn may_be_reused(
    stored: &Stored,
    asking: &Asking,
    meanwhile: &Meanwhile<'_>,
    now_ms: i64,
) -> Result<(), String> {
    if !stored.is_selected_by(&asking.fields) {
        return Err("RFC 9111 4.1: Vary selects another response".to_owned());
    }
    let mut objections: Vec<String> = Vec::new();
    for reading in &stored.readings {
        match may_be_reused_by(stored, reading, asking, meanwhile, now_ms) {
            Ok(()) => return Ok(()),
            Err(objection) => objections.push(objection),
        }
    }
    objections.dedup();
    Err(objections.join(" or "))
}

fn may_be_reused_by(
    stored: &Stored,
    reading: &Reading,
    asking: &Asking,
    meanwhile: &Meanwhile<'_>,
    now_ms: i64,
) -> Result<(), String> {
    if let Some(refusal) = stored.refusal(reading) {
        return Err(format!("RFC 9111 {refusal}: it may not be stored"));
    }
    if stored.is_invalid {
        return Err("RFC 9111 4.4: another method changed it, and it was not validated".to_owned());
    }
    if reading.no_cache {
        return Err("RFC 9111 5.2.2.4: no-cache, and it was not validated".to_owned());
    }
    let (age_ms, _) = stored.age_ms(now_ms);
    // RFC 9111 4.2.2: without explicit lifetime a cache may guess; `promise` forbids it.
    let Some((_, lifetime_ms)) = stored.lifetime_ms(reading) else {
        return Ok(());
    };
    let stale_ms = age_ms - lifetime_ms;
    if stale_ms < 0 {
        return Ok(());
    }
    let has_failed = meanwhile.exchanges.iter().any(Exchange::has_failed);
    let covers = |window: Option<i64>| window.is_some_and(|seconds| stale_ms <= seconds * 1000);
    let is_in_window =
        covers(reading.stale_while_revalidate) || (has_failed && covers(reading.stale_if_error));
    if reading.forbids_stale() || (reading.implies_proxy_revalidate() && !is_in_window) {
        return Err(format!(
            "RFC 9111 4.2.4, 5.2.2.2, 5.2.2.10: {stale_ms} ms stale, and that is prohibited"
        ));
    }
    let is_wanted = combined(&asking.fields, "cache-control").contains("max-stale");
    // RFC 9111 4.2.4, 4.3.3: disconnected, or as good as.
    if is_in_window || has_failed || is_wanted {
        return Ok(());
    }
    Err(format!(
        "RFC 9111 4.2.4: stale for {stale_ms} ms, and nothing allows that"
    ))
}

/// Whether an answer is this response: status, fields and body, or a 206, 304 or 416 made of it.
pub(crate) fn is_made_of(
    stored: &Stored,
    asking: &Asking,
    answer: &Answer,
    is_direct: bool,
) -> Result<(), String> {
    let body = match (stored.status, answer.status) {
        (200, 304) => {
            is_not_modified(stored, asking)?;
            return has_fields_of(stored, answer, &KEPT_IN_304);
        }
        (200, 206) => part_of(stored, asking, answer)?,
        (200, 416) => {
            if range_of(stored, asking).is_some_and(|range| range.is_none()) {
                return Ok(());
            }
            return Err("RFC 9110 15.5.17: 416, but the range can be satisfied".to_owned());
        }
        (status, same) if status == same => stored.body.clone(),
        (status, other) => return Err(format!("status {other} of a {status}")),
    };
    if asking.is_head && !answer.body.is_empty() {
        return Err("RFC 9110 9.3.2: a body in an answer to HEAD".to_owned());
    }
    if !asking.is_head && body != answer.body {
        return Err(format!("the body is {:?}, not {body:?}", answer.body));
    }
    has_fields_of(stored, answer, &[])?;
    has_guarded_fields(stored, answer, is_direct)?;
    has_age_of(stored, answer, is_direct)
}

/// RFC 9110 13.2.2, RFC 9111 4.3.2: whether the viewer has it already.
pub(crate) fn is_not_modified(stored: &Stored, asking: &Asking) -> Result<(), String> {
    if asking.fields.contains_key("if-none-match") {
        let tags = combined(&asking.fields, "if-none-match");
        let mine = text(&stored.fields, "etag");
        let is_listed = |mine: &str| tags.split(',').any(|t| is_same_weakly(t.trim(), mine));
        if tags == "*" || mine.is_some_and(is_listed) {
            return Ok(());
        }
        return Err(format!(
            "RFC 9110 13.1.2: 304, but {mine:?} is not in {tags}"
        ));
    }
    let Some(since) = date_ms(&asking.fields, "if-modified-since") else {
        return Err("RFC 9111 4.3.2: 304 to a request without condition".to_owned());
    };
    // RFC 9111 4.3.2: without Last-Modified by Date, without either by the time of arrival.
    let modified = match date_ms(&stored.fields, "last-modified") {
        Some(modified) => modified,
        None => stored
            .dates_ms
            .iter()
            .min()
            .copied()
            .unwrap_or(stored.received_ms),
    };
    if modified <= since + 999 {
        return Ok(());
    }
    Err("RFC 9110 13.1.3: 304, but it was modified since".to_owned())
}

/// Returns the range that is asked for: `Some(None)` is one that cannot be satisfied (RFC 9110 14.1.2).
fn range_of(stored: &Stored, asking: &Asking) -> Option<Option<(usize, usize)>> {
    let range = text(&asking.fields, "range")?.strip_prefix("bytes=")?;
    let (first, last) = range.split_once('-')?;
    let len = stored.body.len();
    if first.is_empty() {
        let suffix: usize = last.parse().ok()?;
        let range = (len.saturating_sub(suffix), len);
        return Some((suffix > 0 && len > 0).then_some(range));
    }
    let first: usize = first.parse().ok()?;
    let end = match last {
        "" => len,
        last => len.min(last.parse::<usize>().ok()?.saturating_add(1)),
    };
    Some((first < len).then_some((first, end)))
}

/// Returns what a 206 has to contain (RFC 9110 14, 13.1.5).
fn part_of(stored: &Stored, asking: &Asking, answer: &Answer) -> Result<Bytes, String> {
    let Some(Some((first, end))) = range_of(stored, asking) else {
        return Err("RFC 9110 15.3.7: 206, but no range that can be satisfied".to_owned());
    };
    if let Some(condition) = text(&asking.fields, "if-range") {
        let etag = text(&stored.fields, "etag");
        let is_same_tag = etag == Some(condition) && !condition.starts_with("W/");
        let modified = date_ms(&stored.fields, "last-modified");
        let is_same_date = modified.is_some() && modified == parse_date_ms(condition);
        if !is_same_tag && !is_same_date {
            return Err(format!(
                "RFC 9110 13.1.5: 206 in spite of If-Range {condition}"
            ));
        }
    }
    let expected = format!("bytes {first}-{}/{}", end - 1, stored.body.len());
    let stated = text(&answer.fields, "content-range").unwrap_or("");
    if stated != expected {
        return Err(format!(
            "RFC 9110 14.4: Content-Range {stated}, not {expected}"
        ));
    }
    Ok(stored.body.slice(first..end))
}

/// RFC 9111 3.1, RFC 9110 7.6: every field is there as it was received, but for those of one hop.
fn has_fields_of(stored: &Stored, answer: &Answer, only: &[&str]) -> Result<(), String> {
    for name in stored.fields.keys() {
        let name = name.as_str();
        let is_listed = only.is_empty() || only.contains(&name);
        if !is_listed || OF_ONE_HOP.contains(&name) || is_guarded(stored, name) {
            continue;
        }
        if name == "date" && date_ms(&stored.fields, "date").is_none() {
            continue; // RFC 9110 6.6.1: a recipient may replace what is no date.
        }
        let (expected, stated) = (
            combined(&stored.fields, name),
            combined(&answer.fields, name),
        );
        if expected != stated {
            return Err(format!(
                "RFC 9111 3.1, 4.3.4: {name} is {stated:?}, not {expected:?}"
            ));
        }
    }
    Ok(())
}

fn is_guarded(stored: &Stored, name: &str) -> bool {
    stored
        .readings
        .iter()
        .any(|reading| reading.guarded.iter().any(|field| field == name))
}

/// RFC 9111 5.2.2.4, 5.2.2.7: what is named in quotes is only in the answer it came with.
fn has_guarded_fields(stored: &Stored, answer: &Answer, is_direct: bool) -> Result<(), String> {
    for name in stored.readings.iter().flat_map(|reading| &reading.guarded) {
        let is_there = answer.fields.contains_key(name.as_str());
        if is_there && !is_direct {
            return Err(format!(
                "RFC 9111 5.2.2.4, 5.2.2.7: {name} is given to others than it was meant for"
            ));
        }
    }
    Ok(())
}

/// RFC 9111 5.1: a response from the store states its age; one that is new need not.
fn has_age_of(stored: &Stored, answer: &Answer, is_direct: bool) -> Result<(), String> {
    let (least, greatest) = stored.age_ms(answer.answered_ms);
    let Some(stated) = text(&answer.fields, "age") else {
        if is_direct {
            return Ok(());
        }
        return Err("RFC 9111 4, 5.1: no Age on a response from the store".to_owned());
    };
    // What is only relayed keeps even an Age that is no number.
    if is_direct && text(&stored.fields, "age") == Some(stated) {
        return Ok(());
    }
    let Ok(seconds) = stated.parse::<i64>() else {
        return Err(format!("RFC 9111 5.1: Age is {stated:?}"));
    };
    // The delay of the reply is counted by caches; a relay passes on what it was told.
    let least = if is_direct { 0 } else { least };
    if (least / 1000..=greatest / 1000 + 1).contains(&seconds) {
        return Ok(());
    }
    Err(format!(
        "RFC 9111 4.2.3: Age is {seconds}, but it is {least} to {greatest} ms old"
    ))
}

/// RFC 9111 4.3.1: what the origin is asked about has to be something it said.
pub(crate) fn judge_conditions(shelf: &Shelf, exchange: &Exchange) -> Result<(), String> {
    let known = |name: &str, value: &str| {
        shelf
            .selected(&exchange.path, &exchange.asked)
            .any(|stored| text(&stored.fields, name) == Some(value))
    };
    if let Some(tags) = text(&exchange.asked, "if-none-match")
        && !tags.split(',').all(|tag| known("etag", tag.trim()))
    {
        return Err(format!("RFC 9111 4.3.1: the origin never said {tags}"));
    }
    if let Some(since) = text(&exchange.asked, "if-modified-since")
        && !known("last-modified", since)
        && !known("date", since)
    {
        return Err(format!("RFC 9111 4.3.1: the origin never said {since}"));
    }
    // RFC 9111 3.3: of a range, only what a cache can combine helps it. Seawall asks for the first slice,
    // from which it learns whether the whole is worth slicing; this origin has no ranges and sends all.
    let is_slice = text(&exchange.asked, "range").is_none_or(|range| range.starts_with("bytes=0-"));
    if !is_slice || exchange.asked.contains_key("if-range") {
        return Err("RFC 9111 3.3: a viewer's range was forwarded".to_owned());
    }
    Ok(())
}

/// RFC 9110 15.4.5: what a 304 has to repeat.
const KEPT_IN_304: [&str; 5] = ["cache-control", "etag", "date", "expires", "vary"];

/// Fields that a cache states itself, or that belong to one connection.
const OF_ONE_HOP: [&str; 3] = ["age", "connection", "content-length"];
