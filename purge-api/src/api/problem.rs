//! Everything the API refuses, in one table: what it is called, its status, and when to try again (RFC 9457).
//!
//! Who calls it: every answer that is not what was asked for. docs/purge-api.md has the same table for people,
//! and the description of the API names each; tests compare the three.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use purge_log::RequestError;
use serde_json::json;

use crate::auth::{Denied, Forbidden};
use crate::journal::{AppendError, ClaimError, ReadError};

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind of problem it is.
    pub kind: ProblemKind,
    /// What is wrong with this request, for who sent it.
    pub detail: String,
    /// When it may be tried again.
    pub retry_after: Option<Duration>,
}

/// Declares the table once: variant, name, status, title.
macro_rules! problems {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $status:ident, $title:literal;)*) => {
        /// The kinds of problems.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ProblemKind {
            $($(#[$doc])* $kind,)*
        }

        impl ProblemKind {
            /// All kinds, in the order of their documentation.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Returns the name, which never changes: programs decide by it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// Returns the status.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status,)* }
            }

            /// Returns what it is in a few words, the same for every request.
            pub fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)* }
            }
        }
    };
}

problems! {
    /// No credentials, or none that are believed.
    Unauthenticated = "unauthenticated", UNAUTHORIZED, "the credentials are missing or not valid";
    /// Credentials that were used before.
    Replayed = "replayed", UNAUTHORIZED, "the credentials were used before";
    /// Credentials from another time.
    Stale = "stale-credentials", UNAUTHORIZED, "the credentials are not of this time";
    /// Not in the scope.
    Forbidden = "forbidden", FORBIDDEN, "the credentials do not allow this";
    /// A wide purge without its confirmation.
    ConfirmationMissing = "confirmation-missing", UNPROCESSABLE_ENTITY, "the purge must be confirmed";
    /// Not what is expected.
    Malformed = "malformed", BAD_REQUEST, "the request cannot be read";
    /// A target that means nothing.
    TargetInvalid = "target-invalid", UNPROCESSABLE_ENTITY, "the target means nothing";
    /// Not JSON.
    MediaType = "media-type", UNSUPPORTED_MEDIA_TYPE, "the body is not JSON";
    /// Too many bytes.
    TooLarge = "too-large", PAYLOAD_TOO_LARGE, "the request is too large";
    /// A body that does not come.
    TooSlow = "too-slow", REQUEST_TIMEOUT, "the body did not arrive in time";
    /// An idempotency key that is none.
    IdempotencyKeyInvalid = "idempotency-key-invalid", BAD_REQUEST, "the idempotency key cannot be read";
    /// An idempotency key of another purge.
    IdempotencyKeyReused = "idempotency-key-reused", UNPROCESSABLE_ENTITY, "the idempotency key was used for another purge";
    /// More than the rate allows.
    RateLimited = "rate-limited", TOO_MANY_REQUESTS, "too many requests";
    /// Too many at once, of everybody together.
    Busy = "busy", SERVICE_UNAVAILABLE, "too much is going on at once";
    /// Nothing there.
    NotFound = "not-found", NOT_FOUND, "there is nothing here";
    /// Another method.
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "the method is not allowed here";
    /// The process ends.
    Closing = "closing", SERVICE_UNAVAILABLE, "the API is shutting down";
    /// The disk.
    Storage = "storage", SERVICE_UNAVAILABLE, "the log or the audit cannot be written or read";
    /// Nobody knows.
    Uncertain = "uncertain", SERVICE_UNAVAILABLE, "the purge may be in the log or not";
}

impl Problem {
    /// Returns a problem of one kind.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            retry_after: None,
        }
    }

    /// Returns the refusal of somebody who asks too often.
    pub fn rate_limited(wait: Duration, what: &str) -> Self {
        Self {
            retry_after: Some(wait),
            ..Self::new(
                ProblemKind::RateLimited,
                format!("the rate of {what} of these credentials is used up"),
            )
        }
    }

    /// Returns the type of the problem, a name that leads nowhere (RFC 9457 3.1.1).
    pub fn type_of(kind: ProblemKind) -> String {
        format!("urn:seawall:problem:{}", kind.name())
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let kind = match &denied {
            Denied::RateLimited(wait) => return Self::rate_limited(*wait, "requests"),
            Denied::Missing | Denied::Malformed(_) | Denied::Invalid => {
                ProblemKind::Unauthenticated
            }
            Denied::Stale(_) | Denied::BeforeStart => ProblemKind::Stale,
            Denied::Replayed => ProblemKind::Replayed,
        };
        Self::new(kind, denied.to_string())
    }
}

impl From<Forbidden> for Problem {
    fn from(forbidden: Forbidden) -> Self {
        Self::new(ProblemKind::Forbidden, forbidden.to_string())
    }
}

impl From<ClaimError> for Problem {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Used => Denied::Replayed.into(),
            ClaimError::Storage(_) => Self::new(ProblemKind::Storage, error.to_string()),
        }
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        let kind = match &error {
            AppendError::Request(RequestError::Target(_)) => ProblemKind::TargetInvalid,
            AppendError::Request(RequestError::Malformed(_)) => ProblemKind::Malformed,
            AppendError::Request(RequestError::TooLarge { .. }) | AppendError::TooLarge(_) => {
                ProblemKind::TooLarge
            }
            AppendError::Key => ProblemKind::IdempotencyKeyInvalid,
            AppendError::KeyReused(_) => ProblemKind::IdempotencyKeyReused,
            AppendError::Busy => ProblemKind::Busy,
            AppendError::Closed => ProblemKind::Closing,
            AppendError::Storage(_) => ProblemKind::Storage,
            AppendError::Unknown => ProblemKind::Uncertain,
        };
        let retry_after = (kind == ProblemKind::Busy).then_some(Duration::from_secs(1));
        Self {
            retry_after,
            ..Self::new(kind, error.to_string())
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let kind = match &error {
            ReadError::Behind => ProblemKind::NotFound,
            ReadError::Storage(_) | ReadError::Entry { .. } => ProblemKind::Storage,
            ReadError::Ended => ProblemKind::Closing,
        };
        Self::new(kind, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let body = json!({
            "type": Self::type_of(self.kind),
            "title": self.kind.title(),
            "status": status.as_u16(),
            "detail": self.detail,
        });
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(wait) = self.retry_after {
            // RFC 9110 10.2.3: whole seconds. Rounded up, so that who obeys is not early.
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            let value = HeaderValue::from_str(&seconds.to_string());
            headers.insert(
                header::RETRY_AFTER,
                value.expect("digits are a header value"),
            );
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 11.6.1: a 401 says what would be accepted.
            let value = HeaderValue::from_static("Seawall-HMAC-SHA256, Bearer");
            headers.insert(header::WWW_AUTHENTICATE, value);
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// The media type of problems (RFC 9457 6.1).
pub const MEDIA_TYPE: &str = "application/problem+json";
