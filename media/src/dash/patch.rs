//! Patches of MPDs: what changes between two versions, instead of the second one (LD-14).
//!
//! Called by the node, to judge how long a patch may be kept and whether it is of the MPD it was asked for.
//! Deliberately not here: applying one. Players do that; a node passes on what the origin wrote.

use std::time::Duration;

use bytes::Bytes;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::attributes::predefined_entity;
use super::limits::Limits;
use super::mpd::{Mpd, PatchLocation};
use crate::time::parse_date_time;
use crate::uri::URI_BYTES_MAX;

/// A patch of an MPD (ISO/IEC 23009-1 5.15): what delivery needs of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// The `id` of the MPD.
    pub mpd_id: Option<String>,
    /// When the version was published that it is for.
    pub original_publish_time: Option<Duration>,
    /// When the version was published that it leads to.
    pub publish_time: Option<Duration>,
    /// Where the patches of that version are.
    pub patch_locations: Vec<PatchLocation>,
}

impl Patch {
    /// Parses a patch; `None` if the text is none, is not well-formed, or exceeds `limits`.
    pub fn parse(text: &Bytes, limits: &Limits) -> Option<Self> {
        let source = std::str::from_utf8(text).ok()?;
        if text.len() > limits.bytes_max {
            return None;
        }
        let mut patch = None;
        let mut depth = 0_usize;
        let mut elements = 0_usize;
        let mut location: Option<PatchLocation> = None;
        let mut reader = Reader::from_str(source);
        loop {
            let event = reader.read_event().ok()?;
            if let Event::Start(start) | Event::Empty(start) = &event {
                elements += 1;
                let name = start.local_name().into_inner();
                if depth == 0 && (patch.is_some() || name != "Patch")
                    || elements > limits.elements_max
                {
                    return None;
                }
                if depth == 0 {
                    patch = Some(Self::of(start)?);
                } else if name == "PatchLocation" && location.is_none() {
                    location = Some(PatchLocation {
                        uri: String::new(),
                        ttl: ttl_of(start),
                    });
                }
            }
            match event {
                Event::Start(_) if depth < limits.depth_max => depth += 1,
                Event::Start(_) | Event::DocType(_) => return None,
                Event::End(end) => {
                    depth = depth.checked_sub(1)?;
                    if end.local_name().into_inner() == "PatchLocation" {
                        let known = &mut patch.as_mut()?.patch_locations;
                        known.extend(location.take());
                        if known.len() > limits.items_max {
                            return None;
                        }
                    }
                }
                Event::Text(text) => append(&mut location, &text)?,
                Event::CData(text) => append(&mut location, &text)?,
                Event::GeneralRef(reference) => {
                    let character = reference.resolve_char_ref().ok()?;
                    let character = character.or_else(|| predefined_entity(&reference))?;
                    append(&mut location, character.encode_utf8(&mut [0; 4]))?;
                }
                Event::Eof => break,
                Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            }
        }
        let mut patch = patch.filter(|_| depth == 0)?;
        for location in &mut patch.patch_locations {
            location.uri = location.uri.trim_ascii().to_owned();
        }
        Some(patch)
    }

    /// Returns whether a player that has a version of `mpd` can apply it, and is then further on.
    pub fn is_of(&self, mpd: &Mpd) -> bool {
        let leads_on = self.original_publish_time.zip(self.publish_time);
        let is_another = self.mpd_id.is_some() && mpd.id.is_some() && self.mpd_id != mpd.id;
        leads_on.is_some_and(|(from, to)| from < to) && !is_another
    }

    fn of(root: &BytesStart<'_>) -> Option<Self> {
        let value = |name| {
            let attribute = root.try_get_attribute(name).ok().flatten();
            let value = attribute.map(|a| a.normalized_value(XmlVersion::Implicit1_0));
            value
                .transpose()
                .ok()
                .flatten()
                .map(|value| value.trim_ascii().to_owned())
        };
        let date = |name| {
            let value = value(name);
            value.map_or(Some(None), |value| parse_date_time(&value).map(Some))
        };
        Some(Self {
            mpd_id: value("mpdId"),
            original_publish_time: date("originalPublishTime")?,
            publish_time: date("publishTime")?,
            patch_locations: Vec::new(),
        })
    }
}

fn ttl_of(location: &BytesStart<'_>) -> Option<Duration> {
    let attribute = location.try_get_attribute("ttl").ok().flatten()?;
    let seconds = attribute.value.trim_ascii().parse().ok()?;
    let ttl = Duration::try_from_secs_f64(seconds).ok()?;
    (ttl <= TTL_MAX).then_some(ttl)
}

/// Appends to the URI of the location that is open, if one is; `None` if it becomes too long.
fn append(location: &mut Option<PatchLocation>, text: &str) -> Option<()> {
    if let Some(PatchLocation { uri, .. }) = location {
        uri.push_str(text);
        return (uri.len() <= URI_BYTES_MAX).then_some(());
    }
    Some(())
}

/// Thirty years: sums stay far from overflow.
const TTL_MAX: Duration = Duration::from_secs(1_000_000_000);

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "<Patch xmlns=\"urn:mpeg:dash:schema:mpd-patch:2020\" mpdId=\"a\" \
                        originalPublishTime=\"1970-01-01T00:00:04Z\" publishTime=\"1970-01-01T00:00:06Z\"";

    fn parse(text: &str) -> Option<Patch> {
        Patch::parse(&Bytes::from(text.to_owned()), &Limits::default())
    }

    #[test]
    fn ld_14_a_patch_says_which_versions_it_is_between_and_where_the_next_one_is() {
        let text = format!(
            "<?xml version=\"1.0\"?>\n{ROOT}><replace sel=\"/MPD/PatchLocation[1]\">\
             <PatchLocation ttl=\"60\">\n/p.mpp?publishTime=6&amp;a=1 </PatchLocation></replace>\
             <add sel=\"/MPD\"><PatchLocation><![CDATA[/q.mpp?a&b]]></PatchLocation></add></Patch>\n"
        );
        let patch = parse(&text).unwrap();
        assert_eq!(patch.mpd_id.as_deref(), Some("a"));
        assert_eq!(patch.original_publish_time, Some(Duration::from_secs(4)));
        assert_eq!(patch.publish_time, Some(Duration::from_secs(6)));
        let location = |uri: &str, ttl: Option<u64>| PatchLocation {
            uri: uri.to_owned(),
            ttl: ttl.map(Duration::from_secs),
        };
        assert_eq!(
            patch.patch_locations,
            [
                location("/p.mpp?publishTime=6&a=1", Some(60)),
                location("/q.mpp?a&b", None)
            ]
        );
    }

    #[test]
    fn ld_14_a_patch_of_another_mpd_or_that_leads_nowhere_is_not_of_this_one() {
        let mpd = |id: &str| {
            let text = format!("<MPD{id}/>");
            Mpd::parse(Bytes::from(text), &Limits::default()).unwrap()
        };
        let patch = parse(&format!("{ROOT}/>")).unwrap();
        assert!(patch.is_of(&mpd(" id=\"a\"")) && patch.is_of(&mpd("")));
        assert!(!patch.is_of(&mpd(" id=\"b\"")));
        let back = ROOT.replace(":06Z", ":04Z");
        assert!(!parse(&format!("{back}/>")).unwrap().is_of(&mpd("")));
        assert!(!parse("<Patch/>").unwrap().is_of(&mpd("")));
    }

    #[test]
    fn what_is_no_patch_or_too_much_is_none() {
        let deep = format!("{ROOT}>{}", "<a>".repeat(100));
        let long = format!(
            "{ROOT}><add><PatchLocation>{}</PatchLocation></add></Patch>",
            "a".repeat(URI_BYTES_MAX + 1)
        );
        let cases = [
            "",
            "time",
            "<MPD/>",
            "<Patch>",
            "<Patch></MPD>",
            "<Patch/><Patch/>",
            "<!DOCTYPE Patch><Patch/>",
            "<Patch publishTime=\"now\"/>",
            "<Patch><add><PatchLocation>&x;</PatchLocation></add></Patch>",
            &deep,
            &long,
        ];
        for text in cases {
            assert_eq!(parse(text), None, "{text:.80}");
        }
        let small = Limits {
            bytes_max: 3,
            ..Limits::default()
        };
        assert_eq!(Patch::parse(&Bytes::from_static(b"<Patch/>"), &small), None);
    }
}
