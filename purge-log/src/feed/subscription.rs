//! Who asks for the feed, and where it begins.

use std::fmt;

use crate::{LogId, NodeName, Sequence};

/// Who asks for the feed, and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Who asks.
    pub node: NodeName,
    /// Where the feed begins.
    pub start: Start,
}

/// Where a feed begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Behind an entry of a log: the node applied everything up to it.
    After(LogId, Sequence),
    /// With the last so many entries: the node has nothing stored yet, but may have children that do.
    Latest(u64),
}

/// Why a query asks for no feed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    /// A parameter that is needed is missing.
    #[error("`{0}` is missing: `node` and either `log` and `after`, or `latest`")]
    Missing(&'static str),
    /// A parameter nobody knows, or one that is there twice.
    #[error("a parameter is unknown or there twice: `node`, `log`, `after` and `latest` are read")]
    Unexpected,
    /// A parameter with a value it cannot have.
    #[error("`{0}` cannot be read")]
    Value(&'static str),
}

impl Subscription {
    /// Reads the query of a request for the feed.
    ///
    /// # Errors
    ///
    /// Names the parameter that is missing or cannot be read.
    pub fn from_query(query: &str) -> Result<Self, SubscriptionError> {
        let [mut node, mut log, mut after, mut latest] = [None; 4];
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = match name {
                "node" => &mut node,
                "log" => &mut log,
                "after" => &mut after,
                "latest" => &mut latest,
                _ => return Err(SubscriptionError::Unexpected),
            };
            if place.replace(value).is_some() {
                return Err(SubscriptionError::Unexpected);
            }
        }
        let node = node.ok_or(SubscriptionError::Missing("node"))?;
        let start = match (log, after, latest) {
            (Some(log), Some(after), None) => {
                let log = log.parse().map_err(|_| SubscriptionError::Value("log"))?;
                Start::After(log, Sequence(number("after", after)?))
            }
            (None, None, Some(latest)) => Start::Latest(number("latest", latest)?.min(LATEST_MAX)),
            (_, None, None) => return Err(SubscriptionError::Missing("after")),
            (None, Some(_), None) => return Err(SubscriptionError::Missing("log")),
            (_, _, Some(_)) => return Err(SubscriptionError::Unexpected),
        };
        Ok(Self {
            node: node.parse().map_err(|_| SubscriptionError::Value("node"))?,
            start,
        })
    }
}

/// Writes the query of a request for the feed.
impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name of a node is made of bytes that need no escape in a query.
        write!(f, "node={}", self.node)?;
        match self.start {
            Start::After(log, after) => write!(f, "&log={log}&after={after}"),
            Start::Latest(latest) => write!(f, "&latest={latest}"),
        }
    }
}

fn number(name: &'static str, text: &str) -> Result<u64, SubscriptionError> {
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = is_plain.then(|| text.parse().ok()).flatten();
    number.ok_or(SubscriptionError::Value(name))
}

/// The most entries a feed may begin with.
pub const LATEST_MAX: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for start in [
            Start::Latest(0),
            Start::Latest(1000),
            Start::After(LogId(0xfe), Sequence(12)),
        ] {
            let node = "fra-1:8443".parse().unwrap();
            let subscription = Subscription { node, start };
            let text = subscription.to_string();
            assert_eq!(Subscription::from_query(&text), Ok(subscription), "{text}");
        }
    }

    #[test]
    fn queries_that_ask_for_nothing_are_refused_by_name() {
        let cases = [
            ("", "`node` is missing"),
            ("node=a", "`after` is missing"),
            ("node=a&after=1", "`log` is missing"),
            ("node=a&log=00000000000000fe", "`after` is missing"),
            ("node=a&log=x&after=1", "`log` cannot"),
            ("node=a&log=00000000000000fe&after=-1", "`after` cannot"),
            ("node=a%20b&latest=1", "`node` cannot"),
            ("node=a&latest=1&latest=2", "unknown or there twice"),
            ("node=a&latest=1&extra=2", "unknown or there twice"),
            ("node=a&latest=1&after=2", "unknown or there twice"),
        ];
        for (query, expected) in cases {
            let refused = Subscription::from_query(query).unwrap_err().to_string();
            assert!(refused.contains(expected), "{query}: {refused}");
        }
    }
}
