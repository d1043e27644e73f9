//! When date ranges came and went, so that delta updates may leave the old ones out (LL-14).
//!
//! A text tells which date ranges there are, not since when. Whoever sees every version knows. What was
//! there at the first sight counts from then: it is older, and so left out late rather than early.
//!
//! Called by the live hub with each version that it publishes. Deliberately not here: the delta update
//! itself (`delta`).

use std::collections::HashMap;
use std::time::Duration;

use super::media_playlist::MediaPlaylist;

/// The date ranges of one rendition over time.
///
/// # Limits
///
/// [`DATE_RANGES_MAX`] in a playlist, and as many removals within a skip boundary. With more, the history
/// begins anew, and nothing is left out until it is long enough again.
#[derive(Debug, Default)]
pub struct DateRangeHistory {
    /// When it began.
    since: Option<Duration>,
    /// By line: several lines may say more and more of one date range.
    present: HashMap<Box<str>, Present>,
    /// Oldest first.
    removed: Vec<Removed>,
}

#[derive(Debug)]
struct Present {
    id: Box<str>,
    since: Duration,
}

#[derive(Debug)]
struct Removed {
    id: Box<str>,
    at: Duration,
}

/// What a delta update of one version leaves out of its date ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OldDateRanges {
    /// Which rows of the playlist's date ranges, ascending.
    pub(super) rows: Vec<usize>,
    /// The ids of those that were removed of late.
    pub(super) removed: Vec<Box<str>>,
}

impl DateRangeHistory {
    /// Notes a version that is published at `now`, and returns what a delta update of it may leave out.
    ///
    /// What may be left out now may be left out later, too: the answer is good for as long as the
    /// version is the newest. `None` where the playlist does not offer such updates, or the history is
    /// shorter than the skip boundary: a player may know date ranges whose removal was not seen here.
    pub fn note(&mut self, playlist: &MediaPlaylist, now: Duration) -> Option<OldDateRanges> {
        let boundary = playlist
            .can_skip_until()
            .filter(|_| playlist.can_skip_dateranges());
        let Some(boundary) = boundary.filter(|_| playlist.date_ranges.len() <= DATE_RANGES_MAX)
        else {
            *self = Self::default();
            return None;
        };
        let since = *self.since.get_or_insert(now);
        let before = std::mem::take(&mut self.present);
        self.follow(playlist, before, now);
        self.removed.retain(|removed| removed.at + boundary >= now);
        if self.removed.len() > DATE_RANGES_MAX {
            *self = Self::default();
            return None;
        }
        (since + boundary < now).then(|| self.old(playlist, boundary, now))
    }

    fn follow(
        &mut self,
        playlist: &MediaPlaylist,
        mut before: HashMap<Box<str>, Present>,
        now: Duration,
    ) {
        for range in playlist.date_ranges() {
            let (line, present) = before.remove_entry(range.line).unwrap_or_else(|| {
                let present = Present {
                    id: range.id.into(),
                    since: now,
                };
                (range.line.into(), present)
            });
            // A line that is there twice is one.
            self.present.entry(line).or_insert(present);
        }
        for gone in before.into_values() {
            // What is left of a date range is said again, after its removal.
            for present in self.present.values_mut().filter(|p| p.id == gone.id) {
                present.since = now;
            }
            self.removed.retain(|removed| removed.id != gone.id);
            self.removed.push(Removed {
                id: gone.id,
                at: now,
            });
        }
    }

    fn old(&self, playlist: &MediaPlaylist, boundary: Duration, now: Duration) -> OldDateRanges {
        let is_old = |line: &str| {
            let present = self.present.get(line);
            present.is_some_and(|present| present.since + boundary < now)
        };
        let ranges = playlist.date_ranges().enumerate();
        OldDateRanges {
            rows: ranges
                .filter(|(_, range)| is_old(range.line))
                .map(|(row, _)| row)
                .collect(),
            removed: self.removed.iter().map(|r| r.id.clone()).collect(),
        }
    }
}

/// Date ranges of one playlist whose age is kept.
pub const DATE_RANGES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hls::timeline::parse;

    fn playlist(ids: &[&str]) -> MediaPlaylist {
        let mut text = String::from(
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n\
             #EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL=12,CAN-SKIP-DATERANGES=YES\n",
        );
        for id in ids {
            let (id, more) = id.split_once('+').unwrap_or((id, ""));
            text.push_str(&format!(
                "#EXT-X-DATERANGE:ID=\"{id}\",START-DATE=\"2026-01-01\"{more}\n"
            ));
        }
        parse(text + "#EXTINF:2,\ns\n")
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn old(rows: &[usize], removed: &[&str]) -> Option<OldDateRanges> {
        Some(OldDateRanges {
            rows: rows.to_vec(),
            removed: removed.iter().map(|id| (*id).into()).collect(),
        })
    }

    #[test]
    fn ll_14_a_date_range_is_old_when_it_was_added_before_the_skip_boundary() {
        let mut history = DateRangeHistory::default();
        assert_eq!(history.note(&playlist(&["a"]), at(0)), None);
        assert_eq!(history.note(&playlist(&["a", "b"]), at(6)), None);
        let both = playlist(&["a", "b"]);
        assert_eq!(history.note(&both, at(12)), None, "not longer ago");
        assert_eq!(history.note(&both, at(13)), old(&[0], &[]));
        assert_eq!(history.note(&both, at(19)), old(&[0, 1], &[]));
    }

    #[test]
    fn ll_14_what_was_removed_within_the_skip_boundary_is_named() {
        let mut history = DateRangeHistory::default();
        history.note(&playlist(&["a", "b"]), at(0));
        assert_eq!(history.note(&playlist(&["b"]), at(20)), old(&[0], &["a"]));
        assert_eq!(history.note(&playlist(&[]), at(25)), old(&[], &["a", "b"]));
        assert_eq!(history.note(&playlist(&[]), at(33)), old(&[], &["b"]));
        assert_eq!(history.note(&playlist(&[]), at(38)), old(&[], &[]));
    }

    #[test]
    fn ll_14_what_comes_back_or_changes_is_new_again() {
        let mut history = DateRangeHistory::default();
        history.note(&playlist(&["a", "b"]), at(0));
        history.note(&playlist(&["b"]), at(20));
        let back = playlist(&["a", "b"]);
        assert_eq!(history.note(&back, at(22)), old(&[1], &["a"]));
        assert_eq!(history.note(&back, at(35)), old(&[0, 1], &[]));
        let longer = playlist(&["a", "b+,DURATION=9"]);
        assert_eq!(history.note(&longer, at(36)), old(&[0], &["b"]));
        let more = playlist(&["a", "b+,DURATION=9", "b+,CLASS=\"c\""]);
        assert_eq!(history.note(&more, at(50)), old(&[0, 1], &[]));
        let less = playlist(&["a", "b+,CLASS=\"c\""]);
        assert_eq!(history.note(&less, at(70)), old(&[0], &["b"]));
    }

    #[test]
    fn ll_14_a_playlist_that_offers_no_such_updates_has_no_history() {
        let mut history = DateRangeHistory::default();
        history.note(&playlist(&["a"]), at(0));
        let text = playlist(&["a"]);
        let text = std::str::from_utf8(text.text()).unwrap();
        let silent = parse(text.replace(",CAN-SKIP-DATERANGES=YES", ""));
        assert_eq!(history.note(&silent, at(20)), None);
        assert_eq!(history.note(&playlist(&["a"]), at(21)), None);
        assert_eq!(history.note(&playlist(&["a"]), at(34)), old(&[0], &[]));
    }

    #[test]
    fn an_origin_that_floods_the_history_only_makes_it_begin_anew() {
        let mut history = DateRangeHistory::default();
        let ids: Vec<String> = (0..DATE_RANGES_MAX).map(|n| n.to_string()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        history.note(&playlist(&ids), at(0));
        history.note(&playlist(&["more"]), at(20));
        assert_eq!(history.note(&playlist(&[]), at(21)), None);
        assert_eq!(history.removed.len(), 0);
        assert_eq!(history.note(&playlist(&[]), at(22)), None);
        assert_eq!(history.note(&playlist(&[]), at(35)), old(&[], &[]));
    }
}
