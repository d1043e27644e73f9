//! Patches of the plain manifest: what has changed since a version that a player has (ISO/IEC 23009-1 5.15).
//!
//! The two versions are made anew from what the clock says was published then and is now, so nothing is kept
//! between requests. Who calls it: the origin, for `patch.mpp`. Deliberately not here: the manifest itself (`dash`).

use http::{Response, StatusCode};

use super::address::Flavor;
use super::body::OriginBody;
use super::dash::{MPD_ID, SegmentList, listed};
use super::headers::{Ask, refusal};
use super::instance::Origin;
use super::live::Edge;
use super::presentation::ObjectKind;
use super::serve_text::{TextKey, text_response};
use super::wall::iso_8601;

impl Origin {
    /// Returns the element that says where the patches of the version at `edge` are.
    pub(super) fn patch_location(&self, edge: &Edge) -> String {
        let published = self.published_at(edge);
        let ttl = self.show.window * self.show.cadence.segment_seconds;
        format!("<PatchLocation ttl=\"{ttl}\">patch.mpp?publishTime={published}</PatchLocation>")
    }

    /// Answers with what has changed since the version that the query names.
    pub(super) fn patch(&self, ask: &Ask<'_>) -> Response<OriginBody> {
        let pairs = ask.query.split('&').filter_map(|pair| pair.split_once('='));
        let asked_for = pairs.into_iter().find(|(name, _)| *name == "publishTime");
        let Some((_, published)) = asked_for else {
            return refusal(StatusCode::BAD_REQUEST);
        };
        let published = published.replace("%3A", ":");
        let now = self.live.edge();
        let complete = now.complete_segments(self.show.cadence);
        let to = self.version(&now, complete);
        let oldest = complete.saturating_sub(self.show.window);
        let mut versions = (oldest..=complete).map(|segments| self.version(&now, segments));
        let from = versions.find(|version| self.published_at(version) == published);
        let Some(from) = from.filter(|_| !now.has_ended) else {
            return refusal(StatusCode::GONE);
        };
        if from == to {
            return refusal(StatusCode::TOO_EARLY);
        }
        let name = format!("{} g{} {published}", ask.path, to.generation);
        self.counters.object(ObjectKind::Mpd, name);
        let key = TextKey {
            kind: ObjectKind::Mpd,
            flavor: Flavor::Plain,
            rendition: "",
            edge: Some(to.clone()),
            is_delta: true,
            query: published,
        };
        let text = self.text(key, || self.changes(&from, &to));
        let max_age = (self.show.target_seconds() / 2).max(1);
        text_response(ask, &text, "application/dash-patch+xml", max_age)
    }

    /// Returns the edge at which so many segments were whole.
    fn version(&self, now: &Edge, segments: u64) -> Edge {
        Edge {
            published: self.show.cadence.parts_of(segments).start,
            ..now.clone()
        }
    }

    /// Returns what the manifest of a version says about when it was published.
    fn published_at(&self, edge: &Edge) -> String {
        let media = self.show.cadence.start_of(edge.published);
        iso_8601(self.clock.wall(edge.zero + media))
    }

    fn changes(&self, from: &Edge, to: &Edge) -> String {
        let (original, published) = (self.published_at(from), self.published_at(to));
        let location = self.patch_location(to);
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <Patch xmlns=\"urn:mpeg:dash:schema:mpd-patch:2020\" mpdId=\"{MPD_ID}\" \
             originalPublishTime=\"{original}\" publishTime=\"{published}\">\n\
             <replace sel=\"/MPD/@publishTime\">{published}</replace>\n\
             <replace sel=\"/MPD/PatchLocation[1]\">{location}</replace>\n"
        );
        for is_audio in [false, true] {
            let mut renditions = self.show.renditions.iter();
            let first = renditions.find(|one| one.track.is_audio() == is_audio);
            if let Some(first) = first {
                let before = self.segment_list(Flavor::Plain, first, from);
                let after = self.segment_list(Flavor::Plain, first, to);
                text += &of_set(u8::from(is_audio), &before, &after);
            }
        }
        text + "</Patch>\n"
    }
}

/// Returns the operations on the timeline of an adaptation set.
fn of_set(id: u8, before: &SegmentList, after: &SegmentList) -> String {
    let template = format!("/MPD/Period[@id='0']/AdaptationSet[@id='{id}']/SegmentTemplate");
    let timeline = format!("{template}/SegmentTimeline");
    let mut text = String::new();
    for _ in before.first..after.first {
        text += &format!("<remove sel=\"{timeline}/S[1]\"/>\n");
    }
    if before.first != after.first {
        let first = after.first;
        text += &format!("<replace sel=\"{template}/@startNumber\">{first}</replace>\n");
    }
    let known = before.first + before.times.len() as u64;
    let numbered = (after.first..).zip(&after.times);
    let added = numbered.filter(|(number, _)| *number >= known);
    let added: String = added.map(|(_, time)| listed(*time)).collect();
    text + &format!("<add sel=\"{timeline}\">\n{added}</add>\n")
}
