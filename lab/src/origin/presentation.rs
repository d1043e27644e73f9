//! The presentation at this moment: what exists, in bytes and in text.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::counts::{Counts, Ledger};
use super::fault::{Action, Fault, Faults};
use super::hls::{HlsTrack, PartFacts};
use super::timeline::{PartId, Timeline};
use super::{OriginConfig, wall};
use crate::media::{MediaError, Track, pad_to};

/// A live origin.
#[derive(Debug)]
pub struct Origin {
    pub(crate) config: OriginConfig,
    pub(crate) tracks: Vec<Track>,
    pub(crate) timeline: Timeline,
    pub(crate) ledger: Ledger,
    state: Mutex<State>,
    fragments: Mutex<Fragments>,
}

#[derive(Debug)]
struct State {
    faults: Faults,
    started: Instant,
    /// Where on the timeline, and when by the wall clock, `zero` is.
    zero: Instant,
    zero_wall: SystemTime,
    zero_at: Duration,
    is_ended: bool,
}

/// Why an origin cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// A duration or count outside what is allowed.
    #[error("{what} is {value}, allowed is {allowed}")]
    OutOfRange {
        /// Which setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A rendition that does not exist.
    #[error("there is no rendition `{0}`; there are v0, v1, v2 and a0")]
    NoSuchRendition(String),
    /// The bundled media cannot be read.
    #[error("the bundled media cannot be read")]
    Media(#[from] MediaError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address or stop what uses it")]
    Bind {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Origin {
    /// Makes an origin whose presentation begins now.
    ///
    /// # Errors
    ///
    /// Settings outside what is allowed, or media that cannot be read.
    pub fn new(config: OriginConfig) -> Result<Self, OriginError> {
        check(&config)?;
        let mut tracks = Track::bundled()?;
        if !config.renditions.is_empty() {
            tracks.retain(|track| config.renditions.iter().any(|name| name == track.name()));
        }
        let timeline = Timeline {
            part: config.part,
            segment: config.segment,
            window: config.window,
        };
        let mut faults = Faults::default();
        config
            .faults
            .iter()
            .cloned()
            .for_each(|fault| faults.add(fault));
        let now = Instant::now();
        let state = State {
            faults,
            started: now,
            zero: now,
            zero_wall: config.start.unwrap_or_else(machine_wall),
            zero_at: timeline.lead(),
            is_ended: false,
        };
        Ok(Self {
            config,
            tracks,
            timeline,
            ledger: Ledger::default(),
            state: Mutex::new(state),
            fragments: Mutex::default(),
        })
    }

    /// Returns the requests per object so far.
    pub fn counts(&self) -> Counts {
        self.ledger.counts()
    }

    /// Returns how often exactly this path and query was asked for.
    pub fn requests_for(&self, url: &str) -> u64 {
        self.ledger.requests_for(url)
    }

    /// Forgets the requests so far.
    pub fn reset_counts(&self) {
        self.ledger.reset();
    }

    /// Lets something go wrong from now on.
    pub fn add_fault(&self, fault: Fault) {
        self.state.lock().faults.add(fault);
    }

    /// Lets nothing go wrong any more.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// Begins again with Media Sequence Number 0 and the same names, as a restarted encoder does.
    pub fn restart(&self) {
        let mut state = self.state.lock();
        let since_zero = state.zero.elapsed();
        state.zero_wall += since_zero;
        state.zero = Instant::now();
        // One segment, so that the first playlist is not empty.
        state.zero_at = self.timeline.segment;
        state.is_ended = false;
        drop(state);
        self.fragments.lock().clear();
    }

    /// Ends the stream: ENDLIST in every live playlist.
    pub fn end(&self) {
        self.state.lock().is_ended = true;
    }

    /// Returns the part that is published next, and when.
    pub fn next_part(&self) -> (PartId, SystemTime) {
        let next = self.timeline.unpublished_at(self.at());
        (next, self.wall_of(self.timeline.part_span(next).1))
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.state.lock().is_ended
    }

    /// Takes the faults that a request for `path` meets, and carries out those that stay.
    pub(crate) fn meet_faults(&self, path: &str) -> Vec<Action> {
        let met = {
            let mut state = self.state.lock();
            let since = state.started.elapsed();
            state.faults.take(path, since)
        };
        for action in &met {
            match action {
                Action::Restart => self.restart(),
                Action::EndList => self.end(),
                _ => {}
            }
        }
        met
    }

    /// Returns where on the timeline it is now.
    pub(crate) fn at(&self) -> Duration {
        let state = self.state.lock();
        state.zero_at + state.zero.elapsed()
    }

    /// Returns the instant at which the timeline reaches `at`.
    pub(crate) fn instant_of(&self, at: Duration) -> Instant {
        let state = self.state.lock();
        state.zero + at.saturating_sub(state.zero_at)
    }

    /// Returns the wall time at which the timeline reaches `at`.
    pub(crate) fn wall_of(&self, at: Duration) -> SystemTime {
        self.epoch() + at
    }

    /// Returns the wall time of the timeline's beginning.
    pub(crate) fn epoch(&self) -> SystemTime {
        let state = self.state.lock();
        state.zero_wall - state.zero_at
    }

    /// Returns the wall time now.
    pub(crate) fn now(&self) -> SystemTime {
        let state = self.state.lock();
        state.zero_wall + state.zero.elapsed()
    }

    pub(crate) fn published_field(&self, at: Duration) -> String {
        wall::unix_milliseconds(self.wall_of(at))
    }

    pub(crate) fn track_names(&self) -> Vec<&str> {
        self.tracks.iter().map(Track::name).collect()
    }

    /// Returns the bytes of a part.
    pub(crate) fn part_bytes(&self, track: usize, id: PartId) -> Bytes {
        if let Some(bytes) = self.fragments.lock().get(&(track, id)) {
            return bytes;
        }
        let (from, to) = self.timeline.part_span(id);
        let number = id
            .msn
            .wrapping_mul(self.timeline.parts_per_segment())
            .wrapping_add(id.part);
        // `mfhd` counts in 32 bits and may wrap.
        let sequence = u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0);
        let track_of = self.tracks.get(track);
        let fragment = track_of.and_then(|track| track.fragment(from, to, sequence));
        let mut bytes = fragment.unwrap_or_default();
        if let Some(size) = self.config.pad_parts_to {
            bytes = pad_to(bytes, size);
        }
        self.fragments.lock().keep((track, id), bytes.clone());
        bytes
    }

    /// Returns the bytes of a whole segment: those of its parts.
    pub(crate) fn segment_bytes(&self, track: usize, msn: u64) -> Bytes {
        let parts = (0..self.timeline.parts_per_segment())
            .map(|part| self.part_bytes(track, PartId { msn, part }));
        let mut bytes = BytesMut::new();
        parts.for_each(|part| bytes.extend_from_slice(&part));
        bytes.freeze()
    }

    pub(crate) fn part_facts(&self, track: usize, id: PartId, with_bytes: bool) -> PartFacts {
        let (from, to) = self.timeline.part_span(id);
        let (duration, is_independent) =
            self.tracks.get(track).map_or((to - from, true), |track| {
                (
                    track.fragment_duration(from, to),
                    track.starts_with_sync(from, to),
                )
            });
        let size = |part| self.part_bytes(track, PartId { msn: id.msn, part }).len() as u64;
        let (bytes, offset) = if with_bytes {
            (size(id.part), (0..id.part).map(size).sum())
        } else {
            (0, 0)
        };
        PartFacts {
            duration,
            is_independent,
            bytes,
            offset,
        }
    }

    pub(crate) fn segment_duration(&self, track: usize, msn: u64) -> Duration {
        let (from, to) = self.timeline.segment_span(msn);
        self.tracks
            .get(track)
            .map_or(to - from, |track| track.fragment_duration(from, to))
    }

    /// Returns the longest a part of `track` can be: audio frames do not fit part durations exactly.
    pub(crate) fn part_target(&self, track: usize) -> Duration {
        let is_audio = self.tracks.get(track).is_some_and(Track::is_audio);
        if is_audio {
            self.timeline.part + AUDIO_FRAME
        } else {
            self.timeline.part
        }
    }

    pub(crate) fn hls_tracks(&self) -> Vec<HlsTrack<'_>> {
        let describe = |track| HlsTrack {
            name: Track::name(track),
            codec: track.codec(),
            is_audio: track.is_audio(),
            resolution: track.resolution(),
            frame_rate: track.frame_rate(),
            bandwidth: track.bandwidth(),
        };
        self.tracks.iter().map(describe).collect()
    }

    /// Returns how many whole segments one loop has.
    pub(crate) fn loop_segments(&self) -> u64 {
        let loops = self
            .tracks
            .first()
            .map_or(Duration::ZERO, Track::loop_duration);
        u64::try_from(loops.as_nanos() / self.timeline.segment.as_nanos()).unwrap_or(0)
    }
}

fn check(config: &OriginConfig) -> Result<(), OriginError> {
    let refused = |what, value: String, allowed| {
        Err(OriginError::OutOfRange {
            what,
            value,
            allowed,
        })
    };
    if !(Duration::from_millis(100)..=Duration::from_secs(2)).contains(&config.part) {
        return refused(
            "the part duration",
            format!("{:?}", config.part),
            "100 ms to 2 s",
        );
    }
    let seconds = config.segment.as_secs();
    if config.segment.subsec_nanos() != 0 || !(1..=6).contains(&seconds) {
        return refused(
            "the segment duration",
            format!("{:?}", config.segment),
            "1 to 6 whole seconds",
        );
    }
    if config.part > config.segment {
        return refused(
            "the part duration",
            format!("{:?}", config.part),
            "at most a segment",
        );
    }
    if !(6..=3600).contains(&config.window) {
        return refused(
            "the window",
            config.window.to_string(),
            "6 to 3600 segments",
        );
    }
    if config
        .pad_parts_to
        .is_some_and(|bytes| bytes > 4 * 1024 * 1024)
    {
        return refused(
            "the padded part size",
            format!("{:?}", config.pad_parts_to),
            "at most 4 MiB",
        );
    }
    match config
        .renditions
        .iter()
        .find(|name| !["v0", "v1", "v2", "a0"].contains(&name.as_str()))
    {
        Some(name) => Err(OriginError::NoSuchRendition(name.clone())),
        None => Ok(()),
    }
}

/// Parts made lately, so that a part that a thousand viewers ask for is made once.
#[derive(Debug, Default)]
struct Fragments {
    bytes_by_part: HashMap<(usize, PartId), Bytes>,
    order: VecDeque<(usize, PartId)>,
}

impl Fragments {
    fn get(&self, key: &(usize, PartId)) -> Option<Bytes> {
        self.bytes_by_part.get(key).cloned()
    }

    fn keep(&mut self, key: (usize, PartId), bytes: Bytes) {
        if self.bytes_by_part.insert(key, bytes).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > FRAGMENTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes_by_part.remove(&oldest);
        }
    }

    fn clear(&mut self) {
        self.bytes_by_part.clear();
        self.order.clear();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an origin states wall times; tests give their own"
)]
fn machine_wall() -> SystemTime {
    SystemTime::now()
}

/// Parts kept: a window of 200 ms parts of four renditions.
const FRAGMENTS_MAX: usize = 1024;

/// One AAC frame of 1024 samples at 48 kHz, rounded up.
const AUDIO_FRAME: Duration = Duration::from_micros(21_334);
