//! Opening an origin's session again that idled out while everybody was served from here (FM-12).
//!
//! Some packagers open a session when the multivariant playlist is asked for and close it when nothing of it
//! was asked for in a while; from then on its media playlists are 401, 403, 404 or 410. Behind a cache nothing
//! is asked for in a while as a matter of course. So whoever follows a rendition then asks for the
//! multivariant playlist that named it, and goes on.
//!
//! Who calls it: chains; multivariant playlists are learned from fills. Deliberately not here: asking for the
//! media playlist again (`chain`).

use std::sync::Arc;

use cache::CacheKey;
use http::header::HOST;
use http::{Request as Head, StatusCode};
use media::Kind;
use moka::sync::Cache;
use tokio::time::Instant;

use super::rendition::Address;
use super::urgency::MediaUrgency;
use crate::fill::{self, Asked, FillOrder};
use crate::node::Node;
use crate::request::{self, Request};

/// Which multivariant playlist named which rendition, most recently.
#[derive(Debug)]
pub(crate) struct Openers {
    by_rendition: Cache<CacheKey, (Arc<Address>, MediaUrgency)>,
}

impl Default for Openers {
    fn default() -> Self {
        Self {
            by_rendition: Cache::new(RENDITIONS_MAX),
        }
    }
}

impl Openers {
    /// Returns the playlist that named the rendition of this key.
    pub(super) fn of(&self, rendition: &CacheKey) -> Option<Arc<Address>> {
        Some(self.by_rendition.get(rendition)?.0)
    }

    /// Returns how urgent the media of this rendition is among that of its presentation.
    pub(super) fn urgency(&self, rendition: &CacheKey) -> Option<MediaUrgency> {
        Some(self.by_rendition.get(rendition)?.1)
    }

    /// Remembers that the playlist at `opener` names the rendition of this key, and how urgent its media is.
    pub(crate) fn learn(&self, rendition: &CacheKey, opener: &Arc<Address>, urgency: MediaUrgency) {
        self.by_rendition
            .insert(rendition.clone(), (Arc::clone(opener), urgency));
    }
}

/// Returns whether an answer of this status may mean that the origin's session is over.
pub(super) fn may_be_over(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 404 | 410)
}

/// Asks the parent for the multivariant playlist that named a rendition, whatever is stored of it.
///
/// Renditions of one presentation that lose their session at the same moment share one request. What comes
/// of it shows when the media playlist is asked for again.
pub(super) async fn reopen(node: &Arc<Node>, address: &Address) {
    let Some(opener) = node.hub.openers.of(&address.key()) else {
        return;
    };
    let target = request::path_and_query(&opener.path, &opener.query);
    let head = Head::get(target).header(HOST, &opener.host).body(());
    let Some(Ok(request)) = head
        .ok()
        .map(|head| Request::admit(head, &node.admission(Instant::now())))
    else {
        return;
    };
    let kind = Kind::MultivariantPlaylist;
    let mut asked = Asked::of(node, &request, kind);
    asked.directives.no_cache = true;
    let order = FillOrder::of(node, &request, kind, asked);
    let (_filled, _is_collapsed) = fill::obtain(node, &order).await;
    let (host, path) = (&address.host, &address.path);
    tracing::info!(%host, %path, "asked for the multivariant playlist to open the origin's session again");
}

/// As many as a node may have learned URIs of.
const RENDITIONS_MAX: u64 = 50_000;
