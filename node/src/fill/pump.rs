//! The task of one fill: ask, judge, publish, pump, store.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cache::{
    BodyFailure, BodyState, GrowingBody, Reservation, StoredResponse, Uncacheable, Use, Writer,
    judge as judge_use,
};
use http::StatusCode;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ask::read_whole;
use super::attempt::arrive;
use super::begun::{Begun, keep};
use super::lint::{inspect_lifetime, inspect_short};
use super::mpd::{of_known, read_mpd};
use super::order::{Delivery, FillOrder, Judged};
use super::playlist::{may_be_read, read_playlist};
use super::resume::{Rest, Resumptions};
use super::{Brought, Filled, Own, Permit};
use crate::cached::is_error_of_server;
use crate::node::Node;
use crate::respond::Failure;
use crate::slices::{self, Received};
use crate::telemetry::{Event, FillEnding};
use crate::upstream::{ForwardBody, ForwardResponse};

/// What came of asking.
pub(super) enum Arrived {
    /// A head; the body follows as it arrives.
    Growing(Arc<StoredResponse>, Writer, ForwardBody),
    /// A response with its whole body, and the status the parent answered with.
    Complete(Arc<StoredResponse>, StatusCode),
    /// Something for those who wait now, and nobody later.
    Once(Filled),
}

/// Runs a fill to its end.
pub(super) async fn run(node: &Arc<Node>, permit: Permit, order: FillOrder) {
    // Between the lookup that missed and the permit, another fill may have ended.
    if let Some(filled) = already_here(node, &order) {
        permit.refuse(filled);
        return;
    }
    let mark = order.begun;
    let started = Instant::now();
    let (host, target) = (order.host.clone(), order.target.clone());
    node.telemetry.record(Event::FillStarted {
        is_ahead: order.is_ahead,
    });
    let arrived = tokio::select! {
        biased;
        // A withdrawn hint is told at once, even while the parent is silent (LL-19).
        () = withdrawn(order.withdrawn.clone()) => {
            Arrived::Once(Filled::Failed(Failure::HintWithdrawn))
        }
        () = node.tasks.ending() => Arrived::Once(Filled::Failed(Failure::ParentUnreachable)),
        arrived = arrive(node, &order) => arrived,
    };
    let (ending, bytes) = match arrived {
        Arrived::Growing(stored, writer, incoming) => {
            let body = stored.body.clone();
            let ending = grow(node, permit, (order, mark), stored, writer, incoming).await;
            (ending, body.progress().received)
        }
        Arrived::Complete(stored, status) => {
            let bytes = stored.body.progress().received;
            let ending = keep(node, &order.key, Arc::clone(&stored), mark);
            node.uncacheable.invalidate(&order.collapse_key);
            permit.refuse(Filled::Response(Brought {
                response: stored,
                status,
                refusal: None,
            }));
            (ending, bytes)
        }
        Arrived::Once(filled) => {
            let ending = ending_of(&filled);
            let bytes = match &filled {
                Filled::Response(brought) => brought.response.body.progress().received,
                Filled::Rendition(_) | Filled::Unshared(..) | Filled::Failed(_) => 0,
            };
            permit.refuse(filled);
            (ending, bytes)
        }
    };
    if brought_all(ending) {
        node.streams.filled(&host, &target, bytes);
    }
    let duration = started.elapsed();
    node.telemetry.record(Event::FillFinished {
        ending,
        bytes,
        duration,
    });
}

/// Returns whether a fill brought a response that all who asked share.
fn brought_all(ending: FillEnding) -> bool {
    match ending {
        FillEnding::Stored | FillEnding::NotStored | FillEnding::Purged => true,
        FillEnding::Rendition
        | FillEnding::Unshared
        | FillEnding::Abandoned
        | FillEnding::Failed => false,
    }
}

fn ending_of(filled: &Filled) -> FillEnding {
    match filled {
        Filled::Response(_) => FillEnding::NotStored,
        Filled::Rendition(_) => FillEnding::Rendition,
        Filled::Unshared(..) => FillEnding::Unshared,
        Filled::Failed(Failure::HintWithdrawn) => FillEnding::Abandoned,
        Filled::Failed(_) => FillEnding::Failed,
    }
}

fn already_here(node: &Node, order: &FillOrder) -> Option<Filled> {
    if let Delivery::AsPlaylist(address) = &order.delivery
        && let Some(rendition) = node.hub.rendition(&address.key())
    {
        return Some(Filled::Rendition(rendition));
    }
    let stored = node.store.get(&order.key, &order.fields).found()?;
    let is_usable = judge_use(&stored, &order.directives, node.clock.now()) == Use::Fresh;
    is_usable.then(|| {
        Filled::Response(Brought {
            status: stored.status,
            response: stored,
            refusal: None,
        })
    })
}

async fn withdrawn(signal: Option<CancellationToken>) {
    match signal {
        Some(signal) => signal.cancelled().await,
        None => std::future::pending().await,
    }
}

/// Why one attempt did not arrive.
pub(super) enum Trouble {
    /// A 304 that answers nobody, or not everybody who waits: the whole response has to be asked for.
    NeedsWhole,
    /// Anything else.
    Failed(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

pub(super) async fn judge(
    node: &Arc<Node>,
    order: &FillOrder,
    response: ForwardResponse,
) -> Result<Arrived, Trouble> {
    let response = match slices::receive(node, order, response).await? {
        Received::Whole(response) => response,
        Received::Slice(slice, writer, body) => return Ok(Arrived::Growing(slice, writer, body)),
        Received::Head(head) => return Ok(Arrived::Complete(head, StatusCode::OK)),
        Received::Small(judged, bytes) => return Ok(complete(node, order, judged, bytes)),
        Received::Useless => return Err(Trouble::NeedsWhole),
    };
    let status = response.head.status;
    let asked_at = node.clock.wall_at(response.sent_at);
    if status == StatusCode::NOT_MODIFIED && order.validated.is_some() {
        let fields = &response.head.headers;
        let of_known = match &order.delivery {
            Delivery::AsMpd(_) => of_known(node, order),
            Delivery::AsItArrives | Delivery::WhenComplete | Delivery::AsPlaylist(_) => None,
        };
        let order = of_known.as_ref().unwrap_or(order);
        let judged = order
            .judge_not_modified(node, asked_at, fields)
            .ok_or(Trouble::NeedsWhole)?;
        return validated(node, order, judged);
    }
    if status == StatusCode::PARTIAL_CONTENT || status == StatusCode::NOT_MODIFIED {
        // Neither a range nor a validation was asked for.
        return Err(Failure::ParentBroken.into());
    }
    let length = http_body::Body::size_hint(&response.body).exact();
    let (writer, body) = length.map_or_else(GrowingBody::new, GrowingBody::with_length);
    let mut judged = order.judge(node, asked_at, status, &response.head.headers, body);
    let is_too_large = |length: u64| {
        length > node.limits.stored_body_bytes_max || node.store.growing(length).is_err()
    };
    if length.is_some_and(is_too_large) {
        judged.refusal = judged.refusal.or(Some(Uncacheable::TooLarge));
    }
    inspect_lifetime(node, order, &judged);
    match (&order.delivery, judged.refusal) {
        (Delivery::AsPlaylist(address), refusal)
            if status == StatusCode::OK && may_be_read(&judged, refusal) =>
        {
            Ok(read_playlist(node, order, address, response).await?)
        }
        (Delivery::AsMpd(address), refusal)
            if status == StatusCode::OK && may_be_read(&judged, refusal) =>
        {
            Ok(read_mpd(node, order, address, response).await?)
        }
        (_, Some(refusal)) if is_of_one_viewer(status, refusal) => {
            node.uncacheable.insert(order.collapse_key.clone(), ());
            let only = Arc::new(Mutex::new(Some(Own::Arriving(Box::new(response)))));
            Ok(Arrived::Once(Filled::Unshared(only, refusal)))
        }
        (Delivery::AsItArrives, None) if status == StatusCode::OK => {
            Ok(Arrived::Growing(judged.stored, writer, response.body))
        }
        (
            Delivery::AsItArrives
            | Delivery::WhenComplete
            | Delivery::AsMpd(_)
            | Delivery::AsPlaylist(_),
            _,
        ) => {
            let bytes = read_media(node, order, response.body, length).await?;
            Ok(complete(node, order, judged, bytes))
        }
    }
}

/// Reads what is given to those who wait when all of it is there.
async fn read_media(
    node: &Node,
    order: &FillOrder,
    body: ForwardBody,
    length: Option<u64>,
) -> Result<Bytes, Failure> {
    let bytes_max = usize::try_from(node.limits.stored_body_bytes_max);
    let bytes_max = bytes_max.unwrap_or(usize::MAX);
    let read = read_whole(body, bytes_max, order.stall_timeout).await;
    if read == Err(Failure::ParentBroken) {
        inspect_short(node, order, None, length);
    }
    read
}

/// Whether a response that may not be stored may not even be shared by those who wait for it now.
///
/// An error without a lifetime says the same to everybody who asked at the time; telling each of them
/// by a request of its own would be a stampede on a parent in trouble (FM-01).
fn is_of_one_viewer(status: StatusCode, refusal: Uncacheable) -> bool {
    let is_error = status.is_client_error() || status.is_server_error();
    !(is_error && matches!(refusal, Uncacheable::NoLifetime | Uncacheable::NoStore))
}

/// What was stored, confirmed by a 304: stored anew, or gone if the 304 forbids to keep it.
fn validated(node: &Node, order: &FillOrder, judged: Judged) -> Result<Arrived, Trouble> {
    match judged.refusal {
        None => {
            return Ok(Arrived::Complete(judged.stored, StatusCode::NOT_MODIFIED));
        }
        // RFC 9111 3.5, 5.2.1.5: what one viewer is told by its own right or wish changes nothing for the
        // others; who waits with it said the same.
        Some(Uncacheable::Authorization | Uncacheable::RequestNoStore) => {}
        Some(refusal) => {
            node.store.remove(&order.key);
            if is_of_one_viewer(judged.stored.status, refusal) {
                // RFC 9111 4: it has become the own of whoever asked first; the others wait beside.
                return Err(Trouble::NeedsWhole);
            }
        }
    }
    Ok(Arrived::Once(Filled::Response(Brought {
        response: judged.stored,
        status: StatusCode::NOT_MODIFIED,
        refusal: judged.refusal,
    })))
}

/// A response whose whole body is there.
pub(super) fn complete(node: &Node, order: &FillOrder, judged: Judged, bytes: Bytes) -> Arrived {
    let stored = StoredResponse {
        body: order.whole_body(&judged.stored, bytes),
        ..(*judged.stored).clone()
    };
    let (status, response) = (stored.status, Arc::new(stored));
    let spared = order.validated.as_ref().filter(|older| {
        let staleness = older.staleness(node.clock.now()).unwrap_or_default();
        is_error_of_server(status) && staleness < older.stale_if_error
    });
    match (judged.refusal, spared) {
        (None, None) => Arrived::Complete(response, status),
        // RFC 5861 4: what may stand in for this error is worth more than the error.
        // Told to those who wait now; the next one to ask asks again (FM-01).
        (refusal, _) => Arrived::Once(Filled::Response(Brought {
            response,
            status,
            refusal: refusal.or(Some(Uncacheable::NoLifetime)),
        })),
    }
}

/// Publishes the head and pumps the body; stores the response if it comes whole.
async fn grow(
    node: &Arc<Node>,
    permit: Permit,
    (order, mark): (FillOrder, Begun),
    stored: Arc<StoredResponse>,
    writer: Writer,
    incoming: ForwardBody,
) -> FillEnding {
    let published = permit.publish(Filled::Response(Brought {
        status: stored.status,
        response: Arc::clone(&stored),
        refusal: None,
    }));
    let ended = tokio::select! {
        ended = pump_to_end(node, &order, &stored, writer, incoming) => ended,
        // The writer is dropped with the pump: readers see a failed body.
        () = node.tasks.ending() => Err(BodyFailure::Abandoned),
    };
    let ending = match ended {
        Ok(()) => {
            let compacted = compacted(&order, &stored).await;
            let ending = keep(node, &order.key, compacted, mark);
            node.uncacheable.invalidate(&order.collapse_key);
            ending
        }
        Err(_) => FillEnding::Failed,
    };
    // Only now: whoever asks in between follows this fill, not a new one.
    drop(published);
    ending
}

/// Returns the response as it is stored: a text in one piece, to be coded; all else as it came, since
/// the store makes its own copy.
async fn compacted(order: &FillOrder, stored: &Arc<StoredResponse>) -> Arc<StoredResponse> {
    if !order.is_text {
        return Arc::clone(stored);
    }
    let length = stored.body.progress().received;
    let mut bytes = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
    let mut reader = stored.body.reader(0..u64::MAX);
    while let Some(Ok(chunk)) = reader.next().await {
        bytes.extend_from_slice(&chunk);
    }
    let body = order.whole_body(stored, bytes.freeze());
    Arc::new(StoredResponse {
        body,
        ..StoredResponse::clone(stored)
    })
}

/// Moves a parent's body into a growing one until its clean end (LD-06, FM-22); where it breaks on the
/// way, the rest is asked for.
async fn pump_to_end(
    node: &Node,
    order: &FillOrder,
    stored: &StoredResponse,
    mut writer: Writer,
    mut incoming: ForwardBody,
) -> Result<(), BodyFailure> {
    let limits = PumpLimits {
        stall_timeout: order.stall_timeout,
        bytes_max: node.limits.stored_body_bytes_max,
    };
    let mut resumptions = Resumptions::default();
    // What grows is in the store's budget from its first byte on.
    let announced = stored.body.len_if_known().unwrap_or(0);
    let Ok(mut reserved) = node.store.growing(announced.min(limits.bytes_max)) else {
        writer.fail(BodyFailure::TooLarge);
        return Err(BodyFailure::TooLarge);
    };
    let failure = loop {
        let failure = match pump(&mut writer, incoming, limits, &mut reserved).await {
            Ok(()) => {
                let body = writer.body();
                writer.complete();
                return match body.progress().state {
                    BodyState::Failed(failure) => Err(failure),
                    BodyState::Filling | BodyState::Complete => Ok(()),
                };
            }
            Err(failure) => failure,
        };
        if failure == BodyFailure::Reset {
            let received = writer.body().progress().received;
            inspect_short(node, order, Some(received), stored.body.len_if_known());
        }
        if !matches!(failure, BodyFailure::Reset | BodyFailure::Stalled) {
            break failure;
        }
        let Some(Rest {
            first,
            incoming: rest,
        }) = resumptions.rest(node, order, stored).await
        else {
            break failure;
        };
        if !first.is_empty() {
            writer.push(first);
        }
        incoming = rest;
    };
    writer.fail(failure);
    Err(failure)
}

#[derive(Clone, Copy)]
struct PumpLimits {
    stall_timeout: Duration,
    bytes_max: u64,
}

/// Moves what comes into a growing body until there is no more.
async fn pump(
    writer: &mut Writer,
    mut incoming: ForwardBody,
    limits: PumpLimits,
    reserved: &mut Reservation<'_>,
) -> Result<(), BodyFailure> {
    let mut received = writer.body().progress().received;
    loop {
        match tokio::time::timeout(limits.stall_timeout, incoming.frame()).await {
            Err(_) => return Err(BodyFailure::Stalled),
            Ok(Some(Err(_))) => return Err(BodyFailure::Reset),
            Ok(None) => return Ok(()),
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                received += data.len() as u64;
                let more = received.saturating_sub(reserved.bytes());
                if received > limits.bytes_max || reserved.grow(more).is_err() {
                    return Err(BodyFailure::TooLarge);
                }
                writer.push(data);
            }
        }
    }
}
