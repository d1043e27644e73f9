//! Scenarios: a whole CDN in one process, on a simulated network, in virtual time.
//!
//! One module per subject. A test's name begins with the rule it proves (docs/rules.md lists the
//! rules), and its body reads: an origin that does what it is told, nodes, viewers, what they see.

mod aborts;
mod age;
mod at_once;
mod bodies;
mod caching;
mod coding;
mod collapsing;
mod dash;
mod dash_clock;
mod dash_patch;
mod dash_restart;
mod early;
mod epochs;
mod faults;
mod gating;
mod hints;
mod holds;
mod hygiene;
mod interim;
mod linter;
mod on_demand;
mod origins;
mod players;
mod polling;
mod purge_feed;
mod purging;
mod purging_dash;
mod purging_timeline;
mod ranges;
mod rebasing;
mod refusals;
mod relay;
mod revalidation;
mod sessions;
mod slices;
mod stalls;
mod streams;
mod tiers;
mod viewer_uris;
