//! What a purge is for, what it does, and what it did.
//!
//! `node` makes a [`PurgeTarget`] of what the purge log says, raises it on the fence, cuts off the
//! running fills that it means, and hands it to the store ([`Store::purge`](crate::Store::purge)). All
//! three ask the same functions here, so that they mean the same. Deliberately not here: what the
//! API calls things and lets pass (`purge-api`), and how the store finds what is meant (its index).

use std::time::SystemTime;

use http::HeaderMap;

use crate::key::CacheKey;
use crate::surrogate::carries_surrogate_key;

/// What a purge is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PurgeTarget {
    /// One URL, with every variant.
    Url {
        /// Its key.
        key: CacheKey,
        /// Query parameters that say how it is delivered, not what it is (`_HLS_msn`): keys that differ
        /// from `key` by these alone are meant, too.
        besides: Vec<String>,
    },
    /// Every URL of a host below a directory.
    Prefix {
        /// The host as it stands in keys.
        host: String,
        /// The directory, beginning and ending with a slash; one without a slash at its end is read
        /// as if it had one, so that `/a` never reaches `/ab`.
        path: String,
    },
    /// Every URL of a host.
    Host(String),
    /// Every response that carries one of these surrogate keys.
    SurrogateKeys(Vec<String>),
    /// Everything.
    All,
}

impl PurgeTarget {
    /// Returns whether a response under `key` with these fields is meant.
    pub fn means(&self, key: &CacheKey, response: &HeaderMap) -> bool {
        match self {
            Self::Url { key: url, besides } => url == key || is_besides(key, url, besides),
            Self::Prefix { .. } | Self::Host(_) | Self::All => {
                is_below(key, &self.prefix().unwrap_or_default())
            }
            Self::SurrogateKeys(wanted) => {
                carries_surrogate_key(response, |key| wanted.iter().any(|wanted| wanted == key))
            }
        }
    }

    /// Returns whether a running fill of `key` is meant; `response` is its head, once there is one.
    ///
    /// Of what has no head yet nobody knows which surrogate keys it will carry: it is meant.
    pub fn means_fill(&self, key: &CacheKey, response: Option<&HeaderMap>) -> bool {
        match (self, response) {
            (Self::SurrogateKeys(_), None) => true,
            (_, Some(response)) => self.means(key, response),
            (Self::Url { .. } | Self::Prefix { .. } | Self::Host(_) | Self::All, None) => {
                self.means(key, &HeaderMap::new())
            }
        }
    }

    /// Returns what the keys of all that is meant begin with, where that says it all.
    pub(crate) fn prefix(&self) -> Option<String> {
        match self {
            Self::Url { .. } | Self::SurrogateKeys(_) => None,
            Self::Prefix { host, path } if path.ends_with('/') => Some(format!("//{host}{path}")),
            Self::Prefix { host, path } => Some(format!("//{host}{path}/")),
            Self::Host(host) => Some(format!("//{host}/")),
            Self::All => Some(String::new()),
        }
    }
}

/// Returns whether `key` is `url` with some parameters more, all of them in `besides`.
fn is_besides(key: &CacheKey, url: &CacheKey, besides: &[String]) -> bool {
    let Some((path, query)) = key.as_str().split_once('?') else {
        return false;
    };
    let is_beside = |parameter: &&str| {
        let name = parameter
            .split_once('=')
            .map_or(*parameter, |(name, _)| name);
        besides.iter().any(|beside| beside == name)
    };
    let (url_path, url_query) = url.as_str().split_once('?').unwrap_or((url.as_str(), ""));
    let url_query = url_query
        .split('&')
        .filter(|parameter| !parameter.is_empty());
    path == url_path
        && query
            .split('&')
            .filter(|parameter| !parameter.is_empty() && !is_beside(parameter))
            .eq(url_query)
}

fn is_below(key: &CacheKey, prefix: &str) -> bool {
    key.as_str().starts_with(prefix)
}

/// What becomes of a stored response that a purge means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// It is stale from now on: used only where a stale response may be.
    Soft {
        /// When the purge is applied.
        now: SystemTime,
    },
    /// It is gone.
    Hard,
}

/// What a purge did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Stored responses; each variant is one.
    pub responses: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::surrogate::SURROGATE_KEY;

    fn prefix(host: &str, path: &str) -> PurgeTarget {
        PurgeTarget::Prefix {
            host: host.to_owned(),
            path: path.to_owned(),
        }
    }

    #[test]
    fn a_target_means_whole_segments_whole_hosts_and_exact_keys() {
        let url = |key: &str| PurgeTarget::Url {
            key: key.into(),
            besides: vec!["_HLS_msn".to_owned(), "_HLS_part".to_owned()],
        };
        let host = |host: &str| PurgeTarget::Host(host.to_owned());
        let tags = |keys: &[&str]| {
            PurgeTarget::SurrogateKeys(keys.iter().map(|key| (*key).to_owned()).collect())
        };
        let response =
            HeaderMap::from_iter([(SURROGATE_KEY, HeaderValue::from_static("channel-1 live"))]);
        for (target, key, expected) in [
            (url("//h/a"), "//h/a", true),
            (url("//h/a"), "//h/a?b", false),
            (url("//h/a"), "//h/a?_HLS_msn=3&_HLS_part=1", true),
            (url("//h/a"), "//h/a?_HLS_msn=3&b", false),
            (url("//h/a"), "//h/b?_HLS_msn=3", false),
            (url("//h/a?b=1"), "//h/a?_HLS_msn=3&b=1", true),
            (url("//h/a?b=1"), "//h/a?_HLS_msn=3", false),
            (prefix("h", "/a/"), "//h/a/b?c", true),
            (prefix("h", "/a/"), "//h/a/", true),
            (prefix("h", "/a/"), "//h/ab", false),
            (prefix("h", "/a/"), "//h/a", false),
            (prefix("h", "/a/"), "//h2/a/b", false),
            (prefix("h", "/a"), "//h/ab", false),
            (prefix("h", "/a"), "//h/a/b", true),
            (prefix("h", "/"), "//h/b", true),
            (host("h"), "//h/b", true),
            (host("h"), "//h:8443/b", false),
            (host("h"), "//h.example/b", false),
            (tags(&["live"]), "//h/b", true),
            (tags(&["other", "channel-1"]), "//h/b", true),
            (tags(&["channel"]), "//h/b", false),
            (tags(&[]), "//h/b", false),
            (PurgeTarget::All, "//h/b", true),
        ] {
            let key = CacheKey::from(key);
            assert_eq!(target.means(&key, &response), expected, "{target:?} {key}");
            assert_eq!(target.means_fill(&key, Some(&response)), expected);
            let is_by_tag = matches!(target, PurgeTarget::SurrogateKeys(_));
            assert_eq!(target.means_fill(&key, None), expected || is_by_tag);
        }
    }
}
