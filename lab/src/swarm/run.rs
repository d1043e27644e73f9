//! A run of the swarm: checks the configuration, lets viewers arrive, ends in time, reports.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Network, Protocol, TrustError};
use super::clock::WallClock;
use super::config::SwarmConfig;
use super::counts;
use super::fleet::{Fleet, ThreadError, run_apart};
use super::location::{Location, LocationError};
use super::measure::Tally;
use super::player::Habits;
use super::report::{Report, Run};
use super::viewer::{Setting, Viewer};

/// How a run stands, once a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Since the run began.
    pub elapsed: Duration,
    /// Viewers that have arrived.
    pub viewers_arrived: u64,
    /// Viewers whose buffer plays.
    pub viewers_playing: u64,
    /// Viewers whose buffer ran dry.
    pub viewers_stalled: u64,
    /// Requests so far.
    pub requests: u64,
    /// Requests per second since the last progress.
    pub requests_per_second: f64,
    /// Errors so far.
    pub errors: u64,
    /// Body bytes so far.
    pub bytes: u64,
    /// Playlists that ran backwards so far.
    pub regressions: u64,
}

/// Why a run did not take place.
#[derive(Debug, thiserror::Error)]
pub enum SwarmError {
    /// The URL cannot be requested.
    #[error(transparent)]
    Url(#[from] LocationError),
    /// A number is out of its range.
    #[error("{key} is {value}, allowed is {allowed}")]
    Range {
        /// Which one.
        key: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// HTTP/3 has no clear-text form.
    #[error("http/3 needs an https url")]
    ClearHttp3,
    /// The accepted certificates.
    #[error("no certificates to trust")]
    Trust(#[from] TrustError),
    /// The threads.
    #[error(transparent)]
    Thread(#[from] ThreadError),
}

/// The most viewers one run has.
pub const VIEWERS_MAX: usize = 200_000;
/// The most threads one run has.
pub const THREADS_MAX: usize = 256;

/// Runs the swarm and returns what it measured. Blocks the calling thread.
///
/// `progress` is called once a second. The run ends after [`SwarmConfig::duration`], when every
/// viewer has seen the end of the presentation, or when `stop` is cancelled; all three report.
///
/// # Errors
/// See [`SwarmError`]. Viewers that cannot play are no error of the run: they are its result.
pub fn run(
    config: &SwarmConfig,
    stop: &CancellationToken,
    mut progress: impl FnMut(&Progress),
) -> Result<Report, SwarmError> {
    let url = check(config)?;
    let setting = Arc::new(setting(config, url));
    let started = Instant::now();
    let networks: Vec<Arc<Network>> = (0..config.threads)
        .map(|_| Network::new(config.protocol, &config.trust, config.connect_to))
        .collect::<Result<_, _>>()?;
    let tallies: Vec<Arc<Mutex<Tally>>> = (0..config.threads).map(|_| Arc::default()).collect();
    let crowd = Crowd {
        config: config.clone(),
        setting,
        started,
        stop: stop.child_token(),
    };
    let fleet = Fleet::start(config.threads, {
        let tallies = tallies.clone();
        move |number| {
            let network = Arc::clone(&networks[number]);
            crowd
                .clone()
                .watch(number, network, Arc::clone(&tallies[number]))
        }
    })?;
    let mut before = Progress::default();
    fleet.join(|| {
        before = Progress::read(&tallies, started.elapsed(), &before);
        progress(&before);
    })?;
    let took = started.elapsed();
    let mut tally = Tally::default();
    tallies.iter().for_each(|other| tally.merge(&other.lock()));
    let origin = match &config.counts_url {
        Some(url) => Some(run_apart(counts::fetch(url, &config.trust))?),
        None => None,
    };
    let run = Run {
        url: config.url.clone(),
        protocol: config.protocol,
        viewers: config.viewers as u64,
        took,
        origin,
    };
    Ok(Report::new(run, &tally))
}

fn check(config: &SwarmConfig) -> Result<Location, SwarmError> {
    let url = Location::parse(&config.url)?;
    if config.protocol == Protocol::Http3 && !url.is_secure() {
        return Err(SwarmError::ClearHttp3);
    }
    in_range("viewers", config.viewers, 1, VIEWERS_MAX)?;
    in_range("threads", config.threads, 1, THREADS_MAX)?;
    let shared = config.viewers_per_connection;
    in_range("viewers per connection", shared, 1, VIEWERS_MAX)?;
    in_range("abort probability", config.abort_probability, 0.0, 1.0)?;
    if let Some(every) = config.abr_switch_every {
        let key = "seconds between switches";
        in_range(
            key,
            every.as_secs_f64(),
            SWITCH_EVERY_MIN.as_secs_f64(),
            f64::MAX,
        )?;
    }
    Ok(url)
}

/// Refuses a number outside of what is allowed.
pub(crate) fn in_range<T: PartialOrd + fmt::Display>(
    key: &'static str,
    value: T,
    min: T,
    max: T,
) -> Result<(), SwarmError> {
    if (&min..=&max).contains(&&value) {
        return Ok(());
    }
    Err(SwarmError::Range {
        key,
        value: value.to_string(),
        allowed: format!("{min} to {max}"),
    })
}

/// Players do not switch more often than this.
const SWITCH_EVERY_MIN: Duration = Duration::from_millis(100);

fn setting(config: &SwarmConfig, url: Location) -> Setting {
    let wall = WallClock::read();
    let timed_from = match config.settle {
        // Nothing is left out, whatever the clocks say.
        Duration::ZERO => i64::MIN,
        settle => wall.unix_micros(Instant::now() + settle),
    };
    Setting {
        url,
        habits: Habits {
            wants: config.wants,
            delta_updates: config.delta_updates,
            start: config.start_rendition,
            audio: config.audio,
            buffer: config.buffer,
        },
        timeouts: config.timeouts,
        abr_switch_every: config.abr_switch_every,
        abort_probability: config.abort_probability,
        seed: config.seed,
        wall,
        timed_from,
    }
}

/// The viewers of a run, as each thread sees them.
#[derive(Clone)]
struct Crowd {
    config: SwarmConfig,
    setting: Arc<Setting>,
    started: Instant,
    stop: CancellationToken,
}

impl Crowd {
    /// Lets the viewers of thread `number` arrive and watch.
    async fn watch(self, number: usize, network: Arc<Network>, tally: Arc<Mutex<Tally>>) {
        let mut viewers = JoinSet::new();
        // This thread's own end must not end the others.
        let stop = self.stop.child_token();
        let deadline = self.started + self.config.duration;
        let watching = async {
            let mut shared: Option<(Arc<Client>, usize)> = None;
            for index in (number..self.config.viewers).step_by(self.config.threads) {
                let share = index as f64 / self.config.viewers as f64;
                let arrival = self.started + self.config.ramp.mul_f64(share);
                tokio::time::sleep_until(arrival).await;
                let client = self.client(&mut shared, &network);
                let (setting, tally) = (Arc::clone(&self.setting), Arc::clone(&tally));
                let stop = stop.clone();
                viewers.spawn(async move {
                    let viewer = Viewer::new(setting, client, tally, index as u64);
                    viewer.watch(stop).await;
                });
            }
            while viewers.join_next().await.is_some() {}
        };
        tokio::select! {
            () = watching => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = stop.cancelled() => {}
        }
        stop.cancel();
        while viewers.join_next().await.is_some() {}
        network.close().await;
    }

    /// Returns the connections of the next viewer: its own, or shared ones where that is wanted.
    fn client(
        &self,
        shared: &mut Option<(Arc<Client>, usize)>,
        network: &Arc<Network>,
    ) -> Arc<Client> {
        let per_connection = match self.config.protocol {
            Protocol::Http1 => 1,
            Protocol::Http2 | Protocol::Http3 => self.config.viewers_per_connection,
        };
        if let Some((client, left)) = shared.as_mut().filter(|(_, left)| *left > 0) {
            *left -= 1;
            return Arc::clone(client);
        }
        let connections = self.config.connections_per_viewer;
        let client = Client::new(Arc::clone(network), self.config.protocol, connections);
        let client = Arc::new(client);
        *shared = Some((Arc::clone(&client), per_connection - 1));
        client
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            elapsed: Duration::ZERO,
            viewers_arrived: 0,
            viewers_playing: 0,
            viewers_stalled: 0,
            requests: 0,
            requests_per_second: 0.0,
            errors: 0,
            bytes: 0,
            regressions: 0,
        }
    }
}

impl Progress {
    fn read(tallies: &[Arc<Mutex<Tally>>], elapsed: Duration, before: &Self) -> Self {
        let mut now = Self {
            elapsed,
            ..Self::default()
        };
        for tally in tallies {
            let tally = tally.lock();
            now.viewers_arrived += tally.viewers_arrived;
            now.viewers_playing += u64::try_from(tally.playing_now).unwrap_or(0);
            now.viewers_stalled += u64::try_from(tally.stalled_now).unwrap_or(0);
            now.requests += tally.requests_total();
            now.errors += tally.errors_total();
            now.bytes += tally.bytes;
            now.regressions += tally.regressions;
        }
        let interval = elapsed
            .saturating_sub(before.elapsed)
            .as_secs_f64()
            .max(0.001);
        now.requests_per_second = now.requests.saturating_sub(before.requests) as f64 / interval;
        now
    }
}
