//! Many small writes of one connection in clear text, sent with one call when the connection has been polled.
//!
//! HTTP/2 answers many requests in one turn, and its library writes and flushes each response by itself: a
//! system call and a TCP segment or more for each. Here the small writes of one turn are gathered and leave together.
//! Large ones, which are bodies, are not copied: they leave at once, behind what was gathered. Who calls it: `tcp`, which
//! knows when a turn is over. Deliberately not here: HTTP/1.1, which has one response under way and nothing to gather, and
//! TLS, which has a buffer of its own (`records`).
//!
//! ```text
//! h2 ─► GatheringIo ─► small writes of one turn
//!                           │  turn is over: GatheredSender
//!                           └────────────────────────────────► socket
//! ```

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket whose writes can be gathered.
#[derive(Debug)]
pub(super) struct GatheringIo<IO> {
    socket: Arc<Mutex<Socket<IO>>>,
}

/// Sends what was gathered. Whoever polls the connection calls it afterward.
#[derive(Debug)]
pub(super) struct GatheredSender<IO> {
    socket: Arc<Mutex<Socket<IO>>>,
}

/// Shared by two that are polled by one task, never at once: its lock is always free.
#[derive(Debug)]
struct Socket<IO> {
    io: IO,
    gathered: BytesMut,
    /// Whether a write of this turn found no room.
    was_full: bool,
    /// Why sending failed. The connection learns of it when it writes next.
    failed: Option<io::ErrorKind>,
}

/// Returns both ends.
pub(super) fn gathering<IO>(io: IO) -> (GatheringIo<IO>, GatheredSender<IO>) {
    let socket = Arc::new(Mutex::new(Socket {
        io,
        gathered: BytesMut::new(),
        was_full: false,
        failed: None,
    }));
    let sender = GatheredSender {
        socket: Arc::clone(&socket),
    };
    (GatheringIo { socket }, sender)
}

impl<IO: AsyncWrite + Unpin> GatheredSender<IO> {
    /// Sends as much of what was gathered as the socket takes; it wakes the task when it takes more.
    ///
    /// Returns whether the socket has taken everything that was written in this turn, and was to be.
    pub(super) fn send(&self, cx: &mut Context<'_>) -> bool {
        let mut socket = self.socket.lock();
        let sent = socket.poll_send(cx);
        let was_full = std::mem::take(&mut socket.was_full);
        if let Poll::Ready(Err(error)) = &sent {
            socket.failed = Some(error.kind());
            socket.gathered.clear();
            // Nobody else would tell the connection.
            cx.waker().wake_by_ref();
        }
        sent.is_ready() && !was_full
    }
}

impl<IO: AsyncWrite + Unpin> Socket<IO> {
    /// Sends everything that was gathered.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.gathered.has_remaining() {
            let sent = ready!(Pin::new(&mut self.io).poll_write(cx, &self.gathered))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(sent);
        }
        // Ready for the next turn, and no memory held by a connection that has nothing to say.
        self.gathered = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(kind) = self.failed {
            return Poll::Ready(Err(kind.into()));
        }
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if length <= SMALL_BYTES_MAX && self.gathered.len() + length <= GATHERED_BYTES_MAX {
            if self.gathered.is_empty() {
                self.gathered.reserve(FIRST_BYTES);
            }
            for slice in slices {
                self.gathered.extend_from_slice(slice);
            }
            return Poll::Ready(Ok(length));
        }
        let written = self.poll_write_through(cx, slices);
        self.was_full |= written.is_pending();
        written
    }

    /// Sends what was gathered and, with the same call, `slices` behind it.
    fn poll_write_through(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        while self.gathered.has_remaining() {
            let mut all = [IoSlice::new(&[]); SLICES_MAX];
            all[0] = IoSlice::new(&self.gathered);
            let count = slices.len().min(SLICES_MAX - 1);
            for (place, slice) in all[1..].iter_mut().zip(slices) {
                *place = IoSlice::new(slice);
            }
            let sent = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &all[..=count]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_gathered = sent.min(self.gathered.len());
            self.gathered.advance(of_gathered);
            if sent > of_gathered {
                return Poll::Ready(Ok(sent - of_gathered));
            }
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for GatheringIo<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket.lock().io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for GatheringIo<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.socket.lock().poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket.lock().poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.lock().io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.socket.lock().failed {
            Some(kind) => Poll::Ready(Err(kind.into())),
            None => Poll::Ready(Ok(())), // It leaves when the turn is over.
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.socket.lock();
        ready!(socket.poll_send(cx))?;
        Pin::new(&mut socket.io).poll_shutdown(cx)
    }
}

/// What one turn gathers at most.
const GATHERED_BYTES_MAX: usize = 64 * 1024;

/// A larger write is not gathered: a call costs less than copying it.
const SMALL_BYTES_MAX: usize = 8 * 1024;

/// Slices of one write to the socket; h2 gives two at a time, TLS none.
const SLICES_MAX: usize = 16;

/// Room for a few small responses at once.
const FIRST_BYTES: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A socket that takes so many bytes per call, and counts the calls.
    #[derive(Debug, Default)]
    struct Slow {
        takes: Vec<usize>,
        calls: usize,
        taken: Vec<u8>,
        is_shut_down: bool,
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            this.calls += 1;
            match this.takes.pop() {
                Some(0) => Poll::Pending,
                Some(limit) => {
                    let taken = bytes.get(..limit).unwrap_or(bytes);
                    this.taken.extend_from_slice(taken);
                    Poll::Ready(Ok(taken.len()))
                }
                None => {
                    this.taken.extend_from_slice(bytes);
                    Poll::Ready(Ok(bytes.len()))
                }
            }
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.get_mut().is_shut_down = true;
            Poll::Ready(Ok(()))
        }
    }

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn write(io: &mut GatheringIo<Slow>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(io).poll_write(&mut context(), bytes)
    }

    #[test]
    fn the_writes_of_one_turn_leave_with_one_call() {
        let (mut io, sender) = gathering(Slow::default());
        for _ in 0..10 {
            assert!(matches!(write(&mut io, b"response "), Poll::Ready(Ok(9))));
            assert!(Pin::new(&mut io).poll_flush(&mut context()).is_ready());
        }
        assert_eq!(sender.socket.lock().io.calls, 0);
        sender.send(&mut context());
        let socket = sender.socket.lock();
        assert_eq!((socket.io.calls, socket.io.taken.len()), (1, 90));
    }

    #[test]
    fn a_large_write_leaves_at_once_behind_what_was_gathered() {
        let (mut io, sender) = gathering(Slow::default());
        assert!(write(&mut io, b"head").is_ready());
        let body = vec![7; SMALL_BYTES_MAX + 1];
        assert!(write(&mut io, &body).is_ready());
        let socket = sender.socket.lock();
        assert_eq!(socket.io.taken.len(), 4 + body.len());
        assert!(socket.io.taken.starts_with(b"head"));
        assert!(socket.gathered.is_empty());
    }

    #[test]
    fn what_was_gathered_is_sent_before_the_end() {
        let (mut io, sender) = gathering(Slow::default());
        assert!(write(&mut io, b"goodbye").is_ready());
        assert!(Pin::new(&mut io).poll_shutdown(&mut context()).is_ready());
        let socket = sender.socket.lock();
        assert_eq!(socket.io.taken, b"goodbye");
        assert!(socket.io.is_shut_down);
    }

    #[test]
    fn a_socket_that_takes_nothing_stops_the_writer_at_a_limit() {
        let takes = vec![0; 1000];
        let (mut io, _sender) = gathering(Slow {
            takes,
            ..Slow::default()
        });
        let written = (0..1000)
            .take_while(|_| write(&mut io, &[7; 1000]).is_ready())
            .count();
        assert_eq!(written, GATHERED_BYTES_MAX / 1000);
    }

    #[tokio::test]
    async fn a_socket_that_fails_fails_the_next_write() {
        let (near, far) = tokio::io::duplex(64);
        let (mut io, sender) = gathering(near);
        io.write_all(b"lost").await.unwrap();
        drop(far);
        std::future::poll_fn(|cx| {
            sender.send(cx);
            Poll::Ready(())
        })
        .await;
        let error = io.write(b"more").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(io.flush().await.is_err());
    }

    #[tokio::test]
    async fn reading_is_not_touched() {
        let (near, mut far) = tokio::io::duplex(64);
        let (mut io, _sender) = gathering(near);
        far.write_all(b"request").await.unwrap();
        let mut read = [0; 7];
        io.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"request");
    }

    proptest! {
        #[test]
        fn every_byte_arrives_once_and_in_order(
            writes in prop::collection::vec(1..40_000_usize, 1..20),
            takes in prop::collection::vec(0..30_000_usize, 0..60),
        ) {
            let (mut io, sender) = gathering(Slow { takes, ..Slow::default() });
                let mut sent = Vec::new();
            for (number, length) in writes.into_iter().enumerate() {
                let bytes = vec![u8::try_from(number).unwrap(); length];
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    match write(&mut io, rest) {
                        Poll::Ready(taken) => rest = &rest[taken.unwrap()..],
                        Poll::Pending => assert!(!sender.send(&mut context()), "a write found no room"),
                    }
                }
                sent.extend_from_slice(&bytes);
            }
            while !sender.socket.lock().gathered.is_empty() {
                sender.send(&mut context());
            }
            prop_assert_eq!(&sender.socket.lock().io.taken, &sent);
        }
    }
}
