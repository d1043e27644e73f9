//! HLS and DASH as text and arithmetic: no I/O, no async, no caching.
