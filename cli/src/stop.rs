//! How a command ends: the first signal asks it to drain, the second makes it leave at once.

use std::io;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::output::complain;

/// Listens for SIGTERM and SIGINT on a thread of its own, so that no busy command can miss them.
///
/// The token is cancelled by the first signal. The second ends the process with [`LEFT_AT_ONCE`].
///
/// # Errors
///
/// The system gives no thread or no signals.
pub(crate) fn on_signals() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime for signals")?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::listen().context("cannot listen for signals")?
    };
    let first = stop.clone();
    let watch = async move {
        signals.next().await;
        first.cancel();
        tokio::time::timeout(ECHO, signals.ignore()).await.ok();
        signals.next().await;
        complain("left at once; running responses were cut");
        std::process::exit(LEFT_AT_ONCE);
    };
    thread::Builder::new()
        .name("seawall-signals".to_owned())
        .spawn(move || runtime.block_on(watch))
        .context("no thread for signals")?;
    Ok(stop)
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Takes every signal and does nothing about it.
    async fn ignore(&mut self) {
        loop {
            self.next().await;
        }
    }
}

/// `timeout` and some supervisors signal a process and then its group: that is one wish, said twice.
const ECHO: Duration = Duration::from_millis(300);

/// As shells report a process ended by SIGINT.
const LEFT_AT_ONCE: i32 = 130;
