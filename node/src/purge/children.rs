//! Serving the feed on, to nodes below this one.
//!
//! Who calls it: the follower adds what it applied; the listener for children (`listen`) answers with
//! [`Children::answer`]. Deliberately not here: who may ask; that is the listener's mutual TLS.
//!
//! Invariant: an entry is here only after this node applied it, so that a child which asks for what it
//! applied finds a parent that is as far.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use parking_lot::Mutex;
use purge_log::feed::{
    CONTENT_TYPE, FEED_PATH, Log, Missing, Position, REPORTS_PATH, Refused, Subscription,
    read_reports, stream,
};
use purge_log::{Bounds, Entry, Report, Sequence, Window};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::outbox::Outbox;
use super::standing::Standing;

/// The body of an answer to a child.
pub type FeedBody = UnsyncBoxBody<Bytes, Infallible>;

/// What children of this node follow. Cheap to clone.
#[derive(Clone)]
pub struct Children {
    window: Arc<Mutex<Window>>,
    bounds: watch::Sender<Bounds>,
    standing: watch::Receiver<Standing>,
    outbox: Arc<Outbox>,
    /// A permit per open feed.
    open: Arc<Semaphore>,
    children_max: usize,
}

impl fmt::Debug for Children {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Children")
            .field("bounds", &*self.bounds.borrow())
            .finish_non_exhaustive()
    }
}

impl Children {
    pub(super) fn new(
        position: Position,
        entries_max: usize,
        children_max: usize,
        standing: watch::Receiver<Standing>,
        outbox: Arc<Outbox>,
    ) -> Self {
        let window = Window::new(position.log, position.applied, entries_max);
        Self {
            bounds: watch::Sender::new(window.bounds()),
            window: Arc::new(Mutex::new(window)),
            standing,
            outbox,
            open: Arc::new(Semaphore::new(children_max)),
            children_max,
        }
    }

    /// Returns how many children follow right now.
    pub fn following(&self) -> usize {
        self.children_max
            .saturating_sub(self.open.available_permits())
    }

    /// Adds an entry that this node has applied.
    pub(super) fn push(&self, entry: Entry) {
        let mut window = self.window.lock();
        let (log, sequence) = (entry.id.log, entry.sequence);
        if window.push(Arc::new(entry)).is_err() {
            // Cannot be, as the cursor leaves none out; if ever, children are told that they missed something.
            window.begin_anew(log, sequence);
        }
        self.bounds.send_replace(window.bounds());
    }

    /// Goes on from `position`; children that are not as far are reset.
    pub(super) fn reset(&self, position: Position) {
        let mut window = self.window.lock();
        window.begin_anew(position.log, position.applied);
        self.bounds.send_replace(window.bounds());
    }

    /// Returns whether `path` is one that [`Children::answer`] answers.
    pub fn serves(path: &str) -> bool {
        path == FEED_PATH || path == REPORTS_PATH
    }

    /// Answers a child that follows or reports. `content` is the whole content of a report.
    pub fn answer(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        content: &[u8],
    ) -> Response<FeedBody> {
        match (path, method) {
            (FEED_PATH, &Method::GET) => self.follow(query),
            (REPORTS_PATH, &Method::POST) => self.take_reports(content),
            (FEED_PATH | REPORTS_PATH, _) => text(
                StatusCode::METHOD_NOT_ALLOWED,
                &"GET the feed, POST reports",
            ),
            (_, _) => text(StatusCode::NOT_FOUND, &"not a path of the feed"),
        }
    }

    fn follow(&self, query: &str) -> Response<FeedBody> {
        let subscription = match Subscription::from_query(query) {
            Ok(subscription) => subscription,
            Err(refused) => return text(StatusCode::BAD_REQUEST, &refused),
        };
        let Ok(permit) = Arc::clone(&self.open).try_acquire_owned() else {
            let reason = "as many children follow as may";
            return text(StatusCode::SERVICE_UNAVAILABLE, &reason);
        };
        let frames = stream(self.clone(), subscription.start).map(move |bytes| {
            // The permit is held for as long as the stream is.
            let _held = &permit;
            Ok::<_, Infallible>(Frame::data(bytes))
        });
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    fn take_reports(&self, content: &[u8]) -> Response<FeedBody> {
        let reports = match read_reports(content) {
            Ok(reports) => reports,
            Err(refused) => return text(StatusCode::BAD_REQUEST, &refused),
        };
        match self.report(reports) {
            Ok(()) => {
                let mut response = Response::new(Full::default().boxed_unsync());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            Err(refused) => text(StatusCode::SERVICE_UNAVAILABLE, &refused),
        }
    }
}

impl Log for Children {
    fn subscribe(&self) -> watch::Receiver<Bounds> {
        self.bounds.subscribe()
    }

    fn age(&self) -> Duration {
        self.standing.borrow().lag(Instant::now())
    }

    async fn read_after(
        &self,
        after: Sequence,
        entries_max: usize,
    ) -> Result<Vec<Arc<Entry>>, Missing> {
        let window = self.window.lock();
        window.read_after(after, entries_max).ok_or(Missing::Behind)
    }

    fn report(&self, reports: Vec<Report>) -> Result<(), Refused> {
        self.outbox.pass_on(reports, Instant::now())
    }
}

/// Returns an answer that says why.
pub(super) fn text(status: StatusCode, reason: &impl ToString) -> Response<FeedBody> {
    let mut response = Response::new(Full::from(reason.to_string() + "\n").boxed_unsync());
    *response.status_mut() = status;
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    response
}
