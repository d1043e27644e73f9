//! A parent's answer while it arrives.
//!
//! Who calls it: `Upstream::fetch` makes it, fills and chains read it. A body holds its place on the
//! connection until it has ended or was dropped. Deliberately not here: storing, and the time between reads.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::config::ParentId;
use super::connection::Lease;

/// A parent's answer: its head, and its body still arriving.
#[derive(Debug)]
pub struct ForwardResponse {
    /// Status and header fields as received.
    pub head: http::response::Parts,
    /// The body.
    pub body: ForwardBody,
    /// Who answered.
    pub parent: ParentId,
    /// When the request was sent.
    pub sent_at: Instant,
    /// When the head arrived.
    pub head_at: Instant,
}

/// The body of an answer together with its place on the connection.
///
/// Dropping it before its end resets the HTTP/2 stream, or closes the HTTP/1.1 connection.
/// A body that was cut short ends with an error, never with a clean end.
#[derive(Debug)]
pub struct ForwardBody {
    // The order matters: the stream is given up before its place on the connection is.
    incoming: Incoming,
    lease: Option<Lease>,
}

impl ForwardBody {
    /// Ties a body to its place on the connection.
    pub(super) fn new(incoming: Incoming, lease: Lease) -> Self {
        let mut body = Self {
            incoming,
            lease: Some(lease),
        };
        body.end_if_over();
        body
    }

    fn end_if_over(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.end();
        }
    }
}

impl Body for ForwardBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(cx));
        match &frame {
            Some(Ok(_)) => this.end_if_over(),
            Some(Err(_)) => this.lease = None,
            None => {
                if let Some(lease) = this.lease.take() {
                    lease.end();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
