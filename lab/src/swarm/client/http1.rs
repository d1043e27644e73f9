//! HTTP/1.1 with a small pool of kept-alive connections, as a browser has per host.
//!
//! A connection belongs to the request that uses it, and that request drives it: no task per
//! connection, and dropping the request closes the socket.

use std::pin::{Pin, pin};
use std::task::Poll;

use http_body_util::BodyExt as _;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::network::{DialError, Network, Stream};
use super::{FetchError, Get, Got, Head, Location, NoBody, Received};

/// The connections of one viewer to one host.
pub(super) struct Pool {
    root: Location,
    slots: Semaphore,
    idle: Mutex<Vec<Open>>,
}

type Line = Connection<TokioIo<Box<dyn Stream>>, NoBody>;

struct Open {
    sender: SendRequest<NoBody>,
    /// `None` once the connection has ended.
    line: Option<Pin<Box<Line>>>,
    is_reused: bool,
}

/// Whether a failed exchange may be tried again on a fresh connection.
struct Failed {
    error: FetchError,
    is_before_head: bool,
}

impl Pool {
    pub(super) fn new(root: Location, connections_max: usize) -> Self {
        Self {
            root,
            slots: Semaphore::new(connections_max.max(1)),
            idle: Mutex::new(Vec::new()),
        }
    }

    pub(super) async fn fetch(
        &self,
        network: &Network,
        get: &Get,
        sent: &(dyn Fn() + Sync),
    ) -> Result<Got, FetchError> {
        let slot = self.slots.acquire().await;
        let _slot = slot.expect("the pool never closes its semaphore");
        loop {
            let idle = self.idle.lock().pop();
            let mut open = match idle {
                Some(open) => open,
                None => Open::dial(network, &self.root).await?,
            };
            match open.exchange(get, sent).await {
                Ok(got) => {
                    if open.settle().await {
                        self.idle.lock().push(open);
                    }
                    return Ok(got);
                }
                // RFC 9112 9.3.1: a kept connection may close under a request that just left;
                // a GET is sent again, on a connection that was not idle.
                Err(failed) if failed.is_before_head && open.is_reused => {}
                Err(failed) => return Err(failed.error),
            }
        }
    }
}

impl Open {
    async fn dial(network: &Network, root: &Location) -> Result<Self, DialError> {
        let stream = network.dial(root).await?;
        let (sender, line) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| DialError::Http(e.to_string()))?;
        Ok(Self {
            sender,
            line: Some(Box::pin(line)),
            is_reused: false,
        })
    }

    async fn exchange(&mut self, get: &Get, sent: &(dyn Fn() + Sync)) -> Result<Got, Failed> {
        let early = |error| Failed {
            error,
            is_before_head: true,
        };
        let request = get.request(false).map_err(|error| Failed {
            error,
            is_before_head: false,
        })?;
        let sent_at = Instant::now();
        let sending = self.sender.send_request(request.map(|()| NoBody::new()));
        sent();
        let response = driven(&mut self.line, sending)
            .await
            .map_err(|e| early(judge(&e, 0)))?;
        let (parts, mut body) = response.into_parts();
        let mut received = Received::new(get.keep);
        let late = |error| Failed {
            error,
            is_before_head: false,
        };
        while let Some(frame) = driven(&mut self.line, body.frame()).await {
            let frame = frame.map_err(|e| late(judge(&e, received.bytes)))?;
            if let Some(slice) = frame.data_ref() {
                received.push(slice).map_err(late)?;
            }
        }
        Ok(Got {
            head: Head::read(parts.status, &parts.headers),
            received,
            sent_at,
            last_byte_at: Instant::now(),
        })
    }

    /// Waits until the connection can take another request; false if it cannot.
    async fn settle(&mut self) -> bool {
        self.is_reused = true;
        driven(&mut self.line, self.sender.ready()).await.is_ok() && self.line.is_some()
    }
}

/// Polls the connection beside `future`, which waits for it.
async fn driven<F: Future>(line: &mut Option<Pin<Box<Line>>>, future: F) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(move |cx| {
        if let Some(open) = line
            && open.as_mut().poll(cx).is_ready()
        {
            *line = None;
        }
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(output),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Translates hyper's error; `received` is how much of the body had come.
fn judge(error: &hyper::Error, received: u64) -> FetchError {
    let kind = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .map(std::io::Error::kind);
    if error.is_incomplete_message() || kind == Some(std::io::ErrorKind::UnexpectedEof) {
        return if received > 0 {
            FetchError::Truncated { received }
        } else {
            FetchError::Reset
        };
    }
    if kind.is_some() || error.is_closed() || error.is_canceled() {
        return FetchError::Reset;
    }
    FetchError::Protocol(error.to_string())
}
