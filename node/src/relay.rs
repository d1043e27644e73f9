//! Requests that are not for the cache: any method other than GET, HEAD and OPTIONS, where a rule says so.
//!
//! ```text
//! take a place ─► read the content whole ─► ask a parent once ─► invalidate what changed ─► pass the answer on
//! ```
//!
//! Who calls it: `exchange`. What it calls: `upstream`, and the store and the fills to invalidate what the
//! request has changed (RFC 9111 4.4). Deliberately not here: which requests are relayed (`request`), and
//! live playlists: the hub follows what its parent says, not what viewers send.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache::{CacheKey, ForwardReason, PurgeTarget};
use http::HeaderMap;
use http::header::{self, HeaderName};
use media::Kind;

use crate::body::Body;
use crate::fill::{self, Asked};
use crate::live::{self, Address};
use crate::node::Node;
use crate::request::{self, CDN_LOOP, Request};
use crate::respond::{Answer, Failure, Outcome};
use crate::upload::{Upload, UploadError, UploadLimits};
use crate::upstream::{Class, ForwardRequest, ForwardResponse};

/// Relays a request with its content and passes the answer on.
///
/// # Errors
///
/// Content that is too large, late or broken; too many relayed requests at once; whatever kept the parents
/// from answering. A request that is not idempotent is sent once only, so a failure does not say that
/// nothing has happened (RFC 9110 9.2.2).
///
/// # Cancel safety
///
/// A viewer that leaves takes its request back; the parent may have acted on it.
pub(crate) async fn answer(
    node: &Arc<Node>,
    request: &Request,
    upload: Upload,
) -> Result<Answer, Failure> {
    let _place = node
        .relays
        .try_acquire()
        .map_err(|_| Failure::RelaysTooMany)?;
    let limits = UploadLimits {
        bytes_max: node.limits.upload_bytes_max,
        stall_timeout: node.limits.stall_timeout,
    };
    let content = upload.read(limits).await.map_err(failure_of)?;
    let forward = forward_request(node, request, content);
    let response = fill::fetch(node, &forward).await?;
    if cache::invalidates(&request.method, response.head.status) {
        for key in changed_by(node, request, &response.head.headers) {
            invalidate(node, &key);
        }
    }
    Ok(relayed(node, response))
}

fn failure_of(error: UploadError) -> Failure {
    match error {
        UploadError::TooLarge => Failure::UploadTooLarge,
        UploadError::Stalled => Failure::UploadStalled,
        UploadError::Broken => Failure::UploadBroken,
    }
}

/// Writes the request anew from its parsed fields (invariant 13).
fn forward_request(node: &Node, request: &Request, body: Bytes) -> ForwardRequest {
    let asked = Asked::of(node, request, Kind::Other);
    let mut headers = HeaderMap::clone(&asked.fields);
    for name in PASSED_ON {
        headers.remove(&name);
        for value in request.fields.get_all(&name) {
            headers.append(name.clone(), value.clone());
        }
    }
    if let Some(passed) = request.fields.get(CDN_LOOP) {
        headers.insert(CDN_LOOP, passed.clone());
    }
    ForwardRequest {
        method: request.method.clone(),
        host: request.target.host.clone(),
        path_and_query: request::path_and_query(&request.target.path, request.target.query.whole()),
        headers,
        body,
        affinity: request.target.affinity(),
        class: Class::Bulk,
        first_byte_timeout: node.limits.first_byte_timeout,
        interim: request.interim.sink(),
        avoid: None,
    }
}

/// What a request with content means depends on these: a parent that did not get them would do something
/// else than was asked. `Content-Range` makes a PUT a partial one (RFC 9110 14.5); the conditions keep it from
/// overwriting what the viewer has not seen (RFC 9110 13.1).
const PASSED_ON: [HeaderName; 7] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_UNMODIFIED_SINCE,
];

/// Returns the keys of what a request has changed (RFC 9111 4.4): its target, and what the answer names.
///
/// Only on the same host: nobody may empty the cache of another one.
fn changed_by(node: &Node, request: &Request, answer: &HeaderMap) -> Vec<CacheKey> {
    let address = Address::of(request);
    let named = [header::LOCATION, header::CONTENT_LOCATION]
        .into_iter()
        .filter_map(|name| answer.get(name)?.to_str().ok())
        .filter_map(|uri| {
            let uri = uri.split('#').next().unwrap_or(uri);
            let (host, target) = live::locate_child(node, &address, uri)?;
            Some(request::key_of_target(&host, &target))
        });
    std::iter::once(request.key().clone())
        .chain(named)
        .collect()
}

/// Lets nothing be used any more that was made before the change.
fn invalidate(node: &Node, key: &CacheKey) {
    // Newcomers must not join a fill that began before.
    let cut = node.fills.unlink_where(|fill, _| {
        let rest = fill.as_str().strip_prefix(key.as_str());
        // A fill for some values of forwarded fields has them after the key, on lines of their own.
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('\n'))
    });
    // Nor find what such a fill brings. The fence is raised before the removal: a fill that stored in between
    // is removed, one that stores later does not pass. Where no fill was cut none has asked before the change,
    // and the fence keeps its memory for purges.
    if !cut.is_empty() {
        let key = key.clone();
        let besides = Vec::new();
        let target = PurgeTarget::Url { key, besides };
        node.purges.raise_change(target);
    }
    node.store.remove(key);
}

fn relayed(node: &Node, response: ForwardResponse) -> Answer {
    let ForwardResponse { head, body, .. } = response;
    let mut fields = fill::end_to_end(&head.headers);
    fill::date_if_missing(&mut fields, node.clock.now());
    Answer {
        status: head.status,
        fields,
        body: Body::relayed(body),
        outcome: Outcome::Bypass,
        status_member: Some(cache::Outcome::forward(ForwardReason::Method)),
        held: Duration::ZERO,
    }
}
