//! Who asks, and whether they may: signatures, tokens, client certificates; scopes, rates, replays.
//!
//! What is here: [`Authenticator`], which turns a request into a [`Caller`] or a reason to deny it. Who calls
//! it: the API before anything else reads the request. What it calls: `aws-lc-rs` and `jsonwebtoken` for the
//! cryptography. Deliberately not here: files of keys, which `config` reads, and how a denial looks as HTTP.
//!
//! A request shows one of three things, and all lead to the same principals and scopes:
//!
//! ```text
//! Authorization: Seawall-HMAC-SHA256 key=ID, timestamp=SECONDS, nonce=TEXT, signature=HEX
//! Authorization: Bearer JWT                        EdDSA or ES256, as the key named by `kid` says
//! a client certificate                             whose URI or DNS name a principal lists
//! ```

mod certificate;
mod rate;
mod replay;
mod scope;
mod signature;
mod token;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use axum::http::{HeaderMap, header};
use parking_lot::Mutex;
use purge_log::UnixMillis;

pub use certificate::names_of;
pub use replay::{Remembered, Used};
pub use scope::{Forbidden, HostPattern, KeyPattern, Modes, Scope, Verb, Verbs};
pub use signature::{NONCE_BYTES_MAX, SCHEME, SIGNED_HEADERS, SKEW_MAX, Signed, fresh_nonce, sign};
pub use token::{LIFETIME_MAX, TokenAlgorithm};

use rate::Bucket;
use replay::Replay;
use signature::Signature;
pub(crate) use signature::hex;
use token::TokenKey;

/// Everybody who may ask, and how they show who they are.
#[derive(Debug)]
pub struct Authenticator {
    keys: HashMap<String, (Arc<Principal>, Key)>,
    certificates: HashMap<String, Arc<Principal>>,
    audience: String,
    /// Signatures made before this may have been used before a restart, which forgot it.
    signatures_since: UnixMillis,
    /// The same of tokens.
    tokens_since: UnixMillis,
}

/// Somebody who may ask, with what they may ask for.
#[derive(Debug)]
pub struct Principal {
    name: String,
    scope: Scope,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    replay: Replay,
    requests: Bucket,
    wide: Bucket,
}

/// A principal as the configuration describes it, with its keys read.
#[derive(Debug)]
pub struct PrincipalConfig {
    /// What it is called in the log and in the audit.
    pub name: String,
    /// What it may purge.
    pub scope: Scope,
    /// Requests a second, and as many at once.
    pub per_second: u32,
    /// Purges of prefixes, streams, hosts and everything a second, and as many at once.
    pub wide_per_second: u32,
    /// URI or DNS names of its client certificates.
    pub certificates: Vec<String>,
    /// Its keys by their names: at most [`KEYS_MAX`], so that one can be replaced by the other.
    pub keys: Vec<(String, KeyMaterial)>,
}

/// What is in a file of a key.
pub enum KeyMaterial {
    /// A shared secret for signatures.
    Hmac(Vec<u8>),
    /// A public key in PEM for tokens.
    Token(TokenAlgorithm, Vec<u8>),
}

impl std::fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Invariant 7: no secret in `Debug`.
        f.write_str(match self {
            Self::Hmac(_) => "Hmac(..)",
            Self::Token(..) => "Token(..)",
        })
    }
}

#[derive(Debug)]
enum Key {
    Hmac(Box<hmac::Key>),
    Token(Box<TokenKey>),
}

/// Why principals cannot be put together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrincipalsError {
    /// Two of the same name.
    #[error("there are two principals called `{0}`")]
    Name(String),
    /// Two keys of the same name.
    #[error("there are two keys called `{0}`")]
    Key(String),
    /// One certificate for two principals.
    #[error("the certificate name `{0}` is listed twice")]
    Certificate(String),
    /// Too many keys.
    #[error("`{0}` has more than {KEYS_MAX} keys: one in use and the one that replaces it")]
    TooManyKeys(String),
    /// A secret that could be guessed.
    #[error("the secret of key `{0}` is shorter than {SECRET_BYTES_MIN} bytes")]
    ShortSecret(String),
    /// Not a public key of the kind that is named.
    #[error("key `{0}` is not a public key in PEM of the kind that is named")]
    Malformed(String),
}

/// What a request shows of itself before it is believed.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The method.
    pub method: &'a str,
    /// The host asked for, as the target or the `Host` field says it.
    pub host: &'a str,
    /// The path with its query, as it was sent.
    pub path_and_query: &'a str,
    /// The fields of its head.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
    /// Names in its verified client certificate.
    pub certificate_names: &'a [String],
}

/// Who asks, as far as it is proven.
#[derive(Clone, Debug)]
pub struct Caller {
    principal: Arc<Principal>,
    /// The name of the key or certificate.
    pub key: String,
    proof: Proof,
}

/// How a caller has shown who it is.
#[derive(Clone, Debug)]
enum Proof {
    /// By a certificate: nothing that could be repeated was sent.
    Certificate,
    /// By a signature over the request, with a nonce.
    Signature(Used),
    /// By a token, which says nothing of the request it came with.
    Token(Used),
}

/// Why a request is denied before it is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nothing is shown.
    #[error("the request shows neither a signature, nor a token, nor a certificate that is listed")]
    Missing,
    /// The `Authorization` field cannot be read.
    #[error("the credentials cannot be read: {0}")]
    Malformed(&'static str),
    /// The key is not known, or the signature is not its.
    #[error("the credentials are not valid")]
    Invalid,
    /// Too old or too far ahead.
    #[error("the time of the credentials is too far from {0}, the time here in seconds since 1970")]
    Stale(u64),
    /// Made before this process started, which does not know what was used before.
    #[error("the credentials were made before this API knows what was used: make new ones")]
    BeforeStart,
    /// Used already.
    #[error("the credentials were used before: each request needs a nonce or `jti` of its own")]
    Replayed,
    /// Too many requests.
    #[error("too many requests: try again in {} s", .0.as_secs())]
    RateLimited(Duration),
}

impl Authenticator {
    /// Puts principals together; tokens must be for `audience`, and nothing made before `now` is accepted.
    ///
    /// # Errors
    ///
    /// See [`PrincipalsError`].
    pub fn new(
        principals: Vec<PrincipalConfig>,
        audience: String,
        now: UnixMillis,
    ) -> Result<Self, PrincipalsError> {
        let mut names = std::collections::HashSet::new();
        let mut keys = HashMap::new();
        let mut certificates = HashMap::new();
        for config in principals {
            if !names.insert(config.name.clone()) {
                return Err(PrincipalsError::Name(config.name));
            }
            if config.keys.len() > KEYS_MAX {
                return Err(PrincipalsError::TooManyKeys(config.name));
            }
            let principal = Arc::new(Principal::new(&config, now));
            for name in config.certificates {
                if certificates.contains_key(&name) {
                    return Err(PrincipalsError::Certificate(name));
                }
                certificates.insert(name, Arc::clone(&principal));
            }
            for (id, material) in config.keys {
                let key = Key::read(&id, &material)?;
                if keys.contains_key(&id) {
                    return Err(PrincipalsError::Key(id));
                }
                keys.insert(id, (Arc::clone(&principal), key));
            }
        }
        Ok(Self {
            keys,
            certificates,
            audience,
            signatures_since: now,
            tokens_since: now,
        })
    }

    /// Takes over what is known of the time before this process started.
    pub fn remembering(mut self, remembered: Remembered, now: UnixMillis) -> Self {
        self.signatures_since = remembered.signatures_since.unwrap_or(now);
        self.tokens_since = remembered.tokens_since.unwrap_or(now);
        for used in remembered.used {
            // A key that is gone vouches for nothing any more.
            let key = used.name.split('/').next().unwrap_or_default();
            let Some((principal, _)) = self.keys.get(key) else {
                continue;
            };
            if principal.state.lock().replay.remember(used, now).is_err() {
                // More than is remembered of anybody: then nothing from before.
                self.signatures_since = now;
                self.tokens_since = now;
            }
        }
        self
    }

    /// Returns who asks, and takes one request off their rate.
    ///
    /// # Errors
    ///
    /// See [`Denied`]. An unknown key and a wrong signature are the same, so that keys cannot be listed.
    pub fn authenticate(&self, shown: &Shown<'_>, now: UnixMillis) -> Result<Caller, Denied> {
        let mut fields = shown.headers.get_all(header::AUTHORIZATION).iter();
        let Some(field) = fields.next() else {
            return self.by_certificate(shown, now);
        };
        if fields.next().is_some() {
            return Err(Denied::Malformed("there are two `Authorization` fields"));
        }
        let text = field
            .to_str()
            .map_err(|_| Denied::Malformed("it is not visible ASCII"))?;
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case(SCHEME) {
            self.by_signature(shown, rest, now)
        } else if scheme.eq_ignore_ascii_case("Bearer") {
            self.by_token(rest, now)
        } else {
            Err(Denied::Malformed(
                "the scheme is neither `Seawall-HMAC-SHA256` nor `Bearer`",
            ))
        }
    }

    fn by_certificate(&self, shown: &Shown<'_>, now: UnixMillis) -> Result<Caller, Denied> {
        let mut names = shown.certificate_names.iter();
        let (name, principal) = names
            .find_map(|name| self.certificates.get_key_value(name))
            .ok_or(Denied::Missing)?;
        // TLS keeps strangers from repeating what was sent in a session of its own: no nonce is needed.
        principal.admit(None, now)?;
        Ok(Caller {
            principal: Arc::clone(principal),
            key: name.clone(),
            proof: Proof::Certificate,
        })
    }

    fn by_signature(
        &self,
        shown: &Shown<'_>,
        field: &str,
        now: UnixMillis,
    ) -> Result<Caller, Denied> {
        let signature = Signature::read(field)?;
        let Some((principal, Key::Hmac(key))) = self.keys.get(signature.key) else {
            return Err(Denied::Invalid);
        };
        signature.verify(key, shown)?;
        let made_at = self.check_time(signature.timestamp, now)?;
        let used = Used {
            name: format!("{}/{}", signature.key, signature.nonce),
            until: UnixMillis(made_at.0 + millis(NONCE_KEPT_FOR)),
        };
        principal.admit(Some(used.clone()), now)?;
        Ok(Caller {
            principal: Arc::clone(principal),
            key: signature.key.to_owned(),
            proof: Proof::Signature(used),
        })
    }

    fn by_token(&self, token: &str, now: UnixMillis) -> Result<Caller, Denied> {
        let id = token::key_of(token)?;
        let Some((principal, Key::Token(key))) = self.keys.get(&id) else {
            return Err(Denied::Invalid);
        };
        let claims = key.verify(token, &self.audience, now)?;
        if millis(Duration::from_secs(claims.iat)) < self.tokens_since.0 / 1000 * 1000 {
            return Err(Denied::BeforeStart);
        }
        let used = Used {
            name: format!("{id}/{}", claims.jti),
            until: UnixMillis(millis(Duration::from_secs(claims.exp) + SKEW_MAX)),
        };
        principal.admit(Some(used.clone()), now)?;
        Ok(Caller {
            principal: Arc::clone(principal),
            key: id,
            proof: Proof::Token(used),
        })
    }

    fn check_time(&self, seconds: u64, now: UnixMillis) -> Result<UnixMillis, Denied> {
        let made_at = UnixMillis(seconds.saturating_mul(1000));
        if made_at.0.abs_diff(now.0) > millis(SKEW_MAX) {
            return Err(Denied::Stale(now.0 / 1000));
        }
        // Whole seconds: what was made in the second of the start is not older than the start.
        if seconds < self.signatures_since.0 / 1000 {
            return Err(Denied::BeforeStart);
        }
        Ok(made_at)
    }
}

impl Principal {
    fn new(config: &PrincipalConfig, now: UnixMillis) -> Self {
        Self {
            name: config.name.clone(),
            scope: config.scope.clone(),
            state: Mutex::new(State {
                replay: Replay::new(REPLAY_MAX),
                requests: Bucket::full(config.per_second, now),
                wide: Bucket::full(config.wide_per_second, now),
            }),
        }
    }

    fn admit(&self, used: Option<Used>, now: UnixMillis) -> Result<(), Denied> {
        let mut state = self.state.lock();
        // A replay costs its owner nothing; what the owner signs counts, whatever becomes of it.
        if let Some(used) = &used
            && state.replay.contains(&used.name)
        {
            return Err(Denied::Replayed);
        }
        state.requests.take(now).map_err(Denied::RateLimited)?;
        match used {
            None => Ok(()),
            Some(used) => state
                .replay
                .remember(used, now)
                .map_err(Denied::RateLimited),
        }
    }
}

impl Caller {
    /// Returns what the principal is called.
    pub fn name(&self) -> &str {
        &self.principal.name
    }

    /// Returns what it may do.
    pub fn scope(&self) -> &Scope {
        &self.principal.scope
    }

    /// Returns what nobody may use again, if the caller has shown something of that kind.
    pub fn used(&self) -> Option<&Used> {
        match &self.proof {
            Proof::Certificate => None,
            Proof::Signature(used) | Proof::Token(used) => Some(used),
        }
    }

    /// Returns whether what was shown is good for this one request only, whoever sends it again.
    pub fn is_bound_to_request(&self) -> bool {
        match &self.proof {
            Proof::Certificate | Proof::Signature(_) => true,
            Proof::Token(_) => false,
        }
    }

    /// Takes one wide purge off the rate.
    ///
    /// # Errors
    ///
    /// How long to wait until there is one again.
    pub fn take_wide(&self, now: UnixMillis) -> Result<(), Duration> {
        self.principal.state.lock().wide.take(now)
    }
}

impl Key {
    fn read(id: &str, material: &KeyMaterial) -> Result<Self, PrincipalsError> {
        match material {
            KeyMaterial::Hmac(secret) if secret.len() < SECRET_BYTES_MIN => {
                Err(PrincipalsError::ShortSecret(id.to_owned()))
            }
            KeyMaterial::Hmac(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                Ok(Self::Hmac(Box::new(key)))
            }
            KeyMaterial::Token(algorithm, pem) => TokenKey::read(*algorithm, pem)
                .map(|key| Self::Token(Box::new(key)))
                .ok_or_else(|| PrincipalsError::Malformed(id.to_owned())),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Keys of one principal: one in use, and the one that replaces it.
pub const KEYS_MAX: usize = 2;

/// Bytes of a shared secret: as many as its signatures have.
pub const SECRET_BYTES_MIN: usize = 32;

/// How long a nonce is remembered, longer than its signature is valid.
const NONCE_KEPT_FOR: Duration = Duration::from_secs(300);

/// Nonces and `jti`s remembered per principal; one more is told to wait until the oldest is forgotten.
const REPLAY_MAX: usize = 50_000;
