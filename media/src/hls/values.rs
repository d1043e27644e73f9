//! Values in tags, and the errors of those that cannot be read.
//!
//! Called by both parsers.

use super::attributes::{Attribute, Attributes, Flaw};
use super::playlist::{Limits, PlaylistError};
use super::rows::DefineKind;
use super::text::{Line, integer};
use super::views::ByteRange;

/// Reads the variable of an `EXT-X-DEFINE`; `None` if it is of a kind of the future.
pub(super) fn define<'a>(
    value: &'a str,
    limits: &Limits,
    line: &Line<'_>,
) -> Result<Option<(&'a str, DefineKind)>, PlaylistError> {
    for attribute in Attributes::new(value, limits.attributes_max) {
        let Attribute { name, value } =
            attribute.map_err(|flaw| flawed(flaw, "EXT-X-DEFINE", limits, line))?;
        let kind = match name {
            "NAME" => DefineKind::Value,
            "IMPORT" => DefineKind::Import,
            "QUERYPARAM" => DefineKind::QueryParameter,
            _ => continue,
        };
        return Ok(Some((value, kind)));
    }
    Ok(None)
}

pub(super) fn malformed(tag: &'static str, line: &Line<'_>) -> PlaylistError {
    PlaylistError::Malformed {
        tag,
        line: line.number,
    }
}

pub(super) fn too_many(what: &'static str, limit: usize, line: &Line<'_>) -> PlaylistError {
    PlaylistError::TooMany {
        what,
        limit,
        line: line.number,
    }
}

pub(super) fn flawed(
    flaw: Flaw,
    tag: &'static str,
    limits: &Limits,
    line: &Line<'_>,
) -> PlaylistError {
    match flaw {
        Flaw::Malformed => malformed(tag, line),
        Flaw::TooMany => too_many("attributes", limits.attributes_max, line),
    }
}

pub(super) fn read<T>(
    value: Option<T>,
    tag: &'static str,
    line: &Line<'_>,
) -> Result<T, PlaylistError> {
    value.ok_or_else(|| malformed(tag, line))
}

/// Reads a number that is counted on from: half the range is left for that.
pub(super) fn number(
    value: &str,
    tag: &'static str,
    line: &Line<'_>,
) -> Result<u64, PlaylistError> {
    read(
        integer(value.trim_ascii()).filter(|&number| number <= u64::MAX / 2),
        tag,
        line,
    )
}

/// Reads `length[@start]`, whose end must be a number too.
pub(super) fn byte_range(value: &str) -> Option<ByteRange> {
    let (length, start) = match value.trim_ascii().split_once('@') {
        Some((length, start)) => (length, Some(integer(start)?)),
        None => (value.trim_ascii(), None),
    };
    let range = ByteRange {
        start,
        length: integer(length)?,
    };
    range.start.unwrap_or(0).checked_add(range.length)?;
    Some(range)
}

/// Places a range without a start after its predecessor in the same resource.
pub(super) fn after(range: ByteRange, uri: &str, before: Option<(&str, u64)>) -> ByteRange {
    let follows = before
        .filter(|(resource, _)| *resource == uri)
        .map(|(_, end)| end);
    ByteRange {
        start: range.start.or(follows),
        ..range
    }
}

pub(super) fn end_of(range: ByteRange) -> Option<u64> {
    range.start?.checked_add(range.length)
}
