//! Connection IDs that say which worker a packet belongs to.
//!
//! What is here: the numbering that `filter` reads in the kernel. Who calls it: the endpoint of each
//! worker. Deliberately not here: secrecy. The worker's number tells an observer nothing that links
//! two connections of one viewer.

use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};

/// The most workers that the first byte of a connection ID can tell apart.
pub(in crate::listen) const WORKERS_MAX: usize = 256;

/// Which worker, counted from 0 and below [`WORKERS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::listen) struct WorkerIndex(pub(in crate::listen) usize);

impl WorkerIndex {
    /// Returns the byte that a connection ID of this worker begins with.
    fn byte(self) -> u8 {
        u8::try_from(self.0).expect("at most 256 workers are bound")
    }
}

/// Makes the connection IDs of one worker: its number, then random bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct WorkerConnectionIds {
    pub(super) worker: WorkerIndex,
}

impl ConnectionIdGenerator for WorkerConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [0; CONNECTION_ID_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes");
        bytes[0] = self.worker.byte();
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// One byte for the worker, seven that no one guesses (RFC 9000 5.1).
const CONNECTION_ID_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_ids_begin_with_the_worker_and_differ() {
        let worker = WorkerIndex(3);
        let mut ids = WorkerConnectionIds { worker };
        let (one, two) = (ids.generate_cid(), ids.generate_cid());
        assert_eq!((one[0], two[0]), (3, 3));
        assert_ne!(one, two);
    }
}
