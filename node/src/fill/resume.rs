//! Bringing the rest of a body that broke on its way, so that those who read along notice only a pause.
//!
//! ```text
//! broke at n ─┬─ strong validator: Range: bytes=n-, If-Range ─► 206 of the same response ─► its bytes
//!             └─ 200 ─► its first n bytes are those that were seen ─► the bytes after them
//! ```
//!
//! What viewers have cannot be taken back, so a rest is used only if it belongs to the same response:
//! by a strong validator, or because every byte so far is the same. Anything else fails the body where
//! it broke (invariant 4). Who calls it: the task of a fill, after `pump` ended early.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use cache::StoredResponse;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;

use super::ask::Ask;
use super::order::FillOrder;
use crate::node::Node;
use crate::slices::Portion;
use crate::upstream::{ForwardBody, ForwardResponse};

/// The rest of a body: what was read past the break already, and what is still to come.
pub(super) struct Rest {
    pub(super) first: Bytes,
    pub(super) incoming: ForwardBody,
}

/// How often one body may be resumed, and how long to wait before that.
pub(super) struct Resumptions {
    left: u32,
    pause: Duration,
}

impl Default for Resumptions {
    fn default() -> Self {
        Self {
            left: RESUMPTIONS_MAX,
            pause: Duration::ZERO,
        }
    }
}

impl Resumptions {
    /// Asks for what is missing of `stored`; `None` when nobody has it any more.
    pub(super) async fn rest(
        &mut self,
        node: &Node,
        order: &FillOrder,
        stored: &StoredResponse,
    ) -> Option<Rest> {
        // What is asked for here is the whole; of a slice, its readers learn that it broke.
        if matches!(order.portion, Portion::Slice(_)) {
            return None;
        }
        loop {
            self.left = self.left.checked_sub(1)?;
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).max(PAUSE_MIN);
            match reopen(node, order, stored).await {
                Reopened::Rest(rest) => return Some(rest),
                Reopened::NotYet => {}
                Reopened::Never => return None,
            }
        }
    }
}

enum Reopened {
    Rest(Rest),
    /// The parent is in trouble.
    NotYet,
    /// What the parent has is another response.
    Never,
}

async fn reopen(node: &Node, order: &FillOrder, stored: &StoredResponse) -> Reopened {
    let received = stored.body.progress().received;
    let mut ask = Ask::of(order);
    ask.validated = None;
    ask.fields = Arc::clone(&order.fields);
    ask.avoid = node.upstream.first_choice(&order.affinity);
    if received > 0
        && let Some(etag) = strong_etag(&stored.headers)
    {
        let mut fields = HeaderMap::clone(&order.fields);
        let range = format!("bytes={received}-");
        let range = HeaderValue::try_from(range).expect("a number is a valid field value");
        fields.insert(header::RANGE, range);
        fields.insert(header::IF_RANGE, etag.clone());
        ask.fields = Arc::new(fields);
    }
    let Ok(response) = ask.head(node).await else {
        return Reopened::NotYet;
    };
    let ForwardResponse { head, body, .. } = response;
    if !is_same(stored, &head.headers) && head.status.is_success() {
        return Reopened::Never;
    }
    match head.status {
        StatusCode::PARTIAL_CONTENT => match continues(stored, &head.headers, received) {
            true => Reopened::Rest(Rest {
                first: Bytes::new(),
                incoming: body,
            }),
            false => Reopened::Never,
        },
        StatusCode::OK => skip_seen(stored, body, received, order.stall_timeout).await,
        status if status.is_server_error() => Reopened::NotYet,
        _ => Reopened::Never,
    }
}

/// Returns the entity tag, if it stands for the bytes themselves (RFC 9110 8.8.1).
fn strong_etag(fields: &HeaderMap) -> Option<&HeaderValue> {
    let etag = fields.get(header::ETAG)?;
    etag.as_bytes().starts_with(b"\"").then_some(etag)
}

/// Whether nothing in the heads says that these are two responses.
fn is_same(stored: &StoredResponse, fields: &HeaderMap) -> bool {
    let agrees = |name| match (stored.headers.get(name), fields.get(name)) {
        (Some(before), Some(now)) => before == now,
        (None, _) | (_, None) => true,
    };
    agrees(&header::ETAG) && agrees(&header::LAST_MODIFIED) && agrees(&header::CONTENT_ENCODING)
}

/// Whether a 206 begins where the body broke, and is of a response as long (RFC 9110 14.4).
fn continues(stored: &StoredResponse, fields: &HeaderMap, received: u64) -> bool {
    // RFC 9111 3.4: parts are joined only where a strong validator says that they belong together.
    let is_named = strong_etag(fields).is_some() && strong_etag(&stored.headers).is_some();
    let Some(said) = fields.get(header::CONTENT_RANGE) else {
        return false;
    };
    let range = said.to_str().ok().and_then(|s| s.strip_prefix("bytes "));
    let Some((positions, length)) = range.and_then(|r| r.split_once('/')) else {
        return false;
    };
    let first = positions.split_once('-').map(|(first, _)| first);
    let is_as_long = match (stored.body.len_if_known(), length.parse::<u64>()) {
        (Some(before), Ok(now)) => before == now,
        (None, _) | (_, Err(_)) => true,
    };
    is_named && is_as_long && first.and_then(|f| f.parse().ok()) == Some(received)
}

/// Reads past what viewers have seen, comparing every byte.
async fn skip_seen(
    stored: &StoredResponse,
    mut incoming: ForwardBody,
    received: u64,
    stall_timeout: Duration,
) -> Reopened {
    let announced = http_body::Body::size_hint(&incoming).exact();
    if let (Some(before), Some(now)) = (stored.body.len_if_known(), announced)
        && before != now
    {
        return Reopened::Never;
    }
    let mut seen = stored.body.reader(0..received);
    let (mut old, mut new) = (Bytes::new(), Bytes::new());
    let mut compared = 0;
    while compared < received {
        if old.is_empty() {
            match seen.next().await {
                Some(Ok(bytes)) => old = bytes,
                Some(Err(_)) | None => return Reopened::Never,
            }
        }
        if new.is_empty() {
            match tokio::time::timeout(stall_timeout, incoming.frame()).await {
                Ok(Some(Ok(frame))) => new = frame.into_data().unwrap_or_default(),
                // It broke again before anything new came.
                Ok(Some(Err(_))) | Err(_) => return Reopened::NotYet,
                Ok(None) => return Reopened::Never,
            }
        }
        let both = old.len().min(new.len());
        if old.get(..both) != new.get(..both) {
            return Reopened::Never;
        }
        old.advance(both);
        new.advance(both);
        compared += both as u64;
    }
    Reopened::Rest(Rest {
        first: new,
        incoming,
    })
}

/// One at once, the others over the second that a parent's trouble usually takes.
const RESUMPTIONS_MAX: u32 = 5;

const PAUSE_MIN: Duration = Duration::from_millis(100);
