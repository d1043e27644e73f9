//! The lab origin seen from outside: requests over in-memory connections under a paused clock, and
//! over real TCP where the kernel matters.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on panics, also in its helpers"
)]

mod counting;
mod dash;
mod faults;
mod holding;
mod media;
mod playlists;
mod serving;
mod support;
mod tcp;
