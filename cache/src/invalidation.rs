//! When a request that changes something makes what is stored unusable (RFC 9111 4.4).
//!
//! `node` asks after it forwarded an unsafe request, and then removes what is stored under the key
//! of the target, and of what the answer names in `Location` and `Content-Location` on the same host.
//! Deliberately not here: removal (`store`), and what URIs mean (`node`).

use http::{Method, StatusCode};

/// Returns whether what is stored for the target of a request must not be used any more.
///
/// Only after a response that is not an error (RFC 9111 4.4), or anybody could empty the cache.
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    !method.is_safe() && (status.is_success() || status.is_redirection())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_9111_4_4_unsafe_methods_invalidate_when_they_succeed() {
        let extension = Method::from_bytes(b"PUBLISH").unwrap();
        for (method, status, expected) in [
            (Method::GET, 200, false),
            (Method::HEAD, 200, false),
            (Method::OPTIONS, 204, false),
            (Method::POST, 200, true),
            (Method::PUT, 201, true),
            (Method::DELETE, 204, true),
            (Method::POST, 303, true),
            (Method::POST, 400, false),
            (Method::POST, 500, false),
            (extension, 200, true),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(invalidates(&method, status), expected, "{method} {status}");
        }
    }
}
