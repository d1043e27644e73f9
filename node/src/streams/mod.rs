//! What happens per presentation: viewers, bytes in and out, offload, holds, and what players report.
//!
//! A presentation is a host and the first segment of a path, as parents are chosen by
//! ([`request::affinity_of`](crate::request::affinity_of)). One is known from the first playlist or
//! manifest that the origin has served below it; what is asked before, or invented by a viewer, counts
//! for `others`. So the number of label values is the origin's doing and bounded all the same.
//!
//! Who calls it: the record of each finished request, fills and chains. Who reads it: the private
//! listener's `/streams`, and Prometheus.

mod viewers;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use media::cmcd::Cmcd;
use moka::sync::Cache;
use parking_lot::Mutex;
use serde::Serialize;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::live::Rendition;
use crate::request::{first_segment, presentation_of};
use crate::telemetry::{self, StreamHandles, Telemetry};
use viewers::Viewers;

/// The presentations of a node.
#[derive(Debug)]
pub(crate) struct Streams {
    /// By `presentation_of`; replaced as a whole when one more is known.
    known: ArcSwap<HashMap<u64, Arc<Stream>>>,
    others: Arc<Stream>,
    /// When each playback session was first seen, and whether it plays already.
    sessions: Cache<u64, Arc<Mutex<Session>>>,
    learning: Mutex<()>,
}

#[derive(Debug)]
struct Stream {
    host: String,
    /// The first segment of the path, without credentials.
    name: String,
    viewers: Viewers,
    figures: StreamHandles,
}

#[derive(Debug)]
struct Session {
    began: Duration,
    is_playing: bool,
}

/// What is remembered of a finished request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    /// The presentation asked for, as `presentation_of`.
    pub(crate) presentation: u64,
    /// Where the viewer is.
    pub(crate) peer: IpAddr,
    /// Body bytes sent.
    pub(crate) bytes: u64,
    /// How long the request was held.
    pub(crate) held: Duration,
    /// What the player said of itself.
    pub(crate) cmcd: Option<&'a Cmcd>,
}

impl Streams {
    /// Returns a registry that knows none yet.
    pub(crate) fn new(telemetry: &Telemetry) -> Self {
        let others = Stream {
            host: String::new(),
            name: OTHERS.to_owned(),
            viewers: Viewers::default(),
            figures: telemetry.stream(OTHERS),
        };
        Self {
            known: ArcSwap::default(),
            others: Arc::new(others),
            sessions: Cache::builder()
                .max_capacity(SESSIONS_MAX)
                .time_to_idle(SESSION_IDLE)
                .build(),
            learning: Mutex::new(()),
        }
    }

    /// Remembers that the origin has a presentation here.
    pub(crate) fn learn(&self, telemetry: &Telemetry, host: &str, path: &str) {
        let hash = presentation_of(host, path);
        if self.known.load().contains_key(&hash) {
            return;
        }
        let _learning = self.learning.lock();
        let known = self.known.load();
        if known.contains_key(&hash) || known.len() >= STREAMS_MAX {
            return;
        }
        let name = telemetry::path_without_secrets(first_segment(path));
        let mut more = HashMap::clone(&known);
        let stream = Stream {
            figures: telemetry.stream(&format!("{host}/{name}")),
            host: host.to_owned(),
            name,
            viewers: Viewers::default(),
        };
        more.insert(hash, Arc::new(stream));
        self.known.store(Arc::new(more));
    }

    /// Counts a finished request.
    pub(crate) fn finished(&self, seen: &Seen<'_>, uptime: Duration) {
        let known = self.known.load();
        let stream = known.get(&seen.presentation).unwrap_or(&self.others);
        let figures = &stream.figures;
        figures.requests.add(1);
        figures.viewer_bytes.add(seen.bytes);
        if !seen.held.is_zero() {
            figures.hold.record(seen.held);
            figures.held.add(1);
        }
        let session = seen.cmcd.and_then(|cmcd| cmcd.session.as_deref());
        stream.viewers.seen(viewer_of(session, seen.peer), uptime);
        if let Some(cmcd) = seen.cmcd {
            self.reported(stream, cmcd, uptime);
        }
    }

    /// Adds up what a player says (HX-01).
    fn reported(&self, stream: &Stream, cmcd: &Cmcd, uptime: Duration) {
        let figures = &stream.figures;
        figures.reports.add(1);
        if cmcd.is_starved {
            figures.starved.add(1);
        }
        if let Some(buffer) = cmcd.buffer {
            figures.buffer.record(buffer);
        }
        if let Some(kbps) = cmcd.throughput_kbps {
            figures.throughput.record(bits_per_second(kbps));
        }
        let Some(session) = &cmcd.session else { return };
        let session = self
            .sessions
            .get_with(session_of(&stream.host, session), || {
                Arc::new(Mutex::new(Session {
                    began: uptime,
                    is_playing: false,
                }))
            });
        let mut session = session.lock();
        // The first request for more than the initial buffer: what was asked until then was start-up.
        if !cmcd.is_startup && !session.is_playing && cmcd.buffer.is_some_and(|b| !b.is_zero()) {
            session.is_playing = true;
            figures.startup.record(uptime.saturating_sub(session.began));
        }
    }

    /// Counts a request to a parent.
    pub(crate) fn forwarded(&self, host: &str, target: &str) {
        self.with(host, target, |figures| figures.forward_requests.add(1));
    }

    /// Counts an object that a parent sent whole.
    pub(crate) fn filled(&self, host: &str, target: &str, bytes: u64) {
        self.with(host, target, |figures| {
            figures.objects.add(1);
            figures.parent_bytes.add(bytes);
        });
    }

    fn with(&self, host: &str, target: &str, count: impl FnOnce(&StreamHandles)) {
        let path = target.split('?').next().unwrap_or(target);
        let hash = presentation_of(host, path);
        let known = self.known.load();
        count(&known.get(&hash).unwrap_or(&self.others).figures);
    }

    /// Returns what is known of each presentation at `uptime`, most viewers first, and shows the
    /// viewers to Prometheus.
    pub(crate) fn report(&self, renditions: &[Arc<Rendition>], uptime: Duration) -> Vec<Report> {
        let known = self.known.load();
        let all = known.values().chain([&self.others]);
        let mut reports: Vec<_> = all
            .map(|stream| stream.report(renditions, uptime))
            .collect();
        reports.sort_by_key(|report| std::cmp::Reverse(report.viewers));
        reports
    }
}

impl Stream {
    fn report(&self, renditions: &[Arc<Rendition>], uptime: Duration) -> Report {
        let figures = &self.figures;
        let viewers = self.viewers.count(uptime);
        figures.viewers.set(viewers as f64);
        let (requests, forwarded) = (figures.requests.value(), figures.forward_requests.value());
        let of_this = |rendition: &&Arc<Rendition>| {
            let address = &rendition.address;
            address.host == self.host
                && telemetry::path_without_secrets(first_segment(&address.path)) == self.name
        };
        let lags: Vec<Lag> = renditions
            .iter()
            .filter(of_this)
            .filter_map(|rendition| lag_of(rendition, uptime))
            .collect();
        Report {
            host: self.host.clone(),
            name: self.name.clone(),
            viewers,
            requests,
            forward_requests: forwarded,
            offload: share(requests.saturating_sub(forwarded), requests),
            objects: figures.objects.value(),
            forward_requests_per_object: share(forwarded, figures.objects.value()),
            viewer_bytes: figures.viewer_bytes.value(),
            parent_bytes: figures.parent_bytes.value(),
            held: figures.held.value(),
            reports: figures.reports.value(),
            rebuffer_ratio: share(figures.starved.value(), figures.reports.value()),
            lag: lags.into_iter().max_by_key(|lag| lag.milliseconds),
        }
    }
}

/// A presentation at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The host.
    pub host: String,
    /// The first segment of its paths.
    pub name: String,
    /// Distinct viewers in the last half minute.
    pub viewers: usize,
    /// Finished requests of viewers.
    pub requests: u64,
    /// Requests to parents.
    pub forward_requests: u64,
    /// The share of requests that no parent saw; `None` before the first.
    pub offload: Option<f64>,
    /// Objects that parents sent.
    pub objects: u64,
    /// Requests to parents per object.
    pub forward_requests_per_object: Option<f64>,
    /// Body bytes to viewers.
    pub viewer_bytes: u64,
    /// Body bytes from parents.
    pub parent_bytes: u64,
    /// Requests that were held on purpose.
    pub held: u64,
    /// Requests with CMCD.
    pub reports: u64,
    /// The share of them that report an empty buffer.
    pub rebuffer_ratio: Option<f64>,
    /// The live rendition that is furthest behind, if any is followed.
    pub lag: Option<Lag>,
}

/// How far the newest version of a live rendition is behind its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// Its age, in milliseconds.
    pub milliseconds: u64,
    /// The parts that fit into that time; `None` without parts.
    pub parts: Option<u64>,
}

fn lag_of(rendition: &Rendition, uptime: Duration) -> Option<Lag> {
    let version = rendition.version()?;
    let age = version.age(uptime).as_millis();
    let part = version.playlist.part_target().map(|part| part.as_millis());
    Some(Lag {
        milliseconds: u64::try_from(age).unwrap_or(u64::MAX),
        parts: part.and_then(|part| u64::try_from(age.checked_div(part)?).ok()),
    })
}

fn session_of(host: &str, session: &str) -> u64 {
    xxh3_64_with_seed(session.as_bytes(), xxh3_64(host.as_bytes()))
}

/// A viewer is its session, or else its address: behind one address several count as one.
fn viewer_of(session: Option<&str>, peer: IpAddr) -> u64 {
    match (session, peer) {
        (Some(session), _) => xxh3_64(session.as_bytes()),
        (None, IpAddr::V4(address)) => xxh3_64(&address.octets()),
        (None, IpAddr::V6(address)) => xxh3_64(&address.octets()),
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[allow(clippy::cast_precision_loss, reason = "rates stay below 2^53")]
fn bits_per_second(kbps: u64) -> f64 {
    kbps.saturating_mul(1000) as f64
}

/// What does not belong to a known presentation is counted under this name.
const OTHERS: &str = "others";

/// Presentations with figures of their own; the next ones count for the others.
const STREAMS_MAX: usize = 500;

const SESSIONS_MAX: u64 = 200_000;

/// A player that pauses keeps its session; one that left is forgotten.
const SESSION_IDLE: Duration = Duration::from_secs(120);
