//! One live rendition: its newest version, who waits for the next, and whether a chain follows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cache::CacheKey;
use media::Kind;
use media::hls::{self, DateRangeHistory, DeliveryDirectives, MediaPlaylist, Update};
use parking_lot::{Mutex, MutexGuard};
use purge_log::Counts;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::chain;
use super::children::Children;
use super::holds::{Deadlines, Place};
use super::version::Version;
use crate::fill::Published;
use crate::node::Node;
use crate::purge;
use crate::request::{self, Request};
use crate::respond::Failure;

/// Where a rendition's playlist is, in normal form and without delivery directives.
#[derive(Clone, Debug)]
pub struct Address {
    /// The host.
    pub host: String,
    /// The path.
    pub path: String,
    /// The canonical query, without delivery directives.
    pub query: String,
}

impl Address {
    /// Returns the address of the playlist that `request` is for.
    pub fn of(request: &Request) -> Self {
        Self {
            host: request.target.host.clone(),
            path: request.target.path.clone(),
            query: request.target.query.without_directives().to_owned(),
        }
    }

    /// Returns the key under which the hub knows the rendition.
    pub fn key(&self) -> CacheKey {
        request::key_of(&self.host, &self.path, &self.query)
    }

    /// Returns the presentation it belongs to (CA-08).
    pub fn affinity(&self) -> String {
        request::affinity_of(&self.host, &self.path)
    }
}

/// A live rendition that this node knows.
#[derive(Debug)]
pub struct Rendition {
    /// Where its playlist is.
    pub address: Address,
    machine: Mutex<hls::Rendition>,
    /// Since when its date ranges are there.
    date_ranges: Mutex<DateRangeHistory>,
    /// Uptime.
    opened_at: Duration,
    /// Held while a version is rewritten and shown: no version passes a purge that way.
    publishing: Mutex<()>,
    state: watch::Sender<State>,
    is_followed: AtomicBool,
    /// Whether it was purged, or found not to be for all.
    retired: CancellationToken,
    /// Uptime in milliseconds at which a viewer last asked.
    last_asked: AtomicU64,
    /// Uptime in milliseconds from which on its origin's lapses may be logged again.
    tell_from: AtomicU64,
    /// Uptime in milliseconds from which on it is asked again whether a stream that ended goes on.
    ask_again_from: AtomicU64,
    deadlines: Deadlines,
    holds_max: Duration,
    /// The keys its newest version hints.
    hinted: Mutex<Vec<CacheKey>>,
}

/// What requests for a rendition are judged by.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub version: Option<Arc<Version>>,
    pub phase: Phase,
    hold_max: Duration,
    /// Counts wake-ups that bring no version: deadlines.
    ticks: u64,
}

/// How current the newest version is known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No chain follows; the version may be old.
    Dormant,
    /// A chain has started and has not heard from the parent yet.
    Refreshing,
    /// The chain waits for the next version: the newest is current.
    Following,
    /// The chain cannot get through.
    Troubled(Failure),
    /// ENDLIST: there is no next version.
    Ended,
}

/// What becomes of a request under a [`State`].
pub(super) enum Judged {
    Answer(Arc<Version>),
    Hold(Duration),
    Refuse(Failure),
}

impl State {
    /// Judges a request, of a child of ours or of anybody else.
    ///
    /// A child knows that this node holds requests even where the playlist does not say so.
    pub(super) fn judge(
        &self,
        directives: &DeliveryDirectives,
        is_of_child: bool,
        uptime: Duration,
    ) -> Judged {
        let Some(version) = &self.version else {
            return match self.phase {
                Phase::Troubled(failure) => Judged::Refuse(failure),
                _ => Judged::Hold(self.hold_max),
            };
        };
        let target = version.playlist.target_duration();
        let answer = if is_of_child {
            hls::answer_server(&version.playlist, directives)
        } else {
            hls::answer(&version.playlist, directives)
        };
        match answer {
            hls::Answer::Now if directives.position.is_some() => {
                Judged::Answer(Arc::clone(version))
            }
            hls::Answer::Now => match self.phase {
                Phase::Following | Phase::Ended => Judged::Answer(Arc::clone(version)),
                // Only the parent can say whether something newer exists (CA-16).
                Phase::Dormant | Phase::Refreshing => Judged::Hold(self.hold_for(target)),
                Phase::Troubled(_) if version.is_presentable(uptime) => {
                    Judged::Answer(Arc::clone(version))
                }
                Phase::Troubled(failure) => Judged::Refuse(failure),
            },
            hls::Answer::Hold => Judged::Hold(self.hold_for(target)),
            // A version from before a pause says nothing about what is too far ahead now.
            hls::Answer::Refuse(_) if matches!(self.phase, Phase::Dormant | Phase::Refreshing) => {
                Judged::Hold(self.hold_for(target))
            }
            hls::Answer::Refuse(_) => Judged::Refuse(Failure::TooFarAhead),
        }
    }

    /// LL-09: three target durations, unless the operator's cap is shorter (CA-13).
    fn hold_for(&self, target: Duration) -> Duration {
        (target * 3).min(self.hold_max)
    }
}

impl Rendition {
    /// Creates a rendition that no chain follows yet.
    pub fn new(node: &Node, address: Address) -> Arc<Self> {
        let hold_max = node.live.hold_max;
        let machine = if node.rules.of(&address.host, &address.path).live.rebases {
            hls::Rendition::new().telling_jumps()
        } else {
            hls::Rendition::new()
        };
        let state = State {
            version: None,
            phase: Phase::Dormant,
            hold_max,
            ticks: 0,
        };
        Arc::new(Self {
            address,
            machine: Mutex::new(machine),
            date_ranges: Mutex::default(),
            opened_at: node.clock.uptime(),
            publishing: Mutex::new(()),
            state: watch::Sender::new(state),
            is_followed: AtomicBool::new(false),
            retired: CancellationToken::new(),
            last_asked: AtomicU64::new(0),
            tell_from: AtomicU64::new(0),
            ask_again_from: AtomicU64::new(0),
            deadlines: Deadlines::new(),
            holds_max: hold_max,
            hinted: Mutex::new(Vec::new()),
        })
    }

    /// Notes that a viewer asked, and starts a chain if none follows.
    pub fn asked(self: &Arc<Self>, node: &Arc<Node>) {
        self.last_asked
            .store(milliseconds(node.clock.uptime()), Ordering::Relaxed);
        if self.phase() == Phase::Ended && !self.may_ask_again(node.clock.uptime()) {
            return;
        }
        if !self.is_followed.swap(true, Ordering::AcqRel) {
            chain::start(Arc::clone(node), Arc::clone(self));
        }
    }

    /// Returns whether it is time to ask whether a stream that has ended began again, for one who asks.
    fn may_ask_again(&self, uptime: Duration) -> bool {
        let from = self.ask_again_from.load(Ordering::Relaxed);
        let next = milliseconds(uptime + ENDED_ASKED_EVERY);
        // Relaxed: the number guards nothing but itself.
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        milliseconds(uptime) >= from
            && self
                .ask_again_from
                .compare_exchange(from, next, success, failure)
                .is_ok()
    }

    /// Returns the newest version.
    pub fn version(&self) -> Option<Arc<Version>> {
        self.state.borrow().version.clone()
    }

    /// Returns how current the newest version is known to be.
    pub fn phase(&self) -> Phase {
        self.state.borrow().phase
    }

    /// Returns whether nothing follows it and nobody waits.
    pub fn is_dormant(&self) -> bool {
        !self.is_followed.load(Ordering::Acquire) && self.state.receiver_count() == 0
    }

    /// Returns how many requests look at it right now.
    pub fn waiting(&self) -> usize {
        self.state.receiver_count()
    }

    /// Ends what follows the rendition, at once: it was purged, or is not for all. Who waits begins anew,
    /// as the next request does.
    pub(crate) fn retire(&self) {
        self.retired.cancel();
        self.state.send_modify(|_| ());
    }

    /// Returns whether it was retired: no version will come.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.is_cancelled()
    }

    /// Waits until it is retired.
    pub(super) async fn until_retired(&self) {
        self.retired.cancelled().await;
    }

    /// Returns whether nobody asked for `idle_after` and nobody waits, or it was purged.
    pub(super) fn is_idle(&self, uptime: Duration, idle_after: Duration) -> bool {
        if self.is_retired() {
            return true;
        }
        let asked = Duration::from_millis(self.last_asked.load(Ordering::Relaxed));
        self.state.receiver_count() == 0 && uptime.saturating_sub(asked) >= idle_after
    }

    /// Returns whether an example of its origin's lapses may be logged, at most once per `every`.
    pub(super) fn may_tell(&self, uptime: Duration, every: Duration) -> bool {
        // Relaxed: only its one chain asks.
        let may_tell = milliseconds(uptime) >= self.tell_from.load(Ordering::Relaxed);
        if may_tell {
            self.tell_from
                .store(milliseconds(uptime + every), Ordering::Relaxed);
        }
        may_tell
    }

    /// Takes the right to show a version.
    pub(super) fn publishing(&self) -> MutexGuard<'_, ()> {
        self.publishing.lock()
    }

    /// Shows the newest version without what was purged; returns what that meant. Nobody who waits is
    /// released by it: nothing new has come.
    pub(crate) fn redact(&self, node: &Node) -> Counts {
        let _publishing = self.publishing();
        let Some(version) = self.version() else {
            return Counts::default();
        };
        let Ok(redacted) = purge::redacted(node, &self.address, &version.playlist) else {
            self.retire();
            node.hub.forget(&self.address.key());
            return Counts::default();
        };
        let Some(redacted) = redacted else {
            return Counts::default();
        };
        let mut counts = redacted.counts;
        if !Arc::ptr_eq(&redacted.playlist, &version.playlist) {
            counts.responses += 1;
            counts.bytes += version.playlist.text().len() as u64;
        }
        let version = version.without(redacted);
        let children = Children::of(node, &self.address, &version.playlist);
        self.hint(node, children.hinted(), &children.listed());
        self.state
            .send_modify(|state| state.version = Some(Arc::new(version)));
        counts
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Returns since when the rendition is known here (uptime).
    pub(super) fn opened_at(&self) -> Duration {
        self.opened_at
    }

    /// Judges what a parent answered (CA-07).
    pub(super) fn judge(&self, origin: &Arc<MediaPlaylist>, uptime: Duration) -> Update {
        self.machine.lock().offer(Arc::clone(origin), uptime)
    }

    /// Makes it easy to believe that the stream began again; `surely`, whatever comes next.
    pub(super) fn suspect(&self, surely: bool) {
        let mut machine = self.machine.lock();
        if surely {
            machine.expect_new_epoch();
        } else {
            machine.suspect();
        }
    }

    /// Shows a version that turned out to be newer, and wakes who waits.
    pub(super) fn show(&self, mut version: Version, update: &Update, uptime: Duration) {
        let playlist = Arc::clone(&version.playlist);
        let is_shown = matches!(update, Update::Newer { .. } | Update::NewEpoch { .. });
        if is_shown {
            version.old_date_ranges = self.old_date_ranges(update, &playlist, uptime);
        }
        let shows_end = match update {
            Update::Newer { ended, .. } | Update::NewEpoch { ended, .. } => *ended,
            Update::Unchanged => playlist.is_ended(),
            // What is shown stays.
            Update::Older => playlist.is_ended() || self.phase() == Phase::Ended,
        };
        let phase = if shows_end {
            let again_from = milliseconds(uptime + ENDED_ASKED_EVERY);
            self.ask_again_from.store(again_from, Ordering::Relaxed);
            Phase::Ended
        } else {
            Phase::Following
        };
        self.state.send_if_modified(|state| {
            let is_unchanged = !is_shown && state.phase == phase;
            if is_shown {
                state.version = Some(Arc::new(version));
            }
            state.phase = phase;
            !is_unchanged
        });
    }

    fn old_date_ranges(
        &self,
        update: &Update,
        playlist: &MediaPlaylist,
        uptime: Duration,
    ) -> Option<hls::OldDateRanges> {
        let mut history = self.date_ranges.lock();
        if matches!(update, Update::NewEpoch { .. }) {
            *history = DateRangeHistory::default();
        }
        history.note(playlist, uptime)
    }

    /// Replaces what is hinted; who waits for a withdrawn hint is told (LL-19).
    pub(super) fn hint(&self, node: &Node, now: Vec<CacheKey>, listed: &[CacheKey]) {
        let mut hinted = self.hinted.lock();
        node.hub.hints.replace(&hinted, &now, listed);
        *hinted = now;
    }

    /// Returns the sign that the next version exists: the part has come that it lists and this one hints.
    pub(super) fn sign_of_next(&self, node: &Node) -> Option<Published> {
        let hinted = self.hinted.lock();
        let mut parts = hinted
            .iter()
            .filter(|key| node.hub.kind(key) == Some(Kind::Part));
        parts.find_map(|key| {
            Some(Published {
                arrived: node.hub.hints.arrival_of(key)?,
                pace: node.hub.pace(key)?,
            })
        })
    }

    /// Says how current the newest version is, and wakes who waits if that changed.
    pub(super) fn enter(&self, phase: Phase) {
        self.state.send_if_modified(|state| {
            let is_changed = state.phase != phase;
            state.phase = phase;
            is_changed
        });
    }

    /// Gives up following; the next viewer starts a new chain.
    pub(super) fn unfollow(&self) {
        self.is_followed.store(false, Ordering::Release);
        if self.phase() != Phase::Ended {
            self.enter(Phase::Dormant);
        }
    }

    /// Waits for `future` while waking held requests whose deadline passes.
    pub(super) async fn keeping_deadlines<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::pin!(future);
        loop {
            tokio::select! {
                done = &mut future => return done,
                () = self.deadlines.passed() => self.state.send_modify(|state| state.ticks += 1),
            }
        }
    }

    /// Takes a place for a request to be held at most `longest`.
    ///
    /// # Errors
    ///
    /// When the node holds as many as it may, of all or for this client or connection (CA-22).
    pub(super) fn hold(
        &self,
        node: &Arc<Node>,
        request: &Request,
        longest: Duration,
    ) -> Result<Hold, Failure> {
        let place = node.hub.held.take(&request.holder)?;
        let longest = longest.min(self.holds_max).saturating_sub(request.waited());
        Ok(Hold {
            _place: place,
            deadline: self.deadlines.add(longest),
        })
    }
}

/// A held request's place; dropping it gives the place back.
pub(super) struct Hold {
    _place: Place,
    deadline: Instant,
}

impl Hold {
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }
}

/// A broadcast that begins under the URL of one that ended is noticed within this time.
const ENDED_ASKED_EVERY: Duration = Duration::from_secs(10);

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
