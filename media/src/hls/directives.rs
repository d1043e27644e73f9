//! Delivery directives: what a request asks of a media playlist (rfc8216bis 6.2.5).
//!
//! Called by the node for every request for a playlist. Deliberately not here: what the answer is,
//! which depends on a playlist and is in `answer`; other parameters of the query.

use thiserror::Error;

use super::text::integer;
use crate::position::{MediaSequenceNumber, Position};

/// The delivery directives of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeliveryDirectives {
    /// Hold the answer until the playlist has this (`_HLS_msn`, `_HLS_part`).
    pub position: Option<Position>,
    /// Leave out old segments (`_HLS_skip`).
    pub skip: Option<Skip>,
}

/// What a delta update may leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Skip {
    /// Segments (`YES`).
    Segments,
    /// Segments and date ranges (`v2`).
    SegmentsAndDateRanges,
}

/// Why a query's delivery directives are refused; the status is 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DirectiveError {
    /// LL-05: `_HLS_part` needs `_HLS_msn`.
    #[error("_HLS_part without _HLS_msn")]
    PartWithoutMsn,
    /// LL-06: a value is not a decimal number in range.
    #[error("{name} is not a number in range")]
    NotANumber {
        /// The directive.
        name: &'static str,
    },
    /// A value of `_HLS_skip` that no version of the specification has or could have (B55).
    #[error("_HLS_skip is neither YES nor a version")]
    NotAVersion,
    /// A directive is given twice, so that no value is meant.
    #[error("{name} is given twice")]
    Duplicate {
        /// The directive.
        name: &'static str,
    },
}

impl DeliveryDirectives {
    /// Reads the directives of a query, which has no leading `?`.
    ///
    /// Other parameters are ignored, unknown ones of the `_HLS_` prefix too, and so are versions of
    /// `_HLS_skip` that are not known yet: the full playlist is always a right answer to them.
    ///
    /// # Errors
    ///
    /// [`DirectiveError`] for what rfc8216bis or every known origin answers 400.
    pub fn parse(query: &str) -> Result<Self, DirectiveError> {
        let (mut msn, mut part, mut skip) = (None, None, None);
        for (name, value) in query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        {
            let given_before = match name {
                MSN => msn.replace(value).map(|_| MSN),
                PART => part.replace(value).map(|_| PART),
                SKIP => skip.replace(value).map(|_| SKIP),
                _ => None,
            };
            if let Some(name) = given_before {
                return Err(DirectiveError::Duplicate { name });
            }
        }
        let position = match (msn, part) {
            (None, None) => None,
            (None, Some(_)) => return Err(DirectiveError::PartWithoutMsn),
            (Some(msn), part) => {
                let msn = integer(msn).ok_or(DirectiveError::NotANumber { name: MSN })?;
                let part_index = part.map(part_index).transpose()?;
                Some(Position {
                    msn: MediaSequenceNumber(msn),
                    part_index,
                })
            }
        };
        let skip = skip.map(skip_of).transpose()?.flatten();
        Ok(Self { position, skip })
    }
}

fn skip_of(value: &str) -> Result<Option<Skip>, DirectiveError> {
    let is_number = |number: &str| {
        (1..=3).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
    };
    match value {
        "YES" => Ok(Some(Skip::Segments)),
        "v2" => Ok(Some(Skip::SegmentsAndDateRanges)),
        // A player that is newer than this node.
        later if later.strip_prefix('v').is_some_and(is_number) => Ok(None),
        _ => Err(DirectiveError::NotAVersion),
    }
}

fn part_index(value: &str) -> Result<u32, DirectiveError> {
    let index = integer(value).and_then(|index| u32::try_from(index).ok());
    index.ok_or(DirectiveError::NotANumber { name: PART })
}

const MSN: &str = "_HLS_msn";
const PART: &str = "_HLS_part";
const SKIP: &str = "_HLS_skip";

#[cfg(test)]
mod tests {
    use super::*;

    fn position(msn: u64, part_index: Option<u32>) -> Option<Position> {
        Some(Position {
            msn: MediaSequenceNumber(msn),
            part_index,
        })
    }

    #[test]
    fn directives_are_found_among_other_parameters_in_any_order() {
        let cases = [
            ("", None, None),
            ("token=a&&x", None, None),
            ("_HLS_msn=5", position(5, None), None),
            (
                "_HLS_part=0&token=_HLS_msn&_HLS_msn=5",
                position(5, Some(0)),
                None,
            ),
            (
                "_HLS_msn=18446744073709551615",
                position(u64::MAX, None),
                None,
            ),
            ("_HLS_msn=007&_HLS_part=01", position(7, Some(1)), None),
            ("_HLS_skip=YES", None, Some(Skip::Segments)),
            (
                "a=1&_HLS_msn=1&_HLS_skip=v2",
                position(1, None),
                Some(Skip::SegmentsAndDateRanges),
            ),
            ("_HLS_skip=v3&_HLS_legacy=YES&_HLS_rewind=1", None, None),
            ("_hls_msn=x&%5FHLS_msn=x", None, None),
        ];
        for (query, position, skip) in cases {
            let expected = DeliveryDirectives { position, skip };
            assert_eq!(DeliveryDirectives::parse(query), Ok(expected), "{query}");
        }
    }

    #[test]
    fn ll_05_a_part_without_a_media_sequence_number_is_refused() {
        for query in [
            "_HLS_part=1",
            "_HLS_part=x&a=1",
            "_HLS_skip=YES&_HLS_part=0",
        ] {
            let error = DeliveryDirectives::parse(query).unwrap_err();
            assert_eq!(error, DirectiveError::PartWithoutMsn, "{query}");
        }
    }

    #[test]
    fn ll_06_values_that_are_not_numbers_in_range_are_refused() {
        let cases = [
            ("_HLS_msn=abc", MSN),
            ("_HLS_msn=-1", MSN),
            ("_HLS_msn=+1", MSN),
            ("_HLS_msn=1.5", MSN),
            ("_HLS_msn=", MSN),
            ("_HLS_msn", MSN),
            ("_HLS_msn=18446744073709551616", MSN),
            ("_HLS_msn=%31", MSN),
            ("_HLS_msn=1&_HLS_part=-1", PART),
            ("_HLS_msn=1&_HLS_part=4294967296", PART),
            ("_HLS_msn=1&_HLS_part=", PART),
        ];
        for (query, name) in cases {
            let error = DeliveryDirectives::parse(query).unwrap_err();
            assert_eq!(error, DirectiveError::NotANumber { name }, "{query}");
        }
    }

    #[test]
    fn b55_a_skip_that_is_no_version_is_refused() {
        for value in ["zzz", "", "yes", "NO", "v", "vx", "v1000", "1"] {
            let error = DeliveryDirectives::parse(&format!("_HLS_skip={value}")).unwrap_err();
            assert_eq!(error, DirectiveError::NotAVersion, "{value}");
        }
    }

    #[test]
    fn a_directive_given_twice_is_refused() {
        for (query, name) in [
            ("_HLS_msn=1&_HLS_msn=1", MSN),
            ("_HLS_msn=1&_HLS_part=1&_HLS_part=2", PART),
            ("_HLS_skip=YES&_HLS_skip=v2", SKIP),
        ] {
            let error = DeliveryDirectives::parse(query).unwrap_err();
            assert_eq!(error, DirectiveError::Duplicate { name }, "{query}");
        }
    }
}
