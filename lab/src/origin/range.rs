//! Byte ranges of one resource (RFC 9110 14, RFC 8673 for resources that still grow).

/// The one range of a `Range` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteRange {
    /// `bytes=a-b`
    Closed(u64, u64),
    /// `bytes=a-`, and `bytes=a-9007199254740991` (RFC 8673 2): to wherever the resource ends.
    From(u64),
    /// `bytes=-n`
    Last(u64),
}

/// The last-byte-pos that stands for "as far as it grows" (RFC 8673 2, rfc8216bis 6.2.6).
pub(crate) const VERY_LARGE: u64 = 9_007_199_254_740_991;

impl ByteRange {
    /// Parses a `Range` header; `None` is a header to be ignored: other units, several ranges, not a
    /// range at all (RFC 9110 14.2 lets a server ignore it).
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let spec = header.strip_prefix("bytes=")?.trim();
        let (first, last) = spec.split_once('-')?;
        let number = |text: &str| -> Option<u64> {
            (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then_some(())?;
            // A number too large for the type is still a number, and larger than any resource.
            Some(text.parse().unwrap_or(u64::MAX))
        };
        match (first, last) {
            ("", last) => Some(Self::Last(number(last)?)),
            (first, "") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                match last {
                    VERY_LARGE.. => Some(Self::From(first)),
                    last if last >= first => Some(Self::Closed(first, last)),
                    _ => None,
                }
            }
        }
    }

    /// Returns the first and last position within `len` bytes; `None` is not satisfiable.
    pub(crate) fn within(self, len: u64) -> Option<(u64, u64)> {
        let end = len.checked_sub(1)?;
        match self {
            Self::Closed(first, last) => (first <= end).then_some((first, last.min(end))),
            Self::From(first) => (first <= end).then_some((first, end)),
            Self::Last(0) => None,
            Self::Last(count) => Some((len.saturating_sub(count), end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_14_writes_them() {
        for (header, expected) in [
            ("bytes=0-99", Some(ByteRange::Closed(0, 99))),
            ("bytes=5-", Some(ByteRange::From(5))),
            ("bytes=5-9007199254740991", Some(ByteRange::From(5))),
            ("bytes=5-99999999999999999999999", Some(ByteRange::From(5))),
            ("bytes=-7", Some(ByteRange::Last(7))),
            ("bytes=7-5", None),
            ("bytes=0-1,3-4", None),
            ("bytes=", None),
            ("bytes=-", None),
            ("bytes=+1-2", None),
            ("items=0-1", None),
        ] {
            assert_eq!(ByteRange::parse(header), expected, "{header}");
        }
    }

    #[test]
    fn a_range_is_clamped_to_the_resource() {
        for (range, len, expected) in [
            (ByteRange::Closed(0, 99), 50, Some((0, 49))),
            (ByteRange::Closed(50, 99), 50, None),
            (ByteRange::From(49), 50, Some((49, 49))),
            (ByteRange::From(50), 50, None),
            (ByteRange::Last(7), 50, Some((43, 49))),
            (ByteRange::Last(70), 50, Some((0, 49))),
            (ByteRange::Last(0), 50, None),
            (ByteRange::From(0), 0, None),
        ] {
            assert_eq!(range.within(len), expected, "{range:?} of {len}");
        }
    }
}
