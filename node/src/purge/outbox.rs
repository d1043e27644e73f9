//! Reports on their way up: this node's own, and those of nodes below it.
//!
//! Who calls it: the follower adds what it applied, children's reports are passed on. One request at a time
//! carries all that came meanwhile. A report that is lost costs a detail, not the fact: `through` is said
//! again every [`REPORT_EVERY`]. Deliberately not here: what the log does with a report.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use parking_lot::Mutex;
use purge_log::feed::{LINES_MAX, Position, REPORTS_MAX, REPORTS_PATH, Refused, write_reports};
use purge_log::{Applied, NodeName, Report};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use super::follow::{Backoff, FEED_HOST, FIRST_BYTE_TIMEOUT};
use crate::interim::InterimSink;
use crate::upstream::{Class, ForwardRequest, ForwardResponse, ParentId, Upstream};

/// Reports that wait to be sent.
#[derive(Debug)]
pub(super) struct Outbox {
    node: NodeName,
    nodes_max: usize,
    state: Mutex<State>,
    /// Rung when there is something new.
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    position: Option<Position>,
    /// What is not reported yet of this node's own.
    own: Vec<Applied>,
    /// The reports of nodes below, by name.
    below: BTreeMap<NodeName, Held>,
    /// Lines of all of them.
    lines: usize,
}

/// A report that is kept for a moment.
#[derive(Clone, Debug)]
struct Held {
    report: Report,
    since: Instant,
}

impl Outbox {
    pub(super) fn new(node: NodeName, nodes_max: usize) -> Self {
        Self {
            node,
            nodes_max,
            state: Mutex::default(),
            news: Notify::new(),
        }
    }

    /// Adds a purge that this node applied. It is sent with the next [`Outbox::advance`].
    pub(super) fn add(&self, applied: Applied) {
        let mut state = self.state.lock();
        if state.lines < LINES_HELD_MAX {
            state.own.push(applied);
            state.lines += 1;
        }
    }

    /// Notes how far this node is.
    pub(super) fn advance(&self, position: Position) {
        let mut state = self.state.lock();
        if state.position == Some(position) {
            return;
        }
        if state
            .position
            .is_some_and(|known| known.log != position.log)
        {
            let void = std::mem::take(&mut state.own);
            state.lines -= void.len();
        }
        state.position = Some(position);
        drop(state);
        self.news.notify_one();
    }

    /// Takes reports of nodes below.
    pub(super) fn pass_on(&self, reports: Vec<Report>, now: Instant) -> Result<(), Refused> {
        let mut refused = Ok(());
        let mut state = self.state.lock();
        for report in reports {
            if !state.hold(report, now, self.nodes_max) {
                refused = Err(Refused {
                    nodes_max: self.nodes_max,
                });
            }
        }
        drop(state);
        self.news.notify_one();
        refused
    }

    /// Takes out what fits into one request; none before the first connection.
    fn take(&self, now: Instant) -> Vec<Report> {
        let mut state = self.state.lock();
        let Some(Position { log, applied }) = state.position else {
            return Vec::new();
        };
        let count = state.own.len().min(LINES_MAX);
        let own: Vec<_> = state.own.drain(..count).collect();
        let mut lines = own.len();
        let mut reports = vec![Report {
            node: self.node.clone(),
            log,
            through: applied,
            age_ms: 0,
            applied: own,
        }];
        while reports.len() < REPORTS_MAX {
            let Some(next) = state.below.first_entry() else {
                break;
            };
            let more = next.get().report.applied.len();
            if lines + more > LINES_MAX {
                break;
            }
            lines += more;
            let Held { mut report, since } = next.remove();
            let held = now.saturating_duration_since(since).as_millis();
            let held = u64::try_from(held).unwrap_or(u64::MAX);
            report.age_ms = report.age_ms.saturating_add(held);
            reports.push(report);
        }
        state.lines -= lines;
        // What did not fit goes next.
        let is_done = state.own.is_empty() && state.below.is_empty();
        drop(state);
        if !is_done {
            self.news.notify_one();
        }
        reports
    }

    /// Puts back what could not be sent.
    fn put_back(&self, reports: Vec<Report>, now: Instant) {
        let mut state = self.state.lock();
        for report in reports {
            if report.node != self.node {
                state.hold(report, now, self.nodes_max);
                continue;
            }
            let is_void = state.position.is_none_or(|p| p.log != report.log);
            let room = LINES_HELD_MAX.saturating_sub(state.lines);
            if !is_void && report.applied.len() <= room {
                state.lines += report.applied.len();
                state.own.splice(0..0, report.applied);
            }
        }
    }
}

impl State {
    /// Keeps a report, with what is kept of the same node; returns whether there was room for its name.
    fn hold(&mut self, mut report: Report, now: Instant, nodes_max: usize) -> bool {
        let Some(held) = self.below.get_mut(&report.node) else {
            if self.below.len() >= nodes_max {
                return false;
            }
            self.lines += clip(
                &mut report,
                LINES_MAX.min(LINES_HELD_MAX.saturating_sub(self.lines)),
            );
            let node = report.node.clone();
            self.below.insert(node, Held { report, since: now });
            return true;
        };
        if held.report.log != report.log {
            self.lines -= std::mem::take(&mut held.report.applied).len();
            held.report.log = report.log;
            held.report.through = report.through;
        }
        let room = LINES_HELD_MAX.saturating_sub(self.lines);
        let room = room.min(LINES_MAX.saturating_sub(held.report.applied.len()));
        self.lines += clip(&mut report, room);
        held.report.applied.append(&mut report.applied);
        held.report.through = held.report.through.max(report.through);
        // The younger age: a purge must never look faster than it was.
        held.report.age_ms = report.age_ms;
        held.since = now;
        true
    }
}

/// Keeps at most `room` lines of a report; returns how many.
fn clip(report: &mut Report, room: usize) -> usize {
    report.applied.truncate(room);
    report.applied.len()
}

/// Sends reports for ever.
pub(super) async fn send(shared: Arc<Shared>, parents: Upstream) {
    let mut backoff = Backoff::new(&shared.config);
    let outbox = &shared.outbox;
    let mut avoid = None;
    loop {
        // Silence is said, too: who says nothing for long is taken for gone.
        timeout(REPORT_EVERY, outbox.news.notified()).await.ok();
        let reports = outbox.take(Instant::now());
        if reports.is_empty() {
            continue;
        }
        let answer = parents.fetch(&request(&reports, avoid)).await;
        let is_taken = |answer: &ForwardResponse| answer.head.status.is_success();
        // A parent that is cut off from the log takes none; another may.
        avoid = match &answer {
            Ok(answer) if is_taken(answer) => None,
            Ok(answer) => Some(answer.parent),
            Err(_) => avoid,
        };
        match answer {
            Ok(answer) if is_taken(&answer) => backoff.reset(),
            Ok(answer) if is_final(answer.head.status) => {
                let status = answer.head.status;
                tracing::warn!(%status, "the parent refuses reports of purges");
                sleep(backoff.next()).await;
            }
            Ok(_) | Err(_) => {
                outbox.put_back(reports, Instant::now());
                sleep(backoff.next()).await;
                outbox.news.notify_one();
            }
        }
    }
}

/// Returns whether the same report would be refused again.
fn is_final(status: StatusCode) -> bool {
    status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS
}

fn request(reports: &[Report], avoid: Option<ParentId>) -> ForwardRequest {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    ForwardRequest {
        method: Method::POST,
        host: FEED_HOST.to_owned(),
        path_and_query: REPORTS_PATH.to_owned(),
        headers,
        body: Bytes::from(write_reports(reports)),
        affinity: FEED_HOST.to_owned(),
        class: Class::Bulk,
        first_byte_timeout: FIRST_BYTE_TIMEOUT,
        interim: InterimSink::default(),
        avoid,
    }
}

/// Time between reports when there is nothing new.
pub(super) const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Lines that wait at once; what comes beyond is said by `through` only.
const LINES_HELD_MAX: usize = 4 * LINES_MAX;
