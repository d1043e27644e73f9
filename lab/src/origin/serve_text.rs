//! Answers for playlists and manifests: each version is rendered and compressed once.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header;
use http::{Response, StatusCode};

use super::address::{self, DeliveryDirectives, Flavor};
use super::body::OriginBody;
use super::dash::{self, DashTrack, Profile, SegmentList};
use super::headers::{Ask, PUBLISHED, accepts_gzip, not_modified, refusal, set, set_max_age};
use super::instance::Origin;
use super::live::Edge;
use super::multivariant::multivariant;
use super::playlist::{self, MediaPlaylist};
use super::presentation::{ObjectKind, Rendition};
use super::reload::{self, Reload};
use super::wall::unix_milliseconds;

/// Identity of a playlist's or manifest's text.
#[derive(Debug, PartialEq)]
pub(crate) struct TextKey {
    pub(super) kind: ObjectKind,
    pub(super) flavor: Flavor,
    pub(super) rendition: &'static str,
    pub(super) edge: Option<Edge>,
    pub(super) is_delta: bool,
    pub(super) query: String,
}

/// A text in both encodings.
#[derive(Debug)]
pub(crate) struct Text {
    plain: Bytes,
    gzip: Bytes,
    tag: u64,
}

impl Origin {
    pub(crate) fn multivariant(&self, flavor: Flavor, ask: &Ask<'_>) -> Response<OriginBody> {
        let query = echo(ask);
        let key = TextKey {
            kind: ObjectKind::Multivariant,
            flavor,
            rendition: "",
            edge: None,
            is_delta: false,
            query: query.clone(),
        };
        let text = self.text(key, || multivariant(&self.show, &query));
        self.counters
            .object(ObjectKind::Multivariant, ask.path.to_owned());
        text_response(ask, &text, HLS_TYPE, 10)
    }

    pub(crate) fn mpd(
        &self,
        flavor: Flavor,
        has_patches: bool,
        ask: &Ask<'_>,
    ) -> Response<OriginBody> {
        let edge = self.live.edge();
        let cadence = self.show.cadence;
        let complete = edge.complete_segments(cadence);
        // What the text depends on, so that it is rendered once per version.
        let published = match flavor {
            Flavor::Live | Flavor::Plain if edge.has_ended => edge.published,
            Flavor::Live if self.show.low_latency => 0,
            Flavor::Live | Flavor::Plain => cadence.parts_of(complete).start,
            Flavor::Vod => 0,
        };
        let version = Edge {
            published,
            renamed: Arc::default(),
            ..edge
        };
        self.counters.object(
            ObjectKind::Mpd,
            format!("{} g{} {published}", ask.path, version.generation),
        );
        let key = TextKey {
            kind: ObjectKind::Mpd,
            flavor,
            rendition: "",
            edge: Some(version.clone()),
            // The text with patches is another one.
            is_delta: has_patches,
            query: String::new(),
        };
        let text = self.text(key, || self.manifest(flavor, &version, has_patches));
        let max_age = match flavor {
            Flavor::Vod => VOD_MAX_AGE,
            Flavor::Live | Flavor::Plain => (self.show.target_seconds() / 2).max(1),
        };
        text_response(ask, &text, "application/dash+xml", max_age)
    }

    fn manifest(&self, flavor: Flavor, edge: &Edge, has_patches: bool) -> String {
        let show = &self.show;
        let is_low_latency = flavor == Flavor::Live && show.low_latency;
        let profile = match flavor {
            Flavor::Vod => Profile::OnDemand {
                loop_duration: Duration::from_secs(show.loop_seconds()),
            },
            Flavor::Live | Flavor::Plain if edge.has_ended => {
                Profile::Ended(show.cadence.start_of(edge.published))
            }
            Flavor::Live if is_low_latency => Profile::LowLatency,
            Flavor::Live | Flavor::Plain => Profile::Live,
        };
        let tracks: Vec<DashTrack<'_>> = show
            .renditions
            .iter()
            .map(|of| DashTrack {
                name: of.name(),
                codec: of.track.codec(),
                is_audio: of.track.is_audio(),
                resolution: of.track.resolution(),
                frame_rate: of.track.frame_rate(),
                bandwidth: of.bits_per_second,
                timescale: of.track.timescale(),
                audio_sampling_rate: of.track.is_audio().then(|| of.track.timescale()),
                segments: (!is_low_latency).then(|| self.segment_list(flavor, of, edge)),
            })
            .collect();
        let zero = self.clock.wall(edge.zero);
        // Published when it last changed, so that the text of a version is always the same.
        let changed = self
            .clock
            .wall(edge.zero + show.cadence.start_of(edge.published));
        let patches = (has_patches && profile == Profile::Live).then(|| self.patch_location(edge));
        dash::manifest(
            profile,
            &tracks,
            Duration::from_secs(show.cadence.segment_seconds),
            Duration::from_secs_f64(show.cadence.part_seconds()),
            show.window,
            zero,
            changed,
            "/time",
            patches.as_deref(),
        )
    }

    pub(super) fn segment_list(&self, flavor: Flavor, of: &Rendition, edge: &Edge) -> SegmentList {
        let show = &self.show;
        let complete = edge.complete_segments(show.cadence);
        let segments = match flavor {
            Flavor::Vod => 0..show.vod_segments(),
            Flavor::Live | Flavor::Plain => complete.saturating_sub(show.window)..complete,
        };
        let times = segments.clone().map(|msn| {
            let (from, to) = match flavor {
                Flavor::Vod => show.vod_span(msn),
                Flavor::Live | Flavor::Plain => show.cadence.span(edge.parts_of(show.cadence, msn)),
            };
            let ticks = of.track.ticks(from, to);
            (ticks.start, ticks.end - ticks.start)
        });
        SegmentList {
            first: segments.start,
            times: times.collect(),
        }
    }

    pub(crate) async fn low_latency_playlist(
        &self,
        rendition: &Rendition,
        ask: &Ask<'_>,
    ) -> Response<OriginBody> {
        let Ok(directives) = DeliveryDirectives::parse(ask.query) else {
            return refusal(StatusCode::BAD_REQUEST);
        };
        let cadence = self.show.cadence;
        let check = |edge: &Edge| {
            // A broadcast that just began has nothing to list yet.
            if edge.published == 0 {
                return None;
            }
            match reload::decide(cadence, edge, directives) {
                Reload::Now => Some(Ok(edge.clone())),
                Reload::When(_) => None,
                Reload::TooFar => Some(Err(StatusCode::BAD_REQUEST)),
            }
        };
        let mut edge = match self.held(check).await {
            Some(Ok(edge)) => edge,
            Some(Err(status)) => return refusal(status),
            // LL-09.
            None => return refusal(StatusCode::SERVICE_UNAVAILABLE),
        };
        if ask.plan.regress_segments > 0 {
            edge = edge.regressed(cadence, ask.plan.regress_segments);
        }
        let query = echo(ask);
        // LL-11: nothing can be skipped at the end.
        let is_delta = directives.wants_delta && !edge.has_ended;
        let newest = edge.published - 1;
        let place = cadence.position(newest);
        self.counters.object(
            ObjectKind::Playlist,
            format!(
                "{} g{} {}.{}",
                ask.path, edge.generation, place.msn, place.part_index
            ),
        );
        let key = TextKey {
            kind: ObjectKind::Playlist,
            flavor: Flavor::Live,
            rendition: rendition.name(),
            edge: Some(edge.clone()),
            is_delta,
            query: query.clone(),
        };
        let zero = self.clock.wall(edge.zero);
        let text = self.text(key, || {
            let list = MediaPlaylist {
                show: &self.show,
                rendition,
                edge: &edge,
                zero,
                query: &query,
            };
            list.low_latency(is_delta)
        });
        let target = self.show.target_seconds();
        let max_age = if directives.msn.is_some() {
            6 * target
        } else {
            target / 2
        };
        let mut response = text_response(ask, &text, HLS_TYPE, max_age);
        self.set_published(&mut response, newest);
        response
    }

    pub(crate) fn plain_playlist(
        &self,
        flavor: Flavor,
        rendition: &Rendition,
        ask: &Ask<'_>,
    ) -> Response<OriginBody> {
        let cadence = self.show.cadence;
        let mut edge = self.live.edge();
        if ask.plan.regress_segments > 0 {
            edge = edge.regressed(cadence, ask.plan.regress_segments);
        }
        let complete = edge.complete_segments(cadence);
        // Between two segments the text stays the same.
        let version = Edge {
            published: cadence.parts_of(complete).start.min(edge.published),
            renamed: Arc::default(),
            ..edge
        };
        let query = echo(ask);
        let is_vod = flavor == Flavor::Vod;
        let key = TextKey {
            kind: ObjectKind::Playlist,
            flavor,
            rendition: rendition.name(),
            edge: (!is_vod).then(|| version.clone()),
            is_delta: false,
            query: query.clone(),
        };
        let zero = self.clock.wall(version.zero);
        let text = self.text(key, || {
            if is_vod {
                return playlist::vod(&self.show, rendition, &query);
            }
            let list = MediaPlaylist {
                show: &self.show,
                rendition,
                edge: &version,
                zero,
                query: &query,
            };
            list.plain()
        });
        let name = if is_vod {
            ask.path.to_owned()
        } else {
            format!("{} g{} {complete}", ask.path, version.generation)
        };
        self.counters.object(ObjectKind::Playlist, name);
        let target = self.show.target_seconds();
        let max_age = if is_vod { VOD_MAX_AGE } else { target / 2 };
        let mut response = text_response(ask, &text, HLS_TYPE, max_age);
        if let Some(newest) = version.published.checked_sub(1).filter(|_| !is_vod) {
            self.set_published(&mut response, newest);
        }
        response
    }

    /// Says when part `number` was or will be published.
    pub(crate) fn set_published(&self, response: &mut Response<OriginBody>, number: u64) {
        let wall = self.clock.wall(self.live.published_at(number));
        set(response, PUBLISHED, &unix_milliseconds(wall));
    }

    pub(super) fn text(&self, key: TextKey, render: impl FnOnce() -> String) -> Arc<Text> {
        self.texts
            .get_or_make(key, || Arc::new(Text::new(render())))
    }
}

const VOD_MAX_AGE: u64 = 3600;
const HLS_TYPE: &str = "application/vnd.apple.mpegurl";

impl Text {
    fn new(text: String) -> Self {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder
            .write_all(text.as_bytes())
            .expect("a vector takes every byte");
        let gzip = encoder.finish().expect("a vector takes every byte");
        Self {
            tag: fingerprint(text.as_bytes()),
            plain: text.into(),
            gzip: gzip.into(),
        }
    }
}

/// FNV-1a over 64 bits: tells versions of our own texts apart, nothing more.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Returns what child URIs end with: nothing, unless the origin echoes queries.
fn echo(ask: &Ask<'_>) -> String {
    if !ask.plan.echoes_query {
        return String::new();
    }
    // A quote would end the attribute that the URI stands in.
    match address::echoed_query(ask.query).replace('"', "%22") {
        query if query.is_empty() => query,
        query => format!("?{query}"),
    }
}

pub(super) fn text_response(
    ask: &Ask<'_>,
    text: &Text,
    content_type: &str,
    max_age_seconds: u64,
) -> Response<OriginBody> {
    let accepts_gzip = ask
        .headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .is_some_and(accepts_gzip);
    let (bytes, tag) = if accepts_gzip {
        (&text.gzip, format!("\"{:016x}-gz\"", text.tag))
    } else {
        (&text.plain, format!("\"{:016x}\"", text.tag))
    };
    let mut response = Response::new(OriginBody::full(bytes.clone()));
    if accepts_gzip {
        set(&mut response, header::CONTENT_ENCODING, "gzip");
    }
    set(&mut response, header::VARY, "Accept-Encoding");
    set(&mut response, header::CONTENT_TYPE, content_type);
    set_max_age(&mut response, max_age_seconds);
    set(&mut response, header::ETAG, &tag);
    not_modified(ask, response)
}
