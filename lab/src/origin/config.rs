//! What an origin is told before it starts, and why it may refuse to start.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::fault::Fault;
use crate::media::MediaError;

/// Answers requests before the origin looks at them; `None` leaves a request to the origin.
///
/// The demo mounts its page with it.
pub type Extra = Arc<dyn Fn(&http::Request<()>) -> Option<http::Response<Bytes>> + Send + Sync>;

/// How parts are addressed in LL-HLS playlists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartsAs {
    /// Each part is a resource of its own: `seg12.3.m4s`.
    #[default]
    Files,
    /// A part is a byte range of its segment, which grows while it is produced.
    ByteRanges,
}

/// How a live origin behaves.
#[derive(Clone)]
pub struct OriginConfig {
    /// Duration of a part, 100 ms at least; the segment is divided evenly, so this is rounded to the
    /// next duration that divides it.
    pub part: Duration,
    /// Duration of a segment: 1 to 6 whole seconds.
    pub segment: Duration,
    /// Complete segments that a live playlist lists: 3 to 1000.
    pub window: u64,
    /// How parts are addressed in LL-HLS playlists.
    pub parts_as: PartsAs,
    /// Weight in bytes, at most [`PAD_BYTES_MAX`], that lighter parts are brought up to.
    pub pad_parts_to: Option<usize>,
    /// Whether `/live` is low latency; if not, it is what `/plain` is.
    pub low_latency: bool,
    /// How much was produced before the start; `None` is one window.
    pub history: Option<Duration>,
    /// The wall time at the start; `None` reads the machine's clock.
    pub start: Option<SystemTime>,
    /// Names of the renditions to offer, of `v0`, `v1`, `v2` and `a0`; empty is all.
    pub renditions: Vec<String>,
    /// The misbehavior to begin with.
    pub faults: Vec<Fault>,
    /// Pages that somebody else mounts.
    pub extra: Option<Extra>,
}

/// The most bytes that parts can be padded to.
pub const PAD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The shortest part.
pub(crate) const PART_MIN: Duration = Duration::from_millis(100);

impl Default for OriginConfig {
    fn default() -> Self {
        Self {
            part: Duration::from_millis(500),
            segment: Duration::from_secs(2),
            window: 12,
            parts_as: PartsAs::Files,
            pad_parts_to: None,
            low_latency: true,
            history: None,
            start: None,
            renditions: Vec::new(),
            faults: Vec::new(),
            extra: None,
        }
    }
}

impl fmt::Debug for OriginConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginConfig")
            .field("part", &self.part)
            .field("segment", &self.segment)
            .field("window", &self.window)
            .field("parts_as", &self.parts_as)
            .field("pad_parts_to", &self.pad_parts_to)
            .field("low_latency", &self.low_latency)
            .field("history", &self.history)
            .field("start", &self.start)
            .field("renditions", &self.renditions)
            .field("faults", &self.faults)
            .field("extra", &self.extra.is_some())
            .finish()
    }
}

/// Why an origin does not start.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The segment duration is not one the media can be cut into.
    #[error("the segment duration is {0:?}, allowed is 1 to 6 whole seconds")]
    Segment(Duration),
    /// The part duration is not one the segment can be cut into.
    #[error("the part duration is {0:?}, allowed is 100 ms to a segment")]
    Part(Duration),
    /// The window is too small to play from or too large to render.
    #[error("the window is {0}, allowed is 3 to 1000 segments")]
    Window(u64),
    /// The padding is out of bounds.
    #[error("the padded part size is {0}, allowed is at most 16 MiB")]
    Pad(usize),
    /// More was to be produced before the start than can be.
    #[error("the history is {0:?}, allowed is at most 24 hours")]
    History(Duration),
    /// There is no rendition of this name.
    #[error("there is no rendition `{0}`; there are v0, v1, v2 and a0, and one video is needed")]
    Rendition(String),
    /// The bundled media cannot be used.
    #[error("the bundled media cannot be read")]
    Media(#[from] MediaError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address or stop what uses it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}
