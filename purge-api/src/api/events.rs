//! The progress of a purge as server-sent events: one per node that applied it, and one at the end.
//!
//! ```text
//! event: applied      data: a node as in the status       for each node, once
//! event: done         data: the status                    every node applied it
//! event: timeout      data: the status                    the stream lasted as long as it may
//! ```

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use purge_log::{Entry, NodeName};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::Api;
use super::problem::{Problem, ProblemKind};
use super::status::{NodeState, PurgeState, PurgeStatus, find};
use crate::auth::Caller;

/// What one stream is at.
struct Watching {
    api: Api,
    entry: Arc<Entry>,
    progress: watch::Receiver<u64>,
    told: BTreeSet<NodeName>,
    deadline: Instant,
    is_over: bool,
    /// Held for as long as the stream is.
    _permit: OwnedSemaphorePermit,
}

/// `GET /v1/purges/{id}/events`.
pub(super) async fn events(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let entry = find(&api, &caller, &id).await?;
    let permit = Arc::clone(&api.shared.events).try_acquire_owned();
    let permit = permit.map_err(|_| {
        let detail = "as many streams of events are open as may be";
        Problem::new(ProblemKind::Busy, detail)
    })?;
    let watching = Watching {
        progress: api.shared.journal.progress(),
        deadline: Instant::now() + api.shared.limits.events_for_max,
        api,
        entry,
        told: BTreeSet::new(),
        is_over: false,
        _permit: permit,
    };
    let events = watching.stream().map(Ok::<_, Infallible>);
    let no_store = [(axum::http::header::CACHE_CONTROL, "no-store")];
    let sse = Sse::new(events).keep_alive(KeepAlive::default());
    Ok((no_store, sse).into_response())
}

impl Watching {
    fn stream(self) -> impl Stream<Item = Event> {
        let batches = stream::unfold(self, |mut watching| async move {
            let events = watching.next().await?;
            Some((stream::iter(events), watching))
        });
        batches.flatten()
    }

    /// Waits until there is something to tell; `None` at the end.
    async fn next(&mut self) -> Option<Vec<Event>> {
        while !self.is_over {
            self.progress.borrow_and_update();
            let status = PurgeStatus::of(&self.api, &self.entry).await.ok()?;
            let mut events = self.news(&status);
            if status.state == PurgeState::Applied {
                self.is_over = true;
                events.push(event("done", &status));
            }
            if !events.is_empty() {
                return Some(events);
            }
            tokio::select! {
                changed = self.progress.changed() => changed.ok()?,
                () = tokio::time::sleep_until(self.deadline) => {
                    self.is_over = true;
                    return Some(vec![event("timeout", &status)]);
                }
                () = self.api.shared.closing.cancelled() => return None,
            }
        }
        None
    }

    fn news(&mut self, status: &PurgeStatus) -> Vec<Event> {
        let applied = status.nodes.iter();
        let applied = applied.filter(|node| node.state == NodeState::Applied);
        let mut events = Vec::new();
        for node in applied {
            if self.told.insert(node.node.clone()) {
                events.push(event("applied", node));
            }
        }
        events
    }
}

fn event(name: &str, data: &impl serde::Serialize) -> Event {
    let data = serde_json::to_string(data).expect("an answer has only string keys");
    Event::default().event(name).data(data)
}
