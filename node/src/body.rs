//! The body of a response on its way to a viewer.
//!
//! One enum, no boxing, no copying: listeners pull `Bytes` of at most 64 KiB from it, whatever the
//! protocol. Dropping a body before its end is how the node learns that a viewer left.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use cache::body::{CHUNK_BYTES_MAX, Reader};
use futures_util::stream::BoxStream;

use crate::record::Record;
use crate::telemetry::Ending;
use crate::upstream::ForwardBody;

/// The body of a response to a viewer.
#[derive(Debug, Default)]
pub struct Body {
    source: Source,
    record: Option<Box<Record>>,
}

#[derive(Default)]
enum Source {
    #[default]
    Empty,
    /// Bytes that are all there.
    Full(Bytes),
    /// A range of a stored or growing body.
    Growing(Reader),
    /// Pieces that come one after another, as many bytes as were promised.
    Assembled {
        pieces: BoxStream<'static, Result<Bytes, BodyError>>,
        /// `None` if nothing was promised.
        remaining: Option<u64>,
    },
    /// A parent's answer that is shared with nobody.
    Relayed { incoming: ForwardBody, rest: Bytes },
}

/// A body that ended before its last byte; the listener must not let it look whole (FM-22).
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the body ended before its last byte")]
pub struct BodyError;

impl Body {
    /// Returns a body without bytes.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Returns a body of bytes that are all there.
    pub fn full(bytes: Bytes) -> Self {
        Self::of(Source::Full(bytes))
    }

    /// Returns a body of what `reader` reads.
    pub fn growing(reader: Reader) -> Self {
        Self::of(Source::Growing(reader))
    }

    /// Returns a body of pieces, each at most 64 KiB, that come to exactly `bytes`.
    ///
    /// Pieces that end before are a body that failed. Without `bytes` their end is the clean end.
    pub fn assembled(
        pieces: BoxStream<'static, Result<Bytes, BodyError>>,
        bytes: impl Into<Option<u64>>,
    ) -> Self {
        Self::of(Source::Assembled {
            pieces,
            remaining: bytes.into(),
        })
    }

    /// Returns a body that passes on a parent's answer.
    pub fn relayed(incoming: ForwardBody) -> Self {
        Self::of(Source::Relayed {
            incoming,
            rest: Bytes::new(),
        })
    }

    /// Lets `record` travel with the body, until its last byte has left or the viewer has.
    pub(crate) fn recorded(mut self, mut record: Box<Record>) -> Self {
        if self.remaining_if_known() == Some(0) {
            record.ended(Ending::Complete);
        }
        self.record = Some(record);
        self
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            record: None,
        }
    }

    /// Polls for the next bytes, at most 64 KiB of them; `None` is the clean end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let next = std::task::ready!(self.source.poll_next(cx));
        if let Some(record) = &mut self.record {
            match &next {
                Some(Ok(chunk)) => record.sent(chunk.len()),
                Some(Err(_)) => record.ended(Ending::BodyFailed),
                None => record.ended(Ending::Complete),
            }
            // Connections stop asking once they know that nothing is left.
            if matches!(next, Some(Ok(_))) && self.source.remaining_if_known() == Some(0) {
                record.ended(Ending::Complete);
            }
        }
        Poll::Ready(next)
    }

    /// Waits for the next bytes; `None` is the clean end. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Returns the bytes still to come, where that is known.
    pub fn remaining_if_known(&self) -> Option<u64> {
        self.source.remaining_if_known()
    }
}

impl Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(rest) => Poll::Ready(take_chunk(rest).map(Ok)),
            Self::Growing(reader) => reader
                .poll_next(cx)
                .map(|next| next.map(|chunk| chunk.map_err(|_| BodyError))),
            Self::Assembled {
                remaining: Some(0), ..
            } => Poll::Ready(None),
            Self::Assembled { pieces, remaining } => {
                let piece = match (std::task::ready!(pieces.as_mut().poll_next(cx)), &remaining) {
                    (Some(piece), _) => piece,
                    (None, Some(_)) => Err(BodyError),
                    (None, None) => return Poll::Ready(None),
                };
                let piece = piece.and_then(|piece| {
                    if let Some(remaining) = remaining {
                        let left = remaining.checked_sub(piece.len() as u64);
                        *remaining = left.ok_or(BodyError)?;
                    }
                    Ok(piece)
                });
                Poll::Ready(Some(piece))
            }
            Self::Relayed { incoming, rest } => loop {
                if let Some(chunk) = take_chunk(rest) {
                    return Poll::Ready(Some(Ok(chunk)));
                }
                let frame = http_body::Body::poll_frame(Pin::new(&mut *incoming), cx);
                match std::task::ready!(frame) {
                    None => return Poll::Ready(None),
                    Some(Err(_)) => return Poll::Ready(Some(Err(BodyError))),
                    // Trailers are not passed on.
                    Some(Ok(frame)) => *rest = frame.into_data().unwrap_or_default(),
                }
            },
        }
    }

    fn remaining_if_known(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Full(rest) => Some(rest.len() as u64),
            Self::Growing(reader) => reader.remaining_if_known(),
            Self::Assembled { remaining, .. } => *remaining,
            Self::Relayed { incoming, rest } => {
                let exact = http_body::Body::size_hint(incoming).exact()?;
                Some(exact + rest.len() as u64)
            }
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("remaining", &self.remaining_if_known())
            .finish_non_exhaustive()
    }
}

fn take_chunk(rest: &mut Bytes) -> Option<Bytes> {
    if rest.is_empty() {
        return None;
    }
    Some(rest.split_to(rest.len().min(CHUNK_BYTES_MAX)))
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        self.get_mut()
            .poll_next(cx)
            .map(|next| next.map(|chunk| chunk.map(http_body::Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining_if_known() == Some(0)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.remaining_if_known()
            .map_or_else(http_body::SizeHint::new, http_body::SizeHint::with_exact)
    }
}
