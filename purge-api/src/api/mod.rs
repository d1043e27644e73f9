//! The purge API over HTTP: routes, and what happens to every request before its route sees it.
//!
//! What is here: [`Api`], and its two routers: [`public`] for everybody who shows who they are, [`private`] for
//! the loopback interface. Who calls it: `server` puts them on listeners. What it calls: `auth`, `journal`,
//! `audit`. Deliberately not here: sockets and TLS.
//!
//! ```text
//! read the body under its limit ─► who asks? ─► PURGE? ─► route ─► answer
//!        └─ problem                  └─ problem              └─ problem ─► counted, audited
//! ```

mod body;
mod compatible;
mod description;
mod events;
mod exposition;
mod list;
mod metrics;
mod problem;
mod reports;
mod status;
mod strangers;
mod submit;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header, request::Parts};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use purge_log::UnixMillis;
use purge_log::feed::{REPORTS_BYTES_MAX, REPORTS_PATH};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::{Audit, Event};
use crate::auth::{Authenticator, Caller, Shown, Verb};
use crate::feed::Feed;
use crate::journal::{ClaimError, Journal};

pub use problem::{MEDIA_TYPE, Problem, ProblemKind};
pub use status::{NodeState, NodeStatus, PurgeState, PurgeStatus};
pub use submit::NewPurge;

use metrics::Metrics;
use strangers::Strangers;

/// Tells the time.
pub type Now = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

/// What the API allows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiLimits {
    /// How long the body of a request may take.
    pub body_timeout: Duration,
    /// How long a request may ask to wait until its purge is applied.
    pub wait_max: Duration,
    /// Requests that wait at once; one more is answered without waiting.
    pub waiting_max: usize,
    /// Open streams of events; one more is refused.
    pub events_max: usize,
    /// How long a stream of events lasts.
    pub events_for_max: Duration,
    /// Nodes that follow at once.
    pub feeds_max: usize,
    /// After how long without a report a node counts as absent.
    pub absent_after: Duration,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            body_timeout: Duration::from_secs(10),
            wait_max: Duration::from_secs(60),
            waiting_max: 1000,
            events_max: 256,
            events_for_max: Duration::from_secs(600),
            feeds_max: 1000,
            absent_after: Duration::from_secs(60),
        }
    }
}

/// The purge API. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
}

struct Shared {
    journal: Journal,
    feed: Feed,
    audit: Audit,
    authenticator: Authenticator,
    limits: ApiLimits,
    metrics: Metrics,
    strangers: Strangers,
    now: Now,
    waiting: Semaphore,
    events: Arc<Semaphore>,
    /// Submissions: they are finished, audit and all, even if who asked has left.
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

/// Who is at the other end of a connection; the listener adds it to every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// The names in its verified certificate.
    pub certificate_names: Arc<[String]>,
}

impl Api {
    /// Puts an API together; it stops waiting for anything when `closing` is cancelled.
    pub fn new(
        journal: Journal,
        audit: Audit,
        authenticator: Authenticator,
        limits: ApiLimits,
        now: Now,
        closing: CancellationToken,
    ) -> Self {
        let clock = Arc::clone(&now);
        let shared = Shared {
            feed: Feed::new(journal.clone(), limits.feeds_max, move || clock()),
            journal,
            audit,
            authenticator,
            metrics: Metrics::default(),
            strangers: Strangers::default(),
            waiting: Semaphore::new(limits.waiting_max),
            events: Arc::new(Semaphore::new(limits.events_max)),
            tasks: TaskTracker::new(),
            limits,
            now,
            closing,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Waits until what was accepted is audited.
    pub async fn finish(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    fn now(&self) -> UnixMillis {
        (self.shared.now)()
    }

    fn caller(&self, parts: &Parts, body: &[u8]) -> Result<Caller, Problem> {
        let peer = peer_of(parts);
        let shown = Shown {
            method: parts.method.as_str(),
            host: host_of(parts),
            path_and_query: parts.uri.path_and_query().map_or("/", |path| path.as_str()),
            headers: &parts.headers,
            body,
            certificate_names: &peer.certificate_names,
        };
        let caller = self.shared.authenticator.authenticate(&shown, self.now())?;
        Ok(caller)
    }

    /// Makes sure that no other purge API has seen what the caller shows.
    async fn claim(&self, caller: &Caller, method: &Method) -> Result<(), Problem> {
        let Some(used) = caller.used() else {
            return Ok(());
        };
        match self.shared.journal.claim(used).await {
            // A signed question that is asked twice has the same answer: it is answered while nobody can be asked.
            Err(ClaimError::Storage(_)) if method.is_safe() && caller.is_bound_to_request() => {
                Ok(())
            }
            claimed => Ok(claimed?),
        }
    }

    /// Counts a refusal and writes it down.
    fn note_refusal(&self, peer: &Peer, by: Option<String>, problem: &Problem) {
        self.shared.metrics.refused(problem.kind);
        match by {
            Some(_) => self.note_refused(peer, by, problem),
            None => self.note_stranger(peer, problem),
        }
    }

    fn note_refused(&self, peer: &Peer, by: Option<String>, problem: &Problem) {
        let event = Event::Refused {
            by,
            from: peer.address.to_string(),
            problem: problem.kind.name().to_owned(),
            detail: problem.detail.chars().take(DETAIL_CHARS_MAX).collect(),
        };
        self.shared.audit.note(self.now(), event);
    }
}

/// Returns the routes for everybody who shows who they are.
pub fn public(api: Api) -> Router {
    let feed = crate::feed::router(api.shared.feed.clone())
        .route_layer(from_fn_with_state(api.clone(), reports::observe))
        .route_layer(axum::middleware::from_fn(followers_only));
    Router::new()
        .route("/healthz", get(metrics::health))
        .route("/v1/openapi.json", get(description::description))
        .route("/v1/purges", get(list::list).post(submit::submit_json))
        .route("/v1/purges/{id}", get(status::status))
        .route("/v1/purges/{id}/events", get(events::events))
        .route("/v1/nodes", get(list::nodes))
        .route("/metrics", get(metrics::metrics))
        .route("/service/{host}/purge", post(compatible::keys))
        .route("/service/{host}/purge/{key}", post(compatible::key))
        .route("/service/{host}/purge_all", post(compatible::all))
        .with_state(api.clone())
        .merge(feed)
        .fallback(nothing_here)
        .method_not_allowed_fallback(other_method)
        .layer(from_fn_with_state(api, admit))
}

/// Returns the routes for a listener that only this machine, or a private network, can reach: they ask nobody who they are.
pub fn private(api: Api) -> Router {
    let feed = crate::feed::router(api.shared.feed.clone())
        .route_layer(from_fn_with_state(api.clone(), reports::observe));
    Router::new()
        .route("/healthz", get(metrics::health))
        .route("/metrics", get(metrics::private_metrics))
        .with_state(api)
        .merge(feed)
        .fallback(nothing_here)
}

/// What happens to every request before its route sees it.
async fn admit(State(api): State<Api>, request: Request, next: Next) -> Response {
    // `PURGE /healthz` is about a URL of some host, and not about this API.
    let is_open = OPEN_PATHS.contains(&request.uri().path());
    if is_open && request.method() == Method::GET {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let peer = peer_of(&parts);
    parts.extensions.insert(peer.clone());
    let bytes_max = match parts.uri.path() {
        REPORTS_PATH => REPORTS_BYTES_MAX,
        _ => purge_log::REQUEST_BYTES_MAX,
    };
    let read = body::read(body, bytes_max, api.shared.limits.body_timeout).await;
    let proven = async {
        let body = read?;
        let caller = api.caller(&parts, &body)?;
        api.claim(&caller, &parts.method).await?;
        Ok((body, caller))
    };
    let (body, caller) = match proven.await {
        Ok(proven) => proven,
        Err(problem) => {
            api.note_refusal(&peer, None, &problem);
            return problem.into_response();
        }
    };
    let by = caller.name().to_owned();
    let response = if parts.method.as_str() == "PURGE" {
        compatible::purge(&api, caller, &parts)
            .await
            .into_response()
    } else {
        parts.extensions.insert(caller);
        next.run(Request::from_parts(parts, Body::from(body))).await
    };
    if let Some(problem) = response.extensions().get::<Problem>() {
        api.note_refusal(&peer, Some(by), problem);
    }
    response
}

/// Lets pass who may follow the feed.
async fn followers_only(request: Request, next: Next) -> Response {
    match allowed(request.extensions().get(), Verb::Follow) {
        Ok(_) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Returns the caller if `verb` is in its scope.
fn allowed(caller: Option<&Caller>, verb: Verb) -> Result<&Caller, Problem> {
    let caller = caller.expect("every request here has passed `admit`");
    if caller.scope().allows(verb) {
        Ok(caller)
    } else {
        Err(crate::auth::Forbidden::Verb(verb.as_str()).into())
    }
}

async fn nothing_here(request: Request) -> Problem {
    let path: String = request.uri().path().chars().take(128).collect();
    let detail = format!("`{path}` is no route: GET /v1/openapi.json lists them");
    Problem::new(ProblemKind::NotFound, detail)
}

async fn other_method(method: Method) -> Problem {
    let name: String = method.as_str().chars().take(32).collect();
    let detail = format!("`{name}` is not allowed here: GET /v1/openapi.json lists what is");
    Problem::new(ProblemKind::MethodNotAllowed, detail)
}

/// Returns the host a request asks for: of an absolute target, or of `Host` (RFC 9112 3.2.2).
fn host_of(parts: &Parts) -> &str {
    let of_target = parts.uri.authority().map(|authority| authority.as_str());
    of_target
        .or_else(|| text_of(&parts.headers, header::HOST.as_str()))
        .unwrap_or_default()
}

/// Returns the one value of a field that is text.
fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Returns who sent a request; a stranger if the listener does not say.
fn peer_of(parts: &Parts) -> Peer {
    parts.extensions.get().cloned().unwrap_or_else(|| Peer {
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        certificate_names: Arc::from([]),
    })
}

/// Returns JSON that nobody may store.
fn json(value: &impl serde::Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("an answer has only string keys");
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Bytes::from(body)).into_response()
}

/// What anybody may read: it says nothing about purges.
const OPEN_PATHS: [&str; 2] = ["/healthz", "/v1/openapi.json"];

/// Characters of a refusal that are written to the audit.
const DETAIL_CHARS_MAX: usize = 512;
