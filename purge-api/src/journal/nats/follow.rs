//! The tasks of the journal on a stream: reading on, and talking with other purge APIs.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use futures_util::StreamExt;
use purge_log::feed::HEARTBEAT;
use purge_log::{Bounds, Entry, Report, Sequence, UnixMillis};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{Shared, read_or_all, setup};
use crate::journal::error::StorageError;

/// Reports as purge APIs tell them to each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Heard {
    /// When they were heard.
    pub(super) now: UnixMillis,
    /// What was heard.
    pub(super) reports: Vec<Report>,
}

/// Why reading on was interrupted.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Server(#[from] StorageError),
    #[error("the servers ended it")]
    Ended,
    #[error("the stream was deleted and made again")]
    Anew,
    #[error("the journal was dropped")]
    Dropped,
}

/// Starts both tasks; they end when `shared` is dropped or closed.
pub(super) fn start(
    shared: &Arc<Shared>,
    publishing: watch::Sender<Bounds>,
    told: mpsc::Receiver<Heard>,
    client: Client,
    stream: &str,
) {
    let ending = shared.ending.clone();
    let reading = read_on(Arc::downgrade(shared), publishing);
    shared.tasks.spawn(async move {
        ending.run_until_cancelled(reading).await;
    });
    let ending = shared.ending.clone();
    let talking = talk(
        Arc::downgrade(shared),
        told,
        client,
        format!("{stream}.reports"),
    );
    shared.tasks.spawn(async move {
        ending.run_until_cancelled(talking).await;
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
            }
            _ = probe.tick() => {
                let shared = weak.upgrade().ok_or(Interrupted::Dropped)?;
                confirm(&shared, publishing).await?;
            }
        }
    }
}

/// Adds an entry to those of late.
fn take(shared: &Shared, publishing: &watch::Sender<Bounds>, sequence: Sequence, payload: &[u8]) {
    let log = publishing.borrow().log;
    let entry: Arc<Entry> = Arc::new(read_or_all(payload, sequence).into_entry(log, sequence));
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
    publishing.send_modify(|bounds| bounds.head = sequence);
}

/// Asks for the last entry: if it is here, everything accepted before the question is here.
async fn confirm(shared: &Shared, publishing: &watch::Sender<Bounds>) -> Result<(), Interrupted> {
    let asked_at = Instant::now();
    let info = shared.stream.get_info().await.map_err(StorageError::new)?;
    let found = setup::bounds_of(&info);
    let known = *publishing.borrow();
    if found.log != known.log {
        let before_it = found.tail.previous();
        shared.recent.lock().begin_anew(found.log, before_it);
        publishing.send_replace(Bounds {
            head: before_it,
            ..found
        });
        return Err(Interrupted::Anew);
    }
    if found.tail != known.tail {
        shared.recent.lock().cut(found.tail);
        shared.progress.lock().cut(found.tail);
        publishing.send_modify(|bounds| bounds.tail = found.tail);
    }
    if known.head >= found.head {
        *shared.confirmed_at.lock() = asked_at;
    }
    Ok(())
}

/// Tells other purge APIs what nodes report here, and hears what they report there, for ever.
async fn talk(
    shared: Weak<Shared>,
    mut told: mpsc::Receiver<Heard>,
    client: Client,
    subject: String,
) {
    let Ok(mut hearing) = client.subscribe(subject.clone()).await else {
        tracing::error!("reports of other purge APIs are not heard");
        return;
    };
    loop {
        tokio::select! {
            Some(heard) = told.recv() => {
                let payload = serde_json::to_vec(&heard).expect("reports have only string keys");
                // The client is cut off: nodes say it again.
                client.publish(subject.clone(), payload.into()).await.ok();
            }
            Some(message) = hearing.next() => {
                let Some(shared) = shared.upgrade() else { return };
                if let Ok(heard) = serde_json::from_slice(&message.payload) {
                    shared.note(heard).ok();
                }
            }
            else => return,
        }
    }
}

/// The pause before reading is tried again.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(500);
