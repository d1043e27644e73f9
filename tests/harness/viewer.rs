//! A viewer: one HTTP/1.1 connection to a node, and what came back.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;

use crate::network::Network;

/// What a viewer received.
#[derive(Clone, Debug)]
pub struct Received {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub fields: HeaderMap,
    /// The body, as far as it came.
    pub body: Bytes,
    /// Whether the body ended cleanly.
    pub is_whole: bool,
}

impl Received {
    /// Returns the body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the scenario expects text")
    }

    /// Returns a header field as text, or an empty string.
    pub fn field(&self, name: &str) -> &str {
        self.fields
            .get(name)
            .map_or("", |value| value.to_str().expect("fields are text"))
    }
}

/// A response whose body is still to be read.
pub struct Opened {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub fields: HeaderMap,
    body: Incoming,
    _connection: SendRequest<Full<Bytes>>,
}

impl Opened {
    /// Reads the next bytes; `None` is the clean end, an error a broken one.
    pub async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match self.body.frame().await? {
                Err(error) => return Some(Err(error)),
                Ok(frame) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Some(Ok(data)),
                    _ => {}
                },
            }
        }
    }

    /// Reads the rest.
    pub async fn rest(mut self) -> Received {
        let mut body = BytesMut::new();
        let is_whole = loop {
            match self.next().await {
                None => break true,
                Some(Err(_)) => break false,
                Some(Ok(bytes)) => body.extend_from_slice(&bytes),
            }
        };
        Received {
            status: self.status,
            fields: self.fields,
            body: body.freeze(),
            is_whole,
        }
    }
}

/// A viewer of one node.
#[derive(Clone)]
pub struct Viewer {
    network: Network,
    node: String,
}

impl Viewer {
    /// Creates a viewer that connects to `node`.
    pub fn of(network: &Network, node: &str) -> Self {
        Self {
            network: network.clone(),
            node: node.to_owned(),
        }
    }

    /// Requests `target` and reads the answer whole.
    pub async fn get(&self, target: &str) -> Received {
        self.open(target, &[]).await.rest().await
    }

    /// Requests `target` with header fields and reads the answer whole.
    pub async fn get_with(&self, target: &str, fields: &[(&str, &str)]) -> Received {
        self.open(target, fields).await.rest().await
    }

    /// Requests `target` in the background, with a connection of its own.
    pub fn start(&self, target: &str) -> JoinHandle<Received> {
        let viewer = self.clone();
        let target = target.to_owned();
        spawn(async move { viewer.get(&target).await })
    }

    /// Requests `target` with header fields in the background, with a connection of its own.
    pub fn start_with(
        &self,
        target: &str,
        fields: &[(&'static str, &'static str)],
    ) -> JoinHandle<Received> {
        let viewer = self.clone();
        let target = target.to_owned();
        let fields = fields.to_vec();
        spawn(async move { viewer.get_with(&target, &fields).await })
    }

    /// Requests `target` and returns at the head.
    pub async fn open(&self, target: &str, fields: &[(&str, &str)]) -> Opened {
        self.send("GET", target, fields).await
    }

    /// Sends a request with `method` and returns at the head.
    pub async fn send(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Opened {
        self.send_content(method, target, fields, "").await
    }

    /// Sends a request with `method` and `content` and returns at the head.
    pub async fn send_content(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        content: &'static str,
    ) -> Opened {
        let pipe = self.network.connect(&self.node).expect("the node is up");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(pipe))
            .await
            .expect("the node speaks HTTP/1.1");
        spawn(async move {
            // A broken response ends the connection with an error; the viewer sees it in the body.
            connection.await.ok();
        });
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", HOST);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::from_static(content.as_bytes())))
            .expect("a scripted request is well formed");
        let response = sender
            .send_request(request)
            .await
            .expect("the node answers");
        let (head, body) = response.into_parts();
        Opened {
            status: head.status,
            fields: head.headers,
            body,
            _connection: sender,
        }
    }
}

/// Runs what a viewer does over several requests in the background.
pub fn background<T: Send + 'static>(
    watching: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    spawn(watching)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a scenario's runtime owns its tasks and ends with it"
)]
pub(crate) fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(future)
}

/// The host that viewers ask for.
pub const HOST: &str = "live.example";
