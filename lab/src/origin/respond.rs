//! Answers: what a request for a resource gets, at this moment or when it is time.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use tokio::time::{Instant, sleep_until};

use super::body::{self, OriginBody};
use super::counts::Family;
use super::dash::{self, DashTrack, Profile};
use super::fault::Action;
use super::hls::{self, MediaPlaylistOf, PartsAs};
use super::presentation::Origin;
use super::resource::{Edition, Resource};
use super::server::Connection;
use super::timeline::PartId;
use super::wall;
use crate::media::Track;

/// The connection is broken instead of answered.
#[derive(Debug)]
pub(crate) struct NoAnswer;

/// What the faults a request met change about its answer.
struct Mood {
    actions: Vec<Action>,
    /// How far behind the presentation seems.
    behind: Duration,
    suffix: String,
}

/// Answers a request.
pub(crate) async fn to(
    origin: &Arc<Origin>,
    request: &http::Request<()>,
    connection: &Connection,
) -> Result<Response<OriginBody>, NoAnswer> {
    if let Some(page) = origin
        .config
        .extra
        .as_ref()
        .and_then(|extra| extra(request))
    {
        return Ok(page.map(body::whole));
    }
    let path = request.uri().path();
    let actions = origin.meet_faults(path);
    for action in &actions {
        match *action {
            Action::Stall => std::future::pending().await,
            Action::StallFor(time) => sleep_until(Instant::now() + time).await,
            Action::Status(status) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
                return Ok(empty(status));
            }
            Action::ResetBeforeHead => {
                connection.reset_on_close();
                return Err(NoAnswer);
            }
            _ => {}
        }
    }
    let names = origin.track_names();
    let mood = Mood::of(origin, actions, request.uri().query());
    let mut response = match Resource::of(path, &names) {
        None => empty(StatusCode::NOT_FOUND),
        Some(resource) => resource_response(origin, request, resource, &mood).await,
    };
    finish(request, &mood, response.headers_mut());
    let is_head = request.method() == Method::HEAD;
    Ok(response.map(|sound| {
        if is_head {
            body::whole(Bytes::new())
        } else {
            body::broken(sound, &mood.actions, connection)
        }
    }))
}

impl Mood {
    fn of(origin: &Origin, actions: Vec<Action>, query: Option<&str>) -> Self {
        let mut mood = Self {
            actions,
            behind: Duration::ZERO,
            suffix: String::new(),
        };
        for action in &mood.actions {
            match *action {
                Action::LatePart(late) => mood.behind += late,
                Action::MsnRegress(by) => {
                    mood.behind += origin.timeline.segment * u32::try_from(by).unwrap_or(u32::MAX);
                }
                Action::EchoQuery => {
                    let sent = query
                        .unwrap_or("")
                        .split('&')
                        .filter(|p| !p.starts_with("_HLS_"));
                    let sent: Vec<_> = sent.filter(|p| !p.is_empty()).collect();
                    if !sent.is_empty() {
                        mood.suffix = format!("?{}", sent.join("&"));
                    }
                }
                _ => {}
            }
        }
        mood
    }

    fn has(&self, wanted: Action) -> bool {
        self.actions.contains(&wanted)
    }
}

async fn resource_response(
    origin: &Arc<Origin>,
    request: &http::Request<()>,
    resource: Resource,
    mood: &Mood,
) -> Response<OriginBody> {
    let url = request.uri().path_and_query().map_or("/", |pq| pq.as_str());
    let note = |family, object: String| origin.ledger.note(family, object, url);
    match resource {
        Resource::Multivariant(_) => {
            note(Family::Other, request.uri().path().to_owned());
            let text = hls::multivariant(&origin.hls_tracks(), &mood.suffix);
            playlist(request, text, "max-age=5")
        }
        Resource::Playlist(Edition::OnDemand, track) => {
            note(Family::Other, request.uri().path().to_owned());
            let duration = |msn| origin.segment_duration(track, msn);
            let segments = origin.loop_segments();
            let text = hls::on_demand(segments, origin.timeline.segment, &duration);
            playlist(request, text, "max-age=3600")
        }
        Resource::Playlist(edition, track) => {
            live_playlist(origin, request, edition, track, mood).await
        }
        Resource::Manifest(edition) => {
            note(Family::Other, request.uri().path().to_owned());
            manifest(origin, edition)
        }
        Resource::Init(track) => {
            note(Family::Other, request.uri().path().to_owned());
            let bytes = origin
                .tracks
                .get(track)
                .map(Track::init_segment)
                .unwrap_or_default();
            media(request, bytes, None)
        }
        Resource::Part(track, id) => {
            note(Family::Part, format!("{track}/{}.{}", id.msn, id.part));
            part(origin, request, track, id, mood).await
        }
        Resource::Segment(edition, track, msn) => {
            note(Family::Segment, format!("{track}/{msn}"));
            segment(origin, request, edition, track, msn, mood).await
        }
        Resource::Time => {
            let text = wall::iso_8601(origin.now());
            of_text(text, "text/plain; charset=utf-8", "no-store")
        }
        Resource::Counts => {
            let text = serde_json::to_string(&origin.counts()).unwrap_or_default();
            of_text(text, "application/json", "no-store")
        }
        Resource::Reset => {
            origin.reset_counts();
            of_text(
                String::from("forgotten\n"),
                "text/plain; charset=utf-8",
                "no-store",
            )
        }
    }
}

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

async fn live_playlist(
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

async fn part(
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

async fn segment(
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

fn manifest(origin: &Origin, edition: Edition) -> Response<OriginBody> {
    let describe = |track: &'_ Track| DashTrack {
        name: track.name(),
        codec: track.codec(),
        is_audio: track.is_audio(),
        resolution: track.resolution(),
        frame_rate: track.frame_rate(),
        bandwidth: track.bandwidth(),
        timescale: track.timescale(),
        audio_sampling_rate: track.is_audio().then(|| track.timescale()),
    };
    let tracks: Vec<_> = origin.tracks.iter().map(describe).collect();
    let profile = match edition {
        Edition::LowLatency => Profile::LowLatency,
        Edition::Plain => Profile::Live,
        Edition::OnDemand => {
            let whole = origin
                .tracks
                .first()
                .map_or(Duration::ZERO, Track::loop_duration);
            Profile::OnDemand {
                loop_duration: whole,
            }
        }
    };
    let timeline = &origin.timeline;
    let text = dash::manifest(
        profile,
        &tracks,
        timeline.segment,
        timeline.part,
        timeline.window,
        origin.epoch(),
        origin.now(),
        "/time",
    );
    of_text(text, "application/dash+xml", "max-age=1")
}

/// A playlist, compressed if the client takes that (LL-26).
fn playlist(
    request: &http::Request<()>,
    text: String,
    cache_control: &str,
) -> Response<OriginBody> {
    let accepted = request.headers().get(header::ACCEPT_ENCODING);
    let takes_gzip = accepted
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains("gzip"));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let packed = encoder
        .write_all(text.as_bytes())
        .and_then(|()| encoder.finish());
    let mut response = of_text(text, "application/vnd.apple.mpegurl", cache_control);
    set(response.headers_mut(), header::VARY, "Accept-Encoding");
    if let (true, Ok(packed)) = (takes_gzip, packed) {
        set(response.headers_mut(), header::CONTENT_ENCODING, "gzip");
        set(
            response.headers_mut(),
            header::CONTENT_LENGTH,
            &packed.len().to_string(),
        );
        response = response.map(|_| body::whole(Bytes::from(packed)));
    }
    response
}

/// A finished piece of media: whole, or the range that is asked for (RFC 9110 14).
fn media(
    request: &http::Request<()>,
    bytes: Bytes,
    published: Option<&str>,
) -> Response<OriginBody> {
    let mut response = Response::new(body::whole(Bytes::new()));
    let length = bytes.len();
    let fields = response.headers_mut();
    set(fields, header::CONTENT_TYPE, "video/mp4");
    set(fields, header::CACHE_CONTROL, MEDIA_LIFETIME);
    set(fields, header::ACCEPT_RANGES, "bytes");
    set(
        fields,
        header::ETAG,
        &format!("\"{length:x}-{:x}\"", checksum(request.uri().path())),
    );
    if let Some(published) = published {
        set(fields, PUBLISHED, published);
    }
    let range = request
        .headers()
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let spec = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let span = match spec {
        Some(("", suffix)) => suffix
            .parse()
            .ok()
            .map(|n: usize| length.saturating_sub(n)..length),
        Some((first, last)) => first.parse().ok().map(|first: usize| {
            let end = last
                .parse()
                .map_or(length, |last: usize| last.saturating_add(1).min(length));
            first..end
        }),
        None => None,
    };
    let Some(span) = span else {
        set(fields, header::CONTENT_LENGTH, &length.to_string());
        return response.map(|_| body::whole(bytes));
    };
    if span.is_empty() || span.end > length {
        set(fields, header::CONTENT_RANGE, &format!("bytes */{length}"));
        *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
        return response;
    }
    let content_range = format!("bytes {}-{}/{length}", span.start, span.end - 1);
    set(fields, header::CONTENT_RANGE, &content_range);
    set(fields, header::CONTENT_LENGTH, &span.len().to_string());
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    response.map(|_| body::whole(bytes.slice(span)))
}

fn of_text(text: String, content_type: &str, cache_control: &str) -> Response<OriginBody> {
    let bytes = Bytes::from(text);
    let length = bytes.len().to_string();
    let mut response = Response::new(body::whole(bytes));
    let fields = response.headers_mut();
    set(fields, header::CONTENT_TYPE, content_type);
    set(fields, header::CACHE_CONTROL, cache_control);
    set(fields, header::CONTENT_LENGTH, &length);
    response
}

fn empty(status: StatusCode) -> Response<OriginBody> {
    let mut response = Response::new(body::whole(Bytes::new()));
    *response.status_mut() = status;
    set(response.headers_mut(), header::CONTENT_LENGTH, "0");
    if status == StatusCode::SERVICE_UNAVAILABLE {
        set(response.headers_mut(), header::RETRY_AFTER, "1");
    }
    response
}

fn finish(request: &http::Request<()>, mood: &Mood, fields: &mut HeaderMap) {
    if mood.has(Action::NoCache) {
        set(fields, header::CACHE_CONTROL, "no-cache");
    }
    set(fields, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(
        fields,
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        "Age, Date, Seawall-Published",
    );
    if request.method() == Method::OPTIONS {
        set(fields, header::ACCESS_CONTROL_ALLOW_HEADERS, "Range");
    }
}

fn set(fields: &mut HeaderMap, name: impl header::IntoHeaderName, value: &str) {
    // Everything we write is visible ASCII, but for a query that a fault echoes.
    if let Ok(value) = HeaderValue::from_str(value) {
        fields.insert(name, value);
    }
}

/// FNV-1a: enough to tell the paths of one presentation apart.
fn checksum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// When a part, a segment or a playlist version was published, in milliseconds since 1970.
const PUBLISHED: header::HeaderName = header::HeaderName::from_static("seawall-published");

const MEDIA_LIFETIME: &str = "max-age=3600";

/// RFC 8673: the last position of a range without end.
const OPEN_RANGE: u64 = 9_007_199_254_740_991;

/// Segments that stay after they left the playlist (LL-21).
const RETAINED: u64 = 20;
