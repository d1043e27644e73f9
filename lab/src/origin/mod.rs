//! A live origin that replays real CMAF media as an endless presentation.
//!
//! ```text
//! /live/index.m3u8, /live/manifest.mpd     LL-HLS and LL-DASH of the same segments
//! /plain/...                               the same, in whole segments only
//! /vod/...                                 one loop, on demand
//! /time                                    the wall clock, for LL-DASH players
//! /origin/counts.json, /origin/reset       requests per object
//! ```
//!
//! What is here: when what exists (`timeline`), what playlists say (`hls`, `dash`), who asked for what
//! (`counts`), what goes wrong (`fault`), and the server. Who calls it: `seawall origin`, the demonstration,
//! scenarios. Deliberately not here: the samples (`crate::media`), and any caching.

mod answers;
mod body;
mod counts;
mod dash;
mod fault;
mod hls;
mod live;
mod presentation;
mod resource;
mod respond;
mod server;
mod timeline;
mod wall;

#[cfg(test)]
mod tests;

pub use counts::{Counts, Family, Total};
pub use fault::{ACTIONS, Action, Fault, FaultError};
pub use hls::PartsAs;
pub use presentation::{Origin, OriginError};
pub use server::RunningOrigin;
pub use timeline::{PartId, Timeline};

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

/// How an origin presents its media.
#[derive(Clone)]
pub struct OriginConfig {
    /// Duration of a part; 100 ms to 2 s.
    pub part: Duration,
    /// Duration of a segment; whole seconds, 1 to 6.
    pub segment: Duration,
    /// Complete segments in a live playlist; at least 6.
    pub window: u64,
    /// Whether parts are files or ranges of their segment.
    pub parts_as: PartsAs,
    /// Makes every part weigh so many bytes, by a `free` box, for load tests.
    pub pad_parts_to: Option<usize>,
    /// Renditions by name (`v0`, `v1`, `v2`, `a0`); empty means all.
    pub renditions: Vec<String>,
    /// Wall time at the start, where the machine's clock should not count.
    pub start: Option<SystemTime>,
    /// What goes wrong from the start.
    pub faults: Vec<Fault>,
    /// Pages that somebody mounts beside the media; asked first.
    pub extra: Option<Extra>,
}

/// Answers a request, or leaves it to the origin.
pub type Extra = Arc<dyn Fn(&http::Request<()>) -> Option<http::Response<Bytes>> + Send + Sync>;

impl Default for OriginConfig {
    fn default() -> Self {
        Self {
            part: Duration::from_millis(500),
            segment: Duration::from_secs(2),
            window: 10,
            parts_as: PartsAs::Files,
            pad_parts_to: None,
            renditions: Vec::new(),
            start: None,
            faults: Vec::new(),
            extra: None,
        }
    }
}

impl std::fmt::Debug for OriginConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OriginConfig")
            .field("part", &self.part)
            .field("segment", &self.segment)
            .field("window", &self.window)
            .field("parts_as", &self.parts_as)
            .field("pad_parts_to", &self.pad_parts_to)
            .field("renditions", &self.renditions)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}
