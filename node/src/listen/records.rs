//! The TLS records of one turn of an HTTP/2 connection, sent with one call when the connection has been polled.
//!
//! What `gather` is for clear text, this is for TLS: the library encrypts each response as it is written and would send it at
//! once. Here a gate below TLS is closed during a turn, so that the records stay in TLS's own buffer, and opened when
//! the turn is over, so that all of them leave with one vectored write. Nothing is copied that TLS does not copy
//! itself. Who calls it: `tcp`, which knows when a turn is over. Deliberately not here: the handshake.
//!
//! ```text
//! h2 ─► HeldRecords ─► TLS, which keeps records ─► Gate ─► socket
//!                         │  turn is over: RecordSender   ▲
//!                         └───────────────────────────────┘
//! ```

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

/// A socket that takes nothing while it is closed.
#[derive(Debug)]
pub(super) struct Gate<IO> {
    io: IO,
    is_closed: bool,
}

impl<IO> Gate<IO> {
    /// Returns a gate that lets everything pass.
    pub(super) fn open(io: IO) -> Self {
        Self {
            io,
            is_closed: false,
        }
    }
}

/// An encrypted stream whose records are kept during a turn.
#[derive(Debug)]
pub(super) struct HeldRecords<IO> {
    stream: Arc<Mutex<Encrypted<IO>>>,
}

/// Sends the records of a turn. Whoever polls the connection calls it afterward.
#[derive(Debug)]
pub(super) struct RecordSender<IO> {
    stream: Arc<Mutex<Encrypted<IO>>>,
}

/// Shared by two that are polled by one task, never at once: its lock is always free.
#[derive(Debug)]
struct Encrypted<IO> {
    tls: TlsStream<Gate<IO>>,
    /// Why sending failed. The connection learns of it when it writes next.
    failed: Option<io::ErrorKind>,
}

/// Returns both ends of a stream whose handshake is over.
pub(super) fn holding<IO>(mut tls: TlsStream<Gate<IO>>) -> (HeldRecords<IO>, RecordSender<IO>) {
    tls.get_mut().1.set_buffer_limit(Some(HELD_BYTES_MAX));
    let stream = Arc::new(Mutex::new(Encrypted { tls, failed: None }));
    let sender = RecordSender {
        stream: Arc::clone(&stream),
    };
    (HeldRecords { stream }, sender)
}

impl<IO: AsyncRead + AsyncWrite + Unpin> RecordSender<IO> {
    /// Sends as many records as the socket takes; it wakes the task when it takes more.
    pub(super) fn send(&self, cx: &mut Context<'_>) {
        let mut stream = self.stream.lock();
        if let Poll::Ready(Err(error)) = stream.poll_send(cx)
            && stream.failed.is_none()
        {
            stream.failed = Some(error.kind());
            // Nobody else would tell the connection.
            cx.waker().wake_by_ref();
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Encrypted<IO> {
    fn set_closed(&mut self, is_closed: bool) {
        self.tls.get_mut().0.is_closed = is_closed;
    }

    /// Sends the records that are there.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.tls.get_ref().1.wants_write() {
            return Poll::Ready(Ok(()));
        }
        self.set_closed(false);
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(kind) = self.failed {
            return Poll::Ready(Err(kind.into()));
        }
        self.set_closed(true);
        if let Poll::Ready(written) = Pin::new(&mut self.tls).poll_write_vectored(cx, slices) {
            return Poll::Ready(written);
        }
        // The buffer is full: only what leaves makes room.
        ready!(self.poll_send(cx))?;
        self.set_closed(true);
        Pin::new(&mut self.tls).poll_write_vectored(cx, slices)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for HeldRecords<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream.lock().tls).poll_read(cx, buffer)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for HeldRecords<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.lock().poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.lock().poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream.lock().failed {
            Some(kind) => Poll::Ready(Err(kind.into())),
            None => Poll::Ready(Ok(())), // It leaves when the turn is over.
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.stream.lock();
        stream.set_closed(false);
        Pin::new(&mut stream.tls).poll_shutdown(cx)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Gate<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Gate<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_closed {
            return Poll::Pending; // Whoever closed it opens it and writes again.
        }
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_closed {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_closed {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Records that one turn keeps at most; when there are more, those that are there leave first.
const HELD_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::super::CertificateSource;
    use super::super::quic::QuicConfig;
    use super::super::tls::{Certificates, TlsConfigs};
    use super::*;

    /// Counts the calls that write.
    #[derive(Debug)]
    struct Counting {
        io: DuplexStream,
        calls: Arc<AtomicUsize>,
    }

    impl AsyncRead for Counting {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Counting {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.io).poll_write(cx, bytes)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.io).poll_write_vectored(cx, slices)
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_shutdown(cx)
        }
    }

    type Viewer = tokio_rustls::client::TlsStream<DuplexStream>;

    /// A stream over which both sides have shaken hands, with `room` bytes between them.
    struct Shaken {
        viewer: Viewer,
        held: HeldRecords<Counting>,
        sender: RecordSender<Counting>,
        calls: Arc<AtomicUsize>,
    }

    async fn shaken(room: usize) -> Shaken {
        let certificates = Certificates::load(&CertificateSource::SelfSigned(Vec::new())).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificates.leaf()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (near, far) = tokio::io::duplex(room);
        let calls = Arc::default();
        let counting = Counting {
            io: near,
            calls: Arc::clone(&calls),
        };
        let acceptor = TlsAcceptor::from(
            TlsConfigs::new(certificates, &QuicConfig::default())
                .unwrap()
                .tcp,
        );
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        let (tls, viewer) = tokio::join!(
            acceptor.accept(Gate::open(counting)),
            connector.connect(name, far)
        );
        let (held, sender) = holding(tls.unwrap());
        calls.store(0, Ordering::Relaxed);
        Shaken {
            viewer: viewer.unwrap(),
            held,
            sender,
            calls,
        }
    }

    /// Ends a turn.
    async fn end_turn(sender: &RecordSender<Counting>) {
        std::future::poll_fn(|cx| {
            sender.send(cx);
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn the_responses_of_one_turn_leave_with_one_call() {
        let mut at = shaken(1 << 20).await;
        for _ in 0..10 {
            at.held.write_all(b"response ").await.unwrap();
            at.held.flush().await.unwrap();
        }
        assert_eq!(at.calls.load(Ordering::Relaxed), 0);
        end_turn(&at.sender).await;
        assert_eq!(at.calls.load(Ordering::Relaxed), 1);
        let mut read = [0; 90];
        at.viewer.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"response ".repeat(10).as_slice());
    }

    #[tokio::test]
    async fn what_is_kept_at_once_has_a_limit_and_what_is_beyond_leaves() {
        let mut at = shaken(1 << 20).await;
        at.held.write_all(&[7; 4 * HELD_BYTES_MAX]).await.unwrap();
        assert!(at.calls.load(Ordering::Relaxed) >= 3);
        end_turn(&at.sender).await;
        let mut read = vec![0; 4 * HELD_BYTES_MAX];
        at.viewer.read_exact(&mut read).await.unwrap();
        assert_eq!(read, [7; 4 * HELD_BYTES_MAX]);
    }

    #[tokio::test]
    async fn a_viewer_that_reads_slowly_gets_every_byte_in_order_and_the_end() {
        let Shaken {
            mut viewer,
            mut held,
            sender,
            ..
        } = shaken(1000).await;
        let sent: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
        let writing = async {
            for piece in sent.chunks(7000) {
                held.write_all(piece).await.unwrap();
            }
            held.shutdown().await.unwrap();
        };
        let mut writing = std::pin::pin!(writing);
        // Each poll of the writer is a turn, as it is for a connection.
        let turns = std::future::poll_fn(|cx| {
            let polled = writing.as_mut().poll(cx);
            sender.send(cx);
            polled
        });
        let mut received = Vec::new();
        let (read, ()) = tokio::join!(viewer.read_to_end(&mut received), turns);
        assert_eq!(read.unwrap(), sent.len());
        assert_eq!(received, sent);
    }

    #[tokio::test]
    async fn a_socket_that_fails_fails_the_next_write_and_flush() {
        let mut at = shaken(1 << 20).await;
        at.held.write_all(b"lost").await.unwrap();
        drop(at.viewer);
        end_turn(&at.sender).await;
        let error = at.held.write(b"more").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(at.held.flush().await.is_err());
    }

    #[tokio::test]
    async fn reading_is_not_touched() {
        let mut at = shaken(1 << 20).await;
        at.viewer.write_all(b"request").await.unwrap();
        let mut read = [0; 7];
        at.held.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"request");
    }
}
