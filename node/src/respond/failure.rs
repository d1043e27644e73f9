//! Every way an exchange can fail, and what the viewer is told, in one table.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{Answer, Outcome};
use crate::body::Body;

/// A way an exchange can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Failure {
    /// The viewer used a method other than GET, HEAD or OPTIONS.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// The content of the request is larger than the limit.
    #[error("content too large")]
    UploadTooLarge,
    /// The content of the request does not arrive.
    #[error("content stalled")]
    UploadStalled,
    /// The content of the request ended early or is malformed.
    #[error("content broken")]
    UploadBroken,
    /// Too many requests are relayed at once.
    #[error("too many relayed requests")]
    RelaysTooMany,
    /// The target is longer than the limit.
    #[error("target too long")]
    TargetTooLong,
    /// There is no usable host.
    #[error("host missing or malformed")]
    HostMissing,
    /// The path is malformed or has dot segments: servers could read it differently.
    #[error("path refused")]
    PathRefused,
    /// A request that has no use for content has some (B50).
    #[error("content in a request without use for it")]
    ContentRefused,
    /// The request already passed this node.
    #[error("loop detected")]
    LoopDetected,
    /// The delivery directives are malformed (LL-05, LL-06).
    #[error("malformed delivery directives")]
    DirectivesMalformed,
    /// The directives ask for what is too far ahead (LL-07, LL-08).
    #[error("too far ahead")]
    TooFarAhead,
    /// The request was held as long as it may be (LL-09).
    #[error("held too long")]
    HoldExpired,
    /// Too many requests are held (CA-22).
    #[error("too many held requests")]
    HeldTooMany,
    /// Too many requests of one client are held (CA-22).
    #[error("too many held requests of one client")]
    HeldTooManyOfClient,
    /// Too many requests of one connection are held (CA-22).
    #[error("too many held requests of one connection")]
    HeldTooManyOfConnection,
    /// The hint was withdrawn before its resource came (LL-19).
    #[error("hint withdrawn")]
    HintWithdrawn,
    /// It is of a broadcast that ended, and what has its name now is something else (FM-14).
    #[error("of a broadcast that ended")]
    RunEnded,
    /// The viewer wants a stored response or none, and there is none (RFC 9111 5.2.1.7).
    #[error("not stored")]
    NotStored,
    /// It was purged with part of its stream's timeline, for good.
    #[error("purged")]
    Purged,
    /// A child knows of a purge that has not come here yet.
    #[error("a purge is pending")]
    PurgePending,
    /// No connection to any parent.
    #[error("no parent reachable")]
    ParentUnreachable,
    /// No answer from a parent in time.
    #[error("parent timed out")]
    ParentTimedOut,
    /// The answer of a parent ended early or was malformed.
    #[error("parent answer broken")]
    ParentBroken,
    /// A parent sent something else where a playlist was due.
    #[error("not a playlist")]
    NotAPlaylist,
    /// A parent's answer is larger than the limit.
    #[error("answer too large")]
    TooLarge,
    /// Too many requests already wait for a parent.
    #[error("too many requests for a parent")]
    ParentSaturated,
}

struct Row {
    status: StatusCode,
    /// The error type of `Proxy-Status` (RFC 9209 2.3).
    proxy_error: Option<&'static str>,
    retry_after: Option<u32>,
    /// Whether a stale stored response is the better answer (RFC 5861 4).
    stale_may_replace: bool,
}

impl Row {
    /// The request is at fault, or asks for what is not there.
    fn refused(status: StatusCode) -> Self {
        Self {
            status,
            proxy_error: None,
            retry_after: None,
            stale_may_replace: false,
        }
    }

    /// This node has no room; coming back helps.
    fn crowded(proxy_error: &'static str) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self {
            proxy_error: Some(proxy_error),
            retry_after: Some(1),
            ..Self::refused(status)
        }
    }

    /// A parent is at fault.
    fn parent(status: StatusCode, proxy_error: &'static str) -> Self {
        Self {
            status,
            stale_may_replace: true,
            ..Self::crowded(proxy_error)
        }
    }
}

impl Failure {
    fn row(self) -> Row {
        match self {
            Self::MethodNotAllowed => Row::refused(StatusCode::METHOD_NOT_ALLOWED),
            Self::UploadTooLarge => Row::refused(StatusCode::PAYLOAD_TOO_LARGE),
            Self::UploadStalled => Row::refused(StatusCode::REQUEST_TIMEOUT),
            Self::TargetTooLong => Row::refused(StatusCode::URI_TOO_LONG),
            Self::HostMissing
            | Self::UploadBroken
            | Self::PathRefused
            | Self::ContentRefused
            | Self::DirectivesMalformed
            | Self::TooFarAhead => Row::refused(StatusCode::BAD_REQUEST),
            Self::HintWithdrawn | Self::RunEnded => Row::refused(StatusCode::NOT_FOUND),
            Self::Purged => Row {
                proxy_error: Some("http_request_denied"),
                ..Row::refused(StatusCode::GONE)
            },
            Self::NotStored => Row::refused(StatusCode::GATEWAY_TIMEOUT),
            Self::LoopDetected => Row {
                proxy_error: Some("proxy_loop_detected"),
                ..Row::refused(StatusCode::LOOP_DETECTED)
            },
            Self::HoldExpired => Row::crowded("http_response_timeout"),
            Self::HeldTooMany
            | Self::HeldTooManyOfClient
            | Self::HeldTooManyOfConnection
            | Self::RelaysTooMany => Row::crowded("connection_limit_reached"),
            Self::PurgePending => Row::crowded("http_request_denied"),
            Self::ParentSaturated => Row {
                stale_may_replace: true,
                ..Row::crowded("connection_limit_reached")
            },
            Self::ParentUnreachable => {
                Row::parent(StatusCode::BAD_GATEWAY, "destination_unavailable")
            }
            Self::ParentTimedOut => {
                Row::parent(StatusCode::GATEWAY_TIMEOUT, "http_response_timeout")
            }
            Self::ParentBroken => Row::parent(StatusCode::BAD_GATEWAY, "http_response_incomplete"),
            Self::NotAPlaylist => Row::parent(StatusCode::BAD_GATEWAY, "http_protocol_error"),
            Self::TooLarge => Row {
                proxy_error: Some("http_response_body_size"),
                ..Row::refused(StatusCode::BAD_GATEWAY)
            },
        }
    }

    /// Returns what the viewer is told; nothing in it comes from a peer.
    fn text(self) -> &'static str {
        match self {
            Self::MethodNotAllowed => "Only GET, HEAD and OPTIONS are answered here.",
            Self::UploadTooLarge => "The content is larger than this node accepts.",
            Self::UploadStalled => "The content of the request did not arrive in time.",
            Self::UploadBroken => {
                "The content of the request ended early or differs from its announced length."
            }
            Self::RelaysTooMany => "Too many requests with content are under way.",
            Self::TargetTooLong => "The path and query are longer than this node accepts.",
            Self::HostMissing => "The request names no host, several, or a malformed one.",
            Self::PathRefused => {
                "The path is malformed or has dot segments; send it resolved and encoded."
            }
            Self::ContentRefused => "GET, HEAD and OPTIONS have no content here.",
            Self::LoopDetected => {
                "The request already passed this node; the configuration of parents has a loop."
            }
            Self::DirectivesMalformed => {
                "Malformed delivery directives: _HLS_msn and _HLS_part are decimal numbers, \
                 _HLS_part needs _HLS_msn, _HLS_skip is YES or v2 (rfc8216bis 6.2.5)."
            }
            Self::TooFarAhead => {
                "The Media Sequence Number or part is too far ahead of the live edge \
                 (rfc8216bis 6.2.5.2)."
            }
            Self::HoldExpired => {
                "The playlist did not reach the requested position in three target durations."
            }
            Self::HeldTooMany => {
                "Too many requests are held; ask again without delivery directives."
            }
            Self::HeldTooManyOfClient => "Too many requests are held for this client's address.",
            Self::HeldTooManyOfConnection => "Too many requests are held on this connection.",
            Self::PurgePending => {
                "A purge that you have applied has not come here yet; ask again in a second."
            }
            Self::Purged => "This part of the stream was purged; its origin is not asked for it.",
            Self::NotStored => "Nothing is stored that answers this only-if-cached request.",
            Self::HintWithdrawn => "The hinted resource was withdrawn.",
            Self::RunEnded => {
                "This is of a broadcast that ended and began again; load the playlist again."
            }
            Self::ParentUnreachable => "No parent of this node can be reached.",
            Self::ParentTimedOut => "The parent of this node did not answer in time.",
            Self::ParentBroken => {
                "The parent's answer ended before its last byte or was malformed."
            }
            Self::NotAPlaylist => "The parent sent something else where a playlist was due.",
            Self::TooLarge => "The parent's answer is larger than this node accepts.",
            Self::ParentSaturated => "Too many requests wait for the parent of this node.",
        }
    }

    /// Returns the status a viewer gets.
    pub fn status(self) -> StatusCode {
        self.row().status
    }

    /// Returns whether a stale stored response is the better answer (RFC 5861 4).
    pub fn stale_may_replace(self) -> bool {
        self.row().stale_may_replace
    }

    /// Returns the answer for the viewer. It is never stored by anyone (FM-01).
    pub fn answer(self, node_name: &str, held: Duration) -> Answer {
        let row = self.row();
        let mut fields = HeaderMap::new();
        fields.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = row.retry_after {
            fields.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if row.status == StatusCode::METHOD_NOT_ALLOWED {
            // RFC 9110 15.5.6: a 405 names what is allowed.
            fields.insert(
                header::ALLOW,
                HeaderValue::from_static("GET, HEAD, OPTIONS"),
            );
        }
        if let Some(error) = row.proxy_error
            && let Ok(value) = HeaderValue::try_from(format!("{node_name}; error={error}"))
        {
            fields.insert("proxy-status", value);
        }
        if self == Self::Purged
            && let Ok(value) = HeaderValue::try_from(format!("{node_name}; detail=purged"))
        {
            // RFC 9211 2: neither a hit nor forwarded; the detail says why.
            fields.insert("cache-status", value);
        }
        let text = Bytes::from(format!("{}\n", self.text()));
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
        let body = Body::full(text);
        Answer {
            status: row.status,
            fields,
            body,
            outcome: Outcome::Failed,
            status_member: None,
            held,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fm_01_no_failure_may_be_stored_by_anyone() {
        for failure in [
            Failure::TooFarAhead,
            Failure::HoldExpired,
            Failure::ParentTimedOut,
        ] {
            let answer = failure.answer("n", Duration::ZERO);
            assert_eq!(answer.fields["cache-control"], "no-store", "{failure}");
        }
    }

    #[test]
    fn ll_09_an_expired_hold_says_when_to_come_back() {
        let answer = Failure::HoldExpired.answer("edge-1", Duration::from_secs(6));
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.fields["retry-after"], "1");
        assert_eq!(
            answer.fields["proxy-status"],
            "edge-1; error=http_response_timeout"
        );
    }
}
