//! Patterns of hosts and paths, compiled once.
//!
//! Who calls it: `config` parses them, [`Rules`](super::Rules) asks them. Deliberately not here: the order of
//! rules, and what they say.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};

use crate::request::plain_host;

/// Which requests a rule is for: one of its hosts and one of its paths; an empty list means all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// Hosts.
    pub hosts: Vec<HostPattern>,
    /// Paths.
    pub paths: Vec<PathPattern>,
}

/// What kept a rule from matching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// None of its hosts is the request's.
    Host,
    /// None of its paths is the request's.
    Path,
}

impl Scope {
    /// Returns what keeps a request from matching, or `None` if it matches.
    pub fn judge(&self, host: &str, path: &str) -> Option<Unmatched> {
        if !self.hosts.is_empty() && !self.hosts.iter().any(|pattern| pattern.matches(host)) {
            return Some(Unmatched::Host);
        }
        if !self.paths.is_empty() && !self.paths.iter().any(|pattern| pattern.matches(path)) {
            return Some(Unmatched::Path);
        }
        None
    }

    /// Returns whether every request matches.
    pub fn is_everything(&self) -> bool {
        self.hosts.is_empty() && self.paths.is_empty()
    }
}

/// A host, or all hosts that have one label more than another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// `live.example`: this host at every port; `live.example:8443`: at this port.
    Exact(String),
    /// `*.live.example`: as [`HostPattern::Exact`], below it by one label. Holds what follows the `*`.
    Below(String),
}

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is neither a host nor a wildcard label and a host.
    #[error("not a host, nor `*.` and a host")]
    Host,
    /// It does not begin with a slash.
    #[error("a path begins with a slash")]
    NoSlash,
    /// No admitted path has a query, a fragment or an encoded character where patterns are looked for.
    #[error("paths are written decoded, without query")]
    NotAPath,
    /// Its wildcards make no sense.
    #[error("{0}")]
    Glob(String),
}

impl HostPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// What is neither a host nor `*.` and a host.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let below = text.strip_prefix("*.");
        let host = plain_host(below.unwrap_or(text)).ok_or(PatternError::Host)?;
        Ok(if below.is_some() {
            Self::Below(format!(".{host}"))
        } else {
            Self::Exact(host)
        })
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(pattern) => host == pattern || without_port(host) == pattern,
            Self::Below(suffix) => [host, without_port(host)].iter().any(|host| {
                host.strip_suffix(suffix.as_str())
                    .is_some_and(|label| !label.is_empty() && !label.contains('.'))
            }),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // The colons inside brackets are an address's.
        Some((name, port)) if !port.ends_with(']') => name,
        Some(_) | None => host,
    }
}

/// A path and what is below it, or all paths that a glob describes.
#[derive(Clone, Debug)]
pub struct PathPattern {
    text: String,
    /// `None`: a prefix that ends at a segment's end.
    glob: Option<GlobMatcher>,
}

impl PathPattern {
    /// Reads a pattern: `/live/` is everything below it, `/live` that and itself; with `*`, `?`, `[` or `{`
    /// it is a glob for the whole path, where `*` stays within a segment and `**` does not.
    ///
    /// # Errors
    ///
    /// What does not begin with a slash or can be no path; wildcards that make no sense.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if !text.starts_with('/') {
            return Err(PatternError::NoSlash);
        }
        let has_wildcards = text.contains(['*', '?', '[', '{']);
        let is_query = text.contains('?') && text.contains('=');
        if is_query || text.contains(['%', '#']) || text.chars().any(char::is_control) {
            return Err(PatternError::NotAPath);
        }
        let glob = has_wildcards
            .then(|| {
                GlobBuilder::new(text)
                    .literal_separator(true)
                    .build()
                    .map(|glob| glob.compile_matcher())
            })
            .transpose()
            .map_err(|error| PatternError::Glob(error.kind().to_string()))?;
        Ok(Self {
            text: text.to_owned(),
            glob,
        })
    }

    fn matches(&self, path: &str) -> bool {
        match &self.glob {
            Some(glob) => glob.is_match(path),
            None => path.strip_prefix(self.text.as_str()).is_some_and(|rest| {
                rest.is_empty() || rest.starts_with('/') || self.text.ends_with('/')
            }),
        }
    }
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_patterns_match_one_label_and_any_port() {
        for (pattern, host, expected) in [
            ("Live.Example", "live.example", true),
            ("live.example", "live.example:8080", true),
            ("live.example:8080", "live.example:8080", true),
            ("live.example:8080", "live.example:8081", false),
            ("live.example", "alive.example", false),
            ("*.live.example", "a.live.example", true),
            ("*.live.example", "a.live.example:8080", true),
            ("*.live.example", "live.example", false),
            ("*.live.example", "b.a.live.example", false),
            ("[::1]", "[::1]:8080", true),
            ("[::1]", "[::2]", false),
        ] {
            let parsed = HostPattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(host), expected, "{pattern} {host}");
        }
        for wrong in ["", "*", "*.", "a.*.b", "live.example/", "live example"] {
            assert_eq!(
                HostPattern::parse(wrong),
                Err(PatternError::Host),
                "{wrong}"
            );
        }
    }

    #[test]
    fn path_patterns_end_at_segments_unless_they_are_globs() {
        for (pattern, path, expected) in [
            ("/live", "/live", true),
            ("/live", "/live/a", true),
            ("/live", "/lively", false),
            ("/live/", "/live", false),
            ("/live/", "/live/a/b", true),
            ("/", "/anything", true),
            ("/vod/*.mp4", "/vod/a.mp4", true),
            ("/vod/*.mp4", "/vod/a/b.mp4", false),
            ("/vod/**/*.mp4", "/vod/a/b.mp4", true),
            ("/vod/**/*.mp4", "/vod/a.mp4", true),
            ("/vod/**", "/vod/a/b", true),
            ("/**/*.{m4s,mp4}", "/a/b.m4s", true),
            ("/a?c", "/abc", true),
            ("/a?c", "/a/c", false),
        ] {
            let parsed = PathPattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(path), expected, "{pattern} {path}");
        }
        assert_eq!(PathPattern::parse("live/"), Err(PatternError::NoSlash));
        for wrong in ["/a%20b", "/a#b", "/a?b=c"] {
            assert_eq!(PathPattern::parse(wrong), Err(PatternError::NotAPath));
        }
        assert!(matches!(
            PathPattern::parse("/a[b"),
            Err(PatternError::Glob(_))
        ));
    }
}
