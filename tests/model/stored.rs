//! Responses that a cache may have stored, with the arithmetic of RFC 9111 on them.
//!
//! A cache need not store what it may store, nor keep it: what is here is what *may* be in it. Who calls it:
//! `judge` and `promise`. Deliberately not here: whether a given answer may be made of it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use crate::reading::{self, Reading, combined, delta_seconds};

/// A request that reached the origin, and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    /// The number of the reply: what its `x-made` says.
    pub(crate) made: usize,
    pub(crate) path: String,
    pub(crate) asked: HeaderMap,
    pub(crate) asked_ms: i64,
    pub(crate) replied_ms: i64,
    /// `None` when the connection was cut.
    pub(crate) reply: Option<Replied>,
}

/// A reply as the origin sent it.
#[derive(Clone, Debug)]
pub(crate) struct Replied {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Bytes,
}

impl Exchange {
    fn is_not_to_be_stored(&self) -> bool {
        combined(&self.asked, "cache-control").contains("no-store")
    }

    fn is_authorized(&self) -> bool {
        self.asked.contains_key("authorization")
    }

    /// RFC 9111 4.3.3: no answer, or an error of the server.
    pub(crate) fn has_failed(&self) -> bool {
        self.reply.as_ref().is_none_or(|reply| reply.status >= 500)
    }
}

/// A response that may be in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Which reply its fields are from; a 304 makes it a new one.
    pub(crate) made: usize,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Bytes,
    /// The request it answered.
    pub(crate) asked: HeaderMap,
    pub(crate) requested_ms: i64,
    pub(crate) received_ms: i64,
    pub(crate) readings: Vec<Reading>,
    /// What `Date` and `Age` may be taken for.
    pub(crate) dates_ms: Vec<i64>,
    pub(crate) ages_ms: Vec<i64>,
    /// Whether everybody it was said to was authorized, and whether anybody was.
    pub(crate) is_only_for_authorized: bool,
    pub(crate) is_for_some_authorized: bool,
    /// Whether the viewer who asked last wanted nothing stored (RFC 9111 5.2.1.5).
    pub(crate) is_unwanted: bool,
    /// Whether a 304 said that it is still good without clearly naming it.
    pub(crate) is_vaguely_validated: bool,
    /// Whether it has to be validated before use, whatever its directives say (RFC 9111 4.4).
    pub(crate) is_invalid: bool,
}

impl Stored {
    /// Returns what a whole reply would be in the store.
    pub(crate) fn of(exchange: &Exchange, reply: &Replied) -> Self {
        Self {
            made: exchange.made,
            path: exchange.path.clone(),
            status: reply.status,
            fields: reply.fields.clone(),
            body: reply.body.clone(),
            asked: exchange.asked.clone(),
            requested_ms: exchange.asked_ms,
            received_ms: exchange.replied_ms,
            readings: reading::readings(&reply.fields),
            // RFC 9110 6.6.1: without a Date, the time of arrival.
            dates_ms: vec![date_ms(&reply.fields, "date").unwrap_or(exchange.replied_ms)],
            ages_ms: vec![age_value_ms(&reply.fields).unwrap_or(0)],
            is_only_for_authorized: exchange.is_authorized(),
            is_for_some_authorized: exchange.is_authorized(),
            is_unwanted: exchange.is_not_to_be_stored(),
            is_vaguely_validated: false,
            is_invalid: false,
        }
    }

    /// Returns the response as a 304 leaves it (RFC 9111 4.3.4, 3.2), or `None` if it is not about it.
    pub(crate) fn updated(&self, exchange: &Exchange, not_modified: &Replied) -> Option<Self> {
        let is_vague = self.is_named_by(&not_modified.fields)?;
        let mut fields = self.fields.clone();
        for name in not_modified.fields.keys() {
            // RFC 9111 3.2: but for the length, and what belongs to one connection.
            if ["content-length", "connection"].contains(&name.as_str()) {
                continue;
            }
            fields.remove(name);
            for value in not_modified.fields.get_all(name) {
                fields.append(name, value.clone());
            }
        }
        let date = date_ms(&not_modified.fields, "date");
        let mut dates_ms = vec![date.unwrap_or(exchange.replied_ms)];
        if date.is_none() {
            dates_ms.extend(&self.dates_ms);
        }
        let age = age_value_ms(&not_modified.fields);
        let mut ages_ms = vec![age.unwrap_or(0)];
        if age.is_none() {
            // By the letter the old Age stays; by its meaning it is about another message.
            ages_ms.extend(age_value_ms(&self.fields));
        }
        Some(Self {
            made: exchange.made,
            readings: reading::readings(&fields),
            fields,
            requested_ms: exchange.asked_ms,
            received_ms: exchange.replied_ms,
            dates_ms,
            ages_ms,
            // RFC 9111 3.5 is about secrets: what a 304 confirms to anybody is none.
            is_only_for_authorized: self.is_only_for_authorized && exchange.is_authorized(),
            is_for_some_authorized: self.is_for_some_authorized || exchange.is_authorized(),
            is_unwanted: exchange.is_not_to_be_stored(),
            is_vaguely_validated: is_vague,
            is_invalid: false,
            ..self.clone()
        })
    }

    /// RFC 9111 4.3.4: whether a 304 identifies this response for update, and if so, only vaguely.
    fn is_named_by(&self, not_modified: &HeaderMap) -> Option<bool> {
        let (mine, its) = (text(&self.fields, "etag"), text(not_modified, "etag"));
        if let Some(its) = its {
            let mine = mine?;
            let is_weak = its.starts_with("W/") || mine.starts_with("W/");
            return is_same_weakly(mine, its).then_some(is_weak);
        }
        if let Some(its) = text(not_modified, "last-modified") {
            // The tag was asked about; a date beside it that differs is a contradiction.
            return (text(&self.fields, "last-modified")? == its).then_some(mine.is_some());
        }
        // No validator at all: the answer to a question about this response, if it was asked about.
        Some(false)
    }

    /// RFC 9111 4.2.3: the least and the greatest age it may be taken to have, in milliseconds.
    ///
    /// `corrected_age_value` may be used alone, or the greater of it and `apparent_age`.
    pub(crate) fn age_ms(&self, now_ms: i64) -> (i64, i64) {
        let (least, _) = self.age_by_age_ms(now_ms);
        let (_, greatest) = self.age_by_both_ms(now_ms);
        (least, greatest)
    }

    /// Returns the age by `Age` and the delay of the response alone.
    pub(crate) fn age_by_age_ms(&self, now_ms: i64) -> (i64, i64) {
        let since_request = now_ms - self.requested_ms;
        let least = self.ages_ms.iter().min().copied().unwrap_or(0);
        let greatest = self.ages_ms.iter().max().copied().unwrap_or(0);
        (least + since_request, greatest + since_request)
    }

    /// Returns the age by that or by `Date`, whichever is greater.
    pub(crate) fn age_by_both_ms(&self, now_ms: i64) -> (i64, i64) {
        let (least, greatest) = self.age_by_age_ms(now_ms);
        let newest = self.dates_ms.iter().max().copied();
        let oldest = self.dates_ms.iter().min().copied();
        let apparent = |date: Option<i64>| now_ms - date.unwrap_or(now_ms).min(self.received_ms);
        (least.max(apparent(newest)), greatest.max(apparent(oldest)))
    }

    /// RFC 9111 4.2.1: the least and the greatest lifetime by one reading, in milliseconds; `None` if
    /// nothing is said about it.
    pub(crate) fn lifetime_ms(&self, reading: &Reading) -> Option<(i64, i64)> {
        if let Some(seconds) = reading.s_maxage.or(reading.max_age) {
            return Some((seconds * 1000, seconds * 1000));
        }
        if reading.is_targeted {
            return None;
        }
        let mut lines = self.fields.get_all("expires").iter();
        let first = lines.next()?;
        // RFC 9111 5.3: what is no date is in the past.
        let Some(expires) = first.to_str().ok().and_then(parse_date_ms) else {
            return Some((0, 0));
        };
        let lifetimes = self.dates_ms.iter().map(|date| (expires - date).max(0));
        let greatest = lifetimes.clone().max().unwrap_or(0);
        let is_twice = lines.any(|line| line != first);
        let least = lifetimes.min().filter(|_| !is_twice).unwrap_or(0);
        Some((least, greatest))
    }

    /// RFC 9111 3: the section that forbids storing by one reading, if any.
    pub(crate) fn refusal(&self, reading: &Reading) -> Option<&'static str> {
        let is_excused = reading.must_understand && UNDERSTOOD.contains(&self.status);
        if reading.no_store && !is_excused {
            return Some("5.2.2.5 no-store");
        }
        if reading.private {
            return Some("5.2.2.7 private");
        }
        if self.is_only_for_authorized && !reading.allows_authorized() {
            return Some("3.5 Authorization");
        }
        let has_lifetime = reading.s_maxage.is_some()
            || reading.max_age.is_some()
            || (!reading.is_targeted && self.fields.contains_key("expires"));
        if has_lifetime || reading.public || HEURISTICALLY_CACHEABLE.contains(&self.status) {
            return None;
        }
        Some("3: nothing allows it")
    }

    /// RFC 9111 4.1: whether the fields that `Vary` names are the same in a request.
    pub(crate) fn is_selected_by(&self, request: &HeaderMap) -> bool {
        self.varies_by().iter().all(|name| {
            name != "*" && normal(&self.asked, name.as_str()) == normal(request, name.as_str())
        })
    }

    /// Returns the names in `Vary`, sorted.
    pub(crate) fn varies_by(&self) -> Vec<String> {
        let vary = combined(&self.fields, "vary").to_ascii_lowercase();
        let names = vary
            .split(',')
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names.dedup();
        names
    }
}

/// RFC 9111 4.1: lines are combined, and white space around commas says nothing.
fn normal(fields: &HeaderMap, name: &str) -> Option<String> {
    fields.get(name)?;
    let values = combined(fields, name);
    let members: Vec<&str> = values.split(',').map(str::trim).collect();
    Some(members.join(","))
}

/// RFC 9111 5.1: the first member counts; what is no number is ignored.
fn age_value_ms(fields: &HeaderMap) -> Option<i64> {
    let first = text(fields, "age")?.split(',').next()?.trim();
    Some(delta_seconds(first)? * 1000)
}

/// Returns the first line of a field as text.
pub(crate) fn text<'a>(fields: &'a HeaderMap, name: &str) -> Option<&'a str> {
    fields
        .get(name)
        .map(HeaderValue::to_str)
        .and_then(Result::ok)
}

/// Returns a date field in milliseconds since 1970, if it is one.
pub(crate) fn date_ms(fields: &HeaderMap, name: &str) -> Option<i64> {
    text(fields, name).and_then(parse_date_ms)
}

/// Returns a date in milliseconds since 1970, if it is one (RFC 9110 5.6.7).
pub(crate) fn parse_date_ms(text: &str) -> Option<i64> {
    let date = httpdate::parse_http_date(text).ok()?;
    let since_1970 = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since_1970.as_millis()).ok()
}

/// RFC 9110 8.8.3.2: the weak comparison.
pub(crate) fn is_same_weakly(one: &str, other: &str) -> bool {
    one.strip_prefix("W/").unwrap_or(one) == other.strip_prefix("W/").unwrap_or(other)
}

/// RFC 9110 15.1.
const HEURISTICALLY_CACHEABLE: [u16; 12] =
    [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501];

/// Statuses whose caching a cache can be taken to understand: those that origins of this test use.
const UNDERSTOOD: [u16; 9] = [200, 203, 204, 301, 302, 404, 410, 500, 503];
