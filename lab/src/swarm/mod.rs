//! A viewer swarm: players without screens that put real load on a CDN and measure what they see.
//!
//! It plays any HLS URL over HTTP/1.1, HTTP/2 or HTTP/3, low-latency where the playlist offers it:
//!
//! ```text
//! run     checks the configuration, starts threads, reports       report, counts
//!  └ viewer   one task per viewer: requests as futures, timers    content, measure
//!     ├ player    pure: which renditions, buffer, switches        buffer
//!     │  └ track      pure: playlist in, next requests out        listed
//!     └ client    one GET over the chosen protocol                network, tls
//! ```
//!
//! Beside it, [`load()`] is plain closed-loop load and [`hold()`] keeps blocking requests in place.
//! The command line calls these three. Nothing here decodes media or judges caching.

mod buffer;
mod chance;
mod client;
mod clock;
mod config;
mod content;
mod counts;
mod fleet;
mod hold;
mod listed;
mod load;
mod location;
mod measure;
mod player;
mod report;
mod run;
mod track;
mod viewer;

#[cfg(test)]
mod e2e;
#[cfg(test)]
mod stage;

pub use client::{Protocol, TrustError};
pub use config::{BufferModel, StartRendition, SwarmConfig, Timeouts, Trust, Wants};
pub use counts::{KindCounts, OriginCounts};
pub use fleet::ThreadError;
pub use hold::{HoldAsks, HoldConfig, HoldProgress, HoldReport, hold};
pub use load::{LoadConfig, LoadProgress, LoadReport, Until, load};
pub use location::{Location, LocationError};
pub use report::{
    AddedLatency, Errors, MediaFigures, Named, Playback, Playlists, Quantiles, Report, Requests,
    Viewers,
};
pub use run::{Progress, SwarmError, THREADS_MAX, VIEWERS_MAX, run};
