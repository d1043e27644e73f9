//! TLS towards parents: trust, identity, and the version that ALPN agrees on.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;

use super::*;

/// A certificate authority, its files, and what it has signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "a test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn client_certificate(&self) -> ClientCertificate {
        let (certificate, key) = self.sign("edge-1");
        std::fs::write(self.file("client.pem"), certificate.pem()).unwrap();
        std::fs::write(self.file("client.key"), key.serialize_pem()).unwrap();
        ClientCertificate {
            certificate: self.file("client.pem"),
            key: self.file("client.key"),
        }
    }

    fn parent(&self, name: &str, alpn: &[&[u8]], asks_for_certificate: bool) -> Wire {
        let (certificate, key) = self.sign(name);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if asks_for_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        Wire::Tls(Arc::new(config))
    }

    fn site(&self, wire: Wire) -> Site {
        let mut site = Site::new(&[wire]);
        site.config.parents[0].insecure_skip_verify = false;
        site.config.parents[0].ca_file = Some(self.file("ca.pem"));
        site
    }
}

const BOTH: [&[u8]; 2] = [b"h2", b"http/1.1"];

async fn version(site: &Site) -> http::Version {
    get(&site.upstream(), &bulk("/a")).await.unwrap();
    let seen = &site.parents[0].seen()[0];
    let authority = seen.uri.authority().map(|a| a.as_str().to_owned());
    let host = authority.or(seen
        .headers
        .get("host")
        .map(|h| h.to_str().unwrap().to_owned()));
    assert_eq!(host.unwrap(), "live.example");
    seen.version
}

async fn refusal(site: &Site) -> UpstreamError {
    site.upstream().fetch(&bulk("/a")).await.unwrap_err()
}

fn is_tls(error: &UpstreamError) -> bool {
    matches!(error, UpstreamError::Connect { source, .. } if matches!(**source, ConnectError::Tls(_)))
}

#[tokio::test(start_paused = true)]
async fn alpn_decides_the_version_and_http2_is_preferred() {
    let authority = Authority::new();
    for (alpn, expected) in [
        (&BOTH[..], http::Version::HTTP_2),
        (&BOTH[1..], http::Version::HTTP_11),
        (&[], http::Version::HTTP_11),
    ] {
        let site = authority.site(authority.parent("parent-0", alpn, false));
        assert_eq!(version(&site).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_expected_http2_serves_everybody_over_http1() {
    let authority = Authority::new();
    let site = authority.site(authority.parent("parent-0", &BOTH[1..], false));
    let upstream = site.upstream();
    let held = start(&upstream, &parked("/park"), 30);
    site.parents[0].parked(30).await;
    assert_eq!(site.parents[0].connections(), 30);
    site.parents[0].release(30);
    assert!(held.join_all().await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_authority_is_not_trusted() {
    let (known, unknown) = (Authority::new(), Authority::new());
    let site = known.site(unknown.parent("parent-0", &BOTH, false));
    assert!(is_tls(&refusal(&site).await));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_for_another_name_is_not_accepted() {
    let authority = Authority::new();
    let site = authority.site(authority.parent("another-parent", &BOTH, false));
    assert!(is_tls(&refusal(&site).await));
}

#[tokio::test(start_paused = true)]
async fn a_test_may_accept_any_certificate() {
    let authority = Authority::new();
    let mut site = Site::new(&[authority.parent("another-parent", &BOTH, false)]);
    site.config.parents[0].insecure_skip_verify = true;
    assert_eq!(version(&site).await, http::Version::HTTP_2);
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_asks_for_a_certificate_gets_the_configured_one() {
    let authority = Authority::new();
    let wire = authority.parent("parent-0", &BOTH, true);
    let mut site = authority.site(wire.clone());
    site.config.parents[0].client_certificate = Some(authority.client_certificate());
    assert_eq!(version(&site).await, http::Version::HTTP_2);
    let without = authority.site(wire);
    refusal(&without).await;
    assert!(without.parents[0].seen().is_empty());
}
