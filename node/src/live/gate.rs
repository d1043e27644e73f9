//! Where parts end in a resource that holds several, so that they leave whole (LL-17, LD-16).
//!
//! ```text
//! fill     ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒░░░░░░░   bytes that are here
//! parts    |── 12.0 ──|── 12.1 ──|── 12.2 ──|?          ends that the newest playlist tells
//! plain    ──────────────────────────────────►          every byte at once: how LL-DASH reads
//! ranged   ─────────────────────────────────►|          whole parts: how LL-HLS reads
//! ```
//!
//! A player of LL-HLS measures its throughput by how fast a part comes, and would take the pace of the
//! encoder for that of the network. It asks for ranges; who asks for the whole resource follows the
//! encoder. Both read one fill. When the resource is complete nothing is held back from anybody.
//!
//! Who calls it: `chain` says where parts end, with every version; `respond` reads through it.
//! Deliberately not here: finding ends in the media itself. A part that no playlist lists is no part.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache::body::Reader;
use cache::{BodyFailure, BodyState, CacheKey, GrowingBody, Progress};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use moka::sync::Cache;
use tokio::sync::watch;

use crate::body::BodyError;

/// The gates of every resource that live playlists divide into parts.
///
/// # Limits
///
/// So many resources, and those of which no playlist has spoken for a while leave: what has no gate
/// is sent as it arrives.
#[derive(Debug)]
pub(crate) struct Gates {
    by_key: Cache<CacheKey, Arc<watch::Sender<PartEnds>>>,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            by_key: Cache::builder()
                .max_capacity(GATES_MAX)
                .time_to_idle(GATE_IDLE)
                .build(),
        }
    }
}

impl Gates {
    /// Says where the parts of `key` end, as the newest playlist has it; who waits is woken.
    pub(super) fn announce(&self, key: &CacheKey, ends: &PartEnds) {
        let gate = self.by_key.get_with_by_ref(key, Arc::default);
        gate.send_if_modified(|known| {
            let is_news = known != ends;
            if is_news {
                known.clone_from(ends);
            }
            is_news
        });
    }

    /// Returns the gate of `key`, if its parts are ranges of it.
    pub(crate) fn of(&self, key: &CacheKey) -> Option<Gate> {
        let sender = self.by_key.get(key)?;
        Some(Gate {
            ends: sender.subscribe(),
        })
    }
}

/// Positions after the last bytes of parts, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartEnds(Vec<u64>);

impl PartEnds {
    /// Puts `ends` in order.
    pub(super) fn of(mut ends: Vec<u64>) -> Self {
        ends.sort_unstable();
        ends.dedup();
        Self(ends)
    }

    /// Returns where the last part ends of which every byte is among the first `received`.
    fn whole_among(&self, received: u64) -> u64 {
        let whole = self.0.partition_point(|end| *end <= received);
        whole.checked_sub(1).map_or(0, |last| self.0[last])
    }

    /// Returns where the part ends that the byte after the first `received` is of, if that is known.
    fn next_after(&self, received: u64) -> Option<u64> {
        let whole = self.0.partition_point(|end| *end <= received);
        self.0.get(whole).copied()
    }
}

/// What one reader may have of a resource that still grows.
#[derive(Debug)]
pub(crate) struct Gate {
    ends: watch::Receiver<PartEnds>,
}

impl Gate {
    /// Returns how far `body` has come in whole parts.
    pub(crate) fn progress(&mut self, body: &GrowingBody) -> Progress {
        let progress = body.progress();
        let received = match progress.state {
            BodyState::Complete => progress.received,
            // A part that broke off is not sent at all.
            BodyState::Filling | BodyState::Failed(_) => {
                let ends = self.ends.borrow_and_update();
                ends.whole_among(progress.received)
            }
        };
        Progress {
            received,
            ..progress
        }
    }

    /// Waits until at least `bytes` are there in whole parts, or the body has ended. Cancel safe.
    pub(crate) async fn received_at_least(&mut self, body: &GrowingBody, bytes: u64) -> Progress {
        loop {
            let progress = self.progress(body);
            if progress.received >= bytes || progress.state != BodyState::Filling {
                return progress;
            }
            let received = body.progress().received;
            let next = self.ends.borrow().next_after(received);
            // Of a part that no playlist lists yet the end of the body is the end.
            let arrived = body.received_at_least(next.unwrap_or(u64::MAX));
            tokio::select! {
                _ = arrived => {}
                changed = self.ends.changed() => if changed.is_err() {
                    // Nobody will say any more where parts end.
                    body.ended().await;
                }
            }
        }
    }

    /// Returns what `reader` reads of `body` from `position` on, part by part.
    pub(crate) fn pieces(
        self,
        body: GrowingBody,
        reader: Reader,
        position: u64,
    ) -> BoxStream<'static, Result<Bytes, BodyError>> {
        let gated = Gated {
            gate: self,
            body,
            reader,
            position,
            rest: Bytes::new(),
        };
        let pieces = stream::unfold(gated, |mut gated| async move {
            let piece = gated.next().await?;
            Some((piece.map_err(|_| BodyError), gated))
        });
        pieces.boxed()
    }
}

/// One reader behind a gate.
struct Gated {
    gate: Gate,
    body: GrowingBody,
    /// Kept while waiting: whoever waits for a part reads the body, too.
    reader: Reader,
    /// Where the next byte to be sent is.
    position: u64,
    /// Bytes that were read and not sent, from `position` on.
    rest: Bytes,
}

impl Gated {
    async fn next(&mut self) -> Option<Result<Bytes, BodyFailure>> {
        if self.rest.is_empty() {
            match self.reader.next().await? {
                Ok(bytes) => self.rest = bytes,
                Err(failure) => return Some(Err(failure)),
            }
        }
        let wanted = self.position.saturating_add(1);
        let progress = self.gate.received_at_least(&self.body, wanted).await;
        let open = progress.received.saturating_sub(self.position);
        if open == 0 {
            return match progress.state {
                BodyState::Failed(failure) => Some(Err(failure)),
                // Complete: every byte that was read is there.
                BodyState::Complete | BodyState::Filling => None,
            };
        }
        let open = usize::try_from(open).unwrap_or(usize::MAX);
        let piece = self.rest.split_to(self.rest.len().min(open));
        self.position += piece.len() as u64;
        Some(Ok(piece))
    }
}

/// Resources: a rendition has some four with parts in its playlist.
const GATES_MAX: u64 = 100_000;

/// Longer than a playlist goes without a new version while its stream lives.
const GATE_IDLE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn gates_with(ends: &[u64]) -> (Gates, CacheKey) {
        let key = crate::request::key_of("h", "/seg12.m4s", "");
        let gates = Gates::default();
        gates.announce(&key, &PartEnds::of(ends.to_vec()));
        (gates, key)
    }

    #[tokio::test(start_paused = true)]
    async fn ll_17_bytes_of_a_range_leave_in_whole_parts() {
        let (gates, key) = gates_with(&[]);
        let (mut writer, body) = GrowingBody::new();
        let gate = gates.of(&key).unwrap();
        let mut pieces = gate.pieces(body.clone(), body.reader(0..u64::MAX), 0);
        writer.push(Bytes::from_static(b"abcdef"));
        let waiting = tokio::time::timeout(Duration::from_secs(9), pieces.next());
        assert!(waiting.await.is_err(), "no playlist lists a part yet");
        gates.announce(&key, &PartEnds::of(vec![4, 8]));
        assert_eq!(pieces.next().await.unwrap().unwrap(), "abcd");
        let waiting = tokio::time::timeout(Duration::from_secs(9), pieces.next());
        assert!(waiting.await.is_err(), "half a part");
        writer.push(Bytes::from_static(b"ghij"));
        let mut part = Vec::new();
        while part.len() < 4 {
            part.extend_from_slice(&pieces.next().await.unwrap().unwrap());
        }
        assert_eq!(part, b"efgh");
        writer.complete();
        assert_eq!(pieces.next().await.unwrap().unwrap(), "ij");
        assert!(pieces.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn ll_17_half_a_part_of_a_body_that_broke_never_leaves() {
        let (gates, key) = gates_with(&[4, 8]);
        let (mut writer, body) = GrowingBody::new();
        let gate = gates.of(&key).unwrap();
        let mut pieces = gate.pieces(body.clone(), body.reader(0..u64::MAX), 0);
        writer.push(Bytes::from_static(b"abcdef"));
        writer.fail(BodyFailure::Reset);
        assert_eq!(pieces.next().await.unwrap().unwrap(), "abcd");
        assert!(pieces.next().await.unwrap().is_err());
    }

    #[test]
    fn ll_17_what_is_whole_ends_with_a_part_and_nothing_whole_is_kept_back() {
        let ends = PartEnds::of(vec![30, 0, 10, 20, 10]);
        for received in 0..40 {
            assert_eq!(ends.whole_among(received), (received / 10 * 10).min(30));
            let next = (received / 10 + 1) * 10;
            assert_eq!(ends.next_after(received), (next <= 30).then_some(next));
        }
        assert_eq!(PartEnds::default().whole_among(u64::MAX), 0);
        assert_eq!(PartEnds::default().next_after(0), None);
    }
}
