//! The head of a response as a HEADERS frame, written in one pass.
//!
//! h3 writes heads too, but in the Huffman code, bit by bit, through several copies of each name and value: some
//! 45,000 instructions for a head of thirteen fields, more than everything else a hit of 1.5 KB costs over HTTP/3.
//! Here names and values are found in QPACK's static table or written as they are, which is some 200 bytes more
//! on the wire. Who calls it: `response`. Deliberately not here: the dynamic table, which would make a response wait for
//! another stream (HX-18), and requests, which h3 decodes.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use quinn::VarInt;

use super::frames::put_varint;

/// Writes the head of a response (RFC 9114 4.1, 7.2.2); `None` if a client may not take so much.
///
/// RFC 9114 4.2.2: a client says how much, which h3 knows and does not tell. Every client of the web takes 4 KiB;
/// what is larger goes through h3, which checks.
pub(super) fn headers_frame(status: StatusCode, fields: &HeaderMap) -> Option<Bytes> {
    // As SETTINGS_MAX_FIELD_SECTION_SIZE counts: 32 bytes for each field (RFC 9114 4.2.2).
    let size_of = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        name.as_str().len() + value.len() + 32
    };
    let size = fields.iter().map(size_of).sum::<usize>() + STATUS_BYTES;
    if size > SECTION_BYTES_MAX {
        return None;
    }
    let mut section = BytesMut::with_capacity(size);
    // RFC 9204 4.5.1: nothing of the dynamic table is needed.
    section.put_slice(&[0, 0]);
    put_status(&mut section, status);
    for (name, value) in fields {
        put_field(
            &mut section,
            name.as_str(),
            value.as_bytes(),
            value.is_sensitive(),
        );
    }
    let mut frame = BytesMut::with_capacity(section.len() + 5);
    frame.put_u8(HEADERS_FRAME);
    let length = VarInt::try_from(section.len() as u64).expect("a head is small");
    put_varint(&mut frame, length);
    frame.extend_from_slice(&section);
    Some(frame.freeze())
}

fn put_status(section: &mut BytesMut, status: StatusCode) {
    // RFC 9204, appendix A.
    let index = match status.as_u16() {
        200 => 25,
        206 => 65,
        304 => 26,
        204 => 64,
        400 => 67,
        403 => 68,
        404 => 27,
        425 => 70,
        500 => 71,
        503 => 28,
        _ => {
            put_integer(section, NAME_REFERENCE, 4, 24);
            put_text(section, status.as_str().as_bytes());
            return;
        }
    };
    put_integer(section, INDEXED, 6, index);
}

fn put_field(section: &mut BytesMut, name: &str, value: &[u8], is_sensitive: bool) {
    if let Some(index) = static_field(name, value) {
        put_integer(section, INDEXED, 6, index);
        return;
    }
    // RFC 9204 7.1.3: nobody on the way may keep it in a table.
    let never_indexed = |bit: u8| if is_sensitive { bit } else { 0 };
    match static_name(name) {
        Some(index) => put_integer(section, NAME_REFERENCE | never_indexed(0x20), 4, index),
        None => {
            let flags = LITERAL_NAME | never_indexed(0x10);
            put_integer(section, flags, 3, name.len());
            section.put_slice(name.as_bytes());
        }
    }
    put_text(section, value);
}

/// Writes a text as it is (RFC 9204 4.1.2).
fn put_text(section: &mut BytesMut, text: &[u8]) {
    put_integer(section, 0, 7, text.len());
    section.put_slice(text);
}

/// Writes an integer behind `flags`, in the low `bits` of their byte if it fits (RFC 7541 5.1).
pub(super) fn put_integer(section: &mut BytesMut, flags: u8, bits: u32, value: usize) {
    let full = (1_usize << bits) - 1;
    if value < full {
        section.put_u8(flags | low_byte(value));
        return;
    }
    section.put_u8(flags | low_byte(full));
    let mut rest = value - full;
    while rest >= 0x80 {
        section.put_u8(low_byte(rest & 0x7f) | 0x80);
        rest >>= 7;
    }
    section.put_u8(low_byte(rest));
}

fn low_byte(value: usize) -> u8 {
    u8::try_from(value & 0xff).expect("masked")
}

/// Returns the place of a field in the static table, of those that media responses have.
fn static_field(name: &str, value: &[u8]) -> Option<usize> {
    Some(match (name, value) {
        ("accept-ranges", b"bytes") => 32,
        ("access-control-allow-origin", b"*") => 35,
        ("timing-allow-origin", b"*") => 93,
        ("cache-control", b"no-cache") => 39,
        ("cache-control", b"no-store") => 40,
        ("cache-control", b"public, max-age=31536000") => 41,
        ("content-encoding", b"br") => 42,
        ("content-encoding", b"gzip") => 43,
        ("vary", b"accept-encoding") => 59,
        ("vary", b"origin") => 60,
        ("age", b"0") => 2,
        ("content-length", b"0") => 4,
        ("x-content-type-options", b"nosniff") => 61,
        _ => return None,
    })
}

/// Returns the place of a name in the static table.
fn static_name(name: &str) -> Option<usize> {
    Some(match name {
        "age" => 2,
        "content-disposition" => 3,
        "content-length" => 4,
        "date" => 6,
        "etag" => 7,
        "last-modified" => 10,
        "link" => 11,
        "location" => 12,
        "set-cookie" => 14,
        "accept-ranges" => 32,
        "access-control-allow-headers" => 33,
        "access-control-allow-origin" => 35,
        "cache-control" => 36,
        "content-encoding" => 42,
        "content-type" => 44,
        "strict-transport-security" => 56,
        "vary" => 59,
        "x-content-type-options" => 61,
        "access-control-allow-credentials" => 73,
        "access-control-allow-methods" => 76,
        "access-control-expose-headers" => 79,
        "alt-svc" => 83,
        "content-security-policy" => 85,
        "server" => 92,
        "timing-allow-origin" => 93,
        "x-frame-options" => 97,
        _ => return None,
    })
}

/// RFC 9114 7.2.2.
pub(super) const HEADERS_FRAME: u8 = 0x01;
/// RFC 9204 4.5.2, of the static table.
const INDEXED: u8 = 0b1100_0000;
/// RFC 9204 4.5.4, to the static table.
const NAME_REFERENCE: u8 = 0b0101_0000;
/// RFC 9204 4.5.6.
const LITERAL_NAME: u8 = 0b0010_0000;
/// `:status` and three digits.
const STATUS_BYTES: usize = 7 + 3 + 32;
const SECTION_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn rfc_9204_4_1_1_integers_take_as_many_bytes_as_they_need() {
        let encoded = |flags, bits, value| {
            let mut section = BytesMut::new();
            put_integer(&mut section, flags, bits, value);
            section.to_vec()
        };
        // RFC 7541, C.1.
        assert_eq!(encoded(0, 5, 10), [10]);
        assert_eq!(encoded(0, 5, 1337), [31, 154, 10]);
        assert_eq!(encoded(0, 7, 42), [42]);
        assert_eq!(encoded(0x80, 7, 127), [0xff, 0]);
        assert_eq!(encoded(0x20, 3, 7), [0x27, 0]);
    }

    #[test]
    fn rfc_9204_4_5_fields_refer_to_the_static_table_or_are_written_out() {
        let mut fields = HeaderMap::new();
        fields.insert("accept-ranges", HeaderValue::from_static("bytes"));
        fields.insert("age", HeaderValue::from_static("7"));
        fields.insert("x-a", HeaderValue::from_static("b"));
        let frame = headers_frame(StatusCode::PARTIAL_CONTENT, &fields).unwrap();
        let expected = [
            &[0x01, 14][..],
            &[0, 0],
            &[0xc0 | 63, 2],
            &[0xc0 | 32],
            &[0x50 | 2, 1, b'7'],
            &[0x20 | 3, b'x', b'-', b'a', 1, b'b'],
        ];
        assert_eq!(&frame[..], expected.concat());
    }

    #[test]
    fn rfc_9204_7_1_3_what_is_sensitive_is_never_indexed() {
        let mut fields = HeaderMap::new();
        let mut secret = HeaderValue::from_static("s");
        secret.set_sensitive(true);
        fields.insert("set-cookie", secret.clone());
        fields.insert("x-a", secret);
        let frame = headers_frame(StatusCode::OK, &fields).unwrap();
        let expected = [
            &[0x01, 12][..],
            &[0, 0, 0xc0 | 25],
            &[0x70 | 14, 1, b's'],
            &[0x30 | 3, b'x', b'-', b'a', 1, b's'],
        ];
        assert_eq!(&frame[..], expected.concat());
    }

    #[test]
    fn rfc_9114_4_2_2_a_large_head_is_left_to_who_knows_the_clients_limit() {
        let mut fields = HeaderMap::new();
        fields.insert("x-large", "v".repeat(4096).parse().unwrap());
        assert!(headers_frame(StatusCode::OK, &fields).is_none());
    }
}
