//! Purging part of a timeline: what is in it goes, for good, and no playlist names it any more.
//!
//! ```text
//! remember the stretch ─► raise the fence ─► rewrite live versions ─► deny and purge what they named
//!                                       ─► purge what is stored below and not known to be outside
//! later playlists      ─► rewrite ─► deny and purge what they named
//! ```
//!
//! Who calls it: `apply` for a hard purge of a stretch; the chain and fills for every playlist that comes, which
//! costs a load of one flag where nothing stands. What it calls: `media` for what is in the stretch and for the
//! rewriting. Deliberately not here: a soft purge of a stretch, which rewrites nothing and means the whole
//! presentation; MPDs (`mpds`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cache::{CacheKey, Purge, PurgeTarget, StoredResponse};
use http::{HeaderMap, header};
use media::Kind;
use media::hls::{self, Limits, Meant, MediaPlaylist, Playlist, PlaylistError, Stretch};
use purge_log::{Counts, StreamRange};

use super::apply::{add, plain};
use super::mpds;
use super::redactions::Reader;
use crate::live::{self, Address, Rendition};
use crate::node::Node;
use crate::request;

/// Part of a presentation's timeline.
#[derive(Clone, Debug)]
pub(super) struct Part {
    host: String,
    /// Begins and ends with a slash.
    directory: String,
    stretch: Stretch,
}

/// A playlist as it may be shown while part of its timeline is gone.
#[derive(Clone, Debug)]
pub(crate) struct Redacted {
    /// The playlist without what was purged.
    pub(crate) playlist: Arc<MediaPlaylist>,
    /// Uptime until which a delta update could be merged with a version from before the purge
    /// (rfc8216bis 6.2.5.1 lets players do so for half a skip boundary): twice that.
    pub(crate) whole_until: Duration,
    /// What was purged because this playlist named it.
    pub(crate) counts: Counts,
}

impl Part {
    pub(super) fn new(host: String, directory: &str, range: StreamRange) -> Self {
        let stretch = match range {
            StreamRange::Msn { first, last } => Stretch::Msn { first, last },
            StreamRange::WallClock { from, to } => Stretch::WallClock {
                from: Duration::from_millis(from.0),
                to: Duration::from_millis(to.0),
            },
        };
        Self {
            host,
            directory: directory.to_owned(),
            stretch,
        }
    }

    fn target(&self) -> PurgeTarget {
        PurgeTarget::Prefix {
            host: self.host.clone(),
            path: self.directory.clone(),
        }
    }
}

/// Purges part of a timeline; returns what that meant.
pub(super) fn purge(node: &Node, part: &Part) -> Counts {
    let below = part.target();
    let redactions = &node.purges.redactions;
    redactions.add(
        &part.host,
        &part.directory,
        part.stretch,
        node.clock.uptime(),
    );
    // A playlist that is being read must not be stored as it is.
    node.purges.raise(vec![below.clone()]);
    let mut counts = Counts::default();
    let mut kept = HashSet::new();
    for rendition in renditions_below(node, &below) {
        let change = rendition.redact(node);
        counts = sum(counts, change);
        if let Some(version) = rendition.version() {
            keep(node, &rendition.address, &version.playlist, &mut kept);
        }
    }
    for (address, playlist) in stored_playlists(node, &below) {
        let Playlist::Media(media) = playlist else {
            kept.insert(address.key());
            continue;
        };
        let media = Arc::new(media);
        match redacted(node, &address, &media) {
            Ok(None) => {
                kept.insert(address.key());
                keep(node, &address, &media, &mut kept);
            }
            Ok(Some(after)) => {
                counts = sum(counts, after.counts);
                keep(node, &address, &after.playlist, &mut kept);
            }
            Err(_) => {}
        }
    }
    mpds::deny_named(node, &below);
    let cut = node
        .fills
        .unlink_where(|key, _| below.means(key, &HeaderMap::new()) && !kept.contains(&plain(key)));
    counts.fills += cut.len() as u64;
    drop(cut);
    sum(counts, sweep(node, &below, &kept, true))
}

/// Returns what a purge of the part would mean.
pub(super) fn count(node: &Node, part: &Part) -> Counts {
    let below = part.target();
    let mut counts = Counts::default();
    let mut kept = HashSet::new();
    for rendition in renditions_below(node, &below) {
        let Some(version) = rendition.version() else {
            continue;
        };
        if look(node, part, &rendition.address, &version.playlist, &mut kept) {
            counts.responses += 1;
            counts.bytes += version.playlist.text().len() as u64;
        }
    }
    for (address, playlist) in stored_playlists(node, &below) {
        match playlist {
            Playlist::Media(media) => {
                look(node, part, &address, &media, &mut kept);
            }
            Playlist::Multivariant(_) => {
                kept.insert(address.key());
            }
        }
    }
    sum(counts, sweep(node, &below, &kept, false))
}

/// Adds what a playlist names outside of the part; returns whether it has to be rewritten.
fn look(
    node: &Node,
    part: &Part,
    address: &Address,
    playlist: &MediaPlaylist,
    kept: &mut HashSet<CacheKey>,
) -> bool {
    let meant = Meant::of(playlist, &[part.stretch]);
    kept.extend(keys(node, address, meant.kept_uris(playlist)));
    kept.extend(decryption_keys(node, address, playlist));
    if meant.is_none() {
        kept.insert(address.key());
    }
    !meant.is_none() && hls::redact(playlist, &meant) != *playlist.text()
}

/// Rewrites a playlist where part of its timeline is gone, and purges what it named there; `None` if it may be
/// shown as it is.
///
/// # Errors
///
/// The rewritten text cannot be read again. Then it must not be shown at all.
pub(crate) fn redacted(
    node: &Node,
    address: &Address,
    playlist: &Arc<MediaPlaylist>,
) -> Result<Option<Redacted>, PlaylistError> {
    let redactions = &node.purges.redactions;
    if !redactions.is_any() {
        return Ok(None);
    }
    let place = (address.host.as_str(), address.path.as_str());
    let uptime = node.clock.uptime();
    redactions.expire(place, Reader::Playlist, uptime, |stretch| {
        playlist.has_passed(stretch)
    });
    let Some(standing) = redactions.standing(place.0, place.1) else {
        return Ok(None);
    };
    let (meant, names_what_is_gone) = meant_of(node, address, playlist, &standing.stretches);
    let gone = keys(node, address, meant.uris(playlist))
        .filter(|_| names_what_is_gone)
        .collect();
    // Of thousands of names in a long window, few can be of something that is gone.
    let names: HashSet<&str> = meant.uris(playlist).map(name_of).collect();
    let mut uris: Vec<&str> = meant.kept_uris(playlist).collect();
    if playlist.is_i_frames_only() {
        // What it keeps of a segment says nothing of the segment.
        uris.retain(|uri| names.contains(name_of(uri)));
    } else {
        redactions.retain_known(place.0, place.1, &mut uris, |uri| {
            let name = name_of(uri);
            (name, names.contains(name))
        });
    }
    let kept = keys(node, address, uris).collect();
    let new = redactions.learn(place, &gone, &kept);
    let counts = purge_keys(node, new);
    if meant.is_none() {
        return Ok(None);
    }
    let text = hls::redact(playlist, &meant);
    let playlist = if text == *playlist.text() {
        Arc::clone(playlist)
    } else {
        read_again(node, text)?
    };
    let skip_boundary = playlist.can_skip_until().unwrap_or_default();
    Ok(Some(Redacted {
        whole_until: standing.purged_at + skip_boundary,
        playlist,
        counts,
    }))
}

/// Returns what is meant of a playlist, and whether it names what is gone: one of I-frames, which are ranges of
/// segments and have numbers of their own, does not say which segments a number means.
fn meant_of(
    node: &Node,
    address: &Address,
    playlist: &MediaPlaylist,
    stretches: &[Stretch],
) -> (Meant, bool) {
    let is_number = |stretch: &&Stretch| matches!(stretch, Stretch::Msn { .. });
    if !playlist.is_i_frames_only() {
        return (Meant::of(playlist, stretches), true);
    }
    let others = stretches.iter().filter(|stretch| !is_number(stretch));
    let others: Vec<Stretch> = others.copied().collect();
    let redactions = &node.purges.redactions;
    let is_gone = |uri: &str| {
        hls::is_purged(uri)
            || keys(node, address, [uri])
                .any(|key| redactions.knows(&address.host, &address.path, &key))
    };
    let has_number = stretches.iter().any(|stretch| is_number(&stretch));
    if has_number && !playlist.segments().any(|segment| is_gone(segment.uri)) {
        return (Meant::of(playlist, stretches), false);
    }
    let mut meant = Meant::of(playlist, &others);
    meant.add_resources(playlist, is_gone);
    (meant, true)
}

/// Rewrites a playlist that is about to be sent or stored, and takes away what described its text.
///
/// # Errors
///
/// As for [`redacted`].
pub(crate) fn redacted_to_store(
    node: &Node,
    address: &Address,
    playlist: MediaPlaylist,
    fields: &mut HeaderMap,
) -> Result<MediaPlaylist, PlaylistError> {
    let playlist = Arc::new(playlist);
    let Some(redacted) = redacted(node, address, &playlist)? else {
        return Ok(Arc::unwrap_or_clone(playlist));
    };
    for name in OF_THE_TEXT {
        fields.remove(name);
    }
    Ok(Arc::unwrap_or_clone(redacted.playlist))
}

fn read_again(node: &Node, text: Bytes) -> Result<Arc<MediaPlaylist>, PlaylistError> {
    // It was within the limits before; marks of absence add lines.
    let limits = Limits {
        bytes_max: usize::MAX,
        lines_max: usize::MAX,
        ..node.playlist_limits
    };
    match Playlist::parse(text, &limits)? {
        Playlist::Media(playlist) => Ok(Arc::new(playlist)),
        Playlist::Multivariant(_) => Err(PlaylistError::NotAPlaylist),
    }
}

/// Purges URLs: fence, fills, store.
pub(super) fn purge_keys(node: &Node, keys: Vec<CacheKey>) -> Counts {
    let mut counts = Counts::default();
    if keys.is_empty() {
        return counts;
    }
    let targets = keys.into_iter().map(|key| PurgeTarget::Url {
        key,
        besides: Vec::new(),
    });
    let targets = node.purges.raise(targets.collect());
    let urls: HashSet<&CacheKey> = targets
        .iter()
        .filter_map(|target| match target {
            PurgeTarget::Url { key, .. } => Some(key),
            _ => None,
        })
        .collect();
    let cut = node.fills.unlink_where(|key, _| urls.contains(&plain(key)));
    counts.fills += cut.len() as u64;
    drop(cut);
    for target in targets.iter() {
        add(&mut counts, node.store.purge(target.clone(), Purge::Hard));
    }
    counts
}

/// Counts the stored responses below that are not kept, and removes them if they are to go.
fn sweep(node: &Node, below: &PurgeTarget, kept: &HashSet<CacheKey>, is_to_go: bool) -> Counts {
    let mut counts = Counts::default();
    let mut keys = HashSet::new();
    node.store.look(below.clone(), |key, response| {
        if !kept.contains(&plain(key)) {
            counts.responses += 1;
            counts.bytes += response.body.progress().received;
            keys.insert(key.clone());
        }
    });
    if is_to_go {
        for key in keys {
            let besides = Vec::new();
            node.store
                .purge(PurgeTarget::Url { key, besides }, Purge::Hard);
        }
    }
    counts
}

fn renditions_below(node: &Node, below: &PurgeTarget) -> Vec<Arc<Rendition>> {
    let mut renditions = node.hub.renditions();
    renditions.retain(|rendition| below.means(&rendition.address.key(), &HeaderMap::new()));
    renditions
}

/// Returns the playlists in the store: those that no chain follows.
fn stored_playlists(node: &Node, below: &PurgeTarget) -> Vec<(Address, Playlist)> {
    let mut found = HashMap::new();
    node.store.look(below.clone(), |key, response| {
        if is_playlist(node, key, response) {
            let mut text = BytesMut::new();
            for slice in response.body.slices() {
                text.extend_from_slice(slice);
            }
            found.insert(key.clone(), text.freeze());
        }
    });
    let read = |(key, text)| {
        let playlist = Playlist::parse(text, &node.playlist_limits).ok()?;
        Some((address_of(&key)?, playlist))
    };
    found.into_iter().filter_map(read).collect()
}

fn is_playlist(node: &Node, key: &CacheKey, response: &StoredResponse) -> bool {
    let content_type = response.headers.get(header::CONTENT_TYPE);
    let by_type = content_type
        .and_then(|value| value.to_str().ok())
        .and_then(Kind::from_content_type);
    let path = key.as_str().split(['?', '\n']).next().unwrap_or("");
    let kind = by_type.or_else(|| node.hub.kind(key));
    matches!(
        kind.unwrap_or_else(|| Kind::from_path(path)),
        Kind::MultivariantPlaylist | Kind::MediaPlaylist
    )
}

/// Reads a key, which is `//host/path?query`.
pub(super) fn address_of(key: &CacheKey) -> Option<Address> {
    let key = plain(key);
    let rest = key.as_str().strip_prefix("//")?;
    let (host, path) = rest.split_at_checked(rest.find('/')?)?;
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    Some(Address {
        host: host.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
    })
}

/// Adds what a playlist names, which is outside of what is gone.
fn keep(node: &Node, address: &Address, playlist: &MediaPlaylist, kept: &mut HashSet<CacheKey>) {
    let nothing = Meant::of(playlist, &[]);
    kept.extend(keys(node, address, nothing.kept_uris(playlist)));
    kept.extend(decryption_keys(node, address, playlist));
}

fn decryption_keys(
    node: &Node,
    address: &Address,
    playlist: &MediaPlaylist,
) -> impl Iterator<Item = CacheKey> {
    let uris = playlist.keys().filter_map(|key| key.uri);
    keys(node, address, uris)
}

fn keys<'a>(
    node: &Node,
    address: &Address,
    uris: impl IntoIterator<Item = &'a str>,
) -> impl Iterator<Item = CacheKey> {
    uris.into_iter().filter_map(move |uri| {
        let (host, target) = live::locate_child(node, address, uri)?;
        Some(request::key_of_target(&host, &target))
    })
}

/// Returns the last segment of a URI's path.
fn name_of(uri: &str) -> &str {
    let path = uri.split(['?', '#']).next().unwrap_or("");
    path.rsplit('/').next().unwrap_or(path)
}

fn sum(a: Counts, b: Counts) -> Counts {
    Counts {
        responses: a.responses + b.responses,
        bytes: a.bytes + b.bytes,
        fills: a.fills + b.fills,
    }
}

/// Fields that describe the text as the parent sent it: with them, a viewer's copy from before the purge would
/// be told that it is still good.
pub(super) const OF_THE_TEXT: [&str; 7] = [
    "etag",
    "last-modified",
    "content-length",
    "content-md5",
    "content-digest",
    "repr-digest",
    "digest",
];
