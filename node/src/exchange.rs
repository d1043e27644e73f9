//! The story of one request.
//!
//! ```text
//! admit ─► plan ─┬─ preflight             OPTIONS, answered here
//!                ├─ time                  told here
//!                ├─ live ───► hub         a live playlist this node follows
//!                ├─ cached ─► store, fill everything else that may be shared
//!                ├─ relay ──► parent      other methods, where a rule lets them through
//!                └─ refuse                one table of failures
//!          ─► finish ─► one event when the last byte has left
//! ```
//!
//! Who calls it: listeners, for every request. What it calls: one branch, then `respond`.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{HeaderValue, StatusCode};
use media::Kind;

use crate::body::Body;
use crate::early::{self, Handshake};
use crate::interim::InterimOutbox;
use crate::live::{ConnectionHolds, PRIORITY};
use crate::node::Node;
use crate::record::Record;
use crate::request::{Client, Request, Wants};
use crate::respond::{self, Answer, Failure};
use crate::route::{self, Plan};
use crate::upload::Upload;
use crate::{at_once, cached, dash, live, next_objects, redirect, relay};

/// What answers requests: a node, or a bare responder that benchmarks measure beside it.
pub trait Exchange: Clone + Send + Sync + 'static {
    /// Answers one request of `peer`. Dropping the future or the body is how a viewer leaves.
    fn exchange(
        &self,
        peer: &Peer,
        request: http::Request<Upload>,
    ) -> impl Future<Output = http::Response<Body>> + Send;

    /// Answers one request of `peer`: at once, where nothing has to be waited for.
    fn begin(&self, peer: &Arc<Peer>, request: http::Request<Upload>) -> Answering {
        let (service, peer) = (self.clone(), Arc::clone(peer));
        Answering::Later(Box::pin(
            async move { service.exchange(&peer, request).await },
        ))
    }
}

/// An answer, or what will come to one.
#[expect(
    clippy::large_enum_variant,
    reason = "a hit is the common case, and boxing it is what this avoids"
)]
pub enum Answering {
    /// Nothing had to be waited for.
    Now(http::Response<Body>),
    /// Resolves to the answer.
    Later(BoxFuture<'static, http::Response<Body>>),
}

impl Exchange for Arc<Node> {
    async fn exchange(&self, peer: &Peer, request: http::Request<Upload>) -> http::Response<Body> {
        match self.begin(&Arc::new(peer.clone()), request) {
            Answering::Now(response) => response,
            Answering::Later(answered) => answered.await,
        }
    }

    // What is done before the first wait is not in the future: each value would have its place there as long
    // as the request lives, and a future is copied on its way to where it is polled. A hit never has one;
    // what waits is boxed, so that a hit pays nothing for it.
    fn begin(&self, peer: &Arc<Peer>, request: http::Request<Upload>) -> Answering {
        let mut record = Box::new(Record::open(self, peer));
        let (mut head, upload) = request.into_parts();
        let mut admitted = Request::admit_head(&mut head, &self.admission(record.started()));
        let mut planned = None;
        if let Ok(request) = &mut admitted {
            record.admitted(request);
            let address = peer.address.ip();
            request.holder.client = Client::of(address, &request.fields, &self.live.forwarders);
            planned = plan_at_once(self, request);
            if let Some((Plan::Cached, kind)) = &planned
                && let Some(answer) = at_once::answer(self, request, *kind)
            {
                record.planned(request, *kind);
                if peer.handshake.is_none() {
                    announce_next(self, request, &record);
                }
                return Answering::Now(leave(self, record, answer));
            }
            request.holder.connection = Some(peer.held.clone());
            request.interim = peer.interim.clone();
            request.handshake.clone_from(&peer.handshake);
        } else {
            record.refused(head.method, head.uri);
        }
        let (node, mut admitted) = (Self::clone(self), admitted.map(Box::new));
        Answering::Later(Box::pin(async move {
            let answered = match &mut admitted {
                Ok(request) => answer(&node, request, planned, upload, &mut record).await,
                Err(failure) => Err(*failure),
            };
            let answer = answered.unwrap_or_else(|failure| {
                record.failed(failure);
                failure.answer(&node.name, record.elapsed())
            });
            finish(&node, record, answer)
        }))
    }
}

/// Plans a request that need not wait for purges which its child knows of.
fn plan_at_once(node: &Node, request: &Request) -> Option<(Plan, Kind)> {
    let is_behind = node.heeds_children && node.purges.catching_up(request).is_some();
    (!is_behind).then(|| route::plan(node, request))
}

/// Plans an admitted request and takes the planned branch.
///
/// What waits for something is boxed here and below: a future has room for the largest that it may become. A hit,
/// which waits for nothing, would pay for what only others need.
async fn answer(
    node: &Arc<Node>,
    request: &mut Request,
    planned: Option<(Plan, Kind)>,
    upload: Upload,
    record: &mut Record,
) -> Result<Answer, Failure> {
    let (plan, kind) = match planned {
        Some(planned) => planned,
        None => {
            if let Some(caught_up) = node.purges.catching_up(request) {
                request.is_ahead = !caught_up.await;
            }
            route::plan(node, request)
        }
    };
    record.planned(request, kind);
    let early = match &request.handshake {
        None => None,
        Some(handshake) => Box::pin(early::answer(node, request, handshake, &plan, kind)).await,
    };
    let is_early = early.is_some();
    let mut answer = match (early, plan) {
        (Some(answer), _) => answer,
        (None, Plan::Preflight) => return Ok(respond::preflight()),
        (None, Plan::Refuse(failure)) => return Err(failure),
        (None, Plan::Live(rendition)) => {
            record.may_be_held();
            match Box::pin(live::answer(node, request, &rendition)).await? {
                Some(answer) => answer,
                // Purged meanwhile: nobody knows it any more.
                None => cached::answer(node, request, kind).await?,
            }
        }
        (None, Plan::Time) => dash::tell(node),
        (None, Plan::Cached) => cached::answer(node, request, kind).await?,
        (None, Plan::Relay) => Box::pin(relay::answer(node, request, upload)).await?,
    };
    let is_index = matches!(
        kind,
        Kind::MultivariantPlaylist | Kind::MediaPlaylist | Kind::Mpd
    );
    if is_index && answer.status == StatusCode::OK {
        // LB-02: players wait for the index before they can ask for media; the origin may know better.
        let first = HeaderValue::from_static("u=1");
        answer.fields.entry(PRIORITY).or_insert(first);
        node.streams
            .learn(&node.telemetry, &request.target.host, &request.target.path);
    }
    if is_index && answer.status.is_redirection() {
        redirect::keep_query(node, request, &mut answer.fields);
    }
    if !is_early {
        announce_next(node, request, record);
    }
    if request.wants == Wants::HeadOnly {
        answer.body = Body::empty(); // RFC 9110 9.3.2: the same head, no content.
    }
    Ok(answer)
}

/// Fetches what the player says that it will ask for next.
///
/// Not for an early request: whoever repeats it would start that again.
fn announce_next(node: &Arc<Node>, request: &Request, record: &Record) {
    if let Some(cmcd) = record.cmcd() {
        next_objects::fetch(node, request, cmcd);
    }
}

/// Adds what every response of this node carries.
fn finish(node: &Node, record: Box<Record>, mut answer: Answer) -> http::Response<Body> {
    respond::dress(node, &mut answer.fields);
    match &answer.status_member {
        Some(member) => member.append_to(&mut answer.fields, &node.cache_name, None),
        None => node.members.append_to(&mut answer.fields, answer.outcome),
    }
    leave(node, record, answer)
}

/// Adds what is known last, and lets the record travel with the body.
fn leave(node: &Node, mut record: Box<Record>, mut answer: Answer) -> http::Response<Body> {
    let elapsed = record.elapsed();
    if node.states_timing {
        respond::state_timing(&mut answer, elapsed);
    }
    if record.is_reporting() || !answer.held.is_zero() {
        respond::state_delay(&mut answer.fields, &node.name, elapsed);
    }
    record.answered(&answer, elapsed);
    let mut response = http::Response::new(answer.body.recorded(record));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.fields;
    response
}

/// The client at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where the client is.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// Whether the connection is encrypted.
    pub is_secure: bool,
    /// Where interim responses to the request under way go, if the connection can send any.
    pub interim: InterimOutbox,
    /// The requests of the connection that are held.
    pub held: ConnectionHolds,
    /// The handshake of the connection, as long as it is not done.
    pub handshake: Option<Handshake>,
}

/// A version of HTTP as a connection speaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 (RFC 9112), or 1.0.
    Http1,
    /// HTTP/2 (RFC 9113).
    Http2,
    /// HTTP/3 (RFC 9114).
    Http3,
}

impl Protocol {
    /// Returns the name used in logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "h1",
            Self::Http2 => "h2",
            Self::Http3 => "h3",
        }
    }
}
