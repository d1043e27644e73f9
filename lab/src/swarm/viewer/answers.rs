//! What a viewer does with an answer: judge it, measure it, hand it to the player.

use std::error::Error;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::super::client::Got;
use super::super::content;
use super::super::measure::{ErrorKind, Object};
use super::super::track::{Media, Reload, Why};
use super::Viewer;
use super::flight::{FetchFailure, Flight, What};

impl Viewer {
    /// Counts the answer; returns it if it has a body to look at.
    fn judged(&self, what: &What, answer: Result<Got, FetchFailure>) -> Option<Got> {
        let mut tally = self.tally.lock();
        let got = match answer {
            Ok(got) => got,
            Err(FetchFailure::Timeout) => {
                tally.error(ErrorKind::Timeout, || {
                    format!("{}: no answer in time", what.name())
                });
                return None;
            }
            Err(FetchFailure::Fetch(error)) => {
                tally.error(ErrorKind::of_fetch(&error), || {
                    format!("{}: {}", what.name(), with_causes(&error))
                });
                return None;
            }
        };
        tally.answers += 1;
        tally.bytes += got.received.bytes;
        let status = got.head.status;
        if status != StatusCode::OK && status != StatusCode::PARTIAL_CONTENT {
            tally.error(ErrorKind::of_status(status), || {
                format!("{}: {status}", what.name())
            });
            return None;
        }
        Some(got)
    }

    pub(super) fn on_opened(&mut self, answer: Result<Got, FetchFailure>) {
        let since_arrival = self.now();
        let opened = self.judged(&What::Open, answer).and_then(|got| {
            let age = got.head.age.map(Duration::from_secs);
            let text = got.received.into_text(&got.head);
            let text = text.map_err(|e| e.to_string());
            let reloads = text.and_then(|text| {
                let opened = self
                    .player
                    .open(text.into(), age, since_arrival, &mut self.chance);
                opened.map_err(|e| e.to_string())
            });
            match reloads {
                Ok(reloads) => Some(reloads),
                Err(text) => {
                    let text = || format!("open: {text}");
                    self.tally.lock().error(ErrorKind::BadPlaylist, text);
                    None
                }
            }
        });
        let now = Instant::now();
        match opened {
            Some(reloads) => {
                let plan = |reload: Reload| (now + reload.after, reload);
                self.reloads = reloads.into_iter().map(|reload| reload.map(plan)).collect();
            }
            None => {
                self.open_failures = self.open_failures.saturating_add(1);
                self.open_at = Some(now + Duration::from_secs(self.open_failures.min(5).into()));
            }
        }
    }

    pub(super) fn on_playlist(
        &mut self,
        flight: &Flight,
        slot: usize,
        reload: Reload,
        answer: Result<Got, FetchFailure>,
    ) {
        let Some(got) = self.judged(&flight.what, answer) else {
            let next = self.player.on_playlist_failure(slot, reload.asks);
            self.plan(slot, next);
            return;
        };
        let age = got.head.age.map(Duration::from_secs);
        let published = got.head.published_micros;
        let last_byte = self.setting.wall.unix_micros(got.last_byte_at);
        let now = self.now();
        let text = got.received.into_text(&got.head).map_err(|e| e.to_string());
        let seen = text.and_then(|text| {
            let seen = self
                .player
                .on_playlist(slot, text.into(), reload.asks, age, now);
            seen.map_err(|e| e.to_string())
        });
        let seen = match seen {
            Ok(seen) => seen,
            Err(text) => {
                let mut tally = self.tally.lock();
                if reload.asks.skip {
                    tally.delta_misfits += 1;
                } else {
                    tally.error(ErrorKind::BadPlaylist, || format!("playlist: {text}"));
                }
                drop(tally);
                let next = self.player.on_playlist_failure(slot, reload.asks);
                self.plan(slot, next);
                return;
            }
        };
        let mut tally = self.tally.lock();
        tally.regressions += u64::from(seen.is_regression);
        tally.restarts += u64::from(seen.is_restart);
        tally.unsatisfied_reloads += u64::from(seen.is_unsatisfied);
        let is_live = reload.why == Why::Next && !flight.was_late && !seen.is_unsatisfied;
        if let Some(published) = published.filter(|at| is_live && *at >= self.setting.timed_from) {
            tally.added_latency(Object::Playlist, published, last_byte);
        }
        drop(tally);
        if let Some(position) = seen.withdrawn {
            self.tally.lock().withdrawn_hints += 1;
            self.give_up(|what| {
                matches!(what, What::Media { slot: of, media } if *of == slot
                    && media.is_hinted && media.position == position)
            });
        }
        self.plan(slot, seen.reload);
    }

    pub(super) fn on_media(
        &mut self,
        flight: &Flight,
        slot: usize,
        media: &Media,
        answer: Result<Got, FetchFailure>,
    ) {
        let now = self.now();
        let got =
            self.judged(&flight.what, answer)
                .and_then(|got| match content::check(media, &got) {
                    Ok(()) => Some(got),
                    Err(wrong) => {
                        let text = || format!("{}: {wrong}", flight.what.name());
                        self.tally.lock().error(ErrorKind::BadContent, text);
                        None
                    }
                });
        let Some(got) = got else {
            let is_gap = self.player.on_media_failure(slot, media, now);
            self.tally.lock().gaps += u64::from(is_gap);
            return;
        };
        let is_timed = |at: &i64| media.is_at_edge && *at >= self.setting.timed_from;
        if let Some(published) = got.head.published_micros.filter(is_timed) {
            let last_byte = self.setting.wall.unix_micros(got.last_byte_at);
            self.tally
                .lock()
                .added_latency(Object::Part, published, last_byte);
        }
        self.player.on_media(slot, media, now);
    }
}

/// The error with what caused it: all a person will see of it.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
