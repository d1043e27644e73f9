//! One player: which renditions it follows and how its buffer fills.
//!
//! Pure, like `track.rs` below it: texts and instants in, requests out. `viewer.rs` carries the
//! requests out and reports back. Slot 0 is the video (or muxed) rendition, slot 1 demuxed audio.

use std::time::Duration;

use bytes::Bytes;
use media::Position;
use media::hls::{ChildKind, Limits, MediaPlaylist, MultivariantPlaylist, Playlist, PlaylistError};

use super::buffer::Buffer;
use super::chance::Chance;
use super::config::{BufferModel, StartRendition, Wants};
use super::listed::ListError;
use super::location::{Location, LocationError};
use super::track::{Directives, Media, Reload, Seen, Track};

/// How a player plays.
#[derive(Debug, Clone)]
pub(crate) struct Habits {
    pub(crate) wants: Wants,
    pub(crate) delta_updates: bool,
    pub(crate) start: StartRendition,
    pub(crate) audio: bool,
    pub(crate) buffer: BufferModel,
}

/// A player and what it follows.
#[derive(Debug)]
pub(crate) struct Player {
    habits: Habits,
    url: Location,
    /// The variants' playlists, by rising bandwidth.
    variants: Vec<Location>,
    variant: usize,
    tracks: Vec<Track>,
    buffer: Buffer,
    /// Whether the start needs were taken from a playlist yet.
    has_needs: bool,
    jumps_before_switches: u64,
    /// Per variant: what this viewer has seen of it, so that no rendition runs backwards unnoticed.
    floors: Vec<Option<Position>>,
}

/// Why a presentation cannot be played.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("no playable playlist: {0}")]
    Playlist(#[from] PlaylistError),
    #[error("no playable playlist: {0}")]
    List(#[from] ListError),
    #[error("no playable url: {0}")]
    Location(#[from] LocationError),
    #[error("the multivariant playlist has no variant")]
    NoVariant,
}

impl Player {
    pub(crate) fn new(habits: Habits, url: Location) -> Self {
        Self {
            habits,
            url,
            variants: Vec::new(),
            variant: 0,
            tracks: Vec::new(),
            buffer: empty_buffer(1),
            has_needs: false,
            jumps_before_switches: 0,
            floors: Vec::new(),
        }
    }

    /// Takes the first text: a multivariant playlist, or a media playlist played by itself.
    ///
    /// Returns the next playlist request of each slot.
    pub(crate) fn open(
        &mut self,
        text: Bytes,
        age: Option<Duration>,
        now: Duration,
        chance: &mut Chance,
    ) -> Result<Vec<Option<Reload>>, OpenError> {
        self.tracks.clear();
        self.has_needs = false;
        let variants = match Playlist::parse(text.clone(), &Limits::default())? {
            Playlist::Media(_) => None,
            Playlist::Multivariant(variants) => Some(variants),
        };
        let Some(variants) = variants else {
            let track = self.track(self.url.clone());
            self.tracks.push(track);
            self.buffer = empty_buffer(1);
            let seen = self.on_playlist(0, text, Directives::default(), age, now)?;
            return Ok(vec![seen.reload]);
        };
        self.choose(&variants, chance)?;
        self.buffer = empty_buffer(self.tracks.len());
        let joins = self.tracks.iter_mut().map(|track| Some(track.join(None)));
        Ok(joins.collect())
    }

    fn choose(
        &mut self,
        playlist: &MultivariantPlaylist,
        chance: &mut Chance,
    ) -> Result<(), OpenError> {
        let is_variant = |kind| kind == ChildKind::Variant;
        let children = playlist.media_playlists();
        let mut variants: Vec<_> = children.filter(|child| is_variant(child.kind)).collect();
        variants.sort_by_key(|variant| variant.bandwidth);
        let last = variants.len().checked_sub(1).ok_or(OpenError::NoVariant)?;
        self.variant = match self.habits.start {
            StartRendition::Lowest => 0,
            StartRendition::Highest => last,
            StartRendition::Mixed => chance.below(variants.len()),
        };
        let chosen = variants.get(self.variant).ok_or(OpenError::NoVariant)?;
        let track = self.track(self.url.resolve(chosen.uri)?);
        self.tracks.push(track);
        // A rendition without a URI is muxed into the variants and not listed here.
        let mut audio = playlist.media_playlists().filter(|child| {
            let kind = ChildKind::Rendition {
                media_type: "AUDIO",
            };
            child.kind == kind && child.group == chosen.audio
        });
        let wants_audio = self.habits.audio && chosen.audio.is_some();
        if let Some(audio) = audio.next().filter(|_| wants_audio) {
            let track = self.track(self.url.resolve(audio.uri)?);
            self.tracks.push(track);
        }
        let resolved = variants.iter().map(|variant| self.url.resolve(variant.uri));
        self.variants = resolved.collect::<Result<_, _>>()?;
        self.floors = vec![None; self.variants.len()];
        Ok(())
    }

    fn track(&self, location: Location) -> Track {
        Track::new(location, self.habits.wants, self.habits.delta_updates)
    }

    /// How many renditions are followed.
    pub(crate) fn slots(&self) -> usize {
        self.tracks.len()
    }

    /// Where the playlist of a slot is requested with these directives.
    pub(crate) fn playlist_url(&self, slot: usize, asks: Directives) -> Option<Location> {
        let track = self.tracks.get(slot)?;
        Some(track.location().with_query(&asks.query()))
    }

    /// Takes the playlist of a slot.
    pub(crate) fn on_playlist(
        &mut self,
        slot: usize,
        text: Bytes,
        asked: Directives,
        age: Option<Duration>,
        now: Duration,
    ) -> Result<Seen, ListError> {
        let track = self.tracks.get_mut(slot).ok_or(ListError::Multivariant)?;
        let seen = track.on_text(text, asked, age, now)?;
        if let Some((assumed, listed)) = seen.correction {
            self.buffer.correct(slot, assumed, listed);
        }
        if let Some(list) = track.list().filter(|_| !self.has_needs) {
            let (start, resume) = needs(list, &self.habits.buffer);
            self.buffer.needs(start, resume);
            self.has_needs = true;
        }
        if self.is_over() {
            self.buffer.end(now);
        }
        Ok(seen)
    }

    /// Returns the next media of a slot to request, if any may be requested now.
    pub(crate) fn next_media(
        &mut self,
        slot: usize,
        now: Duration,
        in_flight: usize,
    ) -> Option<(Media, Location)> {
        self.buffer.advance(now);
        if let Some(track) = self.tracks.get_mut(slot) {
            // What left the window is no longer waited for.
            let joined = track.joined();
            self.buffer.append(slot, joined, now);
        }
        if self.buffer.ahead(slot) >= self.habits.buffer.ahead_max {
            return None;
        }
        let track = self.tracks.get_mut(slot)?;
        // A reference that does not resolve is a failed request; the next one follows.
        for _ in 0..8 {
            let media = track.next_media(now, in_flight)?;
            match track.location().resolve(&media.resource.uri) {
                Ok(location) => return Some((media, location)),
                Err(_) => {
                    if let Some(gap) = track.on_media_failure(&media, now) {
                        self.buffer.append(slot, gap, now);
                    }
                }
            }
        }
        None
    }

    /// Media of a slot arrived whole.
    pub(crate) fn on_media(&mut self, slot: usize, media: &Media, now: Duration) {
        if let Some(track) = self.tracks.get_mut(slot) {
            let joined = track.on_media(media);
            self.buffer.append(slot, joined, now);
        }
        if self.is_over() {
            self.buffer.end(now);
        }
    }

    /// Media of a slot was given up by the viewer itself.
    pub(crate) fn on_media_abort(&mut self, slot: usize, media: &Media, now: Duration) {
        if let Some(track) = self.tracks.get_mut(slot) {
            track.on_media_abort(media, now);
        }
    }

    /// The playlist of a slot did not arrive, or is none.
    pub(crate) fn on_playlist_failure(&mut self, slot: usize, asked: Directives) -> Option<Reload> {
        Some(self.tracks.get_mut(slot)?.on_failure(asked))
    }

    /// Media of a slot did not arrive. Returns true if the player now jumps over it.
    pub(crate) fn on_media_failure(&mut self, slot: usize, media: &Media, now: Duration) -> bool {
        let gap = self
            .tracks
            .get_mut(slot)
            .and_then(|track| track.on_media_failure(media, now));
        if let Some(gap) = gap {
            self.buffer.append(slot, gap, now);
        }
        if self.is_over() {
            self.buffer.end(now);
        }
        gap.is_some()
    }

    /// Changes the video rendition (slot 0) to another variant, as a player's rate adaptation does.
    ///
    /// Returns the first playlist request of the new rendition, or `None` if there is no other
    /// variant. The caller gives up every request of the slot.
    pub(crate) fn switch(&mut self, chance: &mut Chance) -> Option<Reload> {
        let others = self.variants.len().checked_sub(1).filter(|n| *n > 0)?;
        let step = 1 + chance.below(others);
        let chosen = (self.variant + step) % self.variants.len();
        let location = self.variants.get(chosen)?.clone();
        let old = self.tracks.first()?;
        // LT-04: the rendition report says where the other one stands; no tune-in is needed.
        let reported = old.list().and_then(|list| {
            list.rendition_reports().find_map(|report| {
                let at = old.location().resolve(report.uri).ok()?;
                // Attributes left out equal those of the list that carries the report.
                let own = list.last_position()?;
                let last = Position {
                    msn: report.last_msn.unwrap_or(own.msn),
                    part_index: report.last_part.or(own.part_index),
                };
                (at == location).then_some(last)
            })
        });
        let at = old.continues_at();
        self.jumps_before_switches += old.jumps();
        if let Some(floor) = self.floors.get_mut(self.variant) {
            *floor = old.last_seen();
        }
        let floor = self.floors.get(chosen).copied().flatten();
        let mut track = self.track(location).continuing(at).not_before(floor);
        let reload = track.join(reported);
        *self.tracks.first_mut()? = track;
        self.variant = chosen;
        Some(reload)
    }

    /// When something is due that no answer will announce: a retry, or room in the buffer.
    pub(crate) fn due_at(&self, slot: usize, now: Duration) -> Option<Duration> {
        let retry = self.tracks.get(slot)?.retry_at().filter(|at| *at > now);
        let ahead = self.buffer.ahead(slot);
        let surplus = ahead.checked_sub(self.habits.buffer.ahead_max);
        let room = surplus.map(|surplus| now + surplus + ROOM_STEP);
        [retry, room].into_iter().flatten().min()
    }

    /// True once every rendition has ended and all its media were requested and answered.
    pub(crate) fn is_over(&self) -> bool {
        !self.tracks.is_empty() && self.tracks.iter().all(Track::is_drained)
    }

    pub(crate) fn jumps(&self) -> u64 {
        let running: u64 = self.tracks.iter().map(Track::jumps).sum();
        self.jumps_before_switches + running
    }

    pub(crate) fn buffer_mut(&mut self) -> &mut Buffer {
        &mut self.buffer
    }
}

/// How long a full buffer drains before the next request.
const ROOM_STEP: Duration = Duration::from_millis(200);

/// A buffer that plays nothing yet; a playlist tells what playing needs.
fn empty_buffer(renditions: usize) -> Buffer {
    Buffer::new(renditions, Duration::from_secs(1), Duration::from_secs(1))
}

/// How much media playing needs to start, and to go on after a stall.
fn needs(list: &MediaPlaylist, model: &BufferModel) -> (Duration, Duration) {
    match list.part_target() {
        Some(part) => (part * model.start_parts, part * model.resume_parts),
        None => {
            let segment = list.segments().map(|segment| segment.duration).min();
            let start = segment.unwrap_or(list.target_duration()) * model.start_segments;
            (start, start)
        }
    }
}

#[cfg(test)]
mod tests {
    use media::MediaSequenceNumber;

    use super::*;

    const VARIANTS: &str = "#EXTM3U\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"hi\",NAME=\"a\",URI=\"hi/p.m3u8\"\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"lo\",NAME=\"a\",URI=\"lo/p.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=300000,AUDIO=\"hi\"\nv1/p.m3u8\n\
        #EXT-X-STREAM-INF:BANDWIDTH=80000,AUDIO=\"lo\"\nv0/p.m3u8\n";

    fn player(start: StartRendition, audio: bool) -> Player {
        let habits = Habits {
            wants: Wants::Hint,
            delta_updates: true,
            start,
            audio,
            buffer: BufferModel::default(),
        };
        Player::new(
            habits,
            Location::parse("http://cdn/live/index.m3u8").unwrap(),
        )
    }

    fn open(player: &mut Player, text: &'static str) -> Vec<Option<Reload>> {
        let mut chance = Chance::new(1, 1);
        player
            .open(
                Bytes::from_static(text.as_bytes()),
                None,
                Duration::ZERO,
                &mut chance,
            )
            .unwrap()
    }

    fn urls(player: &Player) -> Vec<String> {
        let url = |slot| player.playlist_url(slot, Directives::default()).unwrap();
        (0..player.slots())
            .map(|slot| url(slot).to_string())
            .collect()
    }

    /// A rendition of one-second parts-of-four whose last part is `msn.part`.
    fn playlist(msn: u64, part: u32) -> Bytes {
        let mut text = format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n\
             #EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:{}\n",
            msn - 5
        );
        for whole in msn - 5..msn {
            text += &format!("#EXTINF:2,\ns{whole}.m4s\n");
        }
        for index in 0..=part {
            text +=
                &format!("#EXT-X-PART:DURATION=0.5,URI=\"s{msn}.{index}.m4s\",INDEPENDENT=YES\n");
        }
        for other in ["../v0/p.m3u8", "../v1/p.m3u8"] {
            text += &format!(
                "#EXT-X-RENDITION-REPORT:URI=\"{other}\",LAST-MSN={msn},LAST-PART={part}\n"
            );
        }
        Bytes::from(text)
    }

    fn offer(player: &mut Player, msn: u64, part: u32) -> Seen {
        player
            .on_playlist(
                0,
                playlist(msn, part),
                Directives::default(),
                None,
                Duration::ZERO,
            )
            .unwrap()
    }

    #[test]
    fn a_variant_is_played_with_the_audio_of_its_group() {
        for (start, audio, expected) in [
            (StartRendition::Lowest, true, vec!["v0", "lo"]),
            (StartRendition::Highest, true, vec!["v1", "hi"]),
            (StartRendition::Highest, false, vec!["v1"]),
        ] {
            let mut player = player(start, audio);
            assert_eq!(open(&mut player, VARIANTS).len(), expected.len());
            let expected: Vec<_> = expected
                .iter()
                .map(|name| format!("http://cdn/live/{name}/p.m3u8"))
                .collect();
            assert_eq!(urls(&player), expected);
        }
    }

    #[test]
    fn a_multivariant_playlist_without_variants_cannot_be_played() {
        let text = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a\",URI=\"a.m3u8\"\n";
        let mut player = player(StartRendition::Mixed, true);
        let opened = player.open(text.into(), None, Duration::ZERO, &mut Chance::new(1, 1));
        assert!(matches!(opened, Err(OpenError::NoVariant)), "{opened:?}");
    }

    #[test]
    fn lt_04_a_switch_asks_where_the_rendition_report_says_and_needs_no_tune_in() {
        let mut player = player(StartRendition::Lowest, false);
        open(&mut player, VARIANTS);
        offer(&mut player, 20, 2);
        let reload = player.switch(&mut Chance::new(1, 1)).unwrap();
        let last = Position::part(MediaSequenceNumber(20), 2);
        assert_eq!(reload.asks.position, Some(last));
        assert_eq!(urls(&player), ["http://cdn/live/v1/p.m3u8"]);
    }

    #[test]
    fn ll_22_a_rendition_that_is_behind_what_it_was_before_a_switch_ran_backwards() {
        let mut player = player(StartRendition::Lowest, false);
        open(&mut player, VARIANTS);
        let mut chance = Chance::new(1, 1);
        offer(&mut player, 20, 2);
        player.switch(&mut chance).unwrap();
        assert!(
            !offer(&mut player, 20, 1).is_regression,
            "another rendition"
        );
        player.switch(&mut chance).unwrap();
        assert!(offer(&mut player, 20, 1).is_regression);
        assert!(!offer(&mut player, 20, 2).is_regression);
    }

    #[test]
    fn nothing_is_fetched_into_a_full_buffer_until_it_has_drained() {
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:20\n#EXTINF:20,\na\n#EXTINF:20,\nb\n\
            #EXTINF:20,\nc\n#EXT-X-ENDLIST\n";
        let mut player = player(StartRendition::Lowest, false);
        open(&mut player, text);
        for _ in 0..2 {
            let (media, _) = player.next_media(0, Duration::ZERO, 0).unwrap();
            player.on_media(0, &media, Duration::ZERO);
        }
        assert!(
            player.next_media(0, Duration::ZERO, 0).is_none(),
            "40 s of 30 s"
        );
        let due = player.due_at(0, Duration::ZERO).unwrap();
        assert!(
            due > Duration::from_secs(10) && due < Duration::from_secs(11),
            "{due:?}"
        );
        assert!(player.next_media(0, due, 0).is_some());
    }

    /// Returns a player of a rendition whose last listed part and the hinted one after it are both asked for.
    fn between_a_part_and_its_hint() -> (Player, Media, Media) {
        let mut player = player(StartRendition::Lowest, false);
        open(&mut player, VARIANTS);
        let hinted = "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"s20.3.m4s\"\n";
        let text = [playlist(20, 2).as_ref(), hinted.as_bytes()].concat();
        let asked = Directives::default();
        player
            .on_playlist(0, text.into(), asked, None, Duration::ZERO)
            .unwrap();
        let mut listed = player.next_media(0, Duration::ZERO, 0).unwrap().0;
        while listed.position != Position::part(MediaSequenceNumber(20), 2) {
            player.on_media(0, &listed, Duration::ZERO);
            listed = player.next_media(0, Duration::ZERO, 0).unwrap().0;
        }
        let hinted = player.next_media(0, Duration::ZERO, 1).unwrap().0;
        assert!(hinted.is_hinted && hinted.position > listed.position);
        (player, listed, hinted)
    }

    #[test]
    fn a_hinted_part_that_overtakes_a_listed_one_cannot_be_played_before_it() {
        let part = Duration::from_millis(500);
        let (mut player, listed, hinted) = between_a_part_and_its_hint();
        let before = player.buffer_mut().ahead(0);
        player.on_media(0, &hinted, Duration::ZERO);
        assert_eq!(player.buffer_mut().ahead(0), before, "there is a gap");
        player.on_media(0, &listed, Duration::ZERO);
        assert_eq!(player.buffer_mut().ahead(0), before + part * 2);

        let (mut player, listed, hinted) = between_a_part_and_its_hint();
        player.on_media(0, &listed, Duration::ZERO);
        assert_eq!(player.buffer_mut().ahead(0), before + part);
        player.on_media(0, &hinted, Duration::ZERO);
        assert_eq!(player.buffer_mut().ahead(0), before + part * 2);
    }

    #[test]
    fn a_part_that_failed_is_asked_for_again_beside_the_hinted_one_and_given_up_in_the_end() {
        let part = Duration::from_millis(500);
        let (mut player, listed, hinted) = between_a_part_and_its_hint();
        let before = player.buffer_mut().ahead(0);
        let mut now = Duration::ZERO;
        assert!(!player.on_media_failure(0, &listed, now));
        now += Duration::from_secs(1);
        let again = player.next_media(0, now, 1).unwrap().0;
        assert_eq!(again.position, listed.position, "while the hint is pending");
        player.on_media(0, &hinted, now);
        assert_eq!(player.buffer_mut().ahead(0), before, "there is a gap");
        assert!(!player.on_media_failure(0, &again, now));
        now += Duration::from_secs(1);
        let last = player.next_media(0, now, 0).unwrap().0;
        assert!(player.on_media_failure(0, &last, now), "it is jumped over");
        assert_eq!(player.buffer_mut().ahead(0), before + part * 2);
    }
}
