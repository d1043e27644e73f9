//! How QUIC connections carry responses: congestion control, windows, packets.
//!
//! What is here: what an operator may choose, and quinn's settings made of that. Who calls it: the endpoint of each
//! worker. Deliberately not here: limits that only protect (`limits`), and why each figure is what it is
//! (`docs/decisions/0013-quic-transport.md`).

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig};
use quinn::{MtuDiscoveryConfig, TransportConfig, VarInt};

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
    /// Bytes of UDP payload in the largest packet that is tried. More than Ethernet carries, 1,452, is only tried with clients at
    /// private addresses.
    pub packet_bytes_max: u16,
}

impl QuicConfig {
    /// Packets of a size that QUIC allows: at least 1,200 bytes (RFC 9000 14), at most what UDP can say.
    pub const PACKET_BYTES: RangeInclusive<u16> = 1_200..=65_527;
}

impl Default for QuicConfig {
    fn default() -> Self {
        Self {
            congestion: Congestion::default(),
            early_data: true,
            sessions_max: SESSIONS_MAX,
            packet_bytes_max: PACKET_BYTES_MAX,
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

/// From where a client comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// This machine or a network of its operator's, which may carry larger packets.
    Near,
    /// The Internet: no path across it carries more than Ethernet does. To ask for more would cost a dozen round
    /// trips with the smallest packets.
    Far,
}

impl Origin {
    /// Tells by its address where a client is.
    pub(super) fn of(client: IpAddr) -> Self {
        let is_near = match client.to_canonical() {
            IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
            IpAddr::V6(v6) => {
                v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()
            }
        };
        if is_near { Self::Near } else { Self::Far }
    }

    fn packet_bytes_max(self, config: &QuicConfig) -> u16 {
        match self {
            Self::Near => config.packet_bytes_max,
            Self::Far => config.packet_bytes_max.min(FAR_PACKET_BYTES_MAX),
        }
    }
}

/// Returns quinn's settings for connections of viewers who come from `origin`.
pub(super) fn transport(
    config: &QuicConfig,
    limits: &ListenLimits,
    origin: Origin,
) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(origin.packet_bytes_max(config));
    let mut transport = TransportConfig::default();
    transport
        .mtu_discovery_config(Some(discovery))
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

/// What Ethernet carries of 1,500 bytes behind the heads of IPv6 and UDP.
const FAR_PACKET_BYTES_MAX: u16 = 1_500 - 40 - 8;

/// What Ethernet with jumbo frames carries of 9,000.
const PACKET_BYTES_MAX: u16 = 9_000 - 40 - 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_near_at_addresses_that_the_internet_does_not_route() {
        let near = "127.0.0.1 10.1.2.3 172.16.9.1 192.168.0.1 169.254.3.4 ::1 fd00::1 fe80::1 ::ffff:10.0.0.1";
        let far = "192.0.2.1 172.32.0.1 100.64.0.1 2001:db8::1 ::ffff:198.51.100.7";
        for (addresses, expected) in [(near, Origin::Near), (far, Origin::Far)] {
            for address in addresses.split(' ') {
                assert_eq!(Origin::of(address.parse().unwrap()), expected, "{address}");
            }
        }
    }

    #[test]
    fn only_near_clients_are_asked_for_more_than_ethernet_carries() {
        let sized = |packet_bytes_max| QuicConfig {
            packet_bytes_max,
            ..QuicConfig::default()
        };
        for (configured, near, far) in [
            (8_952, 8_952, 1_452),
            (1_452, 1_452, 1_452),
            (1_300, 1_300, 1_300),
        ] {
            let config = sized(configured);
            assert_eq!(Origin::Near.packet_bytes_max(&config), near);
            assert_eq!(Origin::Far.packet_bytes_max(&config), far);
        }
    }
}
