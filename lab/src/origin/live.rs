//! What changes with time: live playlists, parts and segments, held until it is time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use tokio::time::{Instant, sleep_until};

use super::answers::{MEDIA_LIFETIME, PUBLISHED, empty, media, playlist, set};
use super::body::{self, OriginBody};
use super::counts::Family;
use super::fault::Action;
use super::hls::{MediaPlaylistOf, PartsAs};
use super::presentation::Origin;
use super::resource::Edition;
use super::respond::Mood;
use super::timeline::PartId;

/// What a request's delivery directives ask for (rfc8216bis 6.2.5).
struct Directives {
    wanted: Option<PartId>,
    /// Whether a whole segment is asked for, by number alone (LL-01).
    is_whole_segment: bool,
    is_delta: bool,
}

/// LL-05, LL-06: what cannot be read is refused.
fn directives(origin: &Origin, query: Option<&str>) -> Result<Directives, StatusCode> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| StatusCode::BAD_REQUEST);
    let (mut msn, mut part, mut is_delta) = (None, None, false);
    for parameter in query.unwrap_or("").split('&') {
        match parameter.split_once('=') {
            Some(("_HLS_msn", value)) => msn = Some(number(value)?),
            Some(("_HLS_part", value)) => part = Some(number(value)?),
            Some(("_HLS_skip", value)) => is_delta = matches!(value, "YES" | "v2"),
            _ => {}
        }
    }
    let last_part = origin.timeline.parts_per_segment() - 1;
    let wanted = match (msn, part) {
        (None, Some(_)) => return Err(StatusCode::BAD_REQUEST),
        (None, None) => None,
        // LL-01: the whole segment, that is its last part.
        (Some(msn), None) => Some(PartId {
            msn,
            part: last_part,
        }),
        (Some(msn), Some(part)) => Some(origin.timeline.normalized(PartId { msn, part })),
    };
    Ok(Directives {
        wanted,
        is_whole_segment: part.is_none(),
        is_delta,
    })
}

pub(super) async fn live_playlist(
    origin: &Arc<Origin>,
    request: &http::Request<()>,
    edition: Edition,
    track: usize,
    mood: &Mood,
) -> Response<OriginBody> {
    let is_low_latency = edition == Edition::LowLatency;
    let asked = match directives(origin, request.uri().query()) {
        Ok(asked) if is_low_latency => asked,
        Ok(_) => Directives {
            wanted: None,
            is_whole_segment: false,
            is_delta: false,
        },
        Err(status) => return empty(status),
    };
    if let Some(wanted) = asked.wanted
        && !origin.is_ended()
        && let Err(status) = hold(origin, wanted, asked.is_whole_segment, mood).await
    {
        return empty(status);
    }
    let next = origin
        .timeline
        .unpublished_at(origin.at().saturating_sub(mood.behind));
    let version = format!("{track}/{}.{}", next.msn, next.part);
    let url = request.uri().path_and_query().map_or("/", |pq| pq.as_str());
    let family = if is_low_latency {
        Family::Playlist
    } else {
        Family::Other
    };
    origin.ledger.note(family, version, url);
    let siblings = origin.track_names();
    let own = siblings.get(track).copied().unwrap_or("");
    let by_range = origin.config.parts_as == PartsAs::ByteRanges;
    let text = MediaPlaylistOf {
        timeline: &origin.timeline,
        next,
        epoch: origin.epoch(),
        parts_as: is_low_latency.then_some(origin.config.parts_as),
        is_ended: origin.is_ended(),
        is_delta: asked.is_delta,
        siblings: siblings
            .iter()
            .copied()
            .filter(|name| *name != own)
            .collect(),
        suffix: &mood.suffix,
        part_target: origin.part_target(track),
        hint_is_wrong: mood.has(Action::WithdrawHint),
        part_facts: &|id| origin.part_facts(track, id, by_range),
        segment_duration: &|msn| origin.segment_duration(track, msn),
    }
    .render();
    let target = origin.timeline.segment.as_secs();
    let lifetime = if asked.wanted.is_some() {
        target * 6
    } else {
        (target / 2).max(1)
    };
    let mut response = playlist(request, text, &format!("max-age={lifetime}"));
    let published = origin.published_field(origin.timeline.part_span(next).0);
    set(response.headers_mut(), PUBLISHED, &published);
    response
}

/// Holds a request until `wanted` is published (LL-02), refuses what is too far ahead (LL-07, LL-08),
/// and gives up after three target durations (LL-09).
async fn hold(
    origin: &Origin,
    wanted: PartId,
    is_whole_segment: bool,
    mood: &Mood,
) -> Result<(), StatusCode> {
    let timeline = &origin.timeline;
    let at = origin.at().saturating_sub(mood.behind);
    let next = timeline.unpublished_at(at);
    let per_segment = timeline.parts_per_segment();
    let number = |id: PartId| id.msn * per_segment + id.part;
    let limit = if timeline.part < Duration::from_secs(1) {
        Duration::from_secs(3)
            .as_nanos()
            .div_ceil(timeline.part.as_nanos())
    } else {
        3
    };
    let ahead = number(wanted).saturating_sub(number(next));
    if wanted.msn > next.msn + 2 || (u128::from(ahead) > limit && !is_whole_segment) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let due = timeline.part_span(wanted).1 + mood.behind;
    let longest = Instant::now() + timeline.segment * 3;
    let due = origin.instant_of(due);
    sleep_until(due.min(longest)).await;
    if due > longest {
        Err(StatusCode::SERVICE_UNAVAILABLE)
    } else {
        Ok(())
    }
}

pub(super) async fn part(
    origin: &Arc<Origin>,
    request: &http::Request<()>,
    track: usize,
    id: PartId,
    mood: &Mood,
) -> Response<OriginBody> {
    let timeline = &origin.timeline;
    let next = timeline.unpublished_at(origin.at().saturating_sub(mood.behind));
    let is_known = id.part < timeline.parts_per_segment()
        && id <= next
        && id.msn + timeline.window + RETAINED >= next.msn;
    if !is_known || (id == next && origin.is_ended()) {
        return empty(StatusCode::NOT_FOUND);
    }
    let end = timeline.part_span(id).1;
    if id == next {
        // A hinted part is answered when it is published.
        sleep_until(origin.instant_of(end + mood.behind)).await;
    }
    media(
        request,
        origin.part_bytes(track, id),
        Some(&origin.published_field(end)),
    )
}

pub(super) async fn segment(
    origin: &Arc<Origin>,
    request: &http::Request<()>,
    edition: Edition,
    track: usize,
    msn: u64,
    mood: &Mood,
) -> Response<OriginBody> {
    if edition == Edition::OnDemand {
        return if msn < origin.loop_segments() {
            media(request, origin.segment_bytes(track, msn), None)
        } else {
            empty(StatusCode::NOT_FOUND)
        };
    }
    let next = origin
        .timeline
        .unpublished_at(origin.at().saturating_sub(mood.behind));
    if msn > next.msn || msn + origin.timeline.window + RETAINED < next.msn {
        return empty(StatusCode::NOT_FOUND);
    }
    let end = origin.timeline.segment_span(msn).1;
    if msn < next.msn {
        let published = origin.published_field(end);
        return media(request, origin.segment_bytes(track, msn), Some(&published));
    }
    if edition == Edition::Plain || origin.is_ended() {
        return empty(StatusCode::NOT_FOUND);
    }
    growing_segment(origin, request, track, msn).await
}

/// A segment that is still being made: whole parts, as they are published (LL-17, LL-20).
async fn growing_segment(
    origin: &Arc<Origin>,
    request: &http::Request<()>,
    track: usize,
    msn: u64,
) -> Response<OriginBody> {
    let mut response = Response::new(body::whole(Bytes::new()));
    let range = request
        .headers()
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let spec = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let fields = response.headers_mut();
    set(fields, header::CONTENT_TYPE, "video/mp4");
    set(fields, header::CACHE_CONTROL, MEDIA_LIFETIME);
    let Some((Ok(first), last)) = spec.map(|(first, last)| (first.parse::<u64>(), last)) else {
        return response.map(|_| body::growing(Arc::clone(origin), track, msn, 0));
    };
    let end = last
        .parse::<u64>()
        .ok()
        .filter(|last| *last < OPEN_RANGE && *last >= first);
    let Some(last) = end else {
        let last = if last.is_empty() {
            OPEN_RANGE.to_string()
        } else {
            last.to_owned()
        };
        set(
            fields,
            header::CONTENT_RANGE,
            &format!("bytes {first}-{last}/*"),
        );
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        return response.map(|_| body::growing(Arc::clone(origin), track, msn, first));
    };
    let Some(bytes) = wait_for_bytes(origin, track, msn, last).await else {
        return empty(StatusCode::RANGE_NOT_SATISFIABLE);
    };
    let length = bytes.len() as u64;
    let (from, to) = (first.min(length), (last + 1).min(length));
    let slice = usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0);
    set(
        fields,
        header::CONTENT_RANGE,
        &format!("bytes {first}-{}/*", to.saturating_sub(1)),
    );
    set(fields, header::CONTENT_LENGTH, &slice.len().to_string());
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    response.map(|_| body::whole(bytes.slice(slice)))
}

/// Waits until byte `last` of a segment is published; returns the bytes so far.
async fn wait_for_bytes(origin: &Origin, track: usize, msn: u64, last: u64) -> Option<Bytes> {
    let mut so_far = bytes::BytesMut::new();
    for part in 0..origin.timeline.parts_per_segment() {
        let id = PartId { msn, part };
        sleep_until(origin.instant_of(origin.timeline.part_span(id).1)).await;
        so_far.extend_from_slice(&origin.part_bytes(track, id));
        if so_far.len() as u64 > last {
            return Some(so_far.freeze());
        }
    }
    None
}

/// RFC 8673: the last position of a range without end.
const OPEN_RANGE: u64 = 9_007_199_254_740_991;

/// Segments that stay after they left the playlist (LL-21).
const RETAINED: u64 = 20;
