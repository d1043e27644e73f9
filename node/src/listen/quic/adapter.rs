//! What h3 sees of quinn: its public QUIC traits, for a server, without copying bodies.
//!
//! h3 decodes requests and encodes large response heads, and that is all it does here. A head that it
//! "sends" lands in an [`Outbox`]; the raw stream goes by a side door to `response`, which writes
//! the head and the body's own bytes after it in one go. So no body byte is ever copied into a send
//! buffer, the stream's priority can be set, and `head` can write what h3 would take long for.
//!
//! ```text
//! quinn ── accept_bi ─┬─ receiving half ── FrameWatch, plain ──► h3: request head
//!                     └─ sending half ──► Doors ──► response: head, or that from the Outbox ◄── h3, then body
//! ```
//!
//! Who calls it: `connection`. Deliberately not here: clients, datagrams, streams a server would open
//! in both directions.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::FutureExt as _;
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use parking_lot::Mutex;
use quinn::VarInt;
use tokio_util::sync::ReusableBoxFuture;

use super::frames::FrameWatch;
use super::plain::plain;
use super::response::ResponseStream;
use super::words::{connection_error, read_error, stream_id, write_error};
use crate::listen::limits::HTTP3_CONTROL_FRAME_BYTES_MAX;

/// Returns an HTTP/3 error code as quinn takes it.
pub(in crate::listen) fn code(code: Code) -> VarInt {
    VarInt::from_u64(code.value()).expect("HTTP/3 error codes are small")
}

/// The side door: the sending half of the request stream that h3 accepted last.
///
/// h3 hands out each request before it accepts the next, so one place is enough. What is put out by
/// the next, a stream that h3 refused, resets itself when dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct Doors {
    last: Arc<Mutex<Option<ResponseStream>>>,
}

impl Doors {
    /// Takes the sending half that belongs to the request h3 has just handed out.
    pub(super) fn take(&self) -> Option<ResponseStream> {
        self.last.lock().take()
    }
}

/// What h3 wants to put on a request stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    state: Arc<Mutex<OutboxState>>,
}

#[derive(Debug, Default)]
struct OutboxState {
    bytes: BytesMut,
    reset: Option<VarInt>,
}

impl Outbox {
    /// Takes the encoded frames.
    pub(super) fn take_bytes(&self) -> Bytes {
        self.state.lock().bytes.split().freeze()
    }

    /// Returns the code by which h3 wants the stream to be reset.
    pub(super) fn reset_code(&self) -> Option<VarInt> {
        self.state.lock().reset
    }
}

/// What quinn gave, with the connection it was asked of, ready to be asked again.
struct Asked<T> {
    connection: quinn::Connection,
    given: Result<T, quinn::ConnectionError>,
}

/// One QUIC connection as h3 drives it.
pub(super) struct H3Quic {
    opener: Opener,
    next_request: ReusableBoxFuture<'static, Asked<(quinn::SendStream, quinn::RecvStream)>>,
    /// The first request, if it was waited for before h3 asked.
    first_request: Option<Asked<(quinn::SendStream, quinn::RecvStream)>>,
    next_uni: ReusableBoxFuture<'static, Asked<quinn::RecvStream>>,
    doors: Doors,
    frame_bytes_max: u64,
}

impl H3Quic {
    /// Puts h3 on `connection`; request frames other than DATA have at most `frame_bytes_max`.
    pub(super) fn new(connection: quinn::Connection, frame_bytes_max: u64) -> (Self, Doors) {
        let doors = Doors::default();
        let this = Self {
            next_request: ReusableBoxFuture::new(accept_request(connection.clone())),
            first_request: None,
            next_uni: ReusableBoxFuture::new(accept_uni(connection.clone())),
            opener: Opener::new(connection),
            doors: doors.clone(),
            frame_bytes_max,
        };
        (this, doors)
    }

    /// Waits until the client has sent something of its first request, before h3 is put on the connection.
    pub(super) async fn first_request(&mut self) {
        debug_assert!(self.first_request.is_none(), "there is one first request");
        self.first_request = Some(poll_fn(|cx| self.next_request.poll(cx)).await);
    }
}

async fn accept_request(
    connection: quinn::Connection,
) -> Asked<(quinn::SendStream, quinn::RecvStream)> {
    let given = connection.accept_bi().await;
    Asked { connection, given }
}

async fn accept_uni(connection: quinn::Connection) -> Asked<quinn::RecvStream> {
    let given = connection.accept_uni().await;
    Asked { connection, given }
}

async fn open_uni(connection: quinn::Connection) -> Asked<quinn::SendStream> {
    let given = connection.open_uni().await;
    Asked { connection, given }
}

impl quic::Connection<Bytes> for H3Quic {
    type RecvStream = Receiving;
    type OpenStreams = Opener;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Receiving, ConnectionErrorIncoming>> {
        let Asked { connection, given } = ready!(self.next_uni.poll(cx));
        let received = given.map(|stream| Receiving {
            stream,
            watch: FrameWatch::uni_stream(HTTP3_CONTROL_FRAME_BYTES_MAX),
            // Without its control stream a connection is of no use (RFC 9114 6.2.1).
            closes: Some(connection.clone()),
            begins_with_head: false,
            has_ended: false,
        });
        self.next_uni.set(accept_uni(connection));
        Poll::Ready(received.map_err(connection_error))
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RequestIo, ConnectionErrorIncoming>> {
        let Asked { connection, given } = match self.first_request.take() {
            Some(first) => first,
            None => ready!(self.next_request.poll(cx)),
        };
        self.next_request.set(accept_request(connection));
        let (sending, receiving) = given.map_err(connection_error)?;
        let outbox = Outbox::default();
        let receiving = Receiving {
            stream: receiving,
            watch: FrameWatch::request_stream(self.frame_bytes_max),
            closes: None,
            begins_with_head: true,
            has_ended: false,
        };
        let stream = ResponseStream::new(sending, outbox.clone());
        *self.doors.last.lock() = Some(stream);
        let head = HeadSink {
            outbox,
            id: stream_id(receiving.stream.id()),
        };
        Poll::Ready(Ok(RequestIo { receiving, head }))
    }

    fn opener(&self) -> Opener {
        self.opener.clone()
    }
}

impl quic::OpenStreams<Bytes> for H3Quic {
    type BidiStream = RequestIo;
    type SendStream = Sending;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RequestIo, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Sending, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.opener.close(code, reason);
    }
}

/// Opens h3's control and QPACK streams.
pub(super) struct Opener {
    connection: quinn::Connection,
    opening: Option<ReusableBoxFuture<'static, Asked<quinn::SendStream>>>,
}

impl Opener {
    fn new(connection: quinn::Connection) -> Self {
        Self {
            connection,
            opening: None,
        }
    }
}

impl Clone for Opener {
    fn clone(&self) -> Self {
        Self::new(self.connection.clone())
    }
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = RequestIo;
    type SendStream = Sending;

    fn poll_open_bidi(
        &mut self,
        _cx: &mut Context<'_>,
    ) -> Poll<Result<RequestIo, StreamErrorIncoming>> {
        let message = "a server opens no bidirectional streams".to_owned();
        Poll::Ready(Err(StreamErrorIncoming::ConnectionErrorIncoming {
            connection_error: ConnectionErrorIncoming::InternalError(message),
        }))
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Sending, StreamErrorIncoming>> {
        let opening = self
            .opening
            .get_or_insert_with(|| ReusableBoxFuture::new(open_uni(self.connection.clone())));
        let Asked { given, .. } = ready!(opening.poll(cx));
        self.opening = None;
        let opened = given.map(|stream| Sending {
            stream,
            unsent: Bytes::new(),
        });
        Poll::Ready(
            opened.map_err(|error| StreamErrorIncoming::ConnectionErrorIncoming {
                connection_error: connection_error(error),
            }),
        )
    }

    fn close(&mut self, error: Code, reason: &[u8]) {
        self.connection.close(code(error), reason);
    }
}

/// One of h3's own streams to the client.
pub(super) struct Sending {
    stream: quinn::SendStream,
    unsent: Bytes,
}

impl quic::SendStream<Bytes> for Sending {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        while !self.unsent.is_empty() {
            let unsent = std::slice::from_mut(&mut self.unsent);
            let written = ready!(pin!(self.stream.write_chunks(unsent)).poll_unpin(cx));
            written.map_err(write_error)?;
        }
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        let mut data = data.into();
        debug_assert!(self.unsent.is_empty(), "h3 sends once the stream is ready");
        self.unsent = data.copy_to_bytes(data.remaining());
        Ok(())
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        ready!(self.poll_ready(cx))?;
        // Finished before is finished.
        self.stream.finish().ok();
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self, reset_code: u64) {
        self.stream
            .reset(VarInt::from_u64(reset_code).unwrap_or(VarInt::MAX))
            .ok();
    }

    fn send_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

/// A request stream as h3 has it: it reads from the client and writes to an [`Outbox`].
pub(super) struct RequestIo {
    receiving: Receiving,
    head: HeadSink,
}

impl quic::BidiStream<Bytes> for RequestIo {
    type SendStream = HeadSink;
    type RecvStream = Receiving;

    fn split(self) -> (HeadSink, Receiving) {
        (self.head, self.receiving)
    }
}

/// The sending half of a request stream as h3 has it: what it sends lands in an [`Outbox`].
pub(super) struct HeadSink {
    outbox: Outbox,
    id: StreamId,
}

impl quic::SendStream<Bytes> for HeadSink {
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.outbox.state.lock().bytes.put(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self, reset_code: u64) {
        let code = VarInt::from_u64(reset_code).unwrap_or(VarInt::MAX);
        self.outbox.state.lock().reset = Some(code);
    }

    fn send_id(&self) -> StreamId {
        self.id
    }
}

impl quic::SendStream<Bytes> for RequestIo {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.head.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.head.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.head.poll_finish(cx)
    }

    fn reset(&mut self, reset_code: u64) {
        self.head.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.head.send_id()
    }
}

impl quic::RecvStream for RequestIo {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.receiving.poll_data(cx)
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.receiving.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.receiving.recv_id()
    }
}

/// A stream from the client.
pub(super) struct Receiving {
    stream: quinn::RecvStream,
    watch: FrameWatch,
    /// What ends with this stream if its frames are too long.
    closes: Option<quinn::Connection>,
    /// Whether the head of a request is what comes next.
    begins_with_head: bool,
    has_ended: bool,
}

impl quic::RecvStream for Receiving {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let read = ready!(pin!(self.stream.read_chunk(usize::MAX, true)).poll_unpin(cx));
        Poll::Ready(match read {
            Ok(Some(chunk)) => match self.watch.see(&chunk.bytes) {
                Ok(()) if std::mem::take(&mut self.begins_with_head) => {
                    Ok(Some(plain(chunk.bytes)))
                }
                Ok(()) => Ok(Some(chunk.bytes)),
                Err(too_long) => {
                    self.stop_sending(Code::H3_EXCESSIVE_LOAD.value());
                    if let Some(connection) = &self.closes {
                        connection.close(code(Code::H3_EXCESSIVE_LOAD), b"frame too long");
                    }
                    Err(StreamErrorIncoming::Unknown(Box::new(too_long)))
                }
            },
            Ok(None) => {
                self.has_ended = true;
                Ok(None)
            }
            Err(error) => {
                self.has_ended = true;
                Err(read_error(error))
            }
        })
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.has_ended = true;
        self.stream
            .stop(VarInt::from_u64(error_code).unwrap_or(VarInt::MAX))
            .ok();
    }

    fn recv_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        // Most requests have no body and their end is here already: then there is nothing to stop.
        if let Some(Ok(None)) = self.stream.read_chunk(1, true).now_or_never() {
            return;
        }
        // RFC 9114 4.1: the answer needs no more of the request, and that is no error.
        self.stream.stop(code(Code::H3_NO_ERROR)).ok();
    }
}
