//! Purge requests as values: what may be purged, and how it is said.
