//! Content codings: which one a request wants, and the coded forms of a body (RFC 9110 8.4, 12.5.3).
//!
//! A text is coded once per coding, by whoever asks first, and shared by everybody; its forms are kept
//! beside it and live as long as it does. `node` asks for a [`Form`], does the coding, and names the
//! result by [`Coding::tag`]. Deliberately not here: the coders themselves, and which texts are worth
//! coding (`node`); what an origin coded is never touched.

use std::sync::OnceLock;

use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};

use crate::body::{GrowingBody, Writer};

/// The most members of an `Accept-Encoding` that are looked at; those behind do not count.
pub const ACCEPTED_MAX: usize = 32;

/// A content coding that a text is offered in, beside none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Zstandard (RFC 8878).
    Zstd,
    /// Brotli (RFC 7932).
    Brotli,
    /// gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// Every coding, the one we would rather send first.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// Returns the name in `Accept-Encoding` and `Content-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// Returns the name as the value of `Content-Encoding`.
    pub const fn field_value(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }

    /// Returns the entity tag of a body in this coding, given the tag of the body as it is (CA-18).
    ///
    /// `"v1"` becomes `"v1-zstd"`, `"v1-br"` or `"v1-gzip"`; a weak tag stays weak. `None` for what is
    /// no entity tag.
    pub fn tag(self, plain: &HeaderValue) -> Option<HeaderValue> {
        let inside = plain.as_bytes().strip_suffix(b"\"")?;
        // Something must be before the quote, or it is the one that opens the tag.
        inside.contains(&b'"').then_some(())?;
        let mut tag = Vec::with_capacity(plain.len() + 5);
        tag.extend_from_slice(inside);
        tag.push(b'-');
        tag.extend_from_slice(self.name().as_bytes());
        tag.push(b'"');
        HeaderValue::from_bytes(&tag).ok()
    }

    const fn index(self) -> usize {
        match self {
            Self::Zstd => 0,
            Self::Brotli => 1,
            Self::Gzip => 2,
        }
    }

    fn of_name(name: &[u8]) -> Option<Self> {
        if name.eq_ignore_ascii_case(b"x-gzip") {
            return Some(Self::Gzip); // RFC 9110 8.4.1.3: the same.
        }
        Self::ALL
            .into_iter()
            .find(|coding| name.eq_ignore_ascii_case(coding.name().as_bytes()))
    }
}

/// Returns the coding that a request wants for a text, or `None` for none (RFC 9110 12.5.3).
///
/// The greatest weight wins, and of equal ones the first of [`Coding::ALL`]. A client that says nothing
/// gets the text as it is: it could take any coding, but most that say nothing can take none. So does
/// one that refuses everything: the RFC prefers that to an error.
pub fn wanted(request: &HeaderMap) -> Option<Coding> {
    let said = Weights::of(request);
    let weight = |coding: Coding| said.codings[coding.index()].or(said.any).unwrap_or(0);
    let plain = said.identity.unwrap_or(0);
    Coding::ALL
        .into_iter()
        .filter(|coding| weight(*coding) > 0 && weight(*coding) >= plain)
        // Of equal ones `max_by_key` takes the last.
        .rev()
        .max_by_key(|coding| weight(*coding))
}

/// Weights in thousandths; `None` where nothing was said.
#[derive(Clone, Copy, Debug, Default)]
struct Weights {
    codings: [Option<u16>; Coding::ALL.len()],
    identity: Option<u16>,
    any: Option<u16>,
}

impl Weights {
    fn of(request: &HeaderMap) -> Self {
        let mut said = Self::default();
        let members = request
            .get_all(ACCEPT_ENCODING)
            .iter()
            .flat_map(|line| line.as_bytes().split(|b| *b == b','));
        for member in members.take(ACCEPTED_MAX) {
            let mut parts = member.splitn(2, |b| *b == b';');
            let name = parts.next().unwrap_or_default().trim_ascii();
            let Some(weight) = parts.next().map_or(Some(WEIGHT_MAX), weight) else {
                continue; // A weight that cannot be read says nothing.
            };
            if let Some(coding) = Coding::of_name(name) {
                said.codings[coding.index()] = Some(weight);
            } else if name.eq_ignore_ascii_case(b"identity") {
                said.identity = Some(weight);
            } else if name == b"*" {
                said.any = Some(weight);
            }
        }
        said
    }
}

/// Reads a weight (RFC 9110 12.4.2): `q=` and a number from 0 to 1 with at most three decimals.
fn weight(parameter: &[u8]) -> Option<u16> {
    let parameter = parameter.trim_ascii();
    let number = parameter
        .strip_prefix(b"q=")
        .or_else(|| parameter.strip_prefix(b"Q="))?;
    let (whole, decimals) = match number {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    if !matches!(whole, b'0' | b'1') || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| decimals.get(at).map_or(0, |digit| u16::from(digit - b'0'));
    let weight = u16::from(whole - b'0') * 1000 + digit(0) * 100 + digit(1) * 10 + digit(2);
    (weight <= WEIGHT_MAX).then_some(weight)
}

const WEIGHT_MAX: u16 = 1000;

/// The coded forms of one text, each made once.
///
/// A form is a body like any other: it grows, once, to whole or failed. A failed one says that the
/// text is to be sent as it is: the coding did not make it smaller, or its coder died.
///
/// Limits: a form is smaller than its text, so all of them take at most [`Codings::bytes_max`].
#[derive(Debug, Default)]
pub struct Codings {
    forms: [OnceLock<GrowingBody>; Coding::ALL.len()],
}

/// A coded form of a text.
#[derive(Debug)]
pub struct Form {
    /// The form; it may still be growing.
    pub body: GrowingBody,
    /// For the first to ask: the hand that is to write it. Whoever drops it fails the form.
    pub writer: Option<Writer>,
}

impl Codings {
    /// Returns no form yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the form in `coding`; the first to ask is to write it.
    pub fn form(&self, coding: Coding) -> Form {
        let mut writer = None;
        let body = self.forms[coding.index()].get_or_init(|| {
            let (first, body) = GrowingBody::new();
            writer = Some(first);
            body
        });
        Form {
            body: body.clone(),
            writer,
        }
    }

    /// Returns the most memory that the forms of a text of `text_bytes` can take.
    pub const fn bytes_max(text_bytes: u64) -> u64 {
        text_bytes
            .saturating_add(FORM_OVERHEAD_BYTES)
            .saturating_mul(Coding::ALL.len() as u64)
    }
}

/// What a form costs beside its bytes: a shared body and its chunk list.
const FORM_OVERHEAD_BYTES: u64 = 320;

#[cfg(all(test, not(shuttle)))]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::body::{BodyFailure, BodyState};

    fn ask(lines: &[&[u8]]) -> Option<Coding> {
        let mut request = HeaderMap::new();
        for line in lines {
            request.append(
                ACCEPT_ENCODING,
                HeaderValue::from_bytes(line).expect("a case is a field value"),
            );
        }
        wanted(&request)
    }

    #[test]
    fn rfc_9110_12_5_3_the_greatest_weight_wins_and_of_equal_ones_the_densest() {
        for (value, coding) in [
            ("", None),
            ("identity", None),
            ("gzip", Some(Coding::Gzip)),
            ("GZIP", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("deflate", None),
            ("gzip, deflate, br", Some(Coding::Brotli)),
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip;q=1.0, br;q=0.9, zstd;q=0.8", Some(Coding::Gzip)),
            ("gzip;q=0.001", Some(Coding::Gzip)),
            ("gzip ; q=0.5 , br;q=0.5", Some(Coding::Brotli)),
            ("gzip;q=0, br", Some(Coding::Brotli)),
            ("gzip;q=0.000", None),
            ("*", Some(Coding::Zstd)),
            ("*;q=0.5, gzip", Some(Coding::Gzip)),
            ("*, zstd;q=0", Some(Coding::Brotli)),
            ("*;q=0", None),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip", Some(Coding::Gzip)),
            ("identity;q=0.5, gzip;q=0.5", Some(Coding::Gzip)),
            ("identity;q=0, gzip;q=0.1", Some(Coding::Gzip)),
            ("identity;q=0", None),
        ] {
            assert_eq!(ask(&[value.as_bytes()]), coding, "{value}");
        }
        assert_eq!(ask(&[b"gzip", b"br"]), Some(Coding::Brotli));
        assert_eq!(ask(&[]), None);
    }

    #[test]
    fn b70_what_cannot_be_read_says_nothing() {
        for value in [
            &b";;q==,\xff"[..],
            b"gzip;q=2",
            b"gzip;q=1.001",
            b"gzip;q=0.0000",
            b"gzip;q=-1",
            b"gzip;q=",
            b"gzip;level=9",
            b"gzip;q=1;q=0",
        ] {
            assert_eq!(ask(&[value]), None, "{value:?}");
        }
        let many = vec!["x"; 1000].join(",");
        assert_eq!(ask(&[many.as_bytes(), b"gzip"]), None);
        let few = vec!["x"; ACCEPTED_MAX - 1].join(",");
        assert_eq!(ask(&[few.as_bytes(), b"gzip"]), Some(Coding::Gzip));
    }

    #[test]
    fn ca_18_every_coding_has_an_entity_tag_of_its_own() {
        let tag = |plain: &str, coding: Coding| {
            let tag = coding.tag(&HeaderValue::from_str(plain).unwrap());
            tag.map(|tag| tag.to_str().unwrap().to_owned())
        };
        assert_eq!(tag("\"v1\"", Coding::Zstd).as_deref(), Some("\"v1-zstd\""));
        assert_eq!(tag("\"v1\"", Coding::Brotli).as_deref(), Some("\"v1-br\""));
        assert_eq!(
            tag("W/\"v1\"", Coding::Gzip).as_deref(),
            Some("W/\"v1-gzip\"")
        );
        assert_eq!(tag("\"\"", Coding::Gzip).as_deref(), Some("\"-gzip\""));
        for broken in ["", "\"", "v1", "W/\""] {
            assert_eq!(tag(broken, Coding::Gzip), None, "{broken}");
        }
    }

    #[test]
    fn a_form_is_written_by_the_first_who_asks_and_read_by_all() {
        let codings = Codings::new();
        let first = codings.form(Coding::Gzip);
        let second = codings.form(Coding::Gzip);
        assert!(second.writer.is_none());
        assert!(codings.form(Coding::Zstd).writer.is_some());
        let mut writer = first.writer.unwrap();
        writer.push(Bytes::from_static(b"coded"));
        writer.complete();
        assert_eq!(second.body.len_if_complete(), Some(5));
        // Nobody wrote the other one: it is failed for all who come, and not tried again.
        let other = codings.form(Coding::Zstd);
        assert!(other.writer.is_none());
        let ended = BodyState::Failed(BodyFailure::Abandoned);
        assert_eq!(other.body.progress().state, ended);
    }

    proptest! {
        #[test]
        fn no_accept_encoding_is_a_panic(value in proptest::collection::vec(0x20_u8..=0x7e, 0..80)) {
            let wanted = ask(&[&value]);
            prop_assert!(wanted.is_none() || !value.is_empty());
        }
    }
}
