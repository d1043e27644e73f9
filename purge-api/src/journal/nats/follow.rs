//! The task that reads the stream on, and asks how certain it is that nothing is missing.
//!
//! Who calls it: the journal starts it. Deliberately not here: what nodes report, which is in `reports`.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use futures_util::StreamExt;
use purge_log::feed::HEARTBEAT;
use purge_log::{Bounds, Entry, Sequence};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::heads::Heard;
use super::{Shared, read_or_all, setup};
use crate::journal::error::StorageError;

/// Why reading on was interrupted.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Server(#[from] StorageError),
    #[error("the servers ended it")]
    Ended,
    #[error("entries are there and do not come")]
    Stuck,
    #[error("the stream was deleted and made again")]
    Anew,
    #[error("the journal was dropped")]
    Dropped,
}

/// Starts the task; it ends when `shared` is dropped or closed.
pub(super) fn start(shared: &Arc<Shared>, publishing: watch::Sender<Bounds>) {
    let ending = shared.ending.clone();
    let reading = read_on(Arc::downgrade(shared), publishing);
    shared.tasks.spawn(async move {
        ending.run_until_cancelled(reading).await;
    });
}

/// Keeps the entries of late in memory, for ever.
async fn read_on(shared: Weak<Shared>, publishing: watch::Sender<Bounds>) {
    loop {
        let Err(error) = read_until_interrupted(&shared, &publishing).await else {
            return;
        };
        if matches!(error, Interrupted::Dropped) {
            return;
        }
        tracing::warn!(%error, "reading the stream of purges was interrupted");
        sleep(READ_AGAIN_AFTER).await;
    }
}

async fn read_until_interrupted(
    weak: &Weak<Shared>,
    publishing: &watch::Sender<Bounds>,
) -> Result<(), Interrupted> {
    let consumer = {
        let shared = weak.upgrade().ok_or(Interrupted::Dropped)?;
        let start_sequence = publishing.borrow().head.next().0;
        let config = OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence },
            ..OrderedConfig::default()
        };
        shared.stream.create_consumer(config).await
    };
    let consumer = consumer.map_err(StorageError::new)?;
    let messages = consumer.messages().await.map_err(StorageError::new)?;
    let mut messages = pin!(messages);
    let mut probe = interval(HEARTBEAT);
    probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut behind_at = None;
    let mut heard = weak.upgrade().ok_or(Interrupted::Dropped)?.heads.heard();
    let mut asked: Option<Asked> = None;
    loop {
        tokio::select! {
            message = messages.next() => {
                let message = message.ok_or(Interrupted::Ended)?.map_err(StorageError::new)?;
                let sequence = message
                    .info()
                    .map_err(|_| Interrupted::Ended)?
                    .stream_sequence;
                let shared = weak.upgrade().ok_or(Interrupted::Dropped)?;
                take(&shared, publishing, Sequence(sequence), &message.payload);
                vouch(&shared, publishing, &heard, &mut asked);
            }
            is_read = read_to(&mut heard, asked), if asked.is_some_and(|asked| !asked.is_read) => {
                let shared = weak.upgrade().ok_or(Interrupted::Dropped)?;
                asked = is_read;
                vouch(&shared, publishing, &heard, &mut asked);
            }
            _ = probe.tick() => {
                let shared = weak.upgrade().ok_or(Interrupted::Dropped)?;
                let asked_at = Instant::now();
                let place = shared.heads.ask().await?;
                asked.get_or_insert(Asked { at: asked_at, place, is_read: false });
                let is_behind = look(&shared, publishing).await?;
                // A server that is gone takes its end of the reading with it and says nothing: twice at the same
                // place with more to come means that it will not.
                let at = is_behind.then(|| publishing.borrow().head);
                if at.is_some() && at == behind_at {
                    return Err(Interrupted::Stuck);
                }
                behind_at = at;
            }
        }
    }
}

/// A question that was written down through a majority.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Instant,
    /// Where it stands in the stream of reports.
    place: u64,
    /// Whether everything up to there was read.
    is_read: bool,
}

/// Waits until what was asked is read.
async fn read_to(heard: &mut watch::Receiver<Heard>, asked: Option<Asked>) -> Option<Asked> {
    let asked = asked?;
    // The sender lives with the journal, whose end ends this task.
    heard
        .wait_for(|heard| heard.read >= asked.place)
        .await
        .ok()?;
    Some(Asked {
        is_read: true,
        ..asked
    })
}

/// Notes that everything is here that was acknowledged before the question, if it is.
fn vouch(
    shared: &Shared,
    publishing: &watch::Sender<Bounds>,
    heard: &watch::Receiver<Heard>,
    asked: &mut Option<Asked>,
) {
    let known = *publishing.borrow();
    let head = heard.borrow().head_of(known.log);
    if let Some(answered) =
        asked.take_if(|asked| asked.is_read && head.is_some_and(|head| head <= known.head))
    {
        shared.confirmed_at.send_replace(Some(answered.at));
    }
}

/// Adds an entry to those of late.
fn take(shared: &Shared, publishing: &watch::Sender<Bounds>, sequence: Sequence, payload: &[u8]) {
    let log = publishing.borrow().log;
    let draft = read_or_all(payload, sequence);
    let (key, accepted_at) = (draft.key(), draft.accepted_at);
    let entry: Arc<Entry> = Arc::new(draft.into_entry(log, sequence));
    let mut recent = shared.recent.lock();
    if sequence <= recent.bounds().head {
        return;
    }
    if recent.push(Arc::clone(&entry)).is_err() {
        // Entries left before they were read. Whoever needs them asks for them and is told.
        recent.begin_anew(log, sequence.previous());
        recent.push(entry).expect("it is the next");
    }
    drop(recent);
    let mut keys = shared.keys.lock();
    if let Some(key) = key {
        keys.remember(key, sequence, accepted_at);
    }
    keys.expire(accepted_at, publishing.borrow().tail);
    drop(keys);
    publishing.send_modify(|bounds| bounds.head = sequence);
}

/// Looks at what the stream has now: whether it is another one, what has left it, and what is still to come.
///
/// Returns whether there are entries that are not here. It may be a server of a minority that answers, so that
/// there are none proves nothing.
async fn look(shared: &Shared, publishing: &watch::Sender<Bounds>) -> Result<bool, Interrupted> {
    let info = shared.stream.get_info().await.map_err(StorageError::new)?;
    let found = setup::bounds_of(&info);
    let known = *publishing.borrow();
    if found.log != known.log {
        let before_it = found.tail.previous();
        shared.recent.lock().begin_anew(found.log, before_it);
        shared.keys.lock().clear();
        publishing.send_replace(Bounds {
            head: before_it,
            ..found
        });
        shared.heads.begin_anew(found.log);
        return Err(Interrupted::Anew);
    }
    if found.tail != known.tail {
        shared.recent.lock().cut(found.tail);
        shared.progress.lock().cut(found.tail);
        publishing.send_modify(|bounds| bounds.tail = found.tail);
    }
    let told = shared.heads.heard().borrow().head_of(found.log);
    Ok(known.head < found.head.max(told.unwrap_or_default()))
}

/// The pause before reading is tried again.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(500);
