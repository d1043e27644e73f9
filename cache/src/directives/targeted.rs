//! Targeted cache control, such as `CDN-Cache-Control` (RFC 9213): a structured dictionary.
//!
//! `directives` reads it before `Cache-Control`. Strict where `Cache-Control` is tolerant: a field
//! that does not parse, or that gives a directive a value of the wrong type, is ignored as a whole
//! (RFC 9213 2.1, HX-14), and the next source of directives is used.

use std::time::Duration;

use http::HeaderMap;
use http::header::HeaderName;
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::{Extent, ResponseDirectives, SECONDS_MAX, extent};

/// Returns what the field says, or `None` if it is absent, empty or not valid.
pub(super) fn parse(response: &HeaderMap, name: &HeaderName) -> Option<ResponseDirectives> {
    let mut lines = response.get_all(name).iter();
    let mut text = lines.next()?.as_bytes().to_vec();
    // RFC 9651 4.2: lines of one field are combined before parsing.
    for line in lines {
        text.extend_from_slice(b", ");
        text.extend_from_slice(line.as_bytes());
    }
    let members = Parser::new(&text).parse::<Dictionary>().ok()?;
    if members.is_empty() {
        return None;
    }
    let mut said = ResponseDirectives {
        is_targeted: true,
        ..ResponseDirectives::default()
    };
    for (name, value) in &members {
        match name.as_str() {
            "max-age" => said.max_age = Some(seconds(value)?),
            "s-maxage" => said.s_maxage = Some(seconds(value)?),
            "stale-while-revalidate" => said.stale_while_revalidate = Some(seconds(value)?),
            "stale-if-error" => said.stale_if_error = Some(seconds(value)?),
            "no-store" => said.no_store = flag(value)?,
            "public" => said.public = flag(value)?,
            "must-revalidate" => said.must_revalidate = flag(value)?,
            "proxy-revalidate" => said.proxy_revalidate = flag(value)?,
            "must-understand" => said.must_understand = flag(value)?,
            "immutable" => said.immutable = flag(value)?,
            "no-cache" => said.no_cache = extent_of(value)?,
            "private" => said.private = extent_of(value)?,
            _ => {} // RFC 9111 5.2.3: an unknown directive is ignored.
        }
    }
    Some(said)
}

fn bare(value: &ListEntry) -> Option<&BareItem> {
    match value {
        ListEntry::Item(item) => Some(&item.bare_item),
        ListEntry::InnerList(_) => None,
    }
}

fn seconds(value: &ListEntry) -> Option<Duration> {
    let seconds = u64::try_from(i64::from(bare(value)?.as_integer()?)).ok()?;
    Some(Duration::from_secs(seconds.min(SECONDS_MAX)))
}

fn flag(value: &ListEntry) -> Option<bool> {
    bare(value)?.as_boolean()
}

fn extent_of(value: &ListEntry) -> Option<Extent> {
    let value = bare(value)?;
    if let Some(is_set) = value.as_boolean() {
        return Some(if is_set {
            Extent::Response
        } else {
            Extent::Nothing
        });
    }
    let names = value.as_string()?.as_str();
    Some(extent(Some(names.as_bytes())))
}
