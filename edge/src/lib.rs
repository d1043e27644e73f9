//! The viewer-facing tier: public TLS and HTTP/3, parents are shields.
