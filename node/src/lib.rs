//! The running machinery every Seawall process is made of.
//!
//! What is here: listeners, the story of one request, the live hub, fills, upstream connections,
//! configuration and telemetry. The only crate with network and clock.
//! Who calls it: `edge` and `shield` compose it; the tests drive it over a simulated network.
//! What it calls: `cache` judges caching, `media` judges media; they meet in `route`.
//! Deliberately not here: any notion of which tier a process is. A tier is a composition.

pub mod admin;
mod at_once;
pub mod body;
mod cached;
pub mod clock;
mod coding;
pub mod config;
pub mod dash;
mod early;
pub mod exchange;
pub mod explain;
mod fill;
pub mod interim;
pub mod listen;
pub mod live;
mod next_objects;
pub mod node;
pub mod purge;
mod record;
mod redirect;
mod relay;
pub mod request;
pub mod respond;
pub mod route;
pub mod rules;
mod slices;
pub mod streams;
pub mod tasks;
pub mod telemetry;
pub mod upload;
pub mod upstream;

pub use body::Body;
pub use clock::Clock;
pub use early::Handshake;
pub use exchange::{Answering, Exchange, Peer, Protocol};
pub use upload::Upload;
