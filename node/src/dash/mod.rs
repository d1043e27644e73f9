//! DASH: what a node does for live presentations beyond caching them.
//!
//! ```text
//! fill ──► known ──► Mpds ──► early      which segment is about to be, and from when
//!  └─► runs            └────► older?     a version from before the one shown is not shown
//!        what began again goes on in a new period
//! ```
//!
//! What is here: the MPDs that fills have read, which segments are their newest, whose patches are where (LD-14), holding
//! requests that come a little early (LD-01), the time, and which clock MPDs name (LD-13). Who calls it: fills, `cached`
//! before it asks a parent, `exchange` for the time. What it calls: `media` for every judgment. Deliberately not here:
//! bodies and lifetimes; an MPD is an ordinary stored response with a policy of its own (`route`).

mod clock;
mod early;
mod mpds;
mod patches;
mod runs;
mod time;

pub(crate) use clock::{with_clock, with_clock_of_mpd};
pub(crate) use early::{doubt, hold_if_early, pace};
pub(crate) use mpds::{Known, Mpds, Published, joined};
pub(crate) use patches::Shown;
pub(crate) use runs::{is_of_run_before, shown};
pub use time::TIME_PATH;
pub(crate) use time::tell;
