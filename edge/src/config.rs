//! The configuration of an edge.

use std::path::Path;

use http::Uri;
use node::config::{
    self, ByteSize, Common, ConfigError, Effective, Files, Parent, Section, Source, byte_size,
    count, flag, network, parameter_name, quoted, quoted_list, read_parents,
};
use node::node::NodeConfig;
use node::request::Network;
use node::rules::QueryRule;
use node::upstream::{ParentConfig, Selection};

/// The configuration of an edge, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What every node has.
    pub common: Common,
    /// What viewers are given, and what of theirs is dropped.
    pub viewers: Viewers,
    /// The parents: a presentation is asked of one of them, chosen by rendezvous hashing.
    pub shields: Vec<Shield>,
}

/// What viewers are given, and what of theirs is dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct Viewers {
    /// Whether pages of other origins may read responses: CORS fields, and OPTIONS answered here (CA-12).
    pub cors: bool,
    /// Whether responses say where their time went, in `Server-Timing`.
    pub server_timing: bool,
    /// Playlist requests of one connection that are held at once (CA-22).
    pub held_per_connection_max: usize,
    /// Playlist requests of one address that are held at once.
    pub held_per_client_max: usize,
    /// Proxies whose `X-Forwarded-For` tells the address of a client.
    pub forwarders: Vec<Network>,
    /// Objects fetched per second because players announced them (HX-04); zero: none.
    pub next_objects_per_second: u64,
    /// Bytes of such objects per second.
    pub next_object_bytes_per_second: u64,
    /// Query parameters that never belong to a key and are not forwarded (CA-02).
    pub query_dropped: Vec<String>,
}

impl Default for Viewers {
    fn default() -> Self {
        Self {
            cors: true,
            server_timing: false,
            held_per_connection_max: HELD_PER_CONNECTION_MAX,
            held_per_client_max: HELD_PER_CLIENT_MAX,
            forwarders: Vec::new(),
            next_objects_per_second: 0,
            next_object_bytes_per_second: NEXT_OBJECT_BYTES,
            query_dropped: vec!["CMCD".to_owned()],
        }
    }
}

/// A shield as an edge sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Shield {
    /// Its name, its URL, and how it is spoken to.
    pub parent: Parent,
    /// Its share of the presentations, relative to the other shields.
    pub weight: u32,
}

impl Shield {
    /// Returns a shield at `url` with an ordinary share.
    pub fn at(name: impl Into<String>, url: Uri) -> Self {
        Self {
            parent: Parent::at(name, url),
            weight: WEIGHT,
        }
    }
}

impl Config {
    /// Returns the defaults for an edge called `name` with these parents; it listens nowhere yet.
    pub fn new(name: impl Into<String>, shields: Vec<Shield>) -> Self {
        Self {
            common: Common::named(name),
            viewers: Viewers::default(),
            shields,
        }
    }

    /// Loads the file at `path`.
    ///
    /// # Errors
    ///
    /// Every problem at once, each with its line, key, and what is allowed.
    pub fn load(path: &Path, files: Files) -> Result<Self, ConfigError> {
        config::load(path, files, Self::read)
    }

    /// Parses `text`.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn parse(text: &str, source: &Source) -> Result<Self, ConfigError> {
        config::parse(text, source, Self::read)
    }

    fn read(root: &mut Section<'_>) -> Self {
        root.refuse(
            "origin",
            "does not belong to an edge",
            "an edge's parents are [[shield]]",
        );
        let viewers = read_viewers(root.table("viewers"));
        Self {
            common: Common::read(root, &QueryRule::Dropped(viewers.query_dropped.clone())),
            viewers,
            shields: read_parents(root, "shield", EXAMPLE, |parent, section| Shield {
                parent,
                weight: section.value("weight", WEIGHT, count(1..=WEIGHT_MAX)),
            }),
        }
    }

    /// Returns the configuration of the node that this edge is.
    pub fn into_node_config(self) -> NodeConfig {
        let Viewers {
            cors,
            server_timing,
            held_per_connection_max,
            held_per_client_max,
            forwarders,
            next_objects_per_second,
            next_object_bytes_per_second,
            query_dropped,
        } = self.viewers;
        let mut common = self.common;
        common.live.held_per_connection_max = Some(held_per_connection_max);
        common.live.held_per_client_max = Some(held_per_client_max);
        common.live.forwarders = forwarders;
        common.live.next_objects_per_second = next_objects_per_second;
        common.live.next_object_bytes_per_second = next_object_bytes_per_second;
        let parents = self
            .shields
            .into_iter()
            .map(Shield::into_parent_config)
            .collect();
        let query = QueryRule::Dropped(query_dropped);
        NodeConfig {
            server_timing,
            heeds_children: false,
            ..common.into_node_config(parents, Selection::Rendezvous, cors, query)
        }
    }

    /// Returns the configuration in effect as text: what the file says and every default.
    pub fn effective(&self) -> String {
        let mut effective = Effective::of(&self.common);
        effective.table("viewers");
        effective.line("cors", self.viewers.cors);
        effective.line("server_timing", self.viewers.server_timing);
        effective.line(
            "held_per_connection_max",
            self.viewers.held_per_connection_max,
        );
        effective.line("held_per_client_max", self.viewers.held_per_client_max);
        let forwarders = self.viewers.forwarders.iter().map(Network::to_string);
        effective.line("forwarders", quoted_list(&forwarders.collect::<Vec<_>>()));
        effective.line(
            "next_objects_per_second",
            self.viewers.next_objects_per_second,
        );
        let bytes = ByteSize(self.viewers.next_object_bytes_per_second);
        effective.line("next_object_bytes_per_second", quoted(&bytes.to_string()));
        effective.line("query_dropped", quoted_list(&self.viewers.query_dropped));
        for shield in &self.shields {
            effective.member("shield");
            effective.parent(&shield.parent);
            effective.line("weight", shield.weight);
        }
        effective.into_text()
    }
}

impl Shield {
    fn into_parent_config(self) -> ParentConfig {
        ParentConfig {
            weight: self.weight,
            ..self.parent.into_parent_config()
        }
    }
}

fn read_viewers(mut section: Section<'_>) -> Viewers {
    let default = Viewers::default();
    Viewers {
        cors: section.value("cors", default.cors, flag),
        server_timing: section.value("server_timing", default.server_timing, flag),
        held_per_connection_max: section.value(
            "held_per_connection_max",
            default.held_per_connection_max,
            // PL-13: two per rendition, and as many again while a player switches.
            count(8..=10_000),
        ),
        held_per_client_max: section.value(
            "held_per_client_max",
            default.held_per_client_max,
            count(8..=100_000_000),
        ),
        forwarders: section.list("forwarders", default.forwarders, network),
        next_objects_per_second: section.value(
            "next_objects_per_second",
            default.next_objects_per_second,
            count(0..=100_000),
        ),
        next_object_bytes_per_second: section.value(
            "next_object_bytes_per_second",
            default.next_object_bytes_per_second,
            byte_size(1..=1 << 40),
        ),
        query_dropped: section.list("query_dropped", default.query_dropped, parameter_name),
    }
}

const EXAMPLE: &str =
    "add\n  [[shield]]\n  name = \"shield-1\"\n  url = \"https://shield-1.example:8443\"";
/// A player holds some four, and twice as many while it switches.
const HELD_PER_CONNECTION_MAX: usize = 64;
/// Behind one address there may be a thousand households.
const HELD_PER_CLIENT_MAX: usize = 8192;
const NEXT_OBJECT_BYTES: u64 = 16 * 1024 * 1024;
const WEIGHT: u32 = 100;
const WEIGHT_MAX: u32 = 10_000;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn source() -> Source {
        Source {
            name: "edge.toml".into(),
            directory: PathBuf::new(),
            files: Files::NotChecked,
        }
    }

    const TEXT: &str = r#"
        name = "fra-1"
        [listen]
        https = ["0.0.0.0:443"]
        http = ["127.0.0.1:0"]
        certificate = "tls/chain.pem"
        key = "tls/key.pem"
        workers = 4
        [admin]
        listen = "127.0.0.1:9100"
        [access_log]
        path = "access.log"
        [cache]
        heuristics = { percent = "10%", ceiling = "1d" }
        negative = { 404 = "2s", 5xx = "100ms" }
        [[rule]]
        name = "clips"
        hosts = ["*.vod.example"]
        paths = ["/vod/**/*.mp4"]
        query_kept = ["id"]
        keep_headers = ["X-Asset"]
        [rule.segment]
        ceiling = "1h"
        [[rule]]
        name = "rest"
        strip_headers = ["Server"]
        forward_headers = ["Authorization"]
        [purge]
        lagging_after = "10s"
        when_lagging = "fence"
        [purge.children]
        listen = "0.0.0.0:9444"
        certificate = "tls/chain.pem"
        key = "tls/key.pem"
        client_ca = "tls/ca.pem"
        [[purge_log]]
        name = "shield-1"
        url = "https://shield-1.example:9444"
        [[shield]]
        name = "shield-1"
        url = "https://shield-1.example:8443"
        weight = 50
        [[shield]]
        name = "shield-2"
        url = "http://10.0.0.2:8080"
        h2c = true
    "#;

    #[test]
    fn the_configuration_in_effect_is_itself_a_configuration() {
        let config = Config::parse(TEXT, &source()).unwrap();
        let again = Config::parse(&config.effective(), &source()).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn shields_are_chosen_by_rendezvous_with_their_weights() {
        let node = Config::parse(TEXT, &source()).unwrap().into_node_config();
        assert_eq!(node.upstream.selection, Selection::Rendezvous);
        assert_eq!(node.upstream.node_name, "fra-1");
        let weights: Vec<u32> = node.upstream.parents.iter().map(|p| p.weight).collect();
        assert_eq!(weights, [50, WEIGHT]);
        assert!(
            node.upstream
                .parents
                .iter()
                .all(|p| p.headers.is_empty() && p.host.is_none())
        );
        assert!(node.cors && node.listen.http3);
        assert!(!node.heeds_children, "viewers are strangers");
    }

    #[test]
    fn an_edge_cannot_spell_an_origins_credentials() {
        for credential in [
            "headers = { x-secret = \"s\" }",
            "host = \"origin.example\"",
        ] {
            let text = TEXT.replace("weight = 50", credential);
            let error = Config::parse(&text, &source()).unwrap_err().to_string();
            assert!(error.contains("unknown key `shield."), "{error}");
        }
    }

    #[test]
    fn every_key_is_documented() {
        let page = include_str!("../../docs/configuration.md");
        let keys = config::known_keys(TEXT, Config::read);
        assert_eq!(config::undocumented(page, keys), Vec::<String>::new());
    }
}
