//! HTTP caching as values and decisions: no network, no clock, no media.
