//! The demonstration's own viewers: a small swarm at each edge, so that there is something to see.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use lab::swarm::{self, Protocol, SwarmConfig, Wants};
use tokio_util::sync::CancellationToken;

use super::{Cdn, local};

/// Viewers that play until they are told to leave.
pub(super) struct Audience {
    threads: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Audience {
    /// Lets `viewers` arrive, spread evenly over the edges. Each edge's run on a thread of their own.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub(super) fn arrive(
        viewers: usize,
        cdn: &Cdn,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let stop = stop.child_token();
        let mut threads = Vec::new();
        for (at, (name, edge)) in cdn.edges.iter().enumerate() {
            let share = (viewers + at) / cdn.edges.len();
            if share == 0 {
                continue;
            }
            let address = local(edge, name)?;
            let config = SwarmConfig {
                viewers: share,
                ramp: RAMP,
                duration: FOREVER,
                protocol: Protocol::Http2,
                wants: Wants::Hint,
                seed: at as u64,
                ..SwarmConfig::new(format!("http://{address}/live/index.m3u8"))
            };
            let stop = stop.clone();
            let watch = move || match swarm::run(&config, &stop, |_| {}) {
                Ok(report) => tracing::debug!("viewers left: {report}"),
                Err(error) => tracing::warn!(%error, "no viewers"),
            };
            let thread = thread::Builder::new().name(format!("viewers-{name}"));
            threads.push(thread.spawn(watch).context("no thread for viewers")?);
        }
        Ok(Self { threads, stop })
    }

    /// Sends the viewers home and waits until they have left.
    pub(super) fn leave(self) {
        self.stop.cancel();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::warn!("the viewers' thread ended by a panic");
            }
        }
    }
}

const RAMP: Duration = Duration::from_secs(2);
/// Ends by signal long before.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
