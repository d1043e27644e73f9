//! The threads of a run: one current-thread runtime each, watched from the calling thread.
//!
//! The swarm shares a machine with what it measures, so nothing moves between threads and nothing
//! is shared but a tally that the caller reads once a second.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

/// Threads at work.
pub(crate) struct Fleet {
    threads: Vec<JoinHandle<io::Result<()>>>,
    ends: Receiver<()>,
}

/// Why the threads of a run did not do their work.
#[derive(Debug, thiserror::Error)]
pub enum ThreadError {
    /// The system gave no thread or no runtime.
    #[error("no thread to work in")]
    Start(#[source] io::Error),
    /// A defect of the swarm.
    #[error("a thread of the swarm panicked")]
    Panicked,
}

/// How often the caller hears of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

impl Fleet {
    /// Starts `count` threads, each of which runs the future that `work` makes for its number.
    pub(crate) fn start<F, W>(count: usize, work: F) -> Result<Self, ThreadError>
    where
        F: Fn(usize) -> W + Clone + Send + 'static,
        W: Future<Output = ()>,
    {
        let (ended, ends) = sync_channel(count);
        let mut threads = Vec::with_capacity(count);
        for number in 0..count {
            let (work, ended) = (work.clone(), ended.clone());
            let thread = std::thread::Builder::new()
                .name(format!("swarm-{number}"))
                .spawn(move || {
                    // Dropped last, whatever happens: it tells the caller that this thread is done.
                    let _ended = ended;
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()?;
                    runtime.block_on(work(number));
                    Ok(())
                })
                .map_err(ThreadError::Start)?;
            threads.push(thread);
        }
        Ok(Self { threads, ends })
    }

    /// Waits for all threads, calling `each_second` meanwhile.
    pub(crate) fn join(self, mut each_second: impl FnMut()) -> Result<(), ThreadError> {
        let mut next = Instant::now() + PROGRESS_EVERY;
        loop {
            let wait = next.saturating_duration_since(Instant::now());
            match self.ends.recv_timeout(wait) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => {
                    each_second();
                    next += PROGRESS_EVERY;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for thread in self.threads {
            let ended = thread.join().map_err(|_| ThreadError::Panicked)?;
            ended.map_err(ThreadError::Start)?;
        }
        Ok(())
    }
}

/// Runs one future to its end on a thread of its own, whatever runtime the caller is in.
pub(crate) fn run_apart<T: Send>(work: impl Future<Output = T> + Send) -> Result<T, ThreadError> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            Ok(runtime.block_on(work))
        });
        let ended: io::Result<T> = thread.join().map_err(|_| ThreadError::Panicked)?;
        ended.map_err(ThreadError::Start)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_thread_does_its_share_and_is_joined() {
        let sum = Arc::new(AtomicUsize::new(0));
        let shared = Arc::clone(&sum);
        let fleet = Fleet::start(3, move |number| {
            let shared = Arc::clone(&shared);
            async move {
                shared.fetch_add(number + 1, Ordering::Relaxed);
            }
        });
        fleet.unwrap().join(|| {}).unwrap();
        assert_eq!(sum.load(Ordering::Relaxed), 6);
    }

    #[test]
    fn a_panic_in_a_thread_is_reported() {
        let fleet = Fleet::start(1, |_| async { panic!("on purpose") }).unwrap();
        assert!(matches!(fleet.join(|| {}), Err(ThreadError::Panicked)));
    }
}
