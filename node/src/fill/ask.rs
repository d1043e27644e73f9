//! Asking a parent, and reading its answer whole where that is wanted.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cache::{CacheKey, StoredResponse};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::FillOrder;
use super::decode::read_text;
use crate::interim::InterimSink;
use crate::node::Node;
use crate::purge::MINIMUM;
use crate::request::CDN_LOOP;
use crate::respond::{AGE_MILLISECONDS, Failure};
use crate::telemetry::Event;
use crate::upstream::{
    Class, ForwardBody, ForwardRequest, ForwardResponse, ParentId, UpstreamError,
};

/// A question to a parent, built from normal-form fields only (invariant 13).
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    /// The host to ask for.
    pub(crate) host: &'a str,
    /// The canonical path and query.
    pub(crate) target: String,
    /// Under which key the answer is kept.
    pub(crate) key: CacheKey,
    /// The presentation it belongs to.
    pub(crate) affinity: String,
    /// Which connections to use.
    pub(crate) class: Class,
    /// Time to the first byte.
    pub(crate) first_byte_timeout: Duration,
    /// Takes interim responses.
    pub(crate) interim: InterimSink,
    /// A parent that has just disappointed.
    pub(crate) avoid: Option<ParentId>,
    /// Whom the request that caused this one has passed (RFC 8586).
    pub(crate) cdn_loop: Option<HeaderValue>,
    /// The fields to send: this node's own, and those of the viewer that a rule lets through.
    pub(crate) fields: Arc<HeaderMap>,
    /// The fields of the answer as far as purges go, where it goes on from one that is known.
    pub(crate) known: Option<&'a HeaderMap>,
    /// What the parent is asked about: whether it is still good (RFC 9111 4.3.1).
    pub(crate) validated: Option<Arc<StoredResponse>>,
}

/// A parent's answer with its body read to the end.
#[derive(Debug)]
pub(crate) struct Whole {
    /// Status and header fields.
    pub(crate) head: http::response::Parts,
    /// The body.
    pub(crate) text: Bytes,
    /// How old the response was on arrival, by the parent's word.
    pub(crate) age: Duration,
}

impl<'a> Ask<'a> {
    /// Asks for what a fill is ordered to bring.
    pub(crate) fn of(order: &'a FillOrder) -> Self {
        Self {
            host: &order.host,
            target: order.target.clone(),
            key: order.key.clone(),
            known: None,
            affinity: order.affinity.clone(),
            class: order.class,
            first_byte_timeout: order.first_byte_timeout,
            avoid: None,
            interim: order.interim.clone(),
            cdn_loop: order.cdn_loop.clone(),
            fields: order.portion.asked_with(&order.fields),
            validated: order.validated.clone(),
        }
    }

    /// Asks and returns the head with the body still arriving.
    ///
    /// # Errors
    ///
    /// Whatever kept every parent from answering.
    pub(crate) async fn head(self, node: &Node) -> Result<ForwardResponse, Failure> {
        let mut headers = HeaderMap::clone(&self.fields);
        // Read behind the fill's mark on the fence: the parent must know every purge the mark lies behind.
        // What a child asks for is there already if it is ahead of this node.
        if !headers.contains_key(MINIMUM)
            && let Some(minimum) = node.purges.minimum(&self.key, self.known)
        {
            headers.insert(MINIMUM, minimum);
        }
        if let Some(stored) = &self.validated {
            cache::validation::add_conditions(&mut headers, &stored.headers);
        }
        if let Some(passed) = self.cdn_loop {
            headers.insert(CDN_LOOP, passed);
        }
        let mut request = ForwardRequest {
            method: Method::GET,
            body: Bytes::new(),
            host: self.host.to_owned(),
            path_and_query: node.hub.runs.unmarked(self.target),
            headers,
            affinity: self.affinity,
            class: self.class,
            first_byte_timeout: self.first_byte_timeout,
            interim: self.interim,
            avoid: self.avoid,
        };
        let answer = fetch(node, &request).await?;
        if !is_purge_pending(&answer) {
            return Ok(answer);
        }
        // Another parent may know the purge; if there is none, this one may by now.
        request.avoid = Some(answer.parent);
        fetch(node, &request).await
    }

    /// Asks and reads the body whole, at most `bytes_max` of it.
    ///
    /// # Errors
    ///
    /// As [`Ask::head`]; a body that is too large, stalls or ends early.
    pub(crate) async fn whole(self, node: &Node, bytes_max: usize) -> Result<Whole, Failure> {
        let (host, target) = (self.host, self.target.clone());
        let ForwardResponse { mut head, body, .. } = self.head(node).await?;
        let text = read_text(&mut head, body, bytes_max, node.limits.stall_timeout).await?;
        node.streams.filled(host, &target, text.len() as u64);
        let age = age_on_arrival(&head.headers);
        Ok(Whole { head, text, age })
    }
}

/// Returns whether a parent refused because it has not applied a purge that it was asked to know.
fn is_purge_pending(answer: &ForwardResponse) -> bool {
    let reason = answer.head.headers.get("proxy-status");
    let reason = reason.and_then(|value| value.to_str().ok());
    answer.head.status == Failure::PurgePending.status()
        && reason.is_some_and(|reason| reason.ends_with(PURGE_PENDING))
}

/// How [`Failure::PurgePending`], and nothing else of ours, ends in `Proxy-Status` (RFC 9209).
const PURGE_PENDING: &str = "; error=http_request_denied";

/// Asks a parent, and tells how long that took.
///
/// # Errors
///
/// Whatever kept every parent from answering.
pub(crate) async fn fetch(
    node: &Node,
    request: &ForwardRequest,
) -> Result<ForwardResponse, Failure> {
    node.streams
        .forwarded(&request.host, &request.path_and_query);
    let asked_at = Instant::now();
    let answered = node.upstream.fetch(request).await;
    let (parent, status) = match &answered {
        Ok(response) => (Some(response.parent), Some(response.head.status)),
        Err(error) => (error.parent(), None),
    };
    let waited = asked_at.elapsed();
    node.telemetry.record(Event::ForwardFinished {
        parent,
        class: request.class,
        status,
        waited,
    });
    let mut response = answered.map_err(|error| failure_of(&error))?;
    // Before anything is decided about it: what an operator strips does not count.
    let path = request.path_and_query.split('?').next().unwrap_or("/");
    let rule = node.rules.of(&request.host, path);
    rule.response_fields.apply(&mut response.head.headers);
    Ok(response)
}

/// Reads a body to its end, into memory of its own.
///
/// The frames of a connection are slices of its read buffer; kept as they are, a small part would keep
/// that whole buffer alive, and the store would hold more than it counts.
///
/// # Errors
///
/// Too large, stalled, or ended early.
pub(crate) async fn read_whole(
    mut body: ForwardBody,
    bytes_max: usize,
    stall_timeout: Duration,
) -> Result<Bytes, Failure> {
    let announced = http_body::Body::size_hint(&body).lower();
    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
    let mut bytes = BytesMut::with_capacity(announced.min(bytes_max).min(ALLOCATED_AHEAD_MAX));
    loop {
        let frame = tokio::time::timeout(stall_timeout, body.frame())
            .await
            .map_err(|_| Failure::ParentTimedOut)?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| Failure::ParentBroken)?.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > bytes_max {
            return Err(Failure::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// Returns how old a response was when it arrived: by the millisecond between tiers (LT-02), by
/// `Age` otherwise. The time a parent held its answer is not part of it (CA-11).
pub(crate) fn age_on_arrival(fields: &HeaderMap) -> Duration {
    let age = || Some(Duration::from_secs(number(fields, &header::AGE)?));
    exact_age(fields).or_else(age).unwrap_or_default()
}

/// Returns the age that a parent of ours states to the millisecond.
pub(crate) fn exact_age(fields: &HeaderMap) -> Option<Duration> {
    number(fields, &AGE_MILLISECONDS).map(Duration::from_millis)
}

fn number(fields: &HeaderMap, name: &HeaderName) -> Option<u64> {
    fields
        .get(name)?
        .to_str()
        .ok()?
        .trim()
        .parse::<u32>()
        .ok()
        .map(u64::from)
}

/// Returns the failure that an upstream error is to a viewer.
pub(crate) fn failure_of(error: &UpstreamError) -> Failure {
    match error {
        UpstreamError::QueueFull { .. } | UpstreamError::QueueTimeout { .. } => {
            Failure::ParentSaturated
        }
        UpstreamError::FirstByteTimeout { .. } => Failure::ParentTimedOut,
        UpstreamError::Lost { .. } => Failure::ParentBroken,
        UpstreamError::Request(_) => Failure::PathRefused,
        UpstreamError::Connect { .. } | UpstreamError::Ending => Failure::ParentUnreachable,
    }
}

/// Returns the fields of every request to a parent; none of them is a viewer's (invariant 13).
pub(crate) fn forward_fields() -> Arc<HeaderMap> {
    let mut fields = HeaderMap::with_capacity(4);
    fields.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    fields.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    Arc::new(fields)
}

const USER_AGENT: &str = concat!("Seawall/", env!("CARGO_PKG_VERSION"));

/// An announced length is a promise by a peer: only so much is allocated before bytes come.
const ALLOCATED_AHEAD_MAX: usize = 1024 * 1024;
