//! What is asked of a parent, and its form on the wire.
//!
//! Who calls it: fills and chains build a [`ForwardRequest`]; `Upstream::fetch` turns it into a [`Canonical`]
//! once and writes that to one connection or another. Design invariant 13: nothing of a viewer's bytes is
//! forwarded; the request is written anew from parsed fields. Deliberately not here: which fields a viewer's
//! request may contribute (`request` decides), and refusing loops (`exchange` does).

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use http_body_util::Full;

use super::config::{ParentConfig, ParentId};
use super::error::{UpstreamError, UpstreamSetupError};
use crate::interim::InterimSink;

/// What is asked of a parent, built from parsed fields only.
#[derive(Clone)]
pub struct ForwardRequest {
    /// What is to be done. One that is not idempotent is sent once only.
    pub method: Method,
    /// The host that the viewer asked.
    pub host: String,
    /// The canonical path and query, byte-preserving (CA-03).
    pub path_and_query: String,
    /// Header fields to send, chosen by allow-list.
    pub headers: HeaderMap,
    /// The content; empty for GET.
    pub body: Bytes,
    /// What belongs together and should come from one parent: the presentation.
    pub affinity: String,
    /// Which connections to use.
    pub class: Class,
    /// Time from sending to the first byte of the answer.
    pub first_byte_timeout: Duration,
    /// Takes interim responses.
    pub interim: InterimSink,
    /// A parent that should not be asked if another can be: the one that just disappointed.
    pub avoid: Option<ParentId>,
}

/// Queries and fields may carry tokens: neither is shown (design invariant 7).
impl fmt::Debug for ForwardRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path_and_query.split('?').next().unwrap_or_default();
        f.debug_struct("ForwardRequest")
            .field("method", &self.method)
            .field("host", &self.host)
            .field("path", &path)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("body_bytes", &self.body.len())
            .field("class", &self.class)
            .field("first_byte_timeout", &self.first_byte_timeout)
            .field("avoid", &self.avoid)
            .finish_non_exhaustive()
    }
}

/// Which connections a request uses, so that held requests never stand before bulk transfers (FM-19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A blocking reload or a hinted part: the parent may hold it for seconds.
    Parked,
    /// Everything else.
    Bulk,
}

/// The body of a forwarded request, all there before it is sent.
pub(super) type RequestBody = Full<Bytes>;

/// The name of this node as other nodes read it.
#[derive(Clone, Debug)]
pub(super) struct NodeName {
    cdn_loop: HeaderValue,
    via: HeaderValue,
}

impl NodeName {
    /// Checks a name for use as `cdn-id` (RFC 8586 2) and as `received-by` (RFC 9110 7.6.3).
    pub(super) fn new(name: &str) -> Result<Self, UpstreamSetupError> {
        let refused = || UpstreamSetupError::NodeName {
            name: name.to_owned(),
        };
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return Err(refused());
        }
        // A fill belongs to nobody, so "the protocol of the received message" is no viewer's: 1.1 stands
        // for the semantics of HTTP that all of them share.
        Ok(Self {
            cdn_loop: HeaderValue::from_str(name).map_err(|_| refused())?,
            via: HeaderValue::try_from(format!("1.1 {name}")).map_err(|_| refused())?,
        })
    }
}

/// A request that any connection to one parent can carry.
#[derive(Clone)]
pub(super) struct Canonical {
    method: Method,
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    target: PathAndQuery,
    headers: HeaderMap,
    body: Bytes,
    interim: InterimSink,
}

impl Canonical {
    /// Writes `request` anew for `parent`.
    ///
    /// # Errors
    /// [`UpstreamError::Request`] if the host or the target is not a legal one.
    pub(super) fn new(
        request: &ForwardRequest,
        parent: &ParentConfig,
        node: &NodeName,
    ) -> Result<Self, UpstreamError> {
        let host = parent.host.as_deref().unwrap_or(&request.host);
        let mut headers =
            HeaderMap::with_capacity(request.headers.len() + parent.headers.len() + 2);
        for (name, value) in &request.headers {
            if is_forwardable(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        if !request.body.is_empty() || is_expected_to_have_content(&request.method) {
            headers.insert(header::CONTENT_LENGTH, request.body.len().into());
        }
        append_to_list(&mut headers, CDN_LOOP, &node.cdn_loop);
        append_to_list(&mut headers, header::VIA, &node.via);
        for name in parent.headers.keys() {
            headers.remove(name);
        }
        for (name, value) in &parent.headers {
            let mut value = value.clone();
            value.set_sensitive(true);
            headers.append(name.clone(), value);
        }
        Ok(Self {
            method: request.method.clone(),
            body: request.body.clone(),
            interim: request.interim.clone(),
            scheme: parent.url.scheme().cloned().unwrap_or(Scheme::HTTP),
            authority: authority(host)?,
            host: HeaderValue::from_str(host).map_err(|e| UpstreamError::Request(e.into()))?,
            target: target(&request.path_and_query)?,
            headers,
        })
    }

    /// Returns whether a parent may get the request again after it may have acted on it (RFC 9110 9.2.2).
    pub(super) fn may_be_repeated(&self) -> bool {
        self.method.is_idempotent()
    }

    /// Returns the request in origin form with `Host` (RFC 9112 3.2.1).
    pub(super) fn http1(&self) -> Request<RequestBody> {
        let mut request = self.with_uri(Uri::from(self.target.clone()), Version::HTTP_11);
        request
            .headers_mut()
            .insert(header::HOST, self.host.clone());
        if self.interim.is_connected() {
            let interim = self.interim.clone();
            hyper::ext::on_informational(&mut request, move |response| {
                interim.send(response.status(), response.headers());
            });
        }
        request
    }

    /// Returns the request with the pseudo-header fields of HTTP/2 (RFC 9113 8.3.1).
    pub(super) fn http2(&self) -> Request<RequestBody> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(self.target.clone());
        let uri = Uri::from_parts(parts).expect("a URI with all three parts is whole");
        self.with_uri(uri, Version::HTTP_2)
    }

    fn with_uri(&self, uri: Uri, version: Version) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = version;
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// Returns the authority of a `Host` value; user information is not one (RFC 9110 4.2.4).
fn authority(host: &str) -> Result<Authority, UpstreamError> {
    let refused = |e: http::uri::InvalidUri| UpstreamError::Request(e.into());
    if host.contains('@') {
        return Err(refused(invalid_uri()));
    }
    Authority::try_from(host).map_err(refused)
}

/// Returns the request target, which must survive parsing byte by byte (CA-03).
fn target(path_and_query: &str) -> Result<PathAndQuery, UpstreamError> {
    let refused = |e: http::uri::InvalidUri| UpstreamError::Request(e.into());
    let target = PathAndQuery::try_from(path_and_query).map_err(refused)?;
    // `PathAndQuery` cuts a fragment off and accepts `*`: both are not what was meant.
    if target.as_str() == path_and_query && path_and_query.starts_with('/') {
        Ok(target)
    } else {
        Err(refused(invalid_uri()))
    }
}

fn invalid_uri() -> http::uri::InvalidUri {
    Uri::try_from("").expect_err("an empty URI is invalid")
}

/// Returns whether a field may come from a [`ForwardRequest`]: not what belongs to one connection, to the
/// framing of a message, or to us.
fn is_forwardable(name: &HeaderName) -> bool {
    const OURS: [&str; 12] = [
        // RFC 9110 7.6.1: fields of one connection.
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
        "trailer",
        // RFC 9110 8.6, 10.1.1: the body is all there; its length is counted, and nothing waits for it.
        "content-length",
        "expect",
        // Written from the parent's configuration or the `host` field.
        "host",
        "proxy-authorization",
        "max-forwards",
    ];
    !OURS.contains(&name.as_str())
}

/// RFC 9110 8.6: these say how long their content is, even if there is none.
fn is_expected_to_have_content(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

/// Adds one member to a list field, as one field line (RFC 9110 5.3).
fn append_to_list(headers: &mut HeaderMap, name: HeaderName, member: &HeaderValue) {
    let mut line = Vec::new();
    for value in headers.get_all(&name) {
        line.extend_from_slice(value.as_bytes());
        line.extend_from_slice(b", ");
    }
    line.extend_from_slice(member.as_bytes());
    // Both sides were header values, so their list is one; if ever not, our own member still stands.
    let value = HeaderValue::from_bytes(&line).unwrap_or_else(|_| member.clone());
    headers.insert(name, value);
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The field that lets a CDN recognize its own requests (RFC 8586).
const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
