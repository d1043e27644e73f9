//! Limits that are not for operators to choose: each keeps one client from costing more than it may.
//!
//! What is here: bounds given to hyper and quinn, with their reasons. Who uses it: `tcp` and `quic`.
//! Deliberately not here: what an operator may change; that is [`super::ListenLimits`].

use std::time::Duration;

/// Header fields of a request on HTTP/1.1.
pub(super) const HEAD_FIELDS_MAX: usize = 100;

/// Bytes hyper reads ahead or holds back for one HTTP/1.1 connection.
pub(super) const HTTP1_BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Bytes a client may send on one stream before it is read.
pub(super) const REQUEST_STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// Bytes a client may send on one connection before they are read.
pub(super) const REQUEST_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Bytes of one HTTP/2 frame from a client; the smallest that RFC 9113 4.2 allows.
pub(super) const HTTP2_FRAME_BYTES_MAX: u32 = 16 * 1024;

/// Bytes of a response on one HTTP/2 stream at which its body is not asked for more: it gives two chunks of 64 KiB. No more urgent
/// response overtakes them, nor the two chunks that may be added: one when some of these have left, one that waits for that.
pub(super) const HTTP2_STREAM_SEND_BYTES_MAX: usize = 128 * 1024;

/// Requests a client may take back before they were looked at (Rapid Reset, B82).
pub(super) const HTTP2_RESETS_MAX: usize = 20;

/// Streams a client may make us reset (MadeYouReset, B83).
pub(super) const HTTP2_OUR_RESETS_MAX: usize = 128;

/// Silence after which a multiplexed connection is pinged: below the 5 seconds after which some
/// middleboxes forget a connection (FM-21).
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(4);

/// Time for the answer to a ping.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Streams a client may open toward us on HTTP/3: its control and QPACK streams, and some spare.
pub(super) const CLIENT_UNI_STREAMS_MAX: u32 = 16;

/// Bytes of one frame that h3 may have to hold whole: it has no limit of its own.
pub(super) const HTTP3_CONTROL_FRAME_BYTES_MAX: u64 = 16 * 1024;

/// Bytes written to one QUIC connection and not yet acknowledged. Measured: below 2 MiB a playlist
/// waits behind a segment that took the whole window.
pub(super) const QUIC_SEND_WINDOW_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes under way before the first acknowledgment: 32 packets of the smallest size. RFC 9002 7.2 recommends ten; measured, a
/// part on a new connection takes a round trip or two less with these.
pub(super) const QUIC_INITIAL_WINDOW_BYTES: u64 = 38_400;

/// Round trip assumed before the first is measured.
pub(super) const QUIC_INITIAL_RTT: Duration = Duration::from_millis(100);

/// Silence, pings included, after which a QUIC peer is gone.
pub(super) const QUIC_SILENCE_MAX: Duration = Duration::from_secs(30);

/// QUIC handshakes per worker that wait to be looked at.
pub(super) const QUIC_HANDSHAKES_WAITING_MAX: usize = 4096;

/// Bytes kept of one such handshake.
pub(super) const QUIC_HANDSHAKE_BYTES_MAX: u64 = 16 * 1024;

/// Bytes kept of all such handshakes of a worker.
pub(super) const QUIC_HANDSHAKES_BYTES_MAX: u64 = 16 * 1024 * 1024;
