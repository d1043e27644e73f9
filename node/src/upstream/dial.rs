//! Opening one connection to a parent: transport, TLS, and HTTP up to the first request.
//!
//! Who calls it: the pool, in a task of its own. What it returns: something to send requests with, and the
//! future that moves the bytes. Deliberately not here: how many connections there are, and who uses them.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{io, pin::Pin};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

use super::config::ParentConfig;
use super::connector::{Connector, Stream};
use super::error::{ConnectError, UpstreamSetupError};
use super::request::RequestBody;
use super::trust::{self, ALPN_HTTP2};
use crate::tasks::Tasks;

/// How one parent is reached.
#[derive(Debug)]
pub(super) struct Dialer {
    connector: Connector,
    /// Host and port, as a name is resolved.
    authority: String,
    security: Security,
    tasks: Tasks,
}

#[derive(Debug)]
enum Security {
    /// `http`, in HTTP/2 with prior knowledge (RFC 9113 3.3) or in HTTP/1.1.
    Clear { h2c: bool },
    /// `https`, in what ALPN agrees on.
    Tls {
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    },
}

/// An open connection.
pub(super) struct Opened {
    /// What it is used through.
    pub(super) version: OpenedVersion,
    /// Bytes received so far.
    pub(super) received: Arc<AtomicU64>,
}

/// An open connection of either version.
pub(super) enum OpenedVersion {
    /// One exchange at a time.
    Http1 {
        sender: http1::SendRequest<RequestBody>,
        driver: Box<http1::Connection<TokioIo<Counted>, RequestBody>>,
    },
    /// Many exchanges at once; the parent's SETTINGS are known.
    Http2 {
        sender: http2::SendRequest<RequestBody>,
        driver: Box<Http2Driver>,
        watch: Arc<Http2Watch>,
    },
}

/// The half of an HTTP/2 connection that takes requests.
pub(super) type Http2Driver = http2::Connection<TokioIo<Counted>, RequestBody, OwnedExecutor>;

impl Dialer {
    /// Checks the URL of `parent` and reads its certificates.
    pub(super) fn new(
        parent: &ParentConfig,
        connector: Connector,
        tasks: Tasks,
    ) -> Result<Self, UpstreamSetupError> {
        let refused = || UpstreamSetupError::Url {
            name: parent.name.clone(),
        };
        let url = &parent.url;
        let host = url.host().filter(|h| !h.is_empty()).ok_or_else(refused)?;
        let is_bare = matches!(url.path_and_query().map(|p| p.as_str()), None | Some("/"));
        let has_user = url.authority().is_some_and(|a| a.as_str().contains('@'));
        if !is_bare || has_user {
            return Err(refused());
        }
        let (security, default_port) = match url.scheme_str() {
            Some("http") => (Security::Clear { h2c: parent.h2c }, 80),
            Some("https") => {
                let bare_host = host
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .to_owned();
                let security = Security::Tls {
                    config: trust::client_config(parent)?,
                    name: ServerName::try_from(bare_host).map_err(|_| refused())?,
                };
                (security, 443)
            }
            _ => return Err(refused()),
        };
        let port = url.port_u16().unwrap_or(default_port);
        Ok(Self {
            connector,
            authority: format!("{host}:{port}"),
            security,
            tasks,
        })
    }

    /// Returns whether a connection is likely to carry several requests at once.
    pub(super) fn expects_http2(&self) -> bool {
        match &self.security {
            Security::Clear { h2c } => *h2c,
            Security::Tls { .. } => true,
        }
    }

    /// Opens a connection. The caller sets the time limit.
    pub(super) async fn open(&self) -> Result<Opened, ConnectError> {
        let transport = self.connector.connect(&self.authority).await?;
        let (stream, is_http2) = match &self.security {
            Security::Clear { h2c } => (transport, *h2c),
            Security::Tls { config, name } => {
                let tls = TlsConnector::from(Arc::clone(config))
                    .connect(name.clone(), transport)
                    .await
                    .map_err(ConnectError::Tls)?;
                let is_http2 = tls.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
                (Stream::Tls(Box::new(tls)), is_http2)
            }
        };
        let received = Arc::new(AtomicU64::new(0));
        let io = TokioIo::new(Counted {
            stream,
            received: Arc::clone(&received),
        });
        let version = if is_http2 {
            self.open_http2(io).await?
        } else {
            open_http1(io).await?
        };
        Ok(Opened { version, received })
    }

    async fn open_http2(&self, io: TokioIo<Counted>) -> Result<OpenedVersion, ConnectError> {
        let watch = Arc::new(Http2Watch::default());
        let executor = OwnedExecutor {
            tasks: self.tasks.clone(),
            watch: Arc::clone(&watch),
        };
        let (sender, mut driver) = http2::Builder::new(executor)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_header_list_size(HEAD_BYTES_MAX)
            .initial_max_send_streams(STREAMS_UNKNOWN)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(io)
            .await
            .map_err(ConnectError::Http)?;
        watch.settings_of(&mut driver).await?;
        Ok(OpenedVersion::Http2 {
            sender,
            driver: Box::new(driver),
            watch,
        })
    }
}

async fn open_http1(io: TokioIo<Counted>) -> Result<OpenedVersion, ConnectError> {
    let (sender, driver) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX as usize)
        .handshake(io)
        .await
        .map_err(ConnectError::Http)?;
    Ok(OpenedVersion::Http1 {
        sender,
        driver: Box::new(driver),
    })
}

/// What the tasks of one HTTP/2 connection tell about it.
#[derive(Debug, Default)]
pub(super) struct Http2Watch {
    /// The parent's SETTINGS_MAX_CONCURRENT_STREAMS as last seen; `usize::MAX` without one.
    streams_max: AtomicUsize,
    is_settled: AtomicBool,
    has_task: AtomicBool,
    has_ended: AtomicBool,
    changed: Notify,
}

impl Http2Watch {
    /// Returns how many streams the parent allows at once.
    pub(super) fn streams_max(&self) -> usize {
        self.streams_max.load(Ordering::Relaxed)
    }

    /// Returns whether the bytes of the connection have ended.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Moves `driver` one step and learns from it. The limit is only visible on the driver.
    pub(super) fn poll_driver(
        &self,
        driver: &mut Http2Driver,
        cx: &mut Context<'_>,
    ) -> Poll<hyper::Result<()>> {
        let polled = Pin::new(&mut *driver).poll(cx);
        let streams_max = driver.current_max_send_streams();
        if streams_max != STREAMS_UNKNOWN {
            self.streams_max.store(streams_max, Ordering::Relaxed);
            self.is_settled.store(true, Ordering::Relaxed);
        }
        polled
    }

    /// Waits for the parent's first SETTINGS frame.
    ///
    /// Only then is it known that it speaks HTTP/2 and how many requests this connection can take, which
    /// decides how many connections are opened for those who wait.
    async fn settings_of(&self, driver: &mut Http2Driver) -> Result<(), ConnectError> {
        let mut changed = pin!(self.changed.notified());
        poll_fn(|cx| {
            loop {
                let polled = self.poll_driver(driver, cx);
                if self.is_settled.load(Ordering::Relaxed) {
                    return Poll::Ready(Ok(()));
                }
                match polled {
                    Poll::Ready(Ok(())) => return Poll::Ready(Err(ConnectError::ClosedEarly)),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(ConnectError::Http(error))),
                    Poll::Pending => {}
                }
                if changed.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                changed.set(self.changed.notified());
            }
        })
        .await
    }
}

/// Runs the tasks of one HTTP/2 connection under the node's ownership.
#[derive(Clone, Debug)]
pub(super) struct OwnedExecutor {
    tasks: Tasks,
    watch: Arc<Http2Watch>,
}

impl<F> hyper::rt::Executor<F> for OwnedExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let ending = self.tasks.signal();
        let future = async move {
            // `None`: the node ends, and dropping the future ends the connection or the exchange.
            let _ended = ending.run_until_cancelled(future).await;
        };
        // The first task of a connection is the one that reads and writes; the others carry one exchange.
        if self.watch.has_task.swap(true, Ordering::Relaxed) {
            self.tasks.spawn(future);
            return;
        }
        let watch = Arc::clone(&self.watch);
        self.tasks.spawn(async move {
            let mut future = pin!(future);
            poll_fn(|cx| {
                let polled = future.as_mut().poll(cx);
                if !watch.is_settled.load(Ordering::Relaxed) {
                    watch.changed.notify_one();
                }
                polled
            })
            .await;
            watch.has_ended.store(true, Ordering::Release);
            watch.changed.notify_one();
        });
    }
}

/// A connection that counts what it received, to tell a dead connection from a cut or late answer.
#[derive(Debug)]
pub(super) struct Counted {
    stream: Stream,
    received: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let bytes = buf.filled().len() - before;
        this.received.fetch_add(bytes as u64, Ordering::Release);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Bytes that one answer may be ahead of its reader. Below 4 MiB, h2's budget for small DATA frames (half of
/// the connection window) would end connections that carry many tiny CMAF chunks.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Bytes that all answers of a connection may be ahead of their readers: a slow reader takes a quarter at most.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// One read, one frame, one chunk of a body.
const FRAME_BYTES_MAX: u32 = 64 * 1024;
/// Bytes of the head of an answer.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// FM-21: something between may forget a connection after 5 s of silence, which is how held requests look.
/// It is sent only while an exchange is under way, and finds a parent that vanished in the middle of one, too.
const PING_INTERVAL: Duration = Duration::from_secs(4);
/// A parent that does not answer a ping for so long is gone, and what it holds is asked elsewhere.
const PING_TIMEOUT: Duration = Duration::from_secs(4);
/// No parent can say this number: SETTINGS carries 32 bits, and its absence reads as `usize::MAX`.
const STREAMS_UNKNOWN: usize = usize::MAX - 1;
