//! The origin-facing tier: collapses what many edges ask into one request per part.
