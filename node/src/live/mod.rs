//! The live hub: every request for a live media playlist is answered from a parsed live state.
//!
//! ```text
//! viewer ──► answer ──► Rendition (State: newest Version) ──► now, or held until a newer one comes
//!                          ▲ publish
//!                        chain: one blocking reload or poll at a time, to one parent
//! ```
//!
//! What is here: the hub, its renditions, their versions, the chain that keeps each current.
//! Who calls it: `exchange`; a fill that finds a live playlist in its body hands it over.
//! What it calls: `media` for every judgment, `upstream` for the chain, `fill` to prefetch.
//! Deliberately not here: the store. A live playlist is a version, not a stored response.

mod cadence;
mod chain;
mod children;
mod epochs;
mod gate;
mod hints;
mod holds;
mod hub;
mod linter;
mod patience;
mod poll;
mod rendition;
mod reopen;
mod runs;
mod shown;
mod urgency;
mod version;
mod viewer_uris;

pub(crate) use gate::Gate;
pub use holds::{ConnectionHolds, Holder};
pub use hub::Hub;
pub(crate) use poll::{can_be_followed, version_of};
pub use rendition::{Address, Phase, Rendition};
pub(crate) use runs::{EndedNames, MARK as RUN_MARK, end_series, forget_series};
pub(crate) use urgency::{Ladder, PRIORITY};
pub use version::Version;
pub(crate) use viewer_uris::{Audience, judge as judge_audience};

use std::sync::Arc;

use media::Kind;
use media::hls::{DeliveryDirectives, MediaPlaylist};

use crate::node::Node;
use crate::request::Request;
use crate::respond::{Answer, Failure};
use rendition::Judged;

/// Answers a request for a live media playlist from the newest version, holding it if it must wait.
///
/// `None`: the rendition was purged or given up, before or while the request waited. It begins anew.
///
/// # Errors
///
/// Malformed directives (LL-05, LL-06), too far ahead (LL-07, LL-08), held too long (LL-09), too
/// many held (CA-22), or the trouble of a rendition that cannot be followed (CA-23).
///
/// # Cancel safety
///
/// A viewer that leaves while held only gives its place back (PL-01).
pub async fn answer(
    node: &Arc<Node>,
    request: &Request,
    rendition: &Arc<Rendition>,
) -> Result<Option<Answer>, Failure> {
    let directives = parse_directives(request)?;
    rendition.asked(node);
    let mut states = rendition.subscribe();
    let mut hold = None;
    loop {
        if rendition.is_retired() {
            return Ok(None);
        }
        let judged = states.borrow_and_update().judge(
            &directives,
            request.is_of_child(),
            node.clock.uptime(),
        );
        match judged {
            Judged::Answer(version) => {
                let was_held = hold.is_some();
                let answer = version.respond(node, request, &directives, was_held).await;
                return Ok(Some(answer));
            }
            Judged::Refuse(failure) => return Err(failure),
            Judged::Hold(longest) => match &hold {
                None => hold = Some(rendition.hold(node, request, longest)?),
                Some(held) if held.is_over() => return Err(Failure::HoldExpired),
                Some(_) => {}
            },
        }
        if states.changed().await.is_err() {
            return Err(Failure::ParentUnreachable);
        }
    }
}

/// Lets the hub follow a live playlist that a fill has just read; `None` if the hub is full.
pub fn adopt(node: &Arc<Node>, address: &Address, version: Version) -> Option<Arc<Rendition>> {
    let make = || Rendition::new(node, address.clone());
    let rendition = node.hub.rendition_or(&address.key(), make)?;
    chain::publish(node, &rendition, version);
    rendition.asked(node);
    Some(rendition)
}

/// Returns host and target of a playlist's child, in normal form; `None` for one on another host.
pub fn locate_child(node: &Node, address: &Address, uri: &str) -> Option<(String, String)> {
    children::locate(address, uri, &node.rules)
}

/// Remembers which URIs of a playlist that no chain keeps are decryption keys (LL-29).
pub fn learn_keys(node: &Node, address: &Address, playlist: &MediaPlaylist) {
    for key in children::keys(address, playlist, &node.rules) {
        node.hub.learn(&key, Kind::Key);
    }
}

/// Reads the delivery directives of a request for a playlist (LL-05, LL-06).
///
/// # Errors
///
/// [`Failure::DirectivesMalformed`]; the parent is never asked about it.
pub fn parse_directives(request: &Request) -> Result<DeliveryDirectives, Failure> {
    DeliveryDirectives::parse(request.target.query.directives())
        .map_err(|_| Failure::DirectivesMalformed)
}
