//! Redirected playlists keep the whole query of the viewer who asked (CA-20).
//!
//! What a rule drops from a query reaches no parent, so no parent can write it into a `Location`. A player that
//! follows a redirect would lose it: the token that its next request is judged by, or the value of a variable
//! (`EXT-X-DEFINE:QUERYPARAM`, which is taken from the redirect's target). So it is put back for each viewer,
//! on the way out: what is stored is one redirect for all.
//!
//! Who calls it: `exchange`, for answers about playlists and manifests. Deliberately not here: what is dropped
//! (`rules`), and redirects to other hosts: they get nothing that was not meant for them.

use http::{HeaderMap, HeaderValue, header};

use crate::live::{self, Address};
use crate::node::Node;
use crate::request::Request;

/// Puts what was dropped from the request's query into the `Location` of its answer.
pub(crate) fn keep_query(node: &Node, request: &Request, fields: &mut HeaderMap) {
    let Some(location) = fields.get(header::LOCATION).and_then(|l| l.to_str().ok()) else {
        return;
    };
    let mut dropped = request.target.dropped_parameters().peekable();
    if dropped.peek().is_none() {
        return;
    }
    let (target, _) = location.split_once('#').unwrap_or((location, ""));
    if live::locate_child(node, &Address::of(request), target).is_none() {
        return;
    }
    let kept = with_parameters(location, dropped);
    if let Ok(kept) = HeaderValue::try_from(kept) {
        fields.insert(header::LOCATION, kept);
    }
}

/// Returns a reference with those parameters that it does not have itself.
fn with_parameters<'a>(location: &str, parameters: impl Iterator<Item = &'a str>) -> String {
    let (target, fragment) = match location.split_once('#') {
        Some((target, fragment)) => (target, Some(fragment)),
        None => (location, None),
    };
    let query = target.split_once('?').map(|(_, query)| query);
    let name_of = |parameter: &'a str| parameter.split('=').next().unwrap_or(parameter);
    let has = |name: &str| {
        let mut said = query.unwrap_or("").split('&');
        said.any(|parameter| parameter.split('=').next() == Some(name))
    };
    let mut kept = target.to_owned();
    let mut separator = match query {
        None => "?",
        Some("") => "",
        Some(_) => "&",
    };
    for parameter in parameters.filter(|parameter| !has(name_of(parameter))) {
        kept.push_str(separator);
        kept.push_str(parameter);
        separator = "&";
    }
    if let Some(fragment) = fragment {
        kept.push('#');
        kept.push_str(fragment);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ca_20_parameters_are_added_before_the_fragment_and_never_twice() {
        for (location, expected) in [
            ("/b.m3u8", "/b.m3u8?token=1&u"),
            ("b.m3u8?", "b.m3u8?token=1&u"),
            ("b.m3u8?x=1", "b.m3u8?x=1&token=1&u"),
            ("b.m3u8?token=2", "b.m3u8?token=2&u"),
            ("?u=3#f?g", "?u=3&token=1#f?g"),
            ("#f", "?token=1&u#f"),
        ] {
            let kept = with_parameters(location, ["token=1", "u"].into_iter());
            assert_eq!(kept, expected, "{location}");
        }
    }
}
