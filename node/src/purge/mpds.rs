//! What a purge of part of a timeline does to MPDs: their window begins after it.
//!
//! HLS can say that a segment is missing; an MPD cannot, in a way that players understand. So all that is before
//! the end of a stretch leaves with it: more is gone, never less. Where that cannot be said, because the MPD is not
//! live, lists its segments otherwise, or the stretch reaches to the live edge, the MPD is gone too, until it can be.
//!
//! Patches are gone with it. Who calls it: fills, with every MPD that comes; it costs a load of one flag where nothing stands. Deliberately not
//! here: changing the text (`media::dash::trim`), and playlists (`timeline`).

use std::collections::HashSet;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cache::{CacheKey, PurgeTarget};
use http::HeaderMap;
use media::dash::{self, Mpd};
use media::hls::Stretch;

use super::redactions::Reader;
use super::timeline::{OF_THE_TEXT, address_of, purge_keys};
use crate::dash::joined;
use crate::live::{self, Address};
use crate::node::Node;
use crate::request;
use crate::respond::Failure;

/// Returns the text of an MPD of which part is gone, and takes away what described the text before; `None` if it
/// may be shown as it is.
///
/// # Errors
///
/// [`Failure::Purged`]: it cannot be said in this MPD what is gone.
pub(crate) fn redacted_mpd(
    node: &Node,
    address: &Address,
    mpd: &Mpd,
    fields: &mut HeaderMap,
) -> Result<Option<Bytes>, Failure> {
    let redactions = &node.purges.redactions;
    if !redactions.is_any() {
        return Ok(None);
    }
    let place = (address.host.as_str(), address.path.as_str());
    let uptime = node.clock.uptime();
    let now = since_1970(node.clock.now());
    let window = Window::of(mpd, now);
    redactions.expire(place, Reader::Mpd, uptime, |stretch| {
        window.has_passed(stretch)
    });
    let Some(standing) = redactions.standing(place.0, place.1) else {
        return Ok(None);
    };
    let purged_at = now.saturating_sub(uptime.saturating_sub(standing.purged_at));
    let times = standing.stretches.iter();
    let times: Vec<_> = times.map(|stretch| time_of(stretch, purged_at)).collect();
    let mut meant = times.iter().filter(|time| window.touches(time)).peekable();
    if meant.peek().is_none() {
        return Ok(None);
    }
    let mut gone = HashSet::new();
    let mut from = Duration::ZERO;
    for time in meant {
        from = from.max(time.end);
        for (representation, path) in dash::named_between(mpd, time.clone(), now) {
            let bases = representation.base_urls.iter().rev();
            let uri = bases.fold(path, |uri, base| joined(&base.uri, &uri));
            if let Some((host, target)) = live::locate_child(node, address, &uri) {
                gone.insert(request::key_of_target(&host, &target));
            }
        }
    }
    // Each segment of a timeline is in one place: what is outside of it need not be looked up.
    purge_keys(node, redactions.learn(place, &gone, &HashSet::new()));
    redactions.name_until(place.0, place.1, uptime + window.time_until_passed(from));
    let text = dash::trim(mpd, from, now).ok_or(Failure::Purged)?;
    for name in OF_THE_TEXT {
        fields.remove(name);
    }
    Ok(Some(text))
}

/// Returns whether the response of `key` is a patch of an MPD of which part is gone.
///
/// Players that get no patch read the MPD anew, and that says what is left. A patch is for the text from before.
pub(crate) fn denies_patch(node: &Node, key: &CacheKey) -> bool {
    let redactions = &node.purges.redactions;
    if !redactions.is_any() {
        return false;
    }
    let Some(patched) = node.mpds.patches.of(key) else {
        return false;
    };
    let Address { host, path, .. } = &patched.address;
    let Some(standing) = redactions.standing(host, path) else {
        return false;
    };
    let now = since_1970(node.clock.now());
    let uptime = node.clock.uptime();
    let purged_at = now.saturating_sub(uptime.saturating_sub(standing.purged_at));
    let window = node.mpds.known(&patched.mpd);
    let window = window.map(|known| Window::of(&known.mpd, now));
    let mut times = standing.stretches.iter().map(|one| time_of(one, purged_at));
    window.is_none_or(|window| times.any(|time| window.touches(&time)))
}

/// Denies what the MPDs below a directory name of what is gone: nobody has to ask for them first.
pub(super) fn deny_named(node: &Node, below: &PurgeTarget) {
    for (key, known) in node.mpds.all() {
        if below.means(&key, &HeaderMap::new())
            && let Some(address) = address_of(&key)
        {
            // What becomes of its text is seen when it is brought again.
            redacted_mpd(node, &address, &known.mpd, &mut HeaderMap::new()).ok();
        }
    }
}

/// Which time a stretch means in an MPD. One by number means HLS's numbers, and DASH has others: all that was there
/// when it was purged.
fn time_of(stretch: &Stretch, purged_at: Duration) -> Range<Duration> {
    match *stretch {
        Stretch::WallClock { from, to } => from..to,
        Stretch::Msn { .. } => Duration::ZERO..purged_at,
        Stretch::Whole => Duration::ZERO..Duration::MAX,
    }
}

/// The time that an MPD names segments of.
struct Window {
    begins: Duration,
    now: Duration,
}

impl Window {
    fn of(mpd: &Mpd, now: Duration) -> Self {
        let depth = mpd.time_shift_buffer_depth.filter(|_| mpd.is_dynamic());
        Self {
            begins: depth.map_or(Duration::ZERO, |depth| now.saturating_sub(depth)),
            now,
        }
    }

    fn length(&self) -> Duration {
        self.now - self.begins
    }

    /// What is to come is not named yet.
    fn touches(&self, time: &Range<Duration>) -> bool {
        time.end > self.begins && time.start < self.now
    }

    /// A window is its own length beyond it, so that no player has it any more.
    fn has_passed(&self, stretch: &Stretch) -> bool {
        match *stretch {
            Stretch::WallClock { to, .. } => to.saturating_add(self.length()) < self.begins,
            Stretch::Msn { .. } | Stretch::Whole => false,
        }
    }

    fn time_until_passed(&self, end: Duration) -> Duration {
        let passed = end.saturating_add(self.length() * 2);
        passed.saturating_sub(self.now).min(KEPT_MAX)
    }
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// An endless window keeps a stretch for so long, and for so long again when it is next asked for.
const KEPT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
