//! Who a client is, for limits that each client has to itself (CA-22).
//!
//! What is here: the address that is counted, also behind proxies that the operator names. Who calls it:
//! `exchange`, for every admitted request. Deliberately not here: who a viewer is. Behind one address
//! there may be many, and whatever a viewer says of itself it can say differently.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use http::HeaderMap;

/// A client, as limits count it: an IPv4 address, or the 64 bits of an IPv6 address that a site has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client(IpAddr);

impl Client {
    /// Returns the client of a connection from `peer`, or of those whom `forwarders` forward for.
    ///
    /// `X-Forwarded-For` is read from its end: each address was added by the proxy behind it, so the
    /// first that is none of ours is the client, and what stands before it is the client's own word.
    pub(crate) fn of(peer: IpAddr, fields: &HeaderMap, forwarders: &[Network]) -> Self {
        let is_ours = |address: IpAddr| forwarders.iter().any(|f| f.contains(address));
        let mut client = peer.to_canonical();
        if !is_ours(client) {
            return Self::at(client);
        }
        let lines: Vec<&str> = fields
            .get_all(FORWARDED_FOR)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .collect();
        let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
        for hop in hops.take(HOPS_MAX) {
            let Some(address) = address_of(hop.trim_ascii()) else {
                break;
            };
            client = address;
            if !is_ours(client) {
                break;
            }
        }
        Self::at(client)
    }

    fn at(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & SITE_MASK).into(),
        })
    }
}

impl Default for Client {
    /// Returns the client of a request that came over no connection.
    fn default() -> Self {
        Self(Ipv6Addr::UNSPECIFIED.into())
    }
}

/// Reads an address, with or without a port.
fn address_of(hop: &str) -> Option<IpAddr> {
    let address = hop.parse::<IpAddr>().ok();
    let with_port = || hop.parse::<std::net::SocketAddr>().ok().map(|a| a.ip());
    address.or_else(with_port).map(|a| a.to_canonical())
}

/// Addresses that begin alike: `10.0.0.0/8`, or one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// Returns whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= self.bits
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= self.bits
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// A text that names no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address with a prefix length")]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let most = match address {
            IpAddr::V4(_) => u32::BITS,
            IpAddr::V6(_) => u128::BITS,
        };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| NetworkError))?;
        if bits > most {
            return Err(NetworkError);
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Proxies between a client and this node.
const HOPS_MAX: usize = 16;

/// RFC 6177: a site has a network of its own, and one machine as many addresses in it as it likes.
const SITE_MASK: u128 = !(u64::MAX as u128);

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, lines: &[&str]) -> Client {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(FORWARDED_FOR, line.parse().unwrap());
        }
        let ours = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"].map(|n| n.parse().unwrap());
        Client::of(peer.parse().unwrap(), &fields, &ours)
    }

    fn at(address: &str) -> Client {
        Client::at(address.parse().unwrap())
    }

    #[test]
    fn ca_22_only_named_proxies_say_for_whom_they_ask() {
        for (peer, lines, expected) in [
            ("198.51.100.1", &[][..], "198.51.100.1"),
            ("198.51.100.1", &["203.0.113.9"], "198.51.100.1"),
            ("10.1.2.3", &["203.0.113.9"], "203.0.113.9"),
            ("::ffff:10.1.2.3", &["203.0.113.9"], "203.0.113.9"),
            (
                "10.1.2.3",
                &["1.1.1.1, 203.0.113.9,192.0.2.7"],
                "203.0.113.9",
            ),
            ("10.1.2.3", &["1.1.1.1", "203.0.113.9:555"], "203.0.113.9"),
            ("2001:db8::5", &["[2001:cafe::1]:80"], "2001:cafe::"),
            ("10.1.2.3", &["203.0.113.9, unknown, 10.0.0.9"], "10.0.0.9"),
            ("10.1.2.3", &[], "10.1.2.3"),
            ("192.0.2.8", &["203.0.113.9"], "192.0.2.8"),
        ] {
            assert_eq!(client(peer, lines), at(expected), "{peer} {lines:?}");
        }
    }

    #[test]
    fn ca_22_the_addresses_of_one_site_are_one_client() {
        assert_eq!(
            client("2001:cafe::1", &[]),
            client("2001:cafe::ffff:2", &[])
        );
        assert_ne!(client("2001:cafe::1", &[]), client("2001:cafe:0:1::1", &[]));
        assert_ne!(client("198.51.100.1", &[]), client("198.51.100.2", &[]));
    }

    #[test]
    fn networks_are_read_and_anything_else_is_refused() {
        for text in ["0.0.0.0/0", "10.0.0.0/8", "::/0", "2001:db8::/128"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "/",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/-1",
            "a/8",
            "10.0.0.0/",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError), "{text}");
        }
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("203.0.113.9".parse().unwrap()));
        assert!(!all.contains("::1".parse().unwrap()));
    }
}
