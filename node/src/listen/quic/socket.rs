//! The UDP socket of one endpoint, as quinn drives it.
//!
//! What is here: receiving, sending by way of [`Batches`], and letting go what waited there for nothing. Who calls it:
//! quinn. Deliberately not here: what a batch is.
//!
//! What waits leaves when the endpoint's own task has come by twice without more having been added. The first packets to wait
//! wake that task, so a batch waits for the tasks that are ready now, and never for a timer.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio_util::sync::ReusableBoxFuture;

use super::batch::{Batches, Waiting};

/// A UDP socket that gives the kernel many packets at a time.
#[derive(Debug)]
pub(super) struct BatchSocket {
    io: UdpSocket,
    system: UdpSocketState,
    /// Datagrams of the largest size that fill what the kernel may hand up at once.
    receive_segments: usize,
    /// Whether the kernel had no room when it was last asked.
    is_full: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    batches: Batches,
    /// Of the endpoint's task.
    waker: Option<Waker>,
    /// Whether that task will come by anyway.
    is_woken: bool,
    /// How often it has received something since it last looked at the batches.
    receptions: u32,
}

impl BatchSocket {
    /// Registers `socket` with the runtime that this runs in; datagrams to it have at most `received_bytes_max`.
    pub(super) fn new(socket: std::net::UdpSocket, received_bytes_max: u64) -> io::Result<Self> {
        let system = UdpSocketState::new((&socket).into())?;
        let of_largest = RECEIVED_AT_ONCE_BYTES_MAX.div_ceil(received_bytes_max.max(1));
        let receive_segments = usize::try_from(of_largest).unwrap_or(usize::MAX);
        Ok(Self {
            receive_segments: receive_segments.min(system.gro_segments()),
            system,
            io: UdpSocket::from_std(socket)?,
            is_full: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    /// Hands `transmit` to the kernel. The only error is that it has no room.
    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.io.try_io(Interest::WRITABLE, || {
            self.system.send((&self.io).into(), transmit)
        });
        self.is_full.store(sent.is_err(), Ordering::Relaxed);
        sent
    }

    /// Lets go what waited in vain; the endpoint's task calls it, and is woken when it has to call again.
    fn look(&self, cx: &mut Context<'_>) {
        let mut state = self.state.lock();
        state.receptions = 0;
        state.is_woken = false;
        let is_known = |waker: &Waker| waker.will_wake(cx.waker());
        if !state.waker.as_ref().is_some_and(is_known) {
            state.waker = Some(cx.waker().clone());
        }
        while !state.batches.is_empty() {
            let packets_max = self.system.max_gso_segments();
            match state.batches.look(packets_max, |batch| self.send(batch)) {
                Ok(Waiting::Nothing) => return,
                Ok(Waiting::Something) => {
                    state.is_woken = true;
                    cx.waker().wake_by_ref();
                    return;
                }
                // Until there is room. An error comes back from every send, and is none of this task's.
                Err(_) => match self.io.poll_send_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) | Poll::Pending => return,
                },
            }
        }
    }

    /// Looks after so many receptions in a row, because a task that always has something to receive also has to send.
    fn note_reception(&self, cx: &mut Context<'_>) {
        let is_due = {
            let mut state = self.state.lock();
            state.receptions += 1;
            state.receptions >= RECEPTIONS_BEFORE_LOOK
        };
        if is_due {
            self.look(cx);
        }
    }
}

impl AsyncUdpSocket for BatchSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller {
            socket: self,
            room: None,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut state = self.state.lock();
        let packets_max = self.system.max_gso_segments();
        state
            .batches
            .offer(transmit, packets_max, |batch| self.send(batch))?;
        if !state.batches.is_empty() && !state.is_woken {
            state.is_woken = true;
            if let Some(waker) = &state.waker {
                waker.wake_by_ref();
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let Poll::Ready(ready) = self.io.poll_recv_ready(cx) else {
                self.look(cx);
                return Poll::Pending;
            };
            ready?;
            let received = self.io.try_io(Interest::READABLE, || {
                self.system.recv((&self.io).into(), bufs, meta)
            });
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => {
                    self.note_reception(cx);
                    return Poll::Ready(received);
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.system.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.receive_segments
    }

    fn may_fragment(&self) -> bool {
        self.system.may_fragment()
    }
}

/// How one connection waits until the kernel has room.
#[derive(Debug)]
struct Poller {
    socket: Arc<BatchSocket>,
    /// The wait, which a connection rarely needs.
    room: Option<ReusableBoxFuture<'static, io::Result<()>>>,
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.room.is_none() && !self.socket.is_full.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let socket = Arc::clone(&self.socket);
        let room = self.room.get_or_insert_with(|| {
            ReusableBoxFuture::new(async move { socket.io.writable().await })
        });
        let has_room = ready!(room.poll(cx));
        self.room = None;
        Poll::Ready(has_room)
    }
}

/// Bytes that the kernel hands up at once when it has joined what came (GRO).
const RECEIVED_AT_ONCE_BYTES_MAX: u64 = 65_536;

/// Receptions in a row without a look at what waits to be sent.
const RECEPTIONS_BEFORE_LOOK: u32 = 8;
