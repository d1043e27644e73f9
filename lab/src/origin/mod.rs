//! A live origin: bundled media replayed as an endless live presentation, with scripted faults.
//!
//! What is here: LL-HLS (rfc8216bis), plain HLS, LL-DASH and DASH of the same CMAF media, a VOD of the
//! loop, what was asked and how often, and misbehavior on demand.
//! Who calls it: `seawall origin` and `seawall demo` bind it to a socket ([`Origin::bind`]); the test harness
//! serves single connections of a simulated network ([`Origin::serve_connection`]).
//! Deliberately not here: anything the product runs on. An origin that shared code with the edge would
//! share its mistakes.
//!
//! ```text
//! server -> respond -> address      which resource a path names
//!                   -> live         what is published, and waiting for what is not
//!                   -> multivariant, playlist, dash   text of playlists and manifests
//!                   -> reload       delivery directives: now, held, or refused
//!                   -> presentation which samples are which part: arithmetic only
//!                   -> fault, counts
//! ```
//!
//! | path | what |
//! |---|---|
//! | `/live/index.m3u8`, `/live/{rendition}/playlist.m3u8` | LL-HLS |
//! | `/live/manifest.mpd` | LL-DASH of the same segments |
//! | `/plain/index.m3u8`, `/plain/manifest.mpd` | the same, segment by segment |
//! | `/plain/patched.mpd`, `/plain/patch.mpp` | DASH whose manifest is changed by patches |
//! | `/vod/index.m3u8`, `/vod/manifest.mpd` | the loop once |
//! | `/{live,plain,vod}/{rendition}/init.mp4`, `seg12.m4s`, `seg12.3.m4s` | media |
//! | `/time` | the origin's clock (UTCTiming `http-iso`) |
//! | `/origin/counts.json`, `/origin/requests.json` | what was asked: sums, and per URL and object |
//! | `POST /origin/reset` | forgets it |

mod address;
mod body;
mod clock;
mod config;
mod control;
mod counts;
mod dash;
mod fault;
mod fault_text;
mod headers;
mod instance;
mod live;
mod multivariant;
mod patches;
mod playlist;
mod presentation;
mod range;
mod recent;
mod reload;
mod respond;
mod serve_media;
mod serve_text;
mod server;
mod wall;

pub use body::{BodyFault, OriginBody};
pub use config::{Extra, OriginConfig, OriginError, PAD_BYTES_MAX, PartsAs};
pub use counts::{Counts, KindCounts, Requests};
pub use fault::{Action, Fault, Matches};
pub use fault_text::{ACTIONS, FaultError};
pub use instance::Origin;
pub use presentation::{ObjectKind, Position};
pub use server::RunningOrigin;
