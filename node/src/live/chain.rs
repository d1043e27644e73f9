//! The chain: one upstream request at a time keeps a rendition current while someone watches.
//!
//! ```text
//! plain request ──► version ──► blocking reload for the next part ──► version ──► ...
//! ```
//!
//! The parent holds each request until it has something new. One that cannot is asked plainly, when its
//! [cadence](super::cadence) says so; otherwise timers are used only to come back after trouble.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use media::hls::{MediaPlaylist, Playlist, Position, Update};

use super::cadence::Cadence;
use super::children::Children;
use super::rendition::{Phase, Rendition};
use super::shown::as_shown;
use super::version::Version;
use super::viewer_uris::Audience;
use super::{epochs, linter, poll, reopen, runs, viewer_uris};
use crate::fill::{Ask, HOLD_MARGIN, reload};
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
            // What it asked for before a purge is nothing to show after it.
            () = rendition.until_retired() => {}
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
    let mut course = Course::begin(node, rendition);
    loop {
        course.rest(node, rendition).await;
        let idle_after = poll::idle_after(node, rendition.version().as_deref());
        if rendition.is_idle(node.clock.uptime(), idle_after) {
            return;
        }
        let asked_at = node.clock.uptime();
        let said = ask(node, rendition, &course).await;
        let held = node.clock.uptime().saturating_sub(asked_at);
        linter::inspect_hold(node, rendition, course.wanted, held);
        match said {
            Ok(Said::Version(version, conditions)) => {
                course.conditions = conditions;
                let playlist = Arc::clone(&version.origin);
                let address = &rendition.address;
                if viewer_uris::judge_version(node, address, &playlist) == Audience::OneViewer {
                    give_up(node, rendition);
                    return;
                }
                let update = publish(node, rendition, *version);
                if playlist.is_ended() {
                    return;
                }
                course.brought(node, rendition, &update, asked_at);
            }
            Ok(Said::NotModified) => {
                rendition.enter(Phase::Following);
                course.brought(node, rendition, &Update::Unchanged, asked_at);
            }
            // What is known stays the newest, for as long as that can be said (CA-23).
            Ok(Said::NotYet(_)) if is_recent(node, rendition) => {
                course.brought(node, rendition, &Update::Unchanged, asked_at);
            }
            Ok(Said::NotYet(status)) => {
                let trouble = Trouble::Status(status);
                course.stumbled(node, rendition, trouble).await;
            }
            // CA-20: where it is now is for viewers to be told; the next one is.
            Err(Trouble::Status(status)) if is_redirect(status) => {
                give_up(node, rendition);
                return;
            }
            // Whether what has ended begins again can be asked later.
            Err(_) if rendition.phase() == Phase::Ended => return,
            Err(trouble) => course.stumbled(node, rendition, trouble).await,
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    status.is_redirection() && status != StatusCode::NOT_MODIFIED
}

/// Lets the next request for the playlist be an ordinary one again.
fn give_up(node: &Node, rendition: &Rendition) {
    rendition.retire();
    node.hub.forget(&rendition.address.key());
}

/// Returns whether the newest version may still be shown although no parent renews it (CA-23).
fn is_recent(node: &Node, rendition: &Rendition) -> bool {
    let version = rendition.version();
    version.is_some_and(|version| version.is_presentable(node.clock.uptime()))
}

/// Where a chain is, and how it came there.
struct Course {
    /// What the parent is asked for; plainly if `None`.
    wanted: Option<Position>,
    /// Answers in a row that brought nothing.
    setbacks: u32,
    /// Whether the last setback was that the parent is not there, or broken.
    is_outage: bool,
    /// When a parent that does not hold requests is asked.
    cadence: Cadence,
    /// What makes a plain answer a short one where nothing has changed.
    conditions: HeaderMap,
    /// Whether the origin's session was opened again and nothing has come since.
    has_reopened: bool,
}

impl Course {
    fn begin(node: &Node, rendition: &Rendition) -> Self {
        let mut course = Self {
            wanted: None,
            setbacks: 0,
            is_outage: false,
            cadence: Cadence::default(),
            conditions: HeaderMap::new(),
            has_reopened: false,
        };
        match (rendition.phase(), rendition.version()) {
            // A version that was just adopted is current; one from before a pause is not.
            (Phase::Following, Some(version)) => {
                course.wanted = next_position(&version);
                let uptime = node.clock.uptime();
                let since = version.age(uptime).saturating_sub(version.initial_age());
                let arrived_at = uptime.saturating_sub(since);
                course.cadence.changed(&version.origin, arrived_at);
            }
            // It is shown until it has begun again.
            (Phase::Ended, _) => {}
            _ => rendition.enter(Phase::Refreshing),
        }
        course
    }

    /// Waits until it is time to ask: after trouble, or for a parent that has to be polled.
    async fn rest(&self, node: &Node, rendition: &Rendition) {
        let version = rendition.version();
        let is_polled = version.is_some_and(|version| !version.parent_holds());
        if self.setbacks > 0 {
            tokio::time::sleep(pause(rendition, self.setbacks, self.is_outage)).await;
        } else if is_polled {
            let wait = self.cadence.next_poll();
            tokio::time::sleep(wait.saturating_sub(node.clock.uptime())).await;
        }
    }

    /// Notes what an answer turned out to be.
    fn brought(&mut self, node: &Node, rendition: &Rendition, update: &Update, asked_at: Duration) {
        let Some(version) = rendition.version() else {
            return;
        };
        self.has_reopened = false;
        if self.is_outage {
            // The parent is there: what it says now is looked at as often as if it had always been.
            self.setbacks = 0;
            self.is_outage = false;
        }
        let is_polled = !version.parent_holds();
        match update {
            Update::Newer { .. } | Update::NewEpoch { .. } => {
                self.setbacks = 0;
                self.cadence.changed(&version.origin, asked_at);
            }
            Update::Unchanged if is_polled => {
                self.setbacks = 0;
                self.cadence.unchanged(&version.origin, asked_at);
            }
            Update::Unchanged => {
                linter::inspect_early(node, rendition, self.wanted);
                self.setbacks += 1;
            }
            Update::Older => {
                self.setbacks += 1;
                // It takes several whole answers to believe that a stream began again (CA-07).
                self.conditions.clear();
            }
        }
        self.wanted = match update {
            Update::Newer { .. } | Update::NewEpoch { .. } | Update::Unchanged => {
                next_position(&version)
            }
            // The parent is behind, or began again: ask where it is.
            Update::Older => None,
        };
    }

    /// Notes that no playlist came, and opens the origin's session again if that may be why (FM-12).
    async fn stumbled(&mut self, node: &Arc<Node>, rendition: &Rendition, trouble: Trouble) {
        node.telemetry.record(Event::ChainFailed(trouble.failure()));
        // After a refusal only a plain request can tell where the parent is now, and what a condition
        // asks about may be of another session.
        self.wanted = None;
        self.conditions.clear();
        let address = &rendition.address;
        let may_reopen = node.rules.of(&address.host, &address.path).live.reopens;
        if trouble.may_be_a_lost_session() && may_reopen {
            reopen::reopen(node, address).await;
            if !self.has_reopened {
                // Viewers do not notice: it is asked again at once.
                self.has_reopened = true;
                return;
            }
        }
        self.setbacks += 1;
        self.is_outage = trouble.is_outage();
        rendition.enter(Phase::Troubled(trouble.failure()));
    }
}

/// Returns what to ask for to get the version after this one; `None` if the parent does not hold requests.
fn next_position(version: &Version) -> Option<Position> {
    version
        .parent_holds()
        .then(|| version.origin.next_position())
}

/// Half a part duration, doubled at each setback, at most a target duration.
///
/// While an outage is young, at most a part duration: that is as often as a parent is asked when all is well,
/// and what it takes to be back within a part of its return.
fn pause(rendition: &Rendition, setbacks: u32, is_outage: bool) -> Duration {
    let (part, target) = rendition.version().map_or(
        (Duration::from_millis(250), Duration::from_secs(2)),
        |version| {
            let target = version.playlist.target_duration();
            (version.playlist.part_target().unwrap_or(target / 4), target)
        },
    );
    let doubled = part / 2 * 2_u32.saturating_pow(setbacks.min(8) - 1);
    let is_young = is_outage && setbacks <= SETBACKS_YOUNG;
    doubled.min(if is_young { part } else { target })
}

/// What a parent says when it is asked.
enum Said {
    /// A playlist, and the conditions under which it need not be said again.
    Version(Box<Version>, HeaderMap),
    /// Nothing has changed (RFC 9110 15.4.5).
    NotModified,
    /// There is nothing yet: some packagers say so with a success or with 425 (FM-16).
    NotYet(StatusCode),
}

/// Why no playlist came.
#[derive(Clone, Copy)]
enum Trouble {
    /// The parent answered with this status.
    Status(StatusCode),
    /// Nothing that could be used came.
    Failed(Failure),
}

impl Trouble {
    /// Returns what it is to viewers.
    fn failure(self) -> Failure {
        match self {
            Self::Status(StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) => {
                Failure::ParentTimedOut
            }
            Self::Status(_) => Failure::ParentBroken,
            Self::Failed(failure) => failure,
        }
    }

    /// Whether the parent is not there, or broken: often over in a second, and then all is as before.
    fn is_outage(self) -> bool {
        match self {
            Self::Status(status) => status.is_server_error(),
            Self::Failed(failure) => {
                matches!(failure, Failure::ParentUnreachable | Failure::ParentBroken)
            }
        }
    }

    fn may_be_a_lost_session(self) -> bool {
        match self {
            Self::Status(status) => reopen::may_be_over(status),
            Self::Failed(_) => false,
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Asks the parent: plainly, or for the version that has what is wanted.
async fn ask(node: &Arc<Node>, rendition: &Rendition, course: &Course) -> Result<Said, Trouble> {
    let address = &rendition.address;
    let query = match course.wanted {
        None => address.query.clone(),
        Some(position) => directed_query(&address.query, position),
    };
    let is_directed = course.wanted.is_some();
    let mut fields = Arc::clone(&node.forward_fields);
    if !is_directed && !course.conditions.is_empty() {
        Arc::make_mut(&mut fields).extend(course.conditions.clone());
    }
    let before = rendition.version();
    let request = Ask {
        host: &address.host,
        target: request::path_and_query(&address.path, &query),
        key: address.key(),
        known: before.as_ref().map(|version| version.fields()),
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
        fields,
        validated: None,
    };
    let answer = if is_directed {
        let published = rendition.sign_of_next(node);
        reload(node, request, node.live.playlist_bytes_max, published).await?
    } else {
        request.whole(node, node.live.playlist_bytes_max).await?
    };
    match answer.head.status {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if !is_directed && !course.conditions.is_empty() => {
            return Ok(Said::NotModified);
        }
        status @ (StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::TOO_EARLY) => {
            return Ok(Said::NotYet(status));
        }
        status => return Err(Trouble::Status(status)),
    }
    let playlist = parse(node, rendition, answer.text)?;
    let received = &answer.head.headers;
    let version = poll::version_of(node, address, playlist, received, answer.age);
    Ok(Said::Version(Box::new(version), poll::conditions(received)))
}

fn parse(node: &Node, rendition: &Rendition, text: Bytes) -> Result<MediaPlaylist, Failure> {
    let evidence = match Playlist::parse(text, &node.playlist_limits) {
        Ok(Playlist::Media(playlist)) => return Ok(playlist),
        Ok(Playlist::Multivariant(_)) => "it is a multivariant playlist now".to_owned(),
        Err(error) => error.to_string(),
    };
    linter::report(
        node,
        rendition,
        Misbehavior::PlaylistMalformed,
        format_args!("{evidence}"),
    );
    Err(Failure::NotAPlaylist)
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
    let _publishing = rendition.publishing();
    let uptime = node.clock.uptime();
    let before = rendition.version();
    let was_followed = rendition.phase() == Phase::Following;
    let update = rendition.judge(&version.origin, uptime);
    let is_shown = matches!(update, Update::Newer { .. } | Update::NewEpoch { .. });
    let is_rebased = begin_run(node, rendition, before.as_deref(), &version.origin, &update);
    let (version, is_redacted) = if is_shown {
        match as_shown(node, &rendition.address, version) {
            Some(shown) => shown,
            // What cannot be shown without what was purged is not shown.
            None => return Update::Older,
        }
    } else {
        (version, false)
    };
    let (origin, age) = (Arc::clone(&version.origin), version.initial_age());
    let children = Children::of(node, &rendition.address, &version.playlist);
    if is_shown {
        // Viewers who are woken ask for the new part at once: learn and fetch before waking them.
        children.learn(node);
        children.announce(node);
    }
    if matches!(update, Update::NewEpoch { .. }) && !is_rebased {
        let old = before
            .as_ref()
            .map(|v| Children::of(node, &rendition.address, &v.playlist));
        let old = old.iter().flat_map(Children::keys);
        epochs::begin(node, children.keys().chain(old));
    }
    rendition.show(version, &update, uptime);
    // What was taken away here is no lapse of the origin.
    if was_followed && !is_redacted {
        linter::inspect(node, rendition, before.as_deref(), &origin, &update);
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
            linter::inspect_regression(node, rendition, before.as_deref(), &origin);
        }
        Update::Unchanged => {}
    }
    update
}

/// Lets the stream go on where it began again, if it may; returns whether it does.
fn begin_run(
    node: &Node,
    rendition: &Rendition,
    before: Option<&Version>,
    origin: &MediaPlaylist,
    update: &Update,
) -> bool {
    let address = &rendition.address;
    match (update, before) {
        (Update::NewEpoch { .. }, Some(before))
            if runs::is_rebased(node, address, &before.origin, origin) =>
        {
            runs::begin(node, rendition, before, origin);
            true
        }
        (Update::Newer { .. }, None) => {
            runs::join(node, address, origin);
            false
        }
        _ => false,
    }
}

/// So many setbacks in a row may still be a blackout of a few seconds.
const SETBACKS_YOUNG: u32 = 30;
