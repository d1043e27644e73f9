//! Publishing to a stream, through the moments in which nobody leads it.
//!
//! Who calls it: whatever writes. While servers elect, nobody listens on a stream's subject and a publication is
//! refused at once, which says for certain that it was not written: it is tried again for as long as an answer may take anyway.
//! Deliberately not here: answers that do not come, after which nobody knows.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::publish::PublishAck;
use bytes::Bytes;
use tokio::time::{Instant, sleep};

/// Publishes and waits for the word of the stream's leader.
pub(super) async fn publish(
    context: &Context,
    subject: &str,
    headers: &HeaderMap,
    payload: Bytes,
) -> Result<PublishAck, PublishError> {
    let began_at = Instant::now();
    loop {
        let published = context
            .publish_with_headers(subject.to_owned(), headers.clone(), payload.clone())
            .await;
        let error = match published {
            Ok(published) => match published.await {
                Ok(acknowledged) => return Ok(acknowledged),
                Err(error) => error,
            },
            Err(error) => error,
        };
        let is_leaderless = error.kind() == PublishErrorKind::StreamNotFound;
        if !is_leaderless || began_at.elapsed() >= ELECTED_WITHIN {
            return Err(error);
        }
        sleep(TRY_AGAIN_AFTER).await;
    }
}

/// How long an election is waited for: as long as an answer may take.
const ELECTED_WITHIN: Duration = super::setup::ANSWER_WITHIN;

/// The pause before it is tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(50);
