//! A network inside the process: names instead of addresses, pipes instead of sockets.
//!
//! With tokio's clock paused, time passes only when every task waits, so a scenario of a minute runs in
//! milliseconds and always in the same order.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::DuplexStream;

/// What happens to a connection that somebody opens.
pub type Accept = Arc<dyn Fn(DuplexStream) + Send + Sync>;

/// Who listens under which name.
#[derive(Clone, Default)]
pub struct Network {
    listeners: Arc<Mutex<HashMap<String, Listener>>>,
}

#[derive(Clone)]
struct Listener {
    accept: Accept,
    opened: usize,
    is_up: bool,
}

impl Network {
    /// Lets `accept` take every connection to `name`.
    pub fn listen(&self, name: &str, accept: Accept) {
        let listener = Listener {
            accept,
            opened: 0,
            is_up: true,
        };
        self.listeners.lock().insert(name.to_owned(), listener);
    }

    /// Opens a connection to `name`, with or without a port.
    ///
    /// # Errors
    ///
    /// Refused when nobody listens there, or the listener is down.
    pub fn connect(&self, name: &str) -> io::Result<DuplexStream> {
        let bare = name.split(':').next().unwrap_or(name);
        let accept = {
            let mut listeners = self.listeners.lock();
            let listener = listeners.get_mut(bare).filter(|l| l.is_up);
            let listener = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
            listener.opened += 1;
            Arc::clone(&listener.accept)
        };
        let (here, there) = tokio::io::duplex(PIPE_BYTES);
        accept(there);
        Ok(here)
    }

    /// Refuses new connections to `name`, or accepts them again.
    pub fn set_up(&self, name: &str, is_up: bool) {
        if let Some(listener) = self.listeners.lock().get_mut(name) {
            listener.is_up = is_up;
        }
    }

    /// Returns how many connections were opened to `name`.
    pub fn opened(&self, name: &str) -> usize {
        self.listeners.lock().get(name).map_or(0, |l| l.opened)
    }
}

const PIPE_BYTES: usize = 256 * 1024;
