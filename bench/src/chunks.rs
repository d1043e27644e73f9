//! A segment that is still being produced, and readers who join it at any moment: how late each chunk comes.
//!
//! What is here: an origin that sends a segment chunk by chunk as it is produced, and readers of it in
//! the same process, so that both have one clock. Who runs it: `bench/chunks`, with a cache between the two, or
//! none. Deliberately not here: DASH; a reader knows the names.
//!
//! ```text
//! origin ─── 10 chunks of 50 KB, one per 200 ms ───► cache ───► 500 readers, each from a random moment on
//! ```

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::Parser;
use futures_util::stream;
use hdrhistogram::Histogram;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Lets readers join segments that an origin here is still sending, through the cache at `through`.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the origin listens.
    #[arg(long)]
    origin: SocketAddr,
    /// Whom readers ask: a cache before the origin, or the origin itself. A loopback address.
    #[arg(long)]
    through: SocketAddr,
    /// Readers of each segment, at most 5,000.
    #[arg(long, default_value_t = 500)]
    readers: u32,
    /// Segments, one after the other, at most 60.
    #[arg(long, default_value_t = 5)]
    segments: u32,
    /// The seed of when readers join.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// When production began: everything else follows from it.
#[derive(Clone, Copy)]
struct Schedule {
    begun: Instant,
}

impl Schedule {
    fn segment_begins(self, segment: u32) -> Instant {
        self.begun + SEGMENT_TIME * segment
    }

    /// Returns when a chunk has been produced: at the end of its own time.
    fn published(self, segment: u32, chunk: u32) -> Instant {
        self.segment_begins(segment) + CHUNK_TIME * (chunk + 1)
    }
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, reason = "a command prints what it measured")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        arguments.through.ip().is_loopback(),
        "only loopback servers are loaded"
    );
    ensure!(
        (1..=READERS_MAX).contains(&arguments.readers),
        "1 to {READERS_MAX} readers"
    );
    ensure!(
        (1..=SEGMENTS_MAX).contains(&arguments.segments),
        "1 to {SEGMENTS_MAX} segments"
    );
    let schedule = Schedule {
        begun: Instant::now() + Duration::from_millis(500),
    };
    let asked: Asked = Arc::default();
    let listener = TcpListener::bind(arguments.origin)
        .await
        .context("the origin cannot listen")?;
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, schedule, Arc::clone(&asked)));
    let mut readers = JoinSet::new();
    let mut chance = Chance(arguments.seed);
    for segment in 0..arguments.segments {
        for _ in 0..arguments.readers {
            let joins = schedule.segment_begins(segment) + SEGMENT_TIME.mul_f64(chance.next());
            readers.spawn(read(arguments.through, schedule, segment, joins));
        }
    }
    let mut seen = Seen::new()?;
    while let Some(read) = readers.join_next().await {
        seen.add(read?);
    }
    tasks.shutdown().await;
    println!("{}", seen.report(&asked));
    Ok(())
}

// --- the origin -------------------------------------------------------------------------------------------------

/// How often the origin was asked for each path.
type Asked = Arc<Mutex<HashMap<String, u32>>>;

async fn serve(listener: TcpListener, schedule: Schedule, asked: Asked) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        socket.set_nodelay(true).ok();
        let asked = Arc::clone(&asked);
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request: Request<_>| {
                let path = request.uri().path().to_owned();
                let response = produce(&path, schedule);
                *asked
                    .lock()
                    .expect("nobody panics with it")
                    .entry(path)
                    .or_default() += 1;
                std::future::ready(Ok::<_, Infallible>(response))
            });
            let connection = hyper::server::conn::http1::Builder::new();
            connection
                .serve_connection(TokioIo::new(socket), service)
                .await
                .ok();
        });
    }
}

type Produced = UnsyncBoxBody<Bytes, Infallible>;

/// Sends what there is of a segment, and each chunk when it has been produced.
fn produce(path: &str, schedule: Schedule) -> Response<Produced> {
    let number = path
        .strip_prefix("/live/seg")
        .and_then(|rest| rest.strip_suffix(".m4s"))
        .and_then(|number| number.parse().ok());
    let Some(segment) = number else {
        let mut response = Response::new(Empty::new().boxed_unsync());
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let chunk_bytes = Bytes::from(vec![7; CHUNK_BYTES]);
    let chunks = stream::unfold(0, move |chunk| {
        let bytes = chunk_bytes.clone();
        async move {
            if chunk == CHUNKS {
                return None;
            }
            sleep_until(schedule.published(segment, chunk)).await;
            Some((Ok(Frame::data(bytes)), chunk + 1))
        }
    });
    Response::builder()
        .header("content-type", "video/mp4")
        .header("cache-control", "max-age=60")
        .body(StreamBody::new(chunks).boxed_unsync())
        .expect("the head is well formed")
}

// --- readers ----------------------------------------------------------------------------------------------------

/// What one reader saw.
#[derive(Default)]
struct Read {
    /// From asking to the first byte of the body, if a chunk was there when it asked.
    first: Option<Duration>,
    /// How late each chunk was: after it was produced, or asked for if that was later.
    chunks: Vec<Duration>,
    is_whole: bool,
}

async fn read(through: SocketAddr, schedule: Schedule, segment: u32, joins: Instant) -> Read {
    sleep_until(joins).await;
    let mut seen = Read::default();
    // A reader that fails has seen what it has seen; that it is not whole is counted.
    let followed = follow(through, schedule, segment, &mut seen);
    if let Ok(Err(error)) = timeout(SEGMENT_TIME * 4, followed).await {
        say(&error);
    }
    seen
}

/// Errors of single readers are told on standard error: what is measured goes on.
#[allow(clippy::print_stderr, reason = "a command says what went wrong")]
fn say(error: &anyhow::Error) {
    eprintln!("a reader failed: {error:#}");
}

async fn follow(
    through: SocketAddr,
    schedule: Schedule,
    segment: u32,
    seen: &mut Read,
) -> anyhow::Result<()> {
    let socket = TcpStream::connect(through).await?;
    socket.set_nodelay(true)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move { connection.await.ok() });
    let asked_at = Instant::now();
    let request = Request::get(format!("/live/seg{segment}.m4s"))
        .header("host", "live.example")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    ensure!(
        response.status() == StatusCode::OK,
        "answered {}",
        response.status()
    );
    let mut body = response.into_body();
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        let now = Instant::now();
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if received == 0 && asked_at > schedule.published(segment, 0) {
            seen.first = Some(now - asked_at);
        }
        let (before, after) = (
            received / CHUNK_BYTES,
            (received + data.len()) / CHUNK_BYTES,
        );
        received += data.len();
        for chunk in before..after {
            let chunk = u32::try_from(chunk).expect("a segment has few chunks");
            let due = schedule.published(segment, chunk).max(asked_at);
            seen.chunks.push(now.saturating_duration_since(due));
        }
    }
    seen.is_whole = received == CHUNK_BYTES * CHUNKS as usize;
    Ok(())
}

/// A small generator: when readers join has to be the same for every cache, and nothing more.
struct Chance(u64);

impl Chance {
    /// Returns a number from 0 to 1 (splitmix64).
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

// --- the report -------------------------------------------------------------------------------------------------

struct Seen {
    first: Histogram<u64>,
    chunks: Histogram<u64>,
    readers: u64,
    whole: u64,
}

impl Seen {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            first: Histogram::new_with_bounds(1, MICROS_MAX, 3)?,
            chunks: Histogram::new_with_bounds(1, MICROS_MAX, 3)?,
            readers: 0,
            whole: 0,
        })
    }

    fn add(&mut self, read: Read) {
        self.readers += 1;
        self.whole += u64::from(read.is_whole);
        if let Some(late) = read.first {
            self.first.saturating_record(micros(late));
        }
        for late in read.chunks {
            self.chunks.saturating_record(micros(late));
        }
    }

    fn report(&self, asked: &Asked) -> serde_json::Value {
        let in_ms = |of: &Histogram<u64>| {
            let at = |quantile| of.value_at_quantile(quantile) as f64 / 1e3;
            json!({"p50": at(0.5), "p99": at(0.99), "max": of.max() as f64 / 1e3, "count": of.len()})
        };
        let asked = asked.lock().expect("nobody panics with it");
        let segments: Vec<u32> = asked
            .iter()
            .filter(|(path, _)| path.ends_with(".m4s"))
            .map(|(_, count)| *count)
            .collect();
        json!({
            "readers": self.readers,
            "whole": self.whole,
            "bytes": self.whole * (CHUNK_BYTES as u64) * u64::from(CHUNKS),
            "requests_per_segment_max": segments.iter().max(),
            "requests_per_segment": f64::from(segments.iter().sum::<u32>()) / segments.len().max(1) as f64,
            "first_ms": in_ms(&self.first),
            "chunk_ms": in_ms(&self.chunks),
        })
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

const CHUNKS: u32 = 10;
const CHUNK_BYTES: usize = 50_000;
const CHUNK_TIME: Duration = Duration::from_millis(200);
const SEGMENT_TIME: Duration = Duration::from_secs(2);
const READERS_MAX: u32 = 5_000;
const SEGMENTS_MAX: u32 = 60;
const MICROS_MAX: u64 = 60_000_000;
