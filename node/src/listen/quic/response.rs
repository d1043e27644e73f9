//! One request and its response on one HTTP/3 stream.
//!
//! What is here: the request head by h3, and the response, its head by `head` and its body from its own
//! bytes. Who calls it: `connection`, in a task per request. It calls the service
//! through `answer`. Deliberately not here: reading request bodies (`incoming`), trailers.

use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use h3::error::{Code, StreamError};
use h3::server::RequestResolver;
use http::Request;
use http::header::CONTENT_LENGTH;
use quinn::{SendStream, StoppedError, VarInt};
use tokio::time::timeout;

use super::adapter::{H3Quic, Outbox, code};
use super::frames::data_header;
use super::head::headers_frame;
use super::incoming::IncomingBody;
use crate::body::{Body, BodyError};
use crate::exchange::{Exchange, Peer};
use crate::listen::ListenLimits;
use crate::listen::answer::Answerer;
use crate::listen::priority::Urgency;
use crate::upload::Upload;

/// The sending half of a request stream.
///
/// Invariant: it ends in a clean end only by [`ResponseStream::finish`]; dropped before, the client
/// sees a reset. (quinn by itself would let a dropped stream look whole.)
#[derive(Debug)]
pub(super) struct ResponseStream {
    stream: SendStream,
    outbox: Outbox,
    is_finished: bool,
    /// What the client is told if this is dropped now.
    reset_code: VarInt,
}

/// Why a response did not get to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfinished {
    /// The client wants no more of it, or is gone.
    #[error("the client left")]
    Left,
    /// The client takes nothing for too long.
    #[error("the client stopped reading")]
    Stalled,
    /// There is no more of it.
    #[error(transparent)]
    Body(#[from] BodyError),
}

impl ResponseStream {
    pub(super) fn new(stream: SendStream, outbox: Outbox) -> Self {
        Self {
            stream,
            outbox,
            is_finished: false,
            reset_code: code(Code::H3_REQUEST_CANCELLED),
        }
    }

    /// Resolves when the client has all of it, has refused it, or is gone.
    pub(super) async fn arrived(&self) {
        self.stream.stopped().await.ok();
    }

    async fn write(
        &mut self,
        chunks: &mut [Bytes],
        limits: &ListenLimits,
    ) -> Result<(), Unfinished> {
        let written = timeout(limits.idle_timeout, self.stream.write_all_chunks(chunks)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Unfinished::Left),
            Err(_) => Err(Unfinished::Stalled),
        }
    }

    fn finish(&mut self) {
        self.is_finished = true;
        // A client that stopped reading gets a reset from quinn instead.
        self.stream.finish().ok();
    }
}

impl Drop for ResponseStream {
    fn drop(&mut self) {
        if !self.is_finished {
            let code = self.outbox.reset_code().unwrap_or(self.reset_code);
            self.stream.reset(code).ok();
        }
    }
}

/// Reads a request, answers it and writes the answer; returns the stream if that got to its end.
pub(super) async fn serve<S: Exchange>(
    request: RequestResolver<H3Quic, Bytes>,
    mut stream: ResponseStream,
    answerer: &Answerer<S>,
    peer: &Arc<Peer>,
    limits: &ListenLimits,
) -> Option<ResponseStream> {
    let resolved = timeout(limits.head_timeout, request.resolve_request()).await;
    let (request, h3_stream) = match resolved {
        Ok(Ok(resolved)) => resolved,
        Ok(Err(StreamError::HeaderTooBig { .. })) => {
            // h3 has put its answer, 431, into the outbox.
            let mut head = [stream.outbox.take_bytes()];
            stream.write(&mut head, limits).await.ok()?;
            stream.finish();
            return Some(stream);
        }
        Ok(Err(_)) => return None,
        Err(_) => {
            stream.reset_code = code(Code::H3_REQUEST_INCOMPLETE);
            return None;
        }
    };
    let (mut h3_stream, receiving) = h3_stream.split();
    let (request, _unread) = with_upload(request, IncomingBody::new(receiving));
    let asked = Urgency::of(request.headers());
    let mut left = pin!(stream.stream.stopped());
    let response = tokio::select! {
        biased;
        response = answerer.answer(peer, request) => response,
        _ = &mut left => return None,
    };
    let (head, body) = response.into_parts();
    let urgency = Urgency::choose(asked, &head.headers);
    stream.stream.set_priority(urgency.stream_priority()).ok();
    let frame = match headers_frame(head.status, &head.headers) {
        Some(frame) => frame,
        None => {
            let head = http::Response::from_parts(head, ());
            if h3_stream.send_response(head).await.is_err() {
                // The head is more than the client's settings allow.
                stream.reset_code = code(Code::H3_INTERNAL_ERROR);
                return None;
            }
            stream.outbox.take_bytes()
        }
    };
    match write_response(&mut stream, frame, body, left, limits).await {
        Ok(()) => Some(stream),
        Err(Unfinished::Left) => None,
        Err(Unfinished::Stalled | Unfinished::Body(_)) => {
            stream.reset_code = code(Code::H3_INTERNAL_ERROR);
            None
        }
    }
}

/// Gives a request the content that comes with it, or gives that back where the method has no use for
/// it: it is then left unread until the response is written.
fn with_upload(
    request: Request<()>,
    incoming: IncomingBody,
) -> (Request<Upload>, Option<IncomingBody>) {
    let (head, ()) = request.into_parts();
    if !Upload::has_meaning_with(&head.method) {
        return (Request::from_parts(head, Upload::empty()), Some(incoming));
    }
    let announced = head.headers.get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    let upload = Upload::http3(incoming, announced);
    (Request::from_parts(head, upload), None)
}

/// Writes the head and then the body, whose bytes go to quinn as they are.
async fn write_response(
    stream: &mut ResponseStream,
    mut head: Bytes,
    mut body: Body,
    mut left: Pin<&mut impl Future<Output = Result<Option<VarInt>, StoppedError>>>,
    limits: &ListenLimits,
) -> Result<(), Unfinished> {
    // What is there of the body leaves with the head; a head is not held back for it.
    let mut next = body.next().now_or_never();
    if next.is_none() {
        stream
            .write(&mut [std::mem::take(&mut head)], limits)
            .await?;
    }
    loop {
        let chunk = match next.take() {
            Some(chunk) => chunk,
            None => tokio::select! {
                biased;
                chunk = body.next() => chunk,
                _ = &mut left => return Err(Unfinished::Left),
            },
        };
        match chunk {
            Some(chunk) => {
                let chunk = chunk?;
                let head = std::mem::take(&mut head);
                let mut frame = [head, data_header(chunk.len()), chunk];
                stream.write(&mut frame, limits).await?;
            }
            None => {
                if !head.is_empty() {
                    stream.write(&mut [head], limits).await?;
                }
                stream.finish();
                return Ok(());
            }
        }
    }
}
