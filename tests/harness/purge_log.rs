//! A purge API without a disk: a log in memory that nodes follow over the simulated network.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use node::purge::Standing;
use parking_lot::Mutex;
use purge_log::feed::{FEED_PATH, Log, Missing, Refused, Subscription, read_reports, stream};
use purge_log::{
    Bounds, Entry, LogId, PurgeId, PurgeRequest, Report, Sequence, UnixMillis, Window,
};
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Cdn;
use crate::network::Network;

/// A purge API that keeps its log in memory, as it is reached by one name.
#[derive(Clone)]
pub struct PurgeLog {
    kept: Arc<Kept>,
    network: Network,
    name: String,
    connections: Arc<Mutex<JoinSet<()>>>,
}

struct Kept {
    window: Mutex<Window>,
    bounds: watch::Sender<Bounds>,
    /// How far each node said it is.
    reported: watch::Sender<BTreeMap<String, Sequence>>,
}

impl PurgeLog {
    /// Lets a log that keeps `entries_max` entries be followed at `name`.
    pub(crate) fn start(cdn: &Cdn, name: &str, entries_max: usize) -> Self {
        let window = Window::new(LogId(7), Sequence::START, entries_max);
        let kept = Arc::new(Kept {
            bounds: watch::Sender::new(window.bounds()),
            window: Mutex::new(window),
            reported: watch::Sender::default(),
        });
        Self::at(kept, cdn.network(), name)
    }

    /// Lets the same log be followed at `name`, too, which goes up and down by itself.
    pub fn also_at(&self, name: &str) -> Self {
        Self::at(Arc::clone(&self.kept), &self.network, name)
    }

    fn at(kept: Arc<Kept>, network: &Network, name: &str) -> Self {
        let log = Self {
            kept,
            network: network.clone(),
            name: name.to_owned(),
            connections: Arc::default(),
        };
        let accepting = log.clone();
        network.listen(name, Arc::new(move |pipe| accepting.accept(pipe)));
        log
    }

    /// Adds a purge to the log; returns its place.
    pub fn purge(&self, request: PurgeRequest) -> Sequence {
        let mut window = self.kept.window.lock();
        let Bounds { log, head, .. } = window.bounds();
        let sequence = head.next();
        let entry = Entry {
            sequence,
            id: PurgeId { log, sequence },
            accepted_at: UnixMillis(0),
            request,
            dry_run: false,
            by: "test".to_owned(),
        };
        window
            .push(Arc::new(entry))
            .expect("it is the one after the head");
        self.kept.bounds.send_replace(window.bounds());
        sequence
    }

    /// Cuts everybody off who came by this name and refuses new connections, or accepts them again.
    pub fn set_up(&self, is_up: bool) {
        self.network.set_up(&self.name, is_up);
        if !is_up {
            self.connections.lock().abort_all();
        }
    }

    /// Waits until `node` has reported that it applied everything up to `sequence`: a barrier.
    pub async fn applied_by(&self, node: &str, sequence: Sequence) {
        let mut reported = self.kept.reported.subscribe();
        let is_there = |all: &BTreeMap<String, Sequence>| {
            all.get(node).is_some_and(|through| *through >= sequence)
        };
        reported
            .wait_for(is_there)
            .await
            .expect("the log outlives the scenario");
    }

    fn accept(&self, pipe: DuplexStream) {
        let log = self.clone();
        let service = service_fn(move |request| {
            let log = log.clone();
            async move { Ok::<_, Infallible>(log.answer(request).await) }
        });
        self.connections.lock().spawn(async move {
            let connection = http1::Builder::new().serve_connection(TokioIo::new(pipe), service);
            // A node that leaves ends its connection with an error.
            connection.await.ok();
        });
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let (head, content) = request.into_parts();
        if head.uri.path() == FEED_PATH {
            let query = head.uri.query().unwrap_or_default();
            let subscription = Subscription::from_query(query).expect("nodes ask well");
            let lines = stream(self.clone(), subscription.start);
            let frames = lines.map(|line| Ok(Frame::data(line)));
            return Response::new(StreamBody::new(frames).boxed_unsync());
        }
        let content = content.collect().await.map(|all| all.to_bytes());
        let reports = read_reports(&content.unwrap_or_default()).expect("nodes report well");
        self.report(reports).expect("there is no limit");
        let mut response = Response::new(Full::default().boxed_unsync());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    }
}

impl Log for PurgeLog {
    fn subscribe(&self) -> watch::Receiver<Bounds> {
        self.kept.bounds.subscribe()
    }

    fn age(&self) -> Duration {
        Duration::ZERO
    }

    async fn read_after(
        &self,
        after: Sequence,
        entries_max: usize,
    ) -> Result<Vec<Arc<Entry>>, Missing> {
        let window = self.kept.window.lock();
        window.read_after(after, entries_max).ok_or(Missing::Behind)
    }

    fn report(&self, reports: Vec<Report>) -> Result<(), Refused> {
        self.kept.reported.send_modify(|all| {
            for report in reports {
                all.insert(report.node.to_string(), report.through);
            }
        });
        Ok(())
    }
}

/// Returns how far `node`, which follows a log, is in it.
///
/// # Panics
///
/// The node follows none.
pub fn standing(node: &node::node::Node) -> Standing {
    node.purge_standing().expect("the node follows a log")
}
