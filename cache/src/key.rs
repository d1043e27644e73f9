//! The primary cache key.
//!
//! `node` builds a key from a URL that is already canonical: tokens and CMCD stripped, query in
//! order (CA-02). The store and collapse look up by it. Deliberately not here: canonicalization,
//! and the request fields that `Vary` names (`variant`).

use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

/// What a response is stored and collapsed under (RFC 9111 2): a canonical URL as text.
///
/// Cheap to clone. Holds no secret, so it may be logged.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey(Arc<str>);

impl CacheKey {
    /// Returns the key for a canonical URL.
    pub fn new(canonical_url: impl Into<Arc<str>>) -> Self {
        Self(canonical_url.into())
    }

    /// Returns the canonical URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns a hash that is the same on every machine and in every release.
    ///
    /// For choosing the owner of a key among nodes. Maps must not use it: it has no secret, so
    /// peers could collide keys at will.
    pub fn stable_hash(&self) -> u64 {
        xxh3_64(self.0.as_bytes())
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl From<&str> for CacheKey {
    fn from(canonical_url: &str) -> Self {
        Self::new(canonical_url)
    }
}

impl From<String> for CacheKey {
    fn from(canonical_url: String) -> Self {
        Self::new(canonical_url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stable_hash_is_frozen() {
        for (url, hash) in [
            ("", 0x2d06_8005_38d3_94c2),
            ("https://live.example/a/s1.m4s", 0x19f8_3c6f_7177_a206),
        ] {
            assert_eq!(CacheKey::from(url).stable_hash(), hash, "{url}");
        }
    }
}
