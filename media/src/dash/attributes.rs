//! The attributes of an XML element as numbers, dates and durations, and the entities of any text.

use std::time::Duration;

use super::limits::MpdError;
use crate::time::{parse_date_time, parse_duration};

/// The attributes of an element.
pub(super) struct Attributes {
    pairs: Vec<(String, String)>,
    at: u64,
}

impl Attributes {
    /// Takes names and values, read at byte `at`.
    pub(super) fn new(pairs: Vec<(String, String)>, at: u64) -> Self {
        Self { pairs, at }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.trim_ascii())
    }

    pub(super) fn owned(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    pub(super) fn number(&self, name: &'static str) -> Result<Option<u64>, MpdError> {
        self.read(name, |value| value.parse().ok())
    }

    pub(super) fn date(&self, name: &'static str) -> Result<Option<Duration>, MpdError> {
        self.read(name, parse_date_time)
    }

    pub(super) fn duration(&self, name: &'static str) -> Result<Option<Duration>, MpdError> {
        self.read(name, parse_duration)
    }

    pub(super) fn seconds(&self, name: &'static str) -> Result<Option<Duration>, MpdError> {
        self.read(name, |value| seconds(value.parse().ok()?))
    }

    /// Reads an availability time offset, which may be `INF`.
    pub(super) fn offset(&self, name: &'static str) -> Result<Option<Duration>, MpdError> {
        self.read(name, |value| match value {
            "INF" => Some(Duration::from_secs(SECONDS_MAX)),
            number => seconds(number.parse().ok()?),
        })
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| value == "true" || value == "1")
    }

    fn read<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, MpdError> {
        let malformed = MpdError::Malformed {
            what: name,
            at: self.at,
        };
        self.get(name)
            .map(|value| read(value).ok_or(malformed))
            .transpose()
    }
}

/// Returns what one of the five entities stands for that XML has of itself (XML 1.0 4.6).
pub(super) fn predefined_entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

fn seconds(number: f64) -> Option<Duration> {
    let duration = Duration::try_from_secs_f64(number).ok()?;
    (duration.as_secs() <= SECONDS_MAX).then_some(duration)
}

/// Thirty years: sums of offsets stay far from overflow.
const SECONDS_MAX: u64 = 1_000_000_000;
