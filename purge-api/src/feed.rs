//! The feed of the journal over HTTP: what nodes follow, and where they report.
//!
//! Who calls it: the API mounts [`router`] on its listener, behind its authentication. What it calls: the
//! sending side in `purge-log`, over the journal. Deliberately not here: who may follow.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::StreamExt;
use purge_log::feed::{
    CONTENT_TYPE, FEED_PATH, Log, Missing, REPORTS_BYTES_MAX, REPORTS_PATH, Refused, Start,
    Subscription, read_reports, stream,
};
use purge_log::{Bounds, Entry, Report, Sequence, UnixMillis};
use tokio::sync::{Semaphore, watch};

use crate::journal::{Journal, ReadError};

/// The journal as a log that nodes follow.
#[derive(Clone)]
pub struct Feed {
    journal: Journal,
    now: Arc<dyn Fn() -> UnixMillis + Send + Sync>,
    /// A permit per open feed.
    free: Arc<Semaphore>,
    feeds_max: usize,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

impl Feed {
    /// Returns the feed of `journal` for at most `feeds_max` followers at once; `now` dates reports.
    pub fn new(
        journal: Journal,
        feeds_max: usize,
        now: impl Fn() -> UnixMillis + Send + Sync + 'static,
    ) -> Self {
        Self {
            journal,
            now: Arc::new(now),
            free: Arc::new(Semaphore::new(feeds_max)),
            feeds_max,
        }
    }

    /// Returns how many follow right now.
    pub fn open(&self) -> usize {
        self.feeds_max.saturating_sub(self.free.available_permits())
    }
}

/// Returns the routes of the feed, for nodes only: mount them where a node has shown who it is.
pub fn router(feed: Feed) -> Router {
    Router::new()
        .route(FEED_PATH, get(follow))
        .route(REPORTS_PATH, post(report))
        .layer(DefaultBodyLimit::max(REPORTS_BYTES_MAX))
        .with_state(feed)
}

/// Sends the feed until the follower leaves or the journal closes.
async fn follow(State(feed): State<Feed>, RawQuery(query): RawQuery) -> Response {
    let subscription = match Subscription::from_query(query.as_deref().unwrap_or_default()) {
        Ok(subscription) => subscription,
        Err(refused) => return refuse(StatusCode::BAD_REQUEST, &refused),
    };
    let Ok(permit) = Arc::clone(&feed.free).try_acquire_owned() else {
        let reason = "as many nodes follow as may";
        return refuse(StatusCode::SERVICE_UNAVAILABLE, &reason);
    };
    let Subscription { node, start } = subscription;
    if let Start::After(log, after) = start
        && !feed.journal.reaches(log, after).await
    {
        let reason = "this purge API does not know yet what another one has told";
        return refuse(StatusCode::SERVICE_UNAVAILABLE, &reason);
    }
    tracing::info!(%node, ?start, "a node follows");
    let lines = stream(feed, start).map(move |bytes: Bytes| {
        // The permit is held for as long as the stream is.
        let _held = &permit;
        Ok::<_, Infallible>(bytes)
    });
    let headers = [
        (header::CONTENT_TYPE, CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Body::from_stream(lines)).into_response()
}

/// Takes reports: 204, or what is wrong with them.
async fn report(State(feed): State<Feed>, body: Bytes) -> Response {
    let reports = match read_reports(&body) {
        Ok(reports) => reports,
        Err(refused) => return refuse(StatusCode::BAD_REQUEST, &refused),
    };
    // What is noted here now, nobody else learns: another purge API of this log tells it on.
    if feed.journal.age() > CUT_OFF_AFTER {
        let reason = "this purge API is cut off from its log";
        return refuse(StatusCode::SERVICE_UNAVAILABLE, &reason);
    }
    match feed.report(reports) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refused) => refuse(StatusCode::SERVICE_UNAVAILABLE, &refused),
    }
}

fn refuse(status: StatusCode, reason: &impl ToString) -> Response {
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    (status, no_store, reason.to_string() + "\n").into_response()
}

/// After how long without certainty reports are left to another purge API.
const CUT_OFF_AFTER: Duration = Duration::from_secs(5);

impl Log for Feed {
    fn subscribe(&self) -> watch::Receiver<Bounds> {
        self.journal.subscribe()
    }

    fn age(&self) -> Duration {
        self.journal.age()
    }

    async fn read_after(
        &self,
        after: Sequence,
        entries_max: usize,
    ) -> Result<Vec<Arc<Entry>>, Missing> {
        match self.journal.read_after(after, entries_max).await {
            Ok(entries) => Ok(entries),
            Err(ReadError::Behind) => Err(Missing::Behind),
            Err(error) => {
                tracing::error!(%error, "the feed cannot read the journal");
                Err(Missing::Broken)
            }
        }
    }

    fn report(&self, reports: Vec<Report>) -> Result<(), Refused> {
        self.journal.report(reports, (self.now)())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use http_body_util::BodyExt;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;
    use purge_log::feed::write_reports;
    use purge_log::{Applied, Counts, Mode, PurgeRequest, Target};

    use super::*;
    use crate::journal::{Draft, JournalConfig};

    struct Served {
        journal: Journal,
        router: Router,
        _folder: tempfile::TempDir,
    }

    fn served(feeds_max: usize) -> Served {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("purges.redb");
        let (journal, _) = Journal::open(&path, JournalConfig::default()).unwrap();
        let feed = Feed::new(journal.clone(), feeds_max, || UnixMillis(5000));
        Served {
            journal,
            router: router(feed),
            _folder: folder,
        }
    }

    impl Served {
        async fn ask(&self, request: Request<Body>) -> Response {
            let service = TowerToHyperService::new(self.router.clone());
            service.call(request).await.unwrap()
        }

        async fn follow(&self, query: &str) -> Response {
            let target = format!("{FEED_PATH}?{query}");
            self.ask(Request::get(target).body(Body::empty()).unwrap())
                .await
        }

        async fn append(&self, number: u64) {
            let draft = Draft {
                accepted_at: UnixMillis(number),
                request: PurgeRequest {
                    target: Target::All,
                    mode: Mode::Hard,
                },
                dry_run: false,
                by: "test".to_owned(),
                idempotency_key: None,
                used: None,
            };
            self.journal.append(draft).await.unwrap();
        }
    }

    async fn next(response: &mut Response) -> String {
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_purge_reaches_whoever_follows_and_their_report_is_noted() {
        let served = served(1);
        let mut feed = served.follow("node=fra&latest=0").await;
        assert_eq!(feed.headers()["content-type"], CONTENT_TYPE);
        let begun = next(&mut feed).await;
        let log = served.journal.bounds().log;
        let begin = format!("{{\"type\":\"begin\",\"log\":\"{log}\",\"after\":0}}\n");
        assert!(begun.starts_with(&begin), "{begun}");
        served.append(1).await;
        let entry = next(&mut feed).await;
        assert!(entry.contains(&format!("\"id\":\"{log}-1\"")), "{entry}");

        let report = Report {
            node: "fra".parse().unwrap(),
            log,
            through: Sequence(1),
            age_ms: 1000,
            applied: vec![Applied {
                sequence: Sequence(1),
                at: UnixMillis(3999),
                counts: Counts::default(),
            }],
        };
        let body = Body::from(write_reports(&[report]));
        let noted = served
            .ask(Request::post(REPORTS_PATH).body(body).unwrap())
            .await;
        assert_eq!(noted.status(), StatusCode::NO_CONTENT);
        let applied = served.journal.applied(Sequence(1)).await.unwrap();
        let detail = applied[0].detail.unwrap();
        assert_eq!(detail.at, UnixMillis(3999));
        assert_eq!(detail.reported_at, UnixMillis(4000), "as old as it was");
    }

    #[tokio::test]
    async fn one_follower_too_many_is_told_to_come_again() {
        let served = served(1);
        let first = served.follow("node=fra&latest=0").await;
        assert_eq!(first.status(), StatusCode::OK);
        let second = served.follow("node=sin&latest=0").await;
        assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
        let third = served.follow("node=sin&latest=0").await;
        assert_eq!(third.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn what_is_no_request_for_the_feed_is_refused_with_the_reason() {
        let served = served(1);
        let refused = served.follow("node=a&after=x").await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        let request = Request::post(REPORTS_PATH).body(Body::from("[{}]"));
        let refused = served.ask(request.unwrap()).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        let large = Body::from(vec![b' '; REPORTS_BYTES_MAX + 1]);
        let request = Request::post(REPORTS_PATH).body(large);
        let refused = served.ask(request.unwrap()).await;
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_feed_ends_when_the_journal_closes() {
        let served = served(1);
        let mut feed = served.follow("node=fra&latest=0").await;
        next(&mut feed).await;
        let Served { journal, .. } = served;
        journal.close().await;
        assert!(feed.body_mut().frame().await.is_none());
    }
}
