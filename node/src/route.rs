//! The join: what a request is for, and so what is done about it and how its answer may be kept.
//!
//! `media` judges media, `cache` judges caching; this file translates the one into the other, and is
//! the only one that knows both. Who calls it: `exchange` for the plan, `fill` for the policy.

use std::sync::Arc;
use std::time::Duration;

use cache::Policy;
use media::Kind;
use media::dash::Mpd;
use media::hls::Playlist;

use crate::dash;
use crate::live::{self, Address, Rendition};
use crate::node::Node;
use crate::purge;
use crate::request::{self, Request, Wants};
use crate::respond::Failure;

/// What is done about a request.
#[derive(Debug)]
pub enum Plan {
    /// Answer OPTIONS here.
    Preflight,
    /// Tell the time (LD-13).
    Time,
    /// Answer from a live playlist that this node follows.
    Live(Arc<Rendition>),
    /// Answer from the store or a fill.
    Cached,
    /// Let a parent answer.
    Relay,
    /// Say no without asking anyone.
    Refuse(Failure),
}

/// Plans a request, and says what it is for.
pub fn plan(node: &Node, request: &Request) -> (Plan, Kind) {
    if request.wants == Wants::Preflight {
        return (Plan::Preflight, Kind::Other);
    }
    if request.wants == Wants::Effect {
        return (Plan::Relay, kind_of(node, request));
    }
    if request.target.path == dash::TIME_PATH {
        return (Plan::Time, Kind::Other);
    }
    if let Some(rendition) = node.hub.rendition(request.rendition_key()) {
        if request.is_ahead {
            return (Plan::Refuse(Failure::PurgePending), Kind::MediaPlaylist);
        }
        return (Plan::Live(rendition), Kind::MediaPlaylist);
    }
    let kind = kind_of(node, request);
    let is_gone = kind == Kind::Mpd && purge::denies_patch(node, request.key());
    if is_gone || request.target.is_of_purged() || node.purges.deny(request, kind) {
        return (Plan::Refuse(Failure::Purged), kind);
    }
    let is_playlist = matches!(kind, Kind::MultivariantPlaylist | Kind::MediaPlaylist);
    if is_playlist && live::parse_directives(request).is_err() {
        // LL-05, LL-06: malformed directives are refused without asking the origin.
        return (Plan::Refuse(Failure::DirectivesMalformed), kind);
    }
    (Plan::Cached, kind)
}

/// Returns what a request is for: by what playlists have said, else by its path (CA-01).
fn kind_of(node: &Node, request: &Request) -> Kind {
    let key = request.key();
    if let Some(kind) = node.hub.kind(key) {
        return kind;
    }
    match request.target.kind() {
        Kind::Other if node.mpds.patches.of(key).is_some() => Kind::Mpd,
        kind => kind,
    }
}

/// Lets what a playlist says decide how long it may be kept, and remembers what its children are.
pub fn policy_of_playlist(
    node: &Node,
    address: &Address,
    playlist: &Playlist,
    policy: &Arc<Policy>,
) -> Arc<Policy> {
    if let Playlist::Media(media) = playlist {
        live::learn_keys(node, address, media);
    }
    match playlist {
        Playlist::Multivariant(multivariant) => {
            let opener = Arc::new(address.clone());
            let ladder = live::Ladder::of(multivariant);
            for child in multivariant.media_playlists() {
                if let Some((host, target)) = live::locate_child(node, address, child.uri) {
                    let key = request::key_of_target(&host, &target);
                    let urgency = ladder.urgency(&child);
                    node.hub.openers.learn(&key, &opener, urgency);
                    node.hub.learn(&key, Kind::MediaPlaylist);
                }
            }
            Arc::clone(policy)
        }
        // It will not change any more (rfc8216bis 4.4.3.4).
        Playlist::Media(media) if media.is_ended() => Arc::new(Policy {
            freshness_ceiling: ENDED_LIFETIME_MAX,
            ..Policy::clone(policy)
        }),
        // Where no chain follows: half a target duration, as rfc8216bis B.1 has it.
        Playlist::Media(media) => Arc::new(Policy {
            freshness_default: media.target_duration() / 2,
            freshness_ceiling: media.target_duration() / 2,
            stale_if_error: media.target_duration(), // CA-23
            ..Policy::clone(policy)
        }),
    }
}

/// Lets an MPD's own update period decide how long it may be kept (LD-10).
///
/// A player takes an MPD it has just got to be good for a whole period. It is fresh here for half of one,
/// and served for the other half while it is brought anew, so that one refresh per half period is all a
/// parent sees. A period of zero means that everybody comes when an event says so, and for a newer one.
pub fn policy_of_mpd(mpd: &Mpd, policy: &Arc<Policy>) -> Arc<Policy> {
    if !mpd.is_dynamic() {
        return Arc::new(Policy {
            freshness_default: STATIC_LIFETIME,
            freshness_ceiling: ENDED_LIFETIME_MAX,
            ..Policy::clone(policy)
        });
    }
    let Some(period) = mpd.minimum_update_period else {
        return Arc::clone(policy);
    };
    let lifetime = (period / 2).min(policy.freshness_ceiling);
    Arc::new(Policy {
        freshness_default: lifetime,
        freshness_floor: policy.freshness_floor.min(lifetime),
        freshness_ceiling: lifetime,
        stale_while_revalidate: lifetime,
        ..Policy::clone(policy)
    })
}

/// Returns the policy for what its origin has for so long and no longer (LD-14).
pub fn policy_until_gone(left: Duration, policy: &Arc<Policy>) -> Arc<Policy> {
    let lifetime = policy.freshness_ceiling.min(left);
    Arc::new(Policy {
        freshness_default: policy.freshness_default.min(lifetime),
        freshness_floor: policy.freshness_floor.min(lifetime),
        freshness_ceiling: lifetime,
        stale_while_revalidate: policy.stale_while_revalidate.min(left - lifetime),
        ..Policy::clone(policy)
    })
}

/// MPDs that do not change any more, about which the origin says nothing.
const STATIC_LIFETIME: Duration = Duration::from_secs(60);

/// Playlists of ended presentations.
const ENDED_LIFETIME_MAX: Duration = Duration::from_secs(3600);
