//! What a hit costs when several workers answer hits at once: what they share shows as time.
//!
//! What is here: one node in this process, without listeners, and threads that ask it for one stored response as its
//! workers would. Who runs it: whoever changes what a hit writes to (docs/decisions/0014-hits-before-a-future.md).
//! Deliberately not here: connections, which workers do not share.
//!
//!     cargo run --release -p bench --example workers -- --threads 1,2

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use clap::Parser;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{Request, Response};
use node::interim::InterimOutbox;
use node::listen::{Bound, ListenConfig, ListenLimits, QuicConfig};
use node::live::ConnectionHolds;
use node::node::{LiveConfig, Node, NodeConfig, NodeLimits};
use node::rules::Rules;
use node::tasks::Tasks;
use node::upstream::{Connector, ParentConfig, Selection, UpstreamConfig, UpstreamLimits};
use node::{Answering, Body, Clock, Exchange, Peer, Protocol, Upload};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Asks one node for one stored response from several threads, and says what each answer took.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many threads ask at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// How often each of them asks.
    #[arg(long, default_value_t = 1_000_000)]
    hits: u32,
    /// How often all of it is done.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, reason = "a benchmark says what it found")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let drain = CancellationToken::new();
    let serving = Bound::bind(&listen())?.serve(Origin, drain.clone())?;
    let origin = serving.addresses().http[0];
    let node = Node::assemble(
        &config(origin)?,
        Connector::Tcp,
        Clock::system(),
        Tasks::new(),
    )?;
    let peer = peer();
    // The first is a miss; heads are kept when they are asked for again.
    for _ in 0..3 {
        let mut response = node.exchange(&peer, request()).await;
        ensure!(response.status() == 200, "{}", response.status());
        while let Some(chunk) = response.body_mut().next().await {
            chunk?;
        }
    }
    for round in 1..=arguments.rounds {
        for &threads in &arguments.threads {
            let (node, hits) = (Arc::clone(&node), arguments.hits);
            let took = tokio::task::spawn_blocking(move || ask(&node, threads, hits)).await??;
            println!("round {round}, {threads} threads: {took:.0} ns a hit");
        }
    }
    drain.cancel();
    serving.join().await;
    Ok(())
}

/// Lets `threads` threads ask `hits` times each, and returns the mean nanoseconds of one answer.
fn ask(node: &Arc<Node>, threads: usize, hits: u32) -> anyhow::Result<f64> {
    let together = Arc::new(Barrier::new(threads));
    let asking: Vec<JoinHandle<anyhow::Result<f64>>> = (0..threads)
        .map(|_| {
            let (node, together) = (Arc::clone(node), Arc::clone(&together));
            std::thread::spawn(move || {
                let peer = Arc::new(peer());
                together.wait();
                let began = Instant::now();
                for _ in 0..hits {
                    match node.begin(&peer, request()) {
                        Answering::Now(response) => drop(black_box(response)),
                        Answering::Later(_) => bail!("this was no hit"),
                    }
                }
                Ok(began.elapsed().as_secs_f64() * 1e9 / f64::from(hits))
            })
        })
        .collect();
    let mut sum = 0.0;
    for thread in asking {
        sum += thread.join().ok().context("a thread panicked")??;
    }
    #[allow(clippy::cast_precision_loss, reason = "there are few threads")]
    Ok(sum / threads as f64)
}

fn request() -> Request<Upload> {
    let mut request = Request::new(Upload::empty());
    *request.uri_mut() = http::Uri::from_static("/live/v1/seg12.m4s");
    let host = http::HeaderValue::from_static("live.example");
    request.headers_mut().insert(HOST, host);
    request
}

fn peer() -> Peer {
    Peer {
        address: ([127, 0, 0, 1], 1).into(),
        protocol: Protocol::Http1,
        is_secure: false,
        interim: InterimOutbox::default(),
        held: ConnectionHolds::default(),
        handshake: None,
    }
}

/// Has one small segment of everything.
#[derive(Clone)]
struct Origin;

impl Exchange for Origin {
    async fn exchange(&self, _peer: &Peer, _request: Request<Upload>) -> Response<Body> {
        let mut response = Response::new(Body::full(Bytes::from_static(&[7; 1_500])));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("video/mp4"));
        let lifetime = http::HeaderValue::from_static("public, max-age=3600");
        headers.insert(CACHE_CONTROL, lifetime);
        response
    }
}

fn listen() -> ListenConfig {
    ListenConfig {
        https: Vec::new(),
        http: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        http3: false,
        quic: QuicConfig::default(),
        certificate: None,
        workers: 1,
        limits: ListenLimits::default(),
    }
}

fn config(origin: SocketAddr) -> anyhow::Result<NodeConfig> {
    let parent = ParentConfig {
        name: "origin".to_owned(),
        url: format!("http://{origin}").parse()?,
        weight: 1,
        h2c: false,
        ca_file: None,
        insecure_skip_verify: false,
        host: None,
        headers: http::HeaderMap::new(),
        client_certificate: None,
    };
    Ok(NodeConfig {
        name: "edge".to_owned(),
        listen: listen(),
        upstream: UpstreamConfig {
            parents: vec![parent],
            selection: Selection::Ordered,
            node_name: "edge".to_owned(),
            limits: UpstreamLimits::default(),
        },
        store_bytes: 64 * 1024 * 1024,
        live: LiveConfig::default(),
        limits: NodeLimits::default(),
        admin: None,
        access_log: None,
        purge: None,
        heeds_children: false,
        cors: true,
        server_timing: false,
        rules: Rules::default(),
    })
}
