//! Playlists as text: low-latency, plain and on demand, of the same media (rfc8216bis).

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use super::timeline::{PartId, Timeline};

/// What a playlist says of one rendition.
#[derive(Clone, Debug)]
pub(crate) struct HlsTrack<'a> {
    pub name: &'a str,
    pub codec: String,
    pub is_audio: bool,
    pub resolution: Option<(u32, u32)>,
    pub frame_rate: Option<f64>,
    pub bandwidth: u64,
}

/// How parts are addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartsAs {
    /// Each part is a file.
    Files,
    /// Each part is a range of its segment.
    ByteRanges,
}

/// What a media playlist is made from.
pub(crate) struct MediaPlaylistOf<'a> {
    pub timeline: &'a Timeline,
    /// The first part that is not published.
    pub next: PartId,
    /// The wall time of the timeline's beginning.
    pub epoch: SystemTime,
    /// Parts, hints and the rest of the low-latency tags; `None` for a plain playlist.
    pub parts_as: Option<PartsAs>,
    pub is_ended: bool,
    pub is_delta: bool,
    /// The names of the other renditions, for reports.
    pub siblings: Vec<&'a str>,
    /// Appended to every child URI.
    pub suffix: &'a str,
    /// The declared part target: audio frames do not fit part durations exactly.
    pub part_target: Duration,
    pub hint_is_wrong: bool,
    /// Duration, whether it starts with a sync sample, and bytes of a part.
    pub part_facts: &'a dyn Fn(PartId) -> PartFacts,
    pub segment_duration: &'a dyn Fn(u64) -> Duration,
}

/// What a playlist says of one part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartFacts {
    pub duration: Duration,
    pub is_independent: bool,
    pub bytes: u64,
    /// Where it begins in its segment.
    pub offset: u64,
}

/// Renders the multivariant playlist.
pub(crate) fn multivariant(tracks: &[HlsTrack<'_>], suffix: &str) -> String {
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    let audio = tracks.iter().find(|track| track.is_audio);
    if let Some(audio) = audio {
        line(
            &mut text,
            format_args!(
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Main\",DEFAULT=YES,AUTOSELECT=YES,\
                 CHANNELS=\"2\",URI=\"{}/playlist.m3u8{suffix}\"",
                audio.name
            ),
        );
    }
    for video in tracks.iter().filter(|track| !track.is_audio) {
        let mut codecs = video.codec.clone();
        let mut bandwidth = video.bandwidth;
        if let Some(audio) = audio {
            codecs = format!("{codecs},{}", audio.codec);
            bandwidth += audio.bandwidth;
        }
        let mut attributes = format!("BANDWIDTH={bandwidth},CODECS=\"{codecs}\"");
        if let Some((width, height)) = video.resolution {
            append(
                &mut attributes,
                format_args!(",RESOLUTION={width}x{height}"),
            );
        }
        if let Some(rate) = video.frame_rate {
            append(&mut attributes, format_args!(",FRAME-RATE={rate:.3}"));
        }
        if audio.is_some() {
            attributes.push_str(",AUDIO=\"audio\"");
        }
        line(&mut text, format_args!("#EXT-X-STREAM-INF:{attributes}"));
        line(
            &mut text,
            format_args!("{}/playlist.m3u8{suffix}", video.name),
        );
    }
    text
}

impl MediaPlaylistOf<'_> {
    /// Renders a live media playlist.
    pub(crate) fn render(&self) -> String {
        let timeline = self.timeline;
        let first = self.next.msn.saturating_sub(timeline.window);
        let skipped = if self.is_delta {
            self.skipped(first)
        } else {
            0
        };
        let mut text = self.header(first);
        if skipped > 0 {
            line(
                &mut text,
                format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"),
            );
        } else {
            line(
                &mut text,
                format_args!("#EXT-X-MAP:URI=\"init.mp4{}\"", self.suffix),
            );
        }
        for msn in first + skipped..self.next.msn {
            self.program_date_time(&mut text, msn);
            if self.next.msn - msn <= SEGMENTS_WITH_PARTS {
                self.parts(&mut text, msn, timeline.parts_per_segment());
            }
            let duration = (self.segment_duration)(msn).as_secs_f64();
            line(
                &mut text,
                format_args!("#EXTINF:{duration:.5},\nseg{msn}.m4s{}", self.suffix),
            );
        }
        if self.is_ended {
            text.push_str("#EXT-X-ENDLIST\n");
            return text;
        }
        if self.next.part > 0 && self.parts_as.is_some() {
            self.program_date_time(&mut text, self.next.msn);
            self.parts(&mut text, self.next.msn, self.next.part);
        }
        self.hint_and_reports(&mut text);
        text
    }

    fn header(&self, first: u64) -> String {
        let target = self.timeline.segment.as_secs_f64().ceil();
        let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:9\n");
        line(&mut text, format_args!("#EXT-X-TARGETDURATION:{target:.0}"));
        if self.parts_as.is_some() {
            let hold_back = self.timeline.part.as_secs_f64() * 3.0 + 0.1;
            line(
                &mut text,
                format_args!(
                    "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={:.3},\
                     PART-HOLD-BACK={hold_back:.3}",
                    target * 6.0
                ),
            );
            let part_target = self.part_target.as_secs_f64();
            line(
                &mut text,
                format_args!("#EXT-X-PART-INF:PART-TARGET={part_target:.5}"),
            );
        }
        line(&mut text, format_args!("#EXT-X-MEDIA-SEQUENCE:{first}"));
        text
    }

    /// LL-13: segments that begin further than the skip boundary before the end are left out.
    fn skipped(&self, first: u64) -> u64 {
        let boundary = self.timeline.segment.as_secs_f64().ceil() * 6.0;
        let kept = (boundary / self.timeline.segment.as_secs_f64()).floor();
        // A boundary is a small whole number of segments.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 6 and 12"
        )]
        let kept = kept as u64;
        self.next.msn.saturating_sub(kept).saturating_sub(first)
    }

    fn program_date_time(&self, text: &mut String, msn: u64) {
        let at = self.epoch + self.timeline.segment_span(msn).0;
        line(
            text,
            format_args!("#EXT-X-PROGRAM-DATE-TIME:{}", super::wall::iso_8601(at)),
        );
    }

    fn parts(&self, text: &mut String, msn: u64, count: u64) {
        let Some(parts_as) = self.parts_as else {
            return;
        };
        for part in 0..count {
            let id = PartId { msn, part };
            let facts = (self.part_facts)(id);
            let duration = facts.duration.as_secs_f64();
            append(text, format_args!("#EXT-X-PART:DURATION={duration:.5}"));
            if facts.is_independent {
                text.push_str(",INDEPENDENT=YES");
            }
            let suffix = self.suffix;
            match parts_as {
                PartsAs::Files => line(text, format_args!(",URI=\"seg{msn}.{part}.m4s{suffix}\"")),
                PartsAs::ByteRanges => {
                    let PartFacts { bytes, offset, .. } = facts;
                    line(
                        text,
                        format_args!(
                            ",URI=\"seg{msn}.m4s{suffix}\",BYTERANGE=\"{bytes}@{offset}\""
                        ),
                    );
                }
            }
        }
    }

    fn hint_and_reports(&self, text: &mut String) {
        let Some(parts_as) = self.parts_as else {
            return;
        };
        let (PartId { msn, part }, suffix) = (self.next, self.suffix);
        match parts_as {
            PartsAs::Files => {
                let part = if self.hint_is_wrong {
                    part + 1000
                } else {
                    part
                };
                line(
                    text,
                    format_args!(
                        "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"seg{msn}.{part}.m4s{suffix}\""
                    ),
                );
            }
            PartsAs::ByteRanges => {
                let start = (self.part_facts)(self.next).offset;
                line(
                    text,
                    format_args!(
                        "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"seg{msn}.m4s{suffix}\",BYTERANGE-START={start}"
                    ),
                );
            }
        }
        let last = match part.checked_sub(1) {
            Some(part) => PartId { msn, part },
            None => PartId {
                msn: msn.saturating_sub(1),
                part: self.timeline.parts_per_segment() - 1,
            },
        };
        for sibling in &self.siblings {
            line(
                text,
                format_args!(
                    "#EXT-X-RENDITION-REPORT:URI=\"../{sibling}/playlist.m3u8{suffix}\",\
                     LAST-MSN={},LAST-PART={}",
                    last.msn, last.part
                ),
            );
        }
    }
}

/// Renders the playlist of the whole loop, on demand.
pub(crate) fn on_demand(
    segments: u64,
    target: Duration,
    segment_duration: &dyn Fn(u64) -> Duration,
) -> String {
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{:.0}\n#EXT-X-PLAYLIST-TYPE:VOD\n\
         #EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-MAP:URI=\"init.mp4\"\n",
        target.as_secs_f64().ceil()
    );
    for msn in 0..segments {
        let duration = segment_duration(msn).as_secs_f64();
        line(
            &mut text,
            format_args!("#EXTINF:{duration:.5},\nseg{msn}.m4s"),
        );
    }
    text.push_str("#EXT-X-ENDLIST\n");
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    append(text, line);
    text.push('\n');
}

fn append(text: &mut String, piece: std::fmt::Arguments<'_>) {
    text.write_fmt(piece)
        .expect("writing to a string does not fail");
}

/// Parts are listed for so many complete segments, as rfc8216bis asks for three target durations.
const SEGMENTS_WITH_PARTS: u64 = 3;
