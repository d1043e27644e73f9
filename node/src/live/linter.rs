//! What an origin does wrong, told to its operator with the evidence.
//!
//! Who calls it: a chain, with every version that is news. What it calls: `media::hls::lint` for what can
//! be read from playlists; the rest is about time and hints, which only the chain knows.

use std::time::Duration;

use media::hls::{HintChange, Lapse, MediaPlaylist, Update, lint};

use super::rendition::Rendition;
use super::version::Version;
use crate::node::Node;
use crate::telemetry::{Event, Misbehavior};

/// Counts and logs what is wrong with `now`, the version that followed `before`.
pub(super) fn inspect(
    node: &Node,
    rendition: &Rendition,
    before: Option<&Version>,
    now: &MediaPlaylist,
    update: &Update,
) {
    let address = &rendition.address;
    let report = |rule: Misbehavior, evidence: &dyn std::fmt::Display| {
        node.telemetry.record(Event::OriginMisbehaved(rule));
        // A packager that does it once does it with every part: the metric counts, the log is an example.
        if rendition.may_tell(node.clock.uptime(), TOLD_EVERY) {
            let (host, path) = (&address.host, &address.path);
            tracing::warn!(%host, %path, %evidence, "the origin misbehaves");
        }
    };
    let hint_changed = match update {
        Update::Newer { hint_changed, .. } => hint_changed.as_ref(),
        // Another broadcast is not measured by the one before.
        Update::NewEpoch { .. } => return,
        Update::Older | Update::Unchanged => return,
    };
    for lapse in lint(before.map(|v| &*v.playlist), now) {
        report(rule_of(&lapse), &lapse);
    }
    if let Some(HintChange { withdrawn, .. }) = hint_changed {
        for hint in withdrawn {
            report(Misbehavior::HintNotKept, &hint.uri);
        }
    }
    if let Some(late) = before.and_then(|before| lateness(node, before, now)) {
        let evidence = format!("nothing new for {late:?}");
        report(Misbehavior::PartLate, &evidence);
    }
}

fn rule_of(lapse: &Lapse) -> Misbehavior {
    match lapse {
        Lapse::TargetDurationChanged { .. } => Misbehavior::TargetDurationChanged,
        Lapse::PartTooLong { .. } | Lapse::SegmentTooLong { .. } => Misbehavior::TooLong,
        Lapse::DateJumped { .. } => Misbehavior::DateJumped,
        Lapse::MapMissing { .. } => Misbehavior::MapMissing,
    }
}

/// LL-23: with parts, there is a new one within each part duration.
///
/// Half a part more is allowed for the way. Versions that several parts behind bring at once are late, too.
fn lateness(node: &Node, before: &Version, now: &MediaPlaylist) -> Option<Duration> {
    let part = now.part_target()?;
    let since = before
        .age(node.clock.uptime())
        .saturating_sub(before.initial_age());
    (since > part * 3 / 2).then_some(since)
}

/// An example of what each rendition's origin does wrong is logged so often.
const TOLD_EVERY: Duration = Duration::from_secs(60);
