//! How responses may be kept, by kind of media.
//!
//! Who calls it: `fill` for a policy, `config` to change what an operator wants otherwise. Deliberately not here:
//! what a playlist's own text says about its lifetime (`route`).

use std::sync::Arc;
use std::time::Duration;

use cache::{NegativeLifetimes, Policy};
use http::StatusCode;
use http::header::HeaderName;
use media::Kind;

/// Kinds of media that are kept alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// HLS playlists that are not followed live.
    Playlist,
    /// Partial Segments.
    Part,
    /// Segments and initialization segments.
    Segment,
    /// DASH manifests.
    Mpd,
    /// Decryption keys.
    Key,
    /// Everything else.
    Other,
}

impl Group {
    /// Every group, in the order in which they are shown.
    pub const ALL: [Self; 6] = [
        Self::Playlist,
        Self::Part,
        Self::Segment,
        Self::Mpd,
        Self::Key,
        Self::Other,
    ];

    /// Returns the group of a kind.
    pub const fn of(kind: Kind) -> Self {
        match kind {
            Kind::MultivariantPlaylist | Kind::MediaPlaylist => Self::Playlist,
            Kind::Part => Self::Part,
            Kind::InitSegment | Kind::Segment => Self::Segment,
            Kind::Mpd => Self::Mpd,
            Kind::Key => Self::Key,
            Kind::Other => Self::Other,
        }
    }

    /// Returns the name used in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Playlist => "playlist",
            Self::Part => "part",
            Self::Segment => "segment",
            Self::Mpd => "mpd",
            Self::Key => "key",
            Self::Other => "other",
        }
    }

    fn default_policy(self, base: &Policy) -> Policy {
        let media = |not_found: Duration| Policy {
            freshness_default: MEDIA_LIFETIME,
            negative_lifetimes: negative_lifetimes(not_found),
            ..base.clone()
        };
        match self {
            Self::Playlist => Policy {
                freshness_default: PLAYLIST_LIFETIME,
                freshness_ceiling: PLAYLIST_LIFETIME_MAX,
                negative_lifetimes: negative_lifetimes(Duration::from_secs(1)),
                ..base.clone()
            },
            // A hinted part that is not there yet may be there in a moment (FM-15).
            Self::Part => media(Duration::from_millis(100)),
            Self::Segment => media(Duration::from_millis(200)),
            Self::Mpd => Policy {
                freshness_default: MPD_LIFETIME,
                freshness_ceiling: MPD_LIFETIME,
                negative_lifetimes: negative_lifetimes(Duration::from_millis(500)),
                ..base.clone()
            },
            // LL-29: a key is stored only where the origin says so.
            Self::Key | Self::Other => Policy {
                stale_if_error: Duration::ZERO,
                ..base.clone()
            },
        }
    }
}

/// The policies of a rule, one per group, made once (protocol.md 7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policies {
    /// In the order of [`Group::ALL`].
    by_group: [Arc<Policy>; Group::ALL.len()],
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
            targeted_fields: targeted_fields(),
            ..Policy::default()
        };
        Self {
            by_group: Group::ALL.map(|group| Arc::new(group.default_policy(&base))),
        }
    }
}

impl Policies {
    /// Returns how responses of `kind` may be kept.
    pub fn of(&self, kind: Kind) -> Arc<Policy> {
        Arc::clone(self.of_group(Group::of(kind)))
    }

    /// Returns how responses of `group` may be kept.
    pub fn of_group(&self, group: Group) -> &Arc<Policy> {
        &self.by_group[group as usize]
    }

    /// Returns the same policies with a change to each.
    #[must_use]
    pub fn with(mut self, mut change: impl FnMut(Group, &mut Policy)) -> Self {
        for group in Group::ALL {
            change(group, Arc::make_mut(&mut self.by_group[group as usize]));
        }
        self
    }
}

/// The targeted fields that this node obeys, its own first (RFC 9213 2.2).
pub fn targeted_fields() -> Vec<HeaderName> {
    ["seawall-cdn-cache-control", "cdn-cache-control"]
        .map(HeaderName::from_static)
        .to_vec()
}

fn negative_lifetimes(not_found: Duration) -> NegativeLifetimes {
    let by_status = vec![
        // FM-16: successes that mean "not yet".
        (StatusCode::ACCEPTED, Duration::ZERO),
        (StatusCode::NO_CONTENT, Duration::ZERO),
        (StatusCode::NOT_FOUND, not_found),
        (StatusCode::GONE, not_found),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_its_own_policy() {
        let policies = Policies::default().with(|group, policy| {
            policy.freshness_floor = Duration::from_secs(group as u64);
        });
        for (kind, seconds) in [
            (Kind::MultivariantPlaylist, 0),
            (Kind::MediaPlaylist, 0),
            (Kind::Part, 1),
            (Kind::InitSegment, 2),
            (Kind::Segment, 2),
            (Kind::Mpd, 3),
            (Kind::Key, 4),
            (Kind::Other, 5),
        ] {
            let floor = policies.of(kind).freshness_floor;
            assert_eq!(floor, Duration::from_secs(seconds), "{kind:?}");
        }
    }

    #[test]
    fn ll_29_a_key_has_no_lifetime_that_its_origin_did_not_state() {
        let policy = Policies::default().of(Kind::Key);
        assert_eq!(policy.freshness_default, Duration::ZERO);
        assert_eq!(policy.stale_if_error, Duration::ZERO);
    }
}
