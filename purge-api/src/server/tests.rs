//! The process on real sockets and files: certificates, hostile heads, restarts.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use purge_log::{Mode, PurgeRequest, Target, UnixMillis};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::config::ConfigError;
use crate::journal::{Draft, JournalConfig};

/// A configuration in a folder of its own, with certificates of clients.
struct Place {
    folder: TempDir,
    ca: Issuer<'static, KeyPair>,
    root: rustls::pki_types::CertificateDer<'static>,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("ca.pem", &root.pem());
    let server_key = KeyPair::generate().unwrap();
    let ca = Issuer::new(params, key);
    let server = CertificateParams::new(vec!["purge.example".to_owned()]).unwrap();
    let server = server.signed_by(&server_key, &ca).unwrap();
    write("cert.pem", &server.pem());
    write("key.pem", &server_key.serialize_pem());
    write("purge-api.toml", CONFIG);
    Place {
        folder,
        ca,
        root: root.der().clone(),
    }
}

const CONFIG: &str = r#"
[listen]
address = "127.0.0.1:0"
certificate = "cert.pem"
key = "key.pem"
client_ca = "ca.pem"

[private]
address = "127.0.0.1:0"

[journal]
path = "purges.redb"

[audit]
path = "audit.jsonl"

[[principal]]
name = "origin"
hosts = ["live.example"]
verbs = ["url"]
certificates = ["spiffe://seawall/origin"]
"#;

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> Result<Config, ConfigError> {
        Config::load(&self.path("purge-api.toml"))
    }

    async fn start(&self) -> Running {
        let clock = AtomicU64::new(1_800_000_000_000);
        let now = move || UnixMillis(clock.fetch_add(1, Ordering::Relaxed));
        start(self.config().unwrap(), Arc::new(now)).await.unwrap()
    }

    /// Sends `request` over TLS, with a certificate for `name` if there is one.
    async fn ask(&self, running: &Running, name: Option<&str>, request: &str) -> String {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let client = match name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let key = KeyPair::generate().unwrap();
                let mut params = CertificateParams::new(vec![]).unwrap();
                let uri = rcgen::string::Ia5String::try_from(name).unwrap();
                params.subject_alt_names.push(SanType::URI(uri));
                let certificate = params.signed_by(&key, &self.ca).unwrap();
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                let chain = vec![certificate.der().clone()];
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let stream = TcpStream::connect(running.address()).await.unwrap();
        let host = ServerName::try_from("purge.example").unwrap();
        let mut stream = connector.connect(host, stream).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A peer that closes without a TLS goodbye has said all it had to say.
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8(answer).unwrap()
    }
}

async fn ask_private(running: &Running, request: &[u8]) -> String {
    let address = running.private_address().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that has seen enough closes while we still write.
    stream.write_all(request).await.ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    String::from_utf8_lossy(&answer).into_owned()
}

const PURGE: &str = "PURGE /a HTTP/1.1\r\nHost: live.example\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_client_certificate_purges_and_a_stranger_does_not() {
    let place = place();
    let running = place.start().await;
    let origin = Some("spiffe://seawall/origin");
    let answer = place.ask(&running, origin, PURGE).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for name in [None, Some("spiffe://seawall/other")] {
        let answer = place.ask(&running, name, PURGE).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
    let metrics = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let metrics = ask_private(&running, metrics.as_bytes()).await;
    assert!(
        metrics.contains("refused_total{reason=\"unauthenticated\"} 2"),
        "{metrics}"
    );
    running.shutdown().await;
}

#[tokio::test]
async fn hostile_heads_are_refused_and_the_next_client_is_served() {
    let place = place();
    let running = place.start().await;
    let mut many = b"GET /healthz HTTP/1.1\r\n".to_vec();
    for number in 0..1000 {
        write!(many, "x-{number}: y\r\n").unwrap();
    }
    many.extend(b"\r\n");
    let long_field = [
        b"GET /healthz HTTP/1.1\r\nx: ".as_slice(),
        &vec![b'a'; 70_000],
        b"\r\n\r\n",
    ];
    let long_path = [
        b"GET /".as_slice(),
        &vec![b'a'; 70_000],
        b" HTTP/1.1\r\n\r\n",
    ];
    let cases: [&[u8]; 6] = [
        &many,
        &long_field.concat(),
        &long_path.concat(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/feed/applied HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\nabcde",
    ];
    for request in cases {
        let answer = ask_private(&running, request).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    let health = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert!(
        ask_private(&running, health)
            .await
            .starts_with("HTTP/1.1 200")
    );
    running.shutdown().await;
}

#[tokio::test]
async fn a_purge_that_missed_its_line_in_the_audit_gets_one_at_the_next_start() {
    let place = place();
    let running = place.start().await;
    let origin = Some("spiffe://seawall/origin");
    place.ask(&running, origin, PURGE).await;
    assert_eq!(running.recovered, 0);
    running.shutdown().await;
    // What a crash between the two leaves: the purge is in the journal only.
    let path = place.path("purges.redb");
    let (journal, _) = Journal::open(&path, JournalConfig::default()).unwrap();
    let draft = Draft {
        accepted_at: UnixMillis(5),
        request: PurgeRequest {
            target: Target::All,
            mode: Mode::Hard,
        },
        dry_run: false,
        by: "origin".to_owned(),
        idempotency_key: None,
        used: None,
    };
    journal.append(draft).await.unwrap();
    journal.close().await;
    let running = place.start().await;
    assert_eq!(running.recovered, 1);
    assert_eq!(running.journal_report.entries, 2);
    running.shutdown().await;
    let running = place.start().await;
    assert_eq!(running.recovered, 0, "once is enough");
    running.shutdown().await;
    assert!(read(&place.path("audit.jsonl")).contains("\"event\":\"recovered\""));
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    fs::File::open(path)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    text
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let place = place();
    let running = place.start().await;
    let text = CONFIG.replacen("127.0.0.1:0", &running.address().to_string(), 1);
    fs::write(place.path("purge-api.toml"), text).unwrap();
    let again = start(place.config().unwrap(), Arc::new(|| UnixMillis(0))).await;
    let error = again.unwrap_err().to_string();
    assert!(error.contains(&running.address().to_string()), "{error}");
    running.shutdown().await;
}
