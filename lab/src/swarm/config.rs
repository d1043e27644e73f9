//! What a run of the swarm is told: where, how many, how they play.
//!
//! Plain values; the command line fills them, [`super::run()`] checks and uses them.

use std::net::SocketAddr;
use std::time::Duration;

use super::client::Protocol;

/// A run of the viewer swarm.
#[derive(Debug, Clone)]
pub struct SwarmConfig {
    /// The multivariant playlist, or a media playlist.
    pub url: String,
    /// How many viewers play.
    pub viewers: usize,
    /// The time over which they arrive, evenly spaced.
    pub ramp: Duration,
    /// When the run ends, counted from its start; it ends sooner when every viewer has seen the end
    /// of the presentation.
    pub duration: Duration,
    /// What is published sooner after the start is not timed: viewers that still arrive cost the
    /// machine more than those that play.
    pub settle: Duration,
    /// The HTTP version.
    pub protocol: Protocol,
    /// HTTP/1.1: connections a viewer keeps per host. Browsers: 6.
    pub connections_per_viewer: usize,
    /// HTTP/2 and HTTP/3: viewers that share a connection. Real ones: 1.
    pub viewers_per_connection: usize,
    /// Connect here whatever the URL's host says (like curl's `--connect-to`).
    pub connect_to: Option<SocketAddr>,
    /// Which certificates are accepted.
    pub trust: Trust,
    /// When parts are asked for.
    pub wants: Wants,
    /// Ask for delta updates where the playlist offers them.
    pub delta_updates: bool,
    /// Change to another variant this often.
    pub abr_switch_every: Option<Duration>,
    /// The probability that a part or playlist request is given up halfway (0 to 1).
    pub abort_probability: f64,
    /// The variant a viewer starts with.
    pub start_rendition: StartRendition,
    /// Play the demuxed audio rendition as well, where there is one.
    pub audio: bool,
    /// When playing starts and stops.
    pub buffer: BufferModel,
    /// How long a request may take before the player gives it up.
    pub timeouts: Timeouts,
    /// Threads, each with its own current-thread runtime.
    pub threads: usize,
    /// The seed of all chance.
    pub seed: u64,
    /// Where our origin tells its counts (`.../origin/counts.json`), fetched at the end.
    pub counts_url: Option<String>,
}

impl SwarmConfig {
    /// Returns a run of one HTTP/2 viewer for 30 s, as a low-latency player behaves.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            viewers: 1,
            ramp: Duration::ZERO,
            duration: Duration::from_secs(30),
            settle: Duration::ZERO,
            protocol: Protocol::Http2,
            connections_per_viewer: 6,
            viewers_per_connection: 1,
            connect_to: None,
            trust: Trust::System,
            wants: Wants::Hint,
            delta_updates: true,
            abr_switch_every: None,
            abort_probability: 0.0,
            start_rendition: StartRendition::Mixed,
            audio: true,
            buffer: BufferModel::default(),
            timeouts: Timeouts::default(),
            threads: 1,
            seed: 1,
            counts_url: None,
        }
    }
}

/// Which server certificates are accepted.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Those the system trusts.
    System,
    /// Those signed by these, as PEM text.
    Pem(Vec<u8>),
    /// Any: for test nodes with a certificate made on the spot.
    Insecure,
}

/// When parts are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Wants {
    /// As soon as they are hinted, before they exist (AVPlayer, ExoPlayer, Shaka).
    Hint,
    /// When the playlist lists them (hls.js).
    Listed,
}

/// The variant a viewer starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StartRendition {
    /// The lowest bandwidth.
    Lowest,
    /// The highest bandwidth.
    Highest,
    /// Any, evenly.
    Mixed,
}

/// When a simulated player starts, stalls and goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BufferModel {
    /// Low-latency playback starts with this many parts buffered.
    pub start_parts: u32,
    /// After a stall it goes on with this many parts buffered.
    pub resume_parts: u32,
    /// Other playback starts, and goes on, with this many segments buffered.
    pub start_segments: u32,
    /// Nothing is fetched further ahead than this.
    pub ahead_max: Duration,
}

impl Default for BufferModel {
    fn default() -> Self {
        Self {
            start_parts: 3,
            resume_parts: 2,
            start_segments: 1,
            ahead_max: Duration::from_secs(30),
        }
    }
}

/// How long a request may take before the player gives it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Playlists, held ones included. ExoPlayer: 8 s.
    pub playlist: Duration,
    /// Parts and segments, hinted ones included.
    pub media: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            playlist: Duration::from_secs(8),
            media: Duration::from_secs(10),
        }
    }
}
