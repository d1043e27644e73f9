//! The little of HTTP/3 framing that is ours.
//!
//! What is here: the header of a DATA frame, and a watch over the length of frames from the client.
//! h3 holds a frame whole before it looks at it and has no limit, so the limit is kept before it.
//! Who calls it: `adapter` and `response`. Deliberately not here: frames' contents.

use bytes::{BufMut as _, Bytes, BytesMut};
use quinn::VarInt;

/// Returns the header of a DATA frame with `payload_bytes` to follow (RFC 9114 7.2.1).
pub(super) fn data_header(payload_bytes: usize) -> Bytes {
    let length = VarInt::try_from(payload_bytes as u64).expect("a body chunk is small");
    let mut header = BytesMut::with_capacity(1 + VARINT_BYTES_MAX);
    header.put_u8(DATA_FRAME);
    put_varint(&mut header, length);
    header.freeze()
}

/// Writes a variable-length integer (RFC 9000 16).
pub(super) fn put_varint(buffer: &mut BytesMut, value: VarInt) {
    let value = value.into_inner();
    match value {
        0..0x40 => buffer.put_u8(value as u8),
        0x40..0x4000 => buffer.put_u16(value as u16 | 0x4000),
        0x4000..0x4000_0000 => buffer.put_u32(value as u32 | 0x8000_0000),
        _ => buffer.put_u64(value | 0xc000_0000_0000_0000),
    }
}

/// A client that announces a frame longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes is longer than allowed")]
pub(super) struct FrameTooLong {
    length: u64,
}

/// Follows the frames on one stream, in whatever pieces it arrives.
#[derive(Debug)]
pub(super) struct FrameWatch {
    frame_bytes_max: u64,
    stage: Stage,
    /// The bytes of an integer that is not yet complete.
    integer: [u8; VARINT_BYTES_MAX],
    integer_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    StreamType,
    FrameType,
    Length {
        is_data: bool,
    },
    Payload {
        remaining: u64,
    },
    /// Nothing is to be watched any more.
    Unwatched,
}

impl FrameWatch {
    /// Watches a request stream, which begins with a frame.
    pub(super) fn request_stream(frame_bytes_max: u64) -> Self {
        Self::new(frame_bytes_max, Stage::FrameType)
    }

    /// Watches a stream of one direction, which begins with its type.
    pub(super) fn uni_stream(frame_bytes_max: u64) -> Self {
        Self::new(frame_bytes_max, Stage::StreamType)
    }

    fn new(frame_bytes_max: u64, stage: Stage) -> Self {
        Self {
            frame_bytes_max,
            stage,
            integer: [0; VARINT_BYTES_MAX],
            integer_bytes: 0,
        }
    }

    /// Looks at the next bytes of the stream.
    ///
    /// # Errors
    ///
    /// A frame other than DATA, whose payload nobody holds, is announced with too many bytes.
    pub(super) fn see(&mut self, mut bytes: &[u8]) -> Result<(), FrameTooLong> {
        while !bytes.is_empty() {
            match &mut self.stage {
                Stage::Unwatched => return Ok(()),
                Stage::Payload { remaining } => {
                    let skipped = bytes
                        .len()
                        .min(usize::try_from(*remaining).unwrap_or(usize::MAX));
                    *remaining -= skipped as u64;
                    bytes = bytes.get(skipped..).unwrap_or_default();
                    if *remaining == 0 {
                        self.stage = Stage::FrameType;
                    }
                }
                Stage::StreamType | Stage::FrameType | Stage::Length { .. } => {
                    let Some((&byte, rest)) = bytes.split_first() else {
                        return Ok(());
                    };
                    bytes = rest;
                    if let Some(integer) = self.integer_with(byte) {
                        self.stage = self.next_stage(integer)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds a byte to the integer being read; returns the integer when that was its last.
    fn integer_with(&mut self, byte: u8) -> Option<u64> {
        self.integer[self.integer_bytes] = byte;
        self.integer_bytes += 1;
        // RFC 9000 16: the two high bits of the first byte say how many there are.
        let length = 1 << (self.integer[0] >> 6);
        if self.integer_bytes < length {
            return None;
        }
        self.integer_bytes = 0;
        let first = u64::from(self.integer[0] & 0x3f);
        let rest = self.integer.iter().take(length).skip(1);
        Some(rest.fold(first, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn next_stage(&self, integer: u64) -> Result<Stage, FrameTooLong> {
        Ok(match self.stage {
            // Only the control stream carries frames (RFC 9114 6.2).
            Stage::StreamType if integer == CONTROL_STREAM => Stage::FrameType,
            Stage::StreamType | Stage::Unwatched => Stage::Unwatched,
            Stage::FrameType | Stage::Payload { .. } => Stage::Length {
                is_data: integer == u64::from(DATA_FRAME),
            },
            Stage::Length { is_data: false } if integer > self.frame_bytes_max => {
                return Err(FrameTooLong { length: integer });
            }
            Stage::Length { .. } if integer == 0 => Stage::FrameType,
            Stage::Length { .. } => Stage::Payload { remaining: integer },
        })
    }
}

const DATA_FRAME: u8 = 0x00;
const CONTROL_STREAM: u64 = 0x00;
const VARINT_BYTES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_9114_7_2_1_data_frames_announce_their_length() {
        assert_eq!(&data_header(5)[..], [0, 5]);
        assert_eq!(&data_header(0x3fff)[..], [0, 0x7f, 0xff]);
        assert_eq!(&data_header(65_536)[..], [0, 0x80, 1, 0, 0]);
    }

    fn check(watch: fn() -> FrameWatch, stream: &[u8], expected: Result<(), FrameTooLong>) {
        assert_eq!(watch().see(stream), expected, "{stream:?} at once");
        let mut bytewise = watch();
        let seen = stream.chunks(1).try_for_each(|byte| bytewise.see(byte));
        assert_eq!(seen, expected, "{stream:?} byte by byte");
    }

    #[test]
    fn frames_within_the_limit_pass_however_they_are_cut() {
        let control = || FrameWatch::uni_stream(16);
        // A SETTINGS frame, an empty unknown one, one of 16 bytes.
        let mut stream = vec![0x00, 0x04, 0x02, 1, 1, 0x21, 0x00, 0x40, 0x40, 0x10];
        stream.extend([0xff; 16]);
        check(control, &stream, Ok(()));
        stream.extend([0x21, 0x11]);
        check(control, &stream, Err(FrameTooLong { length: 17 }));
    }

    #[test]
    fn b_96_a_frame_that_announces_four_exabytes_is_refused_before_it_comes() {
        let request = || FrameWatch::request_stream(16 * 1024);
        let mut stream = vec![0x01];
        stream.extend([0xff; 8]);
        check(
            request,
            &stream,
            Err(FrameTooLong {
                length: (1 << 62) - 1,
            }),
        );
    }

    #[test]
    fn data_and_streams_without_frames_are_not_watched() {
        check(
            || FrameWatch::request_stream(16),
            &[0x00, 0x80, 1, 0, 0, 9],
            Ok(()),
        );
        check(
            || FrameWatch::uni_stream(16),
            &[0x02, 0xff, 0xff, 0xff, 0xff, 0xff],
            Ok(()),
        );
    }
}
