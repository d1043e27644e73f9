//! Workers: one thread, one runtime and one set of sockets per core.
//!
//! What is here: starting the workers, accepting connections, draining and joining. Who calls it:
//! [`super::Bound::serve`]. Deliberately not here: what is said on a connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::bind::{Addresses, BindError, Bound, Secure, WorkerSockets};
use super::sendfile::SendfileIo;
use super::{ListenLimits, answer::Answerer, quic, tcp};
use crate::clock::Clock;
use crate::exchange::Exchange;
use crate::tasks::Tasks;

/// The running workers of a node.
///
/// Dropped without [`Serving::join`] the workers go on until they are asked to drain.
#[derive(Debug)]
pub struct Serving {
    addresses: Addresses,
    workers: Vec<Running>,
    connections: OpenConnections,
}

/// How many connections of clients are open, for as long as anyone wants to know.
#[derive(Clone, Debug)]
pub struct OpenConnections {
    /// Of each worker: one permit per connection that may still be opened.
    left: Vec<Arc<Semaphore>>,
    per_worker_max: usize,
}

impl OpenConnections {
    /// Returns how many are open on all workers together.
    pub fn count(&self) -> usize {
        let open = |left: &Arc<Semaphore>| self.per_worker_max - left.available_permits();
        self.left.iter().map(open).sum()
    }
}

#[derive(Debug)]
struct Running {
    thread: JoinHandle<()>,
    ended: oneshot::Receiver<usize>,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every response got to its end.
    Whole,
    /// The time was up; so many connections and streams were cut.
    Cut(usize),
}

impl Serving {
    /// Returns where the node can be reached.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Returns the count of open connections; it stays at zero after the workers have ended.
    pub fn connections(&self) -> OpenConnections {
        self.connections.clone()
    }

    /// Waits until every worker has drained and ended; nothing runs afterwards.
    ///
    /// A drain begins when the token given to [`Bound::serve`] is cancelled and takes at most
    /// `drain_timeout` and a moment to say farewell.
    ///
    /// # Panics
    ///
    /// If a worker panicked, which is a bug in this module: a panic on a connection ends only that.
    pub async fn join(self) -> Drained {
        let mut cut = 0;
        for worker in self.workers {
            let ended = worker.ended.await;
            // The thread sends as its last act, so this does not block.
            worker.thread.join().expect("a worker does not panic");
            cut += ended.expect("a worker that did not panic reports its end");
        }
        if cut == 0 {
            Drained::Whole
        } else {
            Drained::Cut(cut)
        }
    }
}

/// Starts one thread per worker.
pub(super) fn start(
    bound: Bound,
    service: impl Exchange,
    drain: CancellationToken,
) -> Result<Serving, BindError> {
    let limits = Arc::new(bound.limits);
    let mut workers = Vec::with_capacity(bound.workers.len());
    let mut connections = OpenConnections {
        left: Vec::new(),
        per_worker_max: limits.connections_per_worker_max,
    };
    for (index, sockets) in bound.workers.into_iter().enumerate() {
        let failed = |source| BindError::Worker { index, source };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let opened = {
            let _inside = runtime.enter();
            let worker = quic::WorkerIndex(index);
            Opened::open(sockets, bound.secure.as_ref(), worker, &limits).map_err(failed)?
        };
        let worker = Worker {
            service: service.clone(),
            limits: Arc::clone(&limits),
            tasks: Tasks::new(),
            connections: Arc::new(Semaphore::new(limits.connections_per_worker_max)),
        };
        connections.left.push(Arc::clone(&worker.connections));
        let drain = drain.clone();
        let (report, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(format!("seawall-{index}"))
            .spawn(move || {
                let cut = worker.run(&runtime, opened, &drain);
                // Cuts what was left: connections die with their runtime.
                drop(runtime);
                report.send(cut).ok();
            })
            .map_err(failed)?;
        workers.push(Running { thread, ended });
    }
    Ok(Serving {
        addresses: bound.addresses,
        workers,
        connections,
    })
}

/// The sockets of one worker, registered with its event queue.
struct Opened {
    http: Vec<TcpListener>,
    https: Vec<TcpListener>,
    acceptor: Option<TlsAcceptor>,
    quic: Vec<quic::Listening>,
}

impl Opened {
    /// Registers `sockets`; runs inside the worker's runtime.
    fn open(
        sockets: WorkerSockets,
        secure: Option<&Secure>,
        worker: quic::WorkerIndex,
        limits: &ListenLimits,
    ) -> io::Result<Self> {
        let registered = |listeners: Vec<std::net::TcpListener>| -> io::Result<Vec<TcpListener>> {
            listeners.into_iter().map(TcpListener::from_std).collect()
        };
        let mut quic = Vec::with_capacity(sockets.quic.len());
        for socket in sockets.quic {
            let secure = secure.expect("QUIC sockets are bound beside a certificate");
            quic.push(quic::listen(socket, secure, worker, limits)?);
        }
        Ok(Self {
            http: registered(sockets.http)?,
            https: registered(sockets.https)?,
            acceptor: secure.map(|secure| TlsAcceptor::from(Arc::clone(&secure.tls.tcp))),
            quic,
        })
    }
}

/// The tasks that take new connections.
#[derive(Debug, Default)]
struct Accepting {
    /// Ends when a drain begins: the system then refuses connections.
    tcp: JoinSet<()>,
    /// Ends with a drain: in it new connections are refused, where silence would cost the client
    /// seconds.
    quic: JoinSet<()>,
}

/// One worker, on its own thread.
pub(super) struct Worker<S> {
    pub(super) service: S,
    pub(super) limits: Arc<ListenLimits>,
    pub(super) tasks: Tasks,
    /// One permit per connection that may be open.
    pub(super) connections: Arc<Semaphore>,
}

impl<S: Exchange> Worker<S> {
    fn run(self, runtime: &Runtime, opened: Opened, drain: &CancellationToken) -> usize {
        let worker = Arc::new(self);
        runtime.block_on(async {
            let mut accepting = Accepting::default();
            let listening = opened.quic.clone();
            worker.listen(opened, &mut accepting, drain);
            drain.cancelled().await;
            accepting.tcp.shutdown().await;
            let left = worker.tasks.end(worker.limits.drain_timeout).await;
            accepting.quic.shutdown().await;
            for listening in listening {
                quic::close(&listening).await;
            }
            left
        })
    }

    /// Starts accepting on every socket.
    fn listen(
        self: &Arc<Self>,
        opened: Opened,
        accepting: &mut Accepting,
        drain: &CancellationToken,
    ) {
        let answerer = Answerer::new(self.service.clone(), Clock::system());
        for listener in opened.http {
            let accept = Arc::clone(self).accept_clear(listener, answerer.clone());
            accepting.tcp.spawn(accept);
        }
        let speaks_http3 = !opened.quic.is_empty();
        for listening in opened.quic {
            let (answerer, drain) = (answerer.clone(), drain.clone());
            let accept = quic::accept(Arc::clone(self), listening, answerer, drain);
            accepting.quic.spawn(accept);
        }
        let Some(acceptor) = opened.acceptor else {
            return;
        };
        for listener in opened.https {
            let answerer = match listener.local_addr() {
                Ok(address) if speaks_http3 => answerer.clone().announcing_http3(address),
                Ok(_) | Err(_) => answerer.clone(),
            };
            let accept = Arc::clone(self).accept_tls(listener, acceptor.clone(), answerer);
            accepting.tcp.spawn(accept);
        }
    }

    async fn accept_clear(self: Arc<Self>, listener: TcpListener, answerer: Answerer<S>) {
        loop {
            let (stream, client) = accepted(&listener).await;
            // One too many: closed at once.
            let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
                continue;
            };
            let worker = Arc::clone(&self);
            let answerer = answerer.clone();
            self.tasks.spawn(async move {
                let (limits, tasks) = (&worker.limits, &worker.tasks);
                let stream = SendfileIo::new(stream);
                tcp::serve_clear(stream, client, &answerer, limits, tasks).await;
                drop(permit);
            });
        }
    }

    async fn accept_tls(
        self: Arc<Self>,
        listener: TcpListener,
        acceptor: TlsAcceptor,
        answerer: Answerer<S>,
    ) {
        loop {
            let (stream, client) = accepted(&listener).await;
            let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
                continue;
            };
            let worker = Arc::clone(&self);
            let (acceptor, answerer) = (acceptor.clone(), answerer.clone());
            self.tasks.spawn(async move {
                let (limits, tasks) = (&worker.limits, &worker.tasks);
                tcp::serve_tls(stream, client, &acceptor, &answerer, limits, tasks).await;
                drop(permit);
            });
        }
    }
}

async fn accepted(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {}
            // Out of descriptors or memory: there is no event for "there are some again".
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Whether an error of accept is about the connection that was to be accepted (see accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    [
        ConnectionAborted,
        ConnectionRefused,
        ConnectionReset,
        Interrupted,
    ]
    .contains(&error.kind())
}

/// Pause before accepting again when the machine is out of a resource.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
