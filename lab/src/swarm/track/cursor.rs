//! Which media comes next: from the start position along the list, onto the hint.
//!
//! Media are identified by position, so that a list in which a URI changed, a segment closed early
//! or a hint was withdrawn is noticed. At most one listed and one hinted request run at a time.

use std::sync::Arc;
use std::time::Duration;

use media::Position;
use media::hls::{HintKind, MediaPlaylist, PreloadHint};

use super::super::client::RequestRange;
use super::super::config::Wants;
use super::super::listed::{self, Found, Resource};
use super::retries::Retries;

/// One media request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Media {
    pub(crate) kind: MediaKind,
    /// For an initialization section, the position it is needed at.
    pub(crate) position: Position,
    pub(crate) resource: Resource,
    pub(crate) duration: Duration,
    /// Requested before it was listed.
    pub(crate) is_hinted: bool,
    /// New in the newest list: its delay is the delay of live delivery.
    pub(crate) is_at_edge: bool,
    /// The playlist promises ISO BMFF (it has a map).
    pub(crate) is_fmp4: bool,
}

/// What kind of object a media request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaKind {
    Init,
    Part,
    Segment,
}

#[derive(Debug)]
pub(super) struct Cursor {
    wants: Wants,
    next: Option<Position>,
    /// Continue another rendition's media here, once a list has come.
    continue_at: Option<Position>,
    map: Option<Resource>,
    hinted: Option<Hinted>,
    /// Positions requested and not yet answered.
    in_flight: Vec<Position>,
    retries: Retries,
    /// What is listed from here on was not listed before the newest list.
    edge: Option<Position>,
    last_edge: Option<Position>,
    jumps: u64,
}

#[derive(Debug)]
struct Hinted {
    position: Position,
    resource: Resource,
    duration: Duration,
}

/// What a new list says of the hinted part that is being fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HintNews {
    /// Nothing, or no part is being fetched on a hint.
    None,
    /// It is listed; the assumed and the listed duration.
    Listed { assumed: Duration, listed: Duration },
    /// It will not come (LL-19).
    Withdrawn(Position),
}

impl Cursor {
    pub(super) fn new(wants: Wants) -> Self {
        Self {
            wants,
            next: None,
            continue_at: None,
            map: None,
            hinted: None,
            in_flight: Vec::new(),
            retries: Retries::default(),
            edge: None,
            last_edge: None,
            jumps: 0,
        }
    }

    pub(super) fn continue_at(&mut self, at: Option<Position>) {
        self.continue_at = at;
    }

    pub(super) fn jumps(&self) -> u64 {
        self.jumps
    }

    /// The first media that was requested, is still wanted, and has not come: what comes after it cannot be played.
    pub(super) fn first_missing(&self) -> Option<Position> {
        let requested = self.in_flight.iter().copied();
        requested.chain(self.retries.first()).min()
    }

    pub(super) fn continues_at(&self) -> Option<Position> {
        self.first_missing().or(self.next)
    }

    pub(super) fn retry_at(&self) -> Option<Duration> {
        self.retries.due_at()
    }

    /// Forgets everything: the numbering has begun anew.
    pub(super) fn restart(&mut self) {
        let jumps = self.jumps;
        *self = Self::new(self.wants);
        self.jumps = jumps + 1;
    }

    /// Takes a newer list.
    pub(super) fn on_list(&mut self, list: &MediaPlaylist) -> HintNews {
        if self.next.is_none() {
            let continued = self.continue_at.take();
            let continued = continued.and_then(|at| listed::switch_at(list, at));
            self.next = Some(continued.unwrap_or_else(|| listed::start(list)));
        }
        let edge = list.next_position();
        if self.last_edge != Some(edge) {
            self.edge = self.last_edge.replace(edge);
        }
        let Some(hinted) = self.hinted.take() else {
            return HintNews::None;
        };
        // An origin may close the segment together with the next part: the hinted part then is
        // part 0 of the segment after it.
        let follower = Position::part(hinted.position.msn.next(), 0);
        for position in [hinted.position, follower] {
            if let Some(part) = listed::part_at(list, position)
                && *part.uri == *hinted.resource.uri
            {
                if position == follower {
                    self.next = Some(Position::part(follower.msn, 1));
                }
                return HintNews::Listed {
                    assumed: hinted.duration,
                    listed: part.duration,
                };
            }
        }
        let is_same = |hint: PreloadHint<'_>| *hint.uri == *hinted.resource.uri;
        if list.preload_hints().any(is_same) && !list.is_ended() {
            self.hinted = Some(hinted);
            return HintNews::None;
        }
        self.next = Some(hinted.position);
        self.ended(hinted.position);
        HintNews::Withdrawn(hinted.position)
    }

    /// Returns the next media to request, given how many requests run.
    pub(super) fn next(
        &mut self,
        list: &MediaPlaylist,
        now: Duration,
        in_flight: usize,
    ) -> Option<Media> {
        // A hinted part may be long in coming, and what failed before it is wanted now.
        let listed_in_flight = in_flight.saturating_sub(usize::from(self.hinted.is_some()));
        if listed_in_flight == 0
            && let Some(media) = self.retry(list, now)
        {
            return Some(media);
        }
        // Bounded: each step goes on to a later segment of the list.
        for _ in 0..=(list.segments().len() + 1) * 2 {
            let position = self.next?;
            match listed::find(list, position) {
                Found::Part { .. } | Found::Segment { .. } if in_flight > 0 => return None,
                Found::Part { resource, duration } => {
                    return Some(self.take(list, MediaKind::Part, resource, duration));
                }
                Found::Segment { resource, duration } => {
                    return Some(self.take(list, MediaKind::Segment, resource, duration));
                }
                Found::GoOn(next) => self.next = Some(next),
                Found::NotYet => return self.hint(list, position, in_flight),
                Found::Gone => {
                    self.jumps += 1;
                    self.next = Some(listed::start(list));
                }
            }
        }
        None
    }

    /// Hands out what is at the next position, or the initialization section it needs first.
    fn take(
        &mut self,
        list: &MediaPlaylist,
        kind: MediaKind,
        resource: Resource,
        duration: Duration,
    ) -> Media {
        let position = self.next.expect("taken at the next position");
        let map = listed::map_at(list, position);
        let media = Media {
            kind,
            position,
            resource,
            duration,
            is_hinted: false,
            is_at_edge: self.edge.is_some_and(|edge| position >= edge),
            is_fmp4: map.is_some(),
        };
        if map != self.map {
            self.map.clone_from(&map);
            if let Some(map) = map {
                return self.started(media.init(map));
            }
        }
        self.next = Some(media.after());
        self.started(media)
    }

    fn hint(
        &mut self,
        list: &MediaPlaylist,
        position: Position,
        in_flight: usize,
    ) -> Option<Media> {
        let mut hints = list.preload_hints();
        let hint = hints.find(|hint| hint.kind == HintKind::Part)?;
        // An open range of a growing resource is taken once its parts are listed, as ExoPlayer
        // does: the request would deliver many parts and say of none when it was whole.
        let is_file = hint.byterange_start == 0
            && hint.byterange_length.is_none()
            && !listed::has_ranged_parts(list);
        let is_wanted = self.wants == Wants::Hint
            && (is_file || hint.byterange_length.is_some())
            && in_flight <= 1
            && self.hinted.is_none()
            && !self.retries.has(position)
            && position == list.next_position()
            && !list.is_ended();
        if !is_wanted {
            return None;
        }
        let range = hint.byterange_length.map(|len| RequestRange {
            start: hint.byterange_start,
            len,
        });
        let media = Media {
            kind: MediaKind::Part,
            position,
            resource: Resource {
                uri: Arc::from(hint.uri),
                range,
            },
            duration: list.part_target().unwrap_or_default(),
            is_hinted: true,
            is_at_edge: true,
            is_fmp4: listed::map_at(list, position).is_some(),
        };
        self.hinted = Some(Hinted {
            position,
            resource: media.resource.clone(),
            duration: media.duration,
        });
        self.next = Some(media.after());
        Some(self.started(media))
    }

    fn retry(&mut self, list: &MediaPlaylist, now: Duration) -> Option<Media> {
        let (kind, position, found) = self.retries.take(list, now, &self.in_flight)?;
        let map = listed::map_at(list, position);
        let (Found::Part { resource, duration } | Found::Segment { resource, duration }) = found
        else {
            return None;
        };
        let media = Media {
            kind,
            position,
            resource,
            duration,
            is_hinted: false,
            is_at_edge: false,
            is_fmp4: map.is_some(),
        };
        let media = match (kind, map) {
            (MediaKind::Init, Some(map)) => media.init(map),
            (MediaKind::Init | MediaKind::Part | MediaKind::Segment, _) => media,
        };
        Some(self.started(media))
    }

    fn started(&mut self, media: Media) -> Media {
        self.in_flight.push(media.position);
        media
    }

    fn ended(&mut self, position: Position) {
        if let Some(at) = self.in_flight.iter().position(|flying| *flying == position) {
            self.in_flight.swap_remove(at);
        }
    }

    pub(super) fn on_done(&mut self, media: &Media) {
        self.ended(media.position);
        self.retries.forget(media);
    }

    /// Puts media that the viewer gave up itself up for another request.
    pub(super) fn on_abort(&mut self, media: &Media, now: Duration) {
        self.ended(media.position);
        if media.is_hinted {
            self.hinted = None;
        }
        self.retries.again(media, now);
    }

    /// Puts the media up for another request, or gives it up and returns the gap's duration.
    pub(super) fn on_failure(&mut self, media: &Media, now: Duration) -> Option<Duration> {
        self.ended(media.position);
        if media.is_hinted {
            self.hinted = None;
        }
        (!self.retries.failed(media, now)).then_some(media.duration)
    }

    /// True if every position of the ended list was requested and answered.
    pub(super) fn is_past(&self, list: &MediaPlaylist) -> bool {
        let is_past = match (self.next, list.last_position()) {
            (_, None) => true,
            (Some(next), Some(_)) => listed::find(list, next) == Found::NotYet,
            (None, Some(_)) => false,
        };
        is_past && self.in_flight.is_empty() && self.retries.is_empty()
    }
}

impl Media {
    /// The initialization section that is needed for this media.
    fn init(self, map: Resource) -> Self {
        Self {
            kind: MediaKind::Init,
            resource: map,
            duration: Duration::ZERO,
            is_at_edge: false,
            ..self
        }
    }

    fn after(&self) -> Position {
        let msn = self.position.msn;
        match (self.kind, self.position.part_index) {
            (MediaKind::Part | MediaKind::Init, Some(index)) => {
                Position::part(msn, index.saturating_add(1))
            }
            // The whole segment stood in for parts that were not listed.
            (MediaKind::Segment, Some(_)) => Position::part(msn.next(), 0),
            (MediaKind::Part | MediaKind::Init | MediaKind::Segment, None) => {
                Position::segment(msn.next())
            }
        }
    }
}
