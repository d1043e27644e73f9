//! The part of the configuration that makes a NATS stream the journal.
//!
//! Who calls it: `text`, which reads the rest of the file. Deliberately not here: what the stream must be like,
//! which is in `journal`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::keys::{self, KeyFileError};
use crate::journal::{NatsConfig, NatsLogin};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nats {
    servers: Vec<String>,
    #[serde(default = "stream")]
    stream: String,
    #[serde(default = "replicas")]
    replicas: usize,
    user: Option<String>,
    /// The password of `user`; its file is for its owner only.
    password_file: Option<PathBuf>,
    /// A token instead of user and password.
    token_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Nats {
    /// Checks what no single key shows.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.servers.is_empty() || self.servers.len() > SERVERS_MAX {
            return Err(format!(
                "`journal.nats.servers` must list 1 to {SERVERS_MAX} servers, as in `nats://nats-1.example:4222`"
            ));
        }
        let is_server = |text: &&String| {
            let rest = text.strip_prefix("nats://").or(text.strip_prefix("tls://"));
            rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('@'))
        };
        if let Some(wrong) = self.servers.iter().find(|text| !is_server(text)) {
            let shown: String = wrong.split('@').next_back().unwrap_or_default().to_owned();
            return Err(format!(
                "`journal.nats.servers` has `{shown}`: write `nats://host:port` or `tls://host:port`, and \
                 credentials into `user` and `password_file`"
            ));
        }
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        if self.stream.is_empty() || self.stream.len() > 64 || !self.stream.bytes().all(is_plain) {
            return Err("`journal.nats.stream` must be 1 to 64 letters, digits and `-_`".into());
        }
        if !(1..=REPLICAS_MAX).contains(&self.replicas) {
            return Err(format!(
                "`journal.nats.replicas` must be between 1 and {REPLICAS_MAX}: 3 on a cluster, 1 on a single server"
            ));
        }
        if self.user.is_some() != self.password_file.is_some() {
            return Err("`journal.nats.user` and `journal.nats.password_file` go together".into());
        }
        if self.user.is_some() && self.token_file.is_some() {
            return Err("`journal.nats` has both `user` and `token_file`: one of them".into());
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Err("`journal.nats.certificate` and `journal.nats.key` go together".into());
        }
        Ok(())
    }

    /// Reads the files of secrets that are named.
    pub(super) fn into_config(self, directory: &Path) -> Result<NatsConfig, KeyFileError> {
        let secret = |path: PathBuf| keys::secret_text(&directory.join(path));
        let login = match (self.user, self.password_file, self.token_file) {
            (Some(user), Some(password), _) => NatsLogin::Password {
                user,
                password: secret(password)?,
            },
            (_, _, Some(token)) => NatsLogin::Token(secret(token)?),
            (_, _, None) => NatsLogin::None,
        };
        let pair = self.certificate.zip(self.key);
        Ok(NatsConfig {
            servers: self.servers,
            stream: self.stream,
            replicas: self.replicas,
            login,
            ca_file: self.ca.map(|path| directory.join(path)),
            client_certificate: pair
                .map(|(certificate, key)| (directory.join(certificate), directory.join(key))),
        })
    }
}

fn stream() -> String {
    "seawall".to_owned()
}

/// On one server of three that is lost, nothing is lost.
fn replicas() -> usize {
    3
}

/// Servers that are named; a client learns of the others from them.
const SERVERS_MAX: usize = 16;

/// As many as JetStream allows.
const REPLICAS_MAX: usize = 5;
