//! Extensible priorities (RFC 9218) as the order in which one connection's streams are sent.
//!
//! What is here: reading the urgency out of a `Priority` field. Who calls it: `quic::response`, which tells quinn, and `tcp`, for
//! `order`. Deliberately not here: PRIORITY_UPDATE frames, and the `i` parameter: streams of one urgency
//! share the connection in turns.

use http::{HeaderMap, HeaderName};

/// The urgency of a response: 0 is the most urgent, 7 the least; the more urgent is less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Urgency(u8);

impl Urgency {
    /// How many there are.
    pub(super) const COUNT: usize = 8;

    /// What is sent when nothing else is to be.
    pub(super) const LEAST: Self = Self(7);

    /// What is assumed of a response that nobody says anything about (RFC 9218 4.1).
    pub(super) const DEFAULT: Self = Self(3);

    /// Chooses between what the request asks and what the response is by its kind.
    ///
    /// The viewer knows best what it waits for; most do not say, and then it is the response's own
    /// urgency (LB-02), and last the default of RFC 9218 4.1.
    pub(super) fn choose(request: Option<Self>, response: &HeaderMap) -> Self {
        let chosen = request.or_else(|| Self::of(response));
        chosen.unwrap_or(Self::DEFAULT)
    }

    /// Reads the urgency a head asks for; malformed is as good as absent (RFC 9218 4).
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let field = headers.get(PRIORITY)?.to_str().ok()?;
        let mut urgency = None;
        for member in field.split(',') {
            // The last of several wins (RFC 8941 3.2).
            if let Some(value) = member.trim().strip_prefix("u=") {
                // Parameters of the value mean nothing here.
                let value = value.split(';').next().unwrap_or(value);
                urgency = match value.as_bytes() {
                    [digit @ b'0'..=b'7'] => Some(Self(digit - b'0')),
                    _ => None,
                };
            }
        }
        urgency
    }

    /// Returns quinn's priority, where more is sooner.
    pub(super) fn stream_priority(self) -> i32 {
        i32::from(Self::LEAST.0 - self.0)
    }

    /// Returns those that are less urgent, the most urgent of them first.
    pub(super) fn less_urgent(self) -> impl Iterator<Item = Self> {
        (self.0 + 1..=Self::LEAST.0).map(Self)
    }

    /// Returns it as a place among all of them.
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

const PRIORITY: HeaderName = HeaderName::from_static("priority");

#[cfg(test)]
mod tests {
    use super::*;

    fn head(priority: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("priority", priority.parse().unwrap());
        headers
    }

    #[test]
    fn rfc_9218_4_1_urgency_is_read_and_anything_else_is_absent() {
        let cases = [
            ("u=1", Some(1)),
            ("u=0, i", Some(0)),
            ("i, u=7", Some(7)),
            ("u=2;x=1", Some(2)),
            ("u=1,u=5", Some(5)),
            ("u=8", None),
            ("u=-1", None),
            ("u=1.5", None),
            ("u", None),
            ("i", None),
            ("", None),
            ("\"u=1\"", None),
        ];
        for (field, expected) in cases {
            assert_eq!(Urgency::of(&head(field)), expected.map(Urgency), "{field}");
        }
    }

    #[test]
    fn lb_02_the_request_goes_before_the_response_and_both_before_the_default() {
        let response = head("u=1");
        assert_eq!(Urgency::choose(Some(Urgency(6)), &response), Urgency(6));
        assert_eq!(Urgency::choose(None, &response), Urgency(1));
        assert_eq!(Urgency::choose(None, &HeaderMap::new()), Urgency(3));
        assert!(Urgency(1).stream_priority() > Urgency(3).stream_priority());
    }
}
