//! A random stream, and the playlists a correct packager would make of it, for model tests.

use std::fmt::Write;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;

use super::{Limits, MediaPlaylist, Playlist};

/// What a stream is made of, from media sequence number zero.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    pub segments: Vec<SegmentModel>,
    pub window: usize,
    pub has_parts: bool,
    pub version: u32,
    /// Seconds since midnight of the first segment.
    pub starts_at: u32,
}

#[derive(Clone, Debug)]
pub(super) struct SegmentModel {
    pub milliseconds: u32,
    pub parts: u32,
    /// Bytes of the one file that all segments with a length share.
    pub length: Option<u64>,
    pub is_gap: bool,
    pub is_discontinuity: bool,
    pub has_date: bool,
    pub map: Option<u8>,
    pub key: Option<KeyModel>,
    pub bitrate: Option<u16>,
    pub date_range: Option<u8>,
}

#[derive(Clone, Debug)]
pub(super) enum KeyModel {
    None,
    One(u8),
    /// Two formats at once.
    Two(u8),
}

pub(super) fn segments(count: usize) -> impl Strategy<Value = Vec<SegmentModel>> {
    vec(segment(), count)
}

pub(super) fn timeline() -> impl Strategy<Value = Timeline> {
    (
        segments(40),
        14_usize..24,
        any::<bool>(),
        6_u32..12,
        0_u32..80_000,
    )
        .prop_map(|(mut segments, window, has_parts, version, starts_at)| {
            // A packager states the map before anything else.
            segments[0].map.get_or_insert(0);
            Timeline {
                segments,
                window,
                has_parts,
                version,
                starts_at,
            }
        })
}

fn segment() -> impl Strategy<Value = SegmentModel> {
    let key = prop_oneof![
        Just(KeyModel::None),
        any::<u8>().prop_map(KeyModel::One),
        any::<u8>().prop_map(KeyModel::Two)
    ];
    let rare = (
        weighted(0.1, any::<u8>()),
        weighted(0.15, key),
        weighted(0.1, any::<u16>()),
        weighted(0.15, any::<u8>()),
        weighted(0.3, 1_u64..100_000),
    );
    let flags = (
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.5),
    );
    (1_200_u32..2_001, 1_u32..6, flags, rare).prop_map(|(milliseconds, parts, flags, rare)| {
        SegmentModel {
            milliseconds,
            parts,
            length: rare.4,
            is_gap: flags.0,
            is_discontinuity: flags.1,
            has_date: flags.2,
            map: rare.0,
            key: rare.1,
            bitrate: rare.2,
            date_range: rare.3,
        }
    })
}

impl Timeline {
    /// Makes the playlist whose last complete segment is `last`, with `open` parts after it.
    pub(super) fn at(&self, last: usize, open: u32, tail: &str) -> MediaPlaylist {
        parse(self.text(last, open, tail))
    }

    pub(super) fn text(&self, last: usize, open: u32, tail: &str) -> String {
        let first = (last + 1).saturating_sub(self.window);
        let mut out = self.head(first);
        self.put_state(&mut out, first);
        let mut before = None;
        for index in first..=last {
            if self.has_parts && index + 3 > last {
                self.put_parts(&mut out, index, self.segments[index].parts);
            }
            self.put_segment(&mut out, index, before);
            before = self.segments[index].length.is_some().then_some(index);
        }
        if self.has_parts {
            let parts = self.segments[last + 1].parts;
            let open = open.min(parts);
            self.put_parts(&mut out, last + 1, open);
            let (msn, part) = if open == parts {
                (last + 2, 0)
            } else {
                (last + 1, open)
            };
            writeln!(out, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p{msn}.{part}\"").unwrap();
        }
        out + tail
    }

    fn head(&self, first: usize) -> String {
        let mut out = format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-VERSION:{}\n",
            self.version
        );
        if self.has_parts {
            out.push_str("#EXT-X-PART-INF:PART-TARGET=0.5\n");
        }
        out.push_str("#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12\n");
        let discontinuities = self.segments[..first]
            .iter()
            .filter(|s| s.is_discontinuity)
            .count();
        writeln!(out, "#EXT-X-MEDIA-SEQUENCE:{first}").unwrap();
        writeln!(out, "#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}").unwrap();
        out
    }

    /// States again what began before the window.
    fn put_state(&self, out: &mut String, first: usize) {
        let before = &self.segments[..first];
        if let Some(map) = before.iter().rev().find_map(|s| s.map) {
            out.push_str(&map_line(map));
        }
        if let Some(key) = before.iter().rev().find_map(|s| s.key.as_ref()) {
            out.push_str(&key_lines(key));
        }
        if let Some(bitrate) = before.iter().rev().find_map(|s| s.bitrate) {
            writeln!(out, "#EXT-X-BITRATE:{bitrate}").unwrap();
        }
    }

    fn put_segment(&self, out: &mut String, index: usize, before: Option<usize>) {
        let segment = &self.segments[index];
        if let Some(id) = segment.date_range {
            writeln!(
                out,
                "#EXT-X-DATERANGE:ID=\"{index}-{id}\",START-DATE=\"2026-01-01\""
            )
            .unwrap();
        }
        if segment.is_discontinuity {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        out.push_str(&segment.map.map(map_line).unwrap_or_default());
        out.push_str(&segment.key.as_ref().map(key_lines).unwrap_or_default());
        if let Some(bitrate) = segment.bitrate {
            writeln!(out, "#EXT-X-BITRATE:{bitrate}").unwrap();
        }
        if segment.has_date {
            let ms: u32 = self.segments[..index].iter().map(|s| s.milliseconds).sum();
            let s = self.starts_at + ms / 1000;
            let (h, m, s, ms) = (s / 3600, s / 60 % 60, s % 60, ms % 1000);
            writeln!(
                out,
                "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T{h:02}:{m:02}:{s:02}.{ms:03}Z"
            )
            .unwrap();
        }
        if segment.is_gap {
            out.push_str("#EXT-X-GAP\n");
        }
        let (s, ms) = (segment.milliseconds / 1000, segment.milliseconds % 1000);
        writeln!(out, "#EXTINF:{s}.{ms:03},").unwrap();
        match segment.length {
            Some(length) => {
                let start: u64 = self.segments[..index].iter().filter_map(|s| s.length).sum();
                let at = if before.is_some() {
                    String::new()
                } else {
                    format!("@{start}")
                };
                writeln!(out, "#EXT-X-BYTERANGE:{length}{at}\nall.mp4").unwrap();
            }
            None => writeln!(out, "s{index}.mp4").unwrap(),
        }
    }

    fn put_parts(&self, out: &mut String, index: usize, parts: u32) {
        for part in 0..parts {
            writeln!(out, "#EXT-X-PART:DURATION=0.4,URI=\"p{index}.{part}\"").unwrap();
        }
    }
}

fn map_line(map: u8) -> String {
    format!("#EXT-X-MAP:URI=\"init{map}.mp4\",BYTERANGE=\"700@{map}\"\n")
}

fn key_lines(key: &KeyModel) -> String {
    match key {
        KeyModel::None => "#EXT-X-KEY:METHOD=NONE\n".to_owned(),
        KeyModel::One(id) => {
            format!("#EXT-X-KEY:METHOD=NONE\n#EXT-X-KEY:METHOD=AES-128,URI=\"k{id}\"\n")
        }
        KeyModel::Two(id) => format!(
            "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k{id}\"\n\
             #EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://{id}\",KEYFORMAT=\"com.apple\"\n"
        ),
    }
}

pub(super) fn parse(text: impl Into<Bytes>) -> MediaPlaylist {
    match Playlist::parse(text.into(), &Limits::default()) {
        Ok(Playlist::Media(list)) => list,
        other => panic!("a media playlist, not {other:?}"),
    }
}
