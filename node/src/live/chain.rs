//! The chain: one upstream request at a time keeps a rendition current while someone watches.
//!
//! ```text
//! plain request ──► version ──► blocking reload for the next part ──► version ──► ...
//! ```
//!
//! Nothing here polls: the parent holds each request until it has something new. Timers are used only
//! to come back after trouble.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use media::hls::{MediaPlaylist, Playlist, Position, Update};

use super::children::Children;
use super::rendition::{Phase, Rendition};
use super::version::Version;
use super::{epochs, linter};
use crate::fill::{Ask, HOLD_MARGIN};
use crate::interim::InterimSink;
use crate::node::Node;
use crate::request::{self, Query};
use crate::respond::Failure;
use crate::rules::QueryRule;
use crate::telemetry::{Event, Misbehavior};
use crate::upstream::Class;

/// Starts following `rendition`. The caller has marked it as followed.
pub(super) fn start(node: Arc<Node>, rendition: Arc<Rendition>) {
    let tasks = node.tasks.clone();
    tasks.spawn(async move {
        let ending = node.tasks.signal();
        let _guard = Unfollow(Arc::clone(&rendition));
        node.telemetry.record(Event::ChainStarted);
        let followed = rendition.keeping_deadlines(follow(&node, &rendition));
        tokio::select! {
            () = followed => {}
            () = ending.cancelled() => {}
        }
        node.telemetry.record(Event::ChainStopped);
    });
}

/// Unfollows even if the chain panics, so that the next viewer can start another.
struct Unfollow(Arc<Rendition>);

impl Drop for Unfollow {
    fn drop(&mut self) {
        self.0.unfollow();
    }
}

async fn follow(node: &Arc<Node>, rendition: &Arc<Rendition>) {
    let mut setbacks = 0;
    // A version that was just adopted is current; one from before a pause is not.
    let mut wanted = match (rendition.phase(), rendition.version()) {
        (Phase::Following, Some(version)) => Some(version.playlist.next_position()),
        _ => {
            rendition.enter(Phase::Refreshing);
            None
        }
    };
    while !rendition.is_idle(node.clock.uptime(), node.live.idle_after) {
        let step = ask(node, rendition, wanted).await;
        match step {
            Ok(version) => {
                let playlist = Arc::clone(&version.playlist);
                let update = publish(node, rendition, version);
                if wanted.is_some() && update == Update::Unchanged {
                    let early = Misbehavior::AnsweredEarly;
                    node.telemetry.record(Event::OriginMisbehaved(early));
                }
                if playlist.is_ended() {
                    return;
                }
                setbacks = if matters(&update) { 0 } else { setbacks + 1 };
                wanted = next_wanted(rendition, &update);
            }
            Err(failure) => {
                setbacks += 1;
                node.telemetry.record(Event::ChainFailed(failure));
                rendition.enter(Phase::Troubled(failure));
                // After a refusal only a plain request can tell where the parent is now.
                wanted = None;
            }
        }
        if setbacks > 0 {
            tokio::time::sleep(pause(rendition, setbacks)).await;
        }
    }
}

fn matters(update: &Update) -> bool {
    matches!(update, Update::Newer { .. } | Update::NewEpoch { .. })
}

fn next_wanted(rendition: &Rendition, update: &Update) -> Option<Position> {
    match update {
        Update::Newer { .. } | Update::NewEpoch { .. } | Update::Unchanged => rendition
            .version()
            .map(|version| version.playlist.next_position()),
        // The parent is behind, or began again: ask where it is.
        Update::Older => None,
    }
}

/// A part duration, doubled at each setback, at most a target duration.
fn pause(rendition: &Rendition, setbacks: u32) -> Duration {
    let (part, target) = rendition.version().map_or(
        (Duration::from_millis(250), Duration::from_secs(2)),
        |version| {
            let target = version.playlist.target_duration();
            (version.playlist.part_target().unwrap_or(target / 4), target)
        },
    );
    (part / 2 * 2_u32.saturating_pow(setbacks.min(8) - 1)).min(target)
}

/// Asks the parent: plainly, or for the version that has `wanted`.
async fn ask(
    node: &Arc<Node>,
    rendition: &Rendition,
    wanted: Option<Position>,
) -> Result<Version, Failure> {
    let address = &rendition.address;
    let query = match wanted {
        None => address.query.clone(),
        Some(position) => directed_query(&address.query, position),
    };
    let is_directed = wanted.is_some();
    let answer = Ask {
        host: &address.host,
        target: request::path_and_query(&address.path, &query),
        affinity: address.affinity(),
        class: if is_directed {
            Class::Parked
        } else {
            Class::Bulk
        },
        first_byte_timeout: if is_directed {
            node.live.hold_max + HOLD_MARGIN
        } else {
            node.limits.first_byte_timeout
        },
        avoid: None,
        interim: InterimSink::default(),
        cdn_loop: None,
        fields: Arc::clone(&node.forward_fields),
        validated: None,
    }
    .whole(node, node.live.playlist_bytes_max)
    .await?;
    if answer.head.status != StatusCode::OK {
        return Err(match answer.head.status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                Failure::ParentTimedOut
            }
            _ => Failure::ParentBroken,
        });
    }
    let playlist = parse(node, answer.text)?;
    Ok(Version::new(
        playlist,
        &answer.head.headers,
        node.clock.uptime(),
        answer.age,
    ))
}

fn parse(node: &Node, text: Bytes) -> Result<Arc<MediaPlaylist>, Failure> {
    match Playlist::parse(text, &node.playlist_limits) {
        Ok(Playlist::Media(playlist)) => Ok(Arc::new(playlist)),
        Ok(Playlist::Multivariant(_)) | Err(_) => {
            let malformed = Misbehavior::PlaylistMalformed;
            node.telemetry.record(Event::OriginMisbehaved(malformed));
            Err(Failure::NotAPlaylist)
        }
    }
}

fn directed_query(query: &str, position: Position) -> String {
    let mut raw = format!("{query}&_HLS_msn={}", position.msn.0);
    if let Some(part) = position.part_index {
        raw.push_str(&format!("&_HLS_part={part}"));
    }
    // LL-25: directives are sorted among the other parameters.
    Query::canonical(&raw, &QueryRule::default())
        .whole()
        .to_owned()
}

/// Shows a version to who waits, remembers what its URIs are, and fetches what it hints.
pub(super) fn publish(node: &Arc<Node>, rendition: &Arc<Rendition>, version: Version) -> Update {
    let playlist = Arc::clone(&version.playlist);
    let age = version.initial_age();
    let children = Children::of(node, &rendition.address, &playlist);
    // Viewers who are woken ask for the new part at once: learn and fetch before waking them.
    let is_news = rendition
        .version()
        .is_none_or(|v| v.playlist.text() != playlist.text());
    if is_news {
        children.learn(node);
    }
    let before = rendition.version();
    let was_followed = rendition.phase() == Phase::Following;
    let update = rendition.offer(version, node.clock.uptime(), |update| {
        if matters(update) {
            children.announce(node);
        }
        if matches!(update, Update::NewEpoch { .. }) {
            let old = before
                .as_ref()
                .map(|v| Children::of(node, &rendition.address, &v.playlist));
            epochs::begin(
                node,
                children.keys().chain(old.iter().flat_map(Children::keys)),
            );
        }
    });
    if was_followed {
        linter::inspect(node, rendition, before.as_deref(), &playlist, &update);
    }
    match &update {
        Update::Newer { .. } | Update::NewEpoch { .. } => {
            node.telemetry.record(Event::VersionPublished { age });
            rendition.hint(node, children.hinted(), &children.listed());
            if node.live.prefetch {
                children.fetch_hinted(node);
            }
        }
        Update::Older => {
            node.telemetry.record(Event::RegressionPrevented);
            node.telemetry
                .record(Event::OriginMisbehaved(Misbehavior::WentBack));
        }
        Update::Unchanged => {}
    }
    update
}
