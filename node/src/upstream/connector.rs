//! How bytes reach a parent: TCP, or a simulated network for tests under virtual time.
//!
//! Who calls it: `dial`. Deliberately not here: TLS and HTTP, which run over either.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::error::ConnectError;

/// What carries connections to parents.
#[derive(Clone, Default)]
pub enum Connector {
    /// The network of the machine, names resolved anew for every connection.
    #[default]
    Tcp,
    /// A network in memory.
    Simulated(Arc<dyn SimulatedNetwork>),
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "Tcp",
            Self::Simulated(_) => "Simulated",
        })
    }
}

/// A network in memory, in which names lead to listeners of the same process.
pub trait SimulatedNetwork: Send + Sync {
    /// Connects to `authority` (`host:port`), or says why not as a socket would.
    fn connect<'a>(&'a self, authority: &'a str) -> BoxFuture<'a, io::Result<DuplexStream>>;
}

impl Connector {
    /// Opens a connection to `host:port`.
    pub(super) async fn connect(&self, authority: &str) -> Result<Stream, ConnectError> {
        match self {
            Self::Tcp => tcp(authority).await.map(Stream::Tcp),
            Self::Simulated(network) => network
                .connect(authority)
                .await
                .map(Stream::Simulated)
                .map_err(ConnectError::Transport),
        }
    }
}

/// Resolves `authority` and connects to the first address that answers.
async fn tcp(authority: &str) -> Result<TcpStream, ConnectError> {
    let found = tokio::net::lookup_host(authority)
        .await
        .map_err(ConnectError::Resolve)?;
    let mut addresses = alternate(found.collect());
    addresses.truncate(ADDRESSES_MAX);
    first_of(addresses, |address| async move {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        // FM-21: what stands between may forget a silent connection. HTTP/1.1 has no ping of its own.
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        Ok(stream)
    })
    .await
    .map_err(ConnectError::Transport)
}

/// Orders addresses so that the families take turns, beginning with the resolver's first (RFC 8305 4).
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_ipv4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|a| a.is_ipv4() == first_is_ipv4);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = Vec::new();
    loop {
        let before = order.len();
        order.extend(first.next());
        order.extend(second.next());
        if order.len() == before {
            return order;
        }
    }
}

/// Tries one address after the other, the next as soon as one fails or is silent for a moment (RFC 8305 5).
///
/// Attempts that are under way when one succeeds are dropped. The error is the last one.
async fn first_of<T, F>(
    addresses: Vec<SocketAddr>,
    mut attempt: impl FnMut(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        attempts.extend(waiting.next().map(&mut attempt));
        if attempts.is_empty() {
            return Err(last);
        }
        tokio::select! {
            Some(ended) = attempts.next() => match ended {
                Ok(connected) => return Ok(connected),
                Err(error) => last = error,
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if waiting.len() > 0 => {}
        }
    }
}

/// A connection to a parent.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Simulated(DuplexStream),
    Tls(Box<TlsStream<Self>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Simulated(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Simulated(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Simulated(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Simulated(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// How long one address may be silent before the next is tried beside it: RFC 8305 8 recommends 250 ms.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Time between TCP keep-alive probes of a silent connection.
const KEEPALIVE: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tokio::time::Instant;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn address_families_take_turns() {
        let found = ["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1", "10.0.0.2:1"];
        let order: Vec<String> = alternate(found.map(address).to_vec())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            order,
            ["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_delays_the_next_by_a_moment_only() {
        let (start, tried) = (Instant::now(), Mutex::new(Vec::new()));
        let addresses = vec![
            address("10.0.0.1:1"),
            address("10.0.0.2:1"),
            address("10.0.0.3:1"),
        ];
        let connected = first_of(addresses, |address| {
            tried.lock().push((address.to_string(), start.elapsed()));
            async move {
                if address.to_string() == "10.0.0.3:1" {
                    return Ok(address);
                }
                std::future::pending().await
            }
        })
        .await;
        assert_eq!(connected.unwrap(), address("10.0.0.3:1"));
        assert_eq!(start.elapsed(), ATTEMPT_DELAY * 2);
        assert_eq!(tried.lock().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusing_address_delays_the_next_not_at_all() {
        let start = Instant::now();
        let addresses = vec![address("10.0.0.1:1"), address("10.0.0.2:1")];
        let connected = first_of(addresses, |address| async move {
            if address.to_string() == "10.0.0.2:1" {
                Ok(address)
            } else {
                Err(io::ErrorKind::ConnectionRefused.into())
            }
        })
        .await;
        assert_eq!(connected.unwrap(), address("10.0.0.2:1"));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_error_is_told_when_every_address_refuses() {
        let addresses = vec![address("10.0.0.1:1"), address("10.0.0.2:1")];
        let refused: io::Result<()> = first_of(addresses, |_| async {
            Err(io::ErrorKind::ConnectionRefused.into())
        })
        .await;
        assert_eq!(
            refused.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        let nobody: io::Result<()> = first_of(Vec::new(), |_| std::future::pending()).await;
        assert_eq!(nobody.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
