//! The viewer-facing tier: public TLS and HTTP/3; its parents are shields.
//!
//! What is here: an edge's [`Config`] and how a node is made of it. Who calls it: `cli`, tests, the
//! demonstration. What it calls: `node`, which does everything. Deliberately not here: any machinery,
//! and any way to spell an origin's credentials: an edge stands where strangers are.

mod config;

pub use config::{Config, Shield, Viewers};

use node::node::{Node, Running, StartError};

/// Starts an edge and returns what is running.
///
/// # Errors
///
/// A port in use, an unreadable certificate, parents that cannot be used; nothing is left running.
pub fn start(config: Config) -> Result<Running, StartError> {
    Node::start(&config.into_node_config())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use node::listen::CertificateSource;
    use node::node::AdminConfig;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    /// An edge on a free port whose only shield refuses connections.
    fn config() -> Config {
        let nobody = "http://127.0.0.1:1".parse().unwrap();
        let mut config = Config::new("edge-1", vec![Shield::at("shield-1", nobody)]);
        config.common.listen.http = vec!["127.0.0.1:0".parse().unwrap()];
        config.common.listen.workers = 1;
        config.common.admin = Some(AdminConfig {
            address: "127.0.0.1:0".parse().unwrap(),
            allow_remote: false,
        });
        config
    }

    #[tokio::test]
    async fn a_running_edge_answers_counts_and_shuts_down() {
        let running = start(config()).unwrap();
        let telemetry = std::sync::Arc::clone(running.telemetry());
        let mut viewer = TcpStream::connect(running.addresses().http[0])
            .await
            .unwrap();
        let request = b"GET /live/a.m4s HTTP/1.1\r\nhost: live.example\r\n\r\n";
        viewer.write_all(request).await.unwrap();
        let mut first = [0; 12];
        viewer.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 502");
        assert_eq!(telemetry.snapshot().connections, 1);
        running.shutdown().await;
        let figures = telemetry.snapshot();
        assert_eq!((figures.requests, figures.failed), (1, 1));
        assert_eq!(figures.connections, 0);
        let rendered = telemetry.render();
        let unreachable = "seawall_failures_total{failure=\"parent_unreachable\"} 1";
        assert!(rendered.contains(unreachable), "{rendered}");
    }

    #[test]
    fn a_missing_certificate_is_named() {
        let mut config = config();
        config.common.listen.https = vec!["127.0.0.1:0".parse().unwrap()];
        config.common.listen.certificate = Some(CertificateSource::Files {
            certificate: PathBuf::from("no-such-directory/chain.pem"),
            key: PathBuf::from("no-such-directory/key.pem"),
        });
        let text = start(config).unwrap_err().to_string();
        assert!(text.contains("no-such-directory/chain.pem"), "{text}");
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_what_to_do() {
        let running = start(config()).unwrap();
        let taken = running.addresses().http[0];
        let mut second = config();
        second.common.listen.http = vec![taken];
        let text = start(second).unwrap_err().to_string();
        assert!(text.contains(&taken.port().to_string()), "{text}");
        assert!(text.contains("choose another port"), "{text}");
        running.shutdown().await;
    }
}
