//! What an origin does wrong with media, told to its operator with the evidence.
//!
//! Who calls it: the pump. What is told of each object is told for its directory, which is a rendition to most
//! packagers: segments come and go. Deliberately not here: what can be read from playlists (`live::linter`), and
//! what is done about it; short bodies are resumed (`resume`), missing lifetimes made up by rules.

use cache::freshness::LifetimeSource;
use http::StatusCode;
use media::Kind;

use super::order::{FillOrder, Judged};
use crate::node::Node;
use crate::telemetry::{Event, Misbehavior, uri_without_secrets};

/// Tells of media whose origin states no lifetime (LB-12): what is never said, every cache on the way makes up.
pub(super) fn inspect_lifetime(node: &Node, order: &FillOrder, judged: &Judged) {
    let path = order.target.split('?').next().unwrap_or_default();
    let is_media = matches!(
        Kind::from_path(path),
        Kind::InitSegment | Kind::Segment | Kind::Part
    );
    let is_guessed = match judged.lifetime_source {
        LifetimeSource::Policy | LifetimeSource::Heuristic => true,
        LifetimeSource::Explicit => false,
    };
    let is_stored = judged.stored.status == StatusCode::OK && judged.refusal.is_none();
    if is_media && is_guessed && is_stored {
        let lifetime = judged.stored.freshness_lifetime;
        let name = name_of(&order.target);
        let evidence =
            format_args!("{name} has no Cache-Control: it is kept for {lifetime:?} here");
        report(node, order, Misbehavior::LifetimeMissing, evidence);
    }
}

/// Tells of a body that ended before its length, or its last chunk, had come (FM-22).
pub(super) fn inspect_short(
    node: &Node,
    order: &FillOrder,
    received: Option<u64>,
    length: Option<u64>,
) {
    let name = name_of(&order.target);
    let end = match (received, length) {
        (Some(received), Some(length)) => format!("after {received} of {length} bytes"),
        (Some(received), None) => format!("after {received} bytes, without its last chunk"),
        (None, Some(length)) => format!("before its {length} bytes had come"),
        (None, None) => "without its last chunk".to_owned(),
    };
    let evidence = format_args!("{name} ended {end}");
    report(node, order, Misbehavior::BodyShort, evidence);
}

fn report(node: &Node, order: &FillOrder, rule: Misbehavior, evidence: std::fmt::Arguments<'_>) {
    let path = order.target.split('?').next().unwrap_or_default();
    let directory = path.rfind('/').and_then(|end| path.get(..=end));
    node.telemetry.record(Event::OriginMisbehaved {
        rule,
        host: &order.host,
        path: directory.unwrap_or(path),
        evidence,
    });
}

/// Returns what stands after the directory, without secrets.
fn name_of(target: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    let begin = path.rfind('/').map_or(0, |end| end + 1);
    uri_without_secrets(target.get(begin..).unwrap_or_default())
}
