//! What a purge is for: URLs, directories, surrogate keys, streams, hosts.
//!
//! Who calls it: requests are checked with it, the log carries it, nodes match it. Deliberately not here: what it
//! matches in a node's store.

use serde::{Deserialize, Serialize};

use crate::UnixMillis;

/// What a purge is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// One URL of a host, with every variant and every delivery directive.
    Url {
        /// The host, in lower case.
        host: String,
        /// The path, beginning with a slash.
        path: String,
        /// The query, without its question mark; empty for none.
        #[serde(default)]
        query: String,
    },
    /// Several URLs, each as in `Url`: one purge, applied as one.
    Urls(Vec<Url>),
    /// Every URL below a directory: the path ends with a slash, so `/a/` never reaches `/ab`.
    Prefix {
        /// The host, in lower case.
        host: String,
        /// The directory, beginning and ending with a slash.
        path: String,
    },
    /// Every response that carries one of these keys (RFC 9875 groups are read as such).
    SurrogateKeys(Vec<String>),
    /// Every URL of a host.
    Host(String),
    /// A presentation with all its renditions, or a stretch of its timeline.
    Stream {
        /// The host, in lower case.
        host: String,
        /// The directory of the presentation, beginning and ending with a slash.
        path: String,
        /// Which stretch; all of it if none is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        range: Option<StreamRange>,
    },
    /// Everything.
    All,
}

/// One of several URLs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Url {
    /// The host, in lower case.
    pub host: String,
    /// The path, beginning with a slash.
    pub path: String,
    /// The query, without its question mark; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub query: String,
}

/// A stretch of a presentation's timeline. Both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StreamRange {
    /// By Media Sequence Number, the same in every rendition (rfc8216bis 6.2.4 asks for that).
    Msn {
        /// The first segment.
        first: u64,
        /// The last segment.
        last: u64,
    },
    /// By wall-clock time, as `EXT-X-PROGRAM-DATE-TIME` or an availability time tells it.
    WallClock {
        /// Where it begins.
        from: UnixMillis,
        /// Where it ends.
        to: UnixMillis,
    },
}

/// Why a target means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The host is empty, or not in the form that keys have.
    #[error("`{0}` is not a host name in lower case")]
    Host(String),
    /// The path does not begin with a slash, or has dot segments.
    #[error("`{0}` is not a path: it begins with a slash and has no dot segments")]
    Path(String),
    /// A query that no key can have.
    #[error("`{0}` is not a query: visible ASCII without `#`")]
    Query(String),
    /// No URL, or too many.
    #[error("{0} URLs: between 1 and {URLS_MAX} are purged at once")]
    UrlCount(usize),
    /// A stretch that ends before it begins.
    #[error("the range ends before it begins")]
    RangeReversed,
    /// A prefix that would also reach siblings of the directory.
    #[error("`{0}` is not a directory: a prefix ends with a slash")]
    PrefixUnaligned(String),
    /// No surrogate key, or too many.
    #[error("{0} surrogate keys: between 1 and {SURROGATE_KEYS_MAX} are purged at once")]
    SurrogateKeyCount(usize),
    /// A surrogate key that no response can carry.
    #[error(
        "`{0}` is not a surrogate key: visible ASCII without spaces, at most {SURROGATE_KEY_BYTES_MAX} bytes"
    )]
    SurrogateKey(String),
}

impl Target {
    /// Checks that the target means something.
    ///
    /// # Errors
    ///
    /// The first part that does not.
    pub fn check(&self) -> Result<(), TargetError> {
        match self {
            Self::Url { host, path, query } => check_url(host, path, query),
            Self::Urls(urls) if urls.is_empty() || urls.len() > URLS_MAX => {
                Err(TargetError::UrlCount(urls.len()))
            }
            Self::Urls(urls) => urls
                .iter()
                .try_for_each(|url| check_url(&url.host, &url.path, &url.query)),
            Self::Prefix { host, path } => check_directory(host, path),
            Self::Stream { host, path, range } => {
                check_directory(host, path)?;
                range.map_or(Ok(()), StreamRange::check)
            }
            Self::SurrogateKeys(keys) => check_keys(keys),
            Self::Host(host) => check_host(host),
            Self::All => Ok(()),
        }
    }
}

impl StreamRange {
    fn check(self) -> Result<(), TargetError> {
        let is_forward = match self {
            Self::Msn { first, last } => first <= last,
            Self::WallClock { from, to } => from <= to,
        };
        if is_forward {
            Ok(())
        } else {
            Err(TargetError::RangeReversed)
        }
    }
}

fn check_url(host: &str, path: &str, query: &str) -> Result<(), TargetError> {
    check_host(host)?;
    check_path(path)?;
    if query.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        Ok(())
    } else {
        Err(TargetError::Query(query.to_owned()))
    }
}

fn check_directory(host: &str, path: &str) -> Result<(), TargetError> {
    check_host(host)?;
    check_path(path)?;
    if path.ends_with('/') {
        Ok(())
    } else {
        Err(TargetError::PrefixUnaligned(path.to_owned()))
    }
}

fn check_host(host: &str) -> Result<(), TargetError> {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]".contains(&b);
    if !host.is_empty() && host.bytes().all(is_plain) {
        Ok(())
    } else {
        Err(TargetError::Host(host.to_owned()))
    }
}

fn check_path(path: &str) -> Result<(), TargetError> {
    let has_dots = path
        .split('/')
        .any(|segment| segment == "." || segment == "..");
    let is_plain = path.starts_with('/') && !has_dots && path.bytes().all(|b| b.is_ascii_graphic());
    if is_plain {
        Ok(())
    } else {
        Err(TargetError::Path(path.to_owned()))
    }
}

fn check_keys(keys: &[String]) -> Result<(), TargetError> {
    if keys.is_empty() || keys.len() > SURROGATE_KEYS_MAX {
        return Err(TargetError::SurrogateKeyCount(keys.len()));
    }
    let is_plain = |key: &&String| {
        !key.is_empty()
            && key.len() <= SURROGATE_KEY_BYTES_MAX
            && key.bytes().all(|b| b.is_ascii_graphic())
    };
    match keys.iter().find(|key| !is_plain(key)) {
        None => Ok(()),
        Some(key) => Err(TargetError::SurrogateKey(key.clone())),
    }
}

/// URLs in one purge.
pub const URLS_MAX: usize = 1000;

/// Surrogate keys in one purge.
pub const SURROGATE_KEYS_MAX: usize = 256;

/// Bytes of one surrogate key.
pub const SURROGATE_KEY_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(path: &str) -> Target {
        Target::Prefix {
            host: "live.example".to_owned(),
            path: path.to_owned(),
        }
    }

    #[test]
    fn a_prefix_is_aligned_to_segments() {
        assert_eq!(prefix("/live/").check(), Ok(()));
        assert_eq!(prefix("/").check(), Ok(()));
        assert_eq!(
            prefix("/live").check(),
            Err(TargetError::PrefixUnaligned("/live".to_owned()))
        );
    }

    #[test]
    fn paths_that_no_key_can_have_are_refused() {
        for path in ["", "live/", "/a/../b/", "/a b/", "/ä/"] {
            assert_eq!(
                prefix(path).check(),
                Err(TargetError::Path(path.to_owned()))
            );
        }
    }

    #[test]
    fn hosts_are_in_lower_case_like_keys() {
        for host in ["", "Live.example", "a/b", "a b"] {
            let target = Target::Host(host.to_owned());
            assert_eq!(target.check(), Err(TargetError::Host(host.to_owned())));
        }
        assert_eq!(Target::Host("live.example:8443".to_owned()).check(), Ok(()));
    }

    #[test]
    fn surrogate_keys_are_few_and_visible() {
        let keys =
            |keys: &[&str]| Target::SurrogateKeys(keys.iter().map(|k| (*k).to_owned()).collect());
        assert_eq!(keys(&["channel-1", "event:42"]).check(), Ok(()));
        assert_eq!(keys(&[]).check(), Err(TargetError::SurrogateKeyCount(0)));
        assert_eq!(
            keys(&["a b"]).check(),
            Err(TargetError::SurrogateKey("a b".to_owned()))
        );
        assert_eq!(
            keys(&["k"; 257]).check(),
            Err(TargetError::SurrogateKeyCount(257))
        );
    }

    #[test]
    fn a_list_of_urls_is_checked_one_by_one() {
        let url = |path: &str| Url {
            host: "live.example".to_owned(),
            path: path.to_owned(),
            query: String::new(),
        };
        assert_eq!(Target::Urls(vec![url("/a"), url("/b")]).check(), Ok(()));
        assert_eq!(
            Target::Urls(vec![url("/a"), url("b")]).check(),
            Err(TargetError::Path("b".to_owned()))
        );
        assert_eq!(Target::Urls(vec![]).check(), Err(TargetError::UrlCount(0)));
        assert_eq!(
            Target::Urls(vec![url("/a"); 1001]).check(),
            Err(TargetError::UrlCount(1001))
        );
    }

    #[test]
    fn a_stream_is_a_directory_and_its_range_goes_forward() {
        let stream = |text: &str| serde_json::from_str::<Target>(text).unwrap().check();
        let cases = [
            (r#"{"stream": {"host": "a", "path": "/x/"}}"#, true),
            (
                r#"{"stream": {"host": "a", "path": "/x/", "range": {"msn": {"first": 3, "last": 3}}}}"#,
                true,
            ),
            (
                r#"{"stream": {"host": "a", "path": "/x/", "range": {"msn": {"first": 3, "last": 2}}}}"#,
                false,
            ),
            (
                r#"{"stream": {"host": "a", "path": "/x/", "range": {"wall_clock": {"from": 9, "to": 8}}}}"#,
                false,
            ),
            (r#"{"stream": {"host": "a", "path": "/x"}}"#, false),
        ];
        for (text, is_right) in cases {
            assert_eq!(stream(text).is_ok(), is_right, "{text}");
        }
    }

    #[test]
    fn queries_that_no_key_can_have_are_refused() {
        for query in ["a b", "a#b", "\u{1}"] {
            let target = Target::Url {
                host: "a".to_owned(),
                path: "/".to_owned(),
                query: query.to_owned(),
            };
            assert_eq!(target.check(), Err(TargetError::Query(query.to_owned())));
        }
    }
}
