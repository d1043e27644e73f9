//! Answers for media: init segments, segments, parts, and segments that are still growing.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::header;
use http::{Response, StatusCode};

use super::address::{Flavor, Item};
use super::body::{BodyFault, OriginBody};
use super::config::PartsAs;
use super::headers::{Ask, not_modified, refusal, set, set_max_age};
use super::instance::{Origin, PartKey};
use super::live::Edge;
use super::presentation::{ObjectKind, Position, Rendition};
use super::range::{ByteRange, VERY_LARGE};

/// What a segment's name stands for at an edge.
#[derive(Debug)]
enum SegmentState {
    Complete(Edge),
    Growing(Edge),
    Missing,
}

impl Origin {
    pub(crate) async fn media(
        self: &Arc<Self>,
        flavor: Flavor,
        rendition: &Rendition,
        item: Item,
        ask: &Ask<'_>,
    ) -> Response<OriginBody> {
        match item {
            Item::Init => {
                self.counters.object(ObjectKind::Init, ask.path.to_owned());
                let tag = format!("\"{}-init\"", rendition.name());
                finished(ask, &rendition.track.init_segment(), &tag, INIT_MAX_AGE)
            }
            Item::Part {
                msn,
                part_index,
                is_renamed,
            } => {
                let is_offered = flavor == Flavor::Live
                    && self.show.low_latency
                    && self.show.parts_as == PartsAs::Files;
                if !is_offered || part_index >= self.show.cadence.parts_per_segment {
                    return refusal(StatusCode::NOT_FOUND);
                }
                let number = self.show.cadence.number(Position { msn, part_index });
                self.part(rendition, number, is_renamed, ask).await
            }
            Item::Segment { msn } => match flavor {
                Flavor::Vod => self.vod_segment(rendition, msn, ask),
                Flavor::Live | Flavor::Plain => self.segment(flavor, rendition, msn, ask).await,
            },
            // Playlists are answered by the caller.
            Item::Playlist => refusal(StatusCode::NOT_FOUND),
        }
    }

    async fn part(
        &self,
        rendition: &Rendition,
        number: u64,
        is_renamed: bool,
        ask: &Ask<'_>,
    ) -> Response<OriginBody> {
        let oldest_kept = |edge: &Edge| self.first_kept_part(edge);
        let check = |edge: &Edge| {
            if edge.renamed.contains(&number) != is_renamed {
                return Some(None);
            }
            if number < edge.published {
                return Some((number >= oldest_kept(edge)).then_some(edge.generation));
            }
            // LL-18: only what is hinted is waited for.
            let is_hinted = number == edge.published && !edge.has_ended;
            (!is_hinted).then_some(None)
        };
        self.counters.object(ObjectKind::Part, ask.path.to_owned());
        let generation = match self.held(check).await {
            Some(Some(generation)) => generation,
            Some(None) => return refusal(StatusCode::NOT_FOUND),
            None => return refusal(StatusCode::SERVICE_UNAVAILABLE),
        };
        let bytes = self.part_bytes(rendition, generation, number);
        let tag = format!(
            "\"g{generation}-{}-p{number}-{}\"",
            rendition.name(),
            bytes.len()
        );
        let mut response = finished(ask, &bytes, &tag, 6 * self.show.target_seconds());
        self.set_published(&mut response, number);
        response
    }

    fn vod_segment(&self, rendition: &Rendition, msn: u64, ask: &Ask<'_>) -> Response<OriginBody> {
        if msn >= self.show.vod_segments() {
            return refusal(StatusCode::NOT_FOUND);
        }
        self.counters
            .object(ObjectKind::Segment, ask.path.to_owned());
        let tag = format!("\"vod-{}-{msn}\"", rendition.name());
        finished(
            ask,
            &self.show.vod_segment(rendition, msn),
            &tag,
            INIT_MAX_AGE,
        )
    }

    async fn segment(
        self: &Arc<Self>,
        flavor: Flavor,
        rendition: &Rendition,
        msn: u64,
        ask: &Ask<'_>,
    ) -> Response<OriginBody> {
        let grows = flavor == Flavor::Live && self.show.low_latency;
        let cadence = self.show.cadence;
        let check = |edge: &Edge| {
            let complete = edge.complete_segments(cadence);
            if msn < complete {
                let is_kept = cadence.parts_of(msn).end > self.first_kept_part(edge);
                return Some(if is_kept {
                    SegmentState::Complete(edge.clone())
                } else {
                    SegmentState::Missing
                });
            }
            if msn > complete || !grows || edge.has_ended {
                return Some(SegmentState::Missing);
            }
            // The segment that comes next is hinted: it is waited for until it begins.
            let has_begun = !edge.parts_of(cadence, msn).is_empty();
            has_begun.then(|| SegmentState::Growing(edge.clone()))
        };
        let Some(state) = self.held(check).await else {
            return refusal(StatusCode::SERVICE_UNAVAILABLE);
        };
        match state {
            SegmentState::Missing => refusal(StatusCode::NOT_FOUND),
            SegmentState::Complete(edge) => self.whole_segment(rendition, msn, &edge, ask),
            SegmentState::Growing(edge) => self.growing_segment(rendition, msn, &edge, ask).await,
        }
    }

    fn whole_segment(
        &self,
        rendition: &Rendition,
        msn: u64,
        edge: &Edge,
        ask: &Ask<'_>,
    ) -> Response<OriginBody> {
        let parts = edge.parts_of(self.show.cadence, msn);
        let mut bytes = BytesMut::new();
        for number in parts.clone() {
            bytes.extend_from_slice(&self.part_bytes(rendition, edge.generation, number));
        }
        self.count_segment(rendition, edge.generation, msn, ask);
        let tag = format!(
            "\"g{}-{}-s{msn}-{}\"",
            edge.generation,
            rendition.name(),
            bytes.len()
        );
        let max_age = (self.show.window + 1) * self.show.target_seconds();
        let mut response = finished(ask, &bytes.freeze(), &tag, max_age);
        self.set_published(&mut response, parts.end - 1);
        response
    }

    /// Answers with a segment that is still produced: part by part, each at once (LL-17).
    async fn growing_segment(
        self: &Arc<Self>,
        rendition: &Rendition,
        msn: u64,
        edge: &Edge,
        ask: &Ask<'_>,
    ) -> Response<OriginBody> {
        self.count_segment(rendition, edge.generation, msn, ask);
        let parts = self.show.cadence.parts_of(msn);
        let range = asked_range(ask);
        let available: u64 = self.lengths(rendition, edge.generation, parts.start..edge.published);
        // The media is bundled, so the final length is known; it is not told, as no packager knows it.
        let total: u64 = self.lengths(rendition, edge.generation, parts.clone());
        let (first, last) = match range {
            None => (0, None),
            Some(ByteRange::From(first)) if first < total => (first, None),
            Some(ByteRange::Closed(first, last)) if first < total => (first, Some(last)),
            Some(ByteRange::Last(_)) => (0, None),
            Some(ByteRange::From(_) | ByteRange::Closed(..)) => {
                return unsatisfiable("*");
            }
        };
        // The answer is as old as the first part it carries.
        let first_part = self.part_at(rendition, edge.generation, parts.clone(), first);
        let is_partial = !matches!(range, None | Some(ByteRange::Last(_)));
        let left = last.map(|last| last - first + 1);
        let growing = Growing {
            origin: Arc::clone(self),
            rendition: rendition.name(),
            generation: edge.generation,
            next: parts.start,
            end: parts.end,
            skip: first,
            left: left.unwrap_or(u64::MAX),
        };
        let body = stream::unfold(growing, Growing::next);
        let known = left.filter(|_| last.is_some_and(|last| last < total));
        let mut response = Response::new(OriginBody::growing(body, known));
        if is_partial {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            // RFC 8673 2: the last position is echoed; a HEAD learns what there is now (3.1).
            let last = match (ask.is_head, last) {
                (true, _) => available.saturating_sub(1),
                (false, last) => last.unwrap_or(VERY_LARGE),
            };
            let value = format!("bytes {first}-{last}/*");
            set(&mut response, header::CONTENT_RANGE, &value);
        }
        set(&mut response, header::CONTENT_TYPE, MEDIA_TYPE);
        set(&mut response, header::ACCEPT_RANGES, "bytes");
        set_max_age(&mut response, 6 * self.show.target_seconds());
        self.set_published(&mut response, first_part);
        response
    }

    /// Counts a request for a segment, or for a part if its range begins where a part does.
    fn count_segment(&self, rendition: &Rendition, generation: u32, msn: u64, ask: &Ask<'_>) {
        let (first, last) = match asked_range(ask) {
            Some(ByteRange::Closed(first, last)) => (first, Some(last)),
            Some(ByteRange::From(first)) if first > 0 => (first, None),
            Some(ByteRange::From(_) | ByteRange::Last(_)) | None => {
                let name = ask.path.to_owned();
                return self.counters.object(ObjectKind::Segment, name);
            }
        };
        let mut offset = 0;
        for (index, number) in self.show.cadence.parts_of(msn).enumerate() {
            let len = self.lengths(rendition, generation, number..number + 1);
            if offset == first && last.is_none_or(|last| last == offset + len - 1) {
                let name = format!("{}#{index}", ask.path);
                return self.counters.object(ObjectKind::Part, name);
            }
            offset += len;
        }
        self.counters
            .object(ObjectKind::Segment, ask.path.to_owned());
    }

    /// Returns which of `parts` holds byte `at` of the segment they make.
    fn part_at(&self, rendition: &Rendition, generation: u32, parts: Range<u64>, at: u64) -> u64 {
        let mut end = 0;
        let last = parts.end - 1;
        parts
            .into_iter()
            .find(|number| {
                end += self.show.part_len(rendition, generation, *number);
                at < end
            })
            .unwrap_or(last)
    }

    fn lengths(&self, rendition: &Rendition, generation: u32, parts: Range<u64>) -> u64 {
        parts
            .map(|n| self.show.part_len(rendition, generation, n))
            .sum()
    }

    fn part_bytes(&self, rendition: &Rendition, generation: u32, number: u64) -> Bytes {
        let key = PartKey {
            rendition: rendition.name(),
            generation,
            number,
        };
        self.parts
            .get_or_make(key, || self.show.part_bytes(rendition, generation, number))
    }

    /// Returns the oldest part that can still be had: two windows back, which is longer than LL-21
    /// asks for.
    fn first_kept_part(&self, edge: &Edge) -> u64 {
        let kept = (2 * self.show.window + 4) * self.show.cadence.parts_per_segment;
        edge.published.saturating_sub(kept)
    }
}

/// A growing segment on its way to one client.
struct Growing {
    origin: Arc<Origin>,
    rendition: &'static str,
    generation: u32,
    next: u64,
    end: u64,
    skip: u64,
    left: u64,
}

/// What became of the part that a growing segment waits for.
enum Grown {
    Part,
    Ended,
    Lost,
}

impl Growing {
    async fn next(mut self) -> Option<(Result<Bytes, BodyFault>, Self)> {
        while self.next < self.end && self.left > 0 {
            let grown = self
                .origin
                .live
                .until(|edge| {
                    if edge.generation != self.generation {
                        return Some(Grown::Lost);
                    }
                    if self.next < edge.published {
                        return Some(Grown::Part);
                    }
                    edge.has_ended.then_some(Grown::Ended)
                })
                .await;
            match grown {
                Grown::Part => {}
                Grown::Ended => return None,
                Grown::Lost => {
                    self.left = 0;
                    return Some((Err(BodyFault), self));
                }
            }
            let mut bytes = self.part();
            self.next += 1;
            let skipped = self.skip.min(bytes.len() as u64);
            self.skip -= skipped;
            drop(bytes.split_to(usize::try_from(skipped).expect("at most the part's length")));
            let keep = usize::try_from(self.left).unwrap_or(usize::MAX);
            bytes.truncate(keep);
            self.left -= bytes.len() as u64;
            if !bytes.is_empty() {
                return Some((Ok(bytes), self));
            }
        }
        None
    }

    fn part(&self) -> Bytes {
        let rendition = self
            .origin
            .show
            .renditions
            .iter()
            .find(|t| t.name() == self.rendition)
            .expect("a rendition never leaves the presentation");
        self.origin
            .part_bytes(rendition, self.generation, self.next)
    }
}

const MEDIA_TYPE: &str = "video/mp4";
const INIT_MAX_AGE: u64 = 3600;

fn asked_range(ask: &Ask<'_>) -> Option<ByteRange> {
    let header = ask.headers.get(header::RANGE)?;
    ByteRange::parse(header.to_str().ok()?)
}

/// Answers with bytes that are all there, or with the range of them that was asked for.
fn finished(ask: &Ask<'_>, bytes: &Bytes, tag: &str, max_age: u64) -> Response<OriginBody> {
    let mut response = match asked_range(ask).filter(|_| !ranges_are_void(ask, tag)) {
        None => Response::new(OriginBody::full(bytes.clone())),
        Some(range) => {
            let len = bytes.len() as u64;
            let Some((first, last)) = range.within(len) else {
                return unsatisfiable(&len.to_string());
            };
            let at = |place: u64| usize::try_from(place).expect("a place inside the bytes");
            let part = bytes.slice(at(first)..=at(last));
            let mut response = Response::new(OriginBody::full(part));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let value = format!("bytes {first}-{last}/{len}");
            set(&mut response, header::CONTENT_RANGE, &value);
            response
        }
    };
    set(&mut response, header::CONTENT_TYPE, MEDIA_TYPE);
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    set(&mut response, header::ETAG, tag);
    set_max_age(&mut response, max_age);
    not_modified(ask, response)
}

/// Returns whether `If-Range` names another representation (RFC 9110 13.1.5).
fn ranges_are_void(ask: &Ask<'_>, tag: &str) -> bool {
    let condition = ask.headers.get(header::IF_RANGE);
    condition.is_some_and(|value| value.as_bytes() != tag.as_bytes())
}

fn unsatisfiable(len: &str) -> Response<OriginBody> {
    let mut response = refusal(StatusCode::RANGE_NOT_SATISFIABLE);
    set(
        &mut response,
        header::CONTENT_RANGE,
        &format!("bytes */{len}"),
    );
    response
}
