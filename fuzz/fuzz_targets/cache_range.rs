//! `Range` of a viewer, against bodies of every state and length.
#![no_main]

use cache::{BodyState, ByteRanges, Progress, RangeAnswer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], u64, Option<u64>, bool)| {
    let (value, received, length, is_complete) = input;
    // No body has 2^63 bytes; `u64::MAX` is how the answer says "the end".
    let received = received >> 1;
    let Some(ranges) = ByteRanges::parse(value) else {
        return;
    };
    let state = if is_complete {
        BodyState::Complete
    } else {
        BodyState::Filling
    };
    let end = if is_complete { Some(received) } else { length };
    match ranges.answer(Progress { received, state }, length) {
        RangeAnswer::Part { range, .. } => {
            assert!(!range.is_empty() && range.end <= end.unwrap_or(received));
        }
        RangeAnswer::Open { range, .. } => {
            assert!(end.is_none() && range.start < received && range.end > received);
        }
        RangeAnswer::Parts(ranges) => {
            assert!(ranges.len() > 1 && ranges.len() <= cache::range::RANGES_MAX);
            assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            assert!(ranges.iter().all(|range| Some(range.end) <= end));
        }
        RangeAnswer::Wait { received: until } => assert!(end.is_none() && until > received),
        RangeAnswer::NotSatisfiable { .. } => assert!(end.is_some()),
        RangeAnswer::Whole => {}
    }
});
