//! HTTP/1.1 and HTTP/2 over TCP, encrypted or not.
//!
//! What is here: one connection from its first byte to its end, for any byte stream. Who calls it:
//! the workers for sockets; tests for the streams of a simulated network. It calls the service
//! through `answer`. Deliberately not here: accepting connections, HTTP/3.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, CountedBody, Overdue, WatchedIo};
use super::answer::Answerer;
use super::eager::{self, Begun};
use super::gather::gathering;
use super::priority::Urgency;
use super::records::filling;
use super::{ListenLimits, limits};
use crate::clock::Clock;
use crate::exchange::{Answering, Exchange, Peer, Protocol};
use crate::interim::InterimOutbox;
use crate::live::ConnectionHolds;
use crate::tasks::Tasks;
use crate::upload::Upload;

/// Serves HTTP/1.1 or HTTP/2 with prior knowledge on a clear-text stream, to its end.
///
/// `tasks` owns what the connection starts, and asks it to drain: HTTP/1.1 ends after the current
/// response with `Connection: close`, HTTP/2 after GOAWAY and the streams begun before it.
///
/// # Cancel safety
///
/// Dropping the future closes the stream at once; responses under way are cut, never completed.
pub async fn serve_stream<IO>(
    io: IO,
    client: SocketAddr,
    service: impl Exchange,
    limits: &ListenLimits,
    tasks: &Tasks,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answerer = Answerer::new(service, Clock::system());
    serve_clear(io, client, &answerer, limits, tasks).await;
}

/// Serves a clear-text stream.
pub(super) async fn serve_clear<IO, S>(
    mut io: IO,
    client: SocketAddr,
    answerer: &Answerer<S>,
    limits: &ListenLimits,
    tasks: &Tasks,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Exchange,
{
    let detected = tokio::select! {
        detected = timeout(limits.head_timeout, detect(&mut io)) => detected,
        () = tasks.ending() => return,
    };
    let Ok(Some((protocol, already_read))) = detected else {
        return;
    };
    let peer = Peer {
        address: client,
        protocol,
        is_secure: false,
        interim: interim_of(protocol),
        held: ConnectionHolds::default(),
        handshake: None,
    };
    let connection = Connection {
        answerer,
        peer: Arc::new(peer),
        limits,
        tasks,
    };
    if protocol == Protocol::Http2 {
        let (io, sender) = gathering(io);
        let served = connection.serve(io, already_read, |cx| sender.send(cx));
        Box::pin(served).await;
    } else {
        Box::pin(connection.serve(io, already_read, |_| false)).await;
    }
}

/// Serves a stream that begins with a TLS handshake.
pub(super) async fn serve_tls<IO, S>(
    io: IO,
    client: SocketAddr,
    acceptor: &TlsAcceptor,
    answerer: &Answerer<S>,
    limits: &ListenLimits,
    tasks: &Tasks,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Exchange,
{
    let shaken = tokio::select! {
        // Boxed here and below: a task has room for the largest that it may become, and this one is idle for hours.
        shaken = Box::pin(timeout(limits.head_timeout, acceptor.accept(io))) => shaken,
        () = tasks.ending() => return,
    };
    let Ok(Ok(stream)) = shaken else {
        return;
    };
    let protocol = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        // RFC 7301 lets a client say nothing; HTTP/1.1 is what it then speaks.
        Some(_) | None => Protocol::Http1,
    };
    let peer = Peer {
        address: client,
        protocol,
        is_secure: true,
        interim: interim_of(protocol),
        held: ConnectionHolds::default(),
        handshake: None,
    };
    let connection = Connection {
        answerer,
        peer: Arc::new(peer),
        limits,
        tasks,
    };
    if protocol == Protocol::Http2 {
        let (io, sender) = filling(stream);
        let served = connection.serve(io, Bytes::new(), |cx| sender.send(cx));
        Box::pin(served).await;
    } else {
        Box::pin(connection.serve(stream, Bytes::new(), |_| false)).await;
    }
}

/// hyper can send interim responses on no connection; on HTTP/1.1 `WatchedIo` can.
fn interim_of(protocol: Protocol) -> InterimOutbox {
    match protocol {
        Protocol::Http1 => InterimOutbox::http1(),
        Protocol::Http2 | Protocol::Http3 => InterimOutbox::default(),
    }
}

/// Reads until it is clear whether the client speaks HTTP/2 with prior knowledge (RFC 9113 3.3).
///
/// Returns what was read with it; `None` if the stream ended first.
async fn detect<IO: AsyncRead + Unpin>(io: &mut IO) -> Option<(Protocol, Bytes)> {
    let mut read = BytesMut::with_capacity(HTTP2_PREFACE.len());
    while HTTP2_PREFACE.starts_with(&read) {
        if read.len() == HTTP2_PREFACE.len() {
            return Some((Protocol::Http2, read.freeze()));
        }
        if io.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
    Some((Protocol::Http1, read.freeze()))
}

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct Connection<'a, S> {
    answerer: &'a Answerer<S>,
    peer: Arc<Peer>,
    limits: &'a ListenLimits,
    tasks: &'a Tasks,
}

impl<S: Exchange> Connection<'_, S> {
    /// Serves the connection to its end; `turn_over` is called whenever it has been polled, and returns whether
    /// everything is written that could be.
    async fn serve<IO>(
        self,
        io: IO,
        already_read: Bytes,
        turn_over: impl Fn(&mut Context<'_>) -> bool,
    ) where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let protocol = self.peer.protocol;
        let activity = Activity::new(protocol == Protocol::Http1);
        let io = TokioIo::new(WatchedIo {
            io,
            already_read,
            activity: activity.clone(),
            interim: self.peer.interim.clone(),
            unsent: Bytes::new(),
        });
        let service = {
            let (activity, peer) = (activity.clone(), Arc::clone(&self.peer));
            let answerer = Arc::new(self.answerer.clone());
            hyper::service::service_fn(move |request| answer(&answerer, &peer, &activity, request))
        };
        match protocol {
            Protocol::Http1 => {
                let connection = http1(self.limits).serve_connection(io, service);
                let driven = Turns {
                    connection: pin!(connection),
                    turn_over,
                    activity: &activity,
                };
                drive(driven, self.limits, self.tasks.signal()).await;
            }
            Protocol::Http2 => {
                std::future::poll_fn(|cx| {
                    activity.ordered(cx.waker());
                    Poll::Ready(())
                })
                .await;
                let executor = OwnedExecutor(self.tasks.clone());
                let connection = http2(executor, self.limits).serve_connection(io, service);
                let driven = Turns {
                    connection: pin!(connection),
                    turn_over,
                    activity: &activity,
                };
                drive(driven, self.limits, self.tasks.signal()).await;
            }
            Protocol::Http3 => unreachable!("HTTP/3 is no byte stream"),
        }
    }
}

/// Answers one request. What can be answered at once never is in a future of its own: that would be copied on its
/// way to where it is polled.
fn answer<S: Exchange>(
    answerer: &Arc<Answerer<S>>,
    peer: &Arc<Peer>,
    activity: &Activity,
    request: Request<Incoming>,
) -> Responding {
    let in_flight = activity.request();
    let (head, incoming) = request.into_parts();
    let asked = match peer.protocol {
        // One response at a time: it goes before nobody.
        Protocol::Http1 => None,
        Protocol::Http2 | Protocol::Http3 => Urgency::of(&head.headers),
    };
    // RFC 9110 15.2: not to a client of HTTP/1.0.
    let can_take_interim = head.version > Version::HTTP_10;
    let is_head = head.method == Method::HEAD;
    // A body that nobody reads is dropped: hyper then skips it or closes the connection, so that it
    // cannot be taken for the next request.
    let upload = if Upload::has_meaning_with(&head.method) {
        Upload::hyper(incoming)
    } else {
        Upload::empty()
    };
    match answerer.begin(peer, Request::from_parts(head, upload)) {
        Answering::Now(mut response) => {
            answerer.dress(&mut response, peer.protocol, is_head);
            Responding::Now(Some(in_flight.counting(response, asked, peer.protocol)))
        }
        Answering::Later(mut answered) => {
            let (answerer, peer) = (Arc::clone(answerer), Arc::clone(peer));
            Responding::Later(Box::pin(async move {
                let mut response = if can_take_interim {
                    peer.interim.until(answered.as_mut()).await
                } else {
                    answered.await
                };
                answerer.dress(&mut response, peer.protocol, is_head);
                in_flight.counting(response, asked, peer.protocol)
            }))
        }
    }
}

/// The response to one request, as hyper waits for it.
#[expect(
    clippy::large_enum_variant,
    reason = "a hit is the common case, and boxing it is what this avoids"
)]
enum Responding {
    /// It is there; `None` once it was taken.
    Now(Option<Response<CountedBody>>),
    Later(BoxFuture<'static, Response<CountedBody>>),
}

impl Future for Responding {
    type Output = Result<Response<CountedBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Now(response) => {
                let response = response.take();
                Poll::Ready(Ok(response.expect("it is polled until it is ready")))
            }
            Self::Later(answered) => answered.as_mut().poll(cx).map(Ok),
        }
    }
}

fn http1(limits: &ListenLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // `Activity` times heads, and tells them from idling.
        .header_read_timeout(None)
        .max_header_size(limits.head_bytes_max)
        .max_headers(limits::HEAD_FIELDS_MAX)
        .max_buf_size(limits::HTTP1_BUFFER_BYTES_MAX.max(limits.head_bytes_max))
        .half_close(false)
        .keep_alive(true)
        // Gathering the flushes of pipelined responses would make hyper copy every body into one
        // buffer per connection, and keep it.
        .pipeline_flush(false);
    builder
}

fn http2(executor: OwnedExecutor, limits: &ListenLimits) -> http2::Builder<OwnedExecutor> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection_max)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        // We only receive requests: small windows.
        .initial_stream_window_size(limits::REQUEST_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::REQUEST_CONNECTION_WINDOW_BYTES)
        .adaptive_window(false)
        .max_frame_size(limits::HTTP2_FRAME_BYTES_MAX)
        .max_send_buf_size(limits::HTTP2_STREAM_SEND_BYTES_MAX)
        .max_pending_accept_reset_streams(limits::HTTP2_RESETS_MAX)
        .max_local_error_reset_streams(limits::HTTP2_OUR_RESETS_MAX)
        // FM-21: a held request must not look dead to a middlebox.
        .keep_alive_interval(limits::PING_INTERVAL)
        .keep_alive_timeout(limits::PING_TIMEOUT);
    builder
}

/// Runs the streams of an HTTP/2 connection: what is done at once in the turn that accepts it, the rest as tasks that
/// the node owns.
#[derive(Clone, Debug)]
struct OwnedExecutor(Tasks);

impl<F> hyper::rt::Executor<F> for OwnedExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        if let Begun::Unfinished(future) = eager::begin(future) {
            self.0.spawn(future);
        }
    }
}

/// A connection, and what is to be done after each of its turns.
struct Turns<'a, C, T> {
    connection: Pin<&'a mut C>,
    turn_over: T,
    activity: &'a Activity,
}

impl<C: GracefulConnection, T: Fn(&mut Context<'_>) -> bool> Turns<'_, C, T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.connection.as_mut().poll(cx);
        if (self.turn_over)(cx) {
            self.activity.all_written(cx.waker());
        }
        // Why it ended is nothing that a server could do something about.
        polled.map(|_| ())
    }
}

/// Drives a connection until it ends, is overdue, or has drained.
async fn drive<C: GracefulConnection, T: Fn(&mut Context<'_>) -> bool>(
    mut turns: Turns<'_, C, T>,
    limits: &ListenLimits,
    ending: CancellationToken,
) {
    let overdue = tokio::select! {
        // First, so that a response which is ready by then says `Connection: close`.
        biased;
        () = ending.cancelled() => {
            turns.connection.as_mut().graceful_shutdown();
            // The owner of the tasks sets the deadline of a drain; a connection that falls silent
            // in it ends as always.
            until_overdue(&mut turns, limits).await
        }
        overdue = until_overdue(&mut turns, limits) => overdue,
    };
    if overdue == Some(Overdue::Idle) {
        turns.connection.as_mut().graceful_shutdown();
        // What happens in the time of the farewell no longer counts.
        let farewell = std::future::poll_fn(|cx| turns.poll(cx));
        timeout(limits.head_timeout, farewell).await.ok();
    }
}

/// Polls a connection to its end (`None`), or until it is overdue.
async fn until_overdue<C: GracefulConnection, T: Fn(&mut Context<'_>) -> bool>(
    turns: &mut Turns<'_, C, T>,
    limits: &ListenLimits,
) -> Option<Overdue> {
    let activity = turns.activity;
    let mut alarm = pin!(tokio::time::sleep_until(activity.deadline(limits).0));
    std::future::poll_fn(|cx: &mut Context<'_>| {
        let mut now = Instant::now();
        activity.turn_begins(now);
        if turns.poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        loop {
            let (deadline, overdue) = activity.deadline(limits);
            if deadline <= now {
                return Poll::Ready(Some(overdue));
            }
            // A deadline that moved away is looked up when the alarm rings: re-arming the timer on
            // every event would cost more than a rare useless wake-up.
            if deadline < alarm.deadline() || alarm.is_elapsed() {
                alarm.as_mut().reset(deadline);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            now = Instant::now();
        }
    })
    .await
}
