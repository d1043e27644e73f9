//! How far the log goes, as all purge APIs of a stream tell each other.
//!
//! Who calls it: the journal, before it acknowledges a purge; the task that reads the log on, to learn whether
//! something is missing. The servers cannot be asked: a leader that was cut off or stopped answers questions about
//! its stream for a while as if nothing had happened, and each stream has a leader of its own. So it is the order
//! of one stream that counts, in which nothing is written without a majority:
//!
//! ```text
//! append: purge at 7 ─► "the log goes to 7" ─► acknowledged
//! ask:                                          "here I am" ─► read up to that ─► all that was acknowledged is known
//! ```
//!
//! Deliberately not here: reading that stream, which `reports` does.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use purge_log::{LogId, Sequence};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Shared;
use crate::journal::error::StorageError;

/// How far a log goes. One that was begun anew has a later name, see `setup::bounds_of`, and comes behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Head {
    log: LogId,
    head: Sequence,
}

/// What was heard, and up to where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// Everything up to this place of the stream of reports was read.
    pub(super) read: u64,
    head: Head,
}

/// How far the log goes, here and elsewhere.
#[derive(Debug)]
pub(super) struct Heads {
    context: Context,
    /// Ours alone, so that what we say later stands for what we said before.
    subject: String,
    /// How far we know the log to go.
    reached: watch::Sender<Head>,
    /// Of that, what the others can read.
    told: watch::Sender<Head>,
    heard: watch::Sender<Heard>,
}

impl Heads {
    /// Returns what is known before anything was read.
    pub(super) fn new(context: Context, subject: String, log: LogId) -> Self {
        let head = Head {
            log,
            head: Sequence::START,
        };
        Self {
            context,
            subject,
            reached: watch::Sender::new(head),
            told: watch::Sender::new(head),
            heard: watch::Sender::new(Heard { read: 0, head }),
        }
    }

    /// Waits until everybody who asks from now on learns that the log goes to `head`.
    ///
    /// Returns whether that came to be in time. Those who wait at the same time share one message.
    pub(super) async fn tell(&self, log: LogId, head: Sequence) -> bool {
        let mine = Head { log, head };
        let mut told = self.told.subscribe();
        self.raise(mine);
        let is_told = told.wait_for(|told| *told >= mine);
        timeout(TOLD_WITHIN, is_told)
            .await
            .is_ok_and(|is_told| is_told.is_ok())
    }

    /// Notes that the log was begun anew.
    pub(super) fn begin_anew(&self, log: LogId) {
        let head = Sequence::START;
        self.raise(Head { log, head });
    }

    fn raise(&self, mine: Head) {
        self.reached.send_if_modified(|reached| {
            let is_news = mine > *reached;
            *reached = mine.max(*reached);
            is_news
        });
    }

    /// Writes that we are here, and returns the place of that in the stream of reports.
    pub(super) async fn ask(&self) -> Result<u64, StorageError> {
        let reached = *self.reached.borrow();
        self.write(reached).await
    }

    /// Takes in what stands at `read` of the stream of reports.
    pub(super) fn hear(&self, read: u64, payload: Option<&[u8]>) {
        let said = payload.and_then(|payload| serde_json::from_slice::<Head>(payload).ok());
        self.heard.send_modify(|heard| {
            heard.read = read;
            heard.head = heard.head.max(said.unwrap_or(heard.head));
        });
    }

    /// Returns a receiver that changes with everything that is heard.
    pub(super) fn heard(&self) -> watch::Receiver<Heard> {
        self.heard.subscribe()
    }

    async fn write(&self, head: Head) -> Result<u64, StorageError> {
        let payload = serde_json::to_vec(&head).expect("a head has only string keys");
        let written = self
            .context
            .publish(self.subject.clone(), payload.into())
            .await;
        let written = written.map_err(StorageError::new)?.await;
        Ok(written.map_err(StorageError::new)?.sequence)
    }
}

impl Heard {
    /// Returns how far `log` goes at least; `None` if there is a later log.
    pub(super) fn head_of(&self, log: LogId) -> Option<Sequence> {
        let is_of = self.head.log == log;
        is_of.then_some(self.head.head)
    }
}

/// Starts the task that tells; it ends when `shared` is closed.
pub(super) fn start(shared: &Arc<Shared>) {
    let heads = Arc::clone(&shared.heads);
    let ending = shared.ending.clone();
    shared.tasks.spawn(async move {
        ending.run_until_cancelled(tell_on(&heads)).await;
    });
}

/// Tells what was reached, one message after the other, for ever.
async fn tell_on(heads: &Heads) {
    let mut reached = heads.reached.subscribe();
    loop {
        let head = *reached.borrow_and_update();
        let is_told = *heads.told.borrow() >= head;
        if is_told {
            // The sender is in `heads`.
            reached.changed().await.ok();
            continue;
        }
        match heads.write(head).await {
            Ok(_) => {
                heads.told.send_replace(head);
            }
            Err(error) => {
                tracing::warn!(%error, "other purge APIs cannot be told how far the log goes");
                sleep(TELL_AGAIN_AFTER).await;
            }
        }
    }
}

/// How long a purge that is in the log may wait to be acknowledged.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// The pause before telling is tried again.
const TELL_AGAIN_AFTER: Duration = Duration::from_millis(250);
