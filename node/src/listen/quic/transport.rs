//! How QUIC connections carry responses: congestion control, windows, packets.
//!
//! What is here: what an operator may choose, and quinn's settings made of that. Who calls it: the endpoint of each
//! worker. Deliberately not here: limits that only protect (`limits`), and why each figure is what it is
//! (`docs/decisions/0013-quic-transport.md`).

use std::sync::Arc;

use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig};
use quinn::{TransportConfig, VarInt};

use super::steady::SteadyConfig;
use crate::listen::{ListenLimits, limits};

/// How HTTP/3 connections carry responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuicConfig {
    /// What decides how much may be under way.
    pub congestion: Congestion,
    /// Whether clients that come back may send requests before the handshake is done (RFC 8470). Those that a stored fresh
    /// response answers are answered then; the others wait.
    pub early_data: bool,
    /// Sessions that the node remembers for clients that come back with early data.
    pub sessions_max: usize,
}

impl Default for QuicConfig {
    fn default() -> Self {
        Self {
            congestion: Congestion::default(),
            early_data: true,
            sessions_max: SESSIONS_MAX,
        }
    }
}

/// What decides how much of a connection's data may be under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// Cubic, and never less than the path has shown to deliver.
    #[default]
    Steady,
    /// Grows by the time since the last loss (RFC 9438).
    Cubic,
    /// Grows by a packet per round trip (RFC 9002 7).
    NewReno,
    /// Follows the bandwidth and round trip it sees, and not losses. Experimental in quinn.
    Bbr,
}

impl Congestion {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Steady, Self::Cubic, Self::NewReno, Self::Bbr];

    /// Returns the name that configuration uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Cubic => "cubic",
            Self::NewReno => "new_reno",
            Self::Bbr => "bbr",
        }
    }

    fn factory(self) -> Arc<dyn ControllerFactory + Send + Sync> {
        let window = limits::QUIC_INITIAL_WINDOW_BYTES;
        match self {
            Self::Steady => Arc::new(SteadyConfig {
                initial_window_bytes: window,
            }),
            Self::Cubic => {
                let mut config = CubicConfig::default();
                config.initial_window(window);
                Arc::new(config)
            }
            Self::NewReno => {
                let mut config = NewRenoConfig::default();
                config.initial_window(window);
                Arc::new(config)
            }
            Self::Bbr => {
                let mut config = BbrConfig::default();
                config.initial_window(window);
                Arc::new(config)
            }
        }
    }
}

/// Returns quinn's settings for connections of viewers.
pub(super) fn transport(config: &QuicConfig, limits: &ListenLimits) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(config.congestion.factory())
        .max_concurrent_bidi_streams(limits.streams_per_connection_max.into())
        .max_concurrent_uni_streams(VarInt::from_u32(limits::CLIENT_UNI_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(limits::REQUEST_STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(limits::REQUEST_CONNECTION_WINDOW_BYTES))
        .send_window(limits::QUIC_SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .initial_rtt(limits::QUIC_INITIAL_RTT)
        .keep_alive_interval(Some(limits::PING_INTERVAL))
        .max_idle_timeout(Some(
            limits::QUIC_SILENCE_MAX
                .try_into()
                .expect("30 s fit a varint"),
        ));
    transport
}

/// Some 20 MB of sessions.
const SESSIONS_MAX: usize = 65_536;
