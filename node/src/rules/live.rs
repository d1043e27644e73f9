//! What a rule says about live playlists: how origins behave that are not as the specification has them.
//!
//! Who calls it: the live hub and fills of playlists. Deliberately not here: how it is written (`config`),
//! and what holds for the node as a whole (`LiveConfig`).

use super::preset::Preset;

/// How live playlists of some hosts and paths are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRule {
    /// What it began with, if an operator named it.
    pub preset: Option<Preset>,
    /// Whether playlists without blocking reload are kept current by one poller.
    pub polls: bool,
    /// Whether viewers of such a playlist are told that this node holds requests.
    pub adds_server_control: bool,
    /// Whether an origin's session that idled out is opened again by asking for the multivariant
    /// playlist (FM-12).
    pub reopens: bool,
    /// Whether a stream that began again, or another origin's, is shown as going on behind a discontinuity.
    pub rebases: bool,
    /// What is done about playlists whose URIs are made for one viewer (CA-10).
    pub viewer_uris: ViewerUris,
    /// Query parameters that name a viewer or a session when they stand in a playlist's URIs.
    pub viewer_parameters: Vec<String>,
}

impl Default for LiveRule {
    fn default() -> Self {
        Self {
            preset: None,
            polls: true,
            adds_server_control: false,
            reopens: true,
            rebases: true,
            viewer_uris: ViewerUris::Refuse,
            viewer_parameters: VIEWER_PARAMETERS.map(str::to_owned).to_vec(),
        }
    }
}

/// What is done about a playlist whose URIs are found to be made for one viewer (CA-10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewerUris {
    /// It is not shared: each viewer gets one of its own from the parent.
    Refuse,
    /// It is shared, and reported.
    Report,
    /// Nothing is looked for.
    Ignore,
}

impl ViewerUris {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Refuse, Self::Report, Self::Ignore];

    /// Returns the name used in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Report => "report",
            Self::Ignore => "ignore",
        }
    }
}

/// Names by which packagers and advertisement inserters tell sessions apart.
const VIEWER_PARAMETERS: [&str; 8] = [
    "session",
    "sessionid",
    "session_id",
    "sid",
    "viewer",
    "viewerid",
    "viewer_id",
    "aws.sessionId",
];
