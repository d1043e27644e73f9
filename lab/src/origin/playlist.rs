//! HLS media playlists as text: low latency (full and delta), plain, and VOD.
//!
//! Pure: an edge in, text out. Rendered once per version by `respond.rs`, which remembers the text.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::address::{part_file, segment_file};
use super::config::PartsAs;
use super::live::Edge;
use super::presentation::{Presentation, Rendition};
use super::wall::iso_8601;

/// One version of one rendition's playlist.
#[derive(Debug)]
pub(crate) struct MediaPlaylist<'a> {
    pub(crate) show: &'a Presentation,
    pub(crate) rendition: &'a Rendition,
    pub(crate) edge: &'a Edge,
    /// Wall time of the broadcast's media time zero.
    pub(crate) zero: SystemTime,
    /// Appended to every child URI; empty unless a fault asks for it.
    pub(crate) query: &'a str,
}

/// Whole segments, counted from the end, whose parts are listed.
///
/// rfc8216bis 6.2.2 lets parts go once they are three target durations from the end.
const SEGMENTS_WITH_PARTS: u64 = 3;

impl MediaPlaylist<'_> {
    /// Writes the low-latency playlist, without what lies beyond the skip boundary if `is_delta`.
    pub(crate) fn low_latency(&self, is_delta: bool) -> String {
        let complete = self.edge.complete_segments(self.show.cadence);
        let first = complete.saturating_sub(self.show.window);
        let skipped = if is_delta { self.skippable(first) } else { 0 };
        let mut out = self.low_latency_head(first);
        if skipped > 0 {
            // LL-15: tags that applied to skipped segments, EXT-X-MAP among them, go with them.
            line(
                &mut out,
                format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"),
            );
        } else {
            self.map(&mut out);
        }
        for msn in first + skipped..complete {
            self.date(&mut out, msn);
            if msn + SEGMENTS_WITH_PARTS >= complete {
                self.parts(&mut out, msn);
            }
            self.segment(&mut out, msn);
        }
        if self.edge.has_ended {
            line(&mut out, format_args!("#EXT-X-ENDLIST"));
            return out;
        }
        if !self.edge.parts_of(self.show.cadence, complete).is_empty() {
            self.date(&mut out, complete);
            self.parts(&mut out, complete);
        }
        self.hint(&mut out);
        self.reports(&mut out);
        out
    }

    /// Writes the playlist of whole segments.
    pub(crate) fn plain(&self) -> String {
        let complete = self.edge.complete_segments(self.show.cadence);
        let first = complete.saturating_sub(self.show.window);
        let mut out = self.head(6);
        line(&mut out, format_args!("#EXT-X-MEDIA-SEQUENCE:{first}"));
        self.map(&mut out);
        for msn in first..complete {
            self.date(&mut out, msn);
            self.segment(&mut out, msn);
        }
        if self.edge.has_ended {
            line(&mut out, format_args!("#EXT-X-ENDLIST"));
        }
        out
    }

    fn head(&self, version: u32) -> String {
        let target = self.show.target_seconds();
        format!("#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{target}\n")
    }

    fn low_latency_head(&self, first: u64) -> String {
        let mut out = self.head(9);
        // The control tag is the same in every rendition (rfc8216bis 6.2.4), so the longest part of
        // any of them counts.
        let longest = self
            .show
            .renditions
            .iter()
            .map(|other| other.part_target)
            .max()
            .map_or(0.0, |longest| longest.as_secs_f64());
        line(
            &mut out,
            format_args!(
                "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={:.5},CAN-SKIP-UNTIL={:.1}",
                longest * 3.0,
                self.show.skip_until_seconds() as f64
            ),
        );
        let target = self.rendition.part_target.as_secs_f64();
        line(
            &mut out,
            format_args!("#EXT-X-PART-INF:PART-TARGET={target:.5}"),
        );
        line(&mut out, format_args!("#EXT-X-MEDIA-SEQUENCE:{first}"));
        out
    }

    /// Returns how many segments from `first` on lie beyond the skip boundary (LL-13): those that
    /// begin further from the end than it.
    fn skippable(&self, first: u64) -> u64 {
        if self.edge.has_ended {
            return 0;
        }
        let cadence = self.show.cadence;
        let per_second = cadence.parts_per_segment as f64 / cadence.segment_seconds as f64;
        let boundary_parts = (self.show.skip_until_seconds() as f64 * per_second).round() as u64;
        let beyond = self.edge.published.saturating_sub(boundary_parts);
        beyond
            .div_ceil(cadence.parts_per_segment)
            .saturating_sub(first)
    }

    fn map(&self, out: &mut String) {
        line(
            out,
            format_args!("#EXT-X-MAP:URI=\"init.mp4{}\"", self.query),
        );
    }

    fn date(&self, out: &mut String, msn: u64) {
        let at = self
            .show
            .cadence
            .start_of(self.show.cadence.parts_of(msn).start);
        let date = iso_8601(self.zero + at);
        line(out, format_args!("#EXT-X-PROGRAM-DATE-TIME:{date}"));
    }

    fn segment(&self, out: &mut String, msn: u64) {
        let parts = self.edge.parts_of(self.show.cadence, msn);
        let seconds = self.show.seconds(self.rendition, parts);
        line(out, format_args!("#EXTINF:{seconds:.5},"));
        line(out, format_args!("{}{}", segment_file(msn), self.query));
    }

    fn parts(&self, out: &mut String, msn: u64) {
        let mut offset = 0;
        for number in self.edge.parts_of(self.show.cadence, msn) {
            let seconds = self.show.seconds(self.rendition, number..number + 1);
            let place = match self.show.parts_as {
                PartsAs::Files => format!("URI=\"{}{}\"", self.part_name(number), self.query),
                PartsAs::ByteRanges => {
                    let bytes = self.len(number);
                    let file = segment_file(msn);
                    let place = format!(
                        "URI=\"{file}{}\",BYTERANGE=\"{bytes}@{offset}\"",
                        self.query
                    );
                    offset += bytes;
                    place
                }
            };
            let independent = if self.show.is_independent(self.rendition, number) {
                ",INDEPENDENT=YES"
            } else {
                ""
            };
            line(
                out,
                format_args!("#EXT-X-PART:DURATION={seconds:.5},{place}{independent}"),
            );
        }
    }

    fn len(&self, number: u64) -> u64 {
        self.show
            .part_len(self.rendition, self.edge.generation, number)
    }

    fn part_name(&self, number: u64) -> String {
        let at = self.show.cadence.position(number);
        part_file(at.msn, at.part_index, self.edge.renamed.contains(&number))
    }

    fn hint(&self, out: &mut String) {
        let next = self.edge.published;
        let msn = self.show.cadence.position(next).msn;
        let place = match self.show.parts_as {
            PartsAs::Files => format!("URI=\"{}{}\"", self.part_name(next), self.query),
            PartsAs::ByteRanges => {
                let before = self.edge.parts_of(self.show.cadence, msn);
                let start: u64 = before.map(|number| self.len(number)).sum();
                let file = segment_file(msn);
                format!("URI=\"{file}{}\",BYTERANGE-START={start}", self.query)
            }
        };
        line(out, format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,{place}"));
    }

    fn reports(&self, out: &mut String) {
        let Some(last) = self.edge.published.checked_sub(1) else {
            return;
        };
        let last = self.show.cadence.position(last);
        for other in &self.show.renditions {
            if other.name() != self.rendition.name() {
                line(
                    out,
                    format_args!(
                        "#EXT-X-RENDITION-REPORT:URI=\"../{}/playlist.m3u8{}\",LAST-MSN={},LAST-PART={}",
                        other.name(),
                        self.query,
                        last.msn,
                        last.part_index
                    ),
                );
            }
        }
    }
}

/// Writes the playlist of the loop as VOD.
pub(crate) fn vod(show: &Presentation, rendition: &Rendition, query: &str) -> String {
    let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:6\n");
    line(
        &mut out,
        format_args!("#EXT-X-TARGETDURATION:{}", show.target_seconds()),
    );
    out.push_str("#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-MEDIA-SEQUENCE:0\n");
    line(&mut out, format_args!("#EXT-X-MAP:URI=\"init.mp4{query}\""));
    for msn in 0..show.vod_segments() {
        let (from, to) = show.vod_span(msn);
        let seconds = rendition.track.fragment_duration(from, to).as_secs_f64();
        line(&mut out, format_args!("#EXTINF:{seconds:.5},"));
        line(&mut out, format_args!("{}{query}", segment_file(msn)));
    }
    out.push_str("#EXT-X-ENDLIST\n");
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes every text");
    out.push('\n');
}
