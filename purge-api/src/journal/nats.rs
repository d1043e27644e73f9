//! The journal on a stream of NATS JetStream.
//!
//! Who calls it: [`super::Journal`]. A place in the stream is the place in the log: the servers give it, keep
//! it, and forget the oldest. Repetitions are recognized by the servers, too, so several purge APIs may
//! append to one stream. Deliberately not here: followers; nodes follow the feed of a purge API as ever.
//!
//! ```text
//! append ─► publish, acknowledged by the stream's leader ─► entry
//!        └► how far the log goes, into the stream of reports, acknowledged ─► the caller
//! follow ◄─ ordered consumer: the entries of late, in memory for the feed
//!        ◄─ once a second: is that all that was acknowledged by now?
//! report ─► news into a stream that all purge APIs read, from its beginning when they start
//!        └► the rest, that a node is still there, to a subject that all listen to
//! claim  ─► a stream in which each subject is written once
//! ```

mod append;
mod claims;
mod follow;
mod heads;
mod publish;
mod reports;
mod setup;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use parking_lot::Mutex;
use purge_log::feed::Refused;
use purge_log::{Bounds, Entry, LogId, NodeName, PurgeId, Report, Sequence, UnixMillis, Window};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::StorageError;
use super::keys::Keys;
use super::progress::{NodeApplied, NodeProgress, Progress};
use super::record::{self, Key, Record};
use super::{
    AppendError, Appended, ClaimError, Draft, JournalConfig, NatsConfig, OpenError, OpenReport,
    Page, ReadError,
};
use crate::auth::{Remembered, Used};
use append::{Answered, Kept};
use claims::Claims;
use heads::Heads;
use reports::{Heard, Told};

/// The journal on a stream. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Nats {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    context: Context,
    stream: Stream,
    subject: String,
    claims: Claims,
    heads: Arc<Heads>,
    recent: Mutex<Window>,
    /// What came with them, to find a purge that the servers say they know.
    keys: Mutex<Keys>,
    /// The sender is in the task that follows: who follows us learns that the journal was closed.
    bounds: watch::Receiver<Bounds>,
    /// Until when it is certain that `bounds` has the last entry, once it was.
    confirmed_at: watch::Sender<Option<Instant>>,
    progress: Mutex<Progress>,
    progressed: watch::Sender<u64>,
    kept_for: Duration,
    /// A permit per append under way.
    appends: Semaphore,
    /// Reports that other purge APIs shall know of.
    telling: mpsc::Sender<Told>,
    ending: CancellationToken,
    tasks: TaskTracker,
}

/// The tasks end with the last clone.
impl Drop for Shared {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

impl Nats {
    /// Connects, begins the stream if there is none, and reads the entries of late.
    pub(super) async fn connect(
        nats: NatsConfig,
        config: JournalConfig,
    ) -> Result<(Self, OpenReport), OpenError> {
        // Boxed: it is needed once, and large.
        let found = Box::pin(setup::open(&nats, &config)).await?;
        let report = report_of(&found);
        let head = found.bounds.head;
        let first = Sequence(head.0.saturating_sub(config.recent_max as u64));
        let first = first.max(found.bounds.tail.previous());
        let (publishing, bounds) = watch::channel(Bounds {
            head: first,
            ..found.bounds
        });
        let (telling, told) = mpsc::channel(REPORTS_WAITING_MAX);
        let ending = CancellationToken::new();
        let tasks = TaskTracker::new();
        let shared = Arc::new(Shared {
            claims: Claims::new(
                found.context.clone(),
                found.used,
                setup::used_prefix(&nats.stream),
            ),
            heads: Arc::new(Heads::new(
                found.context.clone(),
                setup::alive_prefix(&nats.stream) + &crate::auth::fresh_nonce(),
                found.bounds.log,
            )),
            context: found.context,
            stream: found.stream,
            subject: setup::subject(&nats.stream),
            recent: Mutex::new(Window::new(found.bounds.log, first, config.recent_max)),
            keys: Mutex::new(Keys::new(config.keys_kept_for, config.keys_max)),
            bounds: bounds.clone(),
            confirmed_at: watch::Sender::new(None),
            progress: Mutex::new(Progress::new(
                config.nodes_max,
                config.applied_max,
                found.bounds.tail,
            )),
            progressed: watch::Sender::new(0),
            kept_for: config.keep_for,
            appends: Semaphore::new(config.waiting_max),
            telling,
            ending: ending.clone(),
            tasks: tasks.clone(),
        });
        heads::start(&shared);
        follow::start(&shared, publishing);
        let heard = reports::start(&shared, told, found.client, found.reports, &nats.stream);
        let mut bounds = bounds;
        let is_read = bounds.wait_for(|bounds| bounds.head >= head);
        let read = tokio::time::timeout(OPEN_TIMEOUT, is_read).await;
        if !read.is_ok_and(|read| read.is_ok()) {
            return Err(OpenError::Nats {
                stream: nats.stream,
                reason: "its entries do not come",
                source: None,
            });
        }
        heard.wait(OPEN_TIMEOUT).await;
        shared.be_certain().await;
        Ok((Self { shared }, report))
    }

    pub(super) async fn append(&self, draft: Draft) -> Result<Appended, AppendError> {
        let shared = &self.shared;
        let record = Record::new(draft)?;
        if shared.ending.is_cancelled() {
            return Err(AppendError::Closed);
        }
        let _permit = shared
            .appends
            .try_acquire()
            .map_err(|_| AppendError::Busy)?;
        let draft = record.draft.clone();
        let kept = append::append(self, record).await?;
        let log = self.bounds().log;
        let sequence = kept.sequence();
        if !shared.heads.tell(log, sequence).await {
            return Err(AppendError::Unknown);
        }
        Ok(match kept {
            Kept::New(_) => Appended::New(Arc::new(draft.into_entry(log, sequence))),
            Kept::Known(_, known) => Appended::Known(Arc::new(known.into_entry(log, sequence))),
        })
    }

    /// Takes `used` for the caller alone, among all purge APIs of the stream.
    pub(super) async fn claim(&self, used: &Used) -> Result<(), ClaimError> {
        if self.shared.ending.is_cancelled() {
            let closed = std::io::Error::other("the journal is closed");
            return Err(ClaimError::Storage(StorageError::new(closed)));
        }
        self.shared.claims.claim(used).await
    }

    pub(super) fn bounds(&self) -> Bounds {
        *self.shared.bounds.borrow()
    }

    /// Waits until the log goes to `after` here, or it is certain that it does not.
    pub(super) async fn reaches(&self, log: LogId, after: Sequence) -> bool {
        let asked_at = Instant::now();
        let mut bounds = self.subscribe();
        let mut confirmed_at = self.shared.confirmed_at.subscribe();
        let is_here = bounds.wait_for(|b| b.log == log && b.head >= after);
        let is_certain = confirmed_at.wait_for(|at| at.is_some_and(|at| at > asked_at));
        let known = async {
            tokio::select! {
                here = is_here => here.is_ok(),
                certain = is_certain => certain.is_ok(),
            }
        };
        tokio::time::timeout(REACHED_WITHIN, known)
            .await
            .unwrap_or(false)
    }

    pub(super) fn age(&self) -> Duration {
        let confirmed_at = *self.shared.confirmed_at.borrow();
        confirmed_at.map_or(NEVER, |at| at.elapsed())
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Bounds> {
        self.shared.bounds.clone()
    }

    pub(super) async fn find(&self, id: PurgeId) -> Result<Option<Arc<Entry>>, ReadError> {
        if id.log != self.bounds().log {
            return Ok(None);
        }
        let recent = self.shared.recent.lock().at(id.sequence).cloned();
        if recent.is_some() {
            return Ok(recent);
        }
        self.read(id.sequence).await
    }

    pub(super) async fn read_after(
        &self,
        after: Sequence,
        entries_max: usize,
    ) -> Result<Vec<Arc<Entry>>, ReadError> {
        let recent = self.shared.recent.lock().read_after(after, entries_max);
        if let Some(entries) = recent {
            return Ok(entries);
        }
        let bounds = self.bounds();
        if !bounds.can_follow(after) {
            return Err(ReadError::Behind);
        }
        let mut entries = Vec::new();
        let mut next = after.next();
        while next <= bounds.head && entries.len() < entries_max {
            entries.push(self.read(next).await?.ok_or(ReadError::Behind)?);
            next = next.next();
        }
        Ok(entries)
    }

    pub(super) async fn list(
        &self,
        before: Option<Sequence>,
        entries_max: usize,
        is_meant: impl Fn(&Entry) -> bool,
    ) -> Result<Page, ReadError> {
        let bounds = self.bounds();
        let mut page = Page {
            entries: Vec::new(),
            next: None,
        };
        let mut next = before.map_or(bounds.head, |before| before.previous().min(bounds.head));
        for _ in 0..SCANNED_MAX {
            if next < bounds.tail {
                return Ok(page);
            }
            if page.entries.len() >= entries_max {
                break;
            }
            let id = PurgeId {
                log: bounds.log,
                sequence: next,
            };
            let found = self.find(id).await?;
            page.entries.extend(found.filter(|entry| is_meant(entry)));
            next = next.previous();
        }
        page.next = (next >= bounds.tail).then_some(next.next());
        Ok(page)
    }

    pub(super) fn report(&self, mut reports: Vec<Report>, now: UnixMillis) -> Result<(), Refused> {
        let bounds = self.bounds();
        for report in reports.iter_mut().filter(|report| report.log == bounds.log) {
            // Nobody can be further than the log, and nobody else shall wait for them to be.
            report.through = report.through.min(bounds.head);
        }
        let (news, refused) = self.shared.note(Heard {
            now,
            reports: reports.clone(),
        });
        for told in reports::sort(reports, &news, now) {
            // What is not told now is told with the node's next report.
            self.shared.telling.try_send(told).ok();
        }
        self.compact(now);
        refused.map_or(Ok(()), Err)
    }

    pub(super) fn applied(&self, sequence: Sequence) -> Vec<NodeApplied> {
        let progress = self.shared.progress.lock();
        let remembered = progress.applied(sequence);
        remembered.unwrap_or_else(|| progress.complete(sequence, Vec::new()))
    }

    pub(super) fn nodes(&self) -> Vec<NodeProgress> {
        self.shared.progress.lock().nodes()
    }

    pub(super) fn progress(&self) -> watch::Receiver<u64> {
        self.shared.progressed.subscribe()
    }

    /// Forgets silent nodes. Purges leave by themselves: the servers see to it.
    pub(super) fn compact(&self, now: UnixMillis) {
        let kept_for = self.shared.kept_for;
        self.shared.progress.lock().forget_silent(now, kept_for);
    }

    pub(super) async fn close(self) {
        self.shared.ending.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    async fn read(&self, sequence: Sequence) -> Result<Option<Arc<Entry>>, ReadError> {
        let log = self.bounds().log;
        let draft = self.read_draft(sequence).await?;
        Ok(draft.map(|draft| Arc::new(draft.into_entry(log, sequence))))
    }

    async fn read_draft(&self, sequence: Sequence) -> Result<Option<Draft>, ReadError> {
        match self.shared.stream.get_raw_message(sequence.0).await {
            Ok(message) => Ok(Some(read_or_all(&message.payload, sequence))),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(ReadError::Storage(StorageError::new(error))),
        }
    }
}

impl append::Log for Nats {
    async fn publish(
        &self,
        message_id: Option<String>,
        bytes: Arc<[u8]>,
    ) -> Result<Answered, AppendError> {
        let mut headers = HeaderMap::new();
        if let Some(id) = message_id {
            headers.insert(async_nats::header::NATS_MESSAGE_ID, id.as_str());
        }
        let shared = &self.shared;
        let bytes = bytes::Bytes::from_owner(bytes);
        let published = publish::publish(&shared.context, &shared.subject, &headers, bytes).await;
        let acknowledged = published.map_err(|error| match error.kind() {
            // It may be in the stream all the same.
            PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => AppendError::Unknown,
            _ => AppendError::Storage(StorageError::new(error)),
        })?;
        Ok(Answered {
            sequence: Sequence(acknowledged.sequence),
            is_known: acknowledged.duplicate,
        })
    }

    async fn read(&self, sequence: Sequence) -> Result<Option<Draft>, AppendError> {
        let read = self.read_draft(sequence).await;
        read.map_err(|_| AppendError::Unknown)
    }

    async fn place_of(
        &self,
        key: &Key,
        at_least: Sequence,
    ) -> Result<Option<Sequence>, AppendError> {
        let asked_at = Instant::now();
        let mut confirmed_at = self.shared.confirmed_at.subscribe();
        let is_certain = confirmed_at.wait_for(|at| at.is_some_and(|at| at > asked_at));
        let waited = tokio::time::timeout(REACHED_WITHIN, is_certain).await;
        if !waited.is_ok_and(|certain| certain.is_ok()) {
            return Err(AppendError::Unknown);
        }
        // It may be on its way, told by a server that is ahead of those we read from.
        let mut bounds = self.subscribe();
        let is_read = bounds.wait_for(|bounds| bounds.head >= at_least);
        tokio::time::timeout(ON_ITS_WAY, is_read).await.ok();
        Ok(self.shared.keys.lock().find(key))
    }
}

impl Shared {
    /// Waits until it was once certain that all is here; a majority that answers late is waited for while serving.
    async fn be_certain(&self) {
        let mut confirmed_at = self.confirmed_at.subscribe();
        let is_certain = confirmed_at.wait_for(Option::is_some);
        if tokio::time::timeout(OPEN_TIMEOUT, is_certain)
            .await
            .is_err()
        {
            tracing::warn!("a majority of the servers does not answer");
        }
    }

    /// Takes note of reports; returns the nodes that said something new, and the refusal if one was too many.
    fn note(&self, heard: Heard) -> (BTreeSet<NodeName>, Option<Refused>) {
        let bounds = *self.bounds.borrow();
        let Heard { now, reports } = heard;
        let (noted, refused) = self.progress.lock().note(reports, bounds, now);
        if !noted.is_empty() {
            self.progressed.send_modify(|ticks| *ticks += 1);
        }
        (noted.into_iter().map(|noted| noted.node).collect(), refused)
    }
}

fn report_of(found: &setup::Opened) -> OpenReport {
    OpenReport {
        bounds: found.bounds,
        entries: found.entries,
        bytes: found.bytes,
        is_new: found.is_new,
        was_cut_off: false,
        remembered: Remembered {
            used: Vec::new(),
            signatures_since: Some(found.claimed_since),
            tokens_since: Some(found.claimed_since),
        },
    }
}

/// Reads an entry. One that nobody understands is as much as any purge, as it is to a node.
fn read_or_all(bytes: &[u8], sequence: Sequence) -> Draft {
    record::read(bytes).unwrap_or_else(|error| {
        tracing::error!(%sequence, %error, "an entry of the stream is no purge: everything becomes stale");
        Draft {
            accepted_at: UnixMillis::default(),
            request: purge_log::PurgeRequest {
                target: purge_log::Target::All,
                mode: purge_log::Mode::Soft,
            },
            dry_run: false,
            by: "unreadable".to_owned(),
            idempotency_key: None,
            used: None,
        }
    })
}

/// How old what was never certain is: older than whatever a node lets pass.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Time to find out whether a follower is ahead: less than it waits for the first byte.
const REACHED_WITHIN: Duration = Duration::from_secs(4);

/// Time for a purge that a server knows to come to us: nothing is on its way for longer.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// Time to read the entries of late at the start.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// Batches of reports that wait to be told to other purge APIs.
const REPORTS_WAITING_MAX: usize = 256;

/// Entries that one page looks at: those that are not of late are asked for one by one.
const SCANNED_MAX: usize = 1_000;
