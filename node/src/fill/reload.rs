//! A blocking reload, and a second one beside it where the first is overdue.
//!
//! A parent holds a blocking reload until there is something new, so silence alone says little: an encoder
//! that is late is no reason to ask twice (FM-07). But a hinted part that has come is proof that the version
//! which lists it exists. If that is not there a part duration later, the request is lost, and would freeze
//! every viewer of the rendition until its deadline: another connection is tried. Who calls it: chains.
//! Deliberately not here: what is asked for (`live::chain`), and parts (`attempt`).

use std::time::Duration;

use futures_util::future::{Either, select};
use tokio_util::sync::CancellationToken;

use super::ask::{Ask, Whole};
use super::attempt::{Beside, other_class};
use crate::node::Node;
use crate::respond::Failure;
use crate::telemetry::SecondAttempt;

/// The sign that the version asked for exists.
#[derive(Debug)]
pub(crate) struct Published {
    /// Fires when the part has come that it lists.
    pub(crate) arrived: CancellationToken,
    /// How often something new comes.
    pub(crate) pace: Duration,
}

/// Asks and reads the body whole; where nothing has come soon after it was `published`, asks a second time.
///
/// # Errors
///
/// As [`Ask::whole`], of the first request.
///
/// # Cancel safety
///
/// Dropping it takes both requests back.
pub(crate) async fn reload(
    node: &Node,
    ask: Ask<'_>,
    bytes_max: usize,
    published: Option<Published>,
) -> Result<Whole, Failure> {
    let Some(published) = published else {
        return ask.whole(node, bytes_max).await;
    };
    let mut again = ask.clone();
    again.class = other_class(ask.class);
    again.avoid = node.upstream.first_choice(&ask.affinity);
    node.hub.patience.began();
    let mut first = Box::pin(ask.whole(node, bytes_max));
    tokio::select! {
        biased;
        answered = &mut first => return answered,
        () = overdue(node, published) => {}
    }
    let Some(mut beside) = Beside::begin(node) else {
        return first.await;
    };
    let second = Box::pin(again.whole(node, bytes_max));
    let (answered, result) = match select(first, second).await {
        Either::Left((answered, _)) if is_good(&answered) => (answered, SecondAttempt::NotNeeded),
        Either::Left((answered, second)) => match Some(second.await).filter(is_good) {
            Some(good) => (good, SecondAttempt::Helped),
            None => (answered, SecondAttempt::Failed),
        },
        Either::Right((answered, _)) if is_good(&answered) => (answered, SecondAttempt::Helped),
        Either::Right((_, first)) => {
            let answered = first.await;
            let is_good = is_good(&answered);
            let result = if is_good {
                SecondAttempt::NotNeeded
            } else {
                SecondAttempt::Failed
            };
            (answered, result)
        }
    };
    beside.result = result;
    answered
}

async fn overdue(node: &Node, published: Published) {
    let Published { arrived, pace } = published;
    arrived.cancelled().await;
    tokio::time::sleep(node.hub.patience.before_second_attempt(pace)).await;
}

fn is_good(answered: &Result<Whole, Failure>) -> bool {
    answered
        .as_ref()
        .is_ok_and(|whole| whole.head.status.is_success())
}
