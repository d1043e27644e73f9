//! What may be used once, among all purge APIs of a stream.
//!
//! Who calls it: the journal, for the nonces and `jti`s of requests, before anything is done for them. A stream
//! beside that of the purges has one subject for each: who publishes there first has it, and the servers refuse
//! everybody else. They forget it when nobody could use it any more. Deliberately not here: what one purge API
//! remembers by itself, which is in `auth` and keeps repetitions away from the servers.

use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::stream::Stream;
use aws_lc_rs::digest;

use super::publish::publish;
use crate::auth::{Used, fresh_nonce, hex};
use crate::journal::ClaimError;
use crate::journal::error::StorageError;

/// What may be used once.
#[derive(Debug)]
pub(super) struct Claims {
    context: Context,
    stream: Stream,
    /// The beginning of all subjects, with its dot.
    prefix: String,
}

impl Claims {
    /// Returns the claims below `prefix`, in `stream`.
    pub(super) fn new(context: Context, stream: Stream, prefix: String) -> Self {
        Self {
            context,
            stream,
            prefix,
        }
    }

    /// Takes `used` for the caller alone.
    pub(super) async fn claim(&self, used: &Used) -> Result<(), ClaimError> {
        // A digest: a name of any bytes and any length becomes one token of a subject.
        let name = digest::digest(&digest::SHA256, used.name.as_bytes());
        let subject = format!("{}{}", self.prefix, hex(name.as_ref()));
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
        // Ours alone, to recognize our own claim.
        let mark = fresh_nonce();
        let payload = mark.clone().into();
        let acknowledged = publish(&self.context, &subject, &headers, payload).await;
        match acknowledged {
            Ok(_) => Ok(()),
            Err(error) => match error.kind() {
                PublishErrorKind::WrongLastSequence => self.look(&subject, mark.as_bytes()).await,
                PublishErrorKind::StreamNotFound
                | PublishErrorKind::WrongLastMessageId
                | PublishErrorKind::TimedOut
                | PublishErrorKind::BrokenPipe
                | PublishErrorKind::MaxAckPending
                | PublishErrorKind::MaxPayloadExceeded
                | PublishErrorKind::Other => Err(ClaimError::Storage(StorageError::new(error))),
            },
        }
    }

    /// Looks whose claim it is that the servers say is there: while they elect, it may be ours or nobody's.
    async fn look(&self, subject: &str, mark: &[u8]) -> Result<(), ClaimError> {
        match self.stream.get_last_raw_message_by_subject(subject).await {
            Ok(claim) if claim.payload == mark => Ok(()),
            Ok(_) => Err(ClaimError::Used),
            Err(error) => Err(ClaimError::Storage(StorageError::new(error))),
        }
    }
}
