//! Answers as messages: heads and bodies of what is known.

use std::io::Write;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::body::{self, OriginBody};

/// A playlist, compressed if the client takes that (LL-26).
pub(super) fn playlist(
    request: &http::Request<()>,
    text: String,
    cache_control: &str,
) -> Response<OriginBody> {
    let accepted = request.headers().get(header::ACCEPT_ENCODING);
    let takes_gzip = accepted
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains("gzip"));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let packed = encoder
        .write_all(text.as_bytes())
        .and_then(|()| encoder.finish());
    let mut response = of_text(text, "application/vnd.apple.mpegurl", cache_control);
    set(response.headers_mut(), header::VARY, "Accept-Encoding");
    if let (true, Ok(packed)) = (takes_gzip, packed) {
        set(response.headers_mut(), header::CONTENT_ENCODING, "gzip");
        set(
            response.headers_mut(),
            header::CONTENT_LENGTH,
            &packed.len().to_string(),
        );
        response = response.map(|_| body::whole(Bytes::from(packed)));
    }
    response
}

/// A finished piece of media: whole, or the range that is asked for (RFC 9110 14).
pub(super) fn media(
    request: &http::Request<()>,
    bytes: Bytes,
    published: Option<&str>,
) -> Response<OriginBody> {
    let mut response = Response::new(body::whole(Bytes::new()));
    let length = bytes.len();
    let fields = response.headers_mut();
    set(fields, header::CONTENT_TYPE, "video/mp4");
    set(fields, header::CACHE_CONTROL, MEDIA_LIFETIME);
    set(fields, header::ACCEPT_RANGES, "bytes");
    set(
        fields,
        header::ETAG,
        &format!("\"{length:x}-{:x}\"", checksum(request.uri().path())),
    );
    if let Some(published) = published {
        set(fields, PUBLISHED, published);
    }
    let range = request
        .headers()
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let spec = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let span = match spec {
        Some(("", suffix)) => suffix
            .parse()
            .ok()
            .map(|n: usize| length.saturating_sub(n)..length),
        Some((first, last)) => first.parse().ok().map(|first: usize| {
            let end = last
                .parse()
                .map_or(length, |last: usize| last.saturating_add(1).min(length));
            first..end
        }),
        None => None,
    };
    let Some(span) = span else {
        set(fields, header::CONTENT_LENGTH, &length.to_string());
        return response.map(|_| body::whole(bytes));
    };
    if span.is_empty() || span.end > length {
        set(fields, header::CONTENT_RANGE, &format!("bytes */{length}"));
        *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
        return response;
    }
    let content_range = format!("bytes {}-{}/{length}", span.start, span.end - 1);
    set(fields, header::CONTENT_RANGE, &content_range);
    set(fields, header::CONTENT_LENGTH, &span.len().to_string());
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    response.map(|_| body::whole(bytes.slice(span)))
}

pub(super) fn of_text(
    text: String,
    content_type: &str,
    cache_control: &str,
) -> Response<OriginBody> {
    let bytes = Bytes::from(text);
    let length = bytes.len().to_string();
    let mut response = Response::new(body::whole(bytes));
    let fields = response.headers_mut();
    set(fields, header::CONTENT_TYPE, content_type);
    set(fields, header::CACHE_CONTROL, cache_control);
    set(fields, header::CONTENT_LENGTH, &length);
    response
}

pub(super) fn empty(status: StatusCode) -> Response<OriginBody> {
    let mut response = Response::new(body::whole(Bytes::new()));
    *response.status_mut() = status;
    set(response.headers_mut(), header::CONTENT_LENGTH, "0");
    if status == StatusCode::SERVICE_UNAVAILABLE {
        set(response.headers_mut(), header::RETRY_AFTER, "1");
    }
    response
}

pub(super) fn set(fields: &mut HeaderMap, name: impl header::IntoHeaderName, value: &str) {
    // Everything we write is visible ASCII, but for a query that a fault echoes.
    if let Ok(value) = HeaderValue::from_str(value) {
        fields.insert(name, value);
    }
}

/// FNV-1a: enough to tell the paths of one presentation apart.
fn checksum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// When a part, a segment or a playlist version was published, in milliseconds since 1970.
pub(super) const PUBLISHED: header::HeaderName =
    header::HeaderName::from_static("seawall-published");

pub(super) const MEDIA_LIFETIME: &str = "max-age=3600";
