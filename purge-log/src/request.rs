//! A request to purge: what is purged and how hard, read from JSON and checked once.
//!
//! Who calls it: the API reads requests, the log and its feed carry them. Deliberately not here: what
//! a target means, which is in `target`, and when it was accepted, which is in `entry`.

use serde::{Deserialize, Serialize};

use crate::{Target, TargetError};

/// A checked request to purge.
///
/// ```
/// let request = purge_log::PurgeRequest::from_json(
///     br#"{"target": {"prefix": {"host": "live.example", "path": "/a/"}}, "mode": "soft"}"#,
/// )?;
/// assert_eq!(request.mode, purge_log::Mode::Soft);
/// # Ok::<(), purge_log::RequestError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurgeRequest {
    /// What is purged.
    pub target: Target,
    /// Whether stored responses become stale or unusable.
    #[serde(default)]
    pub mode: Mode,
}

/// What becomes of a purged response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is stale: served on only where a stale response may be, and revalidated.
    Soft,
    /// It is gone.
    #[default]
    Hard,
}

/// Why a request to purge is refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The request is larger than [`REQUEST_BYTES_MAX`].
    #[error("the request has {bytes} bytes, at most {REQUEST_BYTES_MAX} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The request is not the JSON that is expected.
    #[error("the request cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The target means nothing.
    #[error(transparent)]
    Target(#[from] TargetError),
}

impl PurgeRequest {
    /// Reads and checks a request.
    ///
    /// # Errors
    ///
    /// Too large, not the expected JSON (unknown members are refused by name), or a target that
    /// [`Target::check`] refuses.
    pub fn from_json(text: &[u8]) -> Result<Self, RequestError> {
        if text.len() > REQUEST_BYTES_MAX {
            return Err(RequestError::TooLarge { bytes: text.len() });
        }
        let request: Self = serde_json::from_slice(text)?;
        request.target.check()?;
        Ok(request)
    }
}

/// The most bytes of a request to purge.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        PurgeRequest::from_json(text.as_bytes())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_request_without_a_mode_is_hard() {
        let text = br#"{"target": {"host": "live.example"}}"#;
        let request = PurgeRequest::from_json(text).unwrap();
        assert_eq!(request.mode, Mode::Hard);
        assert_eq!(request.target, Target::Host("live.example".to_owned()));
    }

    #[test]
    fn what_was_written_is_read_back() {
        let request = PurgeRequest {
            target: Target::Prefix {
                host: "a.example".to_owned(),
                path: "/live/".to_owned(),
            },
            mode: Mode::Soft,
        };
        let text = serde_json::to_vec(&request).unwrap();
        assert_eq!(PurgeRequest::from_json(&text).unwrap(), request);
    }

    #[test]
    fn refusals_name_what_is_wrong() {
        let cases = [
            (r#"{"target": {"hosts": "x"}}"#, "unknown variant `hosts`"),
            (r#"{"target": "all", "hard": true}"#, "unknown field `hard`"),
            (
                r#"{"target": "all", "mode": "medium"}"#,
                "expected `soft` or `hard`",
            ),
            (r#"{"mode": "soft"}"#, "missing field `target`"),
            ("all", "expected value"),
        ];
        for (text, expected) in cases {
            assert!(
                refusal(text).contains(expected),
                "{text}: {}",
                refusal(text)
            );
        }
        let large = format!(
            r#"{{"target": {{"host": "{}"}}}}"#,
            "a".repeat(REQUEST_BYTES_MAX)
        );
        assert!(refusal(&large).contains("at most 65536"));
    }
}
