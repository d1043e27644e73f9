//! Attempts at one fill: the first, a second where the first is stuck, and more where a parent stumbles.
//!
//! ```text
//! arrive ─► first ──────────────────────► answer
//!             └─ late by a part duration ─► second, on other connections ─► the first good answer
//!           answer is an error, live edge ─► pause, first again, for at most RIDE_OUT
//! ```
//!
//! Only what is at the edge of a live playlist or MPD is attempted more than twice: it is worth nothing later,
//! and every viewer of the rendition waits for it. Everybody waits for the one fill, so a parent in trouble
//! sees a few requests per resource, whatever the number of viewers. Who calls it: the task of a fill.
//! Deliberately not here: bodies that break after viewers have seen some of them (`resume`).

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use http::StatusCode;
use tokio::time::Instant;

use super::Filled;
use super::ask::Ask;
use super::order::{Delivery, FillOrder};
use super::pump::{Arrived, Trouble, judge};
use crate::cached::is_error_of_server;
use crate::dash;
use crate::node::Node;
use crate::respond::Failure;
use crate::telemetry::{Event, SecondAttempt};
use crate::upstream::{Class, ParentId};

/// Asks parents until something has arrived that viewers can use, or there is no more sense in it.
///
/// # Cancel safety
///
/// Dropping it takes all its requests back.
pub(super) async fn arrive(node: &Arc<Node>, order: &FillOrder) -> Arrived {
    let mut order = order.clone();
    let mut avoid = None;
    // The upstream has already repeated what was lost before a head: only a body read here is news.
    let mut repeats_left = match order.delivery {
        Delivery::WhenComplete | Delivery::AsMpd(_) | Delivery::AsPlaylist(_) => 1,
        Delivery::AsItArrives => 0,
    };
    let mut stumbles = pace(node, &order).map(Stumbles::new);
    if stumbles.is_some() {
        node.hub.patience.began();
    }
    loop {
        let attempted = first_or_second(node, &order, avoid).await;
        let may_pass = is_trouble_that_passes(&attempted);
        match attempted {
            // RFC 9111 4.3.3: a 304 about something else answers nothing; ask for the whole response.
            // RFC 9110 14.2: so does a range that says nothing of the whole.
            Err((Trouble::NeedsWhole, _)) => {
                order.validated = None;
                order.portion = order.portion.without_probe();
                repeats_left = 0;
                continue;
            }
            // None of its bytes has been seen by anybody: another parent may do better at once.
            Err((Trouble::Failed(Failure::ParentBroken), parent)) if repeats_left > 0 => {
                repeats_left -= 1;
                avoid = parent;
                continue;
            }
            Ok(_) | Err(_) if may_pass => {
                if let Some(pause) = stumbles.as_mut().and_then(Stumbles::pause)
                    && node.hub.patience.spend()
                {
                    tokio::time::sleep(pause).await;
                    continue;
                }
            }
            Ok(_) | Err(_) => {}
        }
        if stumbles.is_some() && is_missing(&attempted) {
            dash::doubt(node, &order.host, &order.target);
        }
        return match attempted {
            Ok(arrived) => arrived,
            Err((Trouble::Failed(failure), _)) => Arrived::Once(Filled::Failed(failure)),
            Err((Trouble::NeedsWhole, _)) => Arrived::Once(Filled::Failed(Failure::ParentBroken)),
        };
    }
}

/// Returns how often something new comes, if what is asked for is at the edge of a live playlist or MPD.
fn pace(node: &Node, order: &FillOrder) -> Option<Duration> {
    let of_playlist = node.hub.pace(&order.key);
    of_playlist.or_else(|| dash::pace(node, &order.host, &order.target))
}

type Attempted = Result<Arrived, (Trouble, Option<ParentId>)>;

/// How often a parent may still stumble over something at the live edge.
struct Stumbles {
    began: Instant,
    next: Duration,
    left: u32,
}

impl Stumbles {
    fn new(pace: Duration) -> Self {
        Self {
            began: Instant::now(),
            next: (pace / 4).clamp(PAUSE_MIN, PAUSE_MAX),
            left: ATTEMPTS_MAX - 1,
        }
    }

    /// Returns how long to wait before the next attempt; `None` when it would come too late.
    fn pause(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let pause = self.next;
        self.next = (pause * 2).min(PAUSE_MAX);
        (self.began.elapsed() + pause <= RIDE_OUT).then_some(pause)
    }
}

/// Whether the parent itself seems to be in trouble, which is often over in a second.
fn is_trouble_that_passes(attempted: &Attempted) -> bool {
    match attempted {
        Ok(Arrived::Complete(_, status)) => is_error_of_server(*status),
        Ok(Arrived::Once(Filled::Response(brought))) => is_error_of_server(brought.status),
        Ok(Arrived::Growing(..) | Arrived::Once(_)) => false,
        Err((Trouble::NeedsWhole, _)) => false,
        Err((Trouble::Failed(failure), _)) => {
            matches!(failure, Failure::ParentBroken | Failure::ParentUnreachable)
        }
    }
}

/// Whether a parent says that there is no such thing.
fn is_missing(attempted: &Attempted) -> bool {
    let status = match attempted {
        Ok(Arrived::Growing(stored, ..)) => stored.status,
        Ok(Arrived::Complete(_, status)) => *status,
        Ok(Arrived::Once(Filled::Response(brought))) => brought.status,
        Ok(Arrived::Once(_)) | Err(_) => return false,
    };
    status == StatusCode::NOT_FOUND
}

/// Attempts once; where that is late for the live edge, attempts a second time beside it.
///
/// The first good answer is taken, and the other request is taken back. A second attempt that fails
/// changes nothing for the first.
async fn first_or_second(
    node: &Arc<Node>,
    order: &FillOrder,
    avoid: Option<ParentId>,
) -> Attempted {
    let Some(pace) = node.hub.pace(&order.key) else {
        return attempt(node, order, order.class, avoid).await;
    };
    let mut first = Box::pin(attempt(node, order, order.class, avoid));
    let late = tokio::select! {
        biased;
        attempted = &mut first => return attempted,
        late = late(node, order, pace) => late,
    };
    let Some(mut beside) = Beside::begin(node) else {
        return first.await;
    };
    tracing::debug!(key = %order.key, ?late, "asking a second time");
    let other = node.upstream.first_choice(&order.affinity);
    let class = other_class(order.class);
    let second = Box::pin(attempt(node, order, class, avoid.or(other)));
    let (done, result) = match select(first, second).await {
        Either::Left((done, _)) if !is_trouble_that_passes(&done) => {
            (done, SecondAttempt::NotNeeded)
        }
        Either::Left((done, second)) => match Some(second.await).filter(is_good) {
            Some(good) => (good, SecondAttempt::Helped),
            None => (done, SecondAttempt::Failed),
        },
        Either::Right((done, _)) if is_good(&done) => (done, SecondAttempt::Helped),
        Either::Right((_, first)) => {
            let done = first.await;
            let is_good = is_good(&done);
            (
                done,
                if is_good {
                    SecondAttempt::NotNeeded
                } else {
                    SecondAttempt::Failed
                },
            )
        }
    };
    beside.result = result;
    done
}

/// Returns other connections: a request may be stuck because its connection is.
pub(super) fn other_class(class: Class) -> Class {
    match class {
        Class::Parked => Class::Bulk,
        Class::Bulk => Class::Parked,
    }
}

/// A second attempt under way; what came of it is counted when it is dropped.
pub(super) struct Beside<'a> {
    node: &'a Node,
    /// What came of it.
    pub(super) result: SecondAttempt,
}

impl<'a> Beside<'a> {
    /// Takes a second attempt from the budget, if there is one.
    pub(super) fn begin(node: &'a Node) -> Option<Self> {
        if !node.hub.patience.spend() {
            let refused = Event::SecondAttemptEnded(SecondAttempt::OverBudget);
            node.telemetry.record(refused);
            return None;
        }
        Some(Self {
            node,
            result: SecondAttempt::Abandoned,
        })
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        let ended = Event::SecondAttemptEnded(self.result);
        self.node.telemetry.record(ended);
    }
}

/// Whether viewers get what they asked for.
fn is_good(attempted: &Attempted) -> bool {
    match attempted {
        Ok(Arrived::Complete(stored, _)) => stored.status.is_success(),
        Ok(Arrived::Once(Filled::Response(brought))) => brought.response.status.is_success(),
        Ok(Arrived::Once(Filled::Failed(_))) | Err(_) => false,
        Ok(Arrived::Growing(..) | Arrived::Once(Filled::Rendition(_) | Filled::Unshared(..))) => {
            true
        }
    }
}

/// Waits until what is asked for should long have come; returns how long that was.
async fn late(node: &Node, order: &FillOrder, pace: Duration) -> Duration {
    // Until it is published, the parent holds the request and nothing is late.
    if let Some(listed) = node.hub.hints.listing_of(&order.key) {
        listed.cancelled().await;
    }
    let patience = node.hub.patience.before_second_attempt(pace);
    tokio::time::sleep(patience).await;
    patience
}

async fn attempt(
    node: &Arc<Node>,
    order: &FillOrder,
    class: Class,
    avoid: Option<ParentId>,
) -> Attempted {
    let mut ask = Ask::of(order);
    ask.class = class;
    ask.avoid = avoid;
    let listed = node.hub.hints.listing_of(&order.key);
    let asked_at = Instant::now();
    let response = ask
        .head(node)
        .await
        .map_err(|failure| (failure.into(), None))?;
    let parent = response.parent;
    let judged = judge(node, order, response).await;
    // Of a hinted part nobody knows when it was published; it tells nothing about the parent's speed.
    if let Ok(Arrived::Complete(stored, _)) = &judged {
        match listed {
            None if matches!(order.delivery, Delivery::WhenComplete) => {
                node.hub.patience.arrived(asked_at.elapsed());
            }
            Some(_) if stored.status.is_success() => node.hub.hints.arrived(&order.key),
            None | Some(_) => {}
        }
    }
    judged.map_err(|trouble| (trouble, Some(parent)))
}

/// Viewers wait so long for a parent that stumbles; most players give up after 2 to 10 seconds (PL-03).
const RIDE_OUT: Duration = Duration::from_secs(2);

/// Attempts at one resource, second ones beside them not counted.
const ATTEMPTS_MAX: u32 = 6;

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);
