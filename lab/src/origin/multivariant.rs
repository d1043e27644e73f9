//! The HLS multivariant playlist as text.

use std::fmt::Write as _;

use super::presentation::Presentation;

/// Writes the multivariant playlist; `query` is appended to every child URI.
pub(crate) fn multivariant(show: &Presentation, query: &str) -> String {
    let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    let (mut audio_group, mut audio_codec, mut audio_bits) = ("", String::new(), 0);
    if let Some(audio) = show.audio() {
        writeln!(
            out,
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Tone\",LANGUAGE=\"und\",DEFAULT=YES,\
AUTOSELECT=YES,CHANNELS=\"2\",URI=\"{}/playlist.m3u8{query}\"",
            audio.name()
        )
        .expect("a string takes every text");
        audio_group = ",AUDIO=\"audio\"";
        audio_codec = format!(",{}", audio.track.codec());
        audio_bits = audio.bits_per_second;
    }
    for rendition in &show.renditions {
        let Some((width, height)) = rendition.track.resolution() else {
            continue;
        };
        let bits = rendition.bits_per_second + audio_bits;
        let rate = rendition.track.frame_rate().unwrap_or_default();
        writeln!(
            out,
            "#EXT-X-STREAM-INF:BANDWIDTH={bits},CODECS=\"{}{audio_codec}\",RESOLUTION={width}x{height},\
FRAME-RATE={rate:.3}{audio_group}\n{}/playlist.m3u8{query}",
            rendition.track.codec(),
            rendition.name()
        )
        .expect("a string takes every text");
    }
    out
}
