//! What is remembered of one request, and the one event when its last byte has left.
//!
//! A record travels with the exchange and then with the body. Whoever drops it last, at the clean end or
//! because the viewer left, makes it an event: nothing is counted twice, nothing is forgotten.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use media::Kind;
use media::cmcd::Cmcd;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::exchange::{Peer, Protocol};
use crate::node::Node;
use crate::request::{Request, Target};
use crate::respond::{Answer, CACHE_STATUS, Failure, Outcome};
use crate::streams::{Seen, Streams};
use crate::telemetry::{Ending, Event, FinishedRequest, Telemetry};

/// Where finished requests are counted.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) clock: Clock,
    pub(crate) streams: Arc<Streams>,
    pub(crate) telemetry: Arc<Telemetry>,
}

/// The record of one request.
#[derive(Debug)]
pub(crate) struct Record {
    books: Arc<Books>,
    peer: SocketAddr,
    protocol: Protocol,
    method: Method,
    asked: AskedFor,
    kind: Kind,
    started: Instant,
    first_byte: Option<Duration>,
    status: Option<StatusCode>,
    outcome: Outcome,
    failure: Option<Failure>,
    cache_status: Option<HeaderValue>,
    held: Duration,
    /// What the player says of itself.
    cmcd: Option<Cmcd>,
    /// Whether the request waits for a live version until it is answered.
    may_be_held: bool,
    body_bytes: u64,
    ending: Ending,
}

/// What a request was for, as far as that is known.
#[derive(Debug)]
enum AskedFor {
    /// It was refused, or not looked at yet.
    Sent(Uri),
    /// What it was admitted for.
    Admitted(Arc<Target>),
}

impl AskedFor {
    fn host(&self) -> &str {
        match self {
            Self::Sent(_) => "",
            Self::Admitted(target) => &target.host,
        }
    }

    fn path(&self) -> &str {
        match self {
            Self::Sent(uri) => uri.path(),
            Self::Admitted(target) => &target.path,
        }
    }

    fn query(&self) -> &str {
        match self {
            Self::Sent(uri) => uri.query().unwrap_or(""),
            Self::Admitted(target) => target.sent_query(),
        }
    }
}

impl Record {
    /// Opens the record of a request that has just arrived.
    pub(crate) fn open(node: &Node, peer: &Peer) -> Self {
        Self {
            books: node.books(),
            peer: peer.address,
            protocol: peer.protocol,
            method: Method::GET,
            asked: AskedFor::Sent(Uri::default()),
            kind: Kind::Other,
            started: Instant::now(),
            first_byte: None,
            status: None,
            outcome: Outcome::Failed,
            failure: None,
            cache_status: None,
            held: Duration::ZERO,
            cmcd: None,
            may_be_held: false,
            body_bytes: 0,
            // Until something better happens, the viewer has left.
            ending: Ending::ViewerLeft,
        }
    }

    /// Returns when the request arrived.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Notes what was asked for by what could not be admitted.
    pub(crate) fn refused(&mut self, method: Method, uri: Uri) {
        self.method = method;
        self.asked = AskedFor::Sent(uri);
    }

    /// Notes what was admitted.
    pub(crate) fn admitted(&mut self, request: &Request) {
        self.method.clone_from(&request.method);
        self.asked = AskedFor::Admitted(Arc::clone(&request.target));
    }

    /// Notes what an admitted request is for.
    pub(crate) fn planned(&mut self, request: &Request, kind: Kind) {
        self.kind = kind;
        self.cmcd = cmcd_of(request);
    }

    /// Notes that the request waits for a live version until it is answered.
    pub(crate) fn may_be_held(&mut self) {
        self.may_be_held = true;
    }

    /// Returns what the player says of itself, if it says anything.
    pub(crate) fn cmcd(&self) -> Option<&Cmcd> {
        self.cmcd.as_ref()
    }

    /// Returns whether the player reports how playing goes (CMCD).
    pub(crate) fn is_reporting(&self) -> bool {
        self.cmcd.is_some()
    }

    /// Notes why the request cannot be answered.
    pub(crate) fn failed(&mut self, failure: Failure) {
        self.failure = Some(failure);
    }

    /// Notes the head of the answer, `elapsed` after the request arrived.
    pub(crate) fn answered(&mut self, answer: &Answer, elapsed: Duration) {
        self.first_byte = Some(elapsed);
        self.status = Some(answer.status);
        self.outcome = answer.outcome;
        self.held = answer.held;
        if self.books.telemetry.logs_requests() {
            let members = answer.fields.get_all(CACHE_STATUS);
            self.cache_status = members.iter().next_back().cloned();
        }
    }

    /// Notes body bytes handed to the connection.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.body_bytes += bytes as u64;
    }

    /// Notes how the body ended.
    pub(crate) fn ended(&mut self, ending: Ending) {
        self.ending = ending;
    }

    /// Returns how long ago the request arrived.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let now = Instant::now();
        let duration = now.duration_since(self.started);
        // A viewer that left before its answer was held until now.
        let held = if self.status.is_none() && self.may_be_held {
            duration
        } else {
            self.held
        };
        // What was refused belongs to no presentation.
        if let AskedFor::Admitted(target) = &self.asked {
            let seen = Seen {
                presentation: target.presentation(),
                peer: self.peer.ip(),
                bytes: self.body_bytes,
                held,
                cmcd: self.cmcd.as_ref(),
            };
            let uptime = self.books.clock.uptime_at(now);
            self.books.streams.finished(&seen, uptime);
        }
        self.books
            .telemetry
            .record(Event::RequestFinished(FinishedRequest {
                peer: self.peer,
                protocol: self.protocol,
                method: &self.method,
                host: self.asked.host(),
                path: self.asked.path(),
                query: self.asked.query(),
                kind: self.kind,
                status: self.status,
                outcome: self.outcome,
                failure: self.failure,
                bytes: self.body_bytes,
                first_byte: self.first_byte.unwrap_or(duration),
                duration,
                held,
                ending: self.ending,
                cache_status: self.cache_status.as_ref().and_then(|v| v.to_str().ok()),
            }));
    }
}

/// HX-01: header fields, if there are any, are what counts; the query otherwise.
fn cmcd_of(request: &Request) -> Option<Cmcd> {
    let query = request.target.sent_query();
    let has_fields = |name: &HeaderName| name.as_str().starts_with("cmcd-");
    // Most requests have none: one look at the names instead of four lookups.
    if !request.fields.keys().any(has_fields) {
        return Cmcd::of_query(query);
    }
    let lines = CMCD_FIELDS
        .iter()
        .flat_map(|name| request.fields.get_all(name))
        .map(HeaderValue::as_bytes);
    let mut lines = lines.peekable();
    match lines.peek() {
        Some(_) => Cmcd::of_fields(lines),
        None => Cmcd::of_query(query),
    }
}

/// CTA-5004 2.1.
static CMCD_FIELDS: [HeaderName; 4] = [
    HeaderName::from_static("cmcd-request"),
    HeaderName::from_static("cmcd-object"),
    HeaderName::from_static("cmcd-status"),
    HeaderName::from_static("cmcd-session"),
];
