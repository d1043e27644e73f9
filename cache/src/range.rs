//! Byte ranges: what a request asks for, and what part of a body answers it (RFC 9110 14).
//!
//! `node` parses once per request and asks for an answer whenever it knows more about the body.
//! Bodies that still grow are answered as RFC 8673 has it, so that a hinted or growing resource is
//! sent while it is made (LL-20, LD-08). Deliberately not here: `If-Range` (`validation`) and
//! writing multipart bodies; where several ranges are asked for, `node` may answer whole.

use std::fmt::Write as _;
use std::ops::Range;

use http::header::{HeaderMap, HeaderValue, RANGE};

use crate::body::{BodyState, Progress};

/// The most ranges a request may ask for; with more it is answered whole (RFC 9110 14.2).
///
/// Each range of an answer costs a head of its own: the fewer, the less there is to multiply.
pub const RANGES_MAX: usize = 8;

/// The most digits of a position; longer ones make the field unreadable.
pub const POSITION_DIGITS_MAX: usize = 64;

/// The last position that means "the end, wherever that will be" (RFC 8673 2.1: 2^53-1).
const LAST_POSITION_OPEN: &str = "9007199254740991";

/// The ranges of bytes a request asks for: at least one, at most [`RANGES_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByteRanges {
    specs: Vec<Spec>,
}

/// Where a range begins, of a body whose length may not be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// At a position.
    At(u64),
    /// At so many bytes before the end.
    BeforeEnd,
}

/// One range as it was asked for (RFC 9110 14.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Spec {
    /// `S-` or `S-L`.
    From { first: u64, last: Option<Last> },
    /// `-N`: the last bytes.
    Suffix { bytes: u64 },
}

/// A last position, with its text: it is echoed verbatim even if no integer of ours holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Last {
    /// Saturated.
    position: u64,
    text: Box<str>,
}

/// What a body that is complete or still grows has for the ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeAnswer {
    /// 200 with the whole body: the ranges cannot be answered one by one yet, or overlap or are out of
    /// order, as no viewer in good faith asks for them (RFC 9110 14.2).
    Whole,
    /// 206 with exactly these bytes, whose number is the `Content-Length`.
    Part {
        /// The bytes to send.
        range: Range<u64>,
        /// The value of `Content-Range`.
        content_range: HeaderValue,
    },
    /// 206 without `Content-Length`: these bytes as they arrive, until the body ends (RFC 8673).
    Open {
        /// The bytes to send; may end beyond the end of the body.
        range: Range<u64>,
        /// The value of `Content-Range`.
        content_range: HeaderValue,
    },
    /// 206 `multipart/byteranges`, or 200 with the whole body: two or more, ascending, with gaps.
    Parts(Vec<Range<u64>>),
    /// Nothing yet: ask again once the body has received so many bytes, or has ended.
    Wait {
        /// How many bytes; `u64::MAX` to wait for the end.
        received: u64,
    },
    /// 416 (RFC 9110 15.5.17).
    NotSatisfiable {
        /// The value of `Content-Range`.
        content_range: HeaderValue,
    },
}

impl ByteRanges {
    /// Returns the ranges a request asks for; `None` where it asks for none, or in a way that a
    /// server ignores (RFC 9110 14.2): another unit, a syntax error, several fields, too many.
    pub fn of(request: &HeaderMap) -> Option<Self> {
        let mut lines = request.get_all(RANGE).iter();
        let line = lines.next()?;
        match lines.next() {
            None => Self::parse(line.as_bytes()),
            Some(_) => None,
        }
    }

    /// Returns the ranges in the value of a `Range` field; see [`of`](Self::of).
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value = std::str::from_utf8(value).ok()?;
        let (unit, set) = value.split_once('=')?;
        // RFC 9110 14.1: range units are case-insensitive.
        if !unit.trim_ascii().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let specs: Option<Vec<Spec>> = set
            .split(',')
            .map(str::trim_ascii)
            .filter(|spec| !spec.is_empty())
            .take(RANGES_MAX + 1)
            .map(Spec::parse)
            .collect();
        let specs = specs?;
        (1..=RANGES_MAX)
            .contains(&specs.len())
            .then_some(Self { specs })
    }

    /// Returns where the bytes begin, if one range is asked for.
    pub fn beginning(&self) -> Option<Beginning> {
        match self.specs.as_slice() {
            [Spec::From { first, .. }] => Some(Beginning::At(*first)),
            [Spec::Suffix { .. }] => Some(Beginning::BeforeEnd),
            _ => None,
        }
    }

    /// Returns what to answer, given how far the body has come and its length where that is known
    /// (announced or complete).
    ///
    /// A body that failed is answered from what it received; a range beyond that waits, and the
    /// caller, who knows of the failure, must not.
    pub fn answer(&self, progress: Progress, length: Option<u64>) -> RangeAnswer {
        let length = match progress.state {
            BodyState::Complete => Some(progress.received),
            BodyState::Filling | BodyState::Failed(_) => length,
        };
        match (length, self.specs.as_slice()) {
            (Some(length), specs) => answer_known(specs, length),
            (None, [spec]) => spec.answer_growing(progress.received),
            (None, _) => RangeAnswer::Whole,
        }
    }
}

impl Spec {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        if first.is_empty() {
            return Some(Self::Suffix {
                bytes: position(last)?,
            });
        }
        let first_position = position(first)?;
        if last.is_empty() {
            return Some(Self::From {
                first: first_position,
                last: None,
            });
        }
        let last = Last {
            position: position(last)?,
            text: last.into(),
        };
        // RFC 9110 14.1.1: a last position before the first makes the range invalid. Positions
        // that saturate are compared by their digits.
        let is_ordered = first_position < last.position
            || (first_position == last.position && significant(first) <= significant(&last.text));
        is_ordered.then_some(Self::From {
            first: first_position,
            last: Some(last),
        })
    }

    /// RFC 9110 14.1.2: the bytes this selects of a body of `length`, if any.
    fn select(&self, length: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From { first, last } => {
                let end = last.as_ref().map_or(u64::MAX, Last::end);
                *first..end.min(length)
            }
            Self::Suffix { bytes } => length.saturating_sub(*bytes)..length,
        };
        (!range.is_empty()).then_some(range)
    }

    /// LD-08: what a body of unknown length that has `received` bytes has for this.
    fn answer_growing(&self, received: u64) -> RangeAnswer {
        let (first, last) = match self {
            // Where the last bytes begin is known at the end.
            Self::Suffix { .. } => return RangeAnswer::Wait { received: u64::MAX },
            Self::From { first, last } => (*first, last.as_ref()),
        };
        if first >= received {
            // 416 only after completion: the position may still come.
            return RangeAnswer::Wait {
                received: first.saturating_add(1),
            };
        }
        let end = last.map_or(u64::MAX, Last::end);
        if end <= received {
            return RangeAnswer::Part {
                range: first..end,
                content_range: content_range(&(first..end), None),
            };
        }
        // RFC 8673 2.2: the last position is echoed, and the length is not known.
        let last = last.map_or(LAST_POSITION_OPEN, |last| &last.text);
        RangeAnswer::Open {
            range: first..end,
            content_range: field_value(format_args!("bytes {first}-{last}/*")),
        }
    }
}

impl Last {
    /// The position after this one; `u64::MAX` is "until the end" for a reader.
    fn end(&self) -> u64 {
        self.position.saturating_add(1)
    }
}

/// RFC 9110 14.2: ranges that cannot be satisfied are left out; none left is 416.
fn answer_known(specs: &[Spec], length: u64) -> RangeAnswer {
    let mut ranges: Vec<Range<u64>> = specs
        .iter()
        .filter_map(|spec| spec.select(length))
        .collect();
    // RFC 9110 17.15: a few bytes of a request must not make a multiple of the body.
    if ranges.windows(2).any(|pair| pair[0].end > pair[1].start) {
        return RangeAnswer::Whole;
    }
    // RFC 9110 15.3.7.2: ranges that touch may be sent as one.
    ranges.dedup_by(|next, range| {
        let is_touching = next.start == range.end;
        if is_touching {
            range.end = next.end;
        }
        is_touching
    });
    match ranges.as_slice() {
        [] => RangeAnswer::NotSatisfiable {
            content_range: field_value(format_args!("bytes */{length}")),
        },
        [range] => RangeAnswer::Part {
            range: range.clone(),
            content_range: content_range(range, Some(length)),
        },
        _ => RangeAnswer::Parts(ranges),
    }
}

/// Returns the value of `Content-Range` for bytes of a body (RFC 9110 14.4), whose length may not
/// be known.
///
/// # Panics
///
/// If `range` is empty: no field value says so.
pub fn content_range(range: &Range<u64>, length: Option<u64>) -> HeaderValue {
    let first = range.start;
    let last = range
        .end
        .checked_sub(1)
        .filter(|last| *last >= first)
        .expect("only ranges that are not empty are answered");
    match length {
        Some(length) => field_value(format_args!("bytes {first}-{last}/{length}")),
        None => field_value(format_args!("bytes {first}-{last}/*")),
    }
}

fn field_value(text: std::fmt::Arguments<'_>) -> HeaderValue {
    let mut value = String::with_capacity(64);
    value
        .write_fmt(text)
        .expect("writing to a string cannot fail");
    HeaderValue::try_from(value).expect("digits and punctuation are a field value")
}

/// Reads a position; one that no `u64` holds is the greatest.
fn position(digits: &str) -> Option<u64> {
    let is_readable = (1..=POSITION_DIGITS_MAX).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit());
    is_readable.then(|| {
        digits.bytes().fold(0u64, |sum, digit| {
            sum.saturating_mul(10)
                .saturating_add(u64::from(digit - b'0'))
        })
    })
}

/// Digits in an order that is numeric: fewer are less.
fn significant(digits: &str) -> (usize, &str) {
    let digits = digits.trim_start_matches('0');
    (digits.len(), digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::body::BodyFailure;

    fn text(value: &HeaderValue) -> &str {
        value.to_str().unwrap()
    }

    fn answer(value: &str, received: u64, state: BodyState, length: Option<u64>) -> String {
        let Some(ranges) = ByteRanges::parse(value.as_bytes()) else {
            return "ignored".into();
        };
        match ranges.answer(Progress { received, state }, length) {
            RangeAnswer::Whole => "whole".into(),
            RangeAnswer::Part {
                range,
                content_range,
            } => {
                let bytes = range.end - range.start;
                format!("{} ({bytes})", text(&content_range))
            }
            RangeAnswer::Open {
                range,
                content_range,
            } => {
                format!("{} from {}", text(&content_range), range.start)
            }
            RangeAnswer::Parts(ranges) => format!("{ranges:?}"),
            RangeAnswer::Wait { received: u64::MAX } => "wait for the end".into(),
            RangeAnswer::Wait { received } => format!("wait for {received}"),
            RangeAnswer::NotSatisfiable { content_range } => text(&content_range).into(),
        }
    }

    #[test]
    fn rfc_9110_14_2_what_a_server_does_not_understand_it_ignores() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=5-4",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes=1 - 2",
            "bytes= 1 -2",
            "bytes=0x1-2",
            "seconds=1-2",
            "bytes=1-2;",
            "bytes=99999999999999999999-99999999999999999998",
        ] {
            assert_eq!(
                answer(value, 10, BodyState::Complete, None),
                "ignored",
                "{value}"
            );
        }
        let many = |count| format!("bytes={}", vec!["0-0"; count].join(","));
        assert_eq!(
            answer(&many(RANGES_MAX), 10, BodyState::Complete, None),
            "whole"
        );
        assert_eq!(
            answer(&many(RANGES_MAX + 1), 10, BodyState::Complete, None),
            "ignored"
        );
        let long = format!("bytes=0-{}", "9".repeat(POSITION_DIGITS_MAX + 1));
        assert_eq!(answer(&long, 10, BodyState::Complete, None), "ignored");
        let mut twice = HeaderMap::new();
        twice.append(RANGE, HeaderValue::from_static("bytes=0-1"));
        assert!(ByteRanges::of(&twice).is_some());
        twice.append(RANGE, HeaderValue::from_static("bytes=0-1"));
        assert_eq!(ByteRanges::of(&twice), None);
        assert_eq!(ByteRanges::parse(b"bytes=\xff-"), None);
    }

    #[test]
    fn a_single_range_says_where_it_begins() {
        let beginning = |value: &str| ByteRanges::parse(value.as_bytes())?.beginning();
        assert_eq!(beginning("bytes=5-"), Some(Beginning::At(5)));
        assert_eq!(beginning("bytes=5-9"), Some(Beginning::At(5)));
        assert_eq!(beginning("bytes=-9"), Some(Beginning::BeforeEnd));
        assert_eq!(beginning("bytes=0-1,5-9"), None);
    }

    #[test]
    fn b73_ranges_that_multiply_a_body_get_it_whole_or_not_at_all() {
        let check = |set: &str| answer(&format!("bytes={set}"), 10, BodyState::Complete, None);
        let repeated = |spec: &str, count: usize| vec![spec; count].join(",");
        assert_eq!(check(&repeated("0-", 1000)), "ignored");
        assert_eq!(check(&repeated("0-", RANGES_MAX)), "whole");
        assert_eq!(check(&repeated("99-", RANGES_MAX)), "bytes */10");
        let tiny: Vec<_> = (0..200).map(|n| format!("{n}-{n}")).collect();
        assert_eq!(check(&tiny.join(",")), "ignored");
        assert_eq!(check("8-8,6-6,4-4"), "whole");
    }

    #[test]
    fn b74_positions_beyond_all_integers_neither_overflow_nor_wrap() {
        for (value, expected) in [
            ("bytes=9223372036854775807-", "bytes */10"),
            ("bytes=18446744073709551615-", "bytes */10"),
            (
                "bytes=18446744073709551616-18446744073709551617",
                "bytes */10",
            ),
            ("bytes=0-18446744073709551615", "bytes 0-9/10 (10)"),
            ("bytes=-18446744073709551616", "bytes 0-9/10 (10)"),
            ("bytes=5-1", "ignored"),
            ("bytes=", "ignored"),
            ("bytes= 0-1", "bytes 0-1/10 (2)"),
            ("bites=0-1", "ignored"),
            ("bytes=-0", "bytes */10"),
        ] {
            let complete = BodyState::Complete;
            assert_eq!(answer(value, 10, complete, None), expected, "{value}");
        }
    }

    #[test]
    fn rfc_9110_14_1_2_a_complete_body_answers_what_it_has() {
        for (value, expected) in [
            ("bytes=0-", "bytes 0-9/10 (10)"),
            ("Bytes=0-", "bytes 0-9/10 (10)"),
            ("bytes=0-0", "bytes 0-0/10 (1)"),
            ("bytes=2-4", "bytes 2-4/10 (3)"),
            ("bytes=2-99", "bytes 2-9/10 (8)"),
            ("bytes=2-9007199254740991", "bytes 2-9/10 (8)"),
            ("bytes=2-99999999999999999999999", "bytes 2-9/10 (8)"),
            ("bytes=10-", "bytes */10"),
            ("bytes=99999999999999999999999-", "bytes */10"),
            ("bytes=-3", "bytes 7-9/10 (3)"),
            ("bytes=-99", "bytes 0-9/10 (10)"),
            ("bytes=-0", "bytes */10"),
            ("bytes=0-1,5-6", "[0..2, 5..7]"),
            ("bytes=0-0,2-2,-1", "[0..1, 2..3, 9..10]"),
            ("bytes=5-6, 0-1", "whole"),
            ("bytes=0-1,2-3", "bytes 0-3/10 (4)"),
            ("bytes=0-1,2-3,5-", "[0..4, 5..10]"),
            ("bytes=0-5,3-8,-1", "whole"),
            ("bytes=0-,0-,0-", "whole"),
            ("bytes=-1,-1", "whole"),
            ("bytes=0-1,99-", "bytes 0-1/10 (2)"),
            ("bytes=99-,-0", "bytes */10"),
        ] {
            assert_eq!(
                answer(value, 10, BodyState::Complete, None),
                expected,
                "{value}"
            );
        }
        assert_eq!(
            answer("bytes=0-", 0, BodyState::Complete, None),
            "bytes */0"
        );
        assert_eq!(
            answer("bytes=-5", 0, BodyState::Complete, None),
            "bytes */0"
        );
    }

    #[test]
    fn ld_08_ll_20_a_growing_body_answers_what_it_has_and_waits_for_what_may_come() {
        for (value, expected) in [
            ("bytes=2-4", "bytes 2-4/* (3)"),
            ("bytes=2-9", "bytes 2-9/* (8)"),
            ("bytes=2-10", "bytes 2-10/* from 2"),
            ("bytes=2-", "bytes 2-9007199254740991/* from 2"),
            (
                "bytes=2-9007199254740991",
                "bytes 2-9007199254740991/* from 2",
            ),
            (
                "bytes=2-99999999999999999999999",
                "bytes 2-99999999999999999999999/* from 2",
            ),
            (
                "bytes=2-18446744073709551615",
                "bytes 2-18446744073709551615/* from 2",
            ),
            ("bytes=10-", "wait for 11"),
            ("bytes=15-20", "wait for 16"),
            ("bytes=-3", "wait for the end"),
            ("bytes=99999999999999999999999-", "wait for the end"),
            ("bytes=0-1,5-6", "whole"),
        ] {
            assert_eq!(
                answer(value, 10, BodyState::Filling, None),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn fm_23_an_announced_length_is_used_and_an_unknown_one_never_frozen() {
        let filling = BodyState::Filling;
        assert_eq!(
            answer("bytes=15-20", 10, filling, Some(100)),
            "bytes 15-20/100 (6)"
        );
        assert_eq!(
            answer("bytes=-5", 10, filling, Some(100)),
            "bytes 95-99/100 (5)"
        );
        assert_eq!(answer("bytes=100-", 10, filling, Some(100)), "bytes */100");
        assert_eq!(
            answer("bytes=0-0,5-6", 1, filling, Some(100)),
            "[0..1, 5..7]"
        );
        assert_eq!(
            answer("bytes=0-", 10, filling, None),
            "bytes 0-9007199254740991/* from 0"
        );
    }

    #[test]
    fn a_failed_body_answers_only_from_what_it_received() {
        let failed = BodyState::Failed(BodyFailure::Reset);
        assert_eq!(answer("bytes=2-4", 10, failed, None), "bytes 2-4/* (3)");
        assert_eq!(answer("bytes=10-", 10, failed, None), "wait for 11");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_every_answer_lies_inside_the_body(
            value in prop::collection::vec(prop::sample::select(b"bytes=-,0129 \xff".to_vec()), 0..40),
            received in 0u64..100,
            is_complete: bool,
        ) {
            let mut field = b"bytes=".to_vec();
            field.extend(value);
            let state = if is_complete { BodyState::Complete } else { BodyState::Filling };
            let Some(ranges) = ByteRanges::parse(&field) else {
                return Ok(());
            };
            match ranges.answer(Progress { received, state }, None) {
                RangeAnswer::Part { range, .. } => {
                    prop_assert!(!range.is_empty() && range.end <= received);
                }
                RangeAnswer::Open { range, .. } => {
                    prop_assert!(!is_complete && range.start < received && range.end > received);
                }
                RangeAnswer::Parts(ranges) => {
                    prop_assert!(is_complete && ranges.len() > 1);
                    let ends = ranges.windows(2).all(|pair| pair[0].end < pair[1].start);
                    prop_assert!(ends && ranges.iter().all(|r| !r.is_empty() && r.end <= received));
                }
                RangeAnswer::Wait { received: until } => {
                    prop_assert!(!is_complete && until > received);
                }
                RangeAnswer::NotSatisfiable { .. } => prop_assert!(is_complete),
                RangeAnswer::Whole => {}
            }
        }
    }
}
