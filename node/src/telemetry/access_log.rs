//! The access log: one JSON line for each finished request.
//!
//! Lines go through a bounded queue to a thread of their own; when the writer cannot keep up, lines
//! are dropped and counted, and no request waits. Files are opened for appending, so `copytruncate`
//! rotation works.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::event::{Ending, FinishedRequest};
use super::labels::LabelValue;
use super::redact;
use crate::node::AccessLogConfig;

/// Where finished requests are written. Dropping it waits a moment for the queued lines.
pub struct AccessLog {
    lines: NonBlocking,
    dropped: ErrorCounter,
    one_in: u32,
    seen: AtomicU32,
    _flushes_on_drop: WorkerGuard,
}

/// Why the access log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file cannot be opened for appending.
    #[error("access log {path} cannot be opened", path = path.display())]
    Open {
        /// The configured file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl AccessLog {
    /// Opens the log that `config` describes.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened for appending.
    pub fn open(config: &AccessLogConfig) -> Result<Self, AccessLogError> {
        let Some(path) = &config.path else {
            return Ok(Self::to_writer(io::stdout(), config.one_in));
        };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|source| AccessLogError::Open {
                path: path.clone(),
                source,
            })?;
        Ok(Self::to_writer(file, config.one_in))
    }

    /// Creates a log that writes every `one_in`-th line to `writer`, from a thread of its own.
    pub fn to_writer(writer: impl Write + Send + 'static, one_in: u32) -> Self {
        let (lines, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES_QUEUED_MAX)
            .thread_name("access-log")
            .finish(writer);
        Self {
            dropped: lines.error_counter(),
            lines,
            one_in: one_in.max(1),
            seen: AtomicU32::new(0),
            _flushes_on_drop: guard,
        }
    }

    /// Writes a line, or not, as sampling says; returns whether it was handed to the writer.
    ///
    /// Requests that failed or ended early are always written.
    pub(super) fn write(&self, request: &FinishedRequest<'_>, now: SystemTime) -> bool {
        let Some(one_in) = self.sampled(request) else {
            return false;
        };
        let Ok(mut line) = serde_json::to_vec(&Line::of(request, now, one_in)) else {
            return false;
        };
        line.push(b'\n');
        self.lines.clone().write_all(&line).is_ok()
    }

    /// Returns how many lines were dropped because the writer could not keep up.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.dropped_lines() as u64
    }

    /// Returns for how many requests this one stands, if it is written at all.
    fn sampled(&self, request: &FinishedRequest<'_>) -> Option<u32> {
        let is_trouble = request.failure.is_some()
            || request.ending == Ending::BodyFailed
            || request
                .status
                .is_some_and(|status| status.is_server_error());
        if is_trouble {
            return Some(1);
        }
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        seen.is_multiple_of(self.one_in).then_some(self.one_in)
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog")
            .field("one_in", &self.one_in)
            .finish_non_exhaustive()
    }
}

/// One line. The order of the fields is the order in the log.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// When the request finished, RFC 3339 in UTC with milliseconds.
    time: String,
    peer: IpAddr,
    protocol: &'static str,
    method: &'a str,
    host: &'a str,
    path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    query: String,
    kind: &'static str,
    /// Absent when the viewer left before there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    bytes: u64,
    first_byte_ms: f64,
    duration_ms: f64,
    held_ms: f64,
    outcome: &'static str,
    ending: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_status: Option<&'a str>,
    /// For how many requests the line stands.
    one_in: u32,
}

impl<'a> Line<'a> {
    fn of(request: &FinishedRequest<'a>, now: SystemTime, one_in: u32) -> Self {
        Self {
            time: rfc_3339(now),
            peer: request.peer.ip().to_canonical(),
            protocol: request.protocol.text(),
            method: request.method.as_str(),
            host: request.host,
            path: redact::path(request.path),
            query: redact::query(request.query),
            kind: request.kind.text(),
            status: request.status.map(|status| status.as_u16()),
            bytes: request.bytes,
            first_byte_ms: milliseconds(request.first_byte),
            duration_ms: milliseconds(request.duration),
            held_ms: milliseconds(request.held),
            outcome: request.outcome.text(),
            ending: request.ending.text(),
            failure: request.failure.map(LabelValue::text),
            cache_status: request.cache_status,
            one_in,
        }
    }
}

/// Milliseconds with microsecond precision.
#[allow(
    clippy::cast_precision_loss,
    reason = "a request lasts less than 2^53 microseconds"
)]
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// Formats a time as RFC 3339 in UTC, e.g. `2026-11-22T18:06:00.250Z`.
fn rfc_3339(time: SystemTime) -> String {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (days, in_day) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (in_day / 3600, in_day / 60 % 60, in_day % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Returns year, month and day of the `days`-th day after 1970-01-01 in the Gregorian calendar.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let mut rest = days;
    // 400 years have the same number of days wherever they begin.
    year += rest / DAYS_IN_400_YEARS * 400;
    rest %= DAYS_IN_400_YEARS;
    while rest >= days_in_year(year) {
        rest -= days_in_year(year);
        year += 1;
    }
    let mut month = 1;
    while rest >= days_in_month(year, month) {
        rest -= days_in_month(year, month);
        month += 1;
    }
    (year, month, rest + 1)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

const DAYS_IN_400_YEARS: u64 = 146_097;

/// Lines that may wait for the writer; one more is dropped. About 16 MiB at 500 bytes a line.
const LINES_QUEUED_MAX: usize = 32_768;
