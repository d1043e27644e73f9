//! The bare listeners: what a node costs before it caches anything.
//!
//! What is here: the listeners of `node` with a service that answers from memory, the reference for
//! CPU per request. Who runs it: whoever measures, with `wrk`, `h2load` or `h3load`.
//! Deliberately not here: a cache.
//!
//! `/1k`, `/100k` and `/500k` are a playlist, a part and a segment: 1,500, 100,000 and 500,000 bytes.
//! Anything else is 404.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use clap::Parser;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use node::listen::{Bound, CertificateSource, Congestion, ListenConfig, ListenLimits, QuicConfig};
use node::{Answering, Body, Exchange, Peer, Upload};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Serves three bodies from memory over HTTP/1.1, HTTP/2 and HTTP/3 until interrupted.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address for TLS over TCP and for QUIC; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    https: SocketAddr,
    /// Address for clear text.
    #[arg(long, default_value = "127.0.0.1:0")]
    http: SocketAddr,
    /// Worker threads.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Congestion control of HTTP/3.
    #[arg(long, value_parser = congestion, default_value = "steady")]
    congestion: Congestion,
    /// Bytes of the largest packet of HTTP/3 that is tried.
    #[arg(long, default_value_t = QuicConfig::default().packet_bytes_max)]
    packet_bytes_max: u16,
}

fn congestion(name: &str) -> Result<Congestion, String> {
    let mut all = Congestion::ALL.into_iter();
    all.find(|one| one.name() == name)
        .ok_or_else(|| format!("one of {:?}", Congestion::ALL.map(Congestion::name)))
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, reason = "a command says where it listens")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let bound = Bound::bind(&ListenConfig {
        https: vec![arguments.https],
        http: vec![arguments.http],
        http3: true,
        quic: QuicConfig {
            congestion: arguments.congestion,
            packet_bytes_max: arguments.packet_bytes_max,
            ..QuicConfig::default()
        },
        certificate: Some(CertificateSource::SelfSigned(Vec::new())),
        workers: arguments.workers,
        limits: ListenLimits::default(),
    })?;
    let drain = CancellationToken::new();
    let serving = bound.serve(Bare::new(), drain.clone())?;
    let addresses = serving.addresses();
    println!("pid {}", std::process::id());
    println!("http {}", addresses.http[0]);
    println!("https {}", addresses.https[0]);
    tokio::signal::ctrl_c().await?;
    drain.cancel();
    serving.join().await;
    Ok(())
}

/// Answers from memory, with the header fields that a segment of a live channel carries.
#[derive(Clone)]
struct Bare {
    bodies: [(&'static str, Bytes); 3],
}

impl Bare {
    fn new() -> Self {
        let body = |size: usize| (0..size).map(|i| (i % 251) as u8).collect();
        Self {
            bodies: [
                ("/1k", body(1_500)),
                ("/100k", body(100_000)),
                ("/500k", body(500_000)),
            ],
        }
    }
}

impl Exchange for Bare {
    async fn exchange(&self, _peer: &Peer, request: Request<Upload>) -> Response<Body> {
        self.answer(&request)
    }

    fn begin(&self, _peer: &Arc<Peer>, request: Request<Upload>) -> Answering {
        Answering::Now(self.answer(&request))
    }
}

impl Bare {
    fn answer(&self, request: &Request<Upload>) -> Response<Body> {
        let path = request.uri().path();
        let Some((_, body)) = self.bodies.iter().find(|(of, _)| *of == path) else {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        };
        let mut response = Response::new(Body::full(body.clone()));
        let headers = response.headers_mut();
        headers.reserve(FIELDS.len() + 1);
        for (name, value) in &FIELDS {
            headers.insert(name, value.clone());
        }
        response
    }
}

const FIELDS: [(HeaderName, HeaderValue); 5] = [
    (CONTENT_TYPE, HeaderValue::from_static("video/mp4")),
    // Fresh for any cache in front of it as long as anybody measures; the listener adds the date.
    (
        CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=3600"),
    ),
    (ETAG, HeaderValue::from_static("\"5f0e1c9b\"")),
    (AGE, HeaderValue::from_static("3")),
    (ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
];
