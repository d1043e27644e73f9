//! Heads of responses: errors, validators, CORS, and what every kind of answer needs.

use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::body::OriginBody;
use super::fault::Plan;

/// What a request says that answers depend on.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a http::HeaderMap,
    pub(crate) is_head: bool,
    pub(crate) plan: &'a Plan,
}

/// When an object was published, as Unix milliseconds with a fraction.
pub(crate) const PUBLISHED: HeaderName = HeaderName::from_static("seawall-published");
const EXPOSED: &str = "Age, Date, ETag, Content-Length, Content-Range, Retry-After, \
Seawall-Published, Cache-Status";
/// Turns `response` into 304 if the client has it already (RFC 9110 13.1.2).
pub(crate) fn not_modified(
    ask: &Ask<'_>,
    mut response: Response<OriginBody>,
) -> Response<OriginBody> {
    let known = ask
        .headers
        .get(header::IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok());
    let tag = response
        .headers()
        .get(header::ETAG)
        .and_then(|v| v.to_str().ok());
    let (Some(known), Some(tag)) = (known, tag) else {
        return response;
    };
    let matches = known
        .split(',')
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == tag || one == "*");
    if matches {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().remove(header::CONTENT_TYPE);
        *response.body_mut() = OriginBody::empty();
    }
    response
}

/// Returns whether an `Accept-Encoding` names gzip with a weight above zero (RFC 9110 12.5.3).
pub(crate) fn accepts_gzip(header: &str) -> bool {
    header.split(',').any(|one| {
        let mut pieces = one.split(';').map(str::trim);
        let is_gzip = pieces
            .next()
            .is_some_and(|c| c.eq_ignore_ascii_case("gzip"));
        let weight = pieces.find_map(|p| p.strip_prefix("q="));
        is_gzip && weight.is_none_or(|w| w.parse::<f32>().is_ok_and(|w| w > 0.0))
    })
}

pub(crate) fn plain_text(text: String) -> Response<OriginBody> {
    let mut response = Response::new(OriginBody::full(text.into()));
    set(&mut response, header::CONTENT_TYPE, "text/plain");
    set(&mut response, header::CACHE_CONTROL, "no-store");
    response
}

/// Returns an error, with a lifetime that cannot poison a URL which becomes valid soon.
pub(crate) fn refusal(status: StatusCode) -> Response<OriginBody> {
    let text = format!("{status}\n");
    let mut response = Response::new(OriginBody::full(text.into()));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, "text/plain");
    match status {
        // A later request for the same name may find it: one second at most.
        StatusCode::NOT_FOUND => set_max_age(&mut response, 1),
        // The same URL becomes legitimate within two target durations.
        _ => set(&mut response, header::CACHE_CONTROL, "no-store"),
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        set(&mut response, header::RETRY_AFTER, "1");
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        set(&mut response, header::ALLOW, "GET, HEAD, OPTIONS");
    }
    response
}

pub(crate) fn preflight() -> Response<OriginBody> {
    let mut response = Response::new(OriginBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    set(
        &mut response,
        header::ACCESS_CONTROL_ALLOW_METHODS,
        "GET, HEAD, OPTIONS",
    );
    set(&mut response, header::ACCESS_CONTROL_ALLOW_HEADERS, "*");
    set(&mut response, header::ACCESS_CONTROL_MAX_AGE, "86400");
    response
}

pub(crate) fn with_cors(mut response: Response<OriginBody>) -> Response<OriginBody> {
    set(&mut response, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(
        &mut response,
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        EXPOSED,
    );
    set(
        &mut response,
        HeaderName::from_static("timing-allow-origin"),
        "*",
    );
    response
}

/// Keeps the head, also its length, and drops the body.
pub(crate) fn without_body(mut response: Response<OriginBody>) -> Response<OriginBody> {
    let length = response.body().len_if_known();
    if let Some(length) = length.filter(|_| response.status() != StatusCode::NO_CONTENT) {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length.into());
    }
    *response.body_mut() = OriginBody::empty();
    response
}

pub(crate) fn set_max_age(response: &mut Response<OriginBody>, seconds: u64) {
    set(
        response,
        header::CACHE_CONTROL,
        &format!("max-age={seconds}"),
    );
}

pub(crate) fn set(response: &mut Response<OriginBody>, name: HeaderName, value: &str) {
    let value = HeaderValue::from_str(value).expect("the origin's header values are visible ASCII");
    response.headers_mut().insert(name, value);
}
