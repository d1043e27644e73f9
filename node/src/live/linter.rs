//! What an origin does wrong, told to its operator with the evidence.
//!
//! Who calls it: a chain, with every version that is news. What it calls: `media::hls::lint` for what can
//! be read from playlists; the rest is about time and hints, which only the chain knows.

use std::fmt;
use std::time::Duration;

use media::hls::{HintChange, Lapse, MediaPlaylist, Position, Update, lint};

use super::rendition::{Address, Rendition};
use super::version::Version;
use crate::node::Node;
use crate::telemetry::{Event, Misbehavior, path_without_secrets, uri_without_secrets};

/// Counts and logs what is wrong with `now`, the version that followed `before`.
pub(super) fn inspect(
    node: &Node,
    rendition: &Rendition,
    before: Option<&Version>,
    now: &MediaPlaylist,
    update: &Update,
) {
    let report = |rule, evidence: fmt::Arguments<'_>| report(node, rendition, rule, evidence);
    let hint_changed = match update {
        Update::Newer { hint_changed, .. } => hint_changed.as_ref(),
        // Another broadcast is not measured by the one before.
        Update::NewEpoch { .. } => return,
        Update::Older | Update::Unchanged => return,
    };
    for lapse in lint(before.map(|v| &*v.origin), now) {
        report(rule_of(&lapse), format_args!("{lapse}"));
    }
    if let Some(HintChange { withdrawn, .. }) = hint_changed {
        for hint in withdrawn {
            let uri = uri_without_secrets(&hint.uri);
            report(
                Misbehavior::HintNotKept,
                format_args!("{uri} was hinted, and is neither listed nor hinted any more"),
            );
        }
    }
    if let Some(late) = before.and_then(|before| lateness(node, before, now)) {
        report(
            Misbehavior::PartLate,
            format_args!("nothing new for {late:.1?}"),
        );
    }
}

/// Counts and keeps one lapse with its evidence, and logs an example from time to time.
pub(super) fn report(
    node: &Node,
    rendition: &Rendition,
    rule: Misbehavior,
    evidence: fmt::Arguments<'_>,
) {
    let Address { host, path, .. } = &rendition.address;
    node.telemetry.record(Event::OriginMisbehaved {
        rule,
        host,
        path,
        evidence,
    });
    // A packager that does it once does it with every part: the metric counts, the log is an example.
    if rendition.may_tell(node.clock.uptime(), TOLD_EVERY) {
        let path = path_without_secrets(path);
        tracing::warn!(%host, %path, ?rule, %evidence, "the origin misbehaves");
    }
}

/// Tells of a parent that held a request for longer than three target durations (LL-09).
pub(super) fn inspect_hold(
    node: &Node,
    rendition: &Rendition,
    wanted: Option<Position>,
    held: Duration,
) {
    let Some((version, wanted)) = rendition.version().zip(wanted) else {
        return;
    };
    if held > version.playlist.target_duration() * 3 + HOLD_TOLERANCE {
        report(
            node,
            rendition,
            Misbehavior::HeldTooLong,
            format_args!("a request for {wanted} had no answer for {held:.1?}"),
        );
    }
}

/// Tells of a blocking reload that was answered without what it asked for (LL-03).
pub(super) fn inspect_early(node: &Node, rendition: &Rendition, wanted: Option<Position>) {
    let Some((version, wanted)) = rendition.version().zip(wanted) else {
        return;
    };
    let next = version.origin.next_position();
    report(
        node,
        rendition,
        Misbehavior::AnsweredEarly,
        format_args!("a request for {wanted} was answered although {next} is next"),
    );
}

/// Tells of a version that is older than the one before it (CA-07).
pub(super) fn inspect_regression(
    node: &Node,
    rendition: &Rendition,
    before: Option<&Version>,
    now: &MediaPlaylist,
) {
    let was = before.map_or_else(
        || "what viewers have seen".to_owned(),
        |version| version.origin.next_position().to_string(),
    );
    let next = now.next_position();
    report(
        node,
        rendition,
        Misbehavior::WentBack,
        format_args!("{next} is next again, after {was}"),
    );
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

/// A parent's deadline is as exact as its timers and the way to it.
const HOLD_TOLERANCE: Duration = Duration::from_millis(500);

/// An example of what each rendition's origin does wrong is logged so often.
const TOLD_EVERY: Duration = Duration::from_secs(60);
