//! The body of a request, whole, under a limit and in time.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::problem::{Problem, ProblemKind};

/// Reads a body of at most `bytes_max` bytes.
///
/// # Errors
///
/// It is larger, does not arrive in time, or breaks off.
pub(super) async fn read(
    body: Body,
    bytes_max: usize,
    timeout: Duration,
) -> Result<Bytes, Problem> {
    let read = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(timeout, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("at most {bytes_max} bytes are read");
            Err(Problem::new(ProblemKind::TooLarge, detail))
        }
        Ok(Err(_)) => Err(Problem::new(ProblemKind::Malformed, "the body broke off")),
        Err(_) => {
            let detail = format!("the body took longer than {} s", timeout.as_secs());
            Err(Problem::new(ProblemKind::TooSlow, detail))
        }
    }
}
