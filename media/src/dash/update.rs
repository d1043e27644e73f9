//! Letting players read an MPD more often than its origin asks them to.
//!
//! Called by the node where a presentation may change sooner than its origin knows, e.g. when it begins again. That is no more than the
//! origin promises: an update period is how long nothing changes at least. Deliberately not here: how often that should be.

use std::time::Duration;

use bytes::Bytes;
use quick_xml::events::Event;
use quick_xml::reader::Reader;

use super::edit::{applied, iso_duration, with_attribute};
use super::mpd::Mpd;

/// Returns the text of a live MPD that players read again after `most`; `None` if they do already.
///
/// They also do where it says nothing of updates, which is that there are none, and where it has patches: those are there at times of
/// the origin's own.
pub fn with_update_period(mpd: &Mpd, most: Duration) -> Option<Bytes> {
    let is_rare = mpd
        .minimum_update_period
        .is_some_and(|period| period > most);
    if !mpd.is_dynamic() || !is_rare || !mpd.patch_locations.is_empty() {
        return None;
    }
    let source = std::str::from_utf8(&mpd.text).ok()?;
    let mut reader = Reader::from_str(source);
    loop {
        let begin = usize::try_from(reader.buffer_position()).ok()?;
        let event = reader.read_event().ok()?;
        let span = begin..usize::try_from(reader.buffer_position()).ok()?;
        match event {
            Event::Start(_) | Event::Empty(_) => {
                let tag = source.get(span.clone())?;
                let tag = with_attribute(tag, "minimumUpdatePeriod", &iso_duration(most))?;
                return Some(applied(source, vec![(span, tag)]));
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dash::Limits;

    fn changed(text: &str) -> Option<Mpd> {
        let parse = |text: Bytes| Mpd::parse(text, &Limits::default()).unwrap();
        let mpd = parse(Bytes::copy_from_slice(text.as_bytes()));
        with_update_period(&mpd, Duration::from_secs(4)).map(parse)
    }

    #[test]
    fn ld_10_players_read_a_live_mpd_no_less_often_than_that() {
        let text = "<?xml version=\"1.0\"?>\n<!-- a > b --><d:MPD type='dynamic' xmlns:d='urn:mpeg:dash:schema:mpd:2011' \
                    minimumUpdatePeriod='PT30S'><d:Period minimumUpdatePeriod=\"PT30S\"/></d:MPD>\n";
        let mpd = changed(text).unwrap();
        assert_eq!(mpd.minimum_update_period, Some(Duration::from_secs(4)));
        let expected = text.replacen("PT30S", "PT4S", 1);
        assert_eq!(mpd.text, expected, "nothing else is touched");
    }

    #[test]
    fn ld_10_who_reads_it_often_enough_or_never_or_by_patches_goes_on_as_before() {
        for text in [
            "<MPD type='dynamic' minimumUpdatePeriod='PT4S'/>",
            "<MPD type='dynamic' minimumUpdatePeriod='PT0S'/>",
            "<MPD type='dynamic'/>",
            "<MPD minimumUpdatePeriod='PT30S'/>",
            "<MPD id='m' type='dynamic' publishTime='1970-01-01T00:00:01Z' minimumUpdatePeriod='PT30S'><PatchLocation>p</PatchLocation></MPD>",
        ] {
            assert_eq!(changed(text), None, "{text}");
        }
    }
}
