//! The label values that metrics may have: every value of a few enums, and nothing a peer can choose.

use http::StatusCode;
use media::Kind;
use purge_log::Target;

use super::event::{Ending, FillEnding, Misbehavior, NextObject, SecondAttempt};
use crate::exchange::Protocol;
use crate::purge::State;
use crate::respond::{Failure, Outcome};
use crate::upstream::Class;

/// A type whose values are label values.
pub(super) trait LabelValue: Copy + PartialEq + 'static {
    /// Every value.
    const ALL: &'static [Self];

    /// Returns the text of the label.
    fn text(self) -> &'static str;

    /// Returns the place in [`LabelValue::ALL`].
    fn index(self) -> usize {
        Self::ALL
            .iter()
            .position(|&value| value == self)
            .expect("ALL is made from the same list as the exhaustive match in text()")
    }
}

/// From one list, both the exhaustive match and `ALL`: a new variant does not compile until it is named.
macro_rules! label_values {
    ($type:ident { $($variant:ident => $text:literal),* $(,)? }) => {
        impl LabelValue for $type {
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),*
                }
            }
        }
    };
}

/// The first digit of a status, or that there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatusClass {
    Success,
    Redirection,
    ClientError,
    ServerError,
    None,
}

impl StatusClass {
    pub(super) fn of(status: Option<StatusCode>) -> Self {
        match status.map(|status| status.as_u16() / 100) {
            Some(1 | 2) => Self::Success,
            Some(3) => Self::Redirection,
            Some(4) => Self::ClientError,
            Some(_) => Self::ServerError,
            None => Self::None,
        }
    }
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HoldResult {
    Released,
    Expired,
    Left,
}

/// Why a fill began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FillReason {
    Asked,
    Ahead,
}

/// What a purge is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PurgeKind {
    Url,
    Prefix,
    SurrogateKey,
    Stream,
    Host,
    All,
}

impl PurgeKind {
    pub(super) fn of(target: &Target) -> Self {
        match target {
            Target::Url { .. } | Target::Urls(_) => Self::Url,
            Target::Prefix { .. } => Self::Prefix,
            Target::SurrogateKeys(_) => Self::SurrogateKey,
            Target::Stream { .. } => Self::Stream,
            Target::Host(_) => Self::Host,
            Target::All => Self::All,
        }
    }
}

/// Whether a node knows of all purges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PurgeState {
    None,
    Starting,
    Current,
    Lagging,
}

impl PurgeState {
    pub(super) fn of(state: Option<State>) -> Self {
        match state {
            None => Self::None,
            Some(State::Starting) => Self::Starting,
            Some(State::Current) => Self::Current,
            Some(State::Lagging { .. }) => Self::Lagging,
        }
    }
}

label_values!(PurgeKind {
    Url => "url",
    Prefix => "prefix",
    SurrogateKey => "key",
    Stream => "stream",
    Host => "host",
    All => "all",
});
label_values!(PurgeState {
    None => "none", Starting => "starting", Current => "current", Lagging => "lagging",
});
label_values!(StatusClass {
    Success => "2xx", Redirection => "3xx", ClientError => "4xx", ServerError => "5xx", None => "none",
});
label_values!(HoldResult { Released => "released", Expired => "expired", Left => "left" });
label_values!(FillReason { Asked => "asked", Ahead => "ahead" });
label_values!(Protocol { Http1 => "h1", Http2 => "h2", Http3 => "h3" });
label_values!(Class { Parked => "parked", Bulk => "bulk" });
label_values!(Ending {
    Complete => "complete", ViewerLeft => "viewer_left", BodyFailed => "body_failed",
});
label_values!(FillEnding {
    Stored => "stored",
    NotStored => "not_stored",
    Rendition => "rendition",
    Unshared => "unshared",
    Abandoned => "abandoned",
    Purged => "purged",
    Failed => "failed",
});
label_values!(NextObject {
    Fetched => "fetched", Known => "known", Refused => "refused", OverBudget => "over_budget",
});
label_values!(SecondAttempt {
    Helped => "helped",
    NotNeeded => "not_needed",
    Failed => "failed",
    Abandoned => "abandoned",
    OverBudget => "over_budget",
});
label_values!(Misbehavior {
    AnsweredEarly => "answered_early",
    HeldTooLong => "held_too_long",
    PlaylistMalformed => "playlist_malformed",
    WentBack => "went_back",
    LifetimeMissing => "lifetime_missing",
    BodyShort => "body_short",
    HintNotKept => "hint_not_kept",
    PartLate => "part_late",
    TargetDurationChanged => "target_duration_changed",
    TooLong => "too_long",
    DateJumped => "date_jumped",
    MapMissing => "map_missing",
    UrisOfOneViewer => "uris_of_one_viewer",
    UrisSuspicious => "uris_suspicious",
});
label_values!(Outcome {
    Hit => "hit",
    Live => "live",
    Held => "held",
    Miss => "miss",
    Collapsed => "collapsed",
    Stale => "stale",
    Revalidated => "revalidated",
    Bypass => "bypass",
    Local => "local",
    Failed => "failed",
});
label_values!(Kind {
    MultivariantPlaylist => "multivariant_playlist",
    MediaPlaylist => "media_playlist",
    Mpd => "mpd",
    InitSegment => "init_segment",
    Segment => "segment",
    Part => "part",
    Key => "key",
    Other => "other",
});
label_values!(Failure {
    MethodNotAllowed => "method_not_allowed",
    UploadTooLarge => "upload_too_large",
    UploadStalled => "upload_stalled",
    UploadBroken => "upload_broken",
    RelaysTooMany => "relays_too_many",
    TargetTooLong => "target_too_long",
    HostMissing => "host_missing",
    PathRefused => "path_refused",
    ContentRefused => "content_refused",
    LoopDetected => "loop_detected",
    DirectivesMalformed => "directives_malformed",
    TooFarAhead => "too_far_ahead",
    HoldExpired => "hold_expired",
    HeldTooMany => "held_too_many",
    HeldTooManyOfClient => "held_too_many_of_client",
    HeldTooManyOfConnection => "held_too_many_of_connection",
    HintWithdrawn => "hint_withdrawn",
    RunEnded => "run_ended",
    PurgePending => "purge_pending",
    Purged => "purged",
    NotStored => "not_stored",
    ParentUnreachable => "parent_unreachable",
    ParentTimedOut => "parent_timed_out",
    ParentBroken => "parent_broken",
    NotAPlaylist => "not_a_playlist",
    TooLarge => "too_large",
    ParentSaturated => "parent_saturated",
});
