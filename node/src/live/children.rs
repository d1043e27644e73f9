//! What a playlist says about its children: which URIs are parts, and which are hinted.

use std::sync::Arc;

use cache::CacheKey;
use media::Kind;
use media::hls::{HintKind, MediaPlaylist};
use media::uri::Resolved;

use super::gate::PartEnds;
use super::hub::AtEdge;
use super::rendition::Address;
use crate::fill::{self, FillOrder};
use crate::node::Node;
use crate::request::{self, Query};
use crate::rules::Rules;

/// The children of one version that matter at the live edge.
#[derive(Debug)]
pub(super) struct Children {
    hinted: Vec<Child>,
    /// The newest parts that are files of their own.
    parts: Vec<CacheKey>,
    /// Where parts end that are ranges, by the resource they are ranges of.
    ranges: Vec<(CacheKey, PartEnds)>,
    /// The newest segments that are files of their own.
    segments: Vec<CacheKey>,
    /// The initialization segments.
    maps: Vec<CacheKey>,
    /// The newest decryption keys.
    keys: Vec<CacheKey>,
    /// How often something new comes, and how urgent it is.
    edge: AtEdge,
}

#[derive(Debug)]
struct Child {
    key: CacheKey,
    host: String,
    target: String,
    kind: Kind,
}

impl Children {
    pub(super) fn of(node: &Node, address: &Address, playlist: &MediaPlaylist) -> Self {
        let rules = &node.rules;
        let parts = playlist
            .parts()
            .rev()
            .take(PARTS_MAX)
            .filter(|part| part.byte_range.is_none());
        let parts = parts.filter_map(|part| locate(address, part.uri, rules));
        let has_ranges = playlist
            .parts()
            .next_back()
            .is_some_and(|part| part.byte_range.is_some());
        let hinted = playlist.preload_hints().filter_map(|hint| {
            let (host, target) = locate(address, hint.uri, rules)?;
            let is_range =
                has_ranges || hint.byterange_start > 0 || hint.byterange_length.is_some();
            let kind = match hint.kind {
                HintKind::Map => Kind::InitSegment,
                // A part that is a range of its segment is read from the growing segment.
                HintKind::Part if is_range => Kind::Segment,
                HintKind::Part => Kind::Part,
            };
            Some(Child {
                key: request::key_of_target(&host, &target),
                host,
                target,
                kind,
            })
        });
        let key = |(host, target): (String, String)| request::key_of_target(&host, &target);
        let parts: Vec<CacheKey> = parts.map(key).collect();
        let newest = playlist
            .segments()
            .rev()
            .take(SEGMENTS_MAX)
            .filter(|segment| segment.byte_range.is_none() && !segment.is_gap)
            .filter_map(|segment| locate(address, segment.uri, rules));
        let segments = newest.map(key).filter(|key| !parts.contains(key)).collect();
        let maps = playlist.maps().take(MAPS_MAX);
        let maps = maps.filter_map(|map| locate(address, map.uri, rules));
        let maps = maps.map(key).collect();
        let target = playlist.target_duration();
        Self {
            hinted: hinted.collect(),
            ranges: ranges(address, playlist, rules),
            parts,
            segments,
            maps,
            keys: keys(address, playlist, rules),
            edge: AtEdge {
                pace: playlist.part_target().unwrap_or(target / 2),
                urgency: node.hub.openers.urgency(&address.key()).unwrap_or_default(),
            },
        }
    }

    /// CA-01: what a URI is comes from the playlist that names it, not from its extension.
    pub(super) fn learn(&self, node: &Node) {
        for key in &self.segments {
            node.hub.learn_at_edge(key, Kind::Segment, self.edge);
        }
        for key in &self.parts {
            node.hub.learn_at_edge(key, Kind::Part, self.edge);
        }
        for key in &self.keys {
            node.hub.learn(key, Kind::Key);
        }
        for hint in self.hinted.iter().filter(|hint| hint.kind != Kind::Segment) {
            node.hub.learn_at_edge(&hint.key, hint.kind, self.edge);
        }
    }

    /// Returns the keys of the hinted resources.
    pub(super) fn hinted(&self) -> Vec<CacheKey> {
        self.hinted.iter().map(|hint| hint.key.clone()).collect()
    }

    /// Returns the keys of everything listed here.
    pub(super) fn keys(&self) -> impl Iterator<Item = CacheKey> {
        let hinted = self.hinted.iter().map(|hint| &hint.key);
        let listed = self.parts.iter().chain(&self.segments).chain(&self.maps);
        listed.chain(hinted).cloned()
    }

    /// Returns the keys of the newest parts and segments that are listed, and not just announced.
    ///
    /// A segment whose parts are ranges of it was hinted under its own name.
    pub(super) fn listed(&self) -> Vec<CacheKey> {
        self.parts.iter().chain(&self.segments).cloned().collect()
    }

    /// Says where parts end, so that ranges of growing segments are sent in whole ones (LL-17).
    pub(super) fn announce(&self, node: &Node) {
        for (key, ends) in &self.ranges {
            node.hub.gates.announce(key, ends);
        }
    }

    /// Fetches what is hinted before anyone asks for it (CA-15).
    pub(super) fn fetch_hinted(&self, node: &Arc<Node>) {
        for hint in &self.hinted {
            let target = hint.target.clone();
            fill::ahead(
                node,
                FillOrder::hinted(node, hint.key.clone(), &hint.host, target, hint.kind),
            );
        }
    }
}

/// Returns where the newest parts end that are ranges, and the ones that are announced.
fn ranges(address: &Address, playlist: &MediaPlaylist, rules: &Rules) -> Vec<(CacheKey, PartEnds)> {
    let mut ends: Vec<(&str, Vec<u64>)> = Vec::new();
    let mut note = |uri, more: &[u64]| match ends.iter_mut().find(|(known, _)| *known == uri) {
        Some((_, known)) => known.extend_from_slice(more),
        None => ends.push((uri, more.to_vec())),
    };
    let newest = playlist.parts().rev().take(PARTS_MAX);
    let mut has_ranges = false;
    for part in newest {
        let Some(range) = part.byte_range else {
            continue;
        };
        has_ranges = true;
        if let Some(start) = range.start {
            // Each end is a beginning, too: a playlist may have dropped the part before.
            note(part.uri, &[start, start.saturating_add(range.length)]);
        }
    }
    for hint in playlist.preload_hints() {
        let start = hint.byterange_start;
        let is_range = has_ranges || start > 0 || hint.byterange_length.is_some();
        if hint.kind != HintKind::Part || !is_range {
            continue;
        }
        let length = hint.byterange_length.unwrap_or(0);
        note(hint.uri, &[start, start.saturating_add(length)]);
    }
    let located = ends.into_iter().filter_map(|(uri, ends)| {
        let (host, target) = locate(address, uri, rules)?;
        Some((request::key_of_target(&host, &target), PartEnds::of(ends)))
    });
    located.collect()
}

/// Returns host and canonical target of a child URI, in the same normal form as a viewer's request for it.
///
/// A child on another host is not ours to fetch: viewers go there themselves.
pub(super) fn locate(address: &Address, uri: &str, rules: &Rules) -> Option<(String, String)> {
    let base = request::path_and_query(&address.path, &address.query);
    let target = match media::uri::resolve(&base, uri).ok()? {
        Resolved::PathAndQuery(target) => target,
        Resolved::Url(url) => {
            let (_, rest) = url.split_once("//")?;
            let (host, _) = rest.split_once(['/', '?']).unwrap_or((rest, ""));
            if request::plain_host(host)? != address.host {
                return None;
            }
            rest.get(host.len()..).unwrap_or("").to_owned()
        }
        Resolved::Other(_) => return None,
    };
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let path = if path.is_empty() { "/" } else { path };
    let query = Query::canonical(query, &rules.of(&address.host, path).query);
    let target = request::path_and_query(path, query.whole());
    Some((address.host.clone(), target))
}

/// Returns the newest decryption keys of a playlist.
pub(super) fn keys(address: &Address, playlist: &MediaPlaylist, rules: &Rules) -> Vec<CacheKey> {
    let keys = playlist.keys();
    let older = keys.len().saturating_sub(KEYS_MAX);
    let newest = keys.skip(older);
    let located = newest.filter_map(|key| locate(address, key.uri?, rules));
    located
        .map(|(host, target)| request::key_of_target(&host, &target))
        .collect()
}

/// Keys change every few minutes at most.
const KEYS_MAX: usize = 64;

/// The live edge: parts older than this are whole segments to most players.
const PARTS_MAX: usize = 64;

/// Older segments are rarely asked for the first time.
const SEGMENTS_MAX: usize = 4;

/// A stream changes its encoding at advertisements, and not more often.
const MAPS_MAX: usize = 16;
