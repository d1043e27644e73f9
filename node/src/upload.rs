//! The content of a viewer's request: not read until somebody wants it, and then whole or not at all.
//!
//! Listeners make an [`Upload`] of every request whose method gives content a meaning. What a client
//! sends with GET or HEAD is never looked at, let alone forwarded (B50): nothing outside of target and
//! listed fields may change what is stored. Who reads it: `relay`. Deliberately not here: streaming to a
//! parent. A node is no ingest: it takes small requests, such as those of players and APIs, into memory,
//! which also keeps framing tricks of a viewer away from its parents.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::listen::IncomingBody;

/// The content of a request, still with the client. Dropping it refuses what has not come yet.
#[derive(Debug, Default)]
pub struct Upload {
    source: Source,
    /// The bytes that the client has announced.
    announced: Option<u64>,
}

#[derive(Debug, Default)]
enum Source {
    #[default]
    Empty,
    /// On HTTP/1.1 and HTTP/2.
    Hyper(Incoming),
    /// On HTTP/3.
    Http3(Box<IncomingBody>),
}

/// How much an upload may take.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// Bytes of it.
    pub bytes_max: usize,
    /// Time without a byte.
    pub stall_timeout: Duration,
}

/// Why an upload could not be read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// More bytes than allowed, announced or sent.
    #[error("the content is larger than allowed")]
    TooLarge,
    /// The client sends nothing, or too little for too long.
    #[error("the content does not arrive")]
    Stalled,
    /// The client left in the middle, or sent something else than it announced.
    #[error("the content ended early or is malformed")]
    Broken,
}

impl Upload {
    /// Returns no content.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Returns whether a method gives content a meaning (RFC 9110 9.3).
    pub(crate) fn has_meaning_with(method: &Method) -> bool {
        ![Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method)
    }

    /// Returns what a client of HTTP/1.1 or HTTP/2 sends. hyper checks it against its announced length.
    pub(crate) fn hyper(incoming: Incoming) -> Self {
        let announced = http_body::Body::size_hint(&incoming).exact();
        Self {
            source: Source::Hyper(incoming),
            announced,
        }
    }

    /// Returns what a client of HTTP/3 sends, who has announced so many bytes.
    pub(crate) fn http3(incoming: IncomingBody, announced: Option<u64>) -> Self {
        Self {
            source: Source::Http3(Box::new(incoming)),
            announced,
        }
    }

    /// Reads it to its end.
    ///
    /// # Errors
    ///
    /// [`UploadError`]; nothing of a broken upload is of use.
    ///
    /// # Cancel safety
    ///
    /// What was read is lost with the future.
    ///
    /// # Limits
    ///
    /// `limits`, and a minute for all of it.
    pub async fn read(self, limits: UploadLimits) -> Result<Bytes, UploadError> {
        let announced = self.announced.unwrap_or(0);
        if announced > limits.bytes_max as u64 {
            return Err(UploadError::TooLarge); // Before the client is told to continue.
        }
        timeout(UPLOAD_TIME_MAX, self.read_patiently(limits))
            .await
            .unwrap_or(Err(UploadError::Stalled))
    }

    async fn read_patiently(mut self, limits: UploadLimits) -> Result<Bytes, UploadError> {
        let mut bytes = BytesMut::new();
        loop {
            let next = timeout(limits.stall_timeout, self.source.next()).await;
            let Some(data) = next.map_err(|_| UploadError::Stalled)? else {
                break;
            };
            let data = data?;
            if bytes.len() + data.len() > limits.bytes_max {
                return Err(UploadError::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
        // RFC 9114 4.1.2: a length that is not the sum of the DATA frames makes a request malformed.
        match self.announced {
            Some(announced) if announced != bytes.len() as u64 => Err(UploadError::Broken),
            Some(_) | None => Ok(bytes.freeze()),
        }
    }
}

impl Source {
    /// Waits for more; trailers are not passed on.
    async fn next(&mut self) -> Option<Result<Bytes, UploadError>> {
        match self {
            Self::Empty => None,
            Self::Hyper(incoming) => {
                let frame = incoming.frame().await?;
                let data = frame.map(|frame| frame.into_data().unwrap_or_default());
                Some(data.map_err(|_| UploadError::Broken))
            }
            Self::Http3(incoming) => {
                let data = incoming.next().await?;
                Some(data.map_err(|_| UploadError::Broken))
            }
        }
    }
}

/// Time for a whole upload: without it, a byte now and then would hold memory for days.
const UPLOAD_TIME_MAX: Duration = Duration::from_secs(60);
