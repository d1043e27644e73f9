//! Slices: a large body kept in aligned pieces, each brought by a range request of its own.
//!
//! ```text
//! stored under the key        head, and a body that says Sliced { length, slice_bytes, version }
//! stored under slice keys     version.0 │ version.1 │ version.2 │ ...   whole bodies of slice_bytes
//! ```
//!
//! `node` makes the head when an answer shows that a body is large, asks for a slice when a reader
//! comes to it, and never puts slices of two versions together: they are found under the number of the
//! version, and brought only with its strong validator (RFC 9110 13.1.5, 15.3.7.3). What is here is the
//! arithmetic, and what is read of a partial answer. Deliberately not here: asking, and which
//! responses are worth it.

use std::ops::Range;

use http::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, RANGE};

use crate::key::CacheKey;
use crate::range::{ByteRanges, RangeAnswer};
use crate::validation::EntityTag;
use crate::{BodyState, Progress};

/// A body that is kept in slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sliced {
    /// The length of the whole body.
    pub length: u64,
    /// The length of every slice but the last.
    pub slice_bytes: SliceBytes,
    /// Which version of the body it is; no other body of this process has the same.
    pub version: u64,
}

/// The length of a slice: at least one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceBytes(u64);

impl SliceBytes {
    /// Returns a length, or `None` for zero.
    pub const fn new(bytes: u64) -> Option<Self> {
        if bytes == 0 { None } else { Some(Self(bytes)) }
    }

    /// Returns the bytes of the slice that `position` is in, of a body whose end is not known.
    pub const fn around(self, position: u64) -> Range<u64> {
        let start = position - position % self.0;
        start..start.saturating_add(self.0)
    }
}

impl Sliced {
    /// Returns the number of the slice that `position` is in.
    pub const fn number(&self, position: u64) -> u64 {
        position / self.slice_bytes.0
    }

    /// Returns the bytes of the body that slice `number` is; none behind the end.
    pub fn range(&self, number: u64) -> Range<u64> {
        let start = number.saturating_mul(self.slice_bytes.0).min(self.length);
        let end = start.saturating_add(self.slice_bytes.0).min(self.length);
        start..end
    }

    /// Returns the key of slice `number` of a body stored under `key`.
    ///
    /// No URL has a line break in it: nobody else has this key. It begins with the URL, so that a purge
    /// of a host or a directory means the slices, too; other purges leave them behind unreachable.
    pub fn key(&self, key: &CacheKey, number: u64) -> CacheKey {
        CacheKey::new(format!("{key}\n#slice {}.{number}", self.version))
    }

    /// Returns what answers the ranges of a request.
    pub fn answer(&self, ranges: &ByteRanges) -> RangeAnswer {
        let whole = Progress {
            received: self.length,
            state: BodyState::Complete,
        };
        ranges.answer(whole, Some(self.length))
    }
}

/// What a 206 says of its place in the whole body (RFC 9110 14.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The bytes it has.
    pub range: Range<u64>,
    /// The length of the whole body.
    pub length: u64,
}

impl Place {
    /// Reads `Content-Range`; `None` where the range or the length is not told, or cannot be.
    pub fn of(response: &HeaderMap) -> Option<Self> {
        let value = response.get(CONTENT_RANGE)?.to_str().ok()?;
        let (unit, rest) = value.trim_ascii().split_once(' ')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (range, length) = rest.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        let length = number(length)?;
        // RFC 9110 14.4: a last position before the first, or not before the length, is invalid.
        let is_valid = first <= last && last < length;
        is_valid.then(|| Self {
            range: first..last + 1,
            length,
        })
    }

    /// Returns whether these are all bytes there are.
    pub fn is_whole(&self) -> bool {
        self.range == (0..self.length)
    }
}

/// Reads a position or length: digits only, below 2^62, so that sums of two are numbers, too.
fn number(digits: &str) -> Option<u64> {
    let digits = digits.trim_ascii();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| *number < 1 << 62)
}

/// Returns the entity tag of a response if it is strong: the only validator by which ranges of two
/// answers may be put together (RFC 9110 15.3.7.3).
pub fn strong_tag(response: &HeaderMap) -> Option<&HeaderValue> {
    let value = response.get(ETAG)?;
    let tag = EntityTag::parse(value.as_bytes())?;
    tag.matches_strongly(&tag).then_some(value)
}

/// Adds to a request for a parent the range of bytes that is wanted.
///
/// # Panics
///
/// If `range` is empty.
pub fn ask_for(request: &mut HeaderMap, range: &Range<u64>) {
    let last = range
        .end
        .checked_sub(1)
        .filter(|last| *last >= range.start)
        .expect("only ranges that are not empty are asked for");
    let value = format!("bytes={}-{last}", range.start);
    let value = HeaderValue::try_from(value).expect("digits and punctuation are a field value");
    request.insert(RANGE, value);
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sliced(length: u64, slice_bytes: u64) -> Sliced {
        Sliced {
            length,
            slice_bytes: SliceBytes::new(slice_bytes).expect("not zero"),
            version: 7,
        }
    }

    fn fields(name: &'static str, value: &str) -> HeaderMap {
        let value = HeaderValue::from_str(value).expect("a field value");
        HeaderMap::from_iter([(http::HeaderName::from_static(name), value)])
    }

    #[test]
    fn slices_are_aligned_and_the_last_is_as_long_as_the_rest() {
        let body = sliced(25, 10);
        assert_eq!(body.range(0), 0..10);
        assert_eq!(body.range(2), 20..25);
        assert!(body.range(3).is_empty() && body.range(u64::MAX).is_empty());
        assert_eq!((body.number(0), body.number(9), body.number(10)), (0, 0, 1));
        let key = CacheKey::from("//h/file");
        assert_eq!(body.key(&key, 2).as_str(), "//h/file\n#slice 7.2");
        let bytes = SliceBytes::new(10).unwrap();
        assert_eq!(bytes.around(25), 20..30);
        assert_eq!(bytes.around(u64::MAX), u64::MAX - 5..u64::MAX);
        assert_eq!(SliceBytes::new(0), None);
    }

    #[test]
    fn rfc_9110_14_4_a_place_is_read_or_it_is_none() {
        let place = |value: &str| Place::of(&fields("content-range", value));
        let found = place("bytes 0-9/10").unwrap();
        assert!(found.is_whole());
        let found = place("Bytes 5-9/100").unwrap();
        assert_eq!((found.range.clone(), found.length), (5..10, 100));
        assert!(!found.is_whole());
        for unreadable in [
            "",
            "bytes */10",
            "bytes 0-9/*",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "bytes 0-/10",
            "bytes -1/10",
            "bytes 0-9",
            "seconds 0-9/10",
            "bytes 0-18446744073709551615/18446744073709551616",
            "bytes 0-9223372036854775807/9223372036854775808",
            "bytes +0-9/10",
        ] {
            assert_eq!(place(unreadable), None, "{unreadable}");
        }
        assert_eq!(Place::of(&HeaderMap::new()), None);
    }

    #[test]
    fn rfc_9110_15_3_7_3_only_a_strong_tag_pins_a_version() {
        assert!(strong_tag(&fields("etag", "\"v1\"")).is_some());
        for weak in ["W/\"v1\"", "v1", ""] {
            assert_eq!(strong_tag(&fields("etag", weak)), None, "{weak}");
        }
        let dated = fields("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(strong_tag(&dated), None);
    }

    proptest! {
        #[test]
        fn every_byte_is_in_exactly_one_slice(length in 1_u64..10_000, slice_bytes in 1_u64..500) {
            let body = sliced(length, slice_bytes);
            let mut at = 0;
            for number in 0..=body.number(length - 1) {
                let range = body.range(number);
                prop_assert_eq!(range.start, at);
                prop_assert_eq!(body.number(range.start), number);
                prop_assert_eq!(body.number(range.end - 1), number);
                at = range.end;
            }
            prop_assert_eq!(at, length);
        }

        #[test]
        fn what_is_asked_for_is_what_a_server_reads(start in 0_u64..1 << 60, bytes in 1_u64..1 << 30) {
            let mut request = HeaderMap::new();
            ask_for(&mut request, &(start..start + bytes));
            let ranges = ByteRanges::of(&request).expect("a legal range");
            let answer = sliced(1 << 62, 1).answer(&ranges);
            let range = start..start + bytes;
            let is_same = matches!(answer, RangeAnswer::Part { range: found, .. } if found == range);
            prop_assert!(is_same);
        }

        #[test]
        fn no_content_range_is_a_panic(value in "[bytes0-9 */+-]{0,40}") {
            if let Some(place) = Place::of(&fields("content-range", &value)) {
                prop_assert!(place.range.end <= place.length && !place.range.is_empty());
            }
        }
    }
}
