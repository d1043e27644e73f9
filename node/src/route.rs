//! The join: what a request is for, and so what is done about it and how its answer may be kept.
//!
//! `media` judges media, `cache` judges caching; this file translates the one into the other, and is
//! the only one that knows both. Who calls it: `exchange` for the plan, `fill` for the policy.

use std::sync::Arc;
use std::time::Duration;

use cache::{NegativeLifetimes, Policy};
use http::StatusCode;
use http::header::HeaderName;
use media::Kind;
use media::hls::Playlist;

use crate::live::{self, Address, Rendition};
use crate::node::Node;
use crate::request::{self, Request, Wants};
use crate::respond::Failure;

/// What is done about a request.
#[derive(Debug)]
pub enum Plan {
    /// Answer OPTIONS here.
    Preflight,
    /// Answer from a live playlist that this node follows.
    Live(Arc<Rendition>),
    /// Answer from the store or a fill.
    Cached,
    /// Say no without asking anyone.
    Refuse(Failure),
}

/// Plans a request, and says what it is for.
pub fn plan(node: &Node, request: &Request) -> (Plan, Kind) {
    if request.wants == Wants::Preflight {
        return (Plan::Preflight, Kind::Other);
    }
    if let Some(rendition) = node.hub.rendition(&request.rendition_key()) {
        return (Plan::Live(rendition), Kind::MediaPlaylist);
    }
    let kind = kind_of(node, request);
    let is_playlist = matches!(kind, Kind::MultivariantPlaylist | Kind::MediaPlaylist);
    if is_playlist && live::parse_directives(request).is_err() {
        // LL-05, LL-06: malformed directives are refused without asking the origin.
        return (Plan::Refuse(Failure::DirectivesMalformed), kind);
    }
    (Plan::Cached, kind)
}

/// Returns what a request is for: by what playlists have said, else by its path (CA-01).
fn kind_of(node: &Node, request: &Request) -> Kind {
    node.hub
        .kind(&request.key())
        .unwrap_or_else(|| Kind::from_path(&request.path))
}

/// The policies of a node, one per kind of media, made once (protocol.md 7).
#[derive(Clone, Debug)]
pub struct Policies {
    playlist: Arc<Policy>,
    part: Arc<Policy>,
    segment: Arc<Policy>,
    mpd: Arc<Policy>,
    other: Arc<Policy>,
}

impl Default for Policies {
    fn default() -> Self {
        let base = Policy {
            stale_if_error: Duration::from_secs(30),
            // Players state these on every request; they never select a representation.
            ignored_vary: [
                "origin",
                "cmcd-request",
                "cmcd-object",
                "cmcd-status",
                "cmcd-session",
            ]
            .map(HeaderName::from_static)
            .to_vec(),
            ..Policy::default()
        };
        let media = |negative: Duration| Policy {
            freshness_default: MEDIA_LIFETIME,
            negative_lifetimes: negative_lifetimes(negative),
            ..base.clone()
        };
        Self {
            playlist: Arc::new(Policy {
                freshness_default: PLAYLIST_LIFETIME,
                freshness_ceiling: PLAYLIST_LIFETIME_MAX,
                negative_lifetimes: negative_lifetimes(Duration::from_secs(1)),
                ..base.clone()
            }),
            // A hinted part that is not there yet may be there in a moment (FM-15).
            part: Arc::new(media(Duration::from_millis(100))),
            segment: Arc::new(media(Duration::from_millis(200))),
            mpd: Arc::new(Policy {
                freshness_default: MPD_LIFETIME,
                freshness_ceiling: MPD_LIFETIME,
                negative_lifetimes: negative_lifetimes(Duration::from_millis(500)),
                ..base.clone()
            }),
            other: Arc::new(Policy {
                stale_if_error: Duration::ZERO,
                ..base
            }),
        }
    }
}

impl Policies {
    /// Returns how responses of `kind` may be kept.
    pub fn of(&self, kind: Kind) -> Arc<Policy> {
        let policy = match kind {
            Kind::MultivariantPlaylist | Kind::MediaPlaylist => &self.playlist,
            Kind::Part => &self.part,
            Kind::InitSegment | Kind::Segment => &self.segment,
            Kind::Mpd => &self.mpd,
            // LL-29: a key is stored only where the origin says so.
            Kind::Key | Kind::Other => &self.other,
        };
        Arc::clone(policy)
    }
}

/// Lets what a playlist says decide how long it may be kept, and remembers what its children are.
pub fn policy_of_playlist(
    node: &Node,
    address: &Address,
    playlist: &Playlist,
    policy: &Arc<Policy>,
) -> Arc<Policy> {
    match playlist {
        Playlist::Multivariant(multivariant) => {
            for child in multivariant.media_playlists() {
                if let Some((host, target)) = live::locate_child(node, address, child.uri) {
                    let key = request::key_of_target(&host, &target);
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
        // Without blocking reload there is no chain: half a target duration, as rfc8216bis B.1 has it.
        Playlist::Media(media) => Arc::new(Policy {
            freshness_default: media.target_duration() / 2,
            freshness_ceiling: media.target_duration() / 2,
            stale_if_error: media.target_duration(), // CA-23
            ..Policy::clone(policy)
        }),
    }
}

fn negative_lifetimes(not_found: Duration) -> NegativeLifetimes {
    let by_status = vec![
        (StatusCode::NOT_FOUND, not_found),
        (StatusCode::GONE, not_found),
        // FM-16: successes that mean "not yet".
        (StatusCode::ACCEPTED, Duration::ZERO),
        (StatusCode::NO_CONTENT, Duration::ZERO),
    ];
    NegativeLifetimes::new(by_status, Duration::ZERO)
}

/// Segments and parts about which the origin says nothing: longer than any live window needs them.
const MEDIA_LIFETIME: Duration = Duration::from_secs(60);

/// Playlists about which the origin says nothing, before their target duration is known.
const PLAYLIST_LIFETIME: Duration = Duration::from_secs(2);

/// Multivariant playlists: an operator's change of the ladder shows within this time.
const PLAYLIST_LIFETIME_MAX: Duration = Duration::from_secs(10);

/// Playlists of ended presentations.
const ENDED_LIFETIME_MAX: Duration = Duration::from_secs(3600);

/// Manifests of live presentations change with every segment (LD-10).
const MPD_LIFETIME: Duration = Duration::from_secs(1);
