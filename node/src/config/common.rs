//! What every kind of node configures alike.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::thread;
use std::time::Duration;

use super::problem::Wrong;
use super::purge::{Purge, read_purge};
use super::rules::{read_live as read_live_rule, read_rules};
use super::section::{Item, Section};
use super::values::{
    byte_size, count, duration, file, file_to_write, flag, name, one_of, percent, text,
};
use crate::listen::{CertificateSource, Congestion, ListenConfig, ListenLimits, QuicConfig};
use crate::node::{AccessLogConfig, AdminConfig, LiveConfig, NodeConfig, NodeLimits};
use crate::rules::{LiveRule, QueryRule, Rules};
use crate::upstream::{ParentConfig, Selection, UpstreamConfig, UpstreamLimits};

/// The part of a configuration that every kind of node has.
#[derive(Clone, Debug, PartialEq)]
pub struct Common {
    /// The node's name in `Via`, `Cache-Status`, `CDN-Loop` and logs.
    pub name: String,
    /// Where and how it listens.
    pub listen: ListenConfig,
    /// Memory for stored responses, in bytes.
    pub store_bytes: u64,
    /// How live playlists are followed.
    pub live: LiveConfig,
    /// Bounds on what one response or request may take.
    pub limits: NodeLimits,
    /// Bounds on connections and retries towards parents.
    pub upstream: UpstreamLimits,
    /// What holds for which hosts and paths.
    pub rules: Rules,
    /// The private listener, if any.
    pub admin: Option<AdminConfig>,
    /// The access log, if any.
    pub access_log: Option<AccessLogConfig>,
    /// The purge log, if it follows one.
    pub purge: Option<Purge>,
}

impl Common {
    /// Returns the defaults for a node called `name` that listens nowhere yet.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            listen: ListenConfig {
                https: Vec::new(),
                http: Vec::new(),
                http3: false,
                quic: QuicConfig::default(),
                certificate: None,
                workers: cores(),
                limits: ListenLimits::default(),
            },
            store_bytes: STORE_BYTES,
            live: LiveConfig::default(),
            limits: NodeLimits::default(),
            upstream: UpstreamLimits::default(),
            rules: Rules::default(),
            admin: None,
            access_log: None,
            purge: None,
        }
    }

    /// Reads the keys that every kind of node has. Rules that do not speak of queries have `query`.
    pub fn read(root: &mut Section<'_>, query: &QueryRule) -> Self {
        let name = root.required("name", "\"fra-1\"", name).unwrap_or_default();
        let listen = read_listen(root.table("listen"));
        let store_bytes = read_store(root.table("store"));
        let mut section = root.table("live");
        let live = read_live(&mut section);
        let live_rule = read_live_rule(&mut section, &LiveRule::default());
        drop(section);
        Self {
            name,
            listen,
            store_bytes,
            live,
            limits: read_limits(root.table("limits"), store_bytes),
            upstream: read_upstream(root.table("upstream")),
            rules: read_rules(root, query, live_rule),
            admin: read_admin(root.table("admin")),
            access_log: read_access_log(root.table("access_log")),
            purge: read_purge(root),
        }
    }

    /// Returns the configuration of a node with these parents. Where no rule matches, queries are
    /// kept by `query`.
    pub fn into_node_config(
        self,
        parents: Vec<ParentConfig>,
        selection: Selection,
        cors: bool,
        query: QueryRule,
    ) -> NodeConfig {
        NodeConfig {
            upstream: UpstreamConfig {
                parents,
                selection,
                node_name: self.name.clone(),
                limits: self.upstream,
            },
            name: self.name,
            listen: self.listen,
            store_bytes: self.store_bytes,
            live: self.live,
            limits: self.limits,
            admin: self.admin,
            access_log: self.access_log,
            purge: self.purge.map(Purge::into_purge_config),
            heeds_children: true,
            cors,
            server_timing: false,
            rules: self.rules.with_fallback_query(query),
        }
    }
}

fn read_listen(mut section: Section<'_>) -> ListenConfig {
    let https = section.list("https", Vec::new(), address);
    let http = section.list("http", Vec::new(), address);
    if https.is_empty() && http.is_empty() && !section.has("https") && !section.has("http") {
        section.incomplete(
            "`listen` names no address",
            "viewers and children need somewhere to connect to",
            "add https = [\"0.0.0.0:443\", \"[::]:443\"] with a certificate under [listen], or \
             http = [\"127.0.0.1:8080\"] for clear text",
        );
    }
    check_distinct(&section, &https, &http);
    let http3 = section.value("http3", !https.is_empty(), flag);
    if http3 && https.is_empty() && section.has("http3") {
        section.wrong(
            "http3",
            "needs an address",
            "HTTP/3 runs on the addresses of `https`",
        );
    }
    let quic = read_quic(section.table("quic"));
    let certificate = read_certificate(&mut section, !https.is_empty());
    let workers = section.value("workers", cores(), count(1..=WORKERS_MAX));
    let limits = read_listen_limits(section.table("limits"));
    ListenConfig {
        https,
        http,
        http3,
        quic,
        certificate,
        workers,
        limits,
    }
}

fn read_quic(mut section: Section<'_>) -> QuicConfig {
    let default = QuicConfig::default();
    QuicConfig {
        congestion: section.value(
            "congestion",
            default.congestion,
            one_of(&Congestion::ALL, Congestion::name),
        ),
        early_data: section.value("early_data", default.early_data, flag),
        sessions_max: section.value("sessions_max", default.sessions_max, count(1..=10_000_000)),
        packet_bytes_max: section.value(
            "packet_bytes_max",
            default.packet_bytes_max,
            count(QuicConfig::PACKET_BYTES),
        ),
    }
}

fn check_distinct(section: &Section<'_>, https: &[SocketAddr], http: &[SocketAddr]) {
    let mut seen = BTreeMap::new();
    for (key, address) in https
        .iter()
        .map(|a| ("https", a))
        .chain(http.iter().map(|a| ("http", a)))
    {
        // Port 0 is a free port each time.
        if address.port() != 0 && seen.insert(address, key).is_some() {
            let what = format!("has {address} twice");
            section.wrong(key, &what, "each address once, in `https` or in `http`");
        }
    }
}

fn read_certificate(section: &mut Section<'_>, is_needed: bool) -> Option<CertificateSource> {
    let certificate = section.optional("certificate", file);
    let key = section.optional("key", file);
    let self_signed = section.list("self_signed", Vec::new(), certificate_name);
    let has = |key| section.has(key);
    match (has("certificate"), has("key"), has("self_signed")) {
        (true, true, false) => Some(CertificateSource::Files {
            certificate: certificate?,
            key: key?,
        }),
        (false, false, true) => Some(CertificateSource::SelfSigned(self_signed)),
        (true, false, false) => {
            section.wrong(
                "certificate",
                "needs its key",
                "add key = \"the key's PEM file\"",
            );
            None
        }
        (false, true, false) => {
            let allowed = "add certificate = \"the PEM file of the chain, leaf first\"";
            section.wrong("key", "needs its certificate", allowed);
            None
        }
        (_, _, true) => {
            let allowed = "either self_signed, or certificate and key";
            section.wrong(
                "self_signed",
                "contradicts `certificate` and `key`",
                allowed,
            );
            None
        }
        (false, false, false) => {
            if is_needed {
                section.wrong(
                    "https",
                    "needs a certificate",
                    "add certificate and key (PEM files), or for tests self_signed = [\"localhost\"]",
                );
            }
            None
        }
    }
}

fn read_listen_limits(mut section: Section<'_>) -> ListenLimits {
    let default = ListenLimits::default();
    ListenLimits {
        connections_per_worker_max: section.value(
            "connections_per_worker_max",
            default.connections_per_worker_max,
            count(1..=10_000_000),
        ),
        streams_per_connection_max: section.value(
            "streams_per_connection_max",
            default.streams_per_connection_max,
            // PL-13: a player parks a few requests per rendition and switches; fewer would refuse some.
            count(128..=10_000),
        ),
        head_bytes_max: bytes_as_usize(section.value(
            "head_bytes_max",
            default.head_bytes_max as u64,
            byte_size(KIB..=MIB),
        )),
        head_timeout: section.value("head_timeout", default.head_timeout, duration(WAITS)),
        idle_timeout: section.value("idle_timeout", default.idle_timeout, duration(LONG_WAITS)),
        drain_timeout: section.value("drain_timeout", default.drain_timeout, duration(LONG_WAITS)),
    }
}

fn read_store(mut section: Section<'_>) -> u64 {
    section.value("memory", STORE_BYTES, byte_size(MIB..=16 * TIB))
}

fn read_live(section: &mut Section<'_>) -> LiveConfig {
    let default = LiveConfig::default();
    LiveConfig {
        hold_max: section.value("hold_max", default.hold_max, duration(WAITS)),
        idle_after: section.value("idle_after", default.idle_after, duration(LONG_WAITS)),
        prefetch: section.value("prefetch", default.prefetch, flag),
        held_max: section.value("held_max", default.held_max, count(1..=100_000_000)),
        // Whoever faces viewers limits each of them; a child holds for many.
        held_per_client_max: default.held_per_client_max,
        held_per_connection_max: default.held_per_connection_max,
        next_objects_per_second: default.next_objects_per_second,
        next_object_bytes_per_second: default.next_object_bytes_per_second,
        forwarders: default.forwarders,
        renditions_max: section.value(
            "renditions_max",
            default.renditions_max,
            count(1..=1_000_000),
        ),
        playlist_bytes_max: bytes_as_usize(section.value(
            "playlist_bytes_max",
            default.playlist_bytes_max as u64,
            byte_size(KIB..=256 * MIB),
        )),
    }
}

fn read_limits(mut section: Section<'_>, store_bytes: u64) -> NodeLimits {
    let default = NodeLimits::default();
    // A store that one response can fill keeps nothing else.
    let largest = default
        .stored_body_bytes_max
        .min(store_bytes / STORE_SHARES_MIN);
    let stored_body_bytes_max =
        section.value("stored_body_bytes_max", largest, byte_size(KIB..=16 * GIB));
    if stored_body_bytes_max > store_bytes / STORE_SHARES_MIN {
        let most = super::ByteSize(store_bytes / STORE_SHARES_MIN);
        let allowed = format!("at most {most}, an eighth of store.memory");
        section.wrong(
            "stored_body_bytes_max",
            "is too large for the store",
            &allowed,
        );
    }
    let (slice_bytes, slice_from_bytes) = read_slices(&mut section, stored_body_bytes_max);
    NodeLimits {
        stored_body_bytes_max,
        slice_bytes,
        slice_from_bytes,
        stall_timeout: section.value("stall_timeout", default.stall_timeout, duration(WAITS)),
        first_byte_timeout: section.value(
            "first_byte_timeout",
            default.first_byte_timeout,
            duration(WAITS),
        ),
        target_bytes_max: bytes_as_usize(section.value(
            "target_bytes_max",
            default.target_bytes_max as u64,
            byte_size(256..=64 * KIB),
        )),
        upload_bytes_max: bytes_as_usize(section.value(
            "upload_bytes_max",
            default.upload_bytes_max as u64,
            byte_size(KIB..=64 * MIB),
        )),
        relays_max: section.value("relays_max", default.relays_max, count(1..=65_536)),
    }
}

/// Reads how large bodies are cut; a length of zero means that they are not.
fn read_slices(section: &mut Section<'_>, stored_body_bytes_max: u64) -> (u64, u64) {
    let default = NodeLimits::default();
    let are_cut = section.value("slices", true, flag);
    let usual = default.slice_bytes.min(stored_body_bytes_max);
    let bytes = section.value("slice_bytes", usual, byte_size(KIB..=64 * MIB));
    if bytes > stored_body_bytes_max {
        let most = super::ByteSize(stored_body_bytes_max);
        let allowed = format!("at most {most}, as limits.stored_body_bytes_max");
        section.wrong("slice_bytes", "is more than is stored", &allowed);
    }
    let usual = default.slice_from_bytes.min(stored_body_bytes_max);
    let from_bytes = section.value("slice_from_bytes", usual, byte_size(KIB..=16 * GIB));
    (if are_cut { bytes } else { 0 }, from_bytes)
}

fn read_upstream(mut section: Section<'_>) -> UpstreamLimits {
    let default = UpstreamLimits::default();
    let backoff_min = section.value("backoff_min", default.backoff_min, duration(WAITS));
    let longest = default.backoff_max.max(backoff_min);
    let backoff_max = section.value("backoff_max", longest, duration(LONG_WAITS));
    if backoff_max < backoff_min {
        let allowed = "the longest time is at least the first, `backoff_min`";
        section.wrong("backoff_max", "is less than `backoff_min`", allowed);
    }
    UpstreamLimits {
        connect_timeout: section.value("connect_timeout", default.connect_timeout, duration(WAITS)),
        connections_per_parent_max: section.value(
            "connections_per_parent_max",
            default.connections_per_parent_max,
            count(1..=100_000),
        ),
        streams_per_connection_max: section.value(
            "streams_per_connection_max",
            default.streams_per_connection_max,
            count(1..=10_000),
        ),
        waiting_max: section.value("waiting_max", default.waiting_max, count(1..=10_000_000)),
        idle_timeout: section.value("idle_timeout", default.idle_timeout, duration(LONG_WAITS)),
        retry_budget_percent: section.value(
            "retry_budget",
            default.retry_budget_percent,
            percent(0..=100),
        ),
        retry_reserve_max: section.value(
            "retry_reserve_max",
            default.retry_reserve_max,
            count(0..=1_000_000),
        ),
        failures_max: section.value("failures_max", default.failures_max, count(1..=1000)),
        backoff_min,
        backoff_max,
        moved_presentations_max: section.value(
            "moved_presentations_max",
            default.moved_presentations_max,
            count(1..=10_000_000),
        ),
    }
}

fn read_admin(mut section: Section<'_>) -> Option<AdminConfig> {
    let listen = if section.is_present() {
        section.required("listen", "\"127.0.0.1:9100\"", address)
    } else {
        section.optional("listen", address)
    };
    let allow_remote = section.value("allow_remote", false, flag);
    let address = listen?;
    if !address.ip().is_loopback() && !allow_remote {
        section.wrong(
            "listen",
            "is open to other machines",
            "a loopback address, or add allow_remote = true if a firewall stands before it",
        );
    }
    Some(AdminConfig {
        address,
        allow_remote,
    })
}

fn read_access_log(mut section: Section<'_>) -> Option<AccessLogConfig> {
    let path = section.optional("path", file_to_write);
    let one_in = section.value("one_in", 1, count(1..=1_000_000));
    section
        .is_present()
        .then_some(AccessLogConfig { path, one_in })
}

pub(super) fn address(item: &Item<'_>) -> Result<SocketAddr, Wrong> {
    let usual = "an IP address and a port: \"0.0.0.0:443\", \"[::1]:8080\"";
    let wrong = |allowed: &str| Err(Wrong::new("is not an address to listen on", allowed));
    let Ok(text) = text(item) else {
        return wrong(usual);
    };
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let port = text.rsplit_once(':').map_or("", |(_, port)| port);
    if port.parse::<u64>().is_ok_and(|port| port > 65_535) {
        return wrong("a port is at most 65535");
    }
    wrong(usual)
}

fn certificate_name(item: &Item<'_>) -> Result<String, Wrong> {
    let text = text(item)?;
    let is_name = text.len() <= 253
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-.:*".contains(&b));
    if is_name {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Wrong::new(
        "is not a name for a certificate",
        "a host name or an IP address",
    ))
}

/// Returns how many threads can run at once here.
fn cores() -> usize {
    thread::available_parallelism()
        .map_or(1, usize::from)
        .min(WORKERS_MAX)
}

fn bytes_as_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("the ranges of sizes kept in memory end far below usize::MAX")
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Memory for stored responses when the configuration does not say.
const STORE_BYTES: u64 = GIB;

/// The store has room for at least this many of its largest responses.
const STORE_SHARES_MIN: u64 = 8;

/// The first byte of a QUIC connection ID names the worker.
const WORKERS_MAX: usize = 256;

const WAITS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(120);
const LONG_WAITS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
