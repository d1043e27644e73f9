//! The test harness: a whole CDN in one process on a simulated network.
