//! Reads an MPD: one pass over XML events, with a stack of the elements it is in.
//!
//! Document types are refused, so that no entity but the predefined five can expand; everything else
//! of XML that could grow has a limit.

use std::time::Duration;

use bytes::Bytes;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::reader::Reader;

use super::attributes::{Attributes, predefined_entity};
use super::limits::{Limits, MpdError};
use super::mpd::{
    BaseUrl, Mpd, PatchLocation, Period, PresentationType, Representation, SegmentTemplate,
    TimelineRun, UtcTiming,
};
use super::template::Template;
use crate::uri::URI_BYTES_MAX;

impl Mpd {
    /// Parses an MPD and keeps its text, byte for byte.
    ///
    /// # Errors
    ///
    /// What the text is not, and at which byte. See [`MpdError`].
    ///
    /// # Limits
    ///
    /// Those of `limits`.
    pub fn parse(text: Bytes, limits: &Limits) -> Result<Self, MpdError> {
        if text.len() > limits.bytes_max {
            return Err(MpdError::TooLarge {
                bytes: text.len(),
                bytes_max: limits.bytes_max,
            });
        }
        let source = std::str::from_utf8(&text).map_err(|_| MpdError::NotUtf8)?;
        let mut builder = Builder::new(limits);
        let mut reader = Reader::from_str(source);
        loop {
            builder.at = reader.buffer_position();
            let event = reader.read_event();
            let event = event.map_err(|source| MpdError::Xml {
                at: builder.at,
                source,
            })?;
            if matches!(event, Event::Eof) {
                break;
            }
            builder.event(event)?;
        }
        let mut mpd = builder.finish()?;
        mpd.text = text;
        Ok(mpd)
    }
}

/// The elements that are read; the others are stepped over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Mpd,
    Period,
    AdaptationSet,
    Representation,
    SegmentTemplate,
    SegmentTimeline,
    Run,
    BaseUrl,
    Location,
    PatchLocation,
    UtcTiming,
    Other,
}

/// What a level of the hierarchy says for those inside it.
#[derive(Debug, Default)]
struct Level {
    base_urls: Vec<BaseUrl>,
    template: Option<SegmentTemplate>,
    mime_type: Option<String>,
}

struct Builder<'a> {
    limits: &'a Limits,
    mpd: Mpd,
    has_root: bool,
    open: Vec<Element>,
    levels: Vec<Level>,
    /// Text of the open element, if it is one whose text is read.
    text: String,
    template: SegmentTemplate,
    base_url: BaseUrl,
    patch_ttl: Option<Duration>,
    elements: usize,
    at: u64,
}

impl<'a> Builder<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            mpd: Mpd::default(),
            has_root: false,
            open: Vec::new(),
            levels: Vec::new(),
            text: String::new(),
            template: SegmentTemplate::default(),
            base_url: BaseUrl::default(),
            patch_ttl: None,
            elements: 0,
            at: 0,
        }
    }

    fn event(&mut self, event: Event<'_>) -> Result<(), MpdError> {
        match event {
            Event::Start(start) => self.start(&start),
            Event::Empty(start) => {
                self.start(&start)?;
                self.end()
            }
            Event::End(_) => self.end(),
            Event::Text(text) => self.text(&text),
            Event::CData(text) => self.text(&text),
            Event::GeneralRef(reference) => self.reference(&reference),
            Event::DocType(_) => Err(MpdError::DocumentType),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::Eof => Ok(()),
        }
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), MpdError> {
        self.elements += 1;
        self.at_most("elements", self.elements, self.limits.elements_max)?;
        self.at_most(
            "elements in each other",
            self.open.len() + 1,
            self.limits.depth_max,
        )?;
        let element = self.classify(start.local_name().into_inner());
        if !self.has_root && element != Element::Mpd {
            return Err(MpdError::NotAnMpd);
        }
        self.has_root = true;
        self.open.push(element);
        self.text.clear();
        let attributes = self.attributes(start)?;
        match element {
            Element::Mpd => self.mpd(&attributes)?,
            Element::Period => self.period(&attributes)?,
            Element::AdaptationSet => {
                let mime_type = attributes.owned("mimeType");
                self.levels.push(Level {
                    mime_type,
                    ..Level::default()
                });
            }
            Element::Representation => self.representation(&attributes)?,
            Element::SegmentTemplate => self.template = self.segment_template(&attributes)?,
            Element::Run => self.run(&attributes)?,
            Element::BaseUrl => {
                self.base_url = BaseUrl {
                    uri: String::new(),
                    availability_time_offset: attributes.offset("availabilityTimeOffset")?,
                    availability_time_complete: attributes.flag("availabilityTimeComplete"),
                };
            }
            Element::PatchLocation => self.patch_ttl = attributes.seconds("ttl")?,
            Element::UtcTiming => self.utc_timing(&attributes)?,
            Element::SegmentTimeline | Element::Location | Element::Other => {}
        }
        Ok(())
    }

    /// Tells what an element is from its name and from what it is in.
    fn classify(&self, name: &str) -> Element {
        let parent = self.open.last().copied();
        let is_level = matches!(
            parent,
            Some(Element::Mpd | Element::Period | Element::AdaptationSet | Element::Representation)
        );
        match (parent, name) {
            (None, "MPD") if !self.has_root => Element::Mpd,
            (Some(Element::Mpd), "Period") => Element::Period,
            (Some(Element::Mpd), "Location") => Element::Location,
            (Some(Element::Mpd), "PatchLocation") => Element::PatchLocation,
            (Some(Element::Mpd), "UTCTiming") => Element::UtcTiming,
            (Some(Element::Period), "AdaptationSet") => Element::AdaptationSet,
            (Some(Element::AdaptationSet), "Representation") => Element::Representation,
            (Some(Element::SegmentTemplate), "SegmentTimeline") => Element::SegmentTimeline,
            (Some(Element::SegmentTimeline), "S") => Element::Run,
            (_, "BaseURL") if is_level => Element::BaseUrl,
            (Some(parent), "SegmentTemplate") if is_level && parent != Element::Mpd => {
                Element::SegmentTemplate
            }
            _ => Element::Other,
        }
    }

    fn end(&mut self) -> Result<(), MpdError> {
        let text = || self.text.trim_ascii().to_owned();
        let items_max = self.limits.items_max;
        match self.open.pop() {
            Some(Element::Mpd) => {
                let level = self.levels.pop().unwrap_or_default();
                self.mpd.base_urls = level.base_urls;
            }
            Some(Element::Period | Element::AdaptationSet) => {
                self.levels.pop();
            }
            Some(Element::Representation) => self.end_representation(),
            Some(Element::SegmentTemplate) => {
                let template = std::mem::take(&mut self.template);
                if let Some(level) = self.levels.last_mut() {
                    level.template = Some(template);
                }
            }
            Some(Element::BaseUrl) => {
                let base_url = BaseUrl {
                    uri: text(),
                    ..std::mem::take(&mut self.base_url)
                };
                let known = self.levels.last().map_or(0, |level| level.base_urls.len());
                self.at_most("base URLs", known + 1, items_max)?;
                if let Some(level) = self.levels.last_mut() {
                    level.base_urls.push(base_url);
                }
            }
            Some(Element::Location) => {
                self.at_most("locations", self.mpd.locations.len() + 1, items_max)?;
                self.mpd.locations.push(text());
            }
            Some(Element::PatchLocation) => {
                self.at_most(
                    "patch locations",
                    self.mpd.patch_locations.len() + 1,
                    items_max,
                )?;
                let location = PatchLocation {
                    uri: text(),
                    ttl: self.patch_ttl,
                };
                self.mpd.patch_locations.push(location);
            }
            Some(Element::SegmentTimeline | Element::Run | Element::UtcTiming | Element::Other)
            | None => {}
        }
        self.text.clear();
        Ok(())
    }

    fn mpd(&mut self, attributes: &Attributes) -> Result<(), MpdError> {
        self.levels.push(Level::default());
        self.mpd = Mpd {
            id: attributes.owned("id"),
            presentation: match attributes.get("type") {
                Some("dynamic") => PresentationType::Dynamic,
                Some("static") | None => PresentationType::Static,
                Some(_) => return Err(self.malformed("type")),
            },
            availability_start: attributes.date("availabilityStartTime")?,
            publish_time: attributes.date("publishTime")?,
            minimum_update_period: attributes.duration("minimumUpdatePeriod")?,
            time_shift_buffer_depth: attributes.duration("timeShiftBufferDepth")?,
            suggested_presentation_delay: attributes.duration("suggestedPresentationDelay")?,
            media_presentation_duration: attributes.duration("mediaPresentationDuration")?,
            ..Mpd::default()
        };
        Ok(())
    }

    fn period(&mut self, attributes: &Attributes) -> Result<(), MpdError> {
        self.at_most("periods", self.mpd.periods.len() + 1, self.limits.items_max)?;
        self.levels.push(Level::default());
        // ISO/IEC 23009-1 5.3.2.1: it follows its predecessor; the first of a static MPD is at zero.
        let follows = match self.mpd.periods.last() {
            Some(before) => before
                .start
                .zip(before.duration)
                .and_then(|(s, d)| s.checked_add(d)),
            None if self.mpd.is_dynamic() => None,
            None => Some(Duration::ZERO),
        };
        self.mpd.periods.push(Period {
            id: attributes.owned("id"),
            start: attributes.duration("start")?.or(follows),
            duration: attributes.duration("duration")?,
        });
        Ok(())
    }

    fn representation(&mut self, attributes: &Attributes) -> Result<(), MpdError> {
        let count = self.mpd.representations.len() + 1;
        self.at_most("representations", count, self.limits.representations_max)?;
        self.levels.push(Level {
            mime_type: attributes.owned("mimeType"),
            ..Level::default()
        });
        self.mpd.representations.push(Representation {
            id: attributes.owned("id").unwrap_or_default(),
            bandwidth: attributes.number("bandwidth")?.unwrap_or(0),
            period: self.mpd.periods.len().saturating_sub(1),
            ..Representation::default()
        });
        Ok(())
    }

    /// Gives the representation what it inherits.
    fn end_representation(&mut self) {
        if let Some(representation) = self.mpd.representations.last_mut() {
            let levels = &self.levels;
            representation.base_urls = levels
                .iter()
                .filter_map(|level| level.base_urls.first().cloned())
                .collect();
            representation.mime_type = levels
                .iter()
                .rev()
                .find_map(|level| level.mime_type.clone());
            representation.template = levels
                .iter()
                .filter_map(|level| level.template.clone())
                .reduce(|outer, inner| inner.inherit(Some(&outer)));
        }
        self.levels.pop();
    }

    fn segment_template(&self, attributes: &Attributes) -> Result<SegmentTemplate, MpdError> {
        let template = |name| {
            let text: Option<&str> = attributes.get(name);
            let template = text.map(Template::parse).transpose();
            template.map_err(|_| self.malformed(name))
        };
        if attributes.get("timescale") == Some("0") {
            return Err(self.malformed("timescale"));
        }
        Ok(SegmentTemplate {
            media: template("media")?,
            initialization: template("initialization")?,
            start_number: attributes.number("startNumber")?,
            duration: attributes.number("duration")?,
            timescale: attributes.number("timescale")?,
            presentation_time_offset: attributes.number("presentationTimeOffset")?,
            availability_time_offset: attributes.offset("availabilityTimeOffset")?,
            availability_time_complete: attributes.flag("availabilityTimeComplete"),
            timeline: Vec::new(),
        })
    }

    fn run(&mut self, attributes: &Attributes) -> Result<(), MpdError> {
        let count = self.template.timeline.len() + 1;
        self.at_most("runs of a timeline", count, self.limits.timeline_runs_max)?;
        let repeat = attributes.get("r").map_or(Ok(0), str::parse);
        self.template.timeline.push(TimelineRun {
            start: attributes.number("t")?,
            duration: attributes.number("d")?.ok_or_else(|| self.malformed("d"))?,
            repeat: repeat.map_err(|_| self.malformed("r"))?,
        });
        Ok(())
    }

    fn utc_timing(&mut self, attributes: &Attributes) -> Result<(), MpdError> {
        self.at_most(
            "sources of the time",
            self.mpd.utc_timings.len() + 1,
            self.limits.items_max,
        )?;
        self.mpd.utc_timings.push(UtcTiming {
            scheme: attributes.owned("schemeIdUri").unwrap_or_default(),
            value: attributes.owned("value").unwrap_or_default(),
        });
        Ok(())
    }

    /// Collects text of the elements whose text is a URI.
    fn text(&mut self, text: &str) -> Result<(), MpdError> {
        let open = self.open.last();
        let is_read = matches!(
            open,
            Some(Element::BaseUrl | Element::Location | Element::PatchLocation)
        );
        if is_read {
            self.text.push_str(text);
            self.at_most("bytes of a URI", self.text.len(), URI_BYTES_MAX)?;
        }
        Ok(())
    }

    fn reference(&mut self, reference: &BytesRef<'_>) -> Result<(), MpdError> {
        let character = reference.resolve_char_ref();
        let character = character.map_err(|source| MpdError::Xml {
            at: self.at,
            source,
        })?;
        let character = character.or_else(|| predefined_entity(reference));
        let character = character.ok_or_else(|| self.malformed("entity"))?;
        self.text(character.encode_utf8(&mut [0; 4]))
    }

    fn attributes(&self, start: &BytesStart<'_>) -> Result<Attributes, MpdError> {
        let mut pairs = Vec::new();
        // The reader's own check for duplicates is quadratic; the first of a name counts.
        for attribute in start.attributes().with_checks(false) {
            self.at_most("attributes", pairs.len() + 1, self.limits.attributes_max)?;
            let xml = |source| MpdError::Xml {
                at: self.at,
                source,
            };
            let attribute = attribute.map_err(|error| xml(error.into()))?;
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(xml)?;
            pairs.push((attribute.key.into_inner().to_owned(), value.into_owned()));
        }
        Ok(Attributes::new(pairs, self.at))
    }

    fn finish(self) -> Result<Mpd, MpdError> {
        if !self.has_root {
            return Err(MpdError::NotAnMpd);
        }
        if self.open.is_empty() {
            Ok(self.mpd)
        } else {
            Err(MpdError::Unfinished)
        }
    }

    fn at_most(&self, what: &'static str, count: usize, limit: usize) -> Result<(), MpdError> {
        if count <= limit {
            Ok(())
        } else {
            Err(MpdError::TooMany {
                what,
                limit,
                at: self.at,
            })
        }
    }

    fn malformed(&self, what: &'static str) -> MpdError {
        MpdError::Malformed { what, at: self.at }
    }
}

#[cfg(test)]
#[path = "mpd_tests.rs"]
mod tests;
