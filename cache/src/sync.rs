//! The one lock of this crate, so that shuttle can stand in for it.
//!
//! `body`, `collapse`, `fence` and `store` lock through here. An ordinary build uses `parking_lot`; under `--cfg
//! shuttle` every lock is a point where the scheduler of the interleaving tests may switch tasks:
//!
//! ```text
//! RUSTFLAGS="--cfg shuttle" cargo test -p cache --target-dir target/shuttle shuttle_
//! ```
//!
//! Deliberately not here: `OnceLock`, which both builds take from `std`. It is only ever set while
//! the lock is held and read without waiting, so it can hide no interleaving that the lock does
//! not show.

#[cfg(not(shuttle))]
pub(crate) use parking_lot::Mutex;

/// A mutex whose every `lock` is a choice for shuttle's scheduler.
#[cfg(shuttle)]
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

#[cfg(shuttle)]
impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> shuttle::sync::MutexGuard<'_, T> {
        self.0.lock().expect("no holder of a lock panics")
    }
}
