//! Saying of the siblings of a playlist what this server has of them (FM-24).
//!
//! A player that changes to another rendition asks for exactly what a report says is the last part there (LT-04). The
//! origin's word is ahead of a server that has not got that part yet, and behind one that has more. Called by the live hub,
//! once per version. Deliberately not here: which siblings the server has.

use std::fmt::Write as _;

use bytes::Bytes;

use super::attributes::Attributes;
use super::media_playlist::MediaPlaylist;
use crate::position::Position;

/// Returns the text with reports of what `newest_of` says for the URIs in them.
///
/// Reports of siblings that it knows nothing of stay as they are; `None` if all do.
pub fn with_reports(
    playlist: &MediaPlaylist,
    newest_of: impl Fn(&str) -> Option<Position>,
) -> Option<Bytes> {
    if playlist.rendition_reports().len() == 0 {
        return None;
    }
    let text = std::str::from_utf8(playlist.text()).ok()?;
    let mut out = String::with_capacity(text.len() + 64);
    for line in text.split_inclusive('\n') {
        let report = line.strip_prefix(TAG);
        match report.and_then(|attributes| said_of(attributes.trim_ascii(), &newest_of)) {
            Some(attributes) => {
                out.push_str(TAG);
                out.push_str(&attributes);
                out.push('\n');
            }
            None => out.push_str(line),
        }
    }
    (out != text).then(|| Bytes::from(out))
}

/// Returns the attributes of a report with other numbers; `None` if nothing is known of its sibling.
fn said_of(list: &str, newest_of: &impl Fn(&str) -> Option<Position>) -> Option<String> {
    let attributes = || Attributes::new(list, usize::MAX).flatten();
    let uri = attributes()
        .find(|attribute| attribute.name == "URI")?
        .value;
    let newest = newest_of(uri)?;
    let mut said = format!("URI=\"{uri}\",LAST-MSN={}", newest.msn.0);
    if let Some(part) = newest.part_index {
        write!(said, ",LAST-PART={part}").expect("writing to a string");
    }
    // What a later version of the protocol adds stays; it is not known whether it was quoted, so what could be is.
    for other in attributes().filter(|other| !OURS.contains(&other.name)) {
        let needs_quotes = list.contains(&format!("{}=\"", other.name));
        let quote = if needs_quotes { "\"" } else { "" };
        write!(said, ",{}={quote}{}{quote}", other.name, other.value).expect("writing to a string");
    }
    Some(said)
}

const TAG: &str = "#EXT-X-RENDITION-REPORT:";

const OURS: [&str; 3] = ["URI", "LAST-MSN", "LAST-PART"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hls::{Limits, Playlist};
    use crate::position::MediaSequenceNumber;

    const HEAD: &str =
        "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:10\n#EXTINF:4,\na\n";

    fn parse(text: impl Into<Bytes>) -> MediaPlaylist {
        match Playlist::parse(text.into(), &Limits::default()).unwrap() {
            Playlist::Media(playlist) => playlist,
            Playlist::Multivariant(_) => panic!("not a media playlist"),
        }
    }

    fn newest(uri: &str) -> Option<Position> {
        match uri {
            "../b" => Some(Position::part(MediaSequenceNumber(11), 2)),
            "../c" => Some(Position::segment(MediaSequenceNumber(10))),
            _ => None,
        }
    }

    #[test]
    fn fm_24_a_report_says_what_is_here_and_one_of_a_stranger_stays() {
        let playlist = parse(format!(
            "{HEAD}#EXT-X-RENDITION-REPORT:URI=\"../b\",LAST-MSN=12,LAST-PART=0\n\
             #EXT-X-RENDITION-REPORT:LAST-MSN=12,LAST-PART=0,URI=\"../c\"\r\n\
             #EXT-X-RENDITION-REPORT:URI=\"../d\",LAST-MSN=12,LAST-PART=0\n"
        ));
        let expected = format!(
            "{HEAD}#EXT-X-RENDITION-REPORT:URI=\"../b\",LAST-MSN=11,LAST-PART=2\n\
             #EXT-X-RENDITION-REPORT:URI=\"../c\",LAST-MSN=10\n\
             #EXT-X-RENDITION-REPORT:URI=\"../d\",LAST-MSN=12,LAST-PART=0\n"
        );
        assert_eq!(with_reports(&playlist, newest).unwrap(), expected);
    }

    #[test]
    fn fm_24_what_is_true_already_or_says_nothing_is_left_alone() {
        let report = "#EXT-X-RENDITION-REPORT:URI=\"../b\",LAST-MSN=11,LAST-PART=2\n";
        for text in [format!("{HEAD}{report}"), HEAD.to_owned()] {
            assert_eq!(with_reports(&parse(text), newest), None);
        }
    }

    #[test]
    fn fm_24_a_report_without_numbers_gets_some_and_unknown_attributes_stay() {
        let text = format!("{HEAD}#EXT-X-RENDITION-REPORT:URI=\"../b\",X-A=1,X-B=\"x,y\"\n");
        let after = with_reports(&parse(text), newest).unwrap();
        let expected = "URI=\"../b\",LAST-MSN=11,LAST-PART=2,X-A=1,X-B=\"x,y\"\n";
        assert!(after.ends_with(expected.as_bytes()), "{after:?}");
    }
}
