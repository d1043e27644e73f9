//! Held requests: many blocking reloads over few connections, kept in place.
//!
//! For the memory and the wake-up cost of a held request. Each holder asks a live playlist for
//! what comes next; when it is answered it asks for what comes after that, so that the number held
//! stays what was wanted.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use media::hls::MediaPlaylist;
use media::{MediaSequenceNumber, Position};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{Client, FetchError, Get, Keep, Network, Protocol};
use super::config::Trust;
use super::fleet::Fleet;
use super::listed;
use super::location::Location;
use super::measure::ErrorKind;
use super::report::{Named, list, named, row};
use super::run::{SwarmError, THREADS_MAX, in_range};
use super::track::Directives;

/// A run of held requests.
#[derive(Debug, Clone)]
pub struct HoldConfig {
    /// A media playlist that can block.
    pub url: String,
    /// The HTTP version.
    pub protocol: Protocol,
    /// Requests to hold, over all connections.
    pub requests: usize,
    /// Connections to hold them over; with HTTP/1.1 each holds one request.
    pub connections: usize,
    /// What is asked for.
    pub asks: HoldAsks,
    /// How long to hold them.
    pub duration: Duration,
    /// Connect here whatever the URL's host says.
    pub connect_to: Option<SocketAddr>,
    /// Which certificates are accepted.
    pub trust: Trust,
    /// Threads, each with its own current-thread runtime.
    pub threads: usize,
}

/// What a held request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldAsks {
    /// The next part, as players do.
    NextPart,
    /// A whole segment so many after the newest whole one; 1 or 2 are held for seconds.
    SegmentAhead(u64),
}

/// How a hold run stands, once a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HoldProgress {
    /// Since the run began.
    pub elapsed: Duration,
    /// Requests sent and not answered.
    pub in_place: u64,
    /// How long it took until as many as wanted were in place at once.
    pub all_in_place_after: Option<Duration>,
    /// Requests answered so far.
    pub answers: u64,
    /// Errors so far.
    pub errors: u64,
}

/// What a hold run measured.
#[derive(Debug, Clone, Serialize)]
pub struct HoldReport {
    /// The HTTP version.
    pub protocol: Protocol,
    /// Requests wanted in place.
    pub wanted: u64,
    /// The most that were in place at once.
    pub in_place_max: u64,
    /// How it ended.
    pub end: HoldProgress,
    /// Errors by kind.
    pub errors_by_kind: Vec<Named>,
}

/// The most requests a hold run keeps in place.
const REQUESTS_MAX: usize = 1_000_000;

/// A held request may take this long: more than any server holds (LL-09: three target durations).
const TIMEOUT: Duration = Duration::from_secs(60);

/// After an error, a holder waits before it asks again.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct State {
    in_place: u64,
    in_place_max: u64,
    all_after: Option<Duration>,
    answers: u64,
    errors: [u64; ErrorKind::ALL.len()],
}

impl State {
    fn sent(&mut self, wanted: u64, elapsed: Duration) {
        self.in_place += 1;
        self.in_place_max = self.in_place_max.max(self.in_place);
        if self.in_place == wanted && self.all_after.is_none() {
            self.all_after = Some(elapsed);
        }
    }

    fn progress(&self, elapsed: Duration) -> HoldProgress {
        HoldProgress {
            elapsed,
            in_place: self.in_place,
            all_in_place_after: self.all_after,
            answers: self.answers,
            errors: self.errors.iter().sum(),
        }
    }
}

/// Holds requests and returns what came of it. Blocks the calling thread.
///
/// # Errors
/// See [`SwarmError`]. Requests that go wrong are no error of the run: they are its result.
pub fn hold(
    config: &HoldConfig,
    stop: &CancellationToken,
    mut progress: impl FnMut(&HoldProgress),
) -> Result<HoldReport, SwarmError> {
    let url = check(config)?;
    let networks: Vec<Arc<Network>> = (0..config.threads)
        .map(|_| Network::new(config.protocol, &config.trust, config.connect_to))
        .collect::<Result<_, _>>()?;
    let state = Arc::new(Mutex::new(State::default()));
    let started = Instant::now();
    let work = Work {
        config: Arc::new(config.clone()),
        url,
        state: Arc::clone(&state),
        started,
        stop: stop.child_token(),
    };
    let fleet = Fleet::start(config.threads, move |number| {
        work.clone().thread(number, Arc::clone(&networks[number]))
    })?;
    let mut last = state.lock().progress(Duration::ZERO);
    fleet.join(|| {
        last = state.lock().progress(started.elapsed());
        progress(&last);
    })?;
    let state = state.lock();
    let mut end = state.progress(started.elapsed());
    // The holders are gone by now; what they held until then is what counts.
    end.in_place = last.in_place;
    Ok(HoldReport {
        protocol: config.protocol,
        wanted: config.requests as u64,
        in_place_max: state.in_place_max,
        end,
        errors_by_kind: named(&ErrorKind::ALL.map(|(_, name)| name), &state.errors),
    })
}

fn check(config: &HoldConfig) -> Result<Location, SwarmError> {
    let url = Location::parse(&config.url)?;
    if config.protocol == Protocol::Http3 && !url.is_secure() {
        return Err(SwarmError::ClearHttp3);
    }
    in_range("threads", config.threads, 1, THREADS_MAX)?;
    in_range("requests", config.requests, 1, REQUESTS_MAX)?;
    in_range("connections", config.connections, 1, config.requests)?;
    if config.protocol == Protocol::Http1 {
        let one_each = config.requests;
        in_range(
            "connections over http/1.1",
            config.connections,
            one_each,
            one_each,
        )?;
    }
    Ok(url)
}

#[derive(Clone)]
struct Work {
    config: Arc<HoldConfig>,
    url: Location,
    state: Arc<Mutex<State>>,
    started: Instant,
    stop: CancellationToken,
}

impl Work {
    async fn thread(self, number: usize, network: Arc<Network>) {
        let mut connections = JoinSet::new();
        let (requests, count) = (self.config.requests, self.config.connections);
        for connection in (number..count).step_by(self.config.threads) {
            // The remainder goes to the first connections.
            let holders = requests / count + usize::from(connection < requests % count);
            let work = self.clone();
            let client = Client::new(Arc::clone(&network), self.config.protocol, 1);
            connections.spawn(async move {
                join_all((0..holders).map(|_| work.holder(&client))).await;
            });
        }
        tokio::select! {
            () = async { while connections.join_next().await.is_some() {} } => {}
            () = tokio::time::sleep_until(self.started + self.config.duration) => {}
            () = self.stop.cancelled() => {}
        }
        connections.shutdown().await;
        network.close().await;
    }

    /// Keeps one request in place, until the playlist ends.
    async fn holder(&self, client: &Client) {
        let mut position: Option<Position> = None;
        loop {
            match self.ask(client, position).await {
                Ok(list) if list.is_ended() => return,
                Ok(list) => position = Some(next(&list, self.config.asks)),
                Err(kind) => {
                    self.state.lock().errors[kind as usize] += 1;
                    position = None;
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
    }

    async fn ask(
        &self,
        client: &Client,
        position: Option<Position>,
    ) -> Result<MediaPlaylist, ErrorKind> {
        let query = Directives {
            position,
            skip: false,
        }
        .query();
        let get = Get {
            location: self.url.with_query(&query),
            range: None,
            keep: Keep::Text,
        };
        let held = Held(&self.state, Mutex::new(false));
        let sent = || {
            // A plain request finds the place; only what it finds is held.
            if position.is_some() && !std::mem::replace(&mut *held.1.lock(), true) {
                let wanted = self.config.requests as u64;
                self.state.lock().sent(wanted, self.started.elapsed());
            }
        };
        let answer = tokio::time::timeout(TIMEOUT, client.fetch_noting(&get, &sent)).await;
        drop(held);
        let got = answer
            .map_err(|_| ErrorKind::Timeout)?
            .map_err(|error: FetchError| ErrorKind::of_fetch(&error))?;
        self.state.lock().answers += 1;
        if got.head.status != http::StatusCode::OK {
            return Err(ErrorKind::of_status(got.head.status));
        }
        let text = got.received.into_text(&got.head);
        let text = text.map_err(|_| ErrorKind::BadContent)?;
        let list = listed::read(text.into(), None).map_err(|_| ErrorKind::BadPlaylist)?;
        let can_be_held = list.can_block_reload() || list.is_ended();
        can_be_held.then_some(list).ok_or(ErrorKind::BadPlaylist)
    }
}

/// Counts a held request out when it ends, however it ends.
struct Held<'a>(&'a Mutex<State>, Mutex<bool>);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if *self.1.lock() {
            self.0.lock().in_place -= 1;
        }
    }
}

fn next(list: &MediaPlaylist, asks: HoldAsks) -> Position {
    match asks {
        HoldAsks::NextPart => list.next_position(),
        HoldAsks::SegmentAhead(ahead) => {
            let last = list.last_segment().unwrap_or(list.media_sequence());
            Position::segment(MediaSequenceNumber(last.0.saturating_add(ahead)))
        }
    }
}

impl fmt::Display for HoldReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.end.elapsed.as_secs_f64();
        writeln!(f, "held over {:?}, {seconds:.1} s", self.protocol)?;
        let after = match self.end.all_in_place_after {
            Some(after) => format!("all after {:.2} s", after.as_secs_f64()),
            None => "never all".to_owned(),
        };
        let (most, wanted) = (self.in_place_max, self.wanted);
        row(
            f,
            "in place",
            format_args!("{most} at most of {wanted}, {after}"),
        )?;
        row(f, "answers", self.end.answers)?;
        let errors = list(&self.errors_by_kind);
        row(f, "errors", format_args!("{} {errors}", self.end.errors))
    }
}
