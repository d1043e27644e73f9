//! A connection to the purge API: TCP, and TLS with or without a client certificate.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use http::Uri;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::arguments::ApiArguments;

/// What can be read and written.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Both ends of a connection: one sends requests, the other has to be polled meanwhile.
pub(super) struct Connected {
    pub(super) requests: SendRequest<Full<Bytes>>,
    pub(super) connection: Connection<TokioIo<Box<dyn Wire>>, Full<Bytes>>,
}

/// Connects to where `api` is.
pub(super) async fn connect(
    api: &Uri,
    tls: Option<&Arc<ClientConfig>>,
) -> anyhow::Result<Connected> {
    let host = api.host().context("the URL of the purge API has no host")?;
    let port = api
        .port_u16()
        .unwrap_or(if tls.is_some() { 443 } else { 80 });
    // An address in brackets is an IPv6 address, which the system wants without them.
    let name = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let stream = TcpStream::connect((name.as_str(), port))
        .await
        .with_context(|| format!("nothing answers at {host}:{port}"))?;
    let wire: Box<dyn Wire> = match tls {
        None => Box::new(stream),
        Some(config) => {
            let name = ServerName::try_from(name).context("the host is no name for TLS")?;
            let connector = TlsConnector::from(Arc::clone(config));
            let stream = connector
                .connect(name, stream)
                .await
                .with_context(|| format!("no TLS with {host}:{port}"))?;
            Box::new(stream)
        }
    };
    let (requests, connection) = http1::handshake(TokioIo::new(wire)).await?;
    Ok(Connected {
        requests,
        connection,
    })
}

/// Returns the TLS of a client.
pub(super) fn tls(typed: &ApiArguments) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    // Certificates of the system that cannot be read are not trusted; that shows in the handshake.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &typed.ca {
        roots.add_parsable_certificates(certificates(path)?);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match (&typed.certificate, &typed.certificate_key) {
        (Some(certificate), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("{} holds no private key", key.display()))?;
            builder.with_client_auth_cert(certificates(certificate)?, key)?
        }
        (None, None) => builder.with_no_client_auth(),
        (Some(_), None) | (None, Some(_)) => {
            bail!("--certificate and --certificate-key go together")
        }
    };
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let missing = || format!("{} holds no certificate", path.display());
    let read = CertificateDer::pem_file_iter(path).with_context(missing)?;
    read.collect::<Result<_, _>>().with_context(missing)
}
