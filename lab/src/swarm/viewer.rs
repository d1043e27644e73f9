//! One viewer on the wire: carries out what its player asks for, and measures it.
//!
//! A viewer is one task. Its requests are futures inside it, not tasks of their own; giving one up
//! drops the future, which cancels the request on the wire. [`super::run()`] starts viewers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, abortable};
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::chance::Chance;
use super::client::{Client, Get, Keep};
use super::clock::WallClock;
use super::config::Timeouts;
use super::location::Location;
use super::measure::Tally;
use super::player::{Habits, Player};
use super::track::{Reload, Why};

mod answers;
mod flight;

use flight::{Answer, FetchFailure, Flight, What};

/// What every viewer of a run shares.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) url: Location,
    pub(crate) habits: Habits,
    pub(crate) timeouts: Timeouts,
    pub(crate) abr_switch_every: Option<Duration>,
    pub(crate) abort_probability: f64,
    pub(crate) seed: u64,
    pub(crate) wall: WallClock,
    /// What was published before this is not timed; Unix microseconds.
    pub(crate) timed_from: i64,
}

/// One viewer.
pub(crate) struct Viewer {
    setting: Arc<Setting>,
    client: Arc<Client>,
    tally: Arc<Mutex<Tally>>,
    player: Player,
    chance: Chance,
    arrived: Instant,
    running: FuturesUnordered<BoxFuture<'static, (u64, Answer)>>,
    flights: Vec<Flight>,
    flights_made: u64,
    /// Per slot: the playlist request to make next, and when.
    reloads: Vec<Option<(Instant, Reload)>>,
    /// When the multivariant playlist is asked for (again).
    open_at: Option<Instant>,
    open_failures: u32,
    switch_at: Option<Instant>,
    shown: Shown,
}

/// How this viewer counts in the figures of the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Waiting,
    Playing,
    Stalled,
}

impl Viewer {
    pub(crate) fn new(
        setting: Arc<Setting>,
        client: Arc<Client>,
        tally: Arc<Mutex<Tally>>,
        index: u64,
    ) -> Self {
        let now = Instant::now();
        let mut chance = Chance::new(setting.seed, index);
        // Spread: viewers that switch do not all switch in the same instant.
        let switch_at = setting
            .abr_switch_every
            .map(|every| now + every.mul_f64(0.5 + chance.fraction()));
        Self {
            player: Player::new(setting.habits.clone(), setting.url.clone()),
            setting,
            client,
            tally,
            chance,
            arrived: now,
            running: FuturesUnordered::new(),
            flights: Vec::new(),
            flights_made: 0,
            reloads: Vec::new(),
            open_at: Some(now),
            open_failures: 0,
            switch_at,
            shown: Shown::Waiting,
        }
    }

    /// Watches until the presentation ends or `stop` is cancelled.
    pub(crate) async fn watch(mut self, stop: CancellationToken) {
        self.tally.lock().viewers_arrived += 1;
        loop {
            self.make_requests();
            if self.player.is_over() && self.flights.is_empty() {
                self.tally.lock().viewers_finished += 1;
                break;
            }
            self.show();
            let wake = self.wake_at();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some((id, answer)) = self.running.next(), if !self.running.is_empty() => {
                    self.on_answer(id, answer);
                }
                () = tokio::time::sleep_until(wake.unwrap_or(self.arrived)), if wake.is_some() => {
                    self.on_time();
                }
            }
        }
        self.leave();
    }

    fn now(&self) -> Duration {
        self.arrived.elapsed()
    }

    /// Puts every request on the wire that is due.
    fn make_requests(&mut self) {
        let now = Instant::now();
        if self.open_at.is_some_and(|at| at <= now) {
            self.open_at = None;
            self.fly(What::Open, self.setting.url.clone(), false);
        }
        for slot in 0..self.player.slots() {
            let due = self
                .reloads
                .get_mut(slot)
                .and_then(|reload| reload.take_if(|(at, _)| *at <= now));
            if let Some((_, reload)) = due
                && let Some(location) = self.player.playlist_url(slot, reload.asks)
            {
                self.count_reload(&reload);
                self.fly(
                    What::Playlist { slot, reload },
                    location,
                    !reload.after.is_zero(),
                );
            }
            while let Some((media, location)) = {
                let in_flight = self.media_in_flight(slot);
                self.player.next_media(slot, now - self.arrived, in_flight)
            } {
                self.fly(What::Media { slot, media }, location, false);
            }
        }
    }

    fn media_in_flight(&self, slot: usize) -> usize {
        let is_it =
            |flight: &&Flight| matches!(flight.what, What::Media { slot: of, .. } if of == slot);
        self.flights.iter().filter(is_it).count()
    }

    fn count_reload(&self, reload: &Reload) {
        let mut tally = self.tally.lock();
        match reload.why {
            Why::Join | Why::TuneIn => {}
            Why::Next => tally.blocking_reloads += 1,
            Why::Poll => tally.polls += 1,
            Why::Recover => tally.recoveries += 1,
        }
        tally.delta_updates += u64::from(reload.asks.skip);
    }

    fn fly(&mut self, what: What, location: Location, was_late: bool) {
        let (range, keep, timeout) = match &what {
            What::Open | What::Playlist { .. } => {
                (None, Keep::Text, self.setting.timeouts.playlist)
            }
            What::Media { media, .. } => (
                media.resource.range,
                Keep::Nothing,
                self.setting.timeouts.media,
            ),
        };
        self.tally.lock().request(what.object());
        let get = Get {
            location,
            range,
            keep,
        };
        let client = Arc::clone(&self.client);
        let (fetch, abort) = abortable(async move {
            match tokio::time::timeout(timeout, client.fetch(&get)).await {
                Ok(Ok(got)) => Ok(got),
                Ok(Err(error)) => Err(FetchFailure::Fetch(error)),
                Err(_) => Err(FetchFailure::Timeout),
            }
        });
        let id = self.flights_made;
        self.flights_made += 1;
        let is_abortable = !matches!(what, What::Open);
        let abort_at = (is_abortable && self.chance.happens(self.setting.abort_probability))
            .then(|| Instant::now() + ABORT_WITHIN.mul_f64(self.chance.fraction()));
        self.flights.push(Flight {
            id,
            what,
            abort,
            abort_at,
            was_late,
        });
        self.running
            .push(Box::pin(async move { (id, fetch.await.ok()) }));
    }

    fn on_answer(&mut self, id: u64, answer: Answer) {
        // A request that was given up is no longer listed.
        let Some(at) = self.flights.iter().position(|flight| flight.id == id) else {
            return;
        };
        let flight = self.flights.swap_remove(at);
        let Some(answer) = answer else {
            return;
        };
        match &flight.what {
            What::Open => self.on_opened(answer),
            What::Playlist { slot, reload } => self.on_playlist(&flight, *slot, *reload, answer),
            What::Media { slot, media } => self.on_media(&flight, *slot, media, answer),
        }
    }

    fn plan(&mut self, slot: usize, reload: Option<Reload>) {
        if let Some(planned) = self.reloads.get_mut(slot) {
            *planned = reload.map(|reload| (Instant::now() + reload.after, reload));
        }
    }

    /// Cancels the requests that match, on the wire as well.
    fn give_up(&mut self, is_meant: impl Fn(&What) -> bool) -> Vec<What> {
        let mut given_up = Vec::new();
        self.flights.retain(|flight| {
            if !is_meant(&flight.what) {
                return true;
            }
            flight.abort.abort();
            given_up.push(flight.what.clone());
            false
        });
        self.tally.lock().aborted += given_up.len() as u64;
        given_up
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if self.switch_at.is_some_and(|at| at <= now) {
            self.switch(now);
        }
        let due: Vec<u64> = self
            .flights
            .iter_mut()
            .filter_map(|flight| flight.abort_at.take_if(|at| *at <= now).map(|_| flight.id))
            .collect();
        for id in due {
            let Some(at) = self.flights.iter().position(|flight| flight.id == id) else {
                continue;
            };
            let flight = self.flights.swap_remove(at);
            flight.abort.abort();
            self.tally.lock().aborted += 1;
            match flight.what {
                What::Open => self.open_at = Some(now),
                What::Playlist { slot, reload } => self.plan(slot, Some(reload)),
                What::Media { slot, media } => {
                    self.player.on_media_abort(slot, &media, now - self.arrived);
                }
            }
        }
    }

    fn switch(&mut self, now: Instant) {
        self.switch_at = self.setting.abr_switch_every.map(|every| now + every);
        let is_playing = !self.reloads.is_empty();
        let Some(reload) = self.player.switch(&mut self.chance).filter(|_| is_playing) else {
            return;
        };
        self.give_up(|what| match what {
            What::Open => false,
            What::Playlist { slot, .. } | What::Media { slot, .. } => *slot == 0,
        });
        self.tally.lock().switches += 1;
        self.plan(0, Some(reload));
    }

    /// When something is due that no answer announces.
    fn wake_at(&self) -> Option<Instant> {
        let now = self.now();
        let media = (0..self.player.slots())
            .filter_map(|slot| self.player.due_at(slot, now))
            .map(|at| self.arrived + at);
        let reloads = self.reloads.iter().flatten().map(|(at, _)| *at);
        let aborts = self.flights.iter().filter_map(|flight| flight.abort_at);
        let single = [self.open_at, self.switch_at].into_iter().flatten();
        media.chain(reloads).chain(aborts).chain(single).min()
    }

    /// Moves this viewer between the figures of the moment.
    fn show(&mut self) {
        let now = self.now();
        let buffer = self.player.buffer_mut();
        buffer.advance(now);
        let shown = if buffer.is_playing() {
            Shown::Playing
        } else if buffer.is_stalled() {
            Shown::Stalled
        } else {
            Shown::Waiting
        };
        if shown != self.shown {
            let mut tally = self.tally.lock();
            let one = |is: Shown, of: Shown| i64::from(is == of);
            tally.playing_now += one(shown, Shown::Playing) - one(self.shown, Shown::Playing);
            tally.stalled_now += one(shown, Shown::Stalled) - one(self.shown, Shown::Stalled);
            self.shown = shown;
        }
    }

    fn leave(mut self) {
        let now = self.now();
        let figures = self.player.buffer_mut().figures(now);
        let mut tally = self.tally.lock();
        tally.unfinished += self.flights.len() as u64;
        tally.jumps += self.player.jumps();
        tally.playing_now -= i64::from(self.shown == Shown::Playing);
        tally.stalled_now -= i64::from(self.shown == Shown::Stalled);
        tally.viewer(&figures);
    }
}

/// A chance abort comes within this time of the request.
const ABORT_WITHIN: Duration = Duration::from_millis(500);
