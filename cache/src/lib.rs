//! HTTP caching as values and decisions: no network, no clock, no media.
//!
//! What is here, in the order in which a request meets it:
//!
//! - [`key`], [`variant`], [`store`]: what is stored, and which of it answers a request;
//! - [`stale`], [`validation`], [`range`]: what may be done with what was found, and how much of it
//!   is sent; [`mod@slice`]: how a large body is brought piece by piece;
//! - [`collapse`], [`body`]: at most one fill per key, read while it is written; [`pages`]: where large ones lie;
//! - [`codings`]: the same text in the form that a client can take;
//! - [`directives`], [`freshness`], [`mod@storable`], [`fields`], [`stored`]: what a response says
//!   about itself, within a [`policy`], and what is kept of it;
//! - [`purge`], [`fence`], [`surrogate`], [`invalidation`]: what makes a response unusable before its
//!   time;
//! - [`outcome`]: what we tell about all that.
//!
//! `node` calls all of it and hands in bytes and `now`. What is deliberately not here: sockets,
//! tasks, timers, playlists, and any opinion on what a URL means.

pub mod body;
pub mod codings;
pub mod collapse;
pub mod directives;
pub mod fence;
pub mod fields;
pub mod freshness;
pub mod invalidation;
pub mod key;
pub mod outcome;
pub mod pages;
pub mod policy;
pub mod purge;
pub mod range;
pub mod slice;
pub mod stale;
pub mod storable;
pub mod store;
pub mod stored;
pub mod surrogate;
pub mod validation;
pub mod variant;

mod seats;
mod sync;

pub use body::{BodyFailure, BodyState, CHUNK_BYTES_MAX, GrowingBody, Progress, Reader, Writer};
pub use codings::{Coding, Codings};
pub use collapse::{Collapse, FillPermit, Followed, Follower, Joined, Published};
pub use directives::{Extent, RequestDirectives, ResponseDirectives};
pub use fence::{Fence, Mark};
pub use freshness::{Arrival, FreshnessLifetime, LifetimeSource, freshness_lifetime};
pub use invalidation::invalidates;
pub use key::CacheKey;
pub use outcome::{Answered, CacheName, Detail, Forward, ForwardReason, Outcome};
pub use policy::{Heuristics, NegativeLifetimes, Policy};
pub use purge::{Purge, PurgeTarget, Purged};
pub use range::{ByteRanges, RangeAnswer};
pub use slice::Sliced;
pub use stale::{StaleWindows, Use, judge, stale_windows};
pub use storable::{Exchanged, Storable, Uncacheable, storable};
pub use store::{Change, GrowingLimit, Inserted, Lookup, Purging, Refusal, Reservation, Store};
pub use stored::StoredResponse;
pub use surrogate::{carries_surrogate_key, for_each_surrogate_key};
pub use validation::{Condition, EntityTag};
pub use variant::Variant;
