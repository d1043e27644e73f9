//! The TLS records of one turn of an HTTP/2 connection: full ones, sent with one call when the connection has been polled.
//!
//! What `gather` is for clear text, this is for TLS. The library of HTTP/2 writes frame by frame: a DATA frame of the common
//! size and its head are nine bytes more than a record holds, and a small response is a tenth of one. Here what does not fill
//! a record is kept, in clear, until more comes or the turn is over; and the records stay in TLS's own buffer until then, so that
//! all of them leave with one vectored write. What is large is copied by TLS alone. Who calls it: `tcp`, which knows when a
//! turn is over. Deliberately not here: the handshake; HTTP/1.1, which has one response under way.
//!
//! ```text
//! h2 ─► FullRecords ─► what fills no record yet ─► TLS, which keeps records ─► socket
//!                           │  turn is over: RecordSender
//!                           └──────────────────────────────────────────────────►
//! ```

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

/// An encrypted stream whose records are full, and are kept during a turn.
#[derive(Debug)]
pub(super) struct FullRecords<IO> {
    stream: Arc<Mutex<Encrypted<IO>>>,
}

/// Sends the records of a turn. Whoever polls the connection calls it afterward.
#[derive(Debug)]
pub(super) struct RecordSender<IO> {
    stream: Arc<Mutex<Encrypted<IO>>>,
}

/// Shared by two that are polled by one task, never at once: its lock is always free.
///
/// Invariant: both kinds of bytes are `HELD_BYTES_MAX` at most.
#[derive(Debug)]
struct Encrypted<IO> {
    tls: TlsStream<IO>,
    /// What was written in this turn and fills no record yet; shorter than one.
    unsealed: Vec<u8>,
    /// Bytes written that are in records and have not all left.
    sealed_bytes: usize,
    /// Whether a write of this turn found no room.
    was_full: bool,
    /// Why sending failed. The connection learns of it when it writes next.
    failed: Option<io::ErrorKind>,
}

/// Returns both ends of a stream whose handshake is over.
pub(super) fn filling<IO>(mut tls: TlsStream<IO>) -> (FullRecords<IO>, RecordSender<IO>) {
    // TLS would cut a record where its own limit is, which counts what encryption adds. Ours is `HELD_BYTES_MAX`.
    tls.get_mut().1.set_buffer_limit(None);
    let stream = Arc::new(Mutex::new(Encrypted {
        tls,
        unsealed: Vec::new(),
        sealed_bytes: 0,
        was_full: false,
        failed: None,
    }));
    let sender = RecordSender {
        stream: Arc::clone(&stream),
    };
    (FullRecords { stream }, sender)
}

impl<IO: AsyncRead + AsyncWrite + Unpin> RecordSender<IO> {
    /// Sends as many records as the socket takes; it wakes the task when it takes more.
    ///
    /// Returns whether the socket has taken everything that was written in this turn, and was to be.
    pub(super) fn send(&self, cx: &mut Context<'_>) -> bool {
        let mut stream = self.stream.lock();
        let sent = stream.poll_send(cx);
        let was_full = std::mem::take(&mut stream.was_full);
        if let Poll::Ready(Err(error)) = &sent
            && stream.failed.is_none()
        {
            stream.failed = Some(error.kind());
            // Nobody else would tell the connection.
            cx.waker().wake_by_ref();
        }
        sent.is_ready() && !was_full
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Encrypted<IO> {
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(kind) = self.failed {
            return Poll::Ready(Err(kind.into()));
        }
        if self.sealed_bytes + self.unsealed.len() >= HELD_BYTES_MAX {
            // Only what leaves makes room.
            let sent = self.poll_send_sealed(cx);
            self.was_full |= sent.is_pending();
            ready!(sent)?;
        }
        Poll::Ready(self.write(slices))
    }

    /// Takes what there is room for: seals what fills records, and keeps the rest if it is little.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let slices = slices.get(..SLICES_MAX).unwrap_or(slices);
        let room = HELD_BYTES_MAX - self.sealed_bytes - self.unsealed.len();
        let taken = slices.iter().map(|slice| slice.len()).sum::<usize>();
        let taken = taken.min(room);
        let beyond = ((self.unsealed.len() + taken) % RECORD_BYTES).min(taken);
        let kept = if beyond > KEPT_BYTES_MAX { 0 } else { beyond };
        let sealed = taken - kept;
        if sealed > 0 {
            self.seal(slices, sealed)?;
        }
        if kept > 0 && self.unsealed.capacity() == 0 {
            self.unsealed = Vec::with_capacity(KEPT_BYTES_MAX);
        }
        for piece in between(slices, sealed, taken) {
            self.unsealed.extend_from_slice(piece);
        }
        Ok(taken)
    }

    /// Makes records of what was kept and of the first `bytes` of `slices`.
    fn seal(&mut self, slices: &[IoSlice<'_>], bytes: usize) -> io::Result<()> {
        let mut pieces = [IoSlice::new(&[]); SLICES_MAX + 1];
        let mut count = 0;
        let kept = (!self.unsealed.is_empty()).then_some(self.unsealed.as_slice());
        for (place, piece) in pieces
            .iter_mut()
            .zip(kept.into_iter().chain(between(slices, 0, bytes)))
        {
            *place = IoSlice::new(piece);
            count += 1;
        }
        let expected = self.unsealed.len() + bytes;
        let mut writer = self.tls.get_mut().1.writer();
        let written = io::Write::write_vectored(&mut writer, &pieces[..count])?;
        if written != expected {
            // TLS has no limit of its own here; going on would leave a hole.
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unsealed.clear();
        self.sealed_bytes += expected;
        Ok(())
    }

    /// Sends everything that was written.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.unsealed.is_empty() {
            self.seal(&[], 0)?;
        }
        // Of thousands of idle connections none keeps an empty buffer.
        self.unsealed = Vec::new();
        self.poll_send_sealed(cx)
    }

    /// Sends the records that are there.
    fn poll_send_sealed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.tls.get_ref().1.wants_write() {
            ready!(Pin::new(&mut self.tls).poll_flush(cx))?;
        }
        self.sealed_bytes = 0;
        Poll::Ready(Ok(()))
    }
}

/// Returns the bytes of `slices` from `start` to `end`, counted over all of them.
fn between<'a>(
    slices: &'a [IoSlice<'_>],
    start: usize,
    end: usize,
) -> impl Iterator<Item = &'a [u8]> {
    let mut before = 0;
    slices.iter().filter_map(move |slice| {
        let from = start.saturating_sub(before).min(slice.len());
        let to = end.saturating_sub(before).min(slice.len());
        before += slice.len();
        slice.get(from..to).filter(|piece| !piece.is_empty())
    })
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for FullRecords<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream.lock().tls).poll_read(cx, buffer)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for FullRecords<IO> {
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
        ready!(stream.poll_send(cx))?;
        Pin::new(&mut stream.tls).poll_shutdown(cx)
    }
}

/// Bytes that one record carries at most (RFC 8446 5.1).
const RECORD_BYTES: usize = 16 * 1024;

/// Bytes of one write that are copied to share a record with what comes after them. Measured: copying 4 KB takes 80 ns, a record
/// of its own 220 ns at least.
const KEPT_BYTES_MAX: usize = 4 * 1024;

/// Bytes that one turn holds at most; when there are more, the records that are there leave first. Whole records, so that
/// no short one is made where the limit is.
const HELD_BYTES_MAX: usize = 4 * RECORD_BYTES;

/// Slices of one write that are looked at; h2 has two, a head and a body.
const SLICES_MAX: usize = 8;

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

    /// Counts the calls that write, and keeps what they wrote.
    #[derive(Debug)]
    struct Counting {
        io: DuplexStream,
        calls: Arc<AtomicUsize>,
        sent: Arc<Mutex<Vec<u8>>>,
    }

    impl Counting {
        fn note(&self, slices: &[IoSlice<'_>], written: &Poll<io::Result<usize>>) {
            self.calls.fetch_add(1, Ordering::Relaxed);
            if let Poll::Ready(Ok(written)) = written {
                let mut sent = self.sent.lock();
                for piece in between(slices, 0, *written) {
                    sent.extend_from_slice(piece);
                }
            }
        }
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
            let written = Pin::new(&mut self.io).poll_write(cx, bytes);
            self.note(&[IoSlice::new(bytes)], &written);
            written
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
            self.note(slices, &written);
            written
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
        held: FullRecords<Counting>,
        sender: RecordSender<Counting>,
        calls: Arc<AtomicUsize>,
        sent: Arc<Mutex<Vec<u8>>>,
    }

    impl Shaken {
        /// Returns how much each record carries that was sent since the handshake.
        fn records(&self) -> Vec<usize> {
            let sent = self.sent.lock();
            let mut rest = sent.as_slice();
            let mut lengths = Vec::new();
            while let [23, 3, 3, high, low, body @ ..] = rest {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                // RFC 8446 5.2: the type of the content, and with GCM 16 bytes.
                lengths.push(length - 17);
                rest = &body[length..];
            }
            assert_eq!(rest, b"", "whole records");
            lengths
        }
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
        let (calls, sent) = (Arc::default(), Arc::<Mutex<Vec<u8>>>::default());
        let counting = Counting {
            io: near,
            calls: Arc::clone(&calls),
            sent: Arc::clone(&sent),
        };
        let acceptor = TlsAcceptor::from(
            TlsConfigs::new(certificates, &QuicConfig::default())
                .unwrap()
                .tcp,
        );
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        let (tls, viewer) = tokio::join!(acceptor.accept(counting), connector.connect(name, far));
        let (held, sender) = filling(tls.unwrap());
        end_turn(&sender).await;
        calls.store(0, Ordering::Relaxed);
        sent.lock().clear();
        Shaken {
            viewer: viewer.unwrap(),
            held,
            sender,
            calls,
            sent,
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
    async fn small_responses_of_one_turn_share_a_record() {
        let mut at = shaken(1 << 20).await;
        for _ in 0..12 {
            at.held.write_all(&[7; 1_500]).await.unwrap();
            at.held.flush().await.unwrap();
        }
        end_turn(&at.sender).await;
        assert_eq!(at.records(), [16_384, 12 * 1_500 - 16_384]);
    }

    #[tokio::test]
    async fn frames_that_are_a_little_longer_than_records_fill_them() {
        let mut at = shaken(1 << 20).await;
        let (head, body) = ([1; 9], [2; 16_384]);
        for _ in 0..3 {
            let slices = [IoSlice::new(&head), IoSlice::new(&body)];
            let written = at.held.write_vectored(&slices).await.unwrap();
            assert_eq!(written, 9 + 16_384);
        }
        end_turn(&at.sender).await;
        assert_eq!(at.records(), [16_384, 16_384, 16_384, 27]);
    }

    #[tokio::test]
    async fn what_is_large_is_sealed_at_once_and_no_buffer_outlives_a_turn() {
        let mut at = shaken(1 << 20).await;
        at.held.write_all(&[1; 100]).await.unwrap();
        assert_eq!(at.held.stream.lock().unsealed.len(), 100);
        at.held.write_all(&[2; 10_000]).await.unwrap();
        assert_eq!(at.held.stream.lock().unsealed.len(), 0);
        end_turn(&at.sender).await;
        assert_eq!(at.records(), [10_100]);
        assert_eq!(at.held.stream.lock().unsealed.capacity(), 0);
    }

    #[tokio::test]
    async fn writes_of_every_size_arrive_in_order_however_turns_fall() {
        let sizes = [
            1, 9, 4_095, 4_096, 4_097, 9, 16_383, 16_384, 16_385, 1, 20_479, 20_481, 70_000, 5,
            200_000, 32_768,
        ];
        for turn in 1..5 {
            let mut at = shaken(1 << 20).await;
            let mut sent = Vec::new();
            for (number, size) in sizes.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..size).map(|i| ((i + number) % 251) as u8).collect();
                at.held.write_all(&bytes).await.unwrap();
                sent.extend_from_slice(&bytes);
                if number % turn == 0 {
                    end_turn(&at.sender).await;
                }
            }
            end_turn(&at.sender).await;
            let mut read = vec![0; sent.len()];
            at.viewer.read_exact(&mut read).await.unwrap();
            assert!(read == sent, "turns of {turn} writes");
        }
    }

    #[test]
    fn slices_are_cut_by_bytes_counted_over_all_of_them() {
        let slices = [
            IoSlice::new(b"ab"),
            IoSlice::new(b""),
            IoSlice::new(b"cdef"),
        ];
        let cases = [
            (0, 6, "ab|cdef"),
            (0, 2, "ab"),
            (2, 6, "cdef"),
            (1, 4, "b|cd"),
            (3, 3, ""),
            (6, 9, ""),
        ];
        for (start, end, expected) in cases {
            let pieces: Vec<_> = between(&slices, start, end)
                .map(|piece| std::str::from_utf8(piece).unwrap())
                .collect();
            assert_eq!(pieces.join("|"), expected, "{start} to {end}");
        }
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
    async fn records_are_full_where_the_limit_of_a_turn_is() {
        let mut at = shaken(1 << 20).await;
        for _ in 0..20 {
            at.held.write_all(&[5; 9 + 16_384]).await.unwrap();
        }
        end_turn(&at.sender).await;
        let mut records = at.records();
        assert_eq!(records.pop(), Some(20 * 9));
        assert_eq!(records, [16_384; 20]);
    }

    #[tokio::test]
    async fn a_socket_that_takes_nothing_makes_the_connection_wait_and_hold_no_more_than_a_turn() {
        let mut at = shaken(4_000).await;
        let mut accepted = Vec::new();
        loop {
            let turn = std::future::poll_fn(|cx| {
                let byte = (accepted.len() % 251) as u8;
                let written = Pin::new(&mut at.held).poll_write(cx, &[byte; 3_000]);
                at.sender.send(cx);
                Poll::Ready((byte, written))
            });
            let (byte, written) = turn.await;
            let stream = at.held.stream.lock();
            assert!(stream.sealed_bytes + stream.unsealed.len() <= HELD_BYTES_MAX);
            let Poll::Ready(written) = written else {
                break;
            };
            accepted.resize(accepted.len() + written.unwrap(), byte);
        }
        assert_eq!(at.held.stream.lock().unsealed.capacity(), 0);
        let mut read = vec![0; accepted.len()];
        let rest = std::future::poll_fn(|cx| {
            at.sender.send(cx);
            match at.held.stream.lock().sealed_bytes {
                0 => Poll::Ready(()),
                _ => Poll::Pending,
            }
        });
        let (received, ()) = tokio::join!(at.viewer.read_exact(&mut read), rest);
        received.unwrap();
        assert!(read == accepted);
    }

    #[tokio::test]
    async fn the_last_words_leave_before_the_farewell() {
        let mut at = shaken(1 << 20).await;
        at.held.write_all(b"last words").await.unwrap();
        at.held.shutdown().await.unwrap();
        let mut read = Vec::new();
        // Without a farewell (close_notify, RFC 8446 6.1) this would be an error.
        at.viewer.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"last words");
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
