//! The head of a request, taken out of the Huffman code before h3 sees it.
//!
//! h3 reads texts in that code bit by bit; as they are, it copies them. Every client uses the code for most of its fields.
//! Here the texts of a HEADERS frame that has come in one piece are decoded by a table and the frame is written
//! anew; all else, what is malformed included, is left for h3 as it came: it is h3 that judges a request. Who calls it:
//! `adapter`. Deliberately not here: what a head says.

use bytes::{Bytes, BytesMut};

use super::head::{HEADERS_FRAME, put_integer};
use super::huffman;

/// Returns `came`, the first bytes of a request stream, with the texts of its head as they are.
pub(super) fn plain(came: Bytes) -> Bytes {
    match plain_frame(&came) {
        Some(frame) => frame,
        None => came,
    }
}

/// Writes the frame anew that `came` begins with; `None` if there is not all of it, or much more, or something in it is
/// unusual.
fn plain_frame(came: &[u8]) -> Option<Bytes> {
    let mut unread = Unread(came);
    let (kind, length) = (unread.varint()?, unread.varint()?);
    if kind != u64::from(HEADERS_FRAME) {
        return None;
    }
    let section = unread.take(usize::try_from(length).ok()?)?;
    // Clients put a small frame behind it that means nothing (RFC 9114 7.2.8).
    let behind = unread.0;
    if behind.len() > BEHIND_BYTES_MAX {
        return None;
    }
    let mut unread = Unread(section);
    // Room for a length of four bytes, which is allowed for any (RFC 9000 16).
    let mut frame = BytesMut::with_capacity(FRAME_HEADER_BYTES + came.len() * 8 / 5 + 64);
    frame.resize(FRAME_HEADER_BYTES, 0);
    let mut text = Vec::new();
    // RFC 9204 4.5.1: nothing of the dynamic table is needed.
    let prefix = unread.take(2)?;
    if prefix != [0, 0] {
        return None;
    }
    frame.extend_from_slice(prefix);
    while let Some(&first) = unread.0.first() {
        match first {
            // RFC 9204 4.5.2: a field of a table.
            0x80.. => put_integer_of(&mut unread, &mut frame, 6)?,
            // RFC 9204 4.5.4: a name of a table, and a value.
            0x40..0x80 => {
                put_integer_of(&mut unread, &mut frame, 4)?;
                put_text_of(&mut unread, &mut frame, 7, &mut text)?;
            }
            // RFC 9204 4.5.6: a name and a value.
            0x20..0x40 => {
                put_text_of(&mut unread, &mut frame, 3, &mut text)?;
                put_text_of(&mut unread, &mut frame, 7, &mut text)?;
            }
            // RFC 9204 4.5.3, 4.5.5: the dynamic table.
            _ => return None,
        }
    }
    let length = u32::try_from(frame.len() - FRAME_HEADER_BYTES).ok()?;
    if length > VARINT4_MAX {
        return None;
    }
    frame[0] = HEADERS_FRAME;
    frame[1..FRAME_HEADER_BYTES].copy_from_slice(&(length | 0x8000_0000).to_be_bytes());
    frame.extend_from_slice(behind);
    Some(frame.freeze())
}

/// Copies an integer with `bits` in its first byte, and what stands before it there.
fn put_integer_of(unread: &mut Unread<'_>, frame: &mut BytesMut, bits: u32) -> Option<()> {
    let (flags, value) = unread.integer(bits)?;
    put_integer(frame, flags, bits, value);
    Some(())
}

/// Copies a text whose length has `bits` in its first byte, behind one that says whether it is in the Huffman code (RFC
/// 9204 4.1.2), as it is.
fn put_text_of(
    unread: &mut Unread<'_>,
    frame: &mut BytesMut,
    bits: u32,
    text: &mut Vec<u8>,
) -> Option<()> {
    let (flags, length) = unread.integer(bits)?;
    let coded = unread.take(length)?;
    let is_coded = 1 << bits;
    if flags & is_coded == 0 {
        put_integer(frame, flags, bits, length);
        frame.extend_from_slice(coded);
        return Some(());
    }
    text.clear();
    if !huffman::decode(coded, text) {
        return None;
    }
    put_integer(frame, flags & !is_coded, bits, text.len());
    frame.extend_from_slice(text);
    Some(())
}

/// What is not read yet.
struct Unread<'a>(&'a [u8]);

impl<'a> Unread<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// Reads an integer of QUIC (RFC 9000 16).
    fn varint(&mut self) -> Option<u64> {
        let first = self.byte()?;
        let rest = self.take((1 << (first >> 6)) - 1)?;
        let high = u64::from(first & 0x3f);
        Some(
            rest.iter()
                .fold(high, |value, &byte| value << 8 | u64::from(byte)),
        )
    }

    /// Reads an integer with `bits` in its first byte (RFC 7541 5.1), and what stands before it there.
    fn integer(&mut self, bits: u32) -> Option<(u8, usize)> {
        let first = self.byte()?;
        let mask = (1_u8 << bits) - 1;
        let (flags, mut value) = (first & !mask, usize::from(first & mask));
        if value < usize::from(mask) {
            return Some((flags, value));
        }
        for shift in [0, 7, 14] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((flags, value));
            }
        }
        None // More than two million: no head is so long.
    }
}

/// The type of a frame and its length.
const FRAME_HEADER_BYTES: usize = 5;
/// What stands behind a head and is copied with it; content is not.
const BEHIND_BYTES_MAX: usize = 256;
/// The largest length of four bytes (RFC 9000 16).
const VARINT4_MAX: u32 = 0x3fff_ffff;

#[cfg(test)]
mod tests {
    use bytes::BufMut as _;
    use proptest::prelude::*;

    use super::super::frames::put_varint;
    use super::*;

    fn coded(text: &[u8]) -> Vec<u8> {
        let mut coded = Vec::new();
        httlib_huffman::encode(text, &mut coded).unwrap();
        coded
    }

    fn framed(section: &[u8]) -> Bytes {
        let mut frame = BytesMut::new();
        frame.put_u8(HEADERS_FRAME);
        put_varint(&mut frame, u32::try_from(section.len()).unwrap().into());
        frame.extend_from_slice(section);
        frame.freeze()
    }

    /// A field section with a static field, a value for a static name, and a field of its own, in the code or as they are.
    fn section(path: &[u8], name: &[u8], value: &[u8], in_code: bool) -> BytesMut {
        let text = |text: &[u8]| if in_code { coded(text) } else { text.to_vec() };
        let flag = |bits: u32| if in_code { 1_u8 << bits } else { 0 };
        let mut section = BytesMut::from(&[0, 0, 0xc0 | 17][..]);
        let (path, name, value) = (text(path), text(name), text(value));
        put_integer(&mut section, 0x50, 4, 1);
        put_integer(&mut section, flag(7), 7, path.len());
        section.extend_from_slice(&path);
        put_integer(&mut section, 0x30 | flag(3), 3, name.len());
        section.extend_from_slice(&name);
        put_integer(&mut section, flag(7), 7, value.len());
        section.extend_from_slice(&value);
        section
    }

    #[test]
    fn rfc_9204_4_1_2_texts_in_the_code_become_what_they_stand_for() {
        let long = [b'x'; 300];
        let came = framed(&section(b"/live/v1/seg1.m4s", b"cmcd-request", &long, true));
        let expected = section(b"/live/v1/seg1.m4s", b"cmcd-request", &long, false);
        let plain = plain(came);
        assert_eq!(plain[FRAME_HEADER_BYTES..], expected);
        let length = u32::try_from(expected.len()).unwrap() | 0x8000_0000;
        assert_eq!(plain[1..FRAME_HEADER_BYTES], length.to_be_bytes());
    }

    #[test]
    fn rfc_9114_7_2_8_what_stands_behind_a_head_stays_there() {
        let mut came = framed(&section(b"/a", b"b", b"c", true)).to_vec();
        came.extend_from_slice(b"\x21\x06grease");
        let plain = plain(came.into());
        assert!(plain.ends_with(b"\x01c\x21\x06grease"));
        assert_eq!(plain[4] as usize + FRAME_HEADER_BYTES + 8, plain.len());
    }

    #[test]
    fn what_is_not_one_whole_and_common_head_stays_as_it_came() {
        let whole = framed(&section(b"/a", b"b", b"c", true));
        let cut = whole.slice(..whole.len() - 1);
        let mut followed = whole.to_vec();
        followed.resize(whole.len() + BEHIND_BYTES_MAX + 1, 0);
        let mut data = whole.to_vec();
        data[0] = 0;
        let dynamic_table = framed(&[2, 0, 0x80]);
        let after_base = framed(&[0, 0, 0x10]);
        let bad_code = framed(&[0, 0, 0x51, 0x81, 0b0001_1110]);
        let endless = framed(&[0, 0, 0x5f, 0xff, 0xff, 0xff, 0xff, 0x01]);
        let empty = Bytes::new();
        for came in [
            cut,
            followed.into(),
            data.into(),
            dynamic_table,
            after_base,
            bad_code,
            endless,
            empty,
        ] {
            assert_eq!(plain(came.clone()), came);
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_stays_or_becomes_one_whole_frame(section in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut common = vec![0, 0];
            common.extend_from_slice(&section);
            for section in [section, common] {
                let came = framed(&section);
                let plain = plain(came.clone());
                if plain != came {
                    prop_assert!(plain_frame(&plain).is_some());
                    prop_assert!(plain.len() <= came.len() * 8 / 5 + 8);
                }
            }
        }
    }
}
