//! Whom the swarm trusts, as rustls client configurations.
//!
//! Session resumption is off: every viewer stands for another device and pays its own handshake.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::super::config::Trust;
use super::Protocol;

/// Why no TLS configuration could be made.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The system has no readable certificate store.
    #[error("the system's certificate store has no usable certificate")]
    NoSystemRoots,
    /// The given PEM text holds no certificate.
    #[error("the given PEM text holds no usable certificate")]
    NoCertificate,
    /// The TLS library refuses the protocol versions.
    #[error("the TLS library has no usable configuration")]
    Unusable(#[source] rustls::Error),
}

/// Makes the configuration of one run.
pub(super) fn client_config(
    trust: &Trust,
    protocol: Protocol,
) -> Result<Arc<ClientConfig>, TrustError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let versions: &[_] = match protocol {
        Protocol::Http1 | Protocol::Http2 => rustls::DEFAULT_VERSIONS,
        Protocol::Http3 => &[&rustls::version::TLS13],
    };
    let builder = builder
        .with_protocol_versions(versions)
        .map_err(TrustError::Unusable)?;
    let mut config = match trust {
        Trust::System => builder
            .with_root_certificates(system_roots()?)
            .with_no_client_auth(),
        Trust::Pem(pem) => builder
            .with_root_certificates(pem_roots(pem)?)
            .with_no_client_auth(),
        Trust::Insecure => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone { provider }))
            .with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.alpn().to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn system_roots() -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(TrustError::NoSystemRoots);
    }
    Ok(roots)
}

fn pem_roots(pem: &[u8]) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| TrustError::NoCertificate)?;
        roots
            .add(certificate)
            .map_err(|_| TrustError::NoCertificate)?;
    }
    if roots.is_empty() {
        return Err(TrustError::NoCertificate);
    }
    Ok(roots)
}

/// A verifier that accepts every certificate; handshake signatures are still checked.
///
/// For load on test nodes whose certificate was made on the spot ([`Trust::Insecure`]).
#[derive(Debug)]
struct Anyone {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anyone {
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
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pem_text_without_certificate_is_refused() {
        for pem in [
            &b""[..],
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let config = client_config(&Trust::Pem(pem.to_vec()), Protocol::Http3);
            assert!(matches!(config, Err(TrustError::NoCertificate)));
        }
    }

    #[test]
    fn every_protocol_offers_only_its_own_alpn() {
        for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Http3] {
            let config = client_config(&Trust::Insecure, protocol).unwrap();
            assert_eq!(config.alpn_protocols, [protocol.alpn()]);
        }
    }
}
