//! Certificates and the TLS settings of the listeners.
//!
//! What is here: a certificate from files or made on the spot, swapped without a restart, and one
//! `rustls` configuration per transport that every worker shares. Who calls it: `Bound::bind`; an
//! operator's reload calls [`Certificates::reload`]. Deliberately not here: client certificates and
//! ACME, and what is done about a request that comes as early data (`early`): over QUIC it may come, over TCP
//! not, because hyper cannot tell it from the others.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{CertificateSource, QuicConfig};

/// The certificate that the listeners show, and where it came from.
#[derive(Debug)]
pub struct Certificates {
    source: CertificateSource,
    current: ArcSwap<CertifiedKey>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file is missing or unreadable.
    #[error("{} cannot be read ({reason})", path.display(), reason = source.kind())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not PEM.
    #[error("{} is not a PEM file", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// Where it stops being PEM.
        source: pem::Error,
    },
    /// A PEM file without a certificate.
    #[error("{} holds no certificate (expected a section BEGIN CERTIFICATE)", .0.display())]
    NoCertificate(PathBuf),
    /// A PEM file without a private key.
    #[error("{} holds no private key (expected a section BEGIN PRIVATE KEY)", .0.display())]
    NoKey(PathBuf),
    /// A certificate that is not X.509.
    #[error("the first certificate in {} is damaged", path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: rustls::Error,
    },
    /// A key of a kind that cannot sign.
    #[error("the private key in {} is of a kind that cannot be used (use ECDSA P-256 or RSA)", path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What the crypto library said.
        source: rustls::Error,
    },
    /// Key and certificate are from different pairs.
    #[error("the private key in {} does not belong to the first certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// A self-signed certificate for these names cannot be made.
    #[error("no self-signed certificate can be made for {names:?}")]
    SelfSigned {
        /// The names asked for.
        names: Vec<String>,
        /// What the certificate library said.
        source: rcgen::Error,
    },
}

impl Certificates {
    /// Loads or makes the certificate that `source` describes.
    ///
    /// # Errors
    ///
    /// Names the file and what is wrong with it.
    pub fn load(source: &CertificateSource) -> Result<Arc<Self>, CertificateError> {
        let current = load(source)?;
        Ok(Arc::new(Self {
            source: source.clone(),
            current: ArcSwap::from_pointee(current),
        }))
    }

    /// Loads the certificate again; new handshakes see it at once.
    ///
    /// # Errors
    ///
    /// As [`Certificates::load`]; the old certificate then stays in use.
    pub fn reload(&self) -> Result<(), CertificateError> {
        self.current.store(Arc::new(load(&self.source)?));
        Ok(())
    }

    /// Returns the certificate that new handshakes see, in DER.
    pub fn leaf(&self) -> CertificateDer<'static> {
        let current = self.current.load();
        let leaf = current.cert.first();
        leaf.expect("a loaded chain has a leaf")
            .clone()
            .into_owned()
    }

    /// Returns the SHA-256 of the leaf's public key, in base64.
    ///
    /// Browsers accept a self-signed certificate by this pin: for Chromium,
    /// `--ignore-certificate-errors-spki-list`.
    pub fn public_key_pin(&self) -> String {
        let leaf = self.leaf();
        let parsed = ParsedCertificate::try_from(&leaf).expect("a loaded leaf was parsed before");
        let key = parsed.subject_public_key_info();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key);
        base64::engine::general_purpose::STANDARD.encode(hash)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// The TLS settings of one node, the same for every worker, so that a session begun on one worker
/// is resumed on another.
#[derive(Clone, Debug)]
pub(super) struct TlsConfigs {
    /// For TCP: HTTP/2 and HTTP/1.1 by ALPN.
    pub(super) tcp: Arc<rustls::ServerConfig>,
    /// For QUIC: HTTP/3.
    pub(super) quic: Arc<rustls::ServerConfig>,
}

impl TlsConfigs {
    /// Builds the settings around `certificates`.
    pub(super) fn new(
        certificates: Arc<Certificates>,
        quic: &QuicConfig,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        // Without early data one key for both transports: a player that changes from TCP to QUIC resumes.
        let ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        let config = |versions, alpn: &[&[u8]]| {
            let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
            let mut config = builder
                .with_protocol_versions(versions)?
                .with_no_client_auth()
                .with_cert_resolver(Arc::clone(&certificates) as Arc<dyn ResolvesServerCert>);
            config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
            config.max_early_data_size = 0;
            Ok::<_, rustls::Error>(config)
        };
        let mut tcp = config(rustls::ALL_VERSIONS, &[b"h2", b"http/1.1"])?;
        let mut http3 = config(&[&rustls::version::TLS13], &[b"h3"])?;
        if quic.early_data {
            accept_early_data(&mut http3, quic.sessions_max);
        } else {
            http3.ticketer = Arc::clone(&ticketer);
        }
        tcp.ticketer = ticketer;
        Ok(Self {
            tcp: Arc::new(tcp),
            quic: Arc::new(http3),
        })
    }
}

/// Lets sessions be resumed with early data.
///
/// Each ticket names a session in memory that is forgotten when it is used: a first flight that somebody sends once more resumes
/// nothing, and what is early in it is never read (RFC 8446 8.1). rustls takes early data on no other terms.
fn accept_early_data(config: &mut rustls::ServerConfig, sessions_max: usize) {
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(sessions_max);
    // A client of HTTP/3 has one connection: a second ticket is hardly ever used.
    config.send_tls13_tickets = 1;
    // RFC 9001 4.6.1: all or nothing; how much it is, is bounded by the windows of QUIC.
    config.max_early_data_size = u32::MAX;
}

fn load(source: &CertificateSource) -> Result<CertifiedKey, CertificateError> {
    match source {
        CertificateSource::Files { certificate, key } => from_files(certificate, key),
        CertificateSource::SelfSigned(names) => self_signed(names),
    }
}

fn from_files(certificate: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| CertificateError::NotPem {
            path: certificate.to_owned(),
            source,
        })?;
    let Some(leaf) = chain.first() else {
        return Err(CertificateError::NoCertificate(certificate.to_owned()));
    };
    ParsedCertificate::try_from(leaf).map_err(|source| CertificateError::BadCertificate {
        path: certificate.to_owned(),
        source,
    })?;
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|source| match source {
        pem::Error::NoItemsFound => CertificateError::NoKey(key.to_owned()),
        source => CertificateError::NotPem {
            path: key.to_owned(),
            source,
        },
    })?;
    pair(chain, private).map_err(|source| match source {
        rustls::Error::InconsistentKeys(_) => CertificateError::Mismatch {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        },
        source => CertificateError::BadKey {
            path: key.to_owned(),
            source,
        },
    })
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path).map_err(|source| CertificateError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

fn self_signed(names: &[String]) -> Result<CertifiedKey, CertificateError> {
    let mut all: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).into();
    all.extend(names.iter().cloned());
    all.dedup();
    let failed = |source| CertificateError::SelfSigned {
        names: names.to_vec(),
        source,
    };
    let key = rcgen::KeyPair::generate().map_err(failed)?;
    let mut params = rcgen::CertificateParams::new(all).map_err(failed)?;
    // What a browser's warning shows.
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "seawall, self-signed");
    let certificate = params.self_signed(&key).map_err(failed)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Ok(pair(vec![certificate.into()], key).expect("a key made a moment ago fits its certificate"))
}

fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, rustls::Error> {
    let provider: CryptoProvider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        folder: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for pair in ["one", "two"] {
                let made = rcgen::generate_simple_self_signed(vec![pair.to_owned()]).unwrap();
                let key = made.signing_key.serialize_pem();
                std::fs::write(folder.path().join(format!("{pair}.crt")), made.cert.pem()).unwrap();
                std::fs::write(folder.path().join(format!("{pair}.key")), key).unwrap();
            }
            std::fs::write(folder.path().join("text"), "not a certificate").unwrap();
            let cut = "-----BEGIN CERTIFICATE-----\nAAAA";
            std::fs::write(folder.path().join("cut"), cut).unwrap();
            let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
            std::fs::write(folder.path().join("garbage"), garbage).unwrap();
            Self { folder }
        }

        fn source(&self, certificate: &str, key: &str) -> CertificateSource {
            CertificateSource::Files {
                certificate: self.folder.path().join(certificate),
                key: self.folder.path().join(key),
            }
        }
    }

    #[test]
    fn every_fault_of_certificate_files_names_the_file_and_the_fault() {
        let files = Files::new();
        let cases = [
            ("none", "one.key", "none cannot be read (entity not found)"),
            ("one.crt", "none", "none cannot be read (entity not found)"),
            (
                "text",
                "one.key",
                "text holds no certificate (expected a section BEGIN CERTIFICATE)",
            ),
            ("one.key", "one.key", "one.key holds no certificate"),
            ("cut", "one.key", "cut is not a PEM file"),
            ("garbage", "one.key", "the first certificate in"),
            (
                "one.crt",
                "one.crt",
                "one.crt holds no private key (expected a section BEGIN PRIVATE KEY)",
            ),
            (
                "one.crt",
                "two.key",
                "two.key does not belong to the first certificate in",
            ),
        ];
        for (certificate, key, expected) in cases {
            let error = Certificates::load(&files.source(certificate, key)).unwrap_err();
            let message = error.to_string();
            assert!(message.contains(expected), "{certificate} {key}: {message}");
        }
    }

    #[test]
    fn a_reload_shows_the_new_certificate_and_a_bad_one_keeps_the_old() {
        let files = Files::new();
        let certificates = Certificates::load(&files.source("one.crt", "one.key")).unwrap();
        let before = certificates.public_key_pin();

        let path = |name: &str| files.folder.path().join(name);
        std::fs::copy(path("two.crt"), path("one.crt")).unwrap();
        certificates.reload().unwrap_err();
        assert_eq!(certificates.public_key_pin(), before);

        std::fs::copy(path("two.key"), path("one.key")).unwrap();
        certificates.reload().unwrap();
        assert_ne!(certificates.public_key_pin(), before);
    }

    #[test]
    fn a_self_signed_certificate_has_a_pin_of_32_bytes() {
        let certificates = Certificates::load(&CertificateSource::SelfSigned(Vec::new())).unwrap();
        let pin = certificates.public_key_pin();
        let engine = base64::engine::general_purpose::STANDARD;
        assert_eq!(engine.decode(pin).unwrap().len(), 32);
    }
}
