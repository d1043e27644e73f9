//! Files of keys: read once, at the boundary, and refused if others can read them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::auth::{KeyMaterial, TokenAlgorithm};

/// What kind of key is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeyKind {
    /// A shared secret: the text of the file without white space around it.
    Hmac,
    /// A public key in PEM.
    Ed25519,
    /// A public key in PEM.
    Es256,
}

/// Why a file is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("the key `{}` cannot be read ({})", path.display(), source.kind())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others can read a secret, or write a key.
    #[error("the key `{}` has mode {mode:04o}: {allowed}", path.display())]
    Permissions {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What would be right.
        allowed: &'static str,
    },
    /// A secret that is not text.
    #[error("the key `{}` is not text in UTF-8", .0.display())]
    NotText(PathBuf),
    /// Too large.
    #[error("the key `{}` has more than {KEY_BYTES_MAX} bytes", .0.display())]
    TooLarge(PathBuf),
}

/// Reads a key.
pub(super) fn read(kind: KeyKind, path: &Path) -> Result<KeyMaterial, KeyFileError> {
    let bytes = read_bytes(kind, path)?;
    Ok(match kind {
        KeyKind::Hmac => KeyMaterial::Hmac(bytes.trim_ascii().to_vec()),
        KeyKind::Ed25519 => KeyMaterial::Token(TokenAlgorithm::Ed25519, bytes),
        KeyKind::Es256 => KeyMaterial::Token(TokenAlgorithm::Es256, bytes),
    })
}

/// Reads a password or a token, without white space around it, from a file that only its owner reads.
pub(super) fn secret_text(path: &Path) -> Result<String, KeyFileError> {
    let bytes = read_bytes(KeyKind::Hmac, path)?;
    let text = std::str::from_utf8(bytes.trim_ascii());
    let text = text.map_err(|_| KeyFileError::NotText(path.to_owned()))?;
    Ok(text.to_owned())
}

fn read_bytes(kind: KeyKind, path: &Path) -> Result<Vec<u8>, KeyFileError> {
    let unreadable = |source| KeyFileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    // The mode of what is open, and not of what has the name by then.
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    let (forbidden, allowed) = match kind {
        KeyKind::Hmac => (0o077, "only its owner may read it, as after `chmod 600`"),
        KeyKind::Ed25519 | KeyKind::Es256 => {
            (0o022, "only its owner may write it, as after `chmod 644`")
        }
    };
    if mode & forbidden != 0 {
        return Err(KeyFileError::Permissions {
            path: path.to_owned(),
            mode,
            allowed,
        });
    }
    let mut bytes = Vec::new();
    file.take(KEY_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > KEY_BYTES_MAX {
        return Err(KeyFileError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

/// Bytes of a file of a key.
const KEY_BYTES_MAX: u64 = 16 * 1024;
