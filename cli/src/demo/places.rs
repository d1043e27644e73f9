//! Which ports the demonstration takes, and what it says about where to look.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use node::node::Running;
use serde::Serialize;
use serde_json::json;

use super::Cdn;
use crate::origin::PRESENTATIONS;
use crate::values::Misuse;

/// The ports of the demonstration: free ones, or nine in a row.
pub(super) struct Ports {
    address: IpAddr,
    base: u16,
}

impl Ports {
    /// Checks that nine ports fit from `base` on; 0 takes free ones.
    pub(super) fn of(address: IpAddr, base: u16) -> anyhow::Result<Self> {
        if base.checked_add(PORTS - 1).is_none() {
            let last = u16::MAX - (PORTS - 1);
            let text =
                format!("--port-base {base} leaves no room for {PORTS} ports; at most {last}");
            return Err(Misuse(text).into());
        }
        Ok(Self { address, base })
    }

    pub(super) fn clear(&self, edge: usize) -> SocketAddr {
        self.at(2 * edge)
    }

    pub(super) fn secure(&self, edge: usize) -> SocketAddr {
        self.at(2 * edge + 1)
    }

    pub(super) fn shield(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port(4))
    }

    pub(super) fn origin(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port(5))
    }

    /// Private listeners stay on the loopback whatever `--address` says.
    pub(super) fn admin(&self, node: usize) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port(6 + node))
    }

    fn at(&self, place: usize) -> SocketAddr {
        SocketAddr::new(self.address, self.port(place))
    }

    fn port(&self, place: usize) -> u16 {
        let place = u16::try_from(place).expect("the demonstration has nine places");
        if self.base == 0 { 0 } else { self.base + place }
    }
}

/// Where everything can be looked at.
#[derive(Debug, Serialize)]
pub(super) struct Places {
    edges: Vec<EdgePlace>,
    shield: String,
    shield_admin: Option<String>,
    origin: String,
}

#[derive(Debug, Serialize)]
struct EdgePlace {
    name: &'static str,
    clear: String,
    secure: String,
    secure_port: u16,
    pin: Option<String>,
    admin: Option<String>,
}

/// A link on the page.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Link {
    label: String,
    url: String,
}

impl Places {
    /// Asks everything that runs where it listens.
    pub(super) fn of(cdn: &Cdn) -> Self {
        Self {
            edges: cdn
                .edges
                .iter()
                .map(|(name, edge)| EdgePlace::of(name, edge))
                .collect(),
            shield: first(&cdn.shield.addresses().http),
            shield_admin: admin(&cdn.shield),
            origin: format!("http://{}", cdn.origin.addr()),
        }
    }

    /// Returns everything as one line of JSON.
    pub(super) fn as_json(&self) -> String {
        json!(self).to_string()
    }

    /// Returns the links that the page shows.
    pub(super) fn links(&self) -> Vec<Link> {
        let mut links = Vec::new();
        let mut add = |label: String, url: String| links.push(Link { label, url });
        for edge in &self.edges {
            let (name, clear, secure) = (edge.name, &edge.clear, &edge.secure);
            add(
                format!("This page through {name}, clear text"),
                format!("{clear}/"),
            );
            add(
                format!("This page through {name}, TLS and HTTP/3"),
                format!("{secure}/"),
            );
        }
        if let Some(edge) = self.edges.first() {
            for (path, what) in PRESENTATIONS {
                add(
                    format!("{what}, for any player"),
                    format!("{}{path}", edge.clear),
                );
            }
        }
        let origin = &self.origin;
        add(
            "The origin without a CDN".into(),
            format!("{origin}/live/index.m3u8"),
        );
        add(
            "The origin's counts".into(),
            format!("{origin}/origin/counts.json"),
        );
        let nodes = self.edges.iter().map(|edge| (edge.name, &edge.admin));
        for (name, admin) in nodes.chain([("shield", &self.shield_admin)]) {
            if let Some(admin) = admin {
                add(format!("Status of {name}"), format!("{admin}/status"));
                add(format!("Metrics of {name}"), format!("{admin}/metrics"));
            }
        }
        links
    }

    /// Returns what a person reads after starting the demonstration.
    pub(super) fn as_text(&self, hls_js: Option<&Path>) -> String {
        let mut text = String::from("Seawall demo: a live origin, a shield, two edges.\n\n");
        let mut line = |label: &str, value: &str| {
            writeln!(text, "  {label:<22}{value}").expect("writing to a string does not fail");
        };
        for edge in &self.edges {
            line(
                &format!("watch through {}", edge.name),
                &format!("{}/", edge.clear),
            );
            line("  TLS and HTTP/3", &format!("{}/", edge.secure));
        }
        if let Some(edge) = self.edges.first() {
            line("any HLS player", &format!("{}/live/index.m3u8", edge.clear));
            line(
                "any DASH player",
                &format!("{}/live/manifest.mpd", edge.clear),
            );
        }
        line(
            "the origin itself",
            &format!("{}/live/index.m3u8", self.origin),
        );
        for (name, admin) in self.edges.iter().map(|edge| (edge.name, &edge.admin)) {
            if let Some(admin) = admin {
                line(&format!("status of {name}"), &format!("{admin}/status"));
            }
        }
        if let Some(admin) = &self.shield_admin {
            line("status of shield", &format!("{admin}/status"));
        }
        match hls_js {
            Some(file) => line("page plays with", &file.display().to_string()),
            None => line("page plays with", NO_HLS_JS),
        }
        if let Some((edge, pin)) = self
            .edges
            .first()
            .and_then(|e| e.pin.as_ref().map(|p| (e, p)))
        {
            text.push_str("\nThe certificates were made on the spot. For HTTP/3 Chromium wants to be told of one:\n");
            let (port, secure) = (edge.secure_port, &edge.secure);
            writeln!(
                text,
                "  chromium --user-data-dir=$(mktemp -d) --origin-to-force-quic-on=localhost:{port} \\\n    \
                 --ignore-certificate-errors-spki-list={pin} {secure}/"
            )
            .expect("writing to a string does not fail");
        }
        text.push_str("\nRuns until Ctrl-C.");
        text
    }
}

impl EdgePlace {
    fn of(name: &'static str, edge: &Running) -> Self {
        let secure = edge.addresses().https.first();
        let port = secure.map_or(0, SocketAddr::port);
        Self {
            name,
            clear: first(&edge.addresses().http),
            // By name: a certificate for an address is accepted by fewer clients.
            secure: format!("https://localhost:{port}"),
            secure_port: port,
            pin: edge.certificate_pin().map(ToOwned::to_owned),
            admin: admin(edge),
        }
    }
}

/// Returns an address under which a listener on all addresses can be reached from here.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn first(addresses: &[SocketAddr]) -> String {
    let address = addresses.first().copied().map(reachable);
    address.map_or_else(String::new, |address| format!("http://{address}"))
}

fn admin(running: &Running) -> Option<String> {
    running
        .admin_address()
        .map(|address| format!("http://{address}"))
}

/// Edges take two each, shield and origin one, each node one for its private listener.
const PORTS: u16 = 9;
const NO_HLS_JS: &str =
    "the browser's own HLS; for hls.js: npm ci --prefix tests/browser, or --hls-js FILE";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nine_ports_in_a_row_are_all_different() {
        let ports = Ports::of(Ipv4Addr::UNSPECIFIED.into(), 8080).unwrap();
        let edges = (0..2).flat_map(|edge| [ports.clear(edge), ports.secure(edge)]);
        let admins = (0..3).map(|node| ports.admin(node));
        let all: BTreeSet<u16> = edges
            .chain(admins)
            .chain([ports.shield(), ports.origin()])
            .map(|address| address.port())
            .collect();
        assert_eq!(all, (8080..8089).collect());
        assert!(ports.admin(0).ip().is_loopback());
    }

    #[test]
    fn a_base_without_room_is_refused() {
        assert!(Ports::of(Ipv4Addr::LOCALHOST.into(), 65_527).is_ok());
        assert!(Ports::of(Ipv4Addr::LOCALHOST.into(), 65_528).is_err());
    }

    #[test]
    fn a_listener_on_all_addresses_is_reached_over_the_loopback() {
        for (bound, reached) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("10.1.2.3:80", "10.1.2.3:80"),
        ] {
            assert_eq!(reachable(bound.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
