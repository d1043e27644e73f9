//! What nodes reported, told to all purge APIs of a stream.
//!
//! Who calls it: the journal starts the tasks and hands over what was reported to it. News (a node, how far it
//! is, what it applied) are kept in a stream, so that a purge API that starts later knows them, and misses a
//! node that is gone. That a node is still there goes to a plain subject and is not kept. Losing either
//! loses no purge. Deliberately not here: what the reports mean, which is in `progress`.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::stream::Stream;
use futures_util::StreamExt;
use purge_log::{NodeName, Report, Sequence, UnixMillis};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::heads::Heads;
use super::{Shared, heads, setup};
use crate::auth::hex;
use crate::journal::error::StorageError;

/// Reports as purge APIs tell them to each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Heard {
    /// When they were heard.
    pub(super) now: UnixMillis,
    /// What was heard.
    pub(super) reports: Vec<Report>,
}

/// What is told to other purge APIs.
#[derive(Debug)]
pub(super) enum Told {
    /// Something new of one node.
    News(NodeName, Heard),
    /// That nodes are still there.
    Alive(Heard),
}

/// How much of what was reported before the start is heard.
#[derive(Debug)]
pub(super) struct Hearing {
    heard: watch::Receiver<heads::Heard>,
    last: u64,
}

impl Hearing {
    /// Waits until everything that was there at the start is heard; what is late is heard later.
    pub(super) async fn wait(mut self, at_most: Duration) {
        let last = self.last;
        let all = self.heard.wait_for(|heard| heard.read >= last);
        if timeout(at_most, all).await.is_err() {
            tracing::warn!("what nodes reported before the start does not come");
        }
    }
}

/// Returns what is to be told of reports, of which those by the nodes in `news` had something new.
pub(super) fn sort(reports: Vec<Report>, news: &BTreeSet<NodeName>, now: UnixMillis) -> Vec<Told> {
    let (new, alive): (Vec<_>, Vec<_>) = reports
        .into_iter()
        .partition(|report| news.contains(&report.node));
    let mut told: Vec<_> = new
        .into_iter()
        .flat_map(in_pieces)
        .map(|report| {
            let node = report.node.clone();
            let reports = vec![report];
            Told::News(node, Heard { now, reports })
        })
        .collect();
    if !alive.is_empty() {
        let reports = alive.into_iter().map(without_lines).collect();
        told.push(Told::Alive(Heard { now, reports }));
    }
    told
}

/// Splits a report so that each piece fits into a message.
fn in_pieces(report: Report) -> Vec<Report> {
    if report.applied.len() <= LINES_PER_MESSAGE {
        return vec![report];
    }
    let pieces = report.applied.chunks(LINES_PER_MESSAGE);
    pieces
        .map(|lines| Report {
            applied: lines.to_vec(),
            ..without_lines(report.clone())
        })
        .collect()
}

fn without_lines(report: Report) -> Report {
    Report {
        applied: Vec::new(),
        ..report
    }
}

/// Starts the tasks; they end when `shared` is dropped or closed.
pub(super) fn start(
    shared: &Arc<Shared>,
    told: mpsc::Receiver<Told>,
    client: Client,
    reports: Stream,
    stream: &str,
) -> Hearing {
    let info = reports.cached_info();
    let last = match info.state.messages {
        0 => 0,
        _ => info.state.last_sequence,
    };
    let heard = shared.heads.heard();
    let prefix = setup::applied_prefix(stream);
    let tasks = Tasks {
        shared: Arc::downgrade(shared),
        alive_subject: format!("{stream}.reports"),
        prefix,
    };
    let ending = shared.ending.clone();
    let telling = tasks.clone().tell(told, client.clone());
    shared.tasks.spawn(async move {
        ending.run_until_cancelled(telling).await;
    });
    let ending = shared.ending.clone();
    let listening = tasks.clone().listen(client);
    shared.tasks.spawn(async move {
        ending.run_until_cancelled(listening).await;
    });
    let ending = shared.ending.clone();
    let reading = tasks.read(reports, Arc::clone(&shared.heads));
    shared.tasks.spawn(async move {
        ending.run_until_cancelled(reading).await;
    });
    Hearing { heard, last }
}

#[derive(Clone)]
struct Tasks {
    shared: Weak<Shared>,
    alive_subject: String,
    prefix: String,
}

impl Tasks {
    /// Tells other purge APIs what nodes report here, for ever.
    async fn tell(self, mut told: mpsc::Receiver<Told>, client: Client) {
        while let Some(told) = told.recv().await {
            let (subject, heard) = match told {
                // Hexadecimal: the name of a node may have dots.
                Told::News(node, heard) => (
                    format!("{}{}", self.prefix, hex(node.as_str().as_bytes())),
                    heard,
                ),
                Told::Alive(heard) => (self.alive_subject.clone(), heard),
            };
            let payload = serde_json::to_vec(&heard).expect("reports have only string keys");
            // The client is cut off: nodes say it again. Nobody waits for the stream either, for the same reason.
            client.publish(subject, payload.into()).await.ok();
        }
    }

    /// Hears that nodes are still there, for ever.
    async fn listen(self, client: Client) {
        let Ok(mut hearing) = client.subscribe(self.alive_subject.clone()).await else {
            tracing::error!("reports of other purge APIs are not heard");
            return;
        };
        while let Some(message) = hearing.next().await {
            let Some(shared) = self.shared.upgrade() else {
                return;
            };
            if let Ok(heard) = serde_json::from_slice(&message.payload) {
                shared.note(heard);
            }
        }
    }

    /// Reads the news, for ever.
    async fn read(self, reports: Stream, heads: Arc<Heads>) {
        let mut next = 1;
        while self.shared.strong_count() > 0 {
            if let Err(error) = self
                .read_until_interrupted(&reports, &mut next, &heads)
                .await
            {
                tracing::warn!(%error, "reading what nodes reported was interrupted");
            }
            sleep(READ_AGAIN_AFTER).await;
        }
    }

    async fn read_until_interrupted(
        &self,
        reports: &Stream,
        next: &mut u64,
        heads: &Heads,
    ) -> Result<(), StorageError> {
        // What shows that the servers agree is read too: it tells this reader that its server is still there.
        let config = OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: *next,
            },
            ..OrderedConfig::default()
        };
        let consumer = reports.create_consumer(config).await;
        let consumer = consumer.map_err(StorageError::new)?;
        let mut messages = consumer.messages().await.map_err(StorageError::new)?;
        // Each purge API writes that it is alive once a second: silence is an end.
        while let Ok(Some(message)) = timeout(SILENCE_MAX, messages.next()).await {
            let message = message.map_err(StorageError::new)?;
            let Ok(info) = message.info() else { break };
            let sequence = info.stream_sequence;
            let is_news = message.subject.starts_with(&self.prefix);
            if is_news && let Ok(heard) = serde_json::from_slice(&message.payload) {
                self.take(heard).await;
            }
            *next = sequence + 1;
            let said = (!is_news).then_some(&*message.payload);
            heads.hear(sequence, said);
        }
        Ok(())
    }

    /// Notes news; those about purges that are not here yet wait for them a while.
    async fn take(&self, heard: Heard) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let mut bounds = shared.bounds.clone();
        let of_this_log = heard
            .reports
            .iter()
            .filter(|r| r.log == bounds.borrow().log);
        let through = of_this_log.map(|report| report.through).max();
        let through = through.unwrap_or(Sequence::START);
        let is_here = bounds.wait_for(|bounds| bounds.head >= through);
        // A node that claims to be further than the log gets the benefit of the doubt no longer than this.
        timeout(PURGES_WITHIN, is_here).await.ok();
        shared.note(heard);
    }
}

/// Lines of one message: with 160 bytes each, far below what servers take.
const LINES_PER_MESSAGE: usize = 512;

/// The pause before reading is tried again.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How long nothing may come from a server that is there.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// How long news wait for the purges that they are about.
const PURGES_WITHIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use purge_log::{Applied, Counts, LogId};

    use super::*;

    fn report(node: &str, lines: u64) -> Report {
        let line = |sequence| Applied {
            sequence: Sequence(sequence),
            at: UnixMillis(1),
            counts: Counts::default(),
        };
        Report {
            node: node.parse().unwrap(),
            log: LogId(1),
            through: Sequence(lines),
            age_ms: 0,
            applied: (1..=lines).map(line).collect(),
        }
    }

    #[test]
    fn news_are_told_node_by_node_in_pieces_and_the_rest_together() {
        let news = BTreeSet::from(["fra".parse().unwrap()]);
        let reports = vec![report("fra", 1000), report("sin", 3), report("gru", 0)];
        let told = sort(reports, &news, UnixMillis(7));
        let lines: Vec<_> = told
            .iter()
            .map(|told| match told {
                Told::News(node, heard) => {
                    assert_eq!(node.as_str(), "fra");
                    assert_eq!(heard.reports[0].through, Sequence(1000));
                    heard.reports[0].applied.len()
                }
                Told::Alive(heard) => {
                    assert_eq!(heard.reports.len(), 2);
                    heard.reports.iter().map(|r| r.applied.len()).sum()
                }
            })
            .collect();
        assert_eq!(lines, [512, 488, 0]);
    }
}
