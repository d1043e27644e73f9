//! Naming this node's clock in live MPDs, so that players set theirs by it (LD-13).
//!
//! The nearest clock is the most exact one, and whoever can get the MPD can ask it. Who calls it: fills, with every MPD
//! and every patch that comes. Deliberately not here: changing the text (`media::dash::with_clock`),
//! and telling the time (`time`).

use bytes::Bytes;
use cache::CacheKey;
use http::HeaderMap;
use media::dash::{self, Mpd, UtcTiming};

use super::TIME_PATH;
use crate::fill;
use crate::live::{self, Address};
use crate::node::Node;
use crate::request;
use crate::rules::MpdClock;

/// Returns the text of an MPD as it is shown, and lets `fields` describe it.
///
/// The clocks of its origin stay in it, and are never kept here.
pub(crate) fn with_clock(
    node: &Node,
    address: &Address,
    mpd: &Mpd,
    text: Bytes,
    fields: &mut HeaderMap,
) -> Bytes {
    for uri in mpd.utc_timings.iter().flat_map(uris_with_the_time) {
        if let Some((host, target)) = live::locate_child(node, address, uri) {
            node.mpds
                .learn_clock(request::key_of_target(&host, &target));
        }
    }
    if names_clock(node, address, mpd) {
        changed(text, fields)
    } else {
        text
    }
}

/// Returns the URIs whose content is the time (ISO/IEC 23009-1 5.8.5.7); the first that answers counts.
fn uris_with_the_time(clock: &UtcTiming) -> impl Iterator<Item = &str> {
    let is_content = WITH_THE_TIME
        .iter()
        .any(|scheme| clock.scheme.starts_with(scheme));
    clock
        .value
        .split_ascii_whitespace()
        .filter(move |_| is_content)
}

/// Returns the text of the patch of `key`, in which nothing is said of other clocks than its MPD names, and lets
/// `fields` describe it.
pub(crate) fn with_clock_of_mpd(
    node: &Node,
    key: &CacheKey,
    text: Bytes,
    fields: &mut HeaderMap,
) -> Bytes {
    let patched = node.mpds.patches.of(key);
    let names_here = patched.is_some_and(|of| {
        let known = node.mpds.known(&of.mpd);
        known.is_some_and(|known| names_clock(node, &of.address, &known.mpd))
    });
    if names_here {
        changed(text, fields)
    } else {
        text
    }
}

/// Returns whether an MPD names this node's clock.
///
/// Not if some of its URIs are relative to another host: the path of the clock would be so, too.
fn names_clock(node: &Node, address: &Address, mpd: &Mpd) -> bool {
    let rule = node.rules.of(&address.host, &address.path);
    let bases = mpd.base_urls.iter().map(|base| &base.uri);
    rule.dash.clock == MpdClock::Local
        && mpd.is_dynamic()
        && bases
            .chain(&mpd.locations)
            .all(|uri| live::locate_child(node, address, uri).is_some())
}

/// Returns the text with this node's clock in it, and lets `fields` describe that text.
fn changed(text: Bytes, fields: &mut HeaderMap) -> Bytes {
    match dash::with_clock(&text, (SCHEME, TIME_PATH)) {
        Some(changed) => {
            fill::describe_changed(fields);
            changed
        }
        None => text,
    }
}

/// The content is a date as XML Schema writes it. All players that ask over HTTP know this scheme.
const SCHEME: &str = "urn:mpeg:dash:utc:http-xsdate:2014";

/// Schemes by which the time is content, of any year. What `http-head` asks for may be anything, even media.
const WITH_THE_TIME: [&str; 2] = [
    "urn:mpeg:dash:utc:http-xsdate:",
    "urn:mpeg:dash:utc:http-iso:",
];
