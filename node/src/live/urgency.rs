//! Which media goes first on a connection: what every variant needs, then lower bit rates before higher ones (LB-02).
//!
//! A multivariant playlist ranks the renditions that it names; their newest segments and parts are stored with a `Priority`
//! that says so, unless the origin's own is there. Called when such a playlist is read (`route`), when a version of
//! a rendition teaches its children, and when a response is judged. Deliberately not here: playlists, which go before all
//! media whatever they are (`exchange`), and what a viewer asks for, which counts first (`listen`).

use http::{HeaderName, HeaderValue};
use media::hls::{ChildKind, ChildPlaylist, MultivariantPlaylist};

/// The urgency of media (RFC 9218 4.1), between 2 and 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MediaUrgency(u8);

impl Default for MediaUrgency {
    /// Media of no known rank: what RFC 9218 takes for granted, too.
    fn default() -> Self {
        Self(3)
    }
}

impl MediaUrgency {
    /// Returns the field that says it.
    pub(crate) fn field(self) -> HeaderValue {
        HeaderValue::from_static(match self.0 {
            2 => "u=2",
            3 => "u=3",
            4 => "u=4",
            5 => "u=5",
            _ => "u=6",
        })
    }
}

/// How urgent the media is of each rendition that a multivariant playlist names.
#[derive(Debug)]
pub(crate) struct Ladder {
    /// The bit rates of its variants, lowest first, each once.
    bandwidths: Vec<u64>,
}

impl Ladder {
    /// Reads the bit rates of all variants.
    pub(crate) fn of(playlist: &MultivariantPlaylist) -> Self {
        let children = playlist.media_playlists();
        let variants = children.filter(|child| child.kind == ChildKind::Variant);
        let mut bandwidths: Vec<_> = variants.filter_map(|child| child.bandwidth).collect();
        bandwidths.sort_unstable();
        bandwidths.dedup();
        Self { bandwidths }
    }

    /// Returns how urgent the media of `child` is.
    pub(crate) fn urgency(&self, child: &ChildPlaylist<'_>) -> MediaUrgency {
        match (child.kind, child.bandwidth) {
            // Small, and nothing plays without it.
            (ChildKind::Rendition { .. }, _) => MediaUrgency(2),
            (ChildKind::IFrame, _) => MediaUrgency(URGENCY_MAX),
            (ChildKind::Variant, None) => MediaUrgency::default(),
            (ChildKind::Variant, Some(bandwidth)) => {
                let rank = self.bandwidths.partition_point(|lower| *lower < bandwidth);
                let rank = u8::try_from(rank).unwrap_or(URGENCY_MAX);
                MediaUrgency(rank.saturating_add(3).min(URGENCY_MAX))
            }
        }
    }
}

/// RFC 9218 5.
pub(crate) const PRIORITY: HeaderName = HeaderName::from_static("priority");

/// The last urgency of media; 7 is for what is done in the background.
const URGENCY_MAX: u8 = 6;

#[cfg(test)]
mod tests {
    use media::hls::{Limits, Playlist};

    use super::*;

    fn urgencies(text: &str) -> Vec<(String, String)> {
        let playlist = Playlist::parse(text.to_owned().into(), &Limits::default()).unwrap();
        let Playlist::Multivariant(playlist) = playlist else {
            panic!("not a multivariant playlist");
        };
        let ladder = Ladder::of(&playlist);
        let children = playlist.media_playlists();
        let urgency = |child: &ChildPlaylist<'_>| {
            let field = ladder.urgency(child).field();
            field.to_str().unwrap().to_owned()
        };
        children
            .map(|child| (child.uri.to_owned(), urgency(&child)))
            .collect()
    }

    #[test]
    fn lb_02_a_variant_never_goes_before_one_of_a_lower_bit_rate() {
        let mut text = "#EXTM3U\n".to_owned();
        for bandwidth in [800, 200, 400, 3200, 1600, 400, 6400] {
            text += &format!("#EXT-X-STREAM-INF:BANDWIDTH={bandwidth}\nv{bandwidth}\n");
        }
        let mut of_variants: Vec<(u64, String)> = urgencies(&text)
            .into_iter()
            .map(|(uri, urgency)| (uri.trim_start_matches('v').parse().unwrap(), urgency))
            .collect();
        of_variants.sort();
        let said: Vec<_> = of_variants.iter().map(|(_, said)| said.as_str()).collect();
        assert_eq!(said, ["u=3", "u=4", "u=4", "u=5", "u=6", "u=6", "u=6"]);
    }

    #[test]
    fn lb_02_audio_goes_before_every_variant_and_i_frames_behind() {
        let text = "#EXTM3U\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"en\",URI=\"audio\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=900,AUDIO=\"a\"\nvideo\n\
            #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=100,URI=\"frames\"\n";
        let expected = [("audio", "u=2"), ("video", "u=3"), ("frames", "u=6")];
        let expected = expected.map(|(uri, urgency)| (uri.to_owned(), urgency.to_owned()));
        assert_eq!(urgencies(text), expected);
    }
}
