//! What happens in a node, as typed events.
//!
//! Who makes them: the exchange (one per request), fills, chains and the upstream. Who reads them:
//! [`super::Telemetry::record`] only. Deliberately not here: names of metrics; events say what
//! happened, the catalog says how it is counted.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, StatusCode};
use media::Kind;
use purge_log::{Counts, Target};

use crate::exchange::Protocol;
use crate::respond::{Failure, Outcome};
use crate::upstream::{Class, ParentId};

/// Something that happened in a node.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The last byte of an answer has left, or the viewer has.
    RequestFinished(FinishedRequest<'a>),
    /// A parent was asked, and its head arrived or did not.
    ForwardFinished {
        /// Which parent; `None` when none could be chosen.
        parent: Option<ParentId>,
        /// Which connections were used.
        class: Class,
        /// The status of the answer; `None` when there was no answer.
        status: Option<StatusCode>,
        /// Time from asking to the head of the answer, or to giving up.
        waited: Duration,
    },
    /// A fill began.
    FillStarted {
        /// Whether it began before any viewer asked (CA-15).
        is_ahead: bool,
    },
    /// A fill ended. Invariant: one per [`Event::FillStarted`].
    FillFinished {
        /// How it ended.
        ending: FillEnding,
        /// Body bytes that the parent sent.
        bytes: u64,
        /// Time from its start.
        duration: Duration,
    },
    /// A chain began to follow a rendition.
    ChainStarted,
    /// A chain ended: nobody watches, the broadcast is over, or the node stops.
    ChainStopped,
    /// A chain could not bring the next version; it tries again.
    ChainFailed(Failure),
    /// A newer version of a live playlist can be seen by viewers.
    VersionPublished {
        /// How old it was on arrival, by the parent's word (LT-02): the lag behind the live edge.
        age: Duration,
    },
    /// A parent answered an older version than viewers have seen; it was not shown (CA-07).
    RegressionPrevented,
    /// Something at the live edge was late: a second request for it was made, or there was no budget.
    SecondAttemptEnded(SecondAttempt),
    /// A player has announced what it will ask for next, and the node may fetch it (HX-04).
    NextObjectAnnounced(NextObject),
    /// A purge of the log was applied.
    PurgeApplied {
        /// What it was for.
        target: &'a Target,
        /// What it meant here.
        counts: Counts,
    },
    /// A parent broke a rule that players rely on; the answer was used as well as it can be.
    OriginMisbehaved {
        /// Which one.
        rule: Misbehavior,
        /// The host of the playlist it was seen in, or of the media.
        host: &'a str,
        /// The path of that playlist, or the directory of the media, as it is asked for.
        path: &'a str,
        /// How one can tell, in words, without secrets.
        evidence: fmt::Arguments<'a>,
    },
}

/// One finished request, as the access log and the metrics see it.
#[derive(Clone, Copy, Debug)]
pub struct FinishedRequest<'a> {
    /// Where the client is.
    pub peer: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// The method.
    pub method: &'a Method,
    /// The host asked for; empty when the request was refused before it was known.
    pub host: &'a str,
    /// The path as sent. Secrets in it are removed before it is logged (invariant 7).
    pub path: &'a str,
    /// The query as sent. Values other than those of `_HLS_` parameters are never logged.
    pub query: &'a str,
    /// What the resource is, where that is known.
    pub kind: Kind,
    /// The status sent; `None` when the viewer left before it could be.
    pub status: Option<StatusCode>,
    /// What the cache did.
    pub outcome: Outcome,
    /// Why the request could not be answered, if it could not.
    pub failure: Option<Failure>,
    /// Body bytes handed to the connection.
    pub bytes: u64,
    /// Time from the request's arrival to the head of the answer.
    pub first_byte: Duration,
    /// Time from the request's arrival to its end.
    pub duration: Duration,
    /// How long the request was held on purpose; zero when it was not.
    pub held: Duration,
    /// How the request ended.
    pub ending: Ending,
    /// The `Cache-Status` that was sent, if any.
    pub cache_status: Option<&'a str>,
}

/// What became of an object that a player announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NextObject {
    /// It is being fetched.
    Fetched,
    /// It is stored already.
    Known,
    /// No live playlist has named it, or it is of another presentation.
    Refused,
    /// The budget is spent.
    OverBudget,
}

/// What came of a second request for something late, beside the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecondAttempt {
    /// It was answered, and the first was taken back.
    Helped,
    /// The first was answered after all.
    NotNeeded,
    /// Neither brought what viewers can use.
    Failed,
    /// Whoever wanted it left before either was answered.
    Abandoned,
    /// It was not made: too many were.
    OverBudget,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Every byte was handed to the connection.
    Complete,
    /// The viewer left before the end.
    ViewerLeft,
    /// The body failed; the connection made sure that it does not look whole.
    BodyFailed,
}

/// How a fill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FillEnding {
    /// The response is complete and stored.
    Stored,
    /// The response is complete and was shared, but may not or could not be stored.
    NotStored,
    /// The body was a live playlist; the hub has it.
    Rendition,
    /// The response may not be shared; one viewer has it.
    Unshared,
    /// Nobody read it and nobody would store it any more (invariant 6), or its hint was withdrawn.
    Abandoned,
    /// The response is complete, and a purge or a new epoch came since the start (invariant 5).
    Purged,
    /// The parent did not bring it whole.
    Failed,
}

/// A rule that a parent broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Misbehavior {
    /// A blocking reload was answered without the position it asked for (LL-03).
    AnsweredEarly,
    /// A blocking reload was held longer than three target durations (LL-09).
    HeldTooLong,
    /// A playlist could not be read as one.
    PlaylistMalformed,
    /// The Media Sequence Number went back without a new epoch.
    WentBack,
    /// Media whose response names no lifetime (LB-12).
    LifetimeMissing,
    /// Media that is shorter than its `Content-Length`, or ends without its last chunk (FM-22).
    BodyShort,
    /// A resource was hinted and is neither listed nor hinted any more (LL-19).
    HintNotKept,
    /// The next part came later than a part duration and a half after the one before (LL-23).
    PartLate,
    /// The target duration changed (LL-22).
    TargetDurationChanged,
    /// A part or segment is longer than its target.
    TooLong,
    /// The date of a segment is not where its predecessor ended.
    DateJumped,
    /// A fragmented MP4 segment has no initialization segment.
    MapMissing,
    /// The URIs of a playlist are made for one viewer (CA-10).
    UrisOfOneViewer,
    /// The URIs of a playlist may be made for one viewer.
    UrisSuspicious,
}
