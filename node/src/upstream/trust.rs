//! Whom a node trusts among its parents, and how it identifies itself to them.
//!
//! Who calls it: `Upstream::new`, once per `https` parent. Deliberately not here: the certificates that
//! viewers see (`listen`).

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::config::ParentConfig;
use super::error::UpstreamSetupError;

/// Returns the TLS settings towards `parent`: HTTP/2 and HTTP/1.1 are offered, in this order.
///
/// # Errors
/// [`UpstreamSetupError::Pem`] for an unreadable file, [`UpstreamSetupError::Tls`] for unusable certificates.
pub(super) fn client_config(
    parent: &ParentConfig,
) -> Result<Arc<ClientConfig>, UpstreamSetupError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let refused = |source| UpstreamSetupError::Tls {
        name: parent.name.clone(),
        source,
    };
    let versions = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(refused)?;
    let trusting = if parent.insecure_skip_verify {
        versions
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(NoVerification::new(&provider)))
    } else {
        versions.with_root_certificates(roots(parent)?)
    };
    let mut config = match &parent.client_certificate {
        None => trusting.with_no_client_auth(),
        Some(own) => {
            let chain = certificates(&own.certificate)?;
            let key = PrivateKeyDer::from_pem_file(&own.key).map_err(|e| unusable(&own.key, e))?;
            trusting
                .with_client_auth_cert(chain, key)
                .map_err(refused)?
        }
    };
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Returns the system's certificates and those of `ca_file`.
fn roots(parent: &ParentConfig) -> Result<RootCertStore, UpstreamSetupError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in native.errors {
        tracing::warn!(%error, "part of the system's certificates cannot be read");
    }
    // Systems carry certificates that no library accepts; one of them must not stop a node.
    let (_, ignored) = roots.add_parsable_certificates(native.certs);
    tracing::debug!(
        trusted = roots.len(),
        ignored,
        "read the system's certificates"
    );
    if let Some(path) = &parent.ca_file {
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .map_err(|source| UpstreamSetupError::Tls {
                    name: parent.name.clone(),
                    source,
                })?;
        }
    }
    Ok(roots)
}

/// Reads all certificates of a PEM file, of which there must be one at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, UpstreamSetupError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| unusable(path, e))?;
    if certificates.is_empty() {
        return Err(unusable(path, pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn unusable(path: &Path, source: pem::Error) -> UpstreamSetupError {
    UpstreamSetupError::Pem {
        path: path.to_owned(),
        source,
    }
}

/// Accepts every certificate, as `insecure_skip_verify` says. Signatures are still checked.
#[derive(Debug)]
struct NoVerification {
    algorithms: WebPkiSupportedAlgorithms,
}

impl NoVerification {
    fn new(provider: &CryptoProvider) -> Self {
        Self {
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The name of HTTP/2 in ALPN (RFC 9113 3.2).
pub(super) const ALPN_HTTP2: &[u8] = b"h2";
