//! Which resource a request path names, and the delivery directives of its query.
//!
//! Pure parsing of peer text. Whether the resource exists *now* is decided elsewhere.

use super::presentation::ObjectKind;

/// Which of the origin's presentations a path belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flavor {
    /// Low latency: parts, blocking reload, growing segments.
    Live,
    /// The same broadcast, segment by segment.
    Plain,
    /// The loop once.
    Vod,
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// `/{flavor}/index.m3u8`
    Multivariant(Flavor),
    /// `/{flavor}/manifest.mpd`
    Mpd(Flavor),
    /// `/plain/patched.mpd`: the manifest of that folder, with its patches.
    PatchedMpd,
    /// `/plain/patch.mpp`: what has changed in it since the `publishTime` of the query.
    Patch,
    /// Something of a rendition, which is named by its folder.
    Rendition {
        flavor: Flavor,
        rendition: String,
        item: Item,
    },
    /// `/time`
    Time,
}

/// Something of one rendition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// `playlist.m3u8`
    Playlist,
    /// `init.mp4`
    Init,
    /// `seg12.m4s`
    Segment { msn: u64 },
    /// `seg12.3.m4s`, or `seg12.3b.m4s` after a hint of it was withdrawn.
    Part {
        msn: u64,
        part_index: u64,
        is_renamed: bool,
    },
}

impl Resource {
    /// Parses `path`; `None` where the origin has nothing of that name.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        if path == "/time" {
            return Some(Self::Time);
        }
        let mut pieces = path.strip_prefix('/')?.split('/');
        let flavor = match pieces.next()? {
            "live" => Flavor::Live,
            "plain" => Flavor::Plain,
            "vod" => Flavor::Vod,
            _ => return None,
        };
        match (pieces.next()?, pieces.next(), pieces.next()) {
            ("index.m3u8", None, None) => Some(Self::Multivariant(flavor)),
            ("manifest.mpd", None, None) => Some(Self::Mpd(flavor)),
            ("patched.mpd", None, None) if flavor == Flavor::Plain => Some(Self::PatchedMpd),
            ("patch.mpp", None, None) if flavor == Flavor::Plain => Some(Self::Patch),
            (rendition, Some(file), None) => Some(Self::Rendition {
                flavor,
                rendition: rendition.to_owned(),
                item: parse_item(file)?,
            }),
            _ => None,
        }
    }

    /// Returns the kind of the resource.
    pub(crate) fn kind(&self) -> ObjectKind {
        match self {
            Self::Multivariant(_) => ObjectKind::Multivariant,
            Self::Mpd(_) | Self::PatchedMpd | Self::Patch => ObjectKind::Mpd,
            Self::Time => ObjectKind::Other,
            Self::Rendition { item, .. } => match item {
                Item::Playlist => ObjectKind::Playlist,
                Item::Init => ObjectKind::Init,
                Item::Segment { .. } => ObjectKind::Segment,
                Item::Part { .. } => ObjectKind::Part,
            },
        }
    }
}

/// Returns the file name of a segment.
pub(crate) fn segment_file(msn: u64) -> String {
    format!("seg{msn}.m4s")
}

/// Returns the file name of a part.
pub(crate) fn part_file(msn: u64, part_index: u64, is_renamed: bool) -> String {
    let suffix = if is_renamed { "b" } else { "" };
    format!("seg{msn}.{part_index}{suffix}.m4s")
}

fn parse_item(file: &str) -> Option<Item> {
    match file {
        "playlist.m3u8" => return Some(Item::Playlist),
        "init.mp4" => return Some(Item::Init),
        _ => {}
    }
    let name = file.strip_prefix("seg")?.strip_suffix(".m4s")?;
    let item = match name.split_once('.') {
        None => Item::Segment {
            msn: number(name, MSN_MAX)?,
        },
        Some((msn, part)) => {
            let (part, is_renamed) = match part.strip_suffix('b') {
                Some(part) => (part, true),
                None => (part, false),
            };
            Item::Part {
                msn: number(msn, MSN_MAX)?,
                part_index: number(part, PART_INDEX_MAX)?,
                is_renamed,
            }
        }
    };
    Some(item)
}

/// Larger numbers never occur, and arithmetic on smaller ones cannot overflow.
pub(crate) const MSN_MAX: u64 = 1 << 40;
const PART_INDEX_MAX: u64 = 1 << 20;

/// Parses a canonical decimal: no sign, no leading zero.
fn number(text: &str, max: u64) -> Option<u64> {
    let is_canonical = text == "0" || !text.starts_with(['0', '+']);
    let value = text.parse().ok()?;
    (is_canonical && value <= max).then_some(value)
}

/// The delivery directives of a media playlist request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeliveryDirectives {
    pub(crate) msn: Option<u64>,
    pub(crate) part: Option<u64>,
    pub(crate) wants_delta: bool,
}

/// A directive that is not a decimal number, or a part without a segment (LL-05, LL-06).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MalformedDirectives;

impl DeliveryDirectives {
    /// Parses the query of a request.
    pub(crate) fn parse(query: &str) -> Result<Self, MalformedDirectives> {
        let mut found = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "_HLS_msn" => found.msn = Some(decimal(value)?),
                "_HLS_part" => found.part = Some(decimal(value)?),
                // Date ranges do not occur, so v2 is the same as YES.
                "_HLS_skip" => found.wants_delta = matches!(value, "YES" | "v2"),
                _ => {}
            }
        }
        if found.part.is_some() && found.msn.is_none() {
            return Err(MalformedDirectives);
        }
        Ok(found)
    }
}

fn decimal(text: &str) -> Result<u64, MalformedDirectives> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(MalformedDirectives);
    }
    text.parse().map_err(|_| MalformedDirectives)
}

/// Returns the query without delivery directives, as an origin that echoes would append it.
pub(crate) fn echoed_query(query: &str) -> String {
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("_HLS_"))
        .collect();
    kept.join("&")
}

/// Returns `path?query` with the pairs of the query in byte order, for counting.
pub(crate) fn canonical(path: &str, query: &str) -> String {
    if query.is_empty() {
        return path.to_owned();
    }
    let mut pairs: Vec<&str> = query.split('&').collect();
    pairs.sort_unstable();
    format!("{path}?{}", pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(msn: u64, part_index: u64, is_renamed: bool) -> Option<Item> {
        Some(Item::Part {
            msn,
            part_index,
            is_renamed,
        })
    }

    #[test]
    fn file_names_are_read_as_they_are_written() {
        assert_eq!(
            parse_item(&segment_file(12)),
            Some(Item::Segment { msn: 12 })
        );
        assert_eq!(parse_item(&part_file(12, 3, false)), part(12, 3, false));
        assert_eq!(parse_item(&part_file(12, 3, true)), part(12, 3, true));
    }

    #[test]
    fn names_that_the_origin_never_writes_are_unknown() {
        for path in [
            "",
            "/",
            "/live",
            "/live/",
            "live/index.m3u8",
            "/live/v0/x/y",
            "/live/v0/seg.m4s",
            "/live/v0/seg01.m4s",
            "/live/v0/seg+1.m4s",
            "/live/v0/seg-1.m4s",
            "/live/v0/seg1.m4",
            "/live/v0/seg1.2.3.m4s",
            "/live/v0/seg1.b.m4s",
            "/live/v0/seg99999999999999999999.m4s",
            "/live/v0/seg1099511627777.m4s",
            "/other/index.m3u8",
        ] {
            assert_eq!(Resource::parse(path), None, "{path}");
        }
    }

    #[test]
    fn ll_05_a_part_without_a_segment_is_malformed() {
        let parsed = DeliveryDirectives::parse("_HLS_part=1");
        assert_eq!(parsed, Err(MalformedDirectives));
    }

    #[test]
    fn ll_06_values_that_are_no_decimal_number_are_malformed() {
        for value in ["abc", "-1", "", "1.5", "+1", "18446744073709551616"] {
            let parsed = DeliveryDirectives::parse(&format!("_HLS_msn={value}"));
            assert_eq!(parsed, Err(MalformedDirectives), "{value}");
        }
    }

    #[test]
    fn directives_are_found_in_any_order_among_other_pairs() {
        let parsed = DeliveryDirectives::parse("token=a&_HLS_skip=v2&_HLS_part=1&_HLS_msn=5");
        let expected = DeliveryDirectives {
            msn: Some(5),
            part: Some(1),
            wants_delta: true,
        };
        assert_eq!(parsed, Ok(expected));
    }

    #[test]
    fn an_echo_leaves_the_directives_out() {
        assert_eq!(echoed_query("t=1&_HLS_msn=5&u=2"), "t=1&u=2");
        assert_eq!(echoed_query(""), "");
    }

    #[test]
    fn urls_are_counted_with_their_query_in_byte_order() {
        assert_eq!(canonical("/a", "z=1&_HLS_msn=5"), "/a?_HLS_msn=5&z=1");
        assert_eq!(canonical("/a", ""), "/a");
    }
}
