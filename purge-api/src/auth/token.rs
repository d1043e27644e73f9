//! JSON Web Tokens (RFC 7519): short-lived, for us, used once, and signed as their key says.
//!
//! The algorithm comes with the key and never with the token (RFC 8725 3.1): a token that names another one
//! is refused. Who calls it: the authenticator. Deliberately not here: scopes in tokens; a token stands for
//! the principal of its key.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use purge_log::UnixMillis;
use serde::Deserialize;

use super::Denied;
use super::signature::SKEW_MAX;

/// How tokens of a key are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// `EdDSA` with Ed25519 (RFC 8037).
    Ed25519,
    /// `ES256`: ECDSA with P-256 (RFC 7518 3.4).
    Es256,
}

/// A public key that tokens are checked with.
pub(super) struct TokenKey {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TokenKey").field(&self.algorithm).finish()
    }
}

/// What a token must claim.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    aud: Audience,
    pub(super) exp: u64,
    pub(super) iat: u64,
    #[serde(default)]
    nbf: u64,
    pub(super) jti: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn has(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(several) => several.iter().any(|one| one == audience),
        }
    }
}

/// Returns the name of the key that a token says it is signed with.
pub(super) fn key_of(token: &str) -> Result<String, Denied> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Denied::Malformed("the token has more than 4096 bytes"));
    }
    let header = decode_header(token).map_err(|_| Denied::Malformed("it is not a token"))?;
    header.kid.ok_or(Denied::Malformed(
        "the token does not name its key in `kid`",
    ))
}

impl TokenKey {
    /// Reads a public key in PEM; `None` if it is not one of that kind.
    pub(super) fn read(algorithm: TokenAlgorithm, pem: &[u8]) -> Option<Self> {
        let (algorithm, key) = match algorithm {
            TokenAlgorithm::Ed25519 => (Algorithm::EdDSA, DecodingKey::from_ed_pem(pem)),
            TokenAlgorithm::Es256 => (Algorithm::ES256, DecodingKey::from_ec_pem(pem)),
        };
        Some(Self {
            algorithm,
            key: key.ok()?,
        })
    }

    /// Checks the signature of a token, who it is for, and when.
    pub(super) fn verify(
        &self,
        token: &str,
        audience: &str,
        now: UnixMillis,
    ) -> Result<Claims, Denied> {
        let mut validation = Validation::new(self.algorithm);
        // Times and audience are checked below: against our clock, which tests control.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let claims: Claims = decode(token, &self.key, &validation)
            .map_err(|error| match error.kind() {
                jsonwebtoken::errors::ErrorKind::Json(_) => {
                    Denied::Malformed("the token must claim `aud`, `exp`, `iat` and `jti`")
                }
                _ => Denied::Invalid,
            })?
            .claims;
        if !claims.aud.has(audience) {
            return Err(Denied::Invalid);
        }
        let jti = claims.jti.as_str();
        if jti.is_empty() || jti.len() > JTI_BYTES_MAX {
            return Err(Denied::Malformed("`jti` is not 1 to 128 bytes"));
        }
        if claims.exp.saturating_sub(claims.iat) > LIFETIME_MAX.as_secs() {
            return Err(Denied::Malformed(
                "the token is valid for more than 10 minutes",
            ));
        }
        let seconds = now.0 / 1000;
        let ahead = seconds + SKEW_MAX.as_secs();
        let is_now = seconds <= claims.exp && claims.iat <= ahead && claims.nbf <= ahead;
        if is_now {
            Ok(claims)
        } else {
            Err(Denied::Stale(seconds))
        }
    }
}

/// How long a token may be valid.
pub const LIFETIME_MAX: Duration = Duration::from_secs(600);

const TOKEN_BYTES_MAX: usize = 4096;

const JTI_BYTES_MAX: usize = 128;
