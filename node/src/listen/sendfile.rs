//! A TCP socket that sends stored bodies without copying them.
//!
//! HTTP/1.1 in clear text hands over the body's own memory. Where that is part of a file (`cache::pages`), the kernel is told to
//! send that part of the file: it takes the pages as they are instead of copying them into the socket's queue. Who calls
//! it: hyper, through `tcp`, for every write of a clear-text connection. Deliberately not here: TLS, which has to read every byte.

use std::io::{self, IoSlice};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use cache::pages::{self, Location};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A socket of a worker.
#[derive(Debug)]
pub(super) struct SendfileIo {
    socket: TcpStream,
}

/// What one system call can send.
#[derive(Clone, Copy, Debug)]
enum Run {
    /// So many slices, by copying; whether more follows at once.
    Copied { slices: usize, more: bool },
    /// So many bytes of a file.
    Sent { from: Location, bytes: NonZeroUsize },
}

impl SendfileIo {
    /// Takes a socket over.
    pub(super) fn new(socket: TcpStream) -> Self {
        // What a slow viewer has not been sent yet lies here, where it can be dropped, and not in the kernel. Far viewers lose
        // nothing: what is on its way does not count. A system that cannot do so is none the worse.
        SockRef::from(&socket)
            .set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
            .ok();
        Self { socket }
    }

    fn send(&self, run: Run, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let socket = SockRef::from(&self.socket);
        match run {
            Run::Copied {
                slices: count,
                more,
            } => {
                let flags = if more { libc::MSG_MORE } else { 0 };
                let copied = slices.get(..count).unwrap_or(slices);
                socket.send_vectored_with_flags(copied, flags | libc::MSG_NOSIGNAL)
            }
            Run::Sent { from, bytes } => {
                match socket.sendfile(&from.file, from.offset, Some(bytes))? {
                    0 => Err(io::ErrorKind::WriteZero.into()),
                    sent => Ok(sent),
                }
            }
        }
    }
}

/// Returns what the first call for `slices` sends.
fn first_run(slices: &[IoSlice<'_>]) -> Run {
    let mut before = 0;
    for (index, slice) in slices.iter().enumerate() {
        if let Some(sent) = sendable(slices.get(index..).unwrap_or_default()) {
            return match before {
                0 => sent,
                slices => Run::Copied { slices, more: true },
            };
        }
        if !slice.is_empty() || before > 0 {
            before = index + 1;
        }
    }
    Run::Copied {
        slices: slices.len(),
        more: false,
    }
}

/// Returns how much of what begins with the first slice lies together in a file, if that is worth a call of its own.
fn sendable(slices: &[IoSlice<'_>]) -> Option<Run> {
    let (first, rest) = slices.split_first()?;
    if first.is_empty() {
        return None;
    }
    let from = pages::locate(first)?;
    let mut bytes = first.len();
    for slice in rest {
        let follows = pages::locate(slice).is_some_and(|at| at.offset == from.offset + bytes);
        if !follows {
            break;
        }
        bytes += slice.len();
    }
    let bytes = NonZeroUsize::new(bytes).filter(|bytes| bytes.get() >= SENDFILE_BYTES_MIN)?;
    Some(Run::Sent { from, bytes })
}

impl AsyncWrite for SendfileIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let run = first_run(slices);
        if let Run::Copied { more: false, .. } = run {
            let socket = Pin::new(&mut self.get_mut().socket);
            return socket.poll_write_vectored(cx, slices);
        }
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            let sent = self
                .socket
                .try_io(Interest::WRITABLE, || self.send(run, slices));
            match sent {
                // Readiness was out of date, and is no more.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

impl AsyncRead for SendfileIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(cx, buffer)
    }
}

/// Less than this is copied: 100 KB cost the same either way (docs/decisions/0021). Frames of HTTP/2 are shorter, so
/// that they are written as ever.
const SENDFILE_BYTES_MIN: usize = 64 * 1024;

/// What a socket takes beyond what it has sent, in bytes.
const UNSENT_BYTES_MAX: u32 = 64 * 1024;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    fn content(bytes: usize, seed: u8) -> Vec<u8> {
        (0..bytes).map(|i| (i % 251) as u8 ^ seed).collect()
    }

    /// Bytes as the store keeps them.
    fn stored(bytes: usize, seed: u8) -> Bytes {
        let mut growing = pages::begin(bytes).expect("there is room for a test");
        growing.push(&content(bytes, seed));
        growing.finish()
    }

    async fn connected() -> (SendfileIo, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        (SendfileIo::new(accepted.unwrap().0), client.unwrap())
    }

    /// Writes what the socket takes at once; returns how much that was.
    fn write_some(io: &mut SendfileIo, mut slices: &mut [IoSlice<'_>]) -> usize {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut all = 0;
        while !slices.is_empty() {
            match Pin::new(&mut *io).poll_write_vectored(&mut cx, slices) {
                Poll::Ready(sent) => {
                    let sent = sent.unwrap();
                    IoSlice::advance_slices(&mut slices, sent);
                    all += sent;
                }
                Poll::Pending => break,
            }
        }
        all
    }

    #[test]
    fn a_head_is_copied_and_the_slices_of_a_body_leave_with_one_call() {
        let body = stored(150_000, 1);
        let slices = [
            &b"head"[..],
            &body[..65_536],
            &body[65_536..131_072],
            &body[131_072..],
        ];
        let slices = slices.map(IoSlice::new);
        assert!(matches!(
            first_run(&slices),
            Run::Copied {
                slices: 1,
                more: true
            }
        ));
        let Run::Sent { from, bytes } = first_run(&slices[1..]) else {
            panic!("the body lies in a file");
        };
        assert_eq!(bytes.get(), 150_000);
        assert_eq!(from.offset, pages::locate(&body).unwrap().offset);
    }

    #[test]
    fn what_is_elsewhere_or_short_is_copied() {
        let (body, heap) = (stored(150_000, 1), vec![7; 150_000]);
        let slices = [&b"head"[..], &heap, &body[..1_000]].map(IoSlice::new);
        assert!(matches!(
            first_run(&slices),
            Run::Copied {
                slices: 3,
                more: false
            }
        ));
        // Not the bytes that follow.
        let slices = [&body[..70_000], &body[80_000..]].map(IoSlice::new);
        assert!(matches!(first_run(&slices), Run::Sent { bytes, .. } if bytes.get() == 70_000));
        assert!(matches!(first_run(&[]), Run::Copied { more: false, .. }));
    }

    #[tokio::test]
    async fn heads_and_bodies_arrive_in_order_and_whole() {
        let (mut io, mut client) = connected().await;
        let (first, second) = (stored(500_000, 1), stored(70_000, 2));
        let parts = [
            &b"head one"[..],
            &first,
            b"head two",
            &second[1_000..],
            b"end",
        ];
        let expected = parts.concat();
        let writing = async {
            let mut slices = parts.map(IoSlice::new);
            let mut slices = &mut slices[..];
            while !slices.is_empty() {
                let write =
                    std::future::poll_fn(|cx| Pin::new(&mut io).poll_write_vectored(cx, slices));
                let sent = write.await.unwrap();
                IoSlice::advance_slices(&mut slices, sent);
            }
            drop(io);
        };
        let mut read = Vec::new();
        let (_, ended) = tokio::join!(writing, client.read_to_end(&mut read));
        ended.unwrap();
        assert!(
            read == expected,
            "{} of {} bytes",
            read.len(),
            expected.len()
        );
    }

    #[tokio::test]
    async fn what_a_slow_client_was_sent_stays_what_it_was_when_its_place_is_taken_by_another_body()
    {
        // A size that no other test of this process uses, so that its place is given to the next of that size.
        const BYTES: usize = 9_000_000;
        let (mut io, mut client) = connected().await;
        let old = stored(BYTES, 1);
        let place = pages::locate(&old).unwrap().offset;
        io.socket.writable().await.unwrap();
        let sent = write_some(&mut io, &mut [IoSlice::new(&old)]);
        assert!(
            (1..BYTES).contains(&sent),
            "the client reads nothing: {sent}"
        );
        drop(old);
        let new = stored(BYTES, 0xff);
        assert_eq!(pages::locate(&new).unwrap().offset, place);
        drop(io);
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert!(
            read == content(BYTES, 1)[..sent],
            "{} of {sent} bytes",
            read.len()
        );
    }

    #[tokio::test]
    async fn a_client_that_left_is_an_error_and_no_end() {
        let (mut io, client) = connected().await;
        drop(client);
        let body = stored(200_000, 1);
        let failed = loop {
            io.socket.writable().await.unwrap();
            let write = std::future::poll_fn(|cx| {
                Pin::new(&mut io).poll_write_vectored(cx, &[IoSlice::new(&body)])
            });
            match write.await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        };
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        assert!(
            [BrokenPipe, ConnectionReset].contains(&failed.kind()),
            "{failed}"
        );
    }
}
