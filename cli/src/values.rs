//! Values as people type them, and the error for what makes no sense.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, bail};
use http::Uri;

/// What was asked makes no sense; nothing was started. The text says what would.
#[derive(Debug)]
pub(crate) struct Misuse(pub(crate) String);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

/// Makes an error a misuse, with its whole chain of causes.
pub(crate) fn misuse(error: impl Into<anyhow::Error>) -> anyhow::Error {
    Misuse(format!("{:#}", error.into())).into()
}

/// Reads a duration: a number and `ms`, `s`, `m` or `h`.
///
/// # Errors
///
/// Anything else; the text says what is allowed.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let allowed = || format!("`{text}` is not a time; write e.g. 500ms, 2s, 5m or 1h");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| allowed())?;
    let unit = text.strip_prefix(digits).unwrap_or_default();
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(allowed()),
    };
    if !(0.0..=DURATION_MAX_SECONDS).contains(&seconds) {
        return Err(format!("`{text}` is not between 0s and 24h"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Reads where an origin is: scheme and authority, and nothing else.
///
/// # Errors
///
/// Another scheme than http and https, a path, a query.
pub(crate) fn origin_url(text: &str) -> anyhow::Result<Uri> {
    let example = "write scheme and host, e.g. http://127.0.0.1:8888";
    let url: Uri = text
        .parse()
        .with_context(|| format!("`{text}` is not a URL; {example}"))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.authority().is_none() {
        bail!("`{text}` has no http or https host; {example}");
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        bail!(
            "`{text}` has a path; {example}: viewers ask for paths as the origin knows them, \
             e.g. {}",
            url.path()
        );
    }
    Ok(url)
}

/// A day is longer than any run.
const DURATION_MAX_SECONDS: f64 = 24.0 * 3600.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("2s", 2000),
            ("0.5s", 500),
            ("3m", 180_000),
            ("1h", 3_600_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1d", "25h", "nans", "infs", "1e400s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_origin_is_scheme_and_host_only() {
        for text in ["http://127.0.0.1:8888", "https://origin.example/"] {
            assert!(origin_url(text).is_ok(), "{text}");
        }
        for text in [
            "origin.example",
            "ftp://origin.example",
            "http://origin.example/live/index.m3u8",
            "http://origin.example/?a=b",
            "/live",
            "",
        ] {
            let error = format!("{:#}", origin_url(text).unwrap_err());
            assert!(error.contains("http://127.0.0.1:8888"), "{text}: {error}");
        }
    }
}
