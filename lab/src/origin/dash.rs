//! MPDs as text: low-latency, live and on demand, of the same media (ISO/IEC 23009-1).
//!
//! What is here: the manifest of an endless presentation in one period. At low latency its segments are
//! counted by a nominal duration, so that the text stays the same; the other two list their segments,
//! so that the live one changes with each of them. Who calls it: the origin, once for every version of
//! a `manifest.mpd`. Deliberately not here: the time, which comes in as a value; patches (`patches`); and
//! events, which this origin has none of.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::wall::iso_8601;

/// What a manifest says of one rendition.
#[derive(Clone, Debug)]
pub(crate) struct DashTrack<'a> {
    /// Its identity, and the folder its segments are in.
    pub name: &'a str,
    /// As RFC 6381 writes it.
    pub codec: String,
    pub is_audio: bool,
    /// Width and height in pixels.
    pub resolution: Option<(u32, u32)>,
    /// Frames per second.
    pub frame_rate: Option<f64>,
    /// Bits per second.
    pub bandwidth: u64,
    /// Units per second of the media's own times; makes a fraction of the frame rate.
    pub timescale: u32,
    /// Samples per second.
    pub audio_sampling_rate: Option<u32>,
    /// The segments, where they are listed and not counted.
    pub segments: Option<SegmentList>,
}

/// Segments one by one: their times in units of the timescale.
#[derive(Clone, Debug)]
pub(crate) struct SegmentList {
    /// Number of the first one.
    pub first: u64,
    /// Begin and duration of each.
    pub times: Vec<(u64, u64)>,
}

/// What a manifest is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Segments are asked for while they grow.
    LowLatency,
    /// Segments are asked for once they are whole.
    Live,
    /// What was live and is over after this time.
    Ended(Duration),
    /// One loop, all of it there.
    OnDemand {
        /// Duration of the media.
        loop_duration: Duration,
    },
}

/// Renders the manifest of `tracks` in segments of `segment`, whole milliseconds, from number zero.
///
/// `window` counts segments; `availability_start` is the wall time at which segment zero begins, and
/// `time_url` answers with the time, for players to set their clocks by (LD-13). On demand, neither
/// times nor `window` are said, so that the text never changes.
#[expect(
    clippy::too_many_arguments,
    reason = "each is one independent fact of the one text; there is one caller"
)]
pub(crate) fn manifest(
    profile: Profile,
    tracks: &[DashTrack<'_>],
    segment: Duration,
    part: Duration,
    window: u64,
    availability_start: SystemTime,
    publish_time: SystemTime,
    time_url: &str,
    patches: Option<&str>,
) -> String {
    let manifest = Manifest {
        profile,
        segment,
        part: part.min(segment),
        window,
        start: iso_8601(round_up(availability_start)),
        published: iso_8601(publish_time),
        time_url,
        patches,
    };
    manifest.render(tracks)
}

/// What is the same for all renditions.
struct Manifest<'a> {
    profile: Profile,
    segment: Duration,
    part: Duration,
    window: u64,
    start: String,
    published: String,
    time_url: &'a str,
    /// The element that says where the patches of this version are, if there are any.
    patches: Option<&'a str>,
}

impl Manifest<'_> {
    fn render(&self, tracks: &[DashTrack<'_>]) -> String {
        let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        append(&mut text, format_args!("<MPD{}>\n", self.root()));
        if let Some(patches) = self.patches {
            append(&mut text, format_args!("  {patches}\n"));
        }
        if self.is_low_latency() {
            self.service_description(&mut text);
        }
        text.push_str("  <Period id=\"0\" start=\"PT0S\">\n");
        for is_audio in [false, true] {
            let mut tracks = tracks.iter().filter(|track| track.is_audio == is_audio);
            if tracks.clone().next().is_some() {
                self.adaptation_set(&mut text, is_audio, &mut tracks);
            }
        }
        text.push_str("  </Period>\n");
        if self.is_live() {
            append(&mut text, format_args!("  {}\n", self.clock()));
        }
        text.push_str("</MPD>\n");
        text
    }

    /// Returns the element that says where the time is.
    fn clock(&self) -> String {
        let mut utc = String::new();
        attribute(&mut utc, "schemeIdUri", "urn:mpeg:dash:utc:http-iso:2014");
        attribute(&mut utc, "value", self.time_url);
        format!("<UTCTiming{utc}/>")
    }

    /// Returns the attributes of the outermost element.
    fn root(&self) -> String {
        let mut root = String::new();
        attribute(&mut root, "xmlns", "urn:mpeg:dash:schema:mpd:2011");
        let profiles = if self.is_low_latency() {
            "urn:mpeg:dash:profile:isoff-live:2011,http://www.dashif.org/guidelines/low-latency-live-v5"
        } else {
            // On demand as well: the profile of that name wants one file with an index per rendition.
            "urn:mpeg:dash:profile:isoff-live:2011"
        };
        attribute(&mut root, "profiles", profiles);
        if self.patches.is_some() {
            attribute(&mut root, "id", MPD_ID);
        }
        attribute(&mut root, "minBufferTime", iso_duration(self.min_buffer()));
        if let Profile::OnDemand { loop_duration } = self.profile {
            attribute(&mut root, "type", "static");
            let whole = iso_duration(loop_duration);
            attribute(&mut root, "mediaPresentationDuration", whole);
            return root;
        }
        attribute(&mut root, "type", "dynamic");
        attribute(&mut root, "availabilityStartTime", &self.start);
        attribute(&mut root, "publishTime", &self.published);
        match self.profile {
            // ISO/IEC 23009-1 5.4: a duration and no update period say that this is the last one.
            Profile::Ended(whole) => {
                attribute(&mut root, "mediaPresentationDuration", iso_duration(whole));
            }
            Profile::Live => {
                attribute(&mut root, "minimumUpdatePeriod", iso_duration(self.segment));
            }
            Profile::LowLatency | Profile::OnDemand { .. } => {
                attribute(
                    &mut root,
                    "minimumUpdatePeriod",
                    iso_duration(UPDATE_PERIOD),
                );
            }
        }
        let depth = iso_duration(times(self.segment, self.window));
        attribute(&mut root, "timeShiftBufferDepth", depth);
        let delay = if self.is_low_latency() {
            self.latency_target()
        } else {
            self.segment * DELAY_SEGMENTS
        };
        attribute(&mut root, "suggestedPresentationDelay", iso_duration(delay));
        root
    }

    fn service_description(&self, text: &mut String) {
        let target = self.latency_target();
        append(
            text,
            format_args!(
                "  <ServiceDescription id=\"0\">\n    \
                 <Latency referenceId=\"0\" target=\"{}\" min=\"{}\" max=\"{}\"/>\n    \
                 <PlaybackRate min=\"0.96\" max=\"1.04\"/>\n  \
                 </ServiceDescription>\n",
                target.as_millis(),
                (target * 3 / 4).as_millis(),
                (target * 2).as_millis(),
            ),
        );
    }

    fn adaptation_set<'t>(
        &self,
        text: &mut String,
        is_audio: bool,
        tracks: &mut (dyn Iterator<Item = &'t DashTrack<'t>> + 't),
    ) {
        let tracks: Vec<_> = tracks.collect();
        let mut set = String::new();
        attribute(&mut set, "id", u8::from(is_audio));
        attribute(
            &mut set,
            "contentType",
            if is_audio { "audio" } else { "video" },
        );
        attribute(
            &mut set,
            "mimeType",
            if is_audio { "audio/mp4" } else { "video/mp4" },
        );
        if is_audio {
            attribute(&mut set, "lang", "und");
        }
        attribute(&mut set, "segmentAlignment", true);
        attribute(&mut set, "startWithSAP", 1);
        let sizes = tracks.iter().filter_map(|track| track.resolution);
        if let Some((width, height)) = sizes.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1))) {
            attribute(&mut set, "maxWidth", width);
            attribute(&mut set, "maxHeight", height);
        }
        append(text, format_args!("    <AdaptationSet{set}>\n"));
        if is_audio {
            text.push_str(STEREO);
        }
        if self.is_low_latency() {
            // What `Latency` is measured from: the frame at zero is encoded when availability starts.
            let mut reference = String::new();
            attribute(&mut reference, "id", 0);
            attribute(&mut reference, "type", "encoder");
            attribute(&mut reference, "wallClockTime", &self.start);
            attribute(&mut reference, "presentationTime", 0);
            // DASH-IF wants the same clock here: else a player cannot compare its own with the encoder's.
            append(
                text,
                format_args!(
                    "      <ProducerReferenceTime{reference}>\n        {}\n      \
                     </ProducerReferenceTime>\n",
                    self.clock()
                ),
            );
        }
        let listed = tracks.first().and_then(|track| {
            let list = track.segments.as_ref()?;
            Some((track.timescale, list))
        });
        match listed {
            Some((timescale, list)) => segment_timeline(text, timescale, list),
            None => append(
                text,
                format_args!("      <SegmentTemplate{}/>\n", self.template()),
            ),
        }
        for track in tracks {
            append(
                text,
                format_args!("      <Representation{}/>\n", representation(track)),
            );
        }
        text.push_str("    </AdaptationSet>\n");
    }

    /// Returns the attributes of the segment template, one for all renditions.
    fn template(&self) -> String {
        let mut template = String::new();
        attribute(&mut template, "media", MEDIA);
        attribute(&mut template, "initialization", INITIALIZATION);
        attribute(&mut template, "startNumber", 0);
        attribute(&mut template, "duration", self.segment.as_millis());
        attribute(&mut template, "timescale", 1000);
        if self.is_low_latency() {
            let offset = seconds(self.segment - self.part);
            attribute(&mut template, "availabilityTimeOffset", offset);
            attribute(&mut template, "availabilityTimeComplete", false);
        }
        template
    }

    fn is_low_latency(&self) -> bool {
        self.profile == Profile::LowLatency
    }

    fn is_live(&self) -> bool {
        !matches!(self.profile, Profile::OnDemand { .. })
    }

    /// Four parts: one that is being made, one under way, two to play from; 2 s for parts of 500 ms.
    fn latency_target(&self) -> Duration {
        (self.part * 4).max(LATENCY_MIN)
    }

    /// Players start no earlier than this is buffered: it must be well below the latency that is aimed at.
    fn min_buffer(&self) -> Duration {
        if self.is_low_latency() {
            (self.part * 2).min(self.segment)
        } else {
            self.segment
        }
    }
}

/// Appends a segment template that lists its segments.
fn segment_timeline(text: &mut String, timescale: u32, list: &SegmentList) {
    let mut template = String::new();
    attribute(&mut template, "media", MEDIA);
    attribute(&mut template, "initialization", INITIALIZATION);
    attribute(&mut template, "startNumber", list.first);
    attribute(&mut template, "timescale", timescale);
    append(
        text,
        format_args!("      <SegmentTemplate{template}>\n        <SegmentTimeline>\n"),
    );
    for time in &list.times {
        text.push_str(&listed(*time));
    }
    text.push_str("        </SegmentTimeline>\n      </SegmentTemplate>\n");
}

/// Returns the line of a timeline for a segment of this begin and duration.
pub(super) fn listed((begin, duration): (u64, u64)) -> String {
    format!("          <S t=\"{begin}\" d=\"{duration}\"/>\n")
}

/// Returns the attributes of a rendition.
fn representation(track: &DashTrack<'_>) -> String {
    let mut of_track = String::new();
    attribute(&mut of_track, "id", track.name);
    attribute(&mut of_track, "codecs", &track.codec);
    attribute(&mut of_track, "bandwidth", track.bandwidth);
    if let Some((width, height)) = track.resolution {
        attribute(&mut of_track, "width", width);
        attribute(&mut of_track, "height", height);
    }
    if let Some(rate) = track
        .frame_rate
        .and_then(|rate| fraction(rate, track.timescale))
    {
        attribute(&mut of_track, "frameRate", rate);
    }
    if let Some(rate) = track.audio_sampling_rate {
        attribute(&mut of_track, "audioSamplingRate", rate);
    }
    of_track
}

/// Returns a frame rate as whole numbers, as `@frameRate` must be: `25`, or `30000/1001`.
///
/// Exact if a frame lasts whole units of the timescale. `None` if it lasts none or too many.
fn fraction(rate: f64, timescale: u32) -> Option<String> {
    let units = (f64::from(timescale) / rate).round();
    if !(1.0..=f64::from(u32::MAX)).contains(&units) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked above, and NaN with it"
    )]
    let units = units as u32;
    let common = greatest_common_divisor(timescale, units);
    match (timescale / common, units / common) {
        (frames, 1) => Some(frames.to_string()),
        (frames, in_seconds) => Some(format!("{frames}/{in_seconds}")),
    }
}

/// Returns the greatest common divisor; not zero if `b` is not.
fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    let (mut a, mut b) = (a, b);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Returns the next whole millisecond, so that no player asks for a segment before it is there.
fn round_up(at: SystemTime) -> SystemTime {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let excess = since.subsec_nanos() % NANOSECONDS_PER_MILLISECOND;
    let missing = (NANOSECONDS_PER_MILLISECOND - excess) % NANOSECONDS_PER_MILLISECOND;
    at + Duration::from_nanos(u64::from(missing))
}

fn times(duration: Duration, factor: u64) -> Duration {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(nanoseconds.saturating_mul(factor))
}

/// Returns an `xs:duration`.
fn iso_duration(duration: Duration) -> String {
    format!("PT{}S", seconds(duration))
}

/// Returns seconds as a decimal number: exact, and no longer than it must be.
fn seconds(duration: Duration) -> String {
    let text = format!("{}.{:09}", duration.as_secs(), duration.subsec_nanos());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Appends an attribute, its value escaped.
fn attribute(text: &mut String, name: &str, value: impl std::fmt::Display) {
    append(text, format_args!(" {name}=\""));
    for character in value.to_string().chars() {
        match character {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            other => text.push(other),
        }
    }
    text.push('"');
}

fn append(text: &mut String, piece: std::fmt::Arguments<'_>) {
    text.write_fmt(piece)
        .expect("writing to a string does not fail");
}

/// The identity of a manifest with patches, by which they name it.
pub(super) const MPD_ID: &str = "lab";

const MEDIA: &str = "$RepresentationID$/seg$Number$.m4s";
const INITIALIZATION: &str = "$RepresentationID$/init.mp4";

/// How often players read the manifest again. Counted segments need no news, but a restart is news.
const UPDATE_PERIOD: Duration = Duration::from_secs(30);

/// How far behind the live edge players of whole segments stay, in segments: as in HLS.
const DELAY_SEGMENTS: u32 = 3;

/// The least latency that is aimed at, however short parts are: players need some for the network.
const LATENCY_MIN: Duration = Duration::from_millis(1500);

const NANOSECONDS_PER_MILLISECOND: u32 = 1_000_000;

/// The bundled sound is stereo.
const STEREO: &str = "      <AudioChannelConfiguration \
     schemeIdUri=\"urn:mpeg:dash:23003:3:audio_channel_configuration:2011\" value=\"2\"/>\n";

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use media::dash::{Limits, Mpd, PresentationType};

    use super::*;

    const SEGMENT: Duration = Duration::from_secs(2);
    const PART: Duration = Duration::from_millis(500);
    const WINDOW: u64 = 10;

    fn video(name: &str, height: u32) -> DashTrack<'_> {
        DashTrack {
            name,
            codec: "avc1.64001f".to_owned(),
            is_audio: false,
            resolution: Some((height * 16 / 9, height)),
            frame_rate: Some(30_000.0 / 1001.0),
            bandwidth: 1_500_000,
            timescale: 90_000,
            audio_sampling_rate: None,
            segments: None,
        }
    }

    fn audio(name: &str) -> DashTrack<'_> {
        DashTrack {
            name,
            codec: "mp4a.40.2".to_owned(),
            is_audio: true,
            resolution: None,
            frame_rate: None,
            bandwidth: 96_000,
            timescale: 48_000,
            audio_sampling_rate: Some(48_000),
            segments: None,
        }
    }

    /// 2024-02-29T23:59:59.250Z.
    fn start() -> Duration {
        Duration::from_millis(1_709_251_199_250)
    }

    fn render(profile: Profile, part: Duration, start: Duration) -> String {
        let tracks = [video("v0", 360), video("v1", 720), audio("a0")];
        let published = start + Duration::from_secs(20);
        let (start, published) = (UNIX_EPOCH + start, UNIX_EPOCH + published);
        manifest(
            profile, &tracks, SEGMENT, part, WINDOW, start, published, "/time", None,
        )
    }

    fn parse(text: &str) -> Mpd {
        let text = Bytes::copy_from_slice(text.as_bytes());
        Mpd::parse(text, &Limits::default()).expect("what is rendered is an MPD")
    }

    #[test]
    fn a_low_latency_manifest_says_when_a_segment_begins_to_grow() {
        let text = render(Profile::LowLatency, PART, start());
        let mpd = parse(&text);
        assert_eq!(mpd.presentation, PresentationType::Dynamic);
        assert_eq!(mpd.availability_start, Some(start()));
        assert_eq!(mpd.publish_time, Some(start() + Duration::from_secs(20)));
        assert_eq!(mpd.minimum_update_period, Some(UPDATE_PERIOD));
        assert_eq!(mpd.time_shift_buffer_depth, Some(SEGMENT * 10));
        assert_eq!(mpd.suggested_presentation_delay, Some(SEGMENT));
        assert_eq!(mpd.media_presentation_duration, None);
        assert_eq!(mpd.periods.len(), 1);
        assert_eq!(mpd.periods[0].start, Some(Duration::ZERO));
        assert_eq!(mpd.representations.len(), 3);
        for representation in &mpd.representations {
            assert!(representation.is_growing());
            let first_part_of_3 = start() + SEGMENT * 3 + PART;
            assert_eq!(mpd.available_at(representation, 3), Some(first_part_of_3));
            assert_eq!(mpd.last_available(representation, first_part_of_3), Some(3));
        }
        assert!(text.contains("availabilityTimeOffset=\"1.5\" availabilityTimeComplete=\"false\""));
        assert!(text.contains("target=\"2000\" min=\"1500\" max=\"4000\""));
        assert!(
            text.contains(" wallClockTime=\"2024-02-29T23:59:59.250Z\" presentationTime=\"0\"")
        );
        assert!(text.contains(" minBufferTime=\"PT1S\""));
    }

    #[test]
    fn a_live_manifest_has_whole_segments_only() {
        let text = render(Profile::Live, PART, start());
        let mpd = parse(&text);
        assert!(mpd.is_dynamic());
        assert!(!mpd.has_growing_segments());
        assert_eq!(mpd.suggested_presentation_delay, Some(SEGMENT * 3));
        let available = mpd.available_at(&mpd.representations[0], 3);
        assert_eq!(available, Some(start() + SEGMENT * 4));
        for low_latency in [
            "availabilityTime",
            "ServiceDescription",
            "ProducerReference",
            "low-lat",
        ] {
            let found = text
                .replace("availabilityStartTime", "")
                .contains(low_latency);
            assert!(!found, "{low_latency}");
        }
    }

    #[test]
    fn an_on_demand_manifest_is_static_and_never_changes() {
        let profile = Profile::OnDemand {
            loop_duration: Duration::from_millis(13_900),
        };
        let text = render(profile, PART, start());
        let mpd = parse(&text);
        assert_eq!(mpd.presentation, PresentationType::Static);
        let whole = Some(Duration::from_millis(13_900));
        assert_eq!(mpd.media_presentation_duration, whole);
        assert_eq!(mpd.availability_start, None);
        assert_eq!(mpd.minimum_update_period, None);
        assert!(mpd.utc_timings.is_empty());
        assert!(!mpd.has_growing_segments());
        assert_eq!(text, render(profile, PART, start() + SEGMENT));
    }

    #[test]
    fn listed_segments_are_told_one_by_one() {
        let tracks = [DashTrack {
            segments: Some(SegmentList {
                first: 7,
                times: vec![(672_768, 96_256), (769_024, 95_232)],
            }),
            ..audio("a0")
        }];
        let at = UNIX_EPOCH + start();
        let text = manifest(
            Profile::Live,
            &tracks,
            SEGMENT,
            PART,
            WINDOW,
            at,
            at,
            "/time",
            None,
        );
        let mpd = parse(&text);
        assert_eq!(mpd.representations.len(), 1);
        assert!(text.contains("startNumber=\"7\" timescale=\"48000\""));
        assert!(text.contains("<S t=\"672768\" d=\"96256\"/>"));
        assert!(text.contains("<S t=\"769024\" d=\"95232\"/>"));
        assert_eq!(mpd.minimum_update_period, Some(SEGMENT));
    }

    #[test]
    fn a_stream_that_is_over_says_how_long_it_was() {
        let text = render(Profile::Ended(SEGMENT * 12), PART, start());
        let mpd = parse(&text);
        assert!(mpd.is_dynamic());
        assert_eq!(mpd.media_presentation_duration, Some(SEGMENT * 12));
        assert_eq!(mpd.minimum_update_period, None);
    }

    #[test]
    fn segments_are_named_by_rendition_and_number() {
        let mpd = parse(&render(Profile::LowLatency, PART, start()));
        let audio = &mpd.representations[2];
        assert_eq!((audio.id.as_str(), audio.bandwidth), ("a0", 96_000));
        assert_eq!(audio.mime_type.as_deref(), Some("audio/mp4"));
        assert_eq!(audio.initialization_path().as_deref(), Some("a0/init.mp4"));
        let addressed = audio
            .segment_of("a0/seg7.m4s")
            .expect("the template names it");
        assert_eq!(audio.path_of(addressed).as_deref(), Some("a0/seg7.m4s"));
        let template = audio.template.as_ref().expect("there is a template");
        assert_eq!(template.first_number(), 0);
        assert_eq!(template.segment_duration(), Some(SEGMENT));
    }

    #[test]
    fn ld_13_players_of_live_streams_are_told_where_the_time_is() {
        for profile in [Profile::LowLatency, Profile::Live] {
            let mpd = parse(&render(profile, PART, start()));
            let [timing] = mpd.utc_timings.as_slice() else {
                panic!("one clock, not {:?}", mpd.utc_timings);
            };
            assert_eq!(timing.scheme, "urn:mpeg:dash:utc:http-iso:2014");
            assert_eq!(timing.value, "/time");
        }
        let text = render(Profile::LowLatency, PART, start());
        let reference = text.split("<ProducerReferenceTime ").nth(1).expect("one");
        let inside = reference
            .split("</ProducerReferenceTime>")
            .next()
            .expect("its end");
        let clock = "<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-iso:2014\" value=\"/time\"/>";
        assert!(inside.contains(clock), "{inside}");
        assert_eq!(text.matches(clock).count(), 3, "video, audio, and the MPD");
    }

    #[test]
    fn availability_starts_no_earlier_than_it_does() {
        let whole = start();
        let tenth = Duration::from_micros(100);
        for (at, said) in [
            (whole, whole),
            (whole + tenth, whole + tenth * 10),
            (whole + tenth * 9, whole + tenth * 10),
        ] {
            let mpd = parse(&render(Profile::Live, PART, at));
            assert_eq!(mpd.availability_start, Some(said));
        }
    }

    #[test]
    fn parts_that_do_not_fit_their_segment_shift_availability_by_the_first() {
        for (part_ms, offset) in [(333, "1.667"), (200, "1.8"), (2000, "0")] {
            let text = render(Profile::LowLatency, Duration::from_millis(part_ms), start());
            let expected = format!("availabilityTimeOffset=\"{offset}\"");
            assert!(text.contains(&expected), "{part_ms} ms: {text}");
            let mpd = parse(&text);
            let target = mpd.suggested_presentation_delay.expect("it is always said");
            assert!(target >= LATENCY_MIN && target >= Duration::from_millis(part_ms * 4));
        }
    }

    #[test]
    fn frame_rates_are_fractions_of_whole_numbers() {
        let rate = |rate, timescale| fraction(rate, timescale);
        assert_eq!(rate(25.0, 12_800).as_deref(), Some("25"));
        assert_eq!(rate(29.97, 90_000).as_deref(), Some("30000/1001"));
        assert_eq!(rate(12.5, 1000).as_deref(), Some("25/2"));
        for (wrong, timescale) in [(0.0, 1000), (-25.0, 1000), (f64::NAN, 1000), (25.0, 0)] {
            assert_eq!(rate(wrong, timescale), None, "{wrong} of {timescale}");
        }
    }

    #[test]
    fn renditions_are_sorted_into_sets_that_tell_their_largest() {
        let text = render(Profile::Live, PART, start());
        assert_eq!(text.matches("<AdaptationSet").count(), 2);
        assert!(text.contains(" maxWidth=\"1280\" maxHeight=\"720\""));
        assert!(text.contains(" width=\"640\" height=\"360\" frameRate=\"30000/1001\""));
        assert!(text.contains(" lang=\"und\""));
        assert!(text.contains("audio_channel_configuration:2011\" value=\"2\""));
        assert!(text.contains(" bandwidth=\"96000\" audioSamplingRate=\"48000\""));
        let alone = [audio("a0")];
        let text = manifest(
            Profile::Live,
            &alone,
            SEGMENT,
            PART,
            WINDOW,
            UNIX_EPOCH,
            UNIX_EPOCH,
            "/time",
            None,
        );
        assert_eq!(text.matches("<AdaptationSet").count(), 1);
        assert!(!text.contains("video"));
    }

    #[test]
    fn values_are_escaped_and_read_back_as_they_were() {
        let tracks = [video("<\"v&0'>", 360)];
        let time_url = "/time?a=1&b=\"2\"";
        let text = manifest(
            Profile::Live,
            &tracks,
            SEGMENT,
            PART,
            WINDOW,
            UNIX_EPOCH,
            UNIX_EPOCH,
            time_url,
            None,
        );
        let mpd = parse(&text);
        assert_eq!(mpd.representations[0].id, "<\"v&0'>");
        assert_eq!(mpd.utc_timings[0].value, time_url);
        assert_eq!(mpd.availability_start, Some(Duration::ZERO));
    }

    #[test]
    fn durations_are_exact_and_short() {
        for (nanoseconds, text) in [
            (0, "PT0S"),
            (2_000_000_000, "PT2S"),
            (10_500_000_000, "PT10.5S"),
            (1, "PT0.000000001S"),
        ] {
            assert_eq!(iso_duration(Duration::from_nanos(nanoseconds)), text);
        }
    }
}
