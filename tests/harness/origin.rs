//! An origin that does exactly what a scenario says, and remembers what it was asked.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The body of an origin's reply.
pub type ReplyBody = BoxBody<Bytes, io::Error>;
type Reply = Pin<Box<dyn Future<Output = Response<ReplyBody>> + Send>>;
type Behavior = Arc<dyn Fn(Asked) -> Reply + Send + Sync>;

/// A request as the origin saw it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method.
    pub method: Method,
    /// Path and query, byte for byte.
    pub target: String,
    /// The header fields.
    pub fields: HeaderMap,
    /// The content.
    pub content: Bytes,
    /// How many requests for the same path came before.
    pub before: usize,
}

impl Asked {
    /// Returns the value of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query
            .split('&')
            .filter_map(|p| p.split_once('='))
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v)
    }

    /// Returns the path alone.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or("")
    }
}

/// A scripted origin.
#[derive(Clone)]
pub struct Origin {
    inner: Arc<Inner>,
}

struct Inner {
    behaviors: Mutex<HashMap<String, Behavior>>,
    asked: watch::Sender<Vec<Asked>>,
    connections: Mutex<JoinSet<()>>,
}

impl Default for Origin {
    fn default() -> Self {
        let inner = Inner {
            behaviors: Mutex::default(),
            asked: watch::Sender::new(Vec::new()),
            connections: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }
}

impl Origin {
    /// Answers requests for `path` with what `behave` returns.
    pub fn on<F, R>(&self, path: &str, behave: F)
    where
        F: Fn(Asked) -> R + Send + Sync + 'static,
        R: Future<Output = Response<ReplyBody>> + Send + 'static,
    {
        let behavior: Behavior = Arc::new(move |asked| Box::pin(behave(asked)));
        self.inner
            .behaviors
            .lock()
            .insert(path.to_owned(), behavior);
    }

    /// Answers requests for `path` with 200, these header fields and this body.
    pub fn serve(&self, path: &str, fields: &[(&str, &str)], body: impl Into<Bytes>) {
        let body = body.into();
        let fields: Vec<(String, String)> = fields
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        self.on(path, move |_| {
            let mut reply = Response::builder().status(StatusCode::OK);
            for (name, value) in &fields {
                reply = reply.header(name.as_str(), value.as_str());
            }
            let reply = reply
                .header("content-length", body.len())
                .body(whole(body.clone()));
            std::future::ready(reply.expect("a scripted reply is well formed"))
        });
    }

    /// Returns every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.inner.asked.borrow().clone()
    }

    /// Returns how many requests for `path` came so far, whatever their query.
    pub fn requests(&self, path: &str) -> usize {
        self.inner
            .asked
            .borrow()
            .iter()
            .filter(|asked| asked.path() == path)
            .count()
    }

    /// Returns how many requests for exactly this path and query came so far.
    pub fn requests_exactly(&self, target: &str) -> usize {
        self.inner
            .asked
            .borrow()
            .iter()
            .filter(|asked| asked.target == target)
            .count()
    }

    /// Waits until `path` has been asked for `times` times: a barrier.
    pub async fn asked_for(&self, path: &str, times: usize) {
        let mut asked = self.inner.asked.subscribe();
        let count = |all: &Vec<Asked>| all.iter().filter(|a| a.path() == path).count() >= times;
        asked
            .wait_for(count)
            .await
            .expect("the origin outlives the scenario");
    }

    /// Waits until exactly this path and query has been asked for.
    pub async fn asked_for_exactly(&self, target: &str) {
        let mut asked = self.inner.asked.subscribe();
        let is_there = |all: &Vec<Asked>| all.iter().any(|a| a.target == target);
        asked
            .wait_for(is_there)
            .await
            .expect("the origin outlives the scenario");
    }

    /// Cuts every connection, as a machine that dies does.
    pub fn cut_connections(&self) {
        self.inner.connections.lock().abort_all();
    }

    /// Serves one connection.
    pub fn accept(&self, pipe: DuplexStream) {
        let origin = self.clone();
        let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
            let origin = origin.clone();
            async move { Ok::<_, Infallible>(origin.reply(request).await) }
        });
        self.inner.connections.lock().spawn(async move {
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A reset body ends its connection with an error: that is what was asked for.
            builder
                .serve_connection(TokioIo::new(pipe), service)
                .await
                .ok();
        });
    }

    async fn reply(&self, request: http::Request<Incoming>) -> Response<ReplyBody> {
        let (head, content) = request.into_parts();
        let content = content.collect().await.map(|all| all.to_bytes());
        let target = head
            .uri
            .path_and_query()
            .map_or("/", |pq| pq.as_str())
            .to_owned();
        let path = head.uri.path().to_owned();
        let mut asked = Asked {
            method: head.method,
            target,
            fields: head.headers,
            content: content.unwrap_or_default(),
            before: 0,
        };
        self.inner.asked.send_modify(|all| {
            asked.before = all.iter().filter(|a| a.path() == path).count();
            all.push(asked.clone());
        });
        let behavior = self.inner.behaviors.lock().get(&path).cloned();
        match behavior {
            Some(behave) => behave(asked).await,
            None => status(StatusCode::NOT_FOUND),
        }
    }
}

/// Returns a body that is all there.
pub fn whole(bytes: Bytes) -> ReplyBody {
    http_body_util::Full::new(bytes)
        .map_err(|never| match never {})
        .boxed()
}

/// Returns a reply without a body.
pub fn status(status: StatusCode) -> Response<ReplyBody> {
    let mut reply = Response::new(whole(Bytes::new()));
    *reply.status_mut() = status;
    reply
}

/// Returns a 200 reply with this body, which may be stored for a minute.
pub fn ok(body: ReplyBody) -> Response<ReplyBody> {
    let mut reply = Response::new(body);
    reply.headers_mut().insert(
        "cache-control",
        http::HeaderValue::from_static("max-age=60"),
    );
    reply
}

/// The hand that feeds a body chunk by chunk.
pub struct Feed {
    sender: tokio::sync::mpsc::Sender<io::Result<Bytes>>,
}

impl Feed {
    /// Returns a feed and the body it feeds.
    pub fn new() -> (Self, ReplyBody) {
        let (sender, receiver) = tokio::sync::mpsc::channel(64);
        let frames = stream::unfold(receiver, |mut receiver| async move {
            let next: Option<io::Result<Bytes>> = receiver.recv().await;
            next.map(|chunk| (chunk.map(Frame::data), receiver))
        });
        (Self { sender }, BodyExt::boxed(StreamBody::new(frames)))
    }

    /// Sends bytes.
    pub async fn send(&self, bytes: impl Into<Bytes>) {
        self.sender
            .send(Ok(bytes.into()))
            .await
            .expect("the node reads the body");
    }

    /// Ends the body with a broken connection.
    pub async fn reset(self) {
        let broken = io::Error::from(io::ErrorKind::ConnectionReset);
        self.sender.send(Err(broken)).await.ok();
    }
}
