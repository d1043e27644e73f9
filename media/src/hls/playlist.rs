//! Either kind of playlist, told apart by its tags, and the limits of what is read.
//!
//! Called by the node for every body that may be a playlist. Deliberately not here: what the tags
//! mean, which is in the two parsers.

use bytes::Bytes;
use thiserror::Error;

use super::media_playlist::MediaPlaylist;
use super::multivariant::MultivariantPlaylist;
use super::text::Lines;
use super::{media_parser, multivariant};

/// A playlist: the kind that names playlists, or the kind that names segments.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "taken apart where it is parsed; never stored"
)]
pub enum Playlist {
    /// The top playlist of a presentation.
    Multivariant(MultivariantPlaylist),
    /// The playlist of one rendition.
    Media(MediaPlaylist),
}

impl Playlist {
    /// Parses a playlist and keeps its text, byte for byte.
    ///
    /// Accepts what players accept: a byte order mark, either line end, none at the end, white space
    /// around lines, comments and unknown tags.
    ///
    /// # Errors
    ///
    /// What the text is not, and on which line. See [`PlaylistError`].
    ///
    /// # Limits
    ///
    /// Those of `limits`; a line of the text is never looked at more than a fixed number of times.
    pub fn parse(text: Bytes, limits: &Limits) -> Result<Self, PlaylistError> {
        let bytes_max = limits.bytes_max.min(u32::MAX as usize);
        if text.len() > bytes_max {
            return Err(PlaylistError::TooLarge {
                bytes: text.len(),
                bytes_max,
            });
        }
        let source = text.clone();
        let source = std::str::from_utf8(&source).map_err(|_| PlaylistError::NotUtf8)?;
        match Self::family(source)? {
            Family::Multivariant => {
                multivariant::parse(text, source, limits).map(Self::Multivariant)
            }
            Family::Media => media_parser::parse(text, source, limits).map(Self::Media),
        }
    }

    /// Returns the text, byte for byte as it was given.
    pub fn text(&self) -> &Bytes {
        match self {
            Self::Multivariant(playlist) => playlist.text(),
            Self::Media(playlist) => playlist.text(),
        }
    }

    /// Tells the kind by the first tag that only one kind may have.
    fn family(text: &str) -> Result<Family, PlaylistError> {
        let mut lines = Lines::new(text);
        let first = lines.next().map_or("", |line| line.text);
        let first = first.strip_prefix('\u{feff}').unwrap_or(first);
        if first != "#EXTM3U" {
            return Err(PlaylistError::NotAPlaylist);
        }
        let family = lines
            .filter(|line| line.text.starts_with("#EXT"))
            .find_map(|line| {
                let name = line.text.split(':').next().unwrap_or(line.text);
                if MULTIVARIANT_TAGS.contains(&name) {
                    Some(Family::Multivariant)
                } else if MEDIA_TAGS.contains(&name) {
                    Some(Family::Media)
                } else {
                    None
                }
            });
        family.ok_or(PlaylistError::Missing {
            tag: "EXT-X-TARGETDURATION",
        })
    }
}

enum Family {
    Multivariant,
    Media,
}

/// How much of a playlist is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a text; never more than 4 GiB.
    pub bytes_max: usize,
    /// Most lines.
    pub lines_max: usize,
    /// Most segments; also the most that a delta update may skip.
    pub segments_max: usize,
    /// Most parts.
    pub parts_max: usize,
    /// Most preload hints: each may cost an upstream request.
    pub hints_max: usize,
    /// Most attributes of one tag.
    pub attributes_max: usize,
    /// Most playlists that a multivariant playlist names.
    pub children_max: usize,
}

impl Default for Limits {
    /// Enough for a day of two-second segments.
    fn default() -> Self {
        Self {
            bytes_max: 16 * 1024 * 1024,
            lines_max: 500_000,
            segments_max: 100_000,
            parts_max: 100_000,
            hints_max: 8,
            attributes_max: 64,
            children_max: 4_096,
        }
    }
}

/// Why a text could not be read as a playlist.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlaylistError {
    /// The text is larger than [`Limits::bytes_max`].
    #[error("the playlist has {bytes} bytes, more than {bytes_max}")]
    TooLarge {
        /// Size of the text.
        bytes: usize,
        /// Most bytes allowed.
        bytes_max: usize,
    },
    /// The text is not UTF-8 (rfc8216bis 4.1).
    #[error("the playlist is not UTF-8")]
    NotUtf8,
    /// The first line is not `#EXTM3U`: another kind of document.
    #[error("not a playlist: the first line is not #EXTM3U")]
    NotAPlaylist,
    /// A tag that the kind of playlist must have is absent.
    #[error("the playlist has no {tag}")]
    Missing {
        /// The tag.
        tag: &'static str,
    },
    /// A tag's value or an attribute of it cannot be read.
    #[error("line {line}: malformed {tag}")]
    Malformed {
        /// The tag.
        tag: &'static str,
        /// The line, from one.
        line: u32,
    },
    /// More of something than a limit allows.
    #[error("line {line}: more than {limit} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// Most allowed.
        limit: usize,
        /// The line that went over, from one.
        line: u32,
    },
    /// A tag of the other kind of playlist.
    #[error("line {line}: a tag of the other kind of playlist")]
    MixedTags {
        /// The line, from one.
        line: u32,
    },
}

/// Tags that only a multivariant playlist may have (rfc8216bis 4.4.6).
pub(super) const MULTIVARIANT_TAGS: [&str; 6] = [
    "#EXT-X-STREAM-INF",
    "#EXT-X-MEDIA",
    "#EXT-X-I-FRAME-STREAM-INF",
    "#EXT-X-SESSION-DATA",
    "#EXT-X-SESSION-KEY",
    "#EXT-X-CONTENT-STEERING",
];

/// Tags that only a media playlist may have (rfc8216bis 4.4.3 to 4.4.5).
pub(super) const MEDIA_TAGS: [&str; 22] = [
    "#EXTINF",
    "#EXT-X-TARGETDURATION",
    "#EXT-X-MEDIA-SEQUENCE",
    "#EXT-X-DISCONTINUITY-SEQUENCE",
    "#EXT-X-ENDLIST",
    "#EXT-X-PLAYLIST-TYPE",
    "#EXT-X-I-FRAMES-ONLY",
    "#EXT-X-PART-INF",
    "#EXT-X-SERVER-CONTROL",
    "#EXT-X-BYTERANGE",
    "#EXT-X-DISCONTINUITY",
    "#EXT-X-KEY",
    "#EXT-X-MAP",
    "#EXT-X-PROGRAM-DATE-TIME",
    "#EXT-X-GAP",
    "#EXT-X-BITRATE",
    "#EXT-X-PART",
    "#EXT-X-DATERANGE",
    "#EXT-X-SKIP",
    "#EXT-X-PRELOAD-HINT",
    "#EXT-X-RENDITION-REPORT",
    "#EXT-X-ALLOW-CACHE",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &'static str) -> Result<Playlist, PlaylistError> {
        Playlist::parse(Bytes::from_static(text.as_bytes()), &Limits::default())
    }

    #[test]
    fn other_documents_are_not_playlists() {
        for text in [
            "",
            "\n",
            "<html>#EXTM3U</html>",
            "{}",
            "#EXTM3U8\n",
            "EXTM3U",
            " # EXTM3U",
        ] {
            assert_eq!(
                parse(text).unwrap_err(),
                PlaylistError::NotAPlaylist,
                "{text}"
            );
        }
        let text = Bytes::from_static(b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n# \xff\n");
        let error = Playlist::parse(text, &Limits::default()).unwrap_err();
        assert_eq!(error, PlaylistError::NotUtf8);
        let missing = PlaylistError::Missing {
            tag: "EXT-X-TARGETDURATION",
        };
        assert_eq!(parse("#EXTM3U\n").unwrap_err(), missing);
        assert_eq!(
            parse("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-MEDIA-SEQUENCE:1\n").unwrap_err(),
            missing
        );
    }

    #[test]
    fn the_kind_is_told_by_tags_and_the_kinds_do_not_mix() {
        assert!(matches!(
            parse("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n"),
            Ok(Playlist::Multivariant(_))
        ));
        assert!(matches!(
            parse("#EXTM3U\n#EXT-X-TARGETDURATION:4\n"),
            Ok(Playlist::Media(_))
        ));
        let mixed = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n";
        assert_eq!(
            parse(mixed).unwrap_err(),
            PlaylistError::MixedTags { line: 3 }
        );
        let mixed = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n#EXTINF:4,\n";
        assert_eq!(
            parse(mixed).unwrap_err(),
            PlaylistError::MixedTags { line: 4 }
        );
    }

    #[test]
    fn a_playlist_is_kept_byte_for_byte_whatever_its_line_ends() {
        for text in [
            "\u{feff}#EXTM3U  \r\n#EXT-X-TARGETDURATION:4\r\n\r\n#EXTINF:4,t\r\n a.ts \r\n",
            "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#x-vendor\n#EXT-NEW:A=1\n#EXTINF:4\na.ts",
        ] {
            let playlist = parse(text).unwrap();
            assert_eq!(playlist.text(), text.as_bytes());
            let Playlist::Media(playlist) = playlist else {
                panic!("a media playlist")
            };
            assert_eq!(
                playlist.segments().map(|s| s.uri).collect::<Vec<_>>(),
                ["a.ts"]
            );
        }
    }

    #[test]
    fn a_text_over_the_limit_is_not_read() {
        let limits = Limits {
            bytes_max: 10,
            ..Limits::default()
        };
        let error = Playlist::parse(Bytes::from_static(b"#EXTM3U\n#EXT"), &limits).unwrap_err();
        assert_eq!(
            error,
            PlaylistError::TooLarge {
                bytes: 12,
                bytes_max: 10
            }
        );
    }
}
