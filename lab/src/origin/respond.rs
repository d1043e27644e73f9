//! Answers: what a request for a resource gets, at this moment or when it is time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use tokio::time::{Instant, sleep_until};

use super::answers::{empty, media, of_text, playlist, set};
use super::body::{self, OriginBody};
use super::counts::Family;
use super::dash::{self, DashTrack, Profile};
use super::fault::Action;
use super::hls;
use super::live::{live_playlist, part, segment};
use super::presentation::Origin;
use super::resource::{Edition, Resource};
use super::server::Connection;

use super::wall;
use crate::media::Track;

/// The connection is broken instead of answered.
#[derive(Debug)]
pub(crate) struct NoAnswer;

/// What the faults a request met change about its answer.
pub(super) struct Mood {
    pub(super) actions: Vec<Action>,
    /// How far behind the presentation seems.
    pub(super) behind: Duration,
    pub(super) suffix: String,
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

    pub(super) fn has(&self, wanted: Action) -> bool {
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
