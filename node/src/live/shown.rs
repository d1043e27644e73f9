//! What becomes of a parent's playlist before viewers see it.
//!
//! ```text
//! version ─► the run it is of ─► without what was purged ─► with true reports of its siblings
//! ```
//!
//! Called by whoever publishes a version, once for each. Deliberately not here: whether it is shown at all (`rendition`).

use std::sync::Arc;
use std::time::Duration;

use media::hls::{Playlist, with_reports};

use super::children::locate;
use super::rendition::{Address, Phase};
use super::runs;
use super::version::Version;
use crate::node::Node;
use crate::purge;
use crate::request;

/// Returns a version as viewers are shown it, and whether something was taken away; `None` if it cannot be shown.
pub(super) fn as_shown(
    node: &Node,
    address: &Address,
    version: Version,
) -> Option<(Version, bool)> {
    let version = match runs::shown(node, address, &version.origin).ok()? {
        Some((playlist, whole_until)) => version.shown_as(playlist, whole_until),
        None => version,
    };
    let (version, is_redacted) = match purge::redacted(node, address, &version.playlist).ok()? {
        None => (version, false),
        Some(redacted) => (version.without(redacted), true),
    };
    Some((with_true_reports(node, address, version), is_redacted))
}

/// Lets a version say of the renditions that are followed here what this node has of them (FM-24).
fn with_true_reports(node: &Node, address: &Address, version: Version) -> Version {
    let newest_of = |uri: &str| {
        let (host, target) = locate(address, uri, &node.rules)?;
        let sibling = node
            .hub
            .rendition(&request::key_of_target(&host, &target))?;
        if sibling.phase() != Phase::Following {
            return None; // Its parent knows better.
        }
        sibling.version()?.playlist.reported_position()
    };
    let Some(text) = with_reports(&version.playlist, newest_of) else {
        return version;
    };
    match Playlist::parse(text, &node.playlist_limits) {
        Ok(Playlist::Media(playlist)) => version.shown_as(Arc::new(playlist), Duration::ZERO),
        // A playlist at its very limits is shown as it came.
        Ok(Playlist::Multivariant(_)) | Err(_) => version,
    }
}
