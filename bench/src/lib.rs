//! The clients that the programs of this crate measure with.
//!
//! What is here: requests over HTTP/3 framed by hand, and TLS that takes any certificate. Who calls it: `h3load`
//! and `pathload`. Deliberately not here: what is measured.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

/// The control stream with an empty SETTINGS frame (RFC 9114 6.2.1).
pub const CONTROL_STREAM: [u8; 3] = [0x00, 0x04, 0x00];

/// The code by which a connection over HTTP/3 ends without an error (RFC 9114 8.1).
pub const H3_NO_ERROR: u32 = 0x100;

/// Returns a HEADERS frame that asks for `path` (RFC 9114 7.2.2, RFC 9204 4.5).
///
/// # Errors
///
/// A path of more than 126 bytes.
pub fn http3_request(path: &str) -> anyhow::Result<Bytes> {
    // No dynamic table; then :method GET and :scheme https by static index.
    let mut fields = vec![0x00, 0x00, 0xc0 | 17, 0xc0 | 23];
    // Literal values with static name: :authority is 0, :path is 1.
    for (name, value) in [(0, "localhost"), (1, path)] {
        let Ok(length @ 0..0x7f) = u8::try_from(value.len()) else {
            bail!("a path of at most 126 bytes is expected");
        };
        fields.extend([0x50 | name, length]);
        fields.extend(value.bytes());
    }
    let length = u16::try_from(fields.len()).context("a short request")?;
    let mut frame = vec![0x01];
    frame.extend((length | 0x4000).to_be_bytes());
    frame.extend(fields);
    Ok(frame.into())
}

/// Returns TLS 1.3 for a client that takes any certificate and speaks `alpn`.
///
/// Sessions are kept: a second connection with the same value resumes, with early data where the server takes it.
///
/// # Errors
///
/// The crypto library has no TLS 1.3.
pub fn tls_client(alpn: &[u8]) -> anyhow::Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls.enable_early_data = true;
    Ok(tls)
}

/// Returns QUIC for a client whose windows never hold a server back.
///
/// # Errors
///
/// The TLS settings do not suit QUIC.
pub fn quic_client(tls: rustls::ClientConfig) -> anyhow::Result<quinn::ClientConfig> {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_concurrent_uni_streams(8u8.into())
        .stream_receive_window(WINDOW_BYTES.into());
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Bytes that a server may send on one stream before they are read: more than any path here holds.
pub const WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// Takes any certificate: the server is on this machine and the load carries no secrets.
#[derive(Debug)]
struct Anyone;

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
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
