//! Where a resource is: scheme, authority, path and query; and how references resolve.
//!
//! [`media::uri`] resolves; this takes the result apart the way requests need it.

use std::fmt;

use media::uri::{Resolved, UriError, resolve};

/// An absolute `http` or `https` URL, split the way requests need it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    is_secure: bool,
    authority: String,
    path_and_query: String,
}

/// Why a URL cannot be requested.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LocationError {
    /// Neither `http://` nor `https://`.
    #[error("url {0:?} is not http:// or https://")]
    Scheme(String),
    /// No host, or a port that is no number.
    #[error("url {0:?} has no usable host and port")]
    Port(String),
    /// Something else is wrong with it.
    #[error("url {url:?} cannot be requested: {source}")]
    Uri {
        /// Its beginning.
        url: String,
        /// What is wrong.
        source: UriError,
    },
}

impl Location {
    /// Reads an absolute URL.
    ///
    /// # Errors
    /// See [`LocationError`].
    pub fn parse(url: &str) -> Result<Self, LocationError> {
        Self::of(resolve(url, url), url).map_err(|error| match error {
            LocationError::Uri { .. } if split_scheme(url).is_none() => {
                LocationError::Scheme(shown(url))
            }
            error => error,
        })
    }

    /// Resolves `reference`, found in the document at this location.
    ///
    /// # Errors
    /// See [`LocationError`].
    pub fn resolve(&self, reference: &str) -> Result<Self, LocationError> {
        Self::of(resolve(&self.to_string(), reference), reference)
    }

    fn of(resolved: Result<Resolved, UriError>, from: &str) -> Result<Self, LocationError> {
        match resolved {
            Ok(Resolved::Url(url)) => Self::split(&url),
            Ok(Resolved::PathAndQuery(_) | Resolved::Other(_)) => {
                Err(LocationError::Scheme(shown(from)))
            }
            Err(source) => Err(LocationError::Uri {
                url: shown(from),
                source,
            }),
        }
    }

    /// Takes a URL apart that `media` has made.
    fn split(url: &str) -> Result<Self, LocationError> {
        let (is_secure, rest) =
            split_scheme(url).ok_or_else(|| LocationError::Scheme(shown(url)))?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let slash = if path.starts_with('/') { "" } else { "/" };
        let location = Self {
            is_secure,
            authority: authority.to_ascii_lowercase(),
            path_and_query: format!("{slash}{path}"),
        };
        if location.host().is_empty() || location.checked_port().is_none() {
            return Err(LocationError::Port(shown(url)));
        }
        Ok(location)
    }

    /// Returns this location with `query` appended to what is there (`a=b&c=d`, already escaped).
    pub fn with_query(&self, query: &str) -> Self {
        let mut located = self.clone();
        if !query.is_empty() {
            let joint = if self.path_and_query.contains('?') {
                '&'
            } else {
                '?'
            };
            located.path_and_query.push(joint);
            located.path_and_query.push_str(query);
        }
        located
    }

    /// True for `https`.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Host and port as written, lower case.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The host without port; an IPv6 literal without its brackets.
    pub fn host(&self) -> &str {
        if let Some(rest) = self.authority.strip_prefix('[') {
            return rest.split_once(']').map_or("", |(host, _)| host);
        }
        self.authority.split(':').next().unwrap_or_default()
    }

    /// The port, or the scheme's own.
    pub fn port(&self) -> u16 {
        self.checked_port().unwrap_or_default()
    }

    /// Path and query, beginning with `/`.
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    fn checked_port(&self) -> Option<u16> {
        let after_host = match self.authority.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?.1,
            None => self
                .authority
                .find(':')
                .map_or("", |at| self.authority.split_at(at).1),
        };
        if after_host.is_empty() {
            return Some(if self.is_secure { 443 } else { 80 });
        }
        after_host.strip_prefix(':')?.parse().ok()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path_and_query)
    }
}

fn split_scheme(url: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    if scheme.eq_ignore_ascii_case("https") {
        Some((true, rest))
    } else if scheme.eq_ignore_ascii_case("http") {
        Some((false, rest))
    } else {
        None
    }
}

/// The beginning of a text, for an error.
fn shown(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lead_to_absolute_locations() {
        let base = Location::parse("http://a:8080/b/c.m3u8?q#f").unwrap();
        for (reference, expected) in [
            ("../g.m4s?t=1", "http://a:8080/g.m4s?t=1"),
            ("//g/x", "http://g/x"),
            ("https://H:8443", "https://h:8443/"),
            ("", "http://a:8080/b/c.m3u8?q"),
        ] {
            assert_eq!(base.resolve(reference).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn directives_are_appended_to_an_existing_query() {
        let token = Location::parse("https://cdn/live.m3u8?token=a~b%2Fc=").unwrap();
        assert_eq!(
            token.with_query("_HLS_msn=5&_HLS_part=1").path_and_query(),
            "/live.m3u8?token=a~b%2Fc=&_HLS_msn=5&_HLS_part=1"
        );
    }

    #[test]
    fn hosts_and_ports_are_taken_apart() {
        let v6 = Location::parse("https://[::1]:4433/x").unwrap();
        assert_eq!((v6.host(), v6.port()), ("::1", 4433));
        let plain = Location::parse("http://EXAMPLE.com").unwrap();
        assert_eq!((plain.host(), plain.port()), ("example.com", 80));
        assert_eq!(plain.path_and_query(), "/");
    }

    #[test]
    fn unusable_urls_say_why() {
        for url in ["ftp://x/", "/live.m3u8", "", "localhost:80/x"] {
            let refused = Location::parse(url);
            assert!(matches!(refused, Err(LocationError::Scheme(_))), "{url}");
        }
        for url in ["http://u@x/", "http:///x", "http://x:99999/", "http://:80/"] {
            assert!(Location::parse(url).is_err(), "{url}");
        }
        let base = Location::parse("http://x/").unwrap();
        let refused = base.resolve("data:text/plain,x");
        assert!(matches!(refused, Err(LocationError::Scheme(_))));
    }
}
