//! What a purge is for.

use serde::{Deserialize, Serialize};

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
    /// Everything.
    All,
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
            Self::Url {
                host,
                path,
                query: _,
            } => {
                check_host(host)?;
                check_path(path)
            }
            Self::Prefix { host, path } => {
                check_host(host)?;
                check_path(path)?;
                if path.ends_with('/') {
                    Ok(())
                } else {
                    Err(TargetError::PrefixUnaligned(path.clone()))
                }
            }
            Self::SurrogateKeys(keys) => check_keys(keys),
            Self::Host(host) => check_host(host),
            Self::All => Ok(()),
        }
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

/// Surrogate keys in one purge.
const SURROGATE_KEYS_MAX: usize = 256;

/// Bytes of one surrogate key.
const SURROGATE_KEY_BYTES_MAX: usize = 1024;

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
}
