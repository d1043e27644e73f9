//! The configuration of the purge API: a TOML file to checked values.
//!
//! Who calls it: the command line. Errors name the file, the line, the key and what is allowed; what cannot be
//! right is refused before anything starts. Deliberately not here: the node's reader of configuration, which
//! this crate must not depend on.

mod keys;
mod nats;
mod text;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::api::ApiLimits;
use crate::audit::AuditConfig;
use crate::auth::PrincipalConfig;
use crate::journal::{JournalConfig, NatsConfig};

pub use keys::KeyFileError;

/// The purge API as it will run.
#[derive(Debug)]
pub struct Config {
    /// Where it listens for everybody who shows who they are.
    pub listen: SocketAddr,
    /// Where it listens without asking, if anywhere.
    pub private: Option<SocketAddr>,
    /// TLS, if any.
    pub tls: Option<TlsConfig>,
    /// What tokens must be for.
    pub audience: String,
    /// Where the journal is.
    pub journal_place: JournalPlace,
    /// What the journal keeps.
    pub journal: JournalConfig,
    /// Where the audit is.
    pub audit: AuditConfig,
    /// Who may ask.
    pub principals: Vec<PrincipalConfig>,
    /// What the API allows of itself.
    pub limits: ApiLimits,
    /// Connections at once; one more waits to be accepted.
    pub connections_max: usize,
    /// How long a connection may take to send a head.
    pub head_timeout: Duration,
    /// How long a shutdown waits for requests that are under way.
    pub drain_timeout: Duration,
}

/// Where the journal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalPlace {
    /// A file of this machine.
    File(PathBuf),
    /// A stream of a NATS server or cluster, which several purge APIs may share.
    Nats(NatsConfig),
}

/// Files of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate chain in PEM, leaf first.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
    /// Certificates in PEM that sign those of clients; without them clients are not asked for one.
    pub client_ca: Option<PathBuf>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("`{}` cannot be read ({})", path.display(), source.kind())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text cannot be read, or a value is not allowed.
    #[error("`{}`: {problem}", path.display())]
    Text {
        /// Which file.
        path: PathBuf,
        /// The line, the key, and what is allowed.
        problem: String,
    },
    /// A key cannot be used.
    #[error("`{}`: {owner}: {source}", path.display())]
    Key {
        /// Which file of configuration.
        path: PathBuf,
        /// Whose key: a principal, or the journal.
        owner: String,
        /// Why not.
        source: KeyFileError,
    },
}

impl Config {
    /// Reads a file, and the keys it names.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::of(&read, path)
    }

    /// Reads the text of a file that is at `path`; what it names is relative to that.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`].
    pub fn of(read: &str, path: &Path) -> Result<Self, ConfigError> {
        let wrong = |problem: String| ConfigError::Text {
            path: path.to_owned(),
            problem,
        };
        // The error of the reader shows the line and says which keys are known.
        let text: text::Text = toml::from_str(read).map_err(|error| wrong(error.to_string()))?;
        let directory = path.parent().unwrap_or(Path::new("."));
        text.check().map_err(wrong)?;
        text.into_config(directory)
            .map_err(|(owner, source)| ConfigError::Key {
                path: path.to_owned(),
                owner,
                source,
            })
    }
}
