//! HTTP/3 over one QUIC connection per viewer.
//!
//! Dropping a fetch drops its stream, and quinn then sends STOP_SENDING. (h3's own `stop_sending`
//! must not be called while a read is outstanding, which is exactly when a viewer aborts.)

use bytes::{Buf, Bytes};
use h3::client::SendRequest;
use h3_quinn::OpenStreams;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::network::{DialError, Network};
use super::{FetchError, Get, Got, Head, Location, Received};

/// The connection of a viewer to one host; reopened when it has ended.
pub(super) struct Line {
    root: Location,
    /// An async lock: those who come while the connection opens wait for it.
    open: Mutex<Option<Open>>,
}

#[derive(Clone)]
struct Open {
    connection: quinn::Connection,
    sender: SendRequest<OpenStreams, Bytes>,
}

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
        let mut open = self.opened(network).await?;
        let request = get.request(true)?;
        let sent_at = Instant::now();
        let mut stream = open.sender.send_request(request).await.map_err(judge)?;
        sent();
        drop(open);
        stream.finish().await.map_err(judge)?;
        let response = stream.recv_response().await.map_err(judge)?;
        let mut received = Received::new(get.keep);
        while let Some(mut slices) = stream.recv_data().await.map_err(judge)? {
            while slices.has_remaining() {
                let slice = slices.chunk();
                received.push(slice)?;
                let len = slice.len();
                slices.advance(len);
            }
        }
        Ok(Got {
            head: Head::read(response.status(), response.headers()),
            received,
            sent_at,
            last_byte_at: Instant::now(),
        })
    }

    async fn opened(&self, network: &Network) -> Result<Open, FetchError> {
        let mut open = self.open.lock().await;
        if let Some(existing) = &*open
            && existing.connection.close_reason().is_none()
        {
            return Ok(existing.clone());
        }
        let connection = network.dial_quic(&self.root).await?;
        let (mut driver, sender) = h3::client::new(h3_quinn::Connection::new(connection.clone()))
            .await
            .map_err(|e| DialError::Http(e.to_string()))?;
        network.drive(async move {
            // Its end shows in the requests that use it.
            drop(std::future::poll_fn(|cx| driver.poll_close(cx)).await);
        });
        let opened = Open { connection, sender };
        *open = Some(opened.clone());
        Ok(opened)
    }
}

fn judge(error: h3::error::StreamError) -> FetchError {
    use h3::error::StreamError;
    match error {
        StreamError::RemoteTerminate { .. } | StreamError::ConnectionError { .. } => {
            FetchError::Reset
        }
        other => FetchError::Protocol(other.to_string()),
    }
}
