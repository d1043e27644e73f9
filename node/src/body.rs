//! The body of a response on its way to a viewer.
//!
//! One enum, no boxing, no copying: listeners pull `Bytes` of at most 64 KiB from it, whatever the
//! protocol. Dropping a body before its end is how the node learns that a viewer left.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

/// The most bytes a body hands out at once.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// The body of a response to a viewer.
#[derive(Debug, Default)]
pub struct Body {
    source: Source,
}

#[derive(Debug, Default)]
enum Source {
    #[default]
    Empty,
    Chunks(VecDeque<Bytes>),
}

/// A body that ended before its last byte; the listener must not let it look whole.
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
        let mut rest = bytes;
        let mut chunks = VecDeque::with_capacity(rest.len().div_ceil(CHUNK_BYTES_MAX));
        while rest.len() > CHUNK_BYTES_MAX {
            chunks.push_back(rest.split_to(CHUNK_BYTES_MAX));
        }
        if !rest.is_empty() {
            chunks.push_back(rest);
        }
        Self {
            source: Source::Chunks(chunks),
        }
    }

    /// Polls for the next bytes; `None` is the clean end.
    pub fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Chunks(chunks) => Poll::Ready(chunks.pop_front().map(Ok)),
        }
    }

    /// Waits for the next bytes; `None` is the clean end. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Returns the bytes still to come, where that is known.
    pub fn remaining_if_known(&self) -> Option<u64> {
        match &self.source {
            Source::Empty => Some(0),
            Source::Chunks(chunks) => Some(chunks.iter().map(|c| c.len() as u64).sum()),
        }
    }
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
