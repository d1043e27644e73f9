//! Reading a playlist that a fill has brought: what it is decides what becomes of it.
//!
//! ```text
//! text ──► parsed ─┬─ of one viewer   its own, and nobody else's (CA-10)
//!                  ├─ live            the hub follows it from now on
//!                  └─ else            stored, as long as what it is allows
//! ```
//!
//! Who calls it: the pump. Deliberately not here: following (`live`), and lifetimes by kind (`route`).

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use cache::{GrowingBody, StoredResponse, Uncacheable};
use http::{HeaderMap, HeaderValue, header};
use media::hls::Playlist;
use parking_lot::Mutex;

use super::ask::age_on_arrival;
use super::decode::read_text;
use super::order::{FillOrder, Judged};
use super::pump::{Arrived, complete};
use super::{Brought, Filled, Own};
use crate::live::{self, Address, Audience};
use crate::node::Node;
use crate::purge;
use crate::respond::Failure;
use crate::route;
use crate::upstream::ForwardResponse;

/// Whether a playlist may be read by this node for all who ask.
///
/// `no-cache` asks that it be current on every use: the chain of a live rendition keeps it so (CA-09).
/// `no-store` and `private` mean what they say, and a playlist that varies is not one for all.
pub(super) fn may_be_read(judged: &Judged, refusal: Option<Uncacheable>) -> bool {
    match refusal {
        // Encodings are this node's own affair: it asks for none and makes them itself (CA-18).
        None => judged
            .stored
            .variant
            .names()
            .all(|name| name == header::ACCEPT_ENCODING),
        Some(Uncacheable::NoLifetime) => true,
        Some(_) => false,
    }
}

/// Reads a playlist; a live one that can be followed goes to the hub.
pub(super) async fn read_playlist(
    node: &Arc<Node>,
    order: &FillOrder,
    address: &Address,
    response: ForwardResponse,
) -> Result<Arrived, Failure> {
    let asked_at = node.clock.wall_at(response.sent_at);
    let ForwardResponse { mut head, body, .. } = response;
    let bytes_max = node.live.playlist_bytes_max;
    let text = read_text(&mut head, body, bytes_max, order.stall_timeout).await?;
    let playlist =
        Playlist::parse(text.clone(), &node.playlist_limits).map_err(|_| Failure::NotAPlaylist)?;
    let audience = live::judge_audience(node, address, &order.collapse_key, &playlist);
    if audience == Audience::OneViewer {
        let playlist = without_purged(node, address, playlist, &mut head.headers)?;
        let text = playlist.text().clone();
        return Ok(for_one_viewer(node, order, address, asked_at, (head, text)));
    }
    match playlist {
        Playlist::Media(media) if live::can_be_followed(node, address, &media) => {
            let age = age_on_arrival(&head.headers);
            let version = live::version_of(node, address, media, &head.headers, age);
            if !order
                .begun
                .lets_pass(node, &address.key(), version.fields())
            {
                // Purged meanwhile: for those who asked before, and nobody later.
                return Ok(once(node, order, asked_at, &head, text));
            }
            let may_be_sent_as_it_is = !version.parent_holds();
            match live::adopt(node, address, version) {
                Some(rendition) => Ok(Arrived::Once(Filled::Rendition(rendition))),
                None if may_be_sent_as_it_is => {
                    let playlist = Playlist::parse(text, &node.playlist_limits)
                        .map_err(|_| Failure::NotAPlaylist)?;
                    let playlist = without_purged(node, address, playlist, &mut head.headers)?;
                    Ok(once(node, order, asked_at, &head, playlist.text().clone()))
                }
                None => Ok(Arrived::Once(Filled::Failed(Failure::ParentSaturated))),
            }
        }
        playlist => {
            let playlist = without_purged(node, address, playlist, &mut head.headers)?;
            let text = playlist.text().clone();
            let policy = route::policy_of_playlist(node, address, &playlist, &order.policy);
            let order = FillOrder {
                policy,
                ..order.clone()
            };
            let body = GrowingBody::full(text.clone());
            let judged = order.judge(node, asked_at, head.status, &head.headers, body);
            Ok(complete(node, &order, judged, text))
        }
    }
}

/// Takes what was purged out of a playlist that no chain keeps.
fn without_purged(
    node: &Node,
    address: &Address,
    playlist: Playlist,
    fields: &mut HeaderMap,
) -> Result<Playlist, Failure> {
    match playlist {
        Playlist::Media(media) => purge::redacted_to_store(node, address, media, fields)
            .map(Playlist::Media)
            .map_err(|_| Failure::NotAPlaylist),
        Playlist::Multivariant(_) => Ok(playlist),
    }
}

/// A playlist for those who wait for it now, and nobody later.
fn once(
    node: &Node,
    order: &FillOrder,
    asked_at: SystemTime,
    head: &http::response::Parts,
    text: Bytes,
) -> Arrived {
    let body = GrowingBody::full(text);
    let judged = order.judge(node, asked_at, head.status, &head.headers, body);
    Arrived::Once(Filled::Response(Brought {
        status: head.status,
        response: judged.stored,
        refusal: Some(Uncacheable::NoLifetime),
    }))
}

/// A playlist for the one viewer whose URIs it has; whoever else waits for it asks anew.
fn for_one_viewer(
    node: &Node,
    order: &FillOrder,
    address: &Address,
    asked_at: SystemTime,
    (head, text): (http::response::Parts, Bytes),
) -> Arrived {
    node.uncacheable.insert(order.collapse_key.clone(), ());
    node.store.remove(&order.key);
    node.hub.forget(&address.key());
    let body = GrowingBody::full(text);
    let judged = order.judge(node, asked_at, head.status, &head.headers, body);
    let mut response = StoredResponse::clone(&judged.stored);
    // Caches of ours and others behind this node have seen only one of them.
    let of_one = HeaderValue::from_static("private, no-cache");
    response.headers.insert(header::CACHE_CONTROL, of_one);
    let refusal = Uncacheable::Private;
    let own = Own::Read(Brought {
        status: head.status,
        response: Arc::new(response),
        refusal: Some(refusal),
    });
    Arrived::Once(Filled::Unshared(Arc::new(Mutex::new(Some(own))), refusal))
}
