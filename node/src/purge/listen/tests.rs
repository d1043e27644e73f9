//! The listener for children over real sockets: who is let in, and what it answers.

use std::path::Path;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A certificate authority with the files of both ends.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for authority in ["ours", "theirs"] {
            let issuer = issuer(authority);
            write(folder.path(), &format!("{authority}.pem"), &issuer.1);
            for name in ["shield", "edge"] {
                let key = rcgen::KeyPair::generate().unwrap();
                let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
                let signed = params.signed_by(&key, &issuer.0).unwrap();
                let file = format!("{authority}-{name}");
                write(folder.path(), &format!("{file}.pem"), &signed.pem());
                write(folder.path(), &format!("{file}.key"), &key.serialize_pem());
            }
        }
        write(folder.path(), "empty.pem", "");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, client_ca: &str) -> ChildrenConfig {
        ChildrenConfig {
            address: ([127, 0, 0, 1], 0).into(),
            tls: Some(ChildrenTls {
                certificate: self.path("ours-shield.pem"),
                key: self.path("ours-shield.key"),
                client_ca: self.path(client_ca),
            }),
            children_max: 4,
        }
    }

    /// Connects with the certificate that `authority` gave, if any, and asks for `path`.
    async fn ask(&self, address: SocketAddr, authority: Option<&str>, path: &str) -> String {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(self.path("ours.pem")).unwrap() {
            roots.add(root.unwrap()).unwrap();
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let client = match authority {
            None => client.with_no_client_auth(),
            Some(authority) => {
                let file = self.path(&format!("{authority}-edge.pem"));
                let chain = CertificateDer::pem_file_iter(file).unwrap();
                let key = self.path(&format!("{authority}-edge.key"));
                let key = rustls::pki_types::PrivateKeyDer::from_pem_file(key).unwrap();
                let chain = chain.collect::<Result<_, _>>().unwrap();
                client.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let stream = TcpStream::connect(address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let Ok(mut stream) = connector.connect(name, stream).await else {
            return String::new();
        };
        exchange(&mut stream, path).await
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn issuer(name: &str) -> (rcgen::Issuer<'static, rcgen::KeyPair>, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let certificate = params.self_signed(&key).unwrap();
    (rcgen::Issuer::new(params, key), certificate.pem())
}

/// Asks, and returns all that comes; nothing where the other end does not let us in.
async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return String::new();
    }
    let mut answer = Vec::new();
    // TLS 1.3: a refused certificate is known with the first read.
    stream.read_to_end(&mut answer).await.ok();
    String::from_utf8(answer).unwrap()
}

/// A listener of a node that is gone: it answers that it has not heard from the log.
fn served(config: &ChildrenConfig) -> (SocketAddr, JoinSet<()>) {
    let bound = Bound::bind(config).unwrap();
    let address = bound.address;
    let mut tasks = JoinSet::new();
    tasks.spawn(bound.accept(Weak::new()));
    (address, tasks)
}

#[tokio::test]
async fn nobody_without_a_certificate_of_ours_is_answered() {
    let files = Files::new();
    let (address, _tasks) = served(&files.config("ours.pem"));
    let path = "/v1/feed?node=a&latest=0";
    let known = files.ask(address, Some("ours"), path).await;
    assert!(known.starts_with("HTTP/1.1 503 "), "{known}");
    assert!(known.contains("not heard from the log"), "{known}");
    for stranger in [None, Some("theirs")] {
        let answer = files.ask(address, stranger, path).await;
        assert_eq!(answer, "", "{stranger:?}");
    }
    let mut clear = TcpStream::connect(address).await.unwrap();
    let answer = exchange(&mut clear, path).await;
    assert!(!answer.contains("HTTP/1.1"), "{answer}");
}

#[test]
fn an_address_that_others_can_reach_needs_both_certificates() {
    for address in ["0.0.0.0:0", "10.0.0.1:9444", "[::]:0"] {
        let config = ChildrenConfig {
            address: address.parse().unwrap(),
            tls: None,
            children_max: 1,
        };
        let refused = Bound::bind(&config).unwrap_err();
        assert!(matches!(refused, ChildrenError::Open(_)), "{refused}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let files = Files::new();
    for (client_ca, expected) in [
        ("none.pem", "none.pem holds no certificates in PEM"),
        ("empty.pem", "empty.pem holds no certificates in PEM"),
    ] {
        let error = Bound::bind(&files.config(client_ca)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let mut config = files.config("ours.pem");
    let tls = config.tls.as_mut().unwrap();
    tls.key = files.path("ours-edge.key");
    let error = Bound::bind(&config).unwrap_err().to_string();
    assert!(error.contains("does not belong to"), "{error}");
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let config = ChildrenConfig {
        address: ([127, 0, 0, 1], 0).into(),
        tls: None,
        children_max: 1,
    };
    let first = Bound::bind(&config).unwrap();
    let second = ChildrenConfig {
        address: first.address,
        ..config
    };
    let error = Bound::bind(&second).unwrap_err().to_string();
    assert!(error.contains(&first.address.port().to_string()), "{error}");
    assert!(
        error.contains("choose another purge.children.listen"),
        "{error}"
    );
}
