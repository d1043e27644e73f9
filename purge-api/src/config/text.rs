//! The configuration as it is written.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::keys::{self, KeyFileError, KeyKind};
use super::nats::Nats;
use super::{Config, JournalPlace, TlsConfig};
use crate::api::ApiLimits;
use crate::audit::AuditConfig;
use crate::auth::{HostPattern, KEYS_MAX, KeyPattern, Modes, PrincipalConfig, Scope, Verb, Verbs};
use crate::journal::JournalConfig;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Text {
    listen: Listen,
    #[serde(default)]
    private: Option<Private>,
    /// What tokens must be for.
    #[serde(default = "audience")]
    audience: String,
    journal: Journal,
    audit: Audit,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    principal: Vec<Principal>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listen {
    address: SocketAddr,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
    /// Secrets are not sent in clear, but what is purged is: only on purpose.
    #[serde(default)]
    allow_clear_text: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Private {
    address: SocketAddr,
    #[serde(default)]
    allow_remote: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Journal {
    path: Option<PathBuf>,
    nats: Option<Nats>,
    keep_for: Option<Span>,
    entries_max: Option<u64>,
    bytes_max: Option<u64>,
    nodes_max: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Audit {
    path: PathBuf,
    #[serde(default = "audit_bytes_max")]
    bytes_max: u64,
    files_max: Option<NonZeroUsize>,
    #[serde(default = "yes")]
    applied: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    connections_max: Option<usize>,
    head_timeout: Option<Span>,
    body_timeout: Option<Span>,
    drain_timeout: Option<Span>,
    wait_max: Option<Span>,
    waiting_max: Option<usize>,
    events_max: Option<usize>,
    events_for_max: Option<Span>,
    feeds_max: Option<usize>,
    absent_after: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Principal {
    name: String,
    #[serde(default)]
    hosts: Vec<Parsed<HostPattern>>,
    #[serde(default)]
    surrogate_keys: Vec<Parsed<KeyPattern>>,
    verbs: Vec<Verb>,
    #[serde(default = "both_modes")]
    modes: Vec<purge_log::Mode>,
    #[serde(default = "per_second")]
    per_second: u32,
    #[serde(default = "wide_per_second")]
    wide_per_second: u32,
    #[serde(default)]
    certificates: Vec<String>,
    #[serde(default)]
    key: Vec<Key>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    id: String,
    kind: KeyKind,
    file: PathBuf,
}

/// A value that is written as text of its own form; what is wrong with it is said at its line.
#[derive(Debug)]
struct Parsed<T>(T);

/// A time, written as `500ms`, `2s`, `5m`, `1h` or `7d`.
#[derive(Clone, Copy, Debug)]
struct Span(Duration);

impl<'de, T: FromStr<Err = &'static str>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let refused = |allowed| serde::de::Error::custom(format!("`{text}` is not {allowed}"));
        text.parse().map(Self).map_err(refused)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match text.strip_prefix(digits).unwrap_or_default() {
            "ms" => Some(1),
            "s" => Some(1000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            "d" => Some(86_400_000),
            _ => None,
        };
        let millis = digits.parse::<u64>().ok().zip(unit);
        millis
            .and_then(|(number, unit)| number.checked_mul(unit))
            .filter(|millis| *millis > 0)
            .map(|millis| Self(Duration::from_millis(millis)))
            .ok_or_else(|| {
                let allowed = "write e.g. 500ms, 2s, 5m, 1h or 7d";
                serde::de::Error::custom(format!("`{text}` is not a time: {allowed}"))
            })
    }
}

impl Text {
    /// Checks what no single key shows.
    pub(super) fn check(&self) -> Result<(), String> {
        let listen = &self.listen;
        match (&listen.certificate, &listen.key) {
            (Some(_), None) => {
                return Err("`listen.key` is missing: the certificate needs it".into());
            }
            (None, Some(_)) => {
                return Err("`listen.certificate` is missing: the key needs it".into());
            }
            (None, None) if listen.client_ca.is_some() => {
                return Err(
                    "`listen.client_ca` needs `listen.certificate` and `listen.key`".into(),
                );
            }
            (None, None) if !listen.address.ip().is_loopback() && !listen.allow_clear_text => {
                return Err(format!(
                    "`listen.address` {} can be reached by others without TLS: set `listen.certificate` and \
                     `listen.key`, or `listen.allow_clear_text = true` behind something that has TLS",
                    listen.address
                ));
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        if let Some(private) = &self.private
            && !private.address.ip().is_loopback()
            && !private.allow_remote
        {
            return Err(format!(
                "`private.address` {} asks nobody who they are: use a loopback address, or \
                 `private.allow_remote = true` in a network of your own",
                private.address
            ));
        }
        self.journal.check()?;
        if self.principal.is_empty() {
            return Err("there is no `[[principal]]`: nobody could purge".into());
        }
        self.principal.iter().try_for_each(|p| p.check(listen))
    }

    pub(super) fn into_config(self, directory: &Path) -> Result<Config, (String, KeyFileError)> {
        let tls = self.listen.certificate.zip(self.listen.key);
        let client_ca = self.listen.client_ca.map(|path| directory.join(path));
        let principals = self.principal.into_iter();
        let principals = principals.map(|principal| principal.into_config(directory));
        Ok(Config {
            listen: self.listen.address,
            private: self.private.map(|private| private.address),
            tls: tls.map(|(certificate, key)| TlsConfig {
                certificate: directory.join(certificate),
                key: directory.join(key),
                client_ca,
            }),
            audience: self.audience,
            journal: self.journal.config(),
            journal_place: self.journal.place(directory)?,
            audit: AuditConfig {
                path: directory.join(self.audit.path),
                bytes_max: self.audit.bytes_max,
                files_max: self.audit.files_max.map(NonZeroUsize::get),
                applied: self.audit.applied,
            },
            principals: principals.collect::<Result<_, _>>()?,
            connections_max: self.limits.connections_max.unwrap_or(4096).max(1),
            head_timeout: span(self.limits.head_timeout, Duration::from_secs(10)),
            drain_timeout: span(self.limits.drain_timeout, Duration::from_secs(10)),
            limits: self.limits.config(),
        })
    }
}

impl Principal {
    fn check(&self, listen: &Listen) -> Result<(), String> {
        let name = &self.name;
        let is_plain = |text: &str| {
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
            !text.is_empty() && text.len() <= 64 && text.bytes().all(is_plain)
        };
        if let Some(text) = std::iter::once(name)
            .chain(self.key.iter().map(|key| &key.id))
            .find(|text| !is_plain(text))
        {
            return Err(format!(
                "`{text}` cannot be the name of a principal or the id of a key: letters, digits and `-._`, at most 64"
            ));
        }
        if self.key.len() > KEYS_MAX {
            return Err(format!(
                "principal `{name}` has {} keys: at most {KEYS_MAX}, one in use and the one that replaces it",
                self.key.len()
            ));
        }
        if self.key.is_empty() && self.certificates.is_empty() {
            return Err(format!(
                "principal `{name}` has neither `[[principal.key]]` nor `certificates`: it could never ask"
            ));
        }
        if !self.certificates.is_empty() && listen.client_ca.is_none() {
            return Err(format!(
                "principal `{name}` lists `certificates`, which need `listen.client_ca`"
            ));
        }
        let is_asked = |verb| self.verbs.contains(&verb);
        let names_hosts = [Verb::Url, Verb::Prefix, Verb::Stream, Verb::Host];
        if self.hosts.is_empty() && names_hosts.into_iter().any(is_asked) {
            return Err(format!(
                "principal `{name}` has verbs that need `hosts`, as in `hosts = [\"live.example\"]`"
            ));
        }
        if self.surrogate_keys.is_empty() && is_asked(Verb::Key) {
            return Err(format!(
                "principal `{name}` has the verb `key`, which needs `surrogate_keys`, as in `surrogate_keys = [\"*\"]`"
            ));
        }
        Ok(())
    }

    fn into_config(self, directory: &Path) -> Result<PrincipalConfig, (String, KeyFileError)> {
        let has = |mode| self.modes.contains(&mode);
        let modes = Modes {
            soft: has(purge_log::Mode::Soft),
            hard: has(purge_log::Mode::Hard),
        };
        let mut read = Vec::new();
        for key in self.key {
            match keys::read(key.kind, &directory.join(key.file)) {
                Ok(material) => read.push((key.id, material)),
                Err(error) => return Err((format!("principal `{}`", self.name), error)),
            }
        }
        Ok(PrincipalConfig {
            name: self.name,
            scope: Scope {
                hosts: self.hosts.into_iter().map(|parsed| parsed.0).collect(),
                surrogate_keys: self.surrogate_keys.into_iter().map(|p| p.0).collect(),
                verbs: Verbs(self.verbs),
                modes,
            },
            per_second: self.per_second,
            wide_per_second: self.wide_per_second,
            certificates: self.certificates,
            keys: read,
        })
    }
}

impl Journal {
    fn check(&self) -> Result<(), String> {
        match (&self.path, &self.nats) {
            (Some(_), Some(_)) => Err("`journal` has both `path` and `nats`: one of them".into()),
            (None, None) => Err("`journal` needs `path`, or `nats` with its servers".into()),
            (Some(_), None) => Ok(()),
            (None, Some(nats)) => nats.check(),
        }
    }

    fn place(self, directory: &Path) -> Result<JournalPlace, (String, KeyFileError)> {
        if let Some(nats) = self.nats {
            let nats = nats.into_config(directory);
            let nats = nats.map_err(|error| ("`journal.nats`".to_owned(), error))?;
            return Ok(JournalPlace::Nats(nats));
        }
        let path = self
            .path
            .expect("`check` has seen that one of both is there");
        Ok(JournalPlace::File(directory.join(path)))
    }

    fn config(&self) -> JournalConfig {
        let default = JournalConfig::default();
        JournalConfig {
            keep_for: span(self.keep_for, default.keep_for),
            entries_max: self.entries_max.unwrap_or(default.entries_max).max(1),
            bytes_max: self.bytes_max.unwrap_or(default.bytes_max).max(1),
            nodes_max: self.nodes_max.unwrap_or(default.nodes_max).max(1),
            ..default
        }
    }
}

impl Limits {
    fn config(&self) -> ApiLimits {
        let default = ApiLimits::default();
        ApiLimits {
            body_timeout: span(self.body_timeout, default.body_timeout),
            wait_max: span(self.wait_max, default.wait_max),
            waiting_max: self.waiting_max.unwrap_or(default.waiting_max),
            events_max: self.events_max.unwrap_or(default.events_max),
            events_for_max: span(self.events_for_max, default.events_for_max),
            feeds_max: self.feeds_max.unwrap_or(default.feeds_max),
            absent_after: span(self.absent_after, default.absent_after),
        }
    }
}

fn span(written: Option<Span>, default: Duration) -> Duration {
    written.map_or(default, |span| span.0)
}

fn audience() -> String {
    "seawall-purge-api".to_owned()
}

fn audit_bytes_max() -> u64 {
    1024 * 1024 * 1024
}

fn yes() -> bool {
    true
}

fn both_modes() -> Vec<purge_log::Mode> {
    vec![purge_log::Mode::Soft, purge_log::Mode::Hard]
}

fn per_second() -> u32 {
    50
}

fn wide_per_second() -> u32 {
    5
}
