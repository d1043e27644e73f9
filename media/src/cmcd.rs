//! Common Media Client Data (CTA-5004): what players say about how playing goes.
//!
//! `node` parses it once per request and adds it up per presentation. Deliberately not here: keys and
//! forwarding; CMCD never selects a response (HX-02), and nothing a player says is trusted beyond a
//! figure in a report.

use std::borrow::Cow;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use sfv::{BareItem, Dictionary, ListEntry, Parser};

/// Bytes of one request's CMCD that are read; a longer set is ignored as a whole.
pub const CMCD_BYTES_MAX: usize = 4096;

/// The newest version that is understood (HX-01).
pub const CMCD_VERSION_MAX: i64 = 2;

/// Characters of a session id; CTA-5004 recommends a UUID and allows 64.
pub const SESSION_CHARS_MAX: usize = 64;

/// What one request says, of the keys that a cache can use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cmcd {
    /// `sid`: the playback session.
    pub session: Option<String>,
    /// `bl`: media in the buffer.
    pub buffer: Option<Duration>,
    /// `bs`: the buffer ran dry since the last request.
    pub is_starved: bool,
    /// `su`: the buffer is being filled at start, after a seek or after starvation.
    pub is_startup: bool,
    /// `br`: the encoded bit rate of the requested object, in kb/s.
    pub bitrate_kbps: Option<u64>,
    /// `mtp`: the throughput the player measured, in kb/s.
    pub throughput_kbps: Option<u64>,
    /// `ltc` (version 2): the latency behind live.
    pub latency: Option<Duration>,
    /// `nor`: what the player will probably ask for next, relative to the request.
    pub next_object: Option<String>,
}

impl Cmcd {
    /// Reads the four header fields `CMCD-Request`, `-Object`, `-Status` and `-Session` together.
    ///
    /// Returns `None` where there is nothing, too much, or something that is not CMCD.
    pub fn of_fields<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut text = Vec::new();
        for line in lines {
            if text.len() + line.len() > CMCD_BYTES_MAX {
                return None;
            }
            if !text.is_empty() {
                text.extend_from_slice(b", ");
            }
            text.extend_from_slice(line);
        }
        Self::parse(&text)
    }

    /// Reads the `CMCD` parameter of a raw query.
    pub fn of_query(query: &str) -> Option<Self> {
        if query.is_empty() {
            return None;
        }
        let value = query.split('&').find_map(|p| p.strip_prefix("CMCD="))?;
        if value.len() > CMCD_BYTES_MAX {
            return None;
        }
        let text: Cow<'_, [u8]> = percent_decode_str(value).into();
        Self::parse(&text)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let members = Parser::new(text).parse::<Dictionary>().ok()?;
        // HX-01: a set of a newer version may mean something else by the same keys.
        let version = members.get("v").and_then(integer).unwrap_or(1);
        if members.is_empty() || version > CMCD_VERSION_MAX {
            return None;
        }
        let mut said = Self::default();
        for (name, value) in &members {
            match name.as_str() {
                "sid" => said.session = text_of(value, SESSION_CHARS_MAX),
                "bl" => said.buffer = milliseconds(value),
                "bs" => said.is_starved = is_true(value),
                "su" => said.is_startup = is_true(value),
                "br" => said.bitrate_kbps = number(value),
                "mtp" => said.throughput_kbps = number(value),
                "ltc" => said.latency = milliseconds(value),
                "nor" => said.next_object = text_of(value, CMCD_BYTES_MAX).map(decoded),
                _ => {} // HX-01: unknown keys are ignored.
            }
        }
        Some(said)
    }
}

/// The first item: version 2 lists values per type of object.
fn bare(value: &ListEntry) -> Option<&BareItem> {
    match value {
        ListEntry::Item(item) => Some(&item.bare_item),
        ListEntry::InnerList(list) => list.items.first().map(|item| &item.bare_item),
    }
}

fn integer(value: &ListEntry) -> Option<i64> {
    bare(value)?.as_integer().map(i64::from)
}

fn number(value: &ListEntry) -> Option<u64> {
    integer(value).and_then(|n| u64::try_from(n).ok())
}

/// No buffer and no latency is longer than a day; what claims to be would spoil every average.
fn milliseconds(value: &ListEntry) -> Option<Duration> {
    number(value)
        .map(Duration::from_millis)
        .filter(|time| *time <= Duration::from_secs(86_400))
}

fn is_true(value: &ListEntry) -> bool {
    matches!(bare(value), Some(BareItem::Boolean(true)))
}

fn text_of(value: &ListEntry, chars_max: usize) -> Option<String> {
    match bare(value)? {
        BareItem::String(text) if text.as_str().len() <= chars_max => {
            Some(text.as_str().to_owned())
        }
        _ => None,
    }
}

/// CTA-5004: the value of `nor` is URL-encoded inside its quotes.
fn decoded(text: String) -> String {
    percent_decode_str(&text)
        .decode_utf8()
        .map_or_else(|_| String::new(), Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hx_01_a_query_and_the_fields_say_the_same() {
        let expected = Cmcd {
            session: Some("6e2fb550-c457".to_owned()),
            buffer: Some(Duration::from_millis(21_300)),
            is_starved: true,
            is_startup: false,
            bitrate_kbps: Some(3200),
            throughput_kbps: Some(25_400),
            latency: None,
            next_object: Some("../300kbps/seg35.m4v".to_owned()),
        };
        let query = "a=1&CMCD=bl%3D21300%2Cbr%3D3200%2Cbs%2Cmtp%3D25400%2Cnor%3D%22..%252F300kbps%252Fseg35.m4v%22%2Csid%3D%226e2fb550-c457%22&b=2";
        assert_eq!(Cmcd::of_query(query), Some(expected.clone()));
        let fields: [&[u8]; 4] = [
            b"bl=21300,mtp=25400,nor=\"..%2F300kbps%2Fseg35.m4v\"",
            b"br=3200,d=4004,ot=v,tb=6000",
            b"bs,rtp=15000",
            b"sid=\"6e2fb550-c457\",st=l,sf=h",
        ];
        assert_eq!(Cmcd::of_fields(fields), Some(expected));
    }

    #[test]
    fn hx_01_lists_of_version_2_count_by_their_first_value() {
        let said = Cmcd::of_fields([&b"v=2,bl=(1500;v 900;a),br=(3200 128),ltc=2040,su"[..]]);
        let said = said.expect("it is CMCD");
        assert_eq!(said.buffer, Some(Duration::from_millis(1500)));
        assert_eq!(said.latency, Some(Duration::from_millis(2040)));
        assert!(said.is_startup && said.bitrate_kbps == Some(3200));
    }

    #[test]
    fn hx_01_what_is_newer_too_long_or_broken_is_ignored_as_a_whole() {
        let long = format!("sid=\"{}\"", "x".repeat(CMCD_BYTES_MAX));
        for text in ["", "v=3,bl=1", "bl=", "bl=1,,", "\u{e9}", long.as_str()] {
            assert_eq!(Cmcd::of_fields([text.as_bytes()]), None, "{text:?}");
        }
        let odd =
            Cmcd::of_fields([&b"bl=-5,br=2.5,sid=token,bs=?0,nor=\"%ff\",com.example-x=1"[..]]);
        let expected = Cmcd {
            next_object: Some(String::new()),
            ..Cmcd::default()
        };
        assert_eq!(odd, Some(expected), "values of a wrong type do not count");
        let over = Cmcd::of_fields([&b"bl=99999999999"[..]]).expect("it is CMCD");
        assert_eq!(over.buffer, None);
    }

    proptest! {
        #[test]
        fn any_query_is_read_without_a_panic(value in ".{0,200}") {
            let query = format!("CMCD={value}");
            let said = Cmcd::of_query(&query);
            prop_assert!(said.is_none_or(|s| s.session.is_none_or(|s| s.len() <= SESSION_CHARS_MAX)));
        }
    }
}
