//! Plain load: GETs in closed loops, for measuring what a hit costs.
//!
//! Every connection is one task that keeps a number of requests under way; each answer is checked
//! for status 200 and its promised length, and nothing of it is kept.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Get, Keep, Network, Protocol};
use super::config::Trust;
use super::fleet::Fleet;
use super::location::Location;
use super::measure::{ErrorKind, histogram};
use super::report::{Named, Quantiles, list, named, row};
use super::run::{SwarmError, THREADS_MAX, in_range};

/// A run of plain load.
#[derive(Debug, Clone)]
pub struct LoadConfig {
    /// What to get, in turn.
    pub urls: Vec<String>,
    /// The HTTP version.
    pub protocol: Protocol,
    /// Connections, over all threads.
    pub connections: usize,
    /// Requests under way on each connection; 1 for HTTP/1.1.
    pub streams_per_connection: usize,
    /// When it ends.
    pub until: Until,
    /// How long one request may take.
    pub timeout: Duration,
    /// Connect here whatever the URLs' host says.
    pub connect_to: Option<SocketAddr>,
    /// Which certificates are accepted.
    pub trust: Trust,
    /// Threads, each with its own current-thread runtime.
    pub threads: usize,
}

/// When a load run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After this time.
    Elapsed(Duration),
    /// After this many requests.
    Requests(u64),
}

/// What a load run measured.
#[derive(Debug, Clone, Serialize)]
pub struct LoadReport {
    /// The HTTP version.
    pub protocol: Protocol,
    /// How long it took, seconds.
    pub seconds: f64,
    /// Requests answered with status 200 and the promised length.
    pub answered: u64,
    /// Of these, per second.
    pub per_second: f64,
    /// Body bytes received.
    pub bytes: u64,
    /// Body bits received per second.
    pub bits_per_second: f64,
    /// From sending a request to its last byte.
    pub response_time: Option<Quantiles>,
    /// Errors.
    pub errors: u64,
    /// Errors by kind.
    pub errors_by_kind: Vec<Named>,
}

/// How a load run stands, once a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadProgress {
    /// Since the run began.
    pub elapsed: Duration,
    /// Requests answered so far.
    pub answered: u64,
    /// Errors so far.
    pub errors: u64,
}

/// The most requests a load run keeps under way.
const UNDER_WAY_MAX: usize = 1_000_000;

struct Sums {
    answered: u64,
    bytes: u64,
    response_time: Histogram<u64>,
    errors: [u64; ErrorKind::ALL.len()],
}

/// Runs plain load and returns what it measured. Blocks the calling thread.
///
/// # Errors
/// See [`SwarmError`]. Requests that go wrong are no error of the run: they are its result.
pub fn load(
    config: &LoadConfig,
    stop: &CancellationToken,
    mut progress: impl FnMut(&LoadProgress),
) -> Result<LoadReport, SwarmError> {
    let urls = check(config)?;
    let networks: Vec<Arc<Network>> = (0..config.threads)
        .map(|_| Network::new(config.protocol, &config.trust, config.connect_to))
        .collect::<Result<_, _>>()?;
    let sums: Vec<Arc<Mutex<Sums>>> = (0..config.threads).map(|_| Arc::default()).collect();
    let started = Instant::now();
    let work = Work {
        config: Arc::new(config.clone()),
        urls: Arc::new(urls),
        left: Arc::new(AtomicU64::new(match config.until {
            Until::Elapsed(_) => u64::MAX,
            Until::Requests(requests) => requests,
        })),
        deadline: match config.until {
            Until::Elapsed(elapsed) => Some(started + elapsed),
            Until::Requests(_) => None,
        },
        stop: stop.child_token(),
    };
    let fleet = Fleet::start(config.threads, {
        let sums = sums.clone();
        move |number| {
            let network = Arc::clone(&networks[number]);
            work.clone()
                .thread(number, network, Arc::clone(&sums[number]))
        }
    })?;
    fleet.join(|| {
        let mut now = LoadProgress {
            elapsed: started.elapsed(),
            answered: 0,
            errors: 0,
        };
        for sums in &sums {
            let sums = sums.lock();
            now.answered += sums.answered;
            now.errors += sums.errors.iter().sum::<u64>();
        }
        progress(&now);
    })?;
    Ok(report(config.protocol, started.elapsed(), &sums))
}

fn check(config: &LoadConfig) -> Result<Vec<Location>, SwarmError> {
    let urls: Vec<Location> = config
        .urls
        .iter()
        .map(|url| Location::parse(url))
        .collect::<Result<_, _>>()?;
    if config.protocol == Protocol::Http3 && urls.iter().any(|url| !url.is_secure()) {
        return Err(SwarmError::ClearHttp3);
    }
    let streams_max = match config.protocol {
        Protocol::Http1 => 1,
        Protocol::Http2 | Protocol::Http3 => UNDER_WAY_MAX,
    };
    in_range("urls", urls.len(), 1, 100_000)?;
    in_range("threads", config.threads, 1, THREADS_MAX)?;
    in_range("connections", config.connections, 1, UNDER_WAY_MAX)?;
    let streams = config.streams_per_connection;
    in_range("streams per connection", streams, 1, streams_max)?;
    let under_way = config.connections.saturating_mul(streams);
    in_range("requests under way", under_way, 1, UNDER_WAY_MAX)?;
    Ok(urls)
}

/// What every connection of the run works at.
#[derive(Clone)]
struct Work {
    config: Arc<LoadConfig>,
    urls: Arc<Vec<Location>>,
    /// Requests not yet begun.
    left: Arc<AtomicU64>,
    deadline: Option<Instant>,
    stop: CancellationToken,
}

impl Work {
    async fn thread(self, number: usize, network: Arc<Network>, sums: Arc<Mutex<Sums>>) {
        let mut connections = JoinSet::new();
        for connection in (number..self.config.connections).step_by(self.config.threads) {
            let work = self.clone();
            let (network, sums) = (Arc::clone(&network), Arc::clone(&sums));
            connections.spawn(async move {
                let client = Client::new(network, work.config.protocol, 1);
                let streams = work.config.streams_per_connection;
                let first = connection * streams;
                join_all((first..first + streams).map(|at| work.stream(&client, &sums, at))).await;
            });
        }
        let deadline = self.deadline.unwrap_or_else(Instant::now);
        tokio::select! {
            () = async { while connections.join_next().await.is_some() {} } => {}
            () = tokio::time::sleep_until(deadline), if self.deadline.is_some() => {}
            () = self.stop.cancelled() => {}
        }
        connections.shutdown().await;
        network.close().await;
    }

    async fn stream(&self, client: &Client, sums: &Mutex<Sums>, first: usize) {
        let mut at = first;
        while self.takes_one() {
            let location = self.urls[at % self.urls.len()].clone();
            at = at.wrapping_add(1);
            let get = Get {
                location,
                range: None,
                keep: Keep::Nothing,
            };
            let answer = tokio::time::timeout(self.config.timeout, client.fetch(&get)).await;
            let mut pause = None;
            {
                let mut sums = sums.lock();
                match answer {
                    Err(_) => sums.errors[ErrorKind::Timeout as usize] += 1,
                    Ok(Err(error)) => {
                        sums.errors[ErrorKind::of_fetch(&error) as usize] += 1;
                        pause = Some(ERROR_PAUSE);
                    }
                    Ok(Ok(got)) if got.head.status != http::StatusCode::OK => {
                        sums.errors[ErrorKind::of_status(got.head.status) as usize] += 1;
                    }
                    Ok(Ok(got)) => {
                        sums.answered += 1;
                        sums.bytes += got.received.bytes;
                        let took = got.last_byte_at.duration_since(got.sent_at);
                        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                        sums.response_time.saturating_record(micros);
                    }
                }
            }
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
    }

    fn takes_one(&self) -> bool {
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        taken.is_ok()
    }
}

/// A refused connection is not tried again in the same instant.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

impl Default for Sums {
    fn default() -> Self {
        Self {
            answered: 0,
            bytes: 0,
            response_time: histogram(),
            errors: [0; ErrorKind::ALL.len()],
        }
    }
}

fn report(protocol: Protocol, took: Duration, parts: &[Arc<Mutex<Sums>>]) -> LoadReport {
    let mut sums = Sums::default();
    for part in parts {
        let part = part.lock();
        sums.answered += part.answered;
        sums.bytes += part.bytes;
        let times = &part.response_time;
        sums.response_time
            .add(times)
            .expect("both have the same bounds");
        for (sum, more) in sums.errors.iter_mut().zip(part.errors) {
            *sum += more;
        }
    }
    let seconds = took.as_secs_f64().max(0.001);
    LoadReport {
        protocol,
        seconds,
        answered: sums.answered,
        per_second: sums.answered as f64 / seconds,
        bytes: sums.bytes,
        bits_per_second: sums.bytes as f64 * 8.0 / seconds,
        response_time: Quantiles::of(&sums.response_time),
        errors: sums.errors.iter().sum(),
        errors_by_kind: named(&ErrorKind::ALL.map(|(_, name)| name), &sums.errors),
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "load over {:?}, {:.1} s", self.protocol, self.seconds)?;
        let answered = format_args!("{} ({:.0}/s)", self.answered, self.per_second);
        row(f, "answered", answered)?;
        let errors = format_args!("{} {}", self.errors, list(&self.errors_by_kind));
        row(f, "errors", errors)?;
        let (bytes, bits) = (self.bytes as f64 / 1e6, self.bits_per_second / 1e6);
        row(
            f,
            "received",
            format_args!("{bytes:.1} MB, {bits:.1} Mbit/s"),
        )?;
        match &self.response_time {
            Some(response_time) => row(f, "response time", response_time),
            None => Ok(()),
        }
    }
}
