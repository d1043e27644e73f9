//! What a resource is, by its content type or its path.
//!
//! The node asks here before it has learned better from a parsed playlist (CA-01). Deliberately not
//! here: how long any kind is fresh, which is policy.

/// What a resource of a presentation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An HLS playlist that names playlists.
    MultivariantPlaylist,
    /// An HLS playlist that names segments.
    MediaPlaylist,
    /// A DASH media presentation description, or a patch of one.
    Mpd,
    /// An initialization segment.
    InitSegment,
    /// A media segment.
    Segment,
    /// A Partial Segment of Low-Latency HLS.
    Part,
    /// A decryption key.
    Key,
    /// Anything else.
    Other,
}

impl Kind {
    /// Returns what a response of this content type is, if the type alone can say.
    ///
    /// A content type cannot tell the two playlists apart: the answer is then [`Kind::MediaPlaylist`],
    /// the one that changes. Parsing tells. Likewise any media is a [`Kind::Segment`].
    pub fn from_content_type(value: &str) -> Option<Self> {
        let essence = value
            .split(';')
            .next()
            .unwrap_or("")
            .trim()
            .to_ascii_lowercase();
        match essence.as_str() {
            "application/vnd.apple.mpegurl"
            | "application/x-mpegurl"
            | "application/mpegurl"
            | "audio/mpegurl"
            | "audio/x-mpegurl" => Some(Self::MediaPlaylist),
            "application/dash+xml" | "application/dash-patch+xml" => Some(Self::Mpd),
            "video/mp4" | "audio/mp4" | "application/mp4" | "video/iso.segment"
            | "audio/iso.segment" | "video/mp2t" | "audio/aac" | "audio/mpeg" | "audio/ac3"
            | "audio/eac3" | "text/vtt" | "video/webm" | "audio/webm" => Some(Self::Segment),
            _ => None,
        }
    }

    /// Returns what a resource of this path probably is, by its extension.
    ///
    /// The path has no query. As with content types, a playlist is taken for one that changes.
    pub fn from_path(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        let Some((stem, extension)) = name.rsplit_once('.') else {
            return Self::Other;
        };
        match extension.to_ascii_lowercase().as_str() {
            "m3u8" | "m3u" => Self::MediaPlaylist,
            "mpd" | "mpp" => Self::Mpd,
            "mp4" | "m4s" | "m4v" | "m4a" | "m4f" | "cmfv" | "cmfa" | "cmft" | "cmfm" | "webm"
                if is_init_name(stem) =>
            {
                Self::InitSegment
            }
            "init" | "m4i" => Self::InitSegment,
            "mp4" | "m4s" | "m4v" | "m4a" | "m4f" | "cmfv" | "cmfa" | "cmft" | "cmfm" | "ts"
            | "aac" | "ac3" | "ec3" | "mp3" | "vtt" | "webvtt" | "webm" => Self::Segment,
            "key" => Self::Key,
            _ => Self::Other,
        }
    }
}

/// Returns whether a path has the extension of an HLS playlist of either kind.
pub fn is_playlist_path(path: &str) -> bool {
    Kind::from_path(path) == Kind::MediaPlaylist
}

/// Returns whether a content type is that of an HLS playlist of either kind.
pub fn is_playlist_content_type(value: &str) -> bool {
    Kind::from_content_type(value) == Some(Kind::MediaPlaylist)
}

/// Packagers name initialization segments `init`, `init-0`, `v1_init`, `init_video` and the like.
fn is_init_name(stem: &str) -> bool {
    stem.split(|c: char| !c.is_ascii_alphabetic())
        .any(|word| word.eq_ignore_ascii_case("init"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ca_01_a_path_suggests_a_kind() {
        let cases = [
            ("/live/index.m3u8", Kind::MediaPlaylist),
            ("/LIVE/INDEX.M3U8", Kind::MediaPlaylist),
            ("/live/manifest.mpd", Kind::Mpd),
            ("/live/init.mp4", Kind::InitSegment),
            ("/live/v0_init-3.m4s", Kind::InitSegment),
            ("/live/initial.m4s", Kind::Segment),
            ("/live/seg12.3.m4s", Kind::Segment),
            ("/live/seg12.ts", Kind::Segment),
            ("/keys/1.key", Kind::Key),
            ("/live.m3u8/plain", Kind::Other),
            ("/", Kind::Other),
            ("", Kind::Other),
            ("/index.html", Kind::Other),
        ];
        for (path, kind) in cases {
            assert_eq!(Kind::from_path(path), kind, "{path}");
        }
    }

    #[test]
    fn ca_01_a_content_type_says_more_than_an_extension() {
        let cases = [
            ("application/vnd.apple.mpegurl", Some(Kind::MediaPlaylist)),
            ("Audio/MpegURL; charset=utf-8", Some(Kind::MediaPlaylist)),
            ("application/dash+xml", Some(Kind::Mpd)),
            ("video/mp4", Some(Kind::Segment)),
            ("text/html", None),
            ("", None),
        ];
        for (value, kind) in cases {
            assert_eq!(Kind::from_content_type(value), kind, "{value}");
        }
        assert!(is_playlist_content_type("application/x-mpegURL"));
        assert!(!is_playlist_content_type("application/dash+xml"));
        assert!(is_playlist_path("/a.m3u8"));
        assert!(!is_playlist_path("/a.mpd"));
    }
}
