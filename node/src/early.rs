//! Requests that come before the handshake of their connection is done (TLS early data, RFC 8446 2.3, RFC 8470).
//!
//! Whoever sees such a request on its way can send it once more. What is here: what may be done about it all the same, and how
//! the rest waits. Who calls it: `exchange`; a [`Handshake`] is made by the QUIC listener. Deliberately not here: 425, which
//! only saves a server from waiting, and `Early-Data: 1`: nothing that is early goes to a parent.

use std::sync::Arc;

use http::header;
use media::Kind;
use tokio_util::sync::CancellationToken;

use crate::cached;
use crate::node::Node;
use crate::request::{Request, Wants};
use crate::respond::Answer;
use crate::route::Plan;

/// A handshake that is under way.
///
/// Its end proves that the client is there and that nobody repeats what somebody else said.
#[derive(Clone, Debug, Default)]
pub struct Handshake {
    completed: CancellationToken,
}

impl Handshake {
    /// Lets everyone go on who waits for the end.
    pub fn complete(&self) {
        self.completed.cancel();
    }

    /// Waits for the end. If the connection ends before, whoever waits is dropped with it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn completed(&self) {
        self.completed.cancelled().await;
    }
}

/// Answers an early request, if a stored fresh response does (HX-20); otherwise waits for the end of the handshake.
///
/// A hit changes nothing and starts nothing: to repeat it is to read it twice.
pub(crate) async fn answer(
    node: &Arc<Node>,
    request: &Request,
    handshake: &Handshake,
    plan: &Plan,
    kind: Kind,
) -> Option<Answer> {
    if may_be_repeated(request, plan)
        && let Some(answer) = cached::at_once(node, request, kind).await
    {
        return Some(answer);
    }
    handshake.completed().await;
    None
}

fn may_be_repeated(request: &Request, plan: &Plan) -> bool {
    let only_reads = matches!(request.wants, Wants::Content | Wants::HeadOnly);
    // The bytes of a range may have to wait for a version that names them.
    let may_wait = request.fields.contains_key(header::RANGE);
    matches!(plan, Plan::Cached) && only_reads && !may_wait
}
