//! Hits that wait for nothing: answered before there is a future.
//!
//! Most requests are for a whole response that is stored, complete and fresh. What such a request needs is done
//! in one go here: its answer is handed over once, and passes through none of the futures in which others
//! wait. Who calls it: `exchange`, before anything else; `None` sends a request the slow way, which comes to
//! the same answer. Deliberately not here: texts, ranges, conditions, and anything that is not there yet.

use std::sync::Arc;
use std::time::Duration;

use cache::{Lookup, Use, judge};
use http::{HeaderName, HeaderValue, StatusCode, header};
use media::Kind;

use crate::body::Body;
use crate::coding;
use crate::fill::Asked;
use crate::node::Node;
use crate::request::{Request, Wants};
use crate::respond::{self, AGE_MILLISECONDS, Answer, Outcome};

/// Returns a stored response as it is, dressed, if that is what `request` gets.
pub(crate) fn answer(node: &Arc<Node>, request: &Request, kind: Kind) -> Option<Answer> {
    if coding::is_text(kind) || request.fields.keys().any(is_about_part) {
        return None;
    }
    let asked = Asked::of(node, request, kind);
    let Lookup::Found(stored) = node.store.get(&asked.key, &asked.fields) else {
        return None;
    };
    // It has just arrived.
    let now = node.clock.wall_at(request.received_at);
    if judge(&stored, &asked.directives, now) != Use::Fresh
        || stored.status != StatusCode::OK
        || stored.body.sliced().is_some()
    {
        return None;
    }
    let bytes = stored.body.len_if_complete()?;
    let mut fields = respond::ready_head(node, &stored, bytes, now);
    if request.is_of_child() {
        let age = u64::try_from(stored.age(now).as_millis()).unwrap_or(u64::MAX);
        fields.insert(AGE_MILLISECONDS, HeaderValue::from(age));
    }
    let body = match request.wants {
        Wants::Content => Body::growing(stored.body.reader(0..u64::MAX)),
        // RFC 9110 9.3.2: the same head, no content.
        Wants::HeadOnly | Wants::Preflight | Wants::Effect => Body::empty(),
    };
    Some(Answer {
        status: StatusCode::OK,
        fields,
        body,
        outcome: Outcome::Hit,
        status_member: None,
        held: Duration::ZERO,
    })
}

/// Whether a field asks for a part of a response, or whether there is a response at all (RFC 9110 13, 14).
fn is_about_part(name: &HeaderName) -> bool {
    [
        header::RANGE,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_RANGE,
        header::IF_MATCH,
        header::IF_UNMODIFIED_SINCE,
    ]
    .contains(name)
}
