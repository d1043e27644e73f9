//! How a handler or a body ends the connection that it is served on.
//!
//! Faults need what no HTTP library offers: a reset in the middle of a body, or an end that looks
//! clean. The handler asks here; the server, which owns the connection, does it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// How long what is already written may take to leave before a connection or stream is ended on
/// purpose.
pub(crate) const ENDING_GRACE: Duration = Duration::from_millis(10);

/// How a connection is to end before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A TCP reset; on a simulated stream the stream is dropped.
    Reset,
    /// An orderly close, whatever is unfinished.
    Close,
}

/// The say of a handler over its connection.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    ending: Arc<watch::Sender<Option<Ending>>>,
}

impl Control {
    pub(crate) fn new() -> Self {
        Self {
            ending: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Asks for the end of the connection; what is already written still goes out.
    pub(crate) fn end(&self, ending: Ending) {
        self.ending.send_replace(Some(ending));
    }

    /// Waits until the end is asked for.
    pub(crate) async fn ended(&self) -> Ending {
        let mut asked = self.ending.subscribe();
        loop {
            let ending = *asked.borrow_and_update();
            if let Some(ending) = ending {
                return ending;
            }
            // The sender lives in `self`, so it is never gone here.
            if asked.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns the end that was asked for.
    pub(crate) fn asked(&self) -> Option<Ending> {
        *self.ending.borrow()
    }
}
