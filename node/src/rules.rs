//! What an operator says about hosts and paths: which rule a request falls under, and what it asks for.
//!
//! A node reads its rules once, at start. Who calls it: admission looks up the rule of a request, and
//! everything behind it asks that rule. Deliberately not here: how rules are written in a file (`config`),
//! and the caching arithmetic that their policies steer (`cache`).

use std::sync::Arc;
use std::time::Duration;

use cache::{NegativeLifetimes, Policy};
use http::StatusCode;
use http::header::HeaderName;
use media::Kind;

/// The rules of a node.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What holds where no other rule matches.
    fallback: Arc<Rule>,
}

impl Rules {
    /// Returns rules of which the only one drops these query parameters everywhere.
    pub fn dropping(query_dropped: Vec<String>) -> Self {
        Self {
            fallback: Arc::new(Rule {
                name: "default".to_owned(),
                query_dropped,
                ..Rule::default()
            }),
        }
    }

    /// Returns the rule for a host (in its normal form) and a path.
    pub fn of(&self, _host: &str, _path: &str) -> &Arc<Rule> {
        &self.fallback
    }
}

/// What an operator says about the requests that one rule matches.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Its name, as `seawall explain` and events show it.
    pub name: String,
    /// How responses may be kept, by kind of media.
    pub policies: Policies,
    /// Query parameters that never belong to a key and are not forwarded (CA-02).
    pub query_dropped: Vec<String>,
    /// Fields of the viewer's request that reach the parent, and by which `Vary` may select.
    pub forwarded_fields: Vec<HeaderName>,
    /// Whether methods other than GET, HEAD and OPTIONS are relayed; otherwise they get a 405.
    pub relays_methods: bool,
}

/// The policies of a rule, one per kind of media, made once (protocol.md 7).
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

/// Manifests of live presentations change with every segment (LD-10).
const MPD_LIFETIME: Duration = Duration::from_secs(1);
