//! Changing the text of an MPD where it has to be, and nowhere else: players read much of one that `Mpd` does not.
//!
//! Called by whatever rewrites MPDs, e.g. `trim`. Deliberately not here: what is to be changed.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

/// Returns a start tag in which an attribute has a value, whether it had one before or not.
///
/// `value` needs no escaping. `None` if it is no start tag.
pub(super) fn with_attribute(tag: &str, name: &str, value: &str) -> Option<String> {
    let (span, before, after) = match place_of(tag, name)? {
        Place::Value(span) => (span, String::new(), ""),
        Place::None(at) => (at..at, format!(" {name}=\""), "\""),
    };
    let (left, right) = (tag.get(..span.start)?, tag.get(span.end..)?);
    Some(format!("{left}{before}{value}{after}{right}"))
}

/// Returns the value of an attribute of a start tag as it is written, with its entities.
pub(super) fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    match place_of(tag, name)? {
        Place::Value(span) => tag.get(span),
        Place::None(_) => None,
    }
}

/// Where an attribute stands in a start tag.
enum Place {
    /// Its value is there.
    Value(Range<usize>),
    /// It would have to be inserted here.
    None(usize),
}

fn place_of(tag: &str, name: &str) -> Option<Place> {
    let name_end = tag.find(|c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>'))?;
    let mut at = name_end;
    loop {
        let rest = tag.get(at..)?;
        at += rest.len() - rest.trim_ascii_start().len();
        let rest = tag.get(at..)?;
        if rest.starts_with(['/', '>']) {
            return Some(Place::None(name_end));
        }
        let (attribute, _) = rest.split_once('=')?;
        let quote_at = at + rest.find(['"', '\''])?;
        let quote = tag.get(quote_at..)?.chars().next()?;
        let value_at = quote_at + 1;
        let value_end = value_at + tag.get(value_at..)?.find(quote)?;
        if attribute.trim_ascii() == name {
            return Some(Place::Value(value_at..value_end));
        }
        at = value_end + 1;
    }
}

/// Returns the text with its edits, which do not overlap.
pub(super) fn applied(source: &str, mut edits: Vec<(Range<usize>, String)>) -> Bytes {
    edits.sort_by_key(|(span, _)| span.start);
    let mut text = String::with_capacity(source.len());
    let mut at = 0;
    for (span, new) in edits {
        text.push_str(source.get(at..span.start).unwrap_or_default());
        text.push_str(&new);
        at = span.end;
    }
    text.push_str(source.get(at..).unwrap_or_default());
    Bytes::from(text)
}

/// Writes an `xs:duration`, to the nanosecond if it has to be.
pub(super) fn iso_duration(duration: Duration) -> String {
    let (seconds, nanoseconds) = (duration.as_secs(), duration.subsec_nanos());
    if nanoseconds == 0 {
        return format!("PT{seconds}S");
    }
    let fraction = format!("{nanoseconds:09}");
    format!("PT{seconds}.{}S", fraction.trim_end_matches('0'))
}
