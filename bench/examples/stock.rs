//! The stock HTTP/3 stack, h3 over h3-quinn, answering as `bare` does: what our adapter is compared with.
//!
//! What is here: one worker with the transport settings of the listeners. Who runs it: whoever wants
//! the comparison of `docs/decisions/0002-runtime-and-quic.md` again. Deliberately not here: limits
//! and draining; nothing but measurements may face it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http::{Response, StatusCode};
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Serves three bodies from memory over HTTP/3 until interrupted.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    https: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, reason = "a command says where it listens")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let endpoint = quinn::Endpoint::server(server_config()?, arguments.https)?;
    println!("pid {}", std::process::id());
    println!("https {}", endpoint.local_addr()?);
    let body = |size: usize| -> Bytes { (0..size).map(|i| (i % 251) as u8).collect() };
    let bodies = [body(1_500), body(100_000), body(500_000)];
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { return Ok(()) };
                let bodies = bodies.clone();
                connections.spawn(async move { one_connection(incoming, bodies).await });
            }
            Some(_) = connections.join_next() => {}
            interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
        }
    }
}

async fn one_connection(incoming: quinn::Incoming, bodies: [Bytes; 3]) -> anyhow::Result<()> {
    let quic = h3_quinn::Connection::new(incoming.await?);
    let mut connection = h3::server::builder().send_grease(false).build(quic).await?;
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(resolver) = accepted? else { return Ok(()) };
                let bodies = bodies.clone();
                requests.spawn(async move { one_request(resolver, bodies).await });
            }
            Some(_) = requests.join_next() => {}
        }
    }
}

async fn one_request(
    resolver: h3::server::RequestResolver<h3_quinn::Connection, Bytes>,
    [playlist, part, segment]: [Bytes; 3],
) -> anyhow::Result<()> {
    let (request, mut stream) = resolver.resolve_request().await?;
    let mut body = match request.uri().path() {
        "/1k" => playlist,
        "/100k" => part,
        "/500k" => segment,
        _ => Bytes::new(),
    };
    let response = Response::builder()
        .status(if body.is_empty() {
            StatusCode::NOT_FOUND
        } else {
            StatusCode::OK
        })
        .header("content-type", "video/mp4")
        .header("cache-control", "public, max-age=60")
        .header("date", "Sun, 22 Nov 2026 12:00:00 GMT")
        .header("etag", "\"5f0e1c9b\"")
        .header("age", "3")
        .header("access-control-allow-origin", "*")
        .header("content-length", body.len());
    stream.send_response(response.body(())?).await?;
    while !body.is_empty() {
        let chunk = body.split_to(body.len().min(64 * 1024));
        stream.send_data(chunk).await?;
    }
    Ok(stream.finish().await?)
}

fn server_config() -> anyhow::Result<quinn::ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.into()], key)?;
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(128u8.into())
        .stream_receive_window((64u32 * 1024).into())
        .receive_window((1024u32 * 1024).into())
        .send_window(4 * 1024 * 1024)
        .initial_rtt(Duration::from_millis(100));
    config.transport_config(Arc::new(transport));
    Ok(config)
}
