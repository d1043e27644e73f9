//! HTTP/2 over one connection per viewer.
//!
//! The `h2` crate is used directly: hyper's client spawns a task per request, which a swarm on the
//! measured machine cannot afford. Dropping a fetch drops the stream, which sends RST_STREAM.

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::network::{DialError, Network};
use super::{FetchError, Get, Got, Head, Location, Received};

/// The connection of a viewer to one host; reopened when it has ended.
pub(super) struct Line {
    root: Location,
    /// An async lock: those who come while the connection opens wait for it.
    open: Mutex<Option<SendRequest<Bytes>>>,
}

/// What a browser offers: windows that never hold a live segment back.
const STREAM_WINDOW_BYTES: u32 = 6 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 15 * 1024 * 1024;

impl Line {
    pub(super) fn new(root: Location) -> Self {
        Self {
            root,
            open: Mutex::new(None),
        }
    }

    pub(super) async fn fetch(
        &self,
        network: &Network,
        get: &Get,
        sent: &(dyn Fn() + Sync),
    ) -> Result<Got, FetchError> {
        let mut sender = self.sender(network).await?;
        let request = get.request(true)?;
        let sent_at = Instant::now();
        let (answer, _) = sender
            .send_request(request, true)
            .map_err(|e| judge(&e, None))?;
        sent();
        // Not held over the answer: a closing connection ends when its last sender is gone.
        drop(sender);
        let response = answer.await.map_err(|e| judge(&e, None))?;
        let head = Head::read(response.status(), response.headers());
        let mut body = response.into_body();
        let mut received = Received::new(get.keep);
        while let Some(slice) = body.data().await {
            let slice = slice.map_err(|e| judge(&e, Some(received.bytes)))?;
            received.push(&slice)?;
            body.flow_control()
                .release_capacity(slice.len())
                .map_err(|e| judge(&e, Some(received.bytes)))?;
        }
        Ok(Got {
            head,
            received,
            sent_at,
            last_byte_at: Instant::now(),
        })
    }

    /// Returns a sender that can take a request now, opening the connection if there is none.
    async fn sender(&self, network: &Network) -> Result<SendRequest<Bytes>, FetchError> {
        let existing = self.open.lock().await.clone();
        if let Some(sender) = existing
            && let Ok(sender) = sender.ready().await
        {
            return Ok(sender);
        }
        let mut open = self.open.lock().await;
        // Another request may have reopened it meanwhile.
        if let Some(sender) = open.clone()
            && let Ok(sender) = sender.ready().await
        {
            return Ok(sender);
        }
        let stream = network.dial(&self.root).await?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(|e| DialError::Http(e.to_string()))?;
        network.drive(async move {
            // Its end shows in the requests that use it.
            drop(connection.await);
        });
        *open = Some(sender.clone());
        drop(open);
        sender.ready().await.map_err(|e| judge(&e, None))
    }
}

/// Translates h2's error; `received` is how much of the body had come, if it had begun.
fn judge(error: &h2::Error, received: Option<u64>) -> FetchError {
    // RFC 9113 8.1.1: a body that does not match its content-length is a stream error of ours.
    if let Some(received) = received
        && error.is_reset()
        && error.is_library()
    {
        return FetchError::Truncated { received };
    }
    if error.is_reset() || error.is_io() || error.is_go_away() {
        return FetchError::Reset;
    }
    FetchError::Protocol(error.to_string())
}
