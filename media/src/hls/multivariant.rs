//! The playlist that names playlists.
//!
//! Called by `Playlist::parse`; the node learns from it which URIs are media playlists, players choose
//! by it. Deliberately not here: anything that only a decoder needs.

use bytes::Bytes;

use super::attributes::Attributes;
use super::playlist::{Limits, MEDIA_TAGS, PlaylistError};
use super::rows::{DefineKind, DefineRow, KeyRow};
use super::text::{Line, Lines, Span, integer};
use super::values::{define, flawed, malformed, read, too_many};
use super::views::{Define, Key};

/// A multivariant playlist, as text and as tables over it.
#[derive(Clone, Debug, Default)]
pub struct MultivariantPlaylist {
    text: Bytes,
    children: Vec<ChildRow>,
    keys: Vec<KeyRow>,
    defines: Vec<DefineRow>,
    steering: Option<SteeringRow>,
}

#[derive(Clone, Debug, Default)]
struct ChildRow {
    uri: Option<Span>,
    kind: RowKind,
    bandwidth: Option<u64>,
    codecs: Option<Span>,
    resolution: Option<(u32, u32)>,
    group: Option<Span>,
    audio: Option<Span>,
    name: Option<Span>,
    language: Option<Span>,
    pathway: Option<Span>,
    is_default: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum RowKind {
    #[default]
    Variant,
    /// With the span of its `TYPE`.
    Rendition(Span),
    IFrames,
}

#[derive(Clone, Debug)]
struct SteeringRow {
    server: Span,
    pathway: Option<Span>,
}

/// What a named playlist is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildKind<'a> {
    /// A variant stream.
    Variant,
    /// A rendition that variants refer to.
    Rendition {
        /// `AUDIO`, `VIDEO`, `SUBTITLES` or a type of the future.
        media_type: &'a str,
    },
    /// I-frames of a variant.
    IFrame,
}

/// A media playlist that a multivariant playlist names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildPlaylist<'a> {
    /// Where it is, relative to the multivariant playlist.
    pub uri: &'a str,
    /// What it is for.
    pub kind: ChildKind<'a>,
    /// Its peak bit rate in bits per second; renditions have none.
    pub bandwidth: Option<u64>,
    /// Its formats.
    pub codecs: Option<&'a str>,
    /// Its width and height.
    pub resolution: Option<(u32, u32)>,
    /// The group a rendition belongs to.
    pub group: Option<&'a str>,
    /// The group of audio renditions a variant is played with.
    pub audio: Option<&'a str>,
    /// A rendition's name.
    pub name: Option<&'a str>,
    /// A rendition's language.
    pub language: Option<&'a str>,
    /// The pathway of content steering it belongs to.
    pub pathway: Option<&'a str>,
    /// Whether a rendition is played unless another is chosen.
    pub is_default: bool,
}

/// An `EXT-X-CONTENT-STEERING`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentSteering<'a> {
    /// Where the steering manifest is, relative to the multivariant playlist.
    pub server: &'a str,
    /// The pathway to begin with.
    pub pathway: Option<&'a str>,
}

impl MultivariantPlaylist {
    /// Returns the text, byte for byte as it was given.
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// Returns the media playlists it names, in order; renditions without a URI are left out.
    pub fn media_playlists(&self) -> impl Iterator<Item = ChildPlaylist<'_>> + Clone {
        self.children.iter().filter_map(|row| {
            Some(ChildPlaylist {
                uri: self.optional(row.uri)?,
                kind: match row.kind {
                    RowKind::Variant => ChildKind::Variant,
                    RowKind::IFrames => ChildKind::IFrame,
                    RowKind::Rendition(media_type) => ChildKind::Rendition {
                        media_type: media_type.of_text(&self.text),
                    },
                },
                bandwidth: row.bandwidth,
                codecs: self.optional(row.codecs),
                resolution: row.resolution,
                group: self.optional(row.group),
                audio: self.optional(row.audio),
                name: self.optional(row.name),
                language: self.optional(row.language),
                pathway: self.optional(row.pathway),
                is_default: row.is_default,
            })
        })
    }

    /// Returns the keys that may be fetched early.
    pub fn session_keys(&self) -> impl ExactSizeIterator<Item = Key<'_>> + Clone {
        self.keys.iter().map(|row| Key {
            method: row.method.of_text(&self.text),
            uri: self.optional(row.uri),
            format: self.optional(row.format),
        })
    }

    /// Returns where content steering is, if there is any.
    pub fn content_steering(&self) -> Option<ContentSteering<'_>> {
        self.steering.as_ref().map(|row| ContentSteering {
            server: row.server.of_text(&self.text),
            pathway: self.optional(row.pathway),
        })
    }

    /// Returns the variables, in order.
    pub fn defines(&self) -> impl ExactSizeIterator<Item = Define<'_>> + Clone {
        self.defines.iter().map(|row| {
            let name = row.name.of_text(&self.text);
            match row.kind {
                DefineKind::Value => Define::Value(name),
                DefineKind::Import => Define::Import(name),
                DefineKind::QueryParameter => Define::QueryParameter(name),
            }
        })
    }

    fn optional(&self, span: Option<Span>) -> Option<&str> {
        span.map(|span| span.of_text(&self.text))
    }
}

/// Reads `source`, which is `text`.
pub(super) fn parse(
    text: Bytes,
    source: &str,
    limits: &Limits,
) -> Result<MultivariantPlaylist, PlaylistError> {
    let mut parser = Parser {
        source,
        limits,
        list: MultivariantPlaylist::default(),
        open: None,
    };
    for line in Lines::new(source).skip(1) {
        if line.number as usize > limits.lines_max {
            return Err(too_many("lines", limits.lines_max, &line));
        }
        if line.text.starts_with("#EXT") {
            parser.tag(&line)?;
        } else if !line.text.is_empty() && !line.text.starts_with('#') {
            parser.uri(&line)?;
        }
    }
    let mut list = parser.list;
    list.text = text;
    Ok(list)
}

struct Parser<'a> {
    source: &'a str,
    limits: &'a Limits,
    list: MultivariantPlaylist,
    /// The variant whose URI is on the next line.
    open: Option<ChildRow>,
}

impl<'a> Parser<'a> {
    fn tag(&mut self, line: &Line<'a>) -> Result<(), PlaylistError> {
        let (name, value) = line.tag();
        match name {
            "#EXT-X-STREAM-INF" => {
                self.open = Some(self.child(value, "EXT-X-STREAM-INF", RowKind::Variant, line)?);
            }
            "#EXT-X-I-FRAME-STREAM-INF" => {
                let row = self.child(value, "EXT-X-I-FRAME-STREAM-INF", RowKind::IFrames, line)?;
                self.push(row, line)?;
            }
            "#EXT-X-MEDIA" => {
                let kind = RowKind::Rendition(Span::default());
                let row = self.child(value, "EXT-X-MEDIA", kind, line)?;
                self.push(row, line)?;
            }
            "#EXT-X-SESSION-KEY" => self.session_key(value, line)?,
            "#EXT-X-CONTENT-STEERING" => self.steering(value, line)?,
            "#EXT-X-DEFINE" => {
                if let Some((name, kind)) = define(value, self.limits, line)? {
                    let name = Span::of(self.source, name);
                    self.list.defines.push(DefineRow { name, kind });
                }
            }
            name if MEDIA_TAGS.contains(&name) => {
                return Err(PlaylistError::MixedTags { line: line.number });
            }
            // Versions, session data, tags of the future.
            _ => {}
        }
        Ok(())
    }

    fn uri(&mut self, line: &Line<'a>) -> Result<(), PlaylistError> {
        let mut row = read(self.open.take(), "EXT-X-STREAM-INF", line)?;
        row.uri = Some(Span::of(self.source, line.text));
        self.push(row, line)
    }

    fn push(&mut self, row: ChildRow, line: &Line<'_>) -> Result<(), PlaylistError> {
        if self.list.children.len() >= self.limits.children_max {
            return Err(too_many("media playlists", self.limits.children_max, line));
        }
        self.list.children.push(row);
        Ok(())
    }

    /// Reads the attributes of the three tags that name a playlist.
    fn child(
        &self,
        value: &'a str,
        tag: &'static str,
        kind: RowKind,
        line: &Line<'_>,
    ) -> Result<ChildRow, PlaylistError> {
        let mut row = ChildRow {
            kind,
            ..ChildRow::default()
        };
        let mut media_type = None;
        for attribute in Attributes::new(value, self.limits.attributes_max) {
            let attribute = attribute.map_err(|flaw| flawed(flaw, tag, self.limits, line))?;
            let span = Some(Span::of(self.source, attribute.value));
            match attribute.name {
                "URI" => row.uri = span,
                "TYPE" => media_type = span,
                "BANDWIDTH" => row.bandwidth = Some(read(integer(attribute.value), tag, line)?),
                "CODECS" => row.codecs = span,
                "RESOLUTION" => row.resolution = resolution(attribute.value),
                "GROUP-ID" => row.group = span,
                "AUDIO" => row.audio = span,
                "NAME" => row.name = span,
                "LANGUAGE" => row.language = span,
                "PATHWAY-ID" => row.pathway = span,
                "DEFAULT" => row.is_default = attribute.is_yes(),
                _ => {}
            }
        }
        match kind {
            RowKind::Variant => row.uri = None,
            RowKind::IFrames => row.uri = Some(read(row.uri, tag, line)?),
            RowKind::Rendition(_) => row.kind = RowKind::Rendition(read(media_type, tag, line)?),
        }
        Ok(row)
    }

    fn session_key(&mut self, value: &'a str, line: &Line<'_>) -> Result<(), PlaylistError> {
        const TAG: &str = "EXT-X-SESSION-KEY";
        let (mut method, mut uri, mut format) = (None, None, None);
        for attribute in Attributes::new(value, self.limits.attributes_max) {
            let attribute = attribute.map_err(|flaw| flawed(flaw, TAG, self.limits, line))?;
            let span = Some(Span::of(self.source, attribute.value));
            match attribute.name {
                "METHOD" => method = span,
                "URI" => uri = span,
                "KEYFORMAT" => format = span,
                _ => {}
            }
        }
        let method = read(method, TAG, line)?;
        self.list.keys.push(KeyRow {
            line: line.span,
            method,
            uri,
            format,
        });
        Ok(())
    }

    fn steering(&mut self, value: &'a str, line: &Line<'_>) -> Result<(), PlaylistError> {
        const TAG: &str = "EXT-X-CONTENT-STEERING";
        let (mut server, mut pathway) = (None, None);
        for attribute in Attributes::new(value, self.limits.attributes_max) {
            let attribute = attribute.map_err(|flaw| flawed(flaw, TAG, self.limits, line))?;
            let span = Some(Span::of(self.source, attribute.value));
            match attribute.name {
                "SERVER-URI" => server = span,
                "PATHWAY-ID" => pathway = span,
                _ => {}
            }
        }
        if self.list.steering.is_some() {
            return Err(malformed(TAG, line));
        }
        self.list.steering = Some(SteeringRow {
            server: read(server, TAG, line)?,
            pathway,
        });
        Ok(())
    }
}

fn resolution(value: &str) -> Option<(u32, u32)> {
    let (width, height) = value.split_once('x')?;
    Some((width.parse().ok()?, height.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hls::Playlist;

    fn parse(text: &str) -> Result<MultivariantPlaylist, PlaylistError> {
        match Playlist::parse(Bytes::copy_from_slice(text.as_bytes()), &Limits::default())? {
            Playlist::Multivariant(list) => Ok(list),
            Playlist::Media(_) => panic!("a multivariant playlist"),
        }
    }

    #[test]
    fn every_named_playlist_is_listed_with_what_it_is_for() {
        let list = parse(
            "#EXTM3U\n#EXT-X-VERSION:9\n\
             #EXT-X-CONTENT-STEERING:SERVER-URI=\"/steer?a=1\",PATHWAY-ID=\"one\"\n\
             #EXT-X-DEFINE:QUERYPARAM=\"token\"\n\
             #EXT-X-SESSION-KEY:METHOD=SAMPLE-AES,URI=\"skd://1\",KEYFORMAT=\"com.apple\"\n\
             #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"aac\",NAME=\"A\",DEFAULT=YES,URI=\"a.m3u8\"\n\
             #EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID=\"cc\",NAME=\"C\",INSTREAM-ID=\"CC1\"\n\
             #EXT-X-STREAM-INF:BANDWIDTH=800000,CODECS=\"avc1.4d,mp4a.40.2\",RESOLUTION=640x360,AUDIO=\"aac\"\n\
             # a comment\n\nv0.m3u8?x=1\n\
             #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=9,URI=\"i.m3u8\"\n",
        )
        .unwrap();
        let children: Vec<_> = list.media_playlists().collect();
        assert_eq!(children.len(), 3);
        assert_eq!(
            children[0].kind,
            ChildKind::Rendition {
                media_type: "AUDIO"
            }
        );
        assert_eq!(
            (children[0].uri, children[0].group),
            ("a.m3u8", Some("aac"))
        );
        assert!(children[0].is_default);
        assert_eq!(
            (children[1].uri, children[1].kind),
            ("v0.m3u8?x=1", ChildKind::Variant)
        );
        assert_eq!(
            (children[1].bandwidth, children[1].audio),
            (Some(800_000), Some("aac"))
        );
        assert_eq!(children[1].codecs, Some("avc1.4d,mp4a.40.2"));
        assert_eq!(children[1].resolution, Some((640, 360)));
        assert_eq!(
            (children[2].uri, children[2].kind),
            ("i.m3u8", ChildKind::IFrame)
        );
        let steering = list.content_steering().unwrap();
        assert_eq!(
            (steering.server, steering.pathway),
            ("/steer?a=1", Some("one"))
        );
        assert_eq!(list.session_keys().next().unwrap().uri, Some("skd://1"));
        assert_eq!(
            list.defines().collect::<Vec<_>>(),
            [Define::QueryParameter("token")]
        );
    }

    #[test]
    fn malformed_tags_are_refused_with_their_line() {
        let cases = [
            ("a.m3u8", "EXT-X-STREAM-INF", 4),
            ("#EXT-X-MEDIA:GROUP-ID=\"a\"", "EXT-X-MEDIA", 4),
            (
                "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1",
                "EXT-X-I-FRAME-STREAM-INF",
                4,
            ),
            ("#EXT-X-STREAM-INF:BANDWIDTH=fast", "EXT-X-STREAM-INF", 4),
            (
                "#EXT-X-CONTENT-STEERING:PATHWAY-ID=\"a\"",
                "EXT-X-CONTENT-STEERING",
                4,
            ),
        ];
        for (body, tag, line) in cases {
            let text = format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n{body}\n");
            assert_eq!(
                parse(&text).unwrap_err(),
                PlaylistError::Malformed { tag, line },
                "{body}"
            );
        }
    }
}
