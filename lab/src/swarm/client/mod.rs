//! HTTP as a player uses it: one `fetch` over HTTP/1.1, HTTP/2 or HTTP/3.
//!
//! A [`Client`] is what one viewer (or several, where connections are shared) holds: a small pool
//! of HTTP/1.1 connections, or one multiplexed connection, per host. Bodies are counted where they
//! arrive and not copied; text is kept only where the caller asks. Dropping a fetch really cancels
//! it: the socket closes, the stream is reset (HTTP/2) or stopped (HTTP/3). Viewers, the plain load
//! and the held requests all call this; what a response means is not judged here.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::location::Location;

mod body;
mod http1;
mod http2;
mod http3;
mod network;
#[cfg(test)]
mod tests;
mod tls;

pub(crate) use body::{Keep, Received};
pub(crate) use network::{DialError, Network};
pub use tls::TrustError;

/// The HTTP version a run speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 over TCP, with TLS for `https`.
    Http1,
    /// HTTP/2: by ALPN for `https`, with prior knowledge for `http`.
    Http2,
    /// HTTP/3 over QUIC; `https` only.
    Http3,
}

impl Protocol {
    /// The protocol's ALPN identifier.
    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
            Self::Http3 => b"h3",
        }
    }
}

/// One GET as a player sends it.
#[derive(Debug, Clone)]
pub(crate) struct Get {
    pub(crate) location: Location,
    pub(crate) range: Option<RequestRange>,
    pub(crate) keep: Keep,
}

/// The byte range a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RequestRange {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

/// What came back, whole.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) head: Head,
    pub(crate) received: Received,
    /// When the request was handed to its connection, which was open by then.
    pub(crate) sent_at: Instant,
    pub(crate) last_byte_at: Instant,
}

/// The fields of a response head that the swarm judges.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    /// `Age`, seconds.
    pub(crate) age: Option<u64>,
    /// `Seawall-Published`, microseconds of Unix time.
    pub(crate) published_micros: Option<i64>,
    pub(crate) content_length: Option<u64>,
    pub(crate) is_gzip: bool,
}

/// Why a fetch brought no whole response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("no connection")]
    Dial(#[from] DialError),
    /// The peer broke the stream or the connection off.
    #[error("reset by the peer")]
    Reset,
    /// The body ended before the length its head promised.
    #[error("body ended after {received} bytes")]
    Truncated { received: u64 },
    /// The body is longer than promised, or than a text may be.
    #[error("body is too long after {received} bytes")]
    TooLong { received: u64 },
    #[error("protocol error: {0}")]
    Protocol(String),
}

/// The connections of one viewer.
pub(crate) struct Client {
    network: Arc<Network>,
    protocol: Protocol,
    connections_max: usize,
    hosts: Mutex<Vec<(Location, Arc<Host>)>>,
}

/// The open connections to one host.
enum Host {
    Http1(http1::Pool),
    Http2(http2::Line),
    Http3(http3::Line),
}

impl Client {
    /// Hosts one viewer talks to; a playlist that names more gets no further connections.
    const HOSTS_MAX: usize = 8;

    /// Makes a client without connections; they open on demand.
    pub(crate) fn new(network: Arc<Network>, protocol: Protocol, connections_max: usize) -> Self {
        Self {
            network,
            protocol,
            connections_max,
            hosts: Mutex::new(Vec::new()),
        }
    }

    /// Fetches one response to its last byte.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the request on the wire.
    pub(crate) async fn fetch(&self, get: &Get) -> Result<Got, FetchError> {
        self.fetch_noting(get, &|| {}).await
    }

    /// Fetches like [`Client::fetch`], and calls `sent` when the request goes to its connection:
    /// past the opening of the connection and any wait for a free stream.
    pub(crate) async fn fetch_noting(
        &self,
        get: &Get,
        sent: &(dyn Fn() + Sync),
    ) -> Result<Got, FetchError> {
        let host = self.host(&get.location)?;
        let got = match &*host {
            Host::Http1(pool) => pool.fetch(&self.network, get, sent).await?,
            Host::Http2(line) => line.fetch(&self.network, get, sent).await?,
            Host::Http3(line) => line.fetch(&self.network, get, sent).await?,
        };
        match got.head.content_length {
            Some(promised) if got.received.bytes < promised => Err(FetchError::Truncated {
                received: got.received.bytes,
            }),
            Some(promised) if got.received.bytes > promised => Err(FetchError::TooLong {
                received: got.received.bytes,
            }),
            _ => Ok(got),
        }
    }

    fn host(&self, location: &Location) -> Result<Arc<Host>, DialError> {
        let mut hosts = self.hosts.lock();
        let same = |known: &Location| {
            known.authority() == location.authority() && known.is_secure() == location.is_secure()
        };
        if let Some((_, host)) = hosts.iter().find(|(known, _)| same(known)) {
            return Ok(Arc::clone(host));
        }
        if hosts.len() >= Self::HOSTS_MAX {
            return Err(DialError::TooManyHosts);
        }
        let root = location.clone();
        let host = Arc::new(match self.protocol {
            Protocol::Http1 => Host::Http1(http1::Pool::new(root, self.connections_max)),
            Protocol::Http2 => Host::Http2(http2::Line::new(root)),
            Protocol::Http3 => Host::Http3(http3::Line::new(root)),
        });
        hosts.push((location.clone(), Arc::clone(&host)));
        Ok(host)
    }
}

impl Get {
    /// Builds the request head; `absolute` for HTTP/2 and HTTP/3, whose `:authority` comes from it.
    fn request(&self, absolute: bool) -> Result<Request<()>, FetchError> {
        let builder = Request::get(if absolute {
            self.location.to_string()
        } else {
            self.location.path_and_query().to_owned()
        });
        let mut request = builder
            .body(())
            .map_err(|e| FetchError::Protocol(e.to_string()))?;
        let headers = request.headers_mut();
        if !absolute {
            let host = HeaderValue::from_str(self.location.authority())
                .map_err(|e| FetchError::Protocol(e.to_string()))?;
            headers.insert(header::HOST, host);
        }
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        if self.keep == Keep::Text {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Some(range) = self.range {
            let last = range.start.saturating_add(range.len).saturating_sub(1);
            let value = HeaderValue::from_str(&format!("bytes={}-{last}", range.start))
                .expect("digits are a valid field value");
            headers.insert(header::RANGE, value);
        }
        Ok(request)
    }
}

const USER_AGENT: &str = concat!("seawall-swarm/", env!("CARGO_PKG_VERSION"));

/// The field in which our origin says when an object was published: Unix time, milliseconds.
const PUBLISHED: &str = "seawall-published";

impl Head {
    fn read(status: StatusCode, headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            status,
            age: text("age").and_then(|age| age.trim().parse().ok()),
            published_micros: text(PUBLISHED).and_then(micros_of_millis),
            content_length: text("content-length").and_then(|len| len.trim().parse().ok()),
            is_gzip: text("content-encoding").is_some_and(|c| c.eq_ignore_ascii_case("gzip")),
        }
    }
}

/// Reads milliseconds with a fraction as whole microseconds.
fn micros_of_millis(text: &str) -> Option<i64> {
    let millis: f64 = text.trim().parse().ok()?;
    // A finite, plausible instant; anything else is not a publish time.
    (millis.is_finite() && (0.0..1e15).contains(&millis)).then(|| (millis * 1000.0).round() as i64)
}

/// A body that is never there: players send none.
type NoBody = http_body_util::Empty<Bytes>;

#[cfg(test)]
mod head_tests {
    use super::*;

    #[test]
    fn a_publish_time_keeps_its_microseconds() {
        assert_eq!(
            micros_of_millis("1763800000123.456"),
            Some(1_763_800_000_123_456)
        );
        for bad in ["", "NaN", "inf", "-1", "yesterday", "1e300"] {
            assert_eq!(micros_of_millis(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_closed_range_names_its_last_byte() {
        let get = Get {
            location: Location::parse("https://cdn:8443/a/seg1.m4s?t=1").unwrap(),
            range: Some(RequestRange {
                start: 100,
                len: 50,
            }),
            keep: Keep::Nothing,
        };
        let request = get.request(false).unwrap();
        assert_eq!(request.uri(), "/a/seg1.m4s?t=1");
        assert_eq!(request.headers()["host"], "cdn:8443");
        assert_eq!(request.headers()["range"], "bytes=100-149");
        assert!(!request.headers().contains_key("accept-encoding"));
        let absolute = get.request(true).unwrap();
        assert_eq!(absolute.uri(), "https://cdn:8443/a/seg1.m4s?t=1");
    }
}
