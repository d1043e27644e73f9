//! Requests signed with a shared secret: what is signed, how it is written, how it is checked.
//!
//! Who calls it: [`sign`] is for those who ask (the command line, tests); the authenticator checks.
//! Deliberately not here: nonces that were used before.
//!
//! The string to sign is these lines, each but the last ended by a line feed:
//!
//! ```text
//! SEAWALL-HMAC-SHA256
//! method
//! path, with `?` and the query if there is one
//! host
//! SHA-256 of the body in lower case hexadecimal
//! seconds since 1970
//! nonce
//! then the value of each of `SIGNED_HEADERS`, empty if it is not sent
//! ```
//!
//! The fields of the head are in it because they change what a request means: a signature over less would let
//! whoever stands between turn a soft purge into a hard one.

use std::fmt::Write as _;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use axum::http::HeaderMap;

use super::{Denied, Shown};

/// What is signed, by those who sign.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The method.
    pub method: &'a str,
    /// The host, as it is sent in the `Host` field.
    pub host: &'a str,
    /// The path with its query.
    pub path_and_query: &'a str,
    /// The fields of the head; of them, [`SIGNED_HEADERS`] are signed.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a [u8],
    /// Seconds since 1970.
    pub timestamp: u64,
    /// Something that is used once: visible ASCII without comma, at most [`NONCE_BYTES_MAX`] bytes.
    pub nonce: &'a str,
}

/// Returns the value of `Authorization` for a request, signed with `secret`, which is called `key`.
pub fn sign(key: &str, secret: &[u8], signed: &Signed<'_>) -> String {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
    // A field that is not text is signed as an empty one, and refused by whoever checks.
    let text = string_to_sign(signed).unwrap_or_default();
    let tag = hmac::sign(&secret, text.as_bytes());
    let Signed {
        timestamp, nonce, ..
    } = signed;
    let signature = hex(tag.as_ref());
    format!("{SCHEME} key={key}, timestamp={timestamp}, nonce={nonce}, signature={signature}")
}

/// A signature as it was sent.
#[derive(Debug)]
pub(super) struct Signature<'a> {
    pub(super) key: &'a str,
    pub(super) timestamp: u64,
    pub(super) nonce: &'a str,
    tag: [u8; 32],
}

impl<'a> Signature<'a> {
    /// Reads what stands behind the scheme.
    pub(super) fn read(text: &'a str) -> Result<Self, Denied> {
        let [mut key, mut timestamp, mut nonce, mut signature] = [None; 4];
        for pair in text.split(',') {
            let (name, value) = pair
                .trim()
                .split_once('=')
                .ok_or(Denied::Malformed("a part has no `=`"))?;
            let place = match name {
                "key" => &mut key,
                "timestamp" => &mut timestamp,
                "nonce" => &mut nonce,
                "signature" => &mut signature,
                _ => return Err(Denied::Malformed(PARTS)),
            };
            if place.replace(value).is_some() {
                return Err(Denied::Malformed(PARTS));
            }
        }
        let all = key.zip(timestamp).zip(nonce.zip(signature));
        let ((key, timestamp), (nonce, signature)) = all.ok_or(Denied::Malformed(PARTS))?;
        let is_plain = nonce.bytes().all(|b| b.is_ascii_graphic());
        if nonce.is_empty() || nonce.len() > NONCE_BYTES_MAX || !is_plain {
            return Err(Denied::Malformed("the nonce is not 1 to 128 visible bytes"));
        }
        Ok(Self {
            key,
            timestamp: timestamp
                .parse()
                .map_err(|_| Denied::Malformed("the timestamp is not a number of seconds"))?,
            nonce,
            tag: from_hex(signature).ok_or(Denied::Malformed(
                "the signature is not 64 hexadecimal digits",
            ))?,
        })
    }

    /// Checks the signature in constant time.
    pub(super) fn verify(&self, key: &hmac::Key, shown: &Shown<'_>) -> Result<(), Denied> {
        let text = string_to_sign(&Signed {
            method: shown.method,
            host: shown.host,
            path_and_query: shown.path_and_query,
            headers: shown.headers,
            body: shown.body,
            timestamp: self.timestamp,
            nonce: self.nonce,
        })?;
        hmac::verify(key, text.as_bytes(), &self.tag).map_err(|_| Denied::Invalid)
    }
}

fn string_to_sign(signed: &Signed<'_>) -> Result<String, Denied> {
    let body = hex(digest::digest(&digest::SHA256, signed.body).as_ref());
    let mut text = format!(
        "SEAWALL-HMAC-SHA256\n{}\n{}\n{}\n{body}\n{}\n{}",
        signed.method, signed.path_and_query, signed.host, signed.timestamp, signed.nonce,
    );
    for name in SIGNED_HEADERS {
        let mut values = signed.headers.get_all(name).iter();
        let value = values.next().map_or(Ok(""), |value| value.to_str());
        if values.next().is_some() {
            return Err(Denied::Malformed("a signed field is there twice"));
        }
        text.push('\n');
        text.push_str(value.map_err(|_| Denied::Malformed("a signed field is not text"))?);
    }
    Ok(text)
}

/// Writes bytes in lower case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string can be written to");
    }
    text
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |b: u8| char::from(b).to_digit(16);
    let bytes = text.as_bytes();
    let mut read = [0; 32];
    if bytes.len() != 64 {
        return None;
    }
    for (byte, pair) in read.iter_mut().zip(bytes.chunks_exact(2)) {
        let [high, low] = [digit(pair[0])?, digit(pair[1])?];
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(read)
}

/// The authentication scheme of signatures.
pub const SCHEME: &str = "Seawall-HMAC-SHA256";

/// The fields whose values are signed, in this order.
pub const SIGNED_HEADERS: [&str; 4] = [
    "idempotency-key",
    "surrogate-key",
    "fastly-soft-purge",
    "seawall-confirm",
];

/// How far the clock of those who sign may be from ours.
pub const SKEW_MAX: Duration = Duration::from_secs(60);

/// Bytes of a nonce.
pub const NONCE_BYTES_MAX: usize = 128;

const PARTS: &str = "it has the parts `key`, `timestamp`, `nonce` and `signature`, each once";

/// Returns a nonce that nobody used before: 16 random bytes in hexadecimal.
pub fn fresh_nonce() -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes");
    hex(&bytes)
}
