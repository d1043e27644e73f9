//! Origins without blocking reload: which of their playlists are followed, and what viewers are told.
//!
//! Such a playlist has one poller, whoever watches: the rendition's chain, which asks when the playlist's
//! [cadence](super::cadence) says so. Viewers are answered from the newest version at once. Where an operator
//! says so, they are also told that this node holds requests; then it does (`live.add_server_control`).
//! Between nodes nothing is polled: a node tells its children in a field that it holds their requests, and
//! they ask for what comes next.
//!
//! Who calls it: chains and fills, with every playlist of a parent. Deliberately not here: the asking
//! (`chain`), and how the tag is written (`media::hls::with_server_control`).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, header};
use media::Kind;
use media::hls::{MediaPlaylist, Playlist, PlaylistType, with_server_control};

use super::rendition::Address;
use super::version::Version;
use crate::node::Node;
use crate::rules::Rule;

/// What a parent of ours says that holds requests for what is to come.
pub(super) const HOLDS: HeaderName = HeaderName::from_static("seawall-holds");

/// Returns whether a playlist can be followed: it is live, and its parent holds requests or may be polled.
pub(crate) fn can_be_followed(node: &Node, address: &Address, playlist: &MediaPlaylist) -> bool {
    let is_live = !playlist.is_ended() && playlist.skip().is_none();
    is_live && (playlist.can_block_reload() || may_be_polled(node, address, playlist))
}

fn may_be_polled(node: &Node, address: &Address, playlist: &MediaPlaylist) -> bool {
    let will_change = playlist.playlist_type() != Some(PlaylistType::Vod);
    will_change && rule_of(node, address).live.polls
}

/// Returns the version of a parent's playlist that viewers get, as it arrived now.
pub(crate) fn version_of(
    node: &Node,
    address: &Address,
    playlist: MediaPlaylist,
    received: &HeaderMap,
    initial_age: Duration,
) -> Version {
    let parent_holds = playlist.can_block_reload() || received.contains_key(HOLDS);
    let rule = rule_of(node, address);
    let shown = if rule.live.adds_server_control {
        told_to_hold(node, &playlist).unwrap_or(playlist)
    } else {
        playlist
    };
    let mut received = Cow::Borrowed(received);
    let policy = rule.policies.of(Kind::MediaPlaylist);
    if policy.ignore_cache_control {
        // What is ignored here is not said to children and viewers either.
        received.to_mut().remove(header::CACHE_CONTROL);
    }
    Version::new(Arc::new(shown), &received, node.clock.uptime(), initial_age)
        .of_parent(parent_holds)
}

/// Returns the playlist with the word that requests are held; `None` if there is nothing to say.
fn told_to_hold(node: &Node, playlist: &MediaPlaylist) -> Option<MediaPlaylist> {
    let text: Bytes = with_server_control(playlist)?;
    match Playlist::parse(text, &node.playlist_limits) {
        Ok(Playlist::Media(told)) => Some(told),
        // A playlist at its very limits is shown as it came.
        Ok(Playlist::Multivariant(_)) | Err(_) => None,
    }
}

/// Returns the conditions under which a poll is answered with a whole playlist (RFC 9110 13.1).
pub(super) fn conditions(received: &HeaderMap) -> HeaderMap {
    let mut conditions = HeaderMap::new();
    let pairs = [
        (header::ETAG, header::IF_NONE_MATCH),
        (header::LAST_MODIFIED, header::IF_MODIFIED_SINCE),
    ];
    for (validator, condition) in pairs {
        if let Some(value) = received.get(validator) {
            conditions.insert(condition, HeaderValue::clone(value));
        }
    }
    conditions
}

/// Returns how long a rendition is followed after its last viewer asked.
///
/// Viewers of what is not held ask once per target duration: two of them without a request mean that
/// nobody watches.
pub(super) fn idle_after(node: &Node, version: Option<&Version>) -> Duration {
    let between = version.map_or(Duration::ZERO, |v| v.playlist.target_duration() * 2);
    node.live.idle_after.max(between.min(IDLE_AFTER_MAX))
}

fn rule_of<'n>(node: &'n Node, address: &Address) -> &'n Rule {
    node.rules.of(&address.host, &address.path)
}

/// A playlist that claims to change more rarely is not followed for longer on its word.
const IDLE_AFTER_MAX: Duration = Duration::from_secs(120);
