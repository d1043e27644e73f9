//! Places, times and names in the purge log.
//!
//! Who calls it: everything about the log. Deliberately not here: where the log is kept.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A place in the purge log. The first entry has 1; [`Sequence::START`] lies before it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The place before the first entry.
    pub const START: Self = Self(0);

    /// Returns the place after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Returns the place before this one; before the start there is only the start.
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which log a sequence belongs to: a number drawn when the log is made, never reused.
///
/// A log that is lost and begun anew counts from 1 again. Without its name a node that was at 500 would
/// skip the first five hundred purges of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u64);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for LogId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_plain = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = is_plain.then(|| u64::from_str_radix(text, 16).ok());
        number
            .flatten()
            .map(Self)
            .ok_or_else(|| NameError::Log(shown(text)))
    }
}

/// What a purge is called from outside: its log and its place there, as in `0123456789abcdef-42`.
///
/// Nothing has to be kept to find a purge by its name, and the name of a purge in a lost log names nothing
/// in the log that replaced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PurgeId {
    /// The log.
    pub log: LogId,
    /// The place.
    pub sequence: Sequence,
}

impl fmt::Display for PurgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.log, self.sequence)
    }
}

impl FromStr for PurgeId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused = || NameError::Purge(shown(text));
        let (log, sequence) = text.split_once('-').ok_or_else(refused)?;
        let is_plain = !sequence.is_empty()
            && !sequence.starts_with('0')
            && sequence.bytes().all(|b| b.is_ascii_digit());
        let sequence = if is_plain { sequence.parse() } else { Ok(0) };
        match (log.parse(), sequence) {
            (Ok(log), Ok(sequence @ 1..)) => Ok(Self {
                log,
                sequence: Sequence(sequence),
            }),
            _ => Err(refused()),
        }
    }
}

/// The name of a node as it reports to the log: at most [`NODE_NAME_BYTES_MAX`] bytes that need no quoting.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct NodeName(String);

impl NodeName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        let fits = !text.is_empty() && text.len() <= NODE_NAME_BYTES_MAX;
        if fits && text.bytes().all(is_plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Node(shown(text)))
        }
    }
}

/// A wall time in milliseconds since 1970: what a log can keep and every language can read.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Returns how long before `self` the time `earlier` was; zero if it was not.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<SystemTime> for UnixMillis {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Why a text is not the name of something in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a log.
    #[error("`{0}` is not a log: 16 hexadecimal digits")]
    Log(String),
    /// Not a purge.
    #[error("`{0}` is not a purge: a log, a hyphen and a number, as in `0123456789abcdef-42`")]
    Purge(String),
    /// Not a node.
    #[error("`{0}` is not a node: letters, digits and `-._:`, at most {NODE_NAME_BYTES_MAX} bytes")]
    Node(String),
}

/// Bytes of a node's name.
pub const NODE_NAME_BYTES_MAX: usize = 128;

/// Returns the beginning of a hostile text, for an error about it.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

const SHOWN_CHARS_MAX: usize = 64;

/// Serializes as text what is written as text.
macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text!(LogId, PurgeId);

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_is_found_again_by_what_it_is_called() {
        let id = PurgeId {
            log: LogId(0xab),
            sequence: Sequence(42),
        };
        assert_eq!(id.to_string(), "00000000000000ab-42");
        assert_eq!("00000000000000ab-42".parse(), Ok(id));
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<PurgeId>(&text).unwrap(), id);
    }

    #[test]
    fn texts_that_name_nothing_are_refused() {
        let purges = [
            "",
            "-",
            "ab-42",
            "00000000000000ab-0",
            "00000000000000ab-01",
            "00000000000000ab-+1",
            "00000000000000ab-99999999999999999999",
            "000000000000+0ab-1",
            "00000000000000ab-1-1",
        ];
        for text in purges {
            assert!(text.parse::<PurgeId>().is_err(), "{text}");
        }
        for text in ["", "a b", "a/b", "ä", &"a".repeat(129)] {
            assert!(text.parse::<NodeName>().is_err(), "{text}");
        }
        assert!("fra-1.example:8443".parse::<NodeName>().is_ok());
    }
}
