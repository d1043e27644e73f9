//! Connections: HTTP/1.1 and HTTP/2 with prior knowledge, on a socket or on any other stream.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::OriginConfig;
use super::presentation::{Origin, OriginError};
use super::respond;

/// An origin that listens on a socket.
#[derive(Debug)]
pub struct RunningOrigin {
    origin: Arc<Origin>,
    address: SocketAddr,
    stop: CancellationToken,
    accepting: JoinSet<()>,
}

/// A way to break the connection that a request came on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connection {
    /// A second handle on the same socket; a simulated stream has none.
    twin: Option<Arc<Socket>>,
}

impl Connection {
    /// Makes the connection's end a TCP reset.
    pub(crate) fn reset_on_close(&self) {
        if let Some(twin) = &self.twin {
            // Without lingering, what was not sent is thrown away and the peer gets RST.
            twin.set_linger(Some(Duration::ZERO)).ok();
        }
    }
}

impl Origin {
    /// Serves one connection to its end, on any stream.
    pub async fn serve_connection<IO>(self: Arc<Self>, io: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        serve(self, io, Connection::default()).await;
    }

    /// Listens on `address`; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// Settings outside what is allowed, unreadable media, an address that cannot be listened on.
    pub async fn bind(
        config: OriginConfig,
        address: SocketAddr,
    ) -> Result<RunningOrigin, OriginError> {
        let origin = Arc::new(Self::new(config)?);
        let failed = |source| OriginError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stop = CancellationToken::new();
        let mut accepting = JoinSet::new();
        let (serving, stopped) = (Arc::clone(&origin), stop.clone());
        accepting.spawn(async move { accept(listener, serving, stopped).await });
        Ok(RunningOrigin {
            origin,
            address,
            stop,
            accepting,
        })
    }
}

impl RunningOrigin {
    /// Returns the address that was bound.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Returns the origin.
    pub fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// Closes the listener and every connection, and waits for them.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        while self.accepting.join_next().await.is_some() {}
    }
}

async fn accept(listener: TcpListener, origin: Arc<Origin>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stop.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors: there is no event for "there are some again".
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        stream.set_nodelay(true).ok();
        let twin = SockRef::from(&stream).try_clone().ok().map(Arc::new);
        connections.spawn(serve(Arc::clone(&origin), stream, Connection { twin }));
    }
}

async fn serve<IO>(origin: Arc<Origin>, io: IO, connection: Connection)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(|request: http::Request<Incoming>| {
        let (origin, connection) = (Arc::clone(&origin), connection.clone());
        async move {
            match respond::to(&origin, &request.map(|_| ()), &connection).await {
                Ok(response) => Ok(response),
                Err(respond::NoAnswer) => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            }
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX);
    // An error is a viewer that left, or a fault that was asked for.
    builder
        .serve_connection(TokioIo::new(io), service)
        .await
        .ok();
}

/// Time for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Streams per HTTP/2 connection: every rendition, part and hint of a busy edge.
const STREAMS_MAX: u32 = 1000;
