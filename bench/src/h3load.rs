//! Load over HTTP/3 that costs the machine as little as it can, so that the server is what is measured.
//!
//! What is here: GET requests framed by hand on quinn, and the CPU time of the server beside their
//! number. Who runs it: whoever measures; `h2load` as Debian builds it speaks no HTTP/3.
//! Deliberately not here: a client. Responses are counted and not understood.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bench::{CONTROL_STREAM, H3_NO_ERROR, http3_request, quic_client, tls_client};
use bytes::Bytes;
use clap::Parser;
use hdrhistogram::Histogram;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime as _, UdpPoller};
use tokio::task::JoinSet;
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Asks an HTTP/3 server for one path over and over, for a bounded time, on the loopback.
#[derive(Debug, Parser)]
struct Arguments {
    /// The server; a loopback address.
    server: SocketAddr,
    /// The path to ask for.
    path: String,
    /// Connections.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Requests in flight on each.
    #[arg(long, default_value_t = 4)]
    streams: usize,
    /// Ask once on each stream, say `asked`, and keep all connections open for the rest of the time.
    #[arg(long)]
    once: bool,
    /// Seconds to run, at most 60.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Bytes of UDP payload that a packet from the server may have: 1472 is what Ethernet carries over IPv4, 65527 what UDP can
    /// say and most clients allow.
    #[arg(long, default_value_t = 1_472)]
    mtu: u16,
    /// The process whose CPU time is reported.
    #[arg(long)]
    server_pid: Option<u32>,
}

/// What was counted.
struct Tally {
    responses: u64,
    bytes: u64,
    micros: Histogram<u64>,
}

impl Tally {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            responses: 0,
            bytes: 0,
            micros: Histogram::new(3)?,
        })
    }

    fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.responses += other.responses;
        self.bytes += other.bytes;
        Ok(self.micros.add(&other.micros)?)
    }
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, reason = "a command prints what it measured")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        arguments.server.ip().is_loopback(),
        "only loopback servers are loaded"
    );
    ensure!(
        arguments.seconds <= SECONDS_MAX,
        "at most {SECONDS_MAX} seconds"
    );
    let config = quic_client(tls_client(b"h3")?)?;
    let begun = Instant::now();
    let until = begun + Duration::from_secs(arguments.seconds);
    let cpu_before = cpu_seconds(arguments.server_pid)?;
    let mut connections = JoinSet::new();
    if arguments.once {
        return keep(&config, &arguments, until).await;
    }
    for _ in 0..arguments.connections {
        let request = http3_request(&arguments.path)?;
        let (server, streams) = (arguments.server, arguments.streams);
        connections.spawn(one_connection(
            config.clone(),
            server,
            arguments.mtu,
            request,
            streams,
            until,
        ));
    }
    let mut total = Tally::new()?;
    while let Some(connection) = connections.join_next().await {
        total.add(&connection??)?;
    }
    let wall = begun.elapsed().as_secs_f64();
    let cpu = cpu_seconds(arguments.server_pid)? - cpu_before;
    let per_second = total.responses as f64 / wall;
    let gigabits = total.bytes as f64 * 8.0 / 1e9;
    println!("{} responses, {per_second:.0} per second", total.responses);
    if arguments.server_pid.is_some() {
        let per_cpu_second = total.responses as f64 / cpu;
        println!(
            "server: {cpu:.2} CPU-seconds, {per_cpu_second:.0} responses and {:.2} Gbit per CPU-second",
            gigabits / cpu
        );
    }
    let percentile = |p| total.micros.value_at_percentile(p) as f64 / 1000.0;
    println!(
        "ms: p50 {:.2} p99 {:.2} max {:.2}",
        percentile(50.0),
        percentile(99.0),
        percentile(100.0)
    );
    Ok(())
}

/// Asks once on each stream of each connection and keeps them, answered or not, so that somebody can look at the server.
#[allow(clippy::print_stdout, reason = "a command says how far it is")]
async fn keep(
    config: &quinn::ClientConfig,
    arguments: &Arguments,
    until: Instant,
) -> anyhow::Result<()> {
    let request = http3_request(&arguments.path)?;
    let mut kept = Vec::new();
    for _ in 0..arguments.connections {
        let (endpoint, connection, control) =
            connected(config.clone(), arguments.server, arguments.mtu).await?;
        let mut streams = Vec::new();
        for _ in 0..arguments.streams {
            let (mut send, receive) = connection.open_bi().await?;
            send.write_chunk(request.clone()).await?;
            send.finish()?;
            streams.push(receive);
        }
        kept.push((endpoint, connection, control, streams));
    }
    println!("asked");
    tokio::time::sleep_until(until).await;
    for (_, connection, ..) in &kept {
        if let Some(reason) = connection.close_reason() {
            anyhow::bail!("a connection did not stay: {reason}");
        }
    }
    Ok(())
}

/// Connects and opens the control stream, which has to stay as long as the connection (RFC 9114 6.2.1).
async fn connected(
    config: quinn::ClientConfig,
    server: SocketAddr,
    mtu: u16,
) -> anyhow::Result<(quinn::Endpoint, quinn::Connection, quinn::SendStream)> {
    let endpoint = client_endpoint(server, mtu)?;
    let connection = endpoint.connect_with(config, server, "localhost")?.await?;
    let mut control = connection.open_uni().await?;
    control.write_all(&CONTROL_STREAM).await?;
    Ok((endpoint, connection, control))
}

/// Opens a socket of its own that receives packets of up to `mtu` bytes.
fn client_endpoint(server: SocketAddr, mtu: u16) -> anyhow::Result<quinn::Endpoint> {
    let socket = UdpSocket::bind((server.ip(), 0))?;
    let mut config = quinn::EndpointConfig::default();
    config.max_udp_payload_size(mtu)?;
    let runtime = Arc::new(quinn::TokioRuntime);
    let socket = Arc::new(Measured {
        inner: runtime.wrap_udp_socket(socket)?,
        receive_segments: RECEIVED_AT_ONCE_BYTES_MAX.div_ceil(mtu.into()),
    });
    let endpoint = quinn::Endpoint::new_with_abstract_socket(config, None, socket, runtime)?;
    Ok(endpoint)
}

/// A socket whose receive buffers have room for what the kernel hands up at once, and no more.
///
/// quinn makes them for 64 packets of the largest size, 32 times: 134 MB for packets of 64 KB, of which 32 times 64 KB can be used.
#[derive(Debug)]
struct Measured {
    inner: Arc<dyn AsyncUdpSocket>,
    receive_segments: usize,
}

impl AsyncUdpSocket for Measured {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut TaskContext<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.receive_segments.min(self.inner.max_receive_segments())
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

async fn one_connection(
    config: quinn::ClientConfig,
    server: SocketAddr,
    mtu: u16,
    request: Bytes,
    streams: usize,
    until: Instant,
) -> anyhow::Result<Tally> {
    let (endpoint, connection, _control) = connected(config, server, mtu).await?;
    let mut workers = JoinSet::new();
    for _ in 0..streams {
        workers.spawn(one_after_another(
            connection.clone(),
            request.clone(),
            until,
        ));
    }
    let mut total = Tally::new()?;
    while let Some(worker) = workers.join_next().await {
        total.add(&worker??)?;
    }
    connection.close(H3_NO_ERROR.into(), b"");
    endpoint.wait_idle().await;
    Ok(total)
}

async fn one_after_another(
    connection: quinn::Connection,
    request: Bytes,
    until: Instant,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::new()?;
    let mut chunks: [Bytes; 32] = Default::default();
    while Instant::now() < until {
        let begun = Instant::now();
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_chunk(request.clone()).await?;
        send.finish()?;
        let mut bytes = 0;
        while let Some(count) = receive.read_chunks(&mut chunks).await? {
            let read = chunks.iter().take(count);
            bytes += read.map(|chunk| chunk.len() as u64).sum::<u64>();
        }
        ensure!(bytes > 0, "an empty response");
        tally.responses += 1;
        tally.bytes += bytes;
        tally.micros.record(begun.elapsed().as_micros() as u64)?;
    }
    Ok(tally)
}

/// Returns the CPU time a process has used, in user and kernel mode; 0 without a process.
fn cpu_seconds(pid: Option<u32>) -> anyhow::Result<f64> {
    let Some(pid) = pid else {
        return Ok(0.0);
    };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // proc_pid_stat(5): the name may hold spaces and ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(')').context("a stat line")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |index: usize| -> anyhow::Result<f64> {
        let field = fields.get(index).context("a stat line with CPU times")?;
        Ok(field.parse()?)
    };
    Ok((ticks(UTIME_INDEX)? + ticks(UTIME_INDEX + 1)?) / TICKS_PER_SECOND)
}

const SECONDS_MAX: u64 = 60;
/// Bytes that the kernel hands up at once when it has joined what came (GRO).
const RECEIVED_AT_ONCE_BYTES_MAX: usize = 65_536;
/// Place of utime after the process name; stime follows.
const UTIME_INDEX: usize = 11;
/// Linux tells user space CPU times in this unit whatever it counts in.
const TICKS_PER_SECOND: f64 = 100.0;
