//! The media of the lab: four bundled tracks, repeated for ever and written as CMAF.
//!
//! [`Track`] is the surface: the origin asks it for the initialization segment and for fragments of
//! an endless timeline. `read` takes the bundled MP4 files apart once, `write` puts boxes
//! together, and `track` does the arithmetic of the loop between them. Deliberately not here:
//! playlists, segment and part boundaries, and any clock; the caller brings its own ranges.
//!
//! The boxes of a fragment are written by hand rather than by the crate that reads them, so that the
//! tests read back with other code than wrote.

mod read;
mod track;
mod write;

#[cfg(test)]
mod track_tests;

pub use read::MediaError;
pub use track::Track;
pub use write::pad_to;
