//! Naming another clock in an MPD: where players find the time (LD-13).
//!
//! Called by the node, which tells the time itself. What is changed: the first `UTCTiming` of the MPD, and the ones in a
//! `ProducerReferenceTime`, which have to name the same clock for a player to compare both, unless the time there is
//! written as NTP writes it. Patches are changed
//! alike, so that none names the clock from before again. Deliberately not here: whether it should be done.

use std::ops::Range;

use bytes::Bytes;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::edit::applied;

/// Returns the text of an MPD that names a clock before all others, or of a patch of one.
///
/// Players ask the first clock that answers: the ones that were there stay, for whoever cannot reach it. In a patch, the clocks among what it adds are left out, and so are operations
/// on clocks. `None` if nothing has to change, or the text cannot be read; the clock's scheme and URI need no escaping.
pub fn with_clock(text: &Bytes, (scheme, uri): (&str, &str)) -> Option<Bytes> {
    let source = std::str::from_utf8(text).ok()?;
    let mut walk = Walk {
        clock: format!("UTCTiming schemeIdUri=\"{scheme}\" value=\"{uri}\"/>"),
        open: Vec::new(),
        prefix: String::new(),
        edits: Vec::new(),
        leaving: None,
        is_named: false,
    };
    let mut reader = Reader::from_str(source);
    loop {
        let begin = usize::try_from(reader.buffer_position()).ok()?;
        let event = reader.read_event().ok()?;
        let span = begin..usize::try_from(reader.buffer_position()).ok()?;
        match event {
            Event::Eof => break,
            Event::Start(start) => walk.start(source, &start, &span),
            // Nothing is in it.
            Event::Empty(_) if walk.open.is_empty() => return None,
            Event::Empty(start) => {
                walk.start(source, &start, &span);
                walk.end(&span);
            }
            Event::End(_) => walk.end(&span),
            _ => {}
        }
        if walk.open.len() > DEPTH_MAX {
            return None;
        }
    }
    let changed = applied(source, walk.edits);
    (changed != *text).then_some(changed)
}

/// Walks over the text and notes what has to change.
struct Walk {
    /// The element that names the clock, without what is before its name.
    clock: String,
    /// The elements that are open, outermost first.
    open: Vec<Element>,
    /// What stands before the names of an MPD's elements: nothing, or a prefix with its colon.
    prefix: String,
    /// What is replaced by what, in order.
    edits: Vec<(Range<usize>, String)>,
    /// The element that leaves with all that is in it: how deep it is, where it begins, and what comes instead.
    leaving: Option<(usize, usize, String)>,
    /// Whether the MPD names the clock.
    is_named: bool,
}

/// What the place of a clock depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Mpd,
    Patch,
    /// `add`, `replace` or `remove`.
    Operation,
    ProducerReferenceTime,
    Clock,
    Other,
}

impl Walk {
    fn start(&mut self, source: &str, start: &BytesStart<'_>, span: &Range<usize>) {
        let parent = self.open.last().copied();
        let name = start.local_name().into_inner();
        let element = match (parent, name) {
            (None, "MPD") => Element::Mpd,
            (None, "Patch") => Element::Patch,
            (Some(Element::Patch), "add" | "replace" | "remove") => Element::Operation,
            (_, "ProducerReferenceTime") => Element::ProducerReferenceTime,
            (
                Some(Element::Mpd | Element::Operation | Element::ProducerReferenceTime),
                "UTCTiming",
            ) => Element::Clock,
            _ => Element::Other,
        };
        if parent.is_none() {
            let qualified = start.name().into_inner();
            let before = qualified.strip_suffix(name).unwrap_or_default();
            before.clone_into(&mut self.prefix);
        }
        self.open.push(element);
        if self.leaving.is_some() {
            return;
        }
        let depth = self.open.len();
        match (element, parent) {
            (Element::Clock, Some(Element::Mpd)) => {
                self.is_named |= source.get(span.clone()) == Some(&*self.clock());
                self.name_at(span.start);
            }
            // Its scheme says how the wall clock time is written: a number stays one.
            (Element::Clock, Some(Element::ProducerReferenceTime)) if is_ntp(start) => {}
            (Element::Clock, Some(Element::ProducerReferenceTime)) => {
                self.leaving = Some((depth, span.start, self.clock()));
            }
            (Element::Clock, _) => self.leaving = Some((depth, span.start, String::new())),
            (Element::Operation, _) if selects_a_clock(start) => {
                self.leaving = Some((depth, span.start, String::new()));
            }
            // ISO/IEC 23009-1 5.3.1.2: the clock stands before the leap seconds, which stand last.
            (Element::Other, Some(Element::Mpd)) if name == "LeapSecondInformation" => {
                self.name_at(span.start);
            }
            _ => {}
        }
    }

    fn end(&mut self, span: &Range<usize>) {
        let depth = self.open.len();
        let closed = self.open.pop();
        match self.leaving.take() {
            Some((of, begin, instead)) if of == depth => {
                self.edits.push((begin..span.end, instead));
            }
            Some(leaving) => self.leaving = Some(leaving),
            None if closed == Some(Element::Mpd) => self.name_at(span.start),
            None => {}
        }
    }

    /// Names the clock before what stands at `at`, if the MPD has named none so far.
    fn name_at(&mut self, at: usize) {
        if !self.is_named {
            self.is_named = true;
            self.edits.push((at..at, format!("{}\n", self.clock())));
        }
    }

    fn clock(&self) -> String {
        format!("<{}{}", self.prefix, self.clock)
    }
}

/// Returns whether a clock is asked by NTP, and what it says written as NTP does.
fn is_ntp(clock: &BytesStart<'_>) -> bool {
    let scheme = clock.try_get_attribute("schemeIdUri").ok().flatten();
    scheme.is_some_and(|scheme| scheme.value.contains("ntp:"))
}

/// Returns whether an operation of a patch is on clocks (RFC 5261 4.1).
fn selects_a_clock(operation: &BytesStart<'_>) -> bool {
    let selector = operation.try_get_attribute("sel").ok().flatten();
    selector.is_some_and(|selector| selector.value.contains("UTCTiming"))
}

/// Elements in each other: deeper texts are not changed.
const DEPTH_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: (&str, &str) = ("urn:here", "/time");
    const HERE: &str = "<UTCTiming schemeIdUri=\"urn:here\" value=\"/time\"/>";
    const THERE: &str = "<UTCTiming schemeIdUri=\"urn:there\" value=\"https://there.example/\"/>";

    /// Returns the text with this clock; `None` if it stays.
    fn changed(text: &str) -> Option<String> {
        let text = with_clock(&Bytes::from(text.to_owned()), CLOCK)?;
        Some(String::from_utf8(text.to_vec()).unwrap())
    }

    #[test]
    fn ld_13_an_mpd_names_the_clock_first_and_where_the_standard_has_it() {
        let long = "<UTCTiming schemeIdUri='urn:there' value='a'>\n<Other/></UTCTiming>";
        let cases = [
            ("<MPD><Period/></MPD>", "<MPD><Period/>{HERE}\n</MPD>"),
            (
                "<MPD><Period/>{THERE}</MPD>",
                "<MPD><Period/>{HERE}\n{THERE}</MPD>",
            ),
            (
                "<?xml version=\"1.0\"?>\n<MPD>{THERE}{LONG}\n{THERE}</MPD>\n",
                "<?xml version=\"1.0\"?>\n<MPD>{HERE}\n{THERE}{LONG}\n{THERE}</MPD>\n",
            ),
            (
                "<MPD><Period/><LeapSecondInformation/></MPD>",
                "<MPD><Period/>{HERE}\n<LeapSecondInformation/></MPD>",
            ),
            (
                "<MPD><Period><AdaptationSet><ProducerReferenceTime id='0'>{THERE}</ProducerReferenceTime>\
                 <ProducerReferenceTime/></AdaptationSet></Period>{THERE}</MPD>",
                "<MPD><Period><AdaptationSet><ProducerReferenceTime id='0'>{HERE}</ProducerReferenceTime>\
                 <ProducerReferenceTime/></AdaptationSet></Period>{HERE}\n{THERE}</MPD>",
            ),
            (
                "<d:MPD xmlns:d='urn:mpeg:dash:schema:mpd:2011'><d:Period/></d:MPD>",
                "<d:MPD xmlns:d='urn:mpeg:dash:schema:mpd:2011'><d:Period/>\
                 <d:UTCTiming schemeIdUri=\"urn:here\" value=\"/time\"/>\n</d:MPD>",
            ),
        ];
        for (before, after) in cases {
            let fill = |text: &str| {
                let text = text.replace("{LONG}", long);
                text.replace("{HERE}", HERE).replace("{THERE}", THERE)
            };
            let (before, after) = (fill(before), fill(after));
            assert_eq!(changed(&before).as_deref(), Some(&*after), "{before}");
            assert_eq!(changed(&after), None, "once is enough: {after}");
        }
    }

    #[test]
    fn ld_13_a_reference_time_that_is_written_as_ntp_does_keeps_its_clock() {
        for scheme in ["ntp", "sntp", "http-ntp"] {
            let reference = format!(
                "<MPD><Period><ProducerReferenceTime wallClockTime=\"3976262400\">\
                 <UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:{scheme}:2014\" value=\"a\"/>\
                 </ProducerReferenceTime></Period>{HERE}</MPD>"
            );
            assert_eq!(changed(&reference), None, "{scheme}");
        }
    }

    #[test]
    fn ld_13_ld_14_a_patch_does_not_take_the_clock_away() {
        let patch = |inside: &str| format!("<Patch mpdId='1'>{inside}</Patch>");
        let kept = "<replace sel=\"/MPD/@publishTime\">2026-01-01T00:00:04Z</replace>";
        assert_eq!(changed(&patch(kept)), None);
        for on_clocks in [
            format!("<replace sel=\"/MPD/UTCTiming[1]\">{THERE}</replace>"),
            "<remove sel='/MPD/UTCTiming'/>".to_owned(),
            "<replace sel=\"/MPD/UTCTiming/@value\">https://there.example/</replace>".to_owned(),
        ] {
            let text = patch(&format!("{on_clocks}{kept}"));
            assert_eq!(changed(&text), Some(patch(kept)), "{on_clocks}");
        }
        let added = patch(&format!("<add sel=\"/MPD\">{THERE}</add>{kept}"));
        let without = patch(&format!("<add sel=\"/MPD\"></add>{kept}"));
        assert_eq!(changed(&added), Some(without));
        let reference = |clock| {
            patch(&format!(
                "<add sel=\"/MPD/Period\"><AdaptationSet><ProducerReferenceTime>{clock}\
                 </ProducerReferenceTime></AdaptationSet></add>"
            ))
        };
        assert_eq!(changed(&reference(THERE)), Some(reference(HERE)));
    }

    #[test]
    fn what_cannot_be_read_stays_as_it_is() {
        let deep = "<a>".repeat(DEPTH_MAX + 1);
        for text in ["", "<MPD><Period></MPD>", "<MPD", "time", "<MPD/>", &deep] {
            assert_eq!(changed(text), None, "{text}");
        }
        assert_eq!(
            with_clock(&Bytes::from_static(b"<MPD>\xff</MPD>"), CLOCK),
            None
        );
    }
}
