//! Listeners end to end: real sockets, real clients of every protocol.
//!
//! What is here: a server whose answers a test scripts, and one client for all protocols. The HTTP/3
//! client is h3 over h3-quinn: an adapter that is not ours. Below it: `bodies`, `early`, `endings`, `limits`, `order`, `packets`, `priorities`,
//! `steering`, `stretch`, `uploads`.

mod bodies;
mod early;
mod endings;
mod limits;
mod order;
mod packets;
mod priorities;
mod steering;
mod stretch;
mod uploads;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::body::Body;
use crate::exchange::{Exchange, Peer};
use crate::upload::Upload;

/// How a client reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    H1Clear,
    H2Clear,
    H1Tls,
    H2Tls,
    H3,
}

impl Way {
    const ALL: [Self; 5] = [
        Self::H1Clear,
        Self::H2Clear,
        Self::H1Tls,
        Self::H2Tls,
        Self::H3,
    ];
}

/// A service whose answer a test gives as a function.
#[derive(Clone)]
struct Scripted(Arc<dyn Script>);

/// A function from request to answer.
trait Script: Send + Sync {
    fn run(&self, peer: Peer, request: Request<Upload>) -> BoxFuture<'static, Response<Body>>;
}

impl<F, R> Script for F
where
    F: Fn(Peer, Request<Upload>) -> R + Send + Sync,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    fn run(&self, peer: Peer, request: Request<Upload>) -> BoxFuture<'static, Response<Body>> {
        self(peer, request).boxed()
    }
}

impl Scripted {
    fn new<F, R>(script: F) -> Self
    where
        F: Fn(Peer, Request<Upload>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        Self(Arc::new(script))
    }

    /// Answers `/N` with N bytes.
    fn sized() -> Self {
        Self::new(|_, request| async move {
            let size = request.uri().path().trim_start_matches('/');
            Response::new(Body::full(sample(size.parse().unwrap())))
        })
    }
}

impl Exchange for Scripted {
    async fn exchange(&self, peer: &Peer, request: Request<Upload>) -> Response<Body> {
        self.0.run(peer.clone(), request).await
    }
}

/// Bytes of which no two neighboring ranges are alike.
fn sample(size: usize) -> Bytes {
    (0..size)
        .map(|i| (i % 251) as u8 ^ (i / 4099) as u8)
        .collect()
}

/// A running server on ports of its own.
struct Server {
    serving: Serving,
    drain: CancellationToken,
    certificates: Arc<Certificates>,
}

impl Server {
    fn start(service: impl Exchange) -> Self {
        Self::with(service, 2, ListenLimits::default())
    }

    fn speaking(service: impl Exchange, quic: QuicConfig) -> Self {
        Self::configured(service, 2, ListenLimits::default(), quic)
    }

    fn with(service: impl Exchange, workers: usize, limits: ListenLimits) -> Self {
        Self::configured(service, workers, limits, QuicConfig::default())
    }

    fn configured(
        service: impl Exchange,
        workers: usize,
        limits: ListenLimits,
        quic: QuicConfig,
    ) -> Self {
        Self::at(1, service, workers, limits, quic)
    }

    /// Starts a server with so many addresses for TLS.
    fn at(
        addresses: usize,
        service: impl Exchange,
        workers: usize,
        limits: ListenLimits,
        quic: QuicConfig,
    ) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = ListenConfig {
            https: vec![any; addresses],
            http: vec![any],
            http3: true,
            quic,
            certificate: Some(CertificateSource::SelfSigned(Vec::new())),
            workers,
            limits,
        };
        let bound = Bound::bind(&config).unwrap();
        let certificates = Arc::clone(bound.certificates().unwrap());
        let drain = CancellationToken::new();
        Self {
            serving: bound.serve(service, drain.clone()).unwrap(),
            drain,
            certificates,
        }
    }

    fn https(&self) -> SocketAddr {
        self.serving.addresses().https[0]
    }

    fn http(&self) -> SocketAddr {
        self.serving.addresses().http[0]
    }

    async fn stop(self) -> Drained {
        self.drain.cancel();
        self.serving.join().await
    }

    fn client_tls(&self, alpn: &[u8]) -> rustls::ClientConfig {
        client_tls(&self.certificates, alpn)
    }

    async fn tls(&self, alpn: &[u8]) -> tokio_rustls::client::TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.https()).await.unwrap();
        let connector = TlsConnector::from(Arc::new(self.client_tls(alpn)));
        let name = ServerName::try_from("localhost").unwrap();
        connector.connect(name, tcp).await.unwrap()
    }

    async fn connect(&self, way: Way) -> Client {
        match way {
            Way::H1Clear => h1(TcpStream::connect(self.http()).await.unwrap()).await,
            Way::H2Clear => h2(TcpStream::connect(self.http()).await.unwrap()).await,
            Way::H1Tls => h1(self.tls(b"http/1.1").await).await,
            Way::H2Tls => h2(self.tls(b"h2").await).await,
            Way::H3 => self.h3().await,
        }
    }

    async fn quic(&self) -> (quinn::Endpoint, quinn::Connection) {
        self.quic_at(self.https()).await
    }

    /// Connects to what stands before the server at `address`.
    async fn quic_at(&self, address: SocketAddr) -> (quinn::Endpoint, quinn::Connection) {
        let tls = self.client_tls(b"h3");
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = quinn::Endpoint::client(any).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let connecting = endpoint.connect_with(config, address, "localhost");
        let connection = connecting.unwrap().await.unwrap();
        (endpoint, connection)
    }

    async fn h3(&self) -> Client {
        self.h3_at(self.https()).await
    }

    async fn h3_at(&self, address: SocketAddr) -> Client {
        let (endpoint, connection) = self.quic_at(address).await;
        Client::over(endpoint, connection).await
    }
}

/// What a client needs to trust a server with these certificates.
fn client_tls(certificates: &Certificates, alpn: &[u8]) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificates.leaf()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let mut config = builder
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

async fn h1<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: IO) -> Client {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
        .await
        .unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        connection.await.ok();
    });
    Client {
        sender: Sender::H1(sender),
        tasks,
    }
}

async fn h2<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: IO) -> Client {
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(TokioIo::new(io)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        connection.await.ok();
    });
    Client {
        sender: Sender::H2(sender),
        tasks,
    }
}

/// One connection of one client. Dropped, it is closed without a word more.
struct Client {
    sender: Sender,
    tasks: JoinSet<()>,
}

enum Sender {
    H1(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    H2(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
    H3 {
        sender: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
        connection: quinn::Connection,
        endpoint: quinn::Endpoint,
    },
}

impl Client {
    /// Speaks HTTP/3 over a connection.
    async fn over(endpoint: quinn::Endpoint, connection: quinn::Connection) -> Self {
        let quic = h3_quinn::Connection::new(connection.clone());
        let (mut driver, sender) = h3::client::new(quic).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            driver.wait_idle().await;
        });
        Self {
            sender: Sender::H3 {
                sender,
                connection,
                endpoint,
            },
            tasks,
        }
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(request(Method::GET, path)).await.unwrap()
    }

    async fn send(&mut self, request: Request<()>) -> Result<Answer, String> {
        self.send_content(request, Bytes::new()).await
    }

    async fn send_content(
        &mut self,
        request: Request<()>,
        content: Bytes,
    ) -> Result<Answer, String> {
        let hyper_request = request.clone().map(|()| Full::new(content.clone()));
        let answer = match &mut self.sender {
            Sender::H1(sender) => {
                sender.ready().await.map_err(text)?;
                let (parts, body) = hyper_request.into_parts();
                let mut request = Request::from_parts(parts, body);
                let host = request.uri().authority().unwrap().as_str().parse().unwrap();
                request.headers_mut().insert("host", host);
                let path = request.uri().path_and_query().unwrap().as_str();
                *request.uri_mut() = path.parse().unwrap();
                let response = sender.send_request(request).await.map_err(text)?;
                Answer::from_hyper(response)
            }
            Sender::H2(sender) => {
                sender.ready().await.map_err(text)?;
                let response = sender.send_request(hyper_request).await.map_err(text)?;
                Answer::from_hyper(response)
            }
            Sender::H3 { sender, .. } => {
                let mut stream = sender.send_request(request).await.map_err(text)?;
                if !content.is_empty() {
                    stream.send_data(content).await.map_err(text)?;
                }
                stream.finish().await.map_err(text)?;
                let (head, ()) = stream.recv_response().await.map_err(text)?.into_parts();
                Answer {
                    status: head.status,
                    headers: head.headers,
                    body: AnswerBody::H3(Box::new(stream)),
                }
            }
        };
        Ok(answer)
    }

    /// Returns another handle to the same connection, which must be multiplexed.
    fn cloned(&self) -> Self {
        let sender = match &self.sender {
            Sender::H1(_) => unreachable!("one request at a time"),
            Sender::H2(sender) => Sender::H2(sender.clone()),
            Sender::H3 {
                sender,
                connection,
                endpoint,
            } => Sender::H3 {
                sender: sender.clone(),
                connection: connection.clone(),
                endpoint: endpoint.clone(),
            },
        };
        Self {
            sender,
            tasks: JoinSet::new(),
        }
    }

    /// Leaves without waiting for anything.
    async fn leave(mut self) {
        if let Sender::H3 { connection, .. } = &self.sender {
            connection.close(0x100u32.into(), b"");
        }
        self.tasks.shutdown().await;
    }
}

fn request(method: Method, path: &str) -> Request<()> {
    let uri = format!("https://localhost{path}");
    Request::builder().method(method).uri(uri).body(()).unwrap()
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: AnswerBody,
}

enum AnswerBody {
    Hyper(Incoming),
    H3(Box<h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>>),
}

impl Answer {
    fn from_hyper(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        Self {
            status: head.status,
            headers: head.headers,
            body: AnswerBody::Hyper(body),
        }
    }

    /// Returns the next bytes; `None` is the clean end.
    async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            let next = self.next_frame().await;
            // The last frame of an HTTP/2 stream may be empty.
            if !matches!(&next, Some(Ok(bytes)) if bytes.is_empty()) {
                return next;
            }
        }
    }

    async fn next_frame(&mut self) -> Option<Result<Bytes, String>> {
        match &mut self.body {
            AnswerBody::Hyper(body) => {
                let frame = body.frame().await?;
                Some(frame.map(|f| f.into_data().unwrap()).map_err(text))
            }
            AnswerBody::H3(stream) => match stream.recv_data().await {
                Ok(Some(mut data)) => Some(Ok(data.copy_to_bytes(data.remaining()))),
                Ok(None) => None,
                Err(error) => Some(Err(text(error))),
            },
        }
    }

    /// Reads to the end.
    async fn collect(&mut self) -> Result<Bytes, String> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await {
            all.extend_from_slice(&bytes?);
        }
        Ok(all.into())
    }
}
