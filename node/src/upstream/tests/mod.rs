//! Upstream against scripted parents on a simulated network, in virtual time.
//!
//! What is here: the network and the parents. The scenarios stand in the files beside this one.

mod choosing;
mod failing;
mod mixing;
mod pooling;
mod securing;
mod threading;
mod writing;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::interim::InterimSink;

/// A network of scripted parents.
#[derive(Default)]
struct Net {
    parents: Mutex<HashMap<String, Arc<ScriptedParent>>>,
}

impl SimulatedNetwork for Net {
    fn connect<'a>(&'a self, authority: &'a str) -> BoxFuture<'a, io::Result<DuplexStream>> {
        let parent = self.parents.lock().get(authority).cloned();
        async move { parent.ok_or(io::ErrorKind::HostUnreachable)?.accept().await }.boxed()
    }
}

/// How a parent treats new connections.
#[derive(Clone, Copy, PartialEq)]
enum Door {
    Open,
    /// The connection is refused.
    Refusing,
    /// Nothing answers.
    Silent,
    /// The connection is accepted and closed.
    Slamming,
    /// The connection is accepted, and the peer never says anything.
    Mute,
    /// HTTP/1.1 by hand: the n-th request of a connection gets the n-th text, then the connection ends.
    ByHand(&'static [&'static str]),
}

/// What a scripted parent speaks.
#[derive(Clone)]
enum Wire {
    Http1,
    Http2 { streams_max: u32 },
    Tls(Arc<rustls::ServerConfig>),
}

/// A request as a parent saw it.
#[derive(Clone, Debug)]
struct Seen {
    connection: usize,
    /// The number of this request on its connection, from 0.
    nth: usize,
    method: Method,
    uri: Uri,
    version: http::Version,
    headers: HeaderMap,
    body: Bytes,
}

/// A parent that does what the path of a request says.
///
/// `/park` is held until `release`, `/drip` sends a head and one chunk and is then held, `/hangup` ends the
/// exchange on a connection that was used before, `/chunks` sends many small ones, `/status/n` answers `n`, and
/// everything else is 200.
struct ScriptedParent {
    authority: String,
    wire: Wire,
    door: Mutex<Door>,
    connections: AtomicUsize,
    open: AtomicUsize,
    parked: AtomicUsize,
    parked_changed: Notify,
    released: Semaphore,
    seen: Mutex<Vec<Seen>>,
    cut: Mutex<CancellationToken>,
    frozen: Mutex<CancellationToken>,
    draining: Mutex<CancellationToken>,
    tasks: Mutex<JoinSet<()>>,
}

/// A chunk that `/drip` sends before it is held.
const FIRST_CHUNK: &[u8] = b"first";
/// What `/chunks` sends, `CHUNKS` times: smaller than any CMAF chunk.
const CHUNK: &[u8] = &[b'c'; 200];
/// Four megabytes in all.
const CHUNKS: usize = 20_000;
/// What every other body is.
const WHOLE: &[u8] = b"whole body";

impl ScriptedParent {
    async fn accept(self: Arc<Self>) -> io::Result<DuplexStream> {
        let door = *self.door.lock();
        let number = self.connections.fetch_add(1, Ordering::SeqCst);
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let parent = Arc::clone(&self);
        let cut = self.cut.lock().clone();
        let served: BoxFuture<'static, ()> = match door {
            Door::Open => async move { parent.serve(ours, number).await }.boxed(),
            Door::Refusing => return Err(io::ErrorKind::ConnectionRefused.into()),
            Door::Silent => std::future::pending().await,
            Door::Slamming => return Ok(theirs),
            Door::Mute => async move {
                let _held = ours;
                std::future::pending().await
            }
            .boxed(),
            Door::ByHand(answers) => async move { parent.by_hand(ours, answers).await }.boxed(),
        };
        let theirs = self.freezable(theirs);
        self.open.fetch_add(1, Ordering::SeqCst);
        let parent = Arc::clone(&self);
        self.tasks.lock().spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = served => {}
            }
            parent.open.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(theirs)
    }

    /// Puts a pump between both ends that stops moving bytes once the parent is frozen.
    fn freezable(&self, server_side: DuplexStream) -> DuplexStream {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let frozen = self.frozen.lock().clone();
        self.tasks.lock().spawn(async move {
            let (mut near, mut server_side) = (near, server_side);
            let ended = tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut server_side) => true,
                () = frozen.cancelled() => false,
            };
            if !ended {
                std::future::pending::<()>().await;
            }
        });
        far
    }

    async fn serve(self: Arc<Self>, io: DuplexStream, number: usize) {
        match self.wire.clone() {
            Wire::Http1 => self.serve_http(io, number, None).await,
            Wire::Http2 { streams_max } => self.serve_http(io, number, Some(streams_max)).await,
            Wire::Tls(config) => {
                let Ok(tls) = TlsAcceptor::from(config).accept(io).await else {
                    return;
                };
                let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
                self.serve_http(tls, number, is_http2.then_some(100)).await;
            }
        }
    }

    async fn serve_http<T>(self: Arc<Self>, io: T, number: usize, streams_max: Option<u32>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let draining = self.draining.lock().clone();
        let count = Arc::new(AtomicUsize::new(0));
        let service = hyper::service::service_fn(move |request| {
            let nth = count.fetch_add(1, Ordering::SeqCst);
            Arc::clone(&self).answer(request, number, nth)
        });
        // How a connection ended is what the other side is tested for.
        match streams_max {
            None => {
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(io), service);
                let mut connection = std::pin::pin!(connection);
                tokio::select! {
                    _ended = connection.as_mut() => return,
                    () = draining.cancelled() => connection.as_mut().graceful_shutdown(),
                }
                let _ended = connection.await;
            }
            Some(max) => {
                let connection = hyper::server::conn::http2::Builder::new(SetExecutor::default())
                    .timer(TokioTimer::new())
                    .max_concurrent_streams(max)
                    .serve_connection(TokioIo::new(io), service);
                let mut connection = std::pin::pin!(connection);
                tokio::select! {
                    _ended = connection.as_mut() => return,
                    () = draining.cancelled() => connection.as_mut().graceful_shutdown(),
                }
                let _ended = connection.await;
            }
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: usize,
        nth: usize,
    ) -> io::Result<Response<UnsyncBoxBody<Bytes, io::Error>>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let path = head.uri.path().to_owned();
        self.seen.lock().push(Seen {
            connection,
            nth,
            method: head.method,
            uri: head.uri,
            version: head.version,
            headers: head.headers,
            body,
        });
        let whole = || {
            Full::new(Bytes::from_static(WHOLE))
                .map_err(never)
                .boxed_unsync()
        };
        if path.starts_with("/park") {
            let _parked = Parked::new(&self);
            self.released
                .acquire()
                .await
                .expect("never closed")
                .forget();
        }
        if path.starts_with("/hangup") && nth > 0 {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if path.starts_with("/drip") {
            let parent = Arc::clone(&self);
            let first = stream::iter([Ok(Frame::data(Bytes::from_static(FIRST_CHUNK)))]);
            let rest = async move {
                let _parked = Parked::new(&parent);
                parent
                    .released
                    .acquire()
                    .await
                    .expect("never closed")
                    .forget();
                Ok(Frame::data(Bytes::from_static(WHOLE)))
            };
            return Ok(Response::new(
                StreamBody::new(first.chain(rest.into_stream())).boxed_unsync(),
            ));
        }
        if path.starts_with("/chunks") {
            let chunk = || Ok(Frame::data(Bytes::from_static(CHUNK)));
            let chunks = stream::repeat_with(chunk).take(CHUNKS);
            return Ok(Response::new(StreamBody::new(chunks).boxed_unsync()));
        }
        let mut response = Response::new(whole());
        if let Some(status) = path.strip_prefix("/status/") {
            *response.status_mut() = StatusCode::from_bytes(status.as_bytes()).expect("a status");
        }
        Ok(response)
    }

    async fn by_hand(&self, mut io: DuplexStream, answers: &'static [&'static str]) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        for answer in answers {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match io.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            self.parked_changed.notify_waiters();
            if io.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn release(&self, count: usize) {
        self.released.add_permits(count);
    }

    /// Waits until exactly `count` exchanges are held.
    async fn parked(&self, count: usize) {
        loop {
            let changed = self.parked_changed.notified();
            if self.parked.load(Ordering::SeqCst) == count {
                return;
            }
            changed.await;
        }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    fn set_door(&self, door: Door) {
        *self.door.lock() = door;
    }

    /// Ends every connection as soon as what it carries is answered.
    fn drain(&self) {
        std::mem::take(&mut *self.draining.lock()).cancel();
    }

    /// Keeps every connection from moving a single byte more.
    fn freeze(&self) {
        std::mem::take(&mut *self.frozen.lock()).cancel();
    }

    /// Ends every connection without a word.
    fn cut_connections(&self) {
        std::mem::take(&mut *self.cut.lock()).cancel();
    }
}

fn never(never: Infallible) -> io::Error {
    match never {}
}

/// An exchange that a parent holds.
struct Parked {
    parent: Arc<ScriptedParent>,
}

impl Parked {
    fn new(parent: &Arc<ScriptedParent>) -> Self {
        parent.parked.fetch_add(1, Ordering::SeqCst);
        parent.parked_changed.notify_waiters();
        Self {
            parent: Arc::clone(parent),
        }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.parent.parked.fetch_sub(1, Ordering::SeqCst);
        self.parent.parked_changed.notify_waiters();
    }
}

/// Runs what an HTTP/2 server starts, and ends it with the connection.
#[derive(Clone, Default)]
struct SetExecutor {
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl<F> hyper::rt::Executor<F> for SetExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.tasks.lock().spawn(future);
    }
}

/// A network, its parents in order, and a node that asks them.
struct Site {
    net: Arc<Net>,
    parents: Vec<Arc<ScriptedParent>>,
    config: UpstreamConfig,
    tasks: Tasks,
}

const HTTP1: Wire = Wire::Http1;
const HTTP2: Wire = Wire::Http2 { streams_max: 100 };

impl Site {
    /// Builds parents `parent-0`, `parent-1` ... that speak `wires`.
    fn new(wires: &[Wire]) -> Self {
        let net = Arc::new(Net::default());
        let mut parents = Vec::new();
        let mut configs = Vec::new();
        for (number, wire) in wires.iter().enumerate() {
            let authority = format!("parent-{number}:8080");
            let parent = Arc::new(ScriptedParent {
                authority: authority.clone(),
                wire: wire.clone(),
                door: Mutex::new(Door::Open),
                connections: AtomicUsize::new(0),
                open: AtomicUsize::new(0),
                parked: AtomicUsize::new(0),
                parked_changed: Notify::new(),
                released: Semaphore::new(0),
                seen: Mutex::default(),
                cut: Mutex::default(),
                frozen: Mutex::default(),
                draining: Mutex::default(),
                tasks: Mutex::default(),
            });
            net.parents.lock().insert(authority, Arc::clone(&parent));
            configs.push(parent_config(&parent));
            parents.push(parent);
        }
        let config = UpstreamConfig {
            parents: configs,
            selection: Selection::Ordered,
            node_name: "edge-1".to_owned(),
            limits: UpstreamLimits::default(),
        };
        Self {
            net,
            parents,
            config,
            tasks: Tasks::new(),
        }
    }

    fn limits(mut self, change: impl FnOnce(&mut UpstreamLimits)) -> Self {
        change(&mut self.config.limits);
        self
    }

    fn upstream(&self) -> Upstream {
        let network: Arc<dyn SimulatedNetwork> = Arc::clone(&self.net) as _;
        Upstream::new(
            self.config.clone(),
            Connector::Simulated(network),
            &self.tasks,
        )
        .unwrap()
    }
}

fn parent_config(parent: &ScriptedParent) -> ParentConfig {
    let is_tls = matches!(parent.wire, Wire::Tls(_));
    let scheme = if is_tls { "https" } else { "http" };
    ParentConfig {
        name: parent.authority.split(':').next().unwrap().to_owned(),
        url: format!("{scheme}://{}", parent.authority).parse().unwrap(),
        weight: 1,
        h2c: matches!(parent.wire, Wire::Http2 { .. }),
        ca_file: None,
        client_certificate: None,
        insecure_skip_verify: is_tls,
        host: None,
        headers: HeaderMap::new(),
    }
}

fn bulk(path_and_query: &str) -> ForwardRequest {
    ForwardRequest {
        method: Method::GET,
        body: Bytes::new(),
        host: "live.example".to_owned(),
        path_and_query: path_and_query.to_owned(),
        headers: HeaderMap::new(),
        affinity: "/live/one/".to_owned(),
        class: Class::Bulk,
        first_byte_timeout: Duration::from_secs(5),
        interim: InterimSink::default(),
        avoid: None,
    }
}

fn parked(path_and_query: &str) -> ForwardRequest {
    ForwardRequest {
        class: Class::Parked,
        first_byte_timeout: Duration::from_secs(20),
        ..bulk(path_and_query)
    }
}

/// Reads the rest of an answer, to its clean end or its error.
async fn read(response: ForwardResponse) -> Result<Bytes, hyper::Error> {
    Ok(response.body.collect().await?.to_bytes())
}

/// Asks for something and reads it whole; returns who answered.
async fn get(upstream: &Upstream, request: &ForwardRequest) -> Result<ParentId, UpstreamError> {
    let response = upstream.fetch(request).await?;
    let parent = response.parent;
    assert_eq!(read(response).await.unwrap(), WHOLE);
    Ok(parent)
}

/// Starts `count` requests as tasks of their own.
fn start(
    upstream: &Upstream,
    request: &ForwardRequest,
    count: usize,
) -> JoinSet<Result<ParentId, UpstreamError>> {
    let mut set = JoinSet::new();
    for _ in 0..count {
        let (upstream, request) = (upstream.clone(), request.clone());
        set.spawn(async move { get(&upstream, &request).await });
    }
    set
}

/// Lets everything that is ready run, without moving the clock.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}
