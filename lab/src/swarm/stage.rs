//! A small origin for tests: publishes the next part when a viewer asks for it.
//!
//! No timer runs in it, so a presentation of any length is over as fast as viewers ask. It speaks
//! HTTP/1.1 and HTTP/2 in the clear or over TLS, and HTTP/3, on ports of the system's choice.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the test wants of the origin.
pub(super) type Meddle = dyn Fn(&str, u64) -> Option<Response<Bytes>> + Send + Sync;

/// How the presentation is made.
pub(super) struct Script {
    /// Segments before the end; each has [`PARTS`] parts.
    pub(super) segments: u64,
    /// Answers in place of the origin's own; gets path and query, and how often it was asked.
    pub(super) meddle: Box<Meddle>,
    /// Announces and takes blocking reloads.
    pub(super) can_block: bool,
}

impl Script {
    pub(super) fn plain(segments: u64) -> Self {
        Self {
            segments,
            meddle: Box::new(|_, _| None),
            can_block: true,
        }
    }
}

/// Parts per segment.
pub(super) const PARTS: u64 = 4;
/// Segments published at the start.
const READY: u64 = 5;

/// The origin, running on a thread of its own until it is dropped.
pub(super) struct Stage {
    pub(super) state: Arc<State>,
    pub(super) clear: SocketAddr,
    pub(super) secure: SocketAddr,
    pub(super) quic: SocketAddr,
    pub(super) certificate: Vec<u8>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

pub(super) struct State {
    script: Script,
    /// Parts published so far, counted from the first.
    published: watch::Sender<u64>,
    pub(super) counts: Mutex<BTreeMap<String, u64>>,
    /// How many requests for `/never` a viewer has cancelled.
    pub(super) cancelled: watch::Sender<u64>,
    pub(super) asked_never: watch::Sender<u64>,
}

impl Stage {
    pub(super) fn start(script: Script) -> Self {
        let state = Arc::new(State {
            script,
            published: watch::Sender::new(READY * PARTS + 1),
            counts: Mutex::default(),
            cancelled: watch::Sender::new(0),
            asked_never: watch::Sender::new(0),
        });
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let certificate = made.cert.pem().into_bytes();
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let stop = CancellationToken::new();
        let thread = std::thread::spawn({
            let (state, stop) = (Arc::clone(&state), stop.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let servers = Servers::bind(&made).await;
                    tell.send(servers.addresses()).unwrap();
                    tokio::select! {
                        () = servers.serve(state) => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
        });
        let (clear, secure, quic) = told.recv().unwrap();
        Self {
            state,
            clear,
            secure,
            quic,
            certificate,
            stop,
            thread: Some(thread),
        }
    }

    pub(super) fn count(&self, path_and_query: &str) -> u64 {
        let counts = self.state.counts.lock();
        counts.get(path_and_query).copied().unwrap_or(0)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

struct Servers {
    clear: TcpListener,
    secure: TcpListener,
    quic: quinn::Endpoint,
    tls: tokio_rustls::TlsAcceptor,
}

impl Servers {
    async fn bind(made: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let key =
            || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = |alpn: &[&[u8]]| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key())
                .unwrap();
            config.alpn_protocols = alpn.iter().map(|alpn| alpn.to_vec()).collect();
            config
        };
        let quic = quinn::crypto::rustls::QuicServerConfig::try_from(config(&[b"h3"])).unwrap();
        let quic = quinn::ServerConfig::with_crypto(Arc::new(quic));
        Self {
            clear: TcpListener::bind(any).await.unwrap(),
            secure: TcpListener::bind(any).await.unwrap(),
            quic: quinn::Endpoint::server(quic, any).unwrap(),
            tls: Arc::new(config(&[b"h2", b"http/1.1"])).into(),
        }
    }

    fn addresses(&self) -> (SocketAddr, SocketAddr, SocketAddr) {
        let clear = self.clear.local_addr().unwrap();
        let secure = self.secure.local_addr().unwrap();
        (clear, secure, self.quic.local_addr().unwrap())
    }

    async fn serve(self, state: Arc<State>) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.clear.accept() => {
                    tasks.spawn(serve_tcp(accepted.unwrap().0, Arc::clone(&state)));
                }
                accepted = self.secure.accept() => {
                    let (tls, state) = (self.tls.clone(), Arc::clone(&state));
                    tasks.spawn(async move {
                        if let Ok(stream) = tls.accept(accepted.unwrap().0).await {
                            serve_tcp(stream, state).await;
                        }
                    });
                }
                Some(incoming) = self.quic.accept() => {
                    tasks.spawn(serve_quic(incoming, Arc::clone(&state)));
                }
            }
        }
    }
}

async fn serve_tcp(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    state: Arc<State>,
) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let state = Arc::clone(&state);
        async move {
            let (parts, _) = request.into_parts();
            let answer = state.answer(Request::from_parts(parts, ())).await;
            Ok::<_, std::convert::Infallible>(answer.map(Full::new))
        }
    });
    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    drop(server.serve_connection(TokioIo::new(stream), service).await);
}

async fn serve_quic(incoming: quinn::Incoming, state: Arc<State>) {
    let Ok(connection) = incoming.await else {
        return;
    };
    let connection = h3_quinn::Connection::new(connection);
    let mut connection = h3::server::Connection::<_, Bytes>::new(connection)
        .await
        .unwrap();
    let mut requests = JoinSet::new();
    while let Ok(Some(resolver)) = connection.accept().await {
        let state = Arc::clone(&state);
        requests.spawn(async move {
            let Ok((request, mut stream)) = resolver.resolve_request().await else {
                return;
            };
            if request.uri().path() == "/never" {
                state.asked_never.send_modify(|asked| *asked += 1);
                let head = Response::new(());
                let mut sent = stream.send_response(head).await;
                // Flow control stops this; the viewer's STOP_SENDING ends it.
                while sent.is_ok() {
                    sent = stream.send_data(Bytes::from_static(&[0; 65_536])).await;
                }
                state.cancelled.send_modify(|cancelled| *cancelled += 1);
                return;
            }
            if matches!(request.uri().path(), "/short" | "/reset") {
                let head = Response::builder().header("content-length", "100");
                stream.send_response(head.body(()).unwrap()).await.unwrap();
                stream
                    .send_data(Bytes::from_static(b"hello"))
                    .await
                    .unwrap();
                match request.uri().path() {
                    "/short" => stream.finish().await.unwrap(),
                    _ => stream.stop_stream(h3::error::Code::H3_INTERNAL_ERROR),
                }
                return;
            }
            let (parts, body) = state.answer(request).await.into_parts();
            if stream
                .send_response(Response::from_parts(parts, ()))
                .await
                .is_ok()
            {
                drop(stream.send_data(body).await);
                drop(stream.finish().await);
            }
        });
    }
}

/// Counts a request for `/never` that is dropped.
struct Dropped<'a>(&'a State);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.cancelled.send_modify(|cancelled| *cancelled += 1);
    }
}

impl State {
    async fn answer(&self, request: Request<()>) -> Response<Bytes> {
        let target = request.uri().path_and_query().unwrap().as_str().to_owned();
        let asked = {
            let mut counts = self.counts.lock();
            let count = counts.entry(target.clone()).or_default();
            *count += 1;
            *count
        };
        if let Some(response) = (self.script.meddle)(&target, asked) {
            return response;
        }
        let path = request.uri().path();
        let query = request.uri().query().unwrap_or_default();
        if path == "/never" {
            let _dropped = Dropped(self);
            self.asked_never.send_modify(|asked| *asked += 1);
            return std::future::pending().await;
        }
        match path {
            "/index.m3u8" => text(MULTIVARIANT.to_owned()),
            "/v0/p.m3u8" | "/v1/p.m3u8" | "/a/p.m3u8" => text(self.playlist(query)),
            _ => self.media(path).await,
        }
    }

    fn playlist(&self, query: &str) -> String {
        let number = |name: &str| {
            let value = query.split('&').find_map(|pair| pair.strip_prefix(name));
            value.and_then(|value| value.parse::<u64>().ok())
        };
        if let Some(msn) = number("_HLS_msn=").filter(|_| self.script.can_block) {
            let parts = msn * PARTS + number("_HLS_part=").unwrap_or(PARTS - 1) + 1;
            let end = self.script.segments * PARTS;
            self.published.send_if_modified(|published| {
                let is_new = *published < parts.min(end);
                *published = (*published).max(parts.min(end));
                is_new
            });
        } else if !self.script.can_block {
            // Each plain reload finds one segment more.
            let end = self.script.segments * PARTS;
            self.published
                .send_modify(|published| *published = (*published + PARTS).min(end));
        }
        self.render(query.contains("_HLS_skip=YES"))
    }

    fn render(&self, is_delta: bool) -> String {
        let published = *self.published.borrow();
        let (msn, open) = (published / PARTS, published % PARTS);
        let is_ended = msn >= self.script.segments;
        let mut list = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n".to_owned();
        if self.script.can_block {
            list += "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=6,\
                PART-HOLD-BACK=0.75\n#EXT-X-PART-INF:PART-TARGET=0.25\n";
        }
        list += "#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-MAP:URI=\"init.mp4\"\n";
        let skipped = if is_delta && !is_ended {
            msn.saturating_sub(3)
        } else {
            0
        };
        if skipped > 0 {
            list += &format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n");
        }
        let part = |msn: u64, index: u64| {
            format!("#EXT-X-PART:DURATION=0.25,URI=\"s{msn}.{index}.m4s\",INDEPENDENT=YES\n")
        };
        for msn in skipped..msn {
            if self.script.can_block {
                (0..PARTS).for_each(|index| list += &part(msn, index));
            }
            list += &format!("#EXTINF:1,\ns{msn}.m4s\n");
        }
        if is_ended {
            return list + "#EXT-X-ENDLIST\n";
        }
        if self.script.can_block {
            (0..open).for_each(|index| list += &part(msn, index));
            list += &format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"s{msn}.{open}.m4s\"\n");
            let (msn, part) = ((published - 1) / PARTS, (published - 1) % PARTS);
            for other in ["../v0/p.m3u8", "../v1/p.m3u8"] {
                list += &format!(
                    "#EXT-X-RENDITION-REPORT:URI=\"{other}\",LAST-MSN={msn},LAST-PART={part}\n"
                );
            }
        }
        list
    }

    async fn media(&self, path: &str) -> Response<Bytes> {
        let name = path.rsplit('/').next().unwrap_or_default();
        if name == "init.mp4" {
            return Response::new(Bytes::from_static(b"\0\0\0\x08ftyp"));
        }
        let Some(place) = name
            .strip_prefix('s')
            .and_then(|name| name.strip_suffix(".m4s"))
        else {
            return status(StatusCode::NOT_FOUND);
        };
        let (msn, part) = place.split_once('.').unwrap_or((place, "3"));
        let last = msn.parse::<u64>().unwrap() * PARTS + part.parse::<u64>().unwrap();
        if last >= self.script.segments * PARTS {
            return status(StatusCode::NOT_FOUND);
        }
        // A hinted part is held until it exists.
        let mut published = self.published.subscribe();
        published
            .wait_for(|published| *published > last)
            .await
            .unwrap();
        let mut response = Response::new(Bytes::from_static(b"\0\0\0\x0cmoofDATA"));
        let header = "seawall-published".parse::<http::HeaderName>().unwrap();
        response
            .headers_mut()
            .insert(header, "1000.5".parse().unwrap());
        response
    }
}

pub(super) fn text(text: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(text));
    let kind = "application/vnd.apple.mpegurl".parse().unwrap();
    response.headers_mut().insert("content-type", kind);
    response
}

pub(super) fn status(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

const MULTIVARIANT: &str = "#EXTM3U\n\
    #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a\",URI=\"a/p.m3u8\"\n\
    #EXT-X-STREAM-INF:BANDWIDTH=100000,AUDIO=\"a\"\nv0/p.m3u8\n\
    #EXT-X-STREAM-INF:BANDWIDTH=200000,AUDIO=\"a\"\nv1/p.m3u8\n";
