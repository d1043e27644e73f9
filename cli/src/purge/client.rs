//! Asking the purge API: one request per connection, signed if there is a key.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use anyhow::{Context, bail};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use node::Clock;
use purge_api::auth::{Signed, fresh_nonce, sign};
use rustls::ClientConfig;
use serde_json::Value;

use super::Unfinished;
use super::arguments::ApiArguments;
use super::connect::{connect, tls};
use crate::values::{Misuse, misuse};

/// Somebody who asks the purge API.
pub(crate) struct Client {
    api: Uri,
    tls: Option<Arc<ClientConfig>>,
    key: Option<(String, Vec<u8>)>,
}

impl Client {
    /// Checks where the API is and with what to ask.
    pub(super) fn of(typed: ApiArguments) -> anyhow::Result<Self> {
        let tls = || tls(&typed).map_err(misuse);
        let Some(api) = &typed.api else {
            let text = "where is the purge API? Give --api URL, or set SEAWALL_PURGE_API";
            return Err(Misuse(text.to_owned()).into());
        };
        let wrong = || Misuse(format!("`{api}` is not a URL: write https://host:port"));
        let uri: Uri = api.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("https") => Some(tls()?),
            Some("http") => None,
            _ => return Err(wrong().into()),
        };
        if uri.authority().is_none() || uri.path() != "/" || uri.query().is_some() {
            return Err(wrong().into());
        }
        let key = match (typed.key_id, &typed.key_file) {
            (Some(id), Some(file)) => {
                let secret = std::fs::read(file)
                    .with_context(|| format!("{} cannot be read", file.display()))?;
                Some((id, secret.trim_ascii().to_vec()))
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(Misuse("--key-id and --key-file go together".to_owned()).into());
            }
        };
        Ok(Self { api: uri, tls, key })
    }

    /// Asks, and returns the answer if it is one of success.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        idempotency_key: Option<&str>,
        body: Option<String>,
    ) -> anyhow::Result<Value> {
        let exchange = self.exchange(method, path, idempotency_key, body, async |response| {
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = match body {
                Ok(body) => body.to_bytes(),
                Err(error) => bail!("the answer cannot be read: {error}"),
            };
            let answer = serde_json::from_slice(&body)
                .with_context(|| format!("the answer ({}) is not JSON", head.status))?;
            if head.status.is_success() {
                return Ok(answer);
            }
            Err(refusal(&answer).into())
        });
        tokio::time::timeout(ANSWER_WITHIN, exchange)
            .await
            .context("the purge API does not answer")?
    }

    /// Shows each event of a stream to `see`, until the stream ends.
    pub(super) async fn events(
        &self,
        path: &str,
        mut see: impl FnMut(&str, &Value),
    ) -> anyhow::Result<()> {
        let exchange = self.exchange(Method::GET, path, None, None, async |response| {
            if !response.status().is_success() {
                bail!("progress cannot be followed ({})", response.status());
            }
            let mut body = response.into_body();
            let mut lines = Vec::new();
            let mut name = String::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.context("progress broke off")?;
                lines.extend_from_slice(&frame.into_data().unwrap_or_default());
                while let Some(end) = lines.iter().position(|b| *b == b'\n') {
                    let line: Vec<u8> = lines.drain(..=end).collect();
                    event_line(&String::from_utf8_lossy(&line), &mut name, &mut see);
                }
                if lines.len() > ANSWER_BYTES_MAX {
                    bail!("progress has a line without an end");
                }
            }
            Ok(())
        });
        exchange.await
    }

    async fn exchange<T>(
        &self,
        method: Method,
        path: &str,
        idempotency_key: Option<&str>,
        body: Option<String>,
        read: impl AsyncFnOnce(Response<Incoming>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let request = self.request(method, path, idempotency_key, body.unwrap_or_default())?;
        let mut connected = connect(&self.api, self.tls.as_ref()).await?;
        let answered = async {
            let response = connected.requests.send_request(request).await;
            read(response.context("the purge API did not answer")?).await
        };
        let mut connection = std::pin::pin!(connected.connection);
        let mut answered = std::pin::pin!(answered);
        // The connection moves bytes for as long as somebody reads.
        tokio::select! {
            answer = answered.as_mut() => answer,
            // It ends when all has arrived; what has arrived is still read.
            _ = connection.as_mut() => answered.await,
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        idempotency_key: Option<&str>,
        body: String,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let host = self.api.authority().context("the URL has no host")?;
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host.as_str())?);
        if !body.is_empty() {
            let json = HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, json);
        }
        if let Some(key) = idempotency_key {
            let key = HeaderValue::from_str(key).map_err(misuse)?;
            headers.insert("idempotency-key", key);
        }
        if let Some((id, secret)) = &self.key {
            let now = Clock::system().now().duration_since(UNIX_EPOCH)?;
            let signed = Signed {
                method: method.as_str(),
                host: host.as_str(),
                path_and_query: path,
                headers: &headers,
                body: body.as_bytes(),
                timestamp: now.as_secs(),
                nonce: &fresh_nonce(),
            };
            let value = HeaderValue::from_str(&sign(id, secret, &signed)).map_err(misuse)?;
            headers.insert(header::AUTHORIZATION, value);
        }
        let mut request = Request::builder().method(method).uri(path);
        if let Some(place) = request.headers_mut() {
            *place = headers;
        }
        Ok(request.body(Full::new(Bytes::from(body)))?)
    }
}

/// Takes in a line of a stream of events.
fn event_line(line: &str, name: &mut String, see: &mut impl FnMut(&str, &Value)) {
    if let Some(event) = line.strip_prefix("event:") {
        event.trim().clone_into(name);
    } else if let Some(data) = line.strip_prefix("data:")
        && let Ok(data) = serde_json::from_str(data.trim())
    {
        see(name, &data);
    }
}

/// Returns what a problem says, for people.
fn refusal(answer: &Value) -> Unfinished {
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let name = text("type").replace("urn:seawall:problem:", "");
    Unfinished::Refused(format!("{} ({name})", text("detail")))
}

/// Bytes of an answer: more nodes than anybody has.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long an answer may take.
const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_secs(30);
