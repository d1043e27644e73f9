//! Connections of the origin: on real TCP, or on any stream a test brings.
//!
//! HTTP/1.1, and HTTP/2 with prior knowledge, on the same port. Real TCP resets happen here: a reset
//! that was asked for sets `SO_LINGER` to zero before the socket is dropped.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config::{OriginConfig, OriginError};
use super::control::{Control, ENDING_GRACE, Ending};
use super::instance::Origin;

/// Connections that are open at once; more wait in the listen queue.
const CONNECTIONS_MAX: usize = 8192;
/// Requests in flight on one HTTP/2 connection: a shield parks hundreds.
const STREAMS_MAX: u32 = 1024;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a shutdown waits for answers that are on their way.
const DRAIN: Duration = Duration::from_millis(500);

impl Origin {
    /// Serves one connection to its end: HTTP/1.1, or HTTP/2 with prior knowledge.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection.
    pub async fn serve_connection(
        self: Arc<Self>,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) {
        self.serve(io, Control::new(), CancellationToken::new())
            .await;
    }

    /// Starts an origin that listens on `address`; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// Fails if the configuration is not allowed or the address cannot be listened on.
    pub async fn bind(
        config: OriginConfig,
        address: SocketAddr,
    ) -> Result<RunningOrigin, OriginError> {
        let origin = Arc::new(Self::new(config)?);
        let listen = |source| OriginError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let ending = CancellationToken::new();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(Arc::clone(&origin), listener, ending.clone()));
        Ok(RunningOrigin {
            address,
            origin,
            ending,
            accepting,
        })
    }

    async fn serve(
        self: Arc<Self>,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        control: Control,
        ending: CancellationToken,
    ) {
        let origin = self;
        origin.start_clock();
        let handler_control = control.clone();
        let service = service_fn(move |request: http::Request<Incoming>| {
            let (origin, control) = (Arc::clone(&origin), handler_control.clone());
            async move {
                // Bodies of requests are not read: nothing that is served here takes one.
                let (head, _body) = request.into_parts();
                let request = http::Request::from_parts(head, ());
                Ok::<_, Infallible>(Box::pin(origin.respond(&request, &control)).await)
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX);
        let connection = builder.serve_connection(TokioIo::new(io), service);
        tokio::pin!(connection);
        let mut is_draining = false;
        loop {
            tokio::select! {
                // However a connection ends, its peer knows; the origin keeps no log.
                _ = connection.as_mut() => return,
                _ = control.ended() => {
                    // What was written before goes out first, so that "after k bytes" is true.
                    let flushed = tokio::time::timeout(ENDING_GRACE, connection.as_mut()).await;
                    drop(flushed);
                    return;
                }
                () = ending.cancelled(), if !is_draining => {
                    is_draining = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// An origin that listens on a TCP port.
#[derive(Debug)]
pub struct RunningOrigin {
    address: SocketAddr,
    origin: Arc<Origin>,
    ending: CancellationToken,
    accepting: JoinSet<()>,
}

impl RunningOrigin {
    /// Returns the address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Returns the origin, to count and to set faults.
    pub fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// Stops accepting, lets answers on their way finish for half a second, and ends.
    pub async fn shutdown(mut self) {
        self.ending.cancel();
        while self.accepting.join_next().await.is_some() {}
    }
}

async fn accept(origin: Arc<Origin>, listener: TcpListener, ending: CancellationToken) {
    let mut connections = JoinSet::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        tokio::select! {
            () = ending.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = next_connection(&listener, &slots) => {
                let Some((stream, slot)) = accepted else { continue };
                let (origin, ending) = (Arc::clone(&origin), ending.clone());
                connections.spawn(async move {
                    let control = Control::new();
                    let io = TcpIo { stream, control: control.clone() };
                    origin.serve(io, control, ending).await;
                    drop(slot);
                });
            }
        }
    }
    drop(listener);
    let drained = tokio::time::timeout(DRAIN, async {
        while connections.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        connections.shutdown().await;
    }
}

/// Accepts one connection when there is a slot for it; `None` where accepting failed for now.
async fn next_connection(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Without it parts wait for acknowledgments; it fails only on a socket that is gone.
            stream.set_nodelay(true).ok()?;
            Some((stream, slot))
        }
        Err(_) => {
            // Out of descriptors: others must close first.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A TCP stream that ends with a reset if the handler asked for one.
struct TcpIo {
    stream: TcpStream,
    control: Control,
}

impl Drop for TcpIo {
    fn drop(&mut self) {
        if self.control.asked() == Some(Ending::Reset) {
            // RFC 9293 3.6.1 "abort": with no linger time the kernel sends RST instead of FIN. On a
            // socket that is gone already there is nothing to reset.
            let socket = socket2::SockRef::from(&self.stream);
            drop(socket.set_linger(Some(Duration::ZERO)));
        }
    }
}

impl AsyncRead for TcpIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TcpIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
