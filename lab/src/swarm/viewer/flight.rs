//! A request of a viewer that is on the wire.

use futures_util::future::AbortHandle;
use tokio::time::Instant;

use super::super::client::{FetchError, Got};
use super::super::measure::Object;
use super::super::track::{Directives, Media, MediaKind, Reload};

/// `None`: the viewer gave the request up.
pub(super) type Answer = Option<Result<Got, FetchFailure>>;

/// Why a request brought no whole answer.
pub(super) enum FetchFailure {
    Fetch(FetchError),
    Timeout,
}

/// A request that runs.
pub(super) struct Flight {
    pub(super) id: u64,
    pub(super) what: What,
    pub(super) abort: AbortHandle,
    /// By chance, the viewer gives this request up then.
    pub(super) abort_at: Option<Instant>,
    /// It was made later than it could have been; its delay says nothing of delivery.
    pub(super) was_late: bool,
}

/// What a request is for.
#[derive(Debug, Clone)]
pub(super) enum What {
    Open,
    Playlist { slot: usize, reload: Reload },
    Media { slot: usize, media: Media },
}

impl What {
    pub(super) fn object(&self) -> Object {
        match self {
            Self::Open => Object::Multivariant,
            Self::Playlist { .. } => Object::Playlist,
            Self::Media { media, .. } => match media.kind {
                MediaKind::Init => Object::Init,
                MediaKind::Part => Object::Part,
                MediaKind::Segment => Object::Segment,
            },
        }
    }

    pub(super) fn name(&self) -> String {
        let what = match self {
            Self::Open => return "multivariant playlist".to_owned(),
            Self::Playlist { reload, .. } if reload.asks == Directives::default() => {
                return "plain playlist".to_owned();
            }
            Self::Playlist { .. } => return "blocking playlist".to_owned(),
            Self::Media { media, .. } => media,
        };
        match what.kind {
            MediaKind::Init => "init section",
            MediaKind::Part if what.is_hinted => "hinted part",
            MediaKind::Part => "part",
            MediaKind::Segment => "segment",
        }
        .to_owned()
    }
}
