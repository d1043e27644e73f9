//! The order in which the responses of one HTTP/2 connection arrive, by their urgency.
//!
//! It is read off the frames as they come in, over a stream that holds little: no kernel has a say. Time is virtual, so that
//! "when nothing more can happen" is a moment to wait for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cache::body::{GrowingBody, Writer};
use parking_lot::Mutex;
use tokio::io::{DuplexStream, ReadBuf};
use tokio_rustls::TlsAcceptor;

use super::super::answer::Answerer;
use super::super::limits::HTTP2_STREAM_SEND_BYTES_MAX;
use super::super::tcp::{serve_clear, serve_tls};
use super::super::tls::TlsConfigs;
use super::*;
use crate::clock::Clock;
use crate::tasks::Tasks;

const WAYS: [Way; 2] = [Way::H2Clear, Way::H2Tls];

const MIB: usize = 1024 * 1024;

/// What bodies are made of: what they say does not matter here.
static ZEROS: [u8; 32 * MIB] = [0; 32 * MIB];

/// What a client lets be sent on a stream that it does not read, where that is to be in nobody's way.
const LARGE_WINDOW: u32 = 64 * 1024 * 1024;

/// What one response may have handed over when a more urgent one begins.
const HANDED_OVER_MAX: usize = HTTP2_STREAM_SEND_BYTES_MAX + 2 * 64 * 1024;

/// What the stream between both holds, and TLS.
const BETWEEN_MAX: usize = 2 * 64 * 1024;

/// A piece of a body, in the order of arrival.
#[derive(Clone, Copy, Debug)]
struct Piece {
    stream: u32,
    bytes: usize,
}

/// What has arrived at a client, and whether more is let in.
#[derive(Clone, Debug, Default)]
struct Tap(Arc<Mutex<TapState>>);

#[derive(Debug, Default)]
struct TapState {
    pieces: Vec<Piece>,
    frame_head: Vec<u8>,
    payload_left: usize,
    is_shut: bool,
    reader: Option<Waker>,
}

impl Tap {
    fn shut(&self) {
        self.0.lock().is_shut = true;
    }

    fn open(&self) {
        let mut state = self.0.lock();
        state.is_shut = false;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    /// Returns the bytes that have arrived on `stream`.
    fn bytes_of(&self, stream: u32) -> usize {
        let state = self.0.lock();
        let pieces = state.pieces.iter().filter(|piece| piece.stream == stream);
        pieces.map(|piece| piece.bytes).sum()
    }

    /// Returns the bytes of other streams that came before `stream` had so many.
    fn bytes_before(&self, stream: u32, bytes: usize) -> usize {
        let (mut of_it, mut of_others) = (0, 0);
        for piece in &self.0.lock().pieces {
            if of_it >= bytes {
                return of_others;
            }
            if piece.stream == stream {
                of_it += piece.bytes;
            } else {
                of_others += piece.bytes;
            }
        }
        assert!(of_it >= bytes, "it has {of_it} bytes");
        of_others
    }
}

impl TapState {
    /// Reads frames (RFC 9113 4.1).
    fn note(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let of_payload = self.payload_left.min(bytes.len());
            bytes = &bytes[of_payload..];
            self.payload_left -= of_payload;
            if self.payload_left > 0 || bytes.is_empty() {
                return;
            }
            let of_head = (9 - self.frame_head.len()).min(bytes.len());
            self.frame_head.extend_from_slice(&bytes[..of_head]);
            bytes = &bytes[of_head..];
            if let [l0, l1, l2, kind, _, s0, s1, s2, s3] = self.frame_head[..] {
                self.payload_left = u32::from_be_bytes([0, l0, l1, l2]) as usize;
                self.frame_head.clear();
                if kind == 0 {
                    self.pieces.push(Piece {
                        stream: u32::from_be_bytes([s0, s1, s2, s3]),
                        bytes: self.payload_left,
                    });
                }
            }
        }
    }
}

/// A client's stream that notes the frames which come in.
struct Tapped<IO> {
    io: IO,
    tap: Tap,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Tapped<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        {
            let mut state = self.tap.0.lock();
            if state.is_shut {
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.tap.0.lock().note(&buffer.filled()[before..]);
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Tapped<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A client and a server, in one thread and with 64 KiB between them.
struct Joined {
    client: Client,
    tap: Tap,
    /// Serves until the client is gone.
    server: JoinSet<()>,
    /// The streams of the requests that were sent, by their number (RFC 9113 5.1.1).
    next_stream: u32,
}

/// A response that is read to its end by a task.
struct Reading {
    stream: u32,
    task: JoinSet<Result<Bytes, String>>,
}

impl Reading {
    async fn end(mut self) -> usize {
        let joined = self.task.join_next().await.expect("one task");
        joined.unwrap().unwrap().len()
    }
}

impl Joined {
    async fn new(way: Way, service: Scripted, stream_window: u32) -> Self {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let tap = Tap::default();
        let mut server = JoinSet::new();
        let certificates = Certificates::load(&CertificateSource::SelfSigned(Vec::new())).unwrap();
        let tls = client_tls(&certificates, b"h2");
        server.spawn(serve(way, near, service, certificates));
        let (sender, tasks) = match way {
            Way::H2Clear => shake(far, tap.clone(), stream_window).await,
            Way::H2Tls => {
                let name = ServerName::try_from("localhost").unwrap();
                let connector = TlsConnector::from(Arc::new(tls));
                let far = connector.connect(name, far).await.unwrap();
                shake(far, tap.clone(), stream_window).await
            }
            Way::H1Clear | Way::H1Tls | Way::H3 => unreachable!("these tests are about HTTP/2"),
        };
        let sender = Sender::H2(sender);
        Self {
            client: Client { sender, tasks },
            tap,
            server,
            next_stream: 1,
        }
    }

    /// Asks for `path` and reads all of it; `asks` is what the request says of its priority.
    fn read(&mut self, path: &'static str, asks: Option<&'static str>) -> Reading {
        let stream = self.next_stream;
        self.next_stream += 2;
        let mut client = self.client.cloned();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut request = request(Method::GET, path);
            if let Some(priority) = asks {
                let headers = request.headers_mut();
                headers.insert("priority", priority.parse().unwrap());
            }
            client.send(request).await?.collect().await
        });
        Reading { stream, task }
    }

    /// Asks for `path` and reads only its head.
    async fn head(&mut self, path: &str) -> (u32, Answer) {
        let stream = self.next_stream;
        self.next_stream += 2;
        (stream, self.client.get(path).await)
    }
}

async fn serve(way: Way, io: DuplexStream, service: Scripted, certificates: Arc<Certificates>) {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let answerer = Answerer::new(service, Clock::system());
    let (limits, tasks) = (ListenLimits::default(), Tasks::new());
    if way == Way::H2Clear {
        serve_clear(io, address, &answerer, &limits, &tasks).await;
    } else {
        let configs = TlsConfigs::new(certificates, &QuicConfig::default()).unwrap();
        let acceptor = TlsAcceptor::from(configs.tcp);
        serve_tls(io, address, &acceptor, &answerer, &limits, &tasks).await;
    }
}

async fn shake<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    io: IO,
    tap: Tap,
    stream_window: u32,
) -> (
    hyper::client::conn::http2::SendRequest<Full<Bytes>>,
    JoinSet<()>,
) {
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(4 * LARGE_WINDOW);
    let tapped = TokioIo::new(Tapped { io, tap });
    let (sender, connection) = builder.handshake(tapped).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        connection.await.ok();
    });
    (sender, tasks)
}

/// Answers `/U/N` with N bytes of urgency U.
fn ranked() -> Scripted {
    Scripted::new(|_, request| async move {
        let path = request.uri().path().trim_start_matches('/');
        let (urgency, size) = path.split_once('/').unwrap();
        let size: usize = size.parse().unwrap();
        of_urgency(urgency, Body::full(Bytes::from_static(&ZEROS[..size])))
    })
}

fn of_urgency(urgency: &str, body: Body) -> Response<Body> {
    let priority = format!("u={urgency}");
    let response = Response::builder().header("priority", priority);
    response.body(body).unwrap()
}

/// As `ranked`, but bodies of urgency 1 grow by the test's hand.
fn growing() -> (Scripted, tokio::sync::mpsc::Receiver<Writer>) {
    let (writers, receiver) = tokio::sync::mpsc::channel(8);
    let others = ranked();
    let service = Scripted::new(move |peer, request| {
        let (writers, others) = (writers.clone(), others.clone());
        async move {
            if !request.uri().path().starts_with("/1/") {
                return others.exchange(&peer, request).await;
            }
            let (writer, body) = GrowingBody::new();
            let body = Body::growing(body.reader(0..u64::MAX));
            writers.send(writer).await.unwrap();
            of_urgency("1", body)
        }
    });
    (service, receiver)
}

#[tokio::test(start_paused = true)]
async fn lb_02_hx_17_a_playlist_overtakes_segments_that_are_under_way_but_for_what_was_handed_over()
{
    for way in WAYS {
        let mut at = Joined::new(way, ranked(), LARGE_WINDOW).await;
        assert_eq!(at.read("/3/1", None).end().await, 1);
        at.tap.shut();
        let segments: Vec<_> = (0..3).map(|_| at.read("/3/4194304", None)).collect();
        quiet().await;
        let playlist = at.read("/1/2097152", None);
        quiet().await;
        at.tap.open();
        let stream = playlist.stream;
        assert_eq!(playlist.end().await, 2 * MIB);
        let before = at.tap.bytes_before(stream, 2 * MIB);
        assert!(
            before <= 3 * HANDED_OVER_MAX + BETWEEN_MAX,
            "{way:?}: {before}"
        );
        for segment in segments {
            assert_eq!(segment.end().await, 4 * MIB, "{way:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn lb_02_hx_17_the_more_urgent_of_two_segments_ends_before_the_other_has_got_far() {
    // What the responses say, then what the requests ask, which counts first.
    for (asks, first, second) in [
        ([None, None], "/5/4194304", "/2/4194304"),
        ([Some("u=5"), Some("u=2, i")], "/1/4194304", "/7/4194304"),
    ] {
        for way in WAYS {
            let mut at = Joined::new(way, ranked(), LARGE_WINDOW).await;
            let late = at.read(first, asks[0]);
            let early = at.read(second, asks[1]);
            let stream = early.stream;
            assert_eq!(early.end().await, 4 * MIB);
            assert_eq!(late.end().await, 4 * MIB);
            let before = at.tap.bytes_before(stream, 4 * MIB);
            assert!(before <= HANDED_OVER_MAX, "{way:?}: {before}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn lb_02_hx_17_every_urgency_waits_for_those_before_it() {
    for way in WAYS {
        let mut at = Joined::new(way, ranked(), LARGE_WINDOW).await;
        let paths = ["/7/2097152", "/4/2097152", "/0/2097152", "/6/2097152"];
        let readings: Vec<_> = paths.map(|path| at.read(path, None)).into();
        let streams: Vec<_> = readings.iter().map(|reading| reading.stream).collect();
        for reading in readings {
            assert_eq!(reading.end().await, 2 * MIB);
        }
        for (stream, before_it) in [(streams[2], 0), (streams[1], 1), (streams[3], 2)] {
            let before = at.tap.bytes_before(stream, 2 * MIB);
            let max = before_it * 2 * MIB + (3 - before_it) * HANDED_OVER_MAX;
            assert!(before <= max, "{way:?} {stream}: {before}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hx_17_responses_of_one_urgency_share_the_connection_in_turns() {
    for way in WAYS {
        let mut at = Joined::new(way, ranked(), LARGE_WINDOW).await;
        let readings = [at.read("/4/4194304", None), at.read("/4/4194304", None)];
        let streams = [readings[0].stream, readings[1].stream];
        for reading in readings {
            assert_eq!(reading.end().await, 4 * MIB);
        }
        let (mut ahead, mut ahead_max) = (0_isize, 0);
        for piece in &at.tap.0.lock().pieces {
            let bytes = isize::try_from(piece.bytes).unwrap();
            ahead += if piece.stream == streams[0] {
                bytes
            } else {
                -bytes
            };
            ahead_max = ahead_max.max(ahead.abs());
        }
        let max = isize::try_from(HANDED_OVER_MAX).unwrap();
        assert!(ahead_max <= max, "{way:?}: {ahead_max}");
    }
}

#[tokio::test(start_paused = true)]
async fn pl_12_an_urgent_body_without_bytes_holds_nobody() {
    for way in WAYS {
        let (service, mut writers) = growing();
        let mut at = Joined::new(way, service, LARGE_WINDOW).await;
        let urgent = at.read("/1/", None);
        let mut writer = writers.recv().await.unwrap();
        // It has given, and may again at any time.
        writer.push(sample(1000));
        quiet().await;
        assert_eq!(at.tap.bytes_of(urgent.stream), 1000);
        assert_eq!(at.read("/5/4194304", None).end().await, 4 * MIB, "{way:?}");
        writer.complete();
        assert_eq!(urgent.end().await, 1000, "{way:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn pl_12_an_urgent_body_that_grows_slowly_goes_first_and_the_others_go_on() {
    for way in WAYS {
        let (service, mut writers) = growing();
        let mut at = Joined::new(way, service, LARGE_WINDOW).await;
        let urgent = at.read("/1/", None);
        let mut writer = writers.recv().await.unwrap();
        at.tap.shut();
        let segment = at.read("/5/16777216", None);
        for round in 1..=8 {
            writer.push(sample(100_000));
            quiet().await;
            let before = at.tap.bytes_of(segment.stream);
            at.tap.open();
            while at.tap.bytes_of(segment.stream) < before + MIB {
                tokio::task::yield_now().await;
            }
            at.tap.shut();
            let meanwhile = at.tap.bytes_before(urgent.stream, round * 100_000) - before;
            assert!(
                meanwhile <= HANDED_OVER_MAX + 2 * BETWEEN_MAX,
                "{way:?} {round}: {meanwhile}"
            );
        }
        at.tap.open();
        assert_eq!(segment.end().await, 16 * MIB, "{way:?}");
        writer.complete();
        assert_eq!(urgent.end().await, 800_000, "{way:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn pl_14_an_urgent_stream_that_nobody_reads_holds_nobody() {
    for way in WAYS {
        for window in [1000, 65_535, 200_000] {
            let mut at = Joined::new(way, ranked(), window).await;
            let mut unread = Vec::new();
            for _ in 0..3 {
                unread.push(at.head("/0/400000").await);
            }
            assert_eq!(at.read("/5/300000", None).end().await, 300_000, "{way:?}");
            assert_eq!(at.read("/3/1000", None).end().await, 1000, "{way:?}");
            for (stream, _) in &unread {
                assert!(at.tap.bytes_of(*stream) <= window as usize, "{way:?}");
            }
            // Read at last, it comes whole.
            let mut read = unread.swap_remove(0).1;
            assert_eq!(
                read.collect().await.unwrap().len(),
                400_000,
                "{way:?} {window}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pl_02_an_urgent_response_that_is_dropped_lets_those_go_that_were_held() {
    for way in WAYS {
        let mut at = Joined::new(way, ranked(), LARGE_WINDOW).await;
        let (urgent, mut answer) = at.head("/1/33554432").await;
        let held: Vec<_> = ["/5/1048576", "/6/1048576", "/5/1048576"]
            .into_iter()
            .map(|path| at.read(path, None))
            .collect();
        for _ in 0..20 {
            answer.next().await.unwrap().unwrap();
        }
        for reading in &held {
            let bytes = at.tap.bytes_of(reading.stream);
            assert!(bytes <= HANDED_OVER_MAX, "{way:?}: {bytes}");
        }
        drop(answer);
        for reading in held {
            assert_eq!(reading.end().await, MIB, "{way:?}");
        }
        assert!(at.tap.bytes_of(urgent) < 32 * MIB, "{way:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_response_that_is_dropped_holds_nobody_behind_it() {
    for way in WAYS {
        let mut at = Joined::new(way, ranked(), LARGE_WINDOW).await;
        at.tap.shut();
        let urgent = at.read("/1/4194304", None);
        let held = at.read("/4/4194304", None);
        let behind = at.read("/5/4194304", None);
        quiet().await;
        drop(held);
        quiet().await;
        at.tap.open();
        assert_eq!(urgent.end().await, 4 * MIB, "{way:?}");
        assert_eq!(behind.end().await, 4 * MIB, "{way:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_left_though_responses_are_held() {
    for way in WAYS {
        let mut at = Joined::new(way, ranked(), LARGE_WINDOW).await;
        at.tap.shut();
        let begun = Instant::now();
        let unread = [at.read("/1/4194304", None), at.read("/5/4194304", None)];
        at.server.join_next().await.unwrap().unwrap();
        assert!(
            begun.elapsed() <= 2 * ListenLimits::default().idle_timeout,
            "{way:?}"
        );
        drop(unread);
    }
}

/// Resolves when nothing more can happen: virtual time moves on only then.
async fn quiet() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
