//! What a client sends after its request head on an HTTP/3 stream.
//!
//! Who makes it: `response`, for methods with content. Who reads it: `upload`, by way of h3, which takes
//! the frames apart. Deliberately not here: limits (`upload`), trailers.

use std::fmt;

use bytes::{Buf as _, Bytes};
use h3::error::StreamError;
use h3::server::RequestStream;

use super::adapter::Receiving;

/// The receiving half of a request stream.
///
/// Dropped before its end, it asks the client to stop (RFC 9114 4.1).
pub(crate) struct IncomingBody {
    stream: RequestStream<Receiving, Bytes>,
}

impl IncomingBody {
    /// Takes the half on which content comes.
    pub(super) fn new(stream: RequestStream<Receiving, Bytes>) -> Self {
        Self { stream }
    }

    /// Waits for more content; `None` is its clean end.
    ///
    /// # Errors
    ///
    /// The client has reset the stream, or what it sends is not HTTP/3.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, StreamError>> {
        let received = self.stream.recv_data().await.transpose()?;
        Some(received.map(|mut data| data.copy_to_bytes(data.remaining())))
    }
}

impl fmt::Debug for IncomingBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingBody").finish_non_exhaustive()
    }
}
