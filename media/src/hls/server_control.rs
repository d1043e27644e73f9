//! Saying for an origin what a server in front of it can do (rfc8216bis 4.4.3.8).
//!
//! An origin without blocking reload is asked by one poller; whoever polls knows when there is something
//! new and can hold requests, so it may say so. Called by the live hub, where an operator wants it.
//! Deliberately not here: the holding itself (`answer`), and delta updates (`delta`).

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;

use super::media_playlist::MediaPlaylist;

/// Returns the text with an `EXT-X-SERVER-CONTROL` that says that this server holds requests.
///
/// What the origin said itself stays. Added is what makes the tag valid and the same in all playlists of
/// a presentation, which have one target duration: `CAN-SKIP-UNTIL` and `HOLD-BACK` at the least that the
/// specification allows, six and three target durations, and with parts `PART-HOLD-BACK` at three part
/// durations. `None` when there is nothing to say: the server holds already, the stream has ended, or the
/// playlist is a delta update.
pub fn with_server_control(playlist: &MediaPlaylist) -> Option<Bytes> {
    if playlist.can_block_reload() || playlist.is_ended() || playlist.skip().is_some() {
        return None;
    }
    let text = std::str::from_utf8(playlist.text()).ok()?;
    let said = text.lines().find_map(|line| line.strip_prefix(TAG));
    let tag = format!("{TAG}{}", attributes(playlist, said));
    let mut out = String::with_capacity(text.len() + tag.len() + 1);
    let mut is_written = false;
    for line in text.split_inclusive('\n') {
        let is_place = match said {
            Some(_) => line.starts_with(TAG),
            None => line.starts_with("#EXT-X-TARGETDURATION:"),
        };
        if is_written || !is_place {
            out.push_str(line);
            continue;
        }
        if said.is_none() {
            out.push_str(line);
            if !line.ends_with('\n') {
                out.push('\n');
            }
        }
        out.push_str(&tag);
        out.push('\n');
        is_written = true;
    }
    is_written.then(|| Bytes::from(out))
}

/// Returns what the origin said, with what it left out.
fn attributes(playlist: &MediaPlaylist, said: Option<&str>) -> String {
    let control = playlist.server_control();
    let target = playlist.target_duration();
    let mut attributes = "CAN-BLOCK-RELOAD=YES".to_owned();
    let mut add = |name: &str, value: Duration| {
        write!(attributes, ",{name}={}", seconds(value)).expect("writing to a string");
    };
    if control.can_skip_until.is_none() {
        add("CAN-SKIP-UNTIL", target * 6);
    }
    if control.hold_back.is_none() {
        add("HOLD-BACK", target * 3);
    }
    if let Some(part) = playlist.part_target()
        && control.part_hold_back.is_none()
    {
        add("PART-HOLD-BACK", part * 3);
    }
    let said = said.into_iter().flat_map(|said| said.trim().split(','));
    for attribute in said.filter(|a| !a.is_empty() && !a.starts_with("CAN-BLOCK-RELOAD")) {
        attributes.push(',');
        attributes.push_str(attribute);
    }
    attributes
}

fn seconds(duration: Duration) -> String {
    let text = format!("{}.{:03}", duration.as_secs(), duration.subsec_millis());
    let text = text.trim_end_matches('0');
    // A decimal-floating-point has digits on both sides.
    if text.ends_with('.') {
        format!("{text}0")
    } else {
        text.to_owned()
    }
}

const TAG: &str = "#EXT-X-SERVER-CONTROL:";

#[cfg(test)]
mod tests {
    use super::super::{Limits, Playlist};
    use super::*;

    fn media(text: &str) -> MediaPlaylist {
        match Playlist::parse(Bytes::from(text.to_owned()), &Limits::default()) {
            Ok(Playlist::Media(playlist)) => playlist,
            other => panic!("{other:?}"),
        }
    }

    fn said(text: &str) -> String {
        let out = with_server_control(&media(text)).unwrap();
        let out = std::str::from_utf8(&out).unwrap().to_owned();
        let playlist = media(&out);
        assert!(playlist.can_block_reload(), "{out}");
        assert_eq!(playlist.segments().len(), media(text).segments().len());
        let without = |text: &str| -> String {
            let lines = text.lines().filter(|line| !line.starts_with(TAG));
            lines.collect::<Vec<_>>().join("\n")
        };
        assert_eq!(without(&out), without(text), "nothing else changes");
        let line = out.lines().find(|line| line.starts_with(TAG));
        line.unwrap().to_owned()
    }

    #[test]
    fn a_plain_playlist_is_given_the_tag_with_values_that_are_valid() {
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:6,\ns7.ts\n";
        assert_eq!(
            said(text),
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=36.0,HOLD-BACK=18.0"
        );
    }

    #[test]
    fn what_the_origin_said_of_itself_stays() {
        let text = "#EXTM3U\n#EXT-X-SERVER-CONTROL:PART-HOLD-BACK=1.2,HOLD-BACK=9.0\n\
                    #EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=0.4\n\
                    #EXTINF:2,\ns0.mp4\n#EXT-X-PART:DURATION=0.4,URI=\"s1.0.mp4\"\n";
        assert_eq!(
            said(text),
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,\
             PART-HOLD-BACK=1.2,HOLD-BACK=9.0"
        );
    }

    #[test]
    fn parts_need_a_hold_back_of_their_own() {
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=0.333\n\
                    #EXTINF:2,\ns0.mp4\n#EXT-X-PART:DURATION=0.333,URI=\"s1.0.mp4\"\n";
        assert!(said(text).ends_with(",PART-HOLD-BACK=0.999"));
    }

    #[test]
    fn there_is_nothing_to_say_of_what_has_ended_or_holds_already() {
        let ended = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\ns0.ts\n#EXT-X-ENDLIST\n";
        assert!(with_server_control(&media(ended)).is_none());
        let holds = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n\
                     #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n#EXTINF:2,\ns0.ts\n";
        assert!(with_server_control(&media(holds)).is_none());
    }
}
