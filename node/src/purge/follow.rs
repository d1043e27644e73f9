//! The task that follows: connect, read, apply, and again.
//!
//! Who calls it: [`super::Follower::start`] runs it as a task of the node. What it calls: the cursor judges
//! every line; this file does what it says. Deliberately not here: reports, which travel on their own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use purge_log::feed::{Cursor, FEED_PATH, FeedError, Lines, Position, Step, Subscription};
use purge_log::{Applied, UnixMillis};
use tokio::time::{Instant, sleep, timeout};
use xxhash_rust::xxh3::xxh3_64;

use super::Shared;
use super::children::Children;
use super::config::FollowConfig;
use super::standing::State;
use crate::interim::InterimSink;
use crate::upstream::{Class, ForwardRequest, ParentId, Upstream, UpstreamError};

/// Why a connection to the feed ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the parent answered {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error("the feed broke off")]
    Broken(#[source] hyper::Error),
    #[error("the feed was silent for too long")]
    Silent,
    #[error("the parent is cut off from the log")]
    CutOff,
    #[error("the feed ended")]
    Ended,
}

/// Follows for ever. Dropping the future ends the connection; every purge that was read is then applied.
pub(super) async fn follow(shared: Arc<Shared>, parents: Upstream) {
    let mut cursor = Cursor::default();
    let mut backoff = Backoff::new(&shared.config);
    // Whoever was lost is asked again only if nobody else is there: it may answer, and know nothing.
    let mut last = None;
    loop {
        let lost = read(&shared, &parents, &mut cursor, &mut backoff, &mut last).await;
        let was_connected = shared.standing.borrow().is_connected;
        shared.standing.send_modify(|s| s.is_connected = false);
        let pause = backoff.next();
        let Err(error) = lost;
        if was_connected {
            tracing::warn!(%error, ?pause, "the purge feed was lost");
        } else {
            tracing::debug!(%error, ?pause, "the purge feed cannot be followed");
        }
        sleep(pause).await;
    }
}

/// What reading never returns: it ends only by being lost.
enum Never {}

/// Reads one connection to its end.
async fn read(
    shared: &Shared,
    parents: &Upstream,
    cursor: &mut Cursor,
    backoff: &mut Backoff,
    last: &mut Option<ParentId>,
) -> Result<Never, Lost> {
    let config = &shared.config;
    let latest = config
        .recalled_entries_max
        .max(config.window_entries_max as u64);
    let subscription = Subscription {
        node: shared.config.node.clone(),
        start: cursor.connect(latest),
    };
    let response = parents.fetch(&request(&subscription, *last)).await?;
    *last = Some(response.parent);
    if response.head.status != StatusCode::OK {
        return Err(Lost::Status(response.head.status));
    }
    let parent = parents.name(response.parent).to_owned();
    let mut body = response.body;
    let mut lines = Lines::default();
    let mut heard_at = Instant::now();
    let begun_at = heard_at;
    let is_only_one = parents.parents().len() == 1;
    loop {
        let frame = timeout(shared.config.silence_max, body.frame())
            .await
            .map_err(|_| Lost::Silent)?
            .ok_or(Lost::Ended)?
            .map_err(Lost::Broken)?;
        // A process that was stopped finds what waited for it before any timer rings. The heartbeats in it are
        // as old as that, whatever age they name, and more purges than they know of may be on their way.
        if heard_at.elapsed() > shared.config.silence_max {
            return Err(Lost::Silent);
        }
        heard_at = Instant::now();
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        lines.feed(&bytes, |line| shared.take(cursor, line))?;
        let has_begun = cursor.position().is_some();
        if has_begun && !shared.standing.borrow().is_connected {
            tracing::info!(%parent, applied = %shared.standing.borrow().applied(), "following the purge feed");
            shared.standing.send_modify(|s| s.is_connected = true);
            backoff.reset();
        }
        // It was given the time to catch up that the node itself has before it lags.
        let is_old = |since: Duration| since > config.lagging_after;
        let lag = shared.standing.borrow().lag(heard_at);
        if !is_only_one && is_old(begun_at.elapsed()) && is_old(lag) {
            return Err(Lost::CutOff);
        }
    }
}

impl Shared {
    /// Does what a line says.
    fn take(&self, cursor: &mut Cursor, line: &[u8]) -> Result<(), FeedError> {
        let before = cursor.position();
        let step = cursor.take(line)?;
        let Some(position) = cursor.position() else {
            return Ok(());
        };
        // Before the purge is applied, see `Standing::minimum`.
        if before != Some(position) {
            self.standing.send_modify(|s| s.minimum = Some(position));
        }
        if before.is_none() {
            self.begin(position);
        }
        match step {
            Step::Nothing => {}
            Step::Apply(entry) => {
                let counts = self.apply.apply(&entry);
                tracing::debug!(purge = %entry.id, ?counts, "purge applied");
                self.outbox.add(Applied {
                    sequence: entry.sequence,
                    at: UnixMillis::from(self.clock.now()),
                    counts,
                });
                if let Some(children) = self.children.get() {
                    children.push(*entry);
                }
            }
            Step::Reset(position) => self.reset(position),
            Step::Current { age_ms } => self.confirm(Duration::from_millis(age_ms)),
        }
        let head = cursor.head();
        self.standing.send_if_modified(|standing| {
            let is_news = standing.position != Some(position) || standing.head != head;
            standing.position = Some(position);
            standing.head = head;
            is_news
        });
        self.outbox.advance(position);
        Ok(())
    }

    /// The first connection said which log this is, and where the node joins it.
    fn begin(&self, position: Position) {
        // Purges before this place may mean what was filled since the process started.
        self.apply.reset(position.applied);
        let config = &self.config;
        self.children.get_or_init(|| {
            Children::new(
                position,
                config.window_entries_max,
                config.children_max,
                self.standing.subscribe(),
                Arc::clone(&self.outbox),
            )
        });
    }

    fn reset(&self, position: Position) {
        let counts = self.apply.reset(position.applied);
        self.standing.send_modify(|s| s.resets += 1);
        tracing::warn!(log = %position.log, through = %position.applied, ?counts, "purges were missed: everything stored is stale");
        if let Some(children) = self.children.get() {
            children.reset(position);
        }
    }

    fn confirm(&self, age: Duration) {
        let now = Instant::now();
        let confirmed_at = now.checked_sub(age);
        self.standing.send_modify(|standing| {
            let before = standing.state(now, self.config.lagging_after);
            standing.confirmed_at = standing.confirmed_at.max(confirmed_at);
            let after = standing.state(now, self.config.lagging_after);
            if let (State::Lagging { since }, State::Current) = (before, after) {
                let lagged = now.saturating_duration_since(since);
                tracing::info!(?lagged, "all purges are known again");
            }
        });
    }
}

fn request(subscription: &Subscription, avoid: Option<ParentId>) -> ForwardRequest {
    ForwardRequest {
        method: Method::GET,
        host: FEED_HOST.to_owned(),
        path_and_query: format!("{FEED_PATH}?{subscription}"),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        affinity: FEED_HOST.to_owned(),
        class: Class::Parked,
        first_byte_timeout: FIRST_BYTE_TIMEOUT,
        interim: InterimSink::default(),
        avoid,
    }
}

/// Pauses between connections: each twice the one before, less a share that differs by node and attempt, so
/// that a thousand nodes do not come back in the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    seed: u64,
    attempts: u64,
    next: Duration,
    min: Duration,
    max: Duration,
}

impl Backoff {
    pub(super) fn new(config: &FollowConfig) -> Self {
        Self {
            seed: xxh3_64(config.node.as_str().as_bytes()),
            attempts: 0,
            next: config.backoff_min,
            min: config.backoff_min,
            max: config.backoff_max,
        }
    }

    /// Returns the next pause: between half and all of what is due.
    pub(super) fn next(&mut self) -> Duration {
        let due = self.next.min(self.max);
        self.next = due.saturating_mul(2);
        self.attempts += 1;
        let draw = xxh3_64(&(self.seed ^ self.attempts).to_le_bytes()) % JITTER_STEPS;
        due / 2 + due.mul_f64(draw as f64 / JITTER_STEPS as f64) / 2
    }

    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }
}

const JITTER_STEPS: u64 = 1024;

/// The `Host` of requests for the feed, where the configuration names none: it has no site of its own.
pub(super) const FEED_HOST: &str = "purge-feed";

/// Time for the head of the feed: its first line is known at once.
pub(super) const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(5);
