//! Bodies: whole, growing part by part, and broken on purpose.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;

use super::fault::Action;
use super::presentation::Origin;
use super::server::Connection;
use super::timeline::PartId;

/// The body of an origin's answer.
pub(crate) type OriginBody = UnsyncBoxBody<Bytes, io::Error>;

type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Returns a body that is all there.
pub(crate) fn whole(bytes: Bytes) -> OriginBody {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Returns a body that grows with a segment, part by part, from byte `skip` on.
pub(crate) fn growing(origin: Arc<Origin>, track: usize, msn: u64, skip: u64) -> OriginBody {
    let parts = origin.timeline.parts_per_segment();
    let next = stream::unfold((0, skip), move |(part, skip)| {
        let origin = Arc::clone(&origin);
        async move {
            if part >= parts {
                return None;
            }
            let id = PartId { msn, part };
            let published = origin.timeline.part_span(id).1;
            tokio::time::sleep_until(origin.instant_of(published)).await;
            let mut bytes = origin.part_bytes(track, id);
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
            let rest = bytes.split_off(skipped);
            Some((Ok(rest), (part + 1, skip - skipped as u64)))
        }
    });
    stream_body(Box::pin(next.filter(|chunk: &io::Result<Bytes>| {
        std::future::ready(!matches!(chunk, Ok(bytes) if bytes.is_empty()))
    })))
}

/// Lets a body meet what `actions` say of bodies.
pub(crate) fn broken(body: OriginBody, actions: &[Action], connection: &Connection) -> OriginBody {
    let mut body = body;
    for action in actions {
        body = match *action {
            Action::Dribble(bytes, pause) => dribble(body, bytes, pause),
            Action::ResetAt(bytes) => cut(body, bytes, Some(connection.clone())),
            Action::TruncateAt(bytes) => cut(body, bytes, None),
            _ => body,
        };
    }
    body
}

fn dribble(body: OriginBody, bytes: usize, pause: Duration) -> OriginBody {
    let pieces = body.into_data_stream().flat_map(move |chunk| {
        let mut rest = chunk.unwrap_or_default();
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            pieces.push(rest.split_to(rest.len().min(bytes)));
        }
        stream::iter(pieces)
    });
    let slow = pieces.then(move |piece| async move {
        tokio::time::sleep(pause).await;
        Ok(piece)
    });
    stream_body(Box::pin(slow))
}

/// Ends a body after so many bytes: with a reset, or with a connection that just ends.
fn cut(body: OriginBody, bytes: usize, reset: Option<Connection>) -> OriginBody {
    let state = (body.into_data_stream(), bytes, reset);
    let some = stream::unfold(Some(state), |state| async move {
        let (mut body, left, reset) = state?;
        if left == 0 {
            // The bytes before the break are to be on the wire when it comes.
            tokio::time::sleep(BREAK_AFTER).await;
            if let Some(connection) = reset {
                connection.reset_on_close();
            }
            return Some((Err(io::ErrorKind::ConnectionReset.into()), None));
        }
        let mut chunk = body.next().await?.ok()?;
        chunk.truncate(left);
        let left = left - chunk.len();
        Some((Ok(chunk), Some((body, left, reset))))
    });
    stream_body(Box::pin(some))
}

fn stream_body(chunks: Chunks) -> OriginBody {
    BodyExt::boxed_unsync(StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))))
}

/// How long after the last byte a connection breaks.
const BREAK_AFTER: Duration = Duration::from_millis(20);
