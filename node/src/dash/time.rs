//! The time, for players that ask: what an MPD's `UTCTiming` can point to (LD-13).
//!
//! One resource for `urn:mpeg:dash:utc:http-iso:2014` and `http-xsdate:2014`, whose content is the time
//! to the millisecond, and for `http-head:2014`, which reads `Date`. Nobody may keep it.
//! Who calls it: `exchange`. Deliberately not here: changing MPDs so that they point here (`clock`).

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::body::Body;
use crate::node::Node;
use crate::respond::{Answer, Outcome};

/// Where every node tells the time, on every host.
pub const TIME_PATH: &str = "/.seawall/time";

/// Answers with the node's time now.
pub(crate) fn tell(node: &Node) -> Answer {
    let now = node.clock.now();
    let since_1970 = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let text = media::format_date_time(since_1970);
    let mut fields = HeaderMap::new();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
    if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(now)) {
        fields.insert(header::DATE, date);
    }
    Answer {
        status: StatusCode::OK,
        fields,
        body: Body::full(Bytes::from(text)),
        outcome: Outcome::Local,
        status_member: None,
        held: Duration::ZERO,
    }
}
