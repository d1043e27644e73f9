//! What one viewer sees of one path: goodput, and how long a part takes to arrive.
//!
//! What is here: one connection over HTTP/2 or HTTP/3, its requests one after another or by the clock, or a new connection
//! for each request. Who runs it: `bench/paths`, across an emulated link. Deliberately not here: load for CPU time, see `h3load`.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bench::{CONTROL_STREAM, H3_NO_ERROR, WINDOW_BYTES, http3_request, quic_client, tls_client};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_rustls::TlsConnector;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Asks a server for one path over one connection at a time, and prints one line of JSON.
#[derive(Debug, Parser)]
struct Arguments {
    /// The server; a loopback or private address.
    server: SocketAddr,
    /// The path to ask for.
    path: String,
    /// What is spoken.
    #[arg(long, value_enum, default_value = "h3")]
    protocol: Protocol,
    /// When the next request is made.
    #[arg(long, value_enum, default_value = "after")]
    pace: Pace,
    /// Milliseconds from one request to the next, where they go by the clock or on connections of their own.
    #[arg(long, default_value_t = 500)]
    every_ms: u64,
    /// Seconds to run, at most 120.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Bytes that each answer has at least.
    #[arg(long, default_value_t = 1)]
    bytes_min: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    H2,
    H3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Pace {
    /// As soon as the answer is there: a player that fills its buffer.
    After,
    /// By the clock: a player at the live edge.
    Clock,
    /// By the clock, each on a new connection, timed with its handshake: a player that starts.
    Fresh,
    /// As `fresh`, with the session of the connection before, and early data where the server takes it.
    Resumed,
}

/// How clients connect; what it keeps of sessions lasts as long as the value.
struct Dialer {
    server: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    quic: quinn::ClientConfig,
    protocol: Protocol,
}

/// One connection.
enum Line {
    H2 {
        sender: http2::SendRequest<Empty<Bytes>>,
        _driver: JoinSet<()>,
    },
    H3 {
        endpoint: quinn::Endpoint,
        connection: quinn::Connection,
        _control: quinn::SendStream,
    },
}

impl Dialer {
    fn new(server: SocketAddr, protocol: Protocol) -> anyhow::Result<Self> {
        Ok(Self {
            server,
            tls: Arc::new(tls_client(b"h2")?),
            quic: quic_client(tls_client(b"h3")?)?,
            protocol,
        })
    }

    async fn dial(&self) -> anyhow::Result<Line> {
        match self.protocol {
            Protocol::H2 => self.dial_h2().await,
            Protocol::H3 => self.dial_h3().await,
        }
    }

    async fn dial_h2(&self) -> anyhow::Result<Line> {
        let tcp = TcpStream::connect(self.server).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let tls = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, tcp)
            .await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(TokioIo::new(tls))
            .await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its end shows in the requests that use it.
            connection.await.ok();
        });
        Ok(Line::H2 {
            sender,
            _driver: driver,
        })
    }

    async fn dial_h3(&self) -> anyhow::Result<Line> {
        let any: SocketAddr = match self.server.ip() {
            IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            IpAddr::V6(_) => ([0; 8], 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let config = quinn::EndpointConfig::default();
        let endpoint = quinn::Endpoint::new(config, None, socket, runtime)?;
        let connecting = endpoint.connect_with(self.quic.clone(), self.server, "localhost")?;
        let connection = match connecting.into_0rtt() {
            Ok((connection, _)) => connection,
            Err(connecting) => connecting.await?,
        };
        let mut control = connection.open_uni().await?;
        control.write_all(&CONTROL_STREAM).await?;
        Ok(Line::H3 {
            endpoint,
            connection,
            _control: control,
        })
    }
}

impl Line {
    /// Asks for `path` and returns how many bytes came, and when the first.
    async fn fetch(&self, path: &str) -> anyhow::Result<Fetched> {
        match self {
            Self::H2 { sender, .. } => {
                let uri = format!("https://localhost{path}");
                let mut sender = sender.clone();
                sender.ready().await?;
                let request = Request::get(uri).body(Empty::new())?;
                let mut response = sender.send_request(request).await?;
                ensure!(response.status() == 200, "status {}", response.status());
                let mut fetched = Fetched::default();
                while let Some(frame) = response.frame().await {
                    fetched.add(frame?.data_ref().map_or(0, Bytes::len));
                }
                Ok(fetched)
            }
            Self::H3 { connection, .. } => {
                let (mut send, mut receive) = connection.open_bi().await?;
                send.write_chunk(http3_request(path)?).await?;
                send.finish()?;
                let mut fetched = Fetched::default();
                while let Some(chunk) = receive.read_chunk(usize::MAX, true).await? {
                    fetched.add(chunk.bytes.len());
                }
                Ok(fetched)
            }
        }
    }

    async fn close(self) {
        if let Self::H3 {
            endpoint,
            connection,
            ..
        } = self
        {
            connection.close(H3_NO_ERROR.into(), b"");
            endpoint.wait_idle().await;
        }
    }
}

/// What came of one request.
#[derive(Default)]
struct Fetched {
    bytes: u64,
    first_at: Option<Instant>,
}

impl Fetched {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.first_at.get_or_insert_with(Instant::now);
    }
}

/// The times of one run, in milliseconds.
#[derive(Default)]
struct Times {
    first: Vec<f64>,
    last: Vec<f64>,
    bytes: u64,
}

impl Times {
    fn note(&mut self, begun: Instant, ended: Instant, fetched: &Fetched) {
        let since = |at: Instant| (at - begun).as_secs_f64() * 1000.0;
        self.bytes += fetched.bytes;
        self.first.push(since(fetched.first_at.unwrap_or(ended)));
        self.last.push(since(ended));
    }
}

fn percentile(values: &mut [f64], p: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (p * values.len() as f64) as usize;
    values
        .get(index.min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0)
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, reason = "a command prints what it measured")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        is_ours(arguments.server.ip()),
        "only loopback and private addresses are asked"
    );
    ensure!(
        arguments.seconds <= SECONDS_MAX,
        "at most {SECONDS_MAX} seconds"
    );
    ensure!(arguments.every_ms > 0, "at least a millisecond");
    let dialer = Dialer::new(arguments.server, arguments.protocol)?;
    let begun = Instant::now();
    let mut times = match arguments.pace {
        Pace::After => after(&dialer, &arguments).await?,
        Pace::Clock => by_the_clock(&dialer, &arguments).await?,
        Pace::Fresh | Pace::Resumed => starts(dialer, &arguments).await?,
    };
    let seconds = begun.elapsed().as_secs_f64();
    let line = serde_json::json!({
        "answers": times.last.len(),
        "megabits_per_second": times.bytes as f64 * 8.0 / 1e6 / seconds,
        "first_ms_p50": percentile(&mut times.first, 0.5),
        "p50_ms": percentile(&mut times.last, 0.5),
        "p95_ms": percentile(&mut times.last, 0.95),
        "max_ms": percentile(&mut times.last, 1.0),
    });
    println!("{line}");
    Ok(())
}

async fn after(dialer: &Dialer, arguments: &Arguments) -> anyhow::Result<Times> {
    let line = dialer.dial().await?;
    let until = Instant::now() + Duration::from_secs(arguments.seconds);
    let mut times = Times::default();
    while Instant::now() < until {
        let begun = Instant::now();
        let fetched = whole(line.fetch(&arguments.path).await?, arguments)?;
        times.note(begun, Instant::now(), &fetched);
    }
    line.close().await;
    Ok(times)
}

async fn by_the_clock(dialer: &Dialer, arguments: &Arguments) -> anyhow::Result<Times> {
    let line = Arc::new(dialer.dial().await?);
    let mut ticks = tokio::time::interval(Duration::from_millis(arguments.every_ms));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let until = Instant::now() + Duration::from_secs(arguments.seconds);
    let mut requests = JoinSet::new();
    while Instant::now() < until {
        let begun = ticks.tick().await;
        let (line, path) = (Arc::clone(&line), arguments.path.clone());
        requests.spawn(async move {
            let fetched = line.fetch(&path).await?;
            anyhow::Ok((begun, Instant::now(), fetched))
        });
    }
    let mut times = Times::default();
    while let Some(request) = requests.join_next().await {
        let (begun, ended, fetched) = request??;
        times.note(begun, ended, &whole(fetched, arguments)?);
    }
    let line = Arc::into_inner(line).context("no request is left")?;
    line.close().await;
    Ok(times)
}

async fn starts(mut dialer: Dialer, arguments: &Arguments) -> anyhow::Result<Times> {
    if arguments.pace == Pace::Resumed {
        // The first one brings the session.
        let line = dialer.dial().await?;
        line.fetch(&arguments.path).await?;
        line.close().await;
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(arguments.every_ms));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let until = Instant::now() + Duration::from_secs(arguments.seconds);
    let mut times = Times::default();
    while Instant::now() < until {
        ticks.tick().await;
        if arguments.pace == Pace::Fresh {
            dialer = Dialer::new(arguments.server, arguments.protocol)?;
        }
        let begun = Instant::now();
        let (line, fetched) = match first_answer(&dialer, arguments).await {
            Ok(answer) => answer,
            // A server may refuse early data: then all is sent again, and that takes its time.
            Err(_) if arguments.pace == Pace::Resumed => first_answer(&dialer, arguments).await?,
            Err(error) => return Err(error),
        };
        times.note(begun, Instant::now(), &fetched);
        line.close().await;
    }
    Ok(times)
}

async fn first_answer(dialer: &Dialer, arguments: &Arguments) -> anyhow::Result<(Line, Fetched)> {
    let line = dialer.dial().await?;
    let fetched = whole(line.fetch(&arguments.path).await?, arguments)?;
    Ok((line, fetched))
}

/// Returns what came, if that was all of it.
fn whole(fetched: Fetched, arguments: &Arguments) -> anyhow::Result<Fetched> {
    ensure!(
        fetched.bytes >= arguments.bytes_min,
        "an answer of {} bytes",
        fetched.bytes
    );
    Ok(fetched)
}

fn is_ours(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_private(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local(),
    }
}

const SECONDS_MAX: u64 = 120;
