//! DASH: what delivery needs of an MPD.
//!
//! Called by the node to judge how long an MPD may be kept, and which segment is about to be. What is
//! here: the MPD's own times, its URIs, its segment templates, and the arithmetic of availability.
//! Deliberately not here: codecs, protection, descriptors, and everything else that only players read.

mod attributes;
mod clock;
mod edit;
mod limits;
mod mpd;
mod parser;
mod patch;
mod rebase;
mod template;
mod timeline;
mod trim;
mod update;

pub use clock::with_clock;
pub use limits::{Limits, MpdError};
pub use mpd::{
    BaseUrl, Mpd, PatchLocation, Period, PresentationType, Representation, SegmentTemplate,
    TimelineRun, UtcTiming,
};
pub use patch::Patch;
pub use rebase::{Crossing, PeriodBefore, Rebase, Withheld};
pub use template::{Addressed, Template, TemplateError};
pub use timeline::Continuation;
pub use trim::{NAMES_MAX, named_between, trim};
pub use update::with_update_period;
