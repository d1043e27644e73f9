//! A playlist's text, lines of it, and numbers in it.
//!
//! Called by the parsers. Everything a parser finds is a [`Span`] of the one text, so that a playlist
//! costs one buffer and a few tables however many URIs it names.

use std::time::Duration;

use bytes::Bytes;
use memchr::memchr;

/// A range of a text, in bytes.
///
/// Invariant: begins and ends between characters of the text it was made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// Returns the span of `part`, which must be a subslice of `text`.
    pub(super) fn of(text: &str, part: &str) -> Self {
        let start = part.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
        debug_assert!(start + part.len() <= text.len(), "a part of another text");
        Self {
            start: offset(start),
            end: offset(start + part.len()),
        }
    }

    /// Returns the text of the span in the text it was made from.
    pub(super) fn of_text(self, text: &Bytes) -> &str {
        let bytes = text.get(self.start as usize..self.end as usize);
        let bytes = bytes.expect("a span lies in the text it was made from");
        std::str::from_utf8(bytes).expect("a span lies between characters")
    }
}

/// Converts an offset in a text, whose size the limits keep below four gibibytes.
pub(super) fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("a playlist is smaller than 4 GiB, by its limits")
}

/// One line of a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// The line without its end and without white space around it.
    pub text: &'a str,
    /// Where the line begins and where the next one does.
    pub span: Span,
    /// The line's number, from one.
    pub number: u32,
}

impl<'a> Line<'a> {
    /// Splits a tag into its name and its value, which is empty if there is none.
    pub(super) fn tag(&self) -> (&'a str, &'a str) {
        // The empty value is one of this line too: spans are made of values.
        let (name, rest) = before(self.text, b':');
        (name, rest.strip_prefix(':').unwrap_or(rest))
    }
}

/// Splits a text before the first `byte`, or at its end.
///
/// Faster than the standard library's search for a character in texts as short as tags.
pub(super) fn before(text: &str, byte: u8) -> (&str, &str) {
    debug_assert!(byte.is_ascii(), "only ASCII is never inside a character");
    let end = text.bytes().position(|other| other == byte);
    text.split_at(end.unwrap_or(text.len()))
}

/// The lines of a text, ended by LF or CRLF or the end of the text.
#[derive(Clone, Debug)]
pub(super) struct Lines<'a> {
    text: &'a str,
    at: usize,
    number: u32,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            number: 0,
        }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let (line, length) = match memchr(b'\n', rest.as_bytes()) {
            Some(end) => (rest.get(..end)?, end + 1),
            None => (rest, rest.len()),
        };
        let start = self.at;
        self.at += length;
        self.number += 1;
        let span = Span {
            start: offset(start),
            end: offset(self.at),
        };
        Some(Line {
            text: line.trim_ascii(),
            span,
            number: self.number,
        })
    }
}

/// Reads a decimal integer: digits only.
pub(super) fn integer(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// Reads a decimal number of seconds, to the nanosecond; at most [`SECONDS_MAX`].
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = before(text, b'.');
    let fraction = fraction.strip_prefix('.').unwrap_or(fraction);
    let whole = if whole.is_empty() && !fraction.is_empty() {
        0
    } else {
        integer(whole)?
    };
    let mut nanoseconds = 0;
    let mut unit = 100_000_000;
    for digit in fraction.bytes() {
        if !digit.is_ascii_digit() {
            return None;
        }
        nanoseconds += u32::from(digit - b'0') * unit;
        unit /= 10;
    }
    (whole <= SECONDS_MAX).then(|| Duration::new(whole, nanoseconds))
}

/// Thirty years: sums over every segment of a playlist stay far from overflow.
const SECONDS_MAX: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_in_lf_crlf_or_the_end_of_the_text() {
        let text = "a\r\n\nb \n c";
        let lines: Vec<_> = Lines::new(text)
            .map(|line| (line.number, line.text))
            .collect();
        assert_eq!(lines, [(1, "a"), (2, ""), (3, "b"), (4, "c")]);
        let spans: Vec<_> = Lines::new(text)
            .map(|line| (line.span.start, line.span.end))
            .collect();
        assert_eq!(spans, [(0, 3), (3, 4), (4, 7), (7, 9)]);
        assert_eq!(Lines::new("").count(), 0);
    }

    #[test]
    fn seconds_are_exact_decimals() {
        let cases = [
            ("4", Some(Duration::from_secs(4))),
            ("4.", Some(Duration::from_secs(4))),
            (".5", Some(Duration::from_millis(500))),
            ("0.33334", Some(Duration::from_micros(333_340))),
            ("3.0000000019", Some(Duration::new(3, 1))),
            ("1000000001", None),
            ("99999999999999999999", None),
            ("-1", None),
            ("+1", None),
            ("1e3", None),
            ("inf", None),
            ("NaN", None),
            ("", None),
            (".", None),
            ("1.2.3", None),
        ];
        for (text, expected) in cases {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
