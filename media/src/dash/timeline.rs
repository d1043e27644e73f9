//! How a segment timeline goes on: the segments that come after those that it lists (LD-01).
//!
//! A timeline lists what there is, one by one, and says nothing of what comes next. But the next segment begins where
//! the last one ends, and encoders keep to a rhythm: one duration, or a few that come again in the same order, as with
//! audio, whose frames do not fit whole seconds. Called by the node with every live MPD. Deliberately not here: segments
//! that are counted by a nominal duration ([`Mpd::next_in`]).

use std::time::Duration;

use super::mpd::{Mpd, Representation, SegmentTemplate, duration_of};
use super::template::Addressed;

/// The end of a segment timeline, and how it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// The last segments that are listed, at most [`TAIL_MAX`]; of an open run the first one only. Never empty.
    tail: Vec<Slot>,
    /// Durations of what follows, again and again. Never empty.
    rhythm: Vec<u64>,
    /// How many of the segments that follow are known.
    reach: u64,
    /// When what is at time zero plays: since 1970.
    origin: Duration,
    /// Times in the media begin with this at the start of the period.
    offset: u64,
    timescale: u64,
    /// How much earlier than whole segments are available.
    early: Duration,
    /// Time at which the period is over, if that is known.
    ends: Option<Duration>,
}

/// A segment of a timeline, in units of its timescale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    number: u64,
    time: u64,
    duration: u64,
}

impl Continuation {
    /// Returns how the timeline of a representation goes on; `None` if it has none, or its MPD is not live.
    pub fn of(mpd: &Mpd, representation: &Representation) -> Option<Self> {
        let template = representation.template.as_ref()?;
        let origin = mpd.period_start(representation)?;
        let (tail, is_open) = tail_of(template)?;
        let rhythm = if is_open { None } else { rhythm_of(&tail) };
        let last = tail.last()?.duration;
        let reach = match (&rhythm, is_open) {
            (Some(_), _) => FOLLOWING_MAX,
            (None, true) => u64::MAX,
            // Where it begins is sure even if how long it will be is not.
            (None, false) => 1,
        };
        let period = mpd.periods.get(representation.period)?;
        let mut continuation = Self {
            rhythm: rhythm.unwrap_or_else(|| vec![last]),
            reach,
            origin,
            offset: template.presentation_time_offset.unwrap_or(0),
            timescale: template.timescale.unwrap_or(1).max(1),
            early: representation.availability_offset(),
            ends: period
                .duration
                .map(|duration| origin.saturating_add(duration)),
            tail,
        };
        // What is listed is there: a packager whose clock runs ahead of the media stays ahead.
        let listed = continuation.tail.last().filter(|_| !is_open).copied();
        let ahead = listed
            .and_then(|last| continuation.available_at(last))
            .zip(mpd.publish_time)
            .map_or(Duration::ZERO, |(at, published)| {
                at.saturating_sub(published)
            });
        continuation.early = continuation.early.saturating_add(ahead);
        Some(continuation)
    }

    /// Returns how long after `now` a segment becomes available, if it is the next one to.
    ///
    /// `None` if it is listed, available, further ahead than its duration, beyond its period, or of a name that
    /// the timeline does not lead to.
    pub fn next_in(&self, segment: Addressed, now: Duration) -> Option<Duration> {
        let slot = self.following(segment)?;
        let begins = self.plays_at(slot.time)?;
        let wait = self.available_at(slot)?.checked_sub(now)?;
        let is_in_period = self.ends.is_none_or(|ends| begins < ends);
        let is_next = !wait.is_zero() && wait <= self.duration_of(slot)?;
        (is_in_period && is_next).then_some(wait)
    }

    /// Returns the duration of a segment, if it is the next one at `now` or one of the newest `count`.
    pub fn pace(&self, segment: Addressed, count: u32, now: Duration) -> Option<Duration> {
        let listed = self.tail.iter().rev().find(|slot| slot.is(segment));
        let slot = listed.copied().or_else(|| self.following(segment))?;
        let duration = self.duration_of(slot)?;
        let available = self.available_at(slot)?;
        let is_new = available <= now.saturating_add(duration)
            && now < available.saturating_add(duration.saturating_mul(count));
        is_new.then_some(duration)
    }

    /// Returns the segment after those that are listed that a name means.
    fn following(&self, segment: Addressed) -> Option<Slot> {
        let last = *self.tail.last()?;
        if let [duration] = *self.rhythm {
            let count = match (segment.number, segment.time) {
                (Some(number), _) => number.checked_sub(last.number)?,
                (None, Some(time)) => time.checked_sub(last.time)? / duration,
                (None, None) => return None,
            };
            let slot = Slot {
                number: last.number.checked_add(count)?,
                time: last.time.checked_add(count.checked_mul(duration)?)?,
                duration,
            };
            // An open run has listed nothing but how it begins.
            let first = u64::from(self.reach < u64::MAX);
            let is_known = count >= first && count <= self.reach;
            return (is_known && slot.is(segment)).then_some(slot);
        }
        let mut slot = last;
        for duration in self.rhythm.iter().cycle().take(FOLLOWING_MAX as usize) {
            slot = Slot {
                number: slot.number.checked_add(1)?,
                time: slot.time.checked_add(slot.duration)?,
                duration: *duration,
            };
            if slot.is(segment) {
                return Some(slot);
            }
        }
        None
    }

    fn available_at(&self, slot: Slot) -> Option<Duration> {
        let whole = self.plays_at(slot.time.checked_add(slot.duration)?)?;
        Some(whole.saturating_sub(self.early))
    }

    fn plays_at(&self, time: u64) -> Option<Duration> {
        let since = duration_of(time.saturating_sub(self.offset).into(), self.timescale)?;
        self.origin.checked_add(since)
    }

    fn duration_of(&self, slot: Slot) -> Option<Duration> {
        duration_of(slot.duration.into(), self.timescale)
    }
}

impl Slot {
    fn is(&self, segment: Addressed) -> bool {
        let is_named = segment.number.is_some() || segment.time.is_some();
        is_named
            && segment.number.is_none_or(|number| number == self.number)
            && segment.time.is_none_or(|time| time == self.time)
    }
}

/// Returns the last segments of a timeline, and whether the last run is open.
///
/// `None` if there is no timeline, or a segment of no duration: nothing follows from it.
fn tail_of(template: &SegmentTemplate) -> Option<(Vec<Slot>, bool)> {
    let timeline = &template.timeline;
    let mut tail = Vec::with_capacity(2 * TAIL_MAX);
    let mut time = 0_u64;
    let mut number = template.first_number();
    for (index, run) in timeline.iter().enumerate() {
        let start = run.start.unwrap_or(time);
        let duration = Some(run.duration).filter(|duration| *duration > 0)?;
        let next = timeline.get(index + 1);
        let count = match (u64::try_from(run.repeat), next) {
            (Ok(repeat), _) => repeat.checked_add(1)?,
            (Err(_), Some(next)) => next.start?.checked_sub(start)?.div_ceil(duration),
            (Err(_), None) => {
                let first = Slot {
                    number,
                    time: start,
                    duration,
                };
                return Some((vec![first], true));
            }
        };
        let skipped = count.saturating_sub(TAIL_MAX as u64);
        for nth in skipped..count {
            tail.push(Slot {
                number: number.checked_add(nth)?,
                time: start.checked_add(nth.checked_mul(duration)?)?,
                duration,
            });
        }
        let excess = tail.len().saturating_sub(TAIL_MAX);
        tail.drain(..excess);
        number = number.checked_add(count)?;
        time = start.checked_add(count.checked_mul(duration)?)?;
    }
    (!tail.is_empty()).then_some((tail, false))
}

/// Returns the fewest durations that the end of a timeline consists of, in their order from here on.
fn rhythm_of(tail: &[Slot]) -> Option<Vec<u64>> {
    let durations: Vec<u64> = tail.iter().map(|slot| slot.duration).collect();
    let repeats = |length: &usize| {
        let again = durations.len() - length;
        // Seen twice, if there is more than one to see.
        let is_seen = again >= *length || durations.len() == 1;
        is_seen
            && durations
                .iter()
                .zip(durations.iter().skip(*length))
                .all(|(a, b)| a == b)
    };
    let length = (1..=RHYTHM_MAX.min(durations.len())).find(repeats)?;
    durations
        .get(durations.len() - length..)
        .map(<[u64]>::to_vec)
}

/// Segments that a rhythm is looked for in.
const TAIL_MAX: usize = 32;

/// Segments of a rhythm: three or five are usual with audio.
const RHYTHM_MAX: usize = 16;

/// Segments after the last that is listed: an MPD older than so many tells nothing of the live edge.
const FOLLOWING_MAX: u64 = 64;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::limits::Limits;
    use super::*;

    /// Of an MPD whose period begins at 1970 and one second, with these runs.
    fn of_mpd(root: &str, template: &str, runs: &str) -> Option<Continuation> {
        let text = format!(
            "<MPD type=\"dynamic\" availabilityStartTime=\"1970-01-01T00:00:00Z\" {root}><Period start=\"PT1S\">\
             <AdaptationSet><SegmentTemplate media=\"$Number$-$Time$\" startNumber=\"1\" {template}>\
             <SegmentTimeline>{runs}</SegmentTimeline></SegmentTemplate><Representation id=\"v\" bandwidth=\"1\"/>\
             </AdaptationSet></Period></MPD>"
        );
        let mpd = Mpd::parse(Bytes::from(text), &Limits::default()).unwrap();
        Continuation::of(&mpd, &mpd.representations[0])
    }

    fn of(runs: &str) -> Continuation {
        of_mpd("", "timescale=\"10\"", runs).unwrap()
    }

    fn number(number: u64) -> Addressed {
        Addressed {
            number: Some(number),
            ..Addressed::default()
        }
    }

    fn time(time: u64) -> Addressed {
        Addressed {
            time: Some(time),
            ..Addressed::default()
        }
    }

    fn tenths(tenths: u64) -> Duration {
        Duration::from_millis(tenths * 100)
    }

    #[test]
    fn ld_01_the_segment_after_a_timeline_is_known_until_it_is_available() {
        // Ten segments to 21 s; the eleventh is whole at 23 s.
        for runs in [
            "<S t=\"0\" d=\"20\" r=\"9\"/>",
            "<S t=\"0\" d=\"20\"/><S d=\"20\" r=\"8\"/>",
            "<S t=\"0\" d=\"20\" r=\"-1\"/>",
            "<S t=\"0\" d=\"20\" r=\"-1\"/><S t=\"20\" d=\"20\" r=\"-1\"/>",
        ] {
            let timeline = of(runs);
            for (segment, now, wait) in [
                (number(11), 212, Some(18)),
                (time(200), 212, Some(18)),
                (time(200), 230, None),
                (time(200), 209, None),
                (number(12), 231, Some(19)),
                (time(220), 231, Some(19)),
                (number(12), 212, None),
                (time(201), 212, None),
                (number(10), 212, None),
                (Addressed::default(), 212, None),
            ] {
                let found = timeline.next_in(segment, tenths(now));
                assert_eq!(found, wait.map(tenths), "{runs} {segment:?} at {now}");
            }
            let both = Addressed {
                number: Some(11),
                time: Some(220),
                ..Addressed::default()
            };
            assert_eq!(timeline.next_in(both, tenths(212)), None, "it is none");
        }
    }

    #[test]
    fn ld_01_a_rhythm_of_durations_goes_on_and_what_has_none_leads_to_one_segment() {
        // To 14.7 s, in threes of 2.1, 1.9 and 2.0 s, twice; then 2.1 s again.
        let rhythm = "<S t=\"0\" d=\"21\"/><S d=\"19\"/><S d=\"20\"/>\
                      <S d=\"21\"/><S d=\"19\"/><S d=\"20\"/><S d=\"21\"/>";
        let timeline = of(rhythm);
        for (segment, at, wait) in [
            (time(141), 160, Some(10)),
            (time(160), 175, Some(15)),
            (time(180), 195, Some(16)),
            (number(10), 195, Some(16)),
            (time(179), 195, None),
        ] {
            let found = timeline.next_in(segment, tenths(at));
            assert_eq!(found, wait.map(tenths), "{segment:?}");
        }
        let none = of(&format!("{rhythm}<S d=\"7\"/>"));
        assert_eq!(none.next_in(time(148), tenths(160)), Some(tenths(5)));
        assert_eq!(none.next_in(time(155), tenths(165)), None);
        let one = of("<S t=\"40\" d=\"20\"/>");
        assert_eq!(one.next_in(time(60), tenths(80)), Some(tenths(10)));
    }

    #[test]
    fn ld_01_offsets_and_what_is_listed_early_make_the_next_segment_available_earlier() {
        let runs = "<S t=\"1000\" d=\"20\" r=\"9\"/>";
        let wait = |root, template: &str| {
            let template = format!("timescale=\"10\" presentationTimeOffset=\"1000\" {template}");
            let timeline = of_mpd(root, &template, runs).unwrap();
            timeline.next_in(time(1200), tenths(212))
        };
        assert_eq!(wait("", ""), Some(tenths(18)));
        assert_eq!(wait("", "availabilityTimeOffset=\"1.5\""), Some(tenths(3)));
        // The tenth is whole at 21 s by this clock, and was listed a second before.
        let published = "publishTime=\"1970-01-01T00:00:20Z\"";
        assert_eq!(wait(published, ""), Some(tenths(8)));
        let published = "publishTime=\"1970-01-01T00:00:22Z\"";
        assert_eq!(wait(published, ""), Some(tenths(18)));
    }

    #[test]
    fn fm_01_the_newest_segments_of_a_timeline_have_a_pace() {
        let timeline = of("<S t=\"0\" d=\"20\" r=\"9\"/>");
        for (segment, at, is_new) in [
            (number(12), 231, true),
            (number(13), 231, false),
            (number(11), 212, true),
            (number(10), 212, true),
            (number(7), 212, true),
            (number(6), 212, false),
            (number(10), 300, false),
        ] {
            let pace = timeline.pace(segment, 4, tenths(at));
            assert_eq!(pace, is_new.then_some(tenths(20)), "{segment:?} at {at}");
        }
    }

    #[test]
    fn timelines_of_any_numbers_lead_nowhere_or_on_without_overflow() {
        for runs in [
            "",
            "<S t=\"0\" d=\"0\" r=\"5\"/>",
            "<S t=\"9\" d=\"2\" r=\"-1\"/><S t=\"3\" d=\"2\"/>",
            "<S t=\"9\" d=\"2\" r=\"-1\"/><S d=\"2\"/>",
            "<S t=\"0\" d=\"9223372036854775807\" r=\"9223372036854775807\"/>",
        ] {
            assert_eq!(of_mpd("", "timescale=\"10\"", runs), None, "{runs}");
        }
        for runs in [
            "<S t=\"18446744073709551000\" d=\"600\"/>",
            "<S t=\"0\" d=\"18446744073709551615\"/>",
            "<S t=\"0\" d=\"1\" r=\"9223372036854775807\"/>",
            "<S t=\"0\" d=\"1\" r=\"-1\"/>",
        ] {
            let timeline = of(runs);
            for segment in [number(u64::MAX), time(u64::MAX), number(0), time(0)] {
                for now in [Duration::ZERO, tenths(10), Duration::MAX] {
                    let found = timeline.next_in(segment, now);
                    assert!(found.is_none_or(|wait| wait <= tenths(1)), "{runs}");
                    timeline.pace(segment, 4, now);
                }
            }
        }
    }
}
