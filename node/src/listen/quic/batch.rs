//! Packets of one client that wait for more of them, so that the kernel gets as many at once as it takes.
//!
//! ```text
//! quinn ── ten packets at most ──► Batches ── 64 KB at most ──► kernel, which cuts them apart (GSO)
//! ```
//!
//! quinn ends each send after ten packets, 14 KB; what a send costs the kernel hardly depends on how many packets it
//! carries. Ten full packets are a sign that more follow: they are copied to a place and wait. Fewer than ten say that
//! there is nothing more for now: they leave with what waits before them.
//!
//! Who calls it: `socket`. Deliberately not here: system calls, and when what waits for nothing more has to leave.

use std::io;
use std::net::{IpAddr, SocketAddr};

use quinn::udp::{EcnCodepoint, Transmit};

/// What waits to be sent by one socket.
#[derive(Debug, Default)]
pub(super) struct Batches {
    /// One per client that has something waiting; the one that waits longest comes first.
    places: Vec<Batch>,
    /// Room for so many others.
    spare: Vec<Vec<u8>>,
}

/// Packets of one size to one client.
#[derive(Debug)]
struct Batch {
    destination: SocketAddr,
    source: Option<IpAddr>,
    ecn: Option<EcnCodepoint>,
    packet_bytes: usize,
    /// Invariant: each packet but the last has `packet_bytes`.
    bytes: Vec<u8>,
    /// How much of `bytes` has left.
    gone: usize,
    /// Whether packets were added since the last look.
    has_grown: bool,
}

/// What a look at the batches has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Nothing.
    Nothing,
    /// What grew since the look before, or what the socket had no room for.
    Something,
}

impl Batches {
    /// Sends `transmit`, or keeps it until more has come; at most `packets_max` leave at once.
    ///
    /// # Errors
    ///
    /// Those of `send`; nothing of `transmit` was taken.
    pub(super) fn offer(
        &mut self,
        transmit: &Transmit<'_>,
        packets_max: usize,
        mut send: impl FnMut(&Transmit<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let is_of_client = |batch: &Batch| batch.destination == transmit.destination;
        let Some(index) = self.places.iter().position(is_of_client) else {
            return self.offer_first(transmit, packets_max, send);
        };
        let batch = &mut self.places[index];
        if !batch.suits(transmit) || batch.waiting() >= batch.bytes_max(packets_max) {
            batch.flush(packets_max, &mut send)?;
            self.leave(index);
            return self.offer_first(transmit, packets_max, send);
        }
        let joined = batch.join(transmit, packets_max, send);
        if batch.waiting() == 0 {
            self.leave(index);
        }
        joined
    }

    /// Sends `transmit` of a client that has nothing waiting, but for what leaves better with what follows.
    fn offer_first(
        &mut self,
        transmit: &Transmit<'_>,
        packets_max: usize,
        mut send: impl FnMut(&Transmit<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut batch = Batch::new(transmit);
        let bytes_max = batch.bytes_max(packets_max);
        let mut rest = transmit.contents;
        if self.places.len() == PLACES_MAX && (rest.len() > bytes_max || has_more_behind(transmit))
        {
            // Something of it may have to wait: the one that waits longest makes room.
            self.places[0].flush(packets_max, &mut send)?;
            self.leave(0);
        }
        while rest.len() >= bytes_max || (!rest.is_empty() && !has_more_behind(transmit)) {
            let (now, later) = rest.split_at(rest.len().min(bytes_max));
            let sent = send(&Transmit {
                contents: now,
                ..*transmit
            });
            match sent {
                Ok(()) => rest = later,
                Err(error) if rest.len() == transmit.contents.len() => return Err(error),
                // Some of it has left: what the socket has no room for waits.
                Err(_) => break,
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
        batch.bytes = self.spare.pop().unwrap_or_default();
        batch.bytes.extend_from_slice(rest);
        self.places.push(batch);
        Ok(())
    }

    /// Takes a batch out whose bytes have left.
    fn leave(&mut self, index: usize) {
        let mut bytes = self.places.remove(index).bytes;
        bytes.clear();
        self.spare.push(bytes);
    }

    /// Sends what has not grown since the last look.
    ///
    /// # Errors
    ///
    /// Those of `send`; what was not sent waits on.
    pub(super) fn look(
        &mut self,
        packets_max: usize,
        mut send: impl FnMut(&Transmit<'_>) -> io::Result<()>,
    ) -> io::Result<Waiting> {
        let mut index = 0;
        while let Some(batch) = self.places.get_mut(index) {
            if std::mem::take(&mut batch.has_grown) {
                index += 1;
            } else {
                batch.flush(packets_max, &mut send)?;
                self.leave(index);
            }
        }
        Ok(if self.places.is_empty() {
            Waiting::Nothing
        } else {
            Waiting::Something
        })
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

impl Batch {
    fn new(transmit: &Transmit<'_>) -> Self {
        Self {
            destination: transmit.destination,
            source: transmit.src_ip,
            ecn: transmit.ecn,
            packet_bytes: transmit.segment_size.unwrap_or(transmit.contents.len()),
            bytes: Vec::new(),
            gone: 0,
            has_grown: true,
        }
    }

    /// Whether the packets of `transmit` can follow those that wait.
    fn suits(&self, transmit: &Transmit<'_>) -> bool {
        let packet_bytes = transmit.segment_size.unwrap_or(transmit.contents.len());
        let is_of_size = match transmit.segment_size {
            Some(_) => packet_bytes == self.packet_bytes,
            // One packet, and the last may be shorter.
            None => packet_bytes <= self.packet_bytes,
        };
        is_of_size && transmit.ecn == self.ecn && transmit.src_ip == self.source
    }

    fn waiting(&self) -> usize {
        self.bytes.len() - self.gone
    }

    /// Returns how many bytes leave at once.
    fn bytes_max(&self, packets_max: usize) -> usize {
        let packets = (SEND_BYTES_MAX / self.packet_bytes).clamp(1, packets_max);
        packets * self.packet_bytes
    }

    /// Takes packets behind those that wait, and sends as many at once as the kernel takes.
    fn join(
        &mut self,
        transmit: &Transmit<'_>,
        packets_max: usize,
        mut send: impl FnMut(&Transmit<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.gone >= SEND_BYTES_MAX / 2 {
            self.bytes.drain(..self.gone);
            self.gone = 0;
        }
        self.bytes.extend_from_slice(transmit.contents);
        self.has_grown = true;
        let bytes_max = self.bytes_max(packets_max);
        let sent = if has_more_behind(transmit) {
            self.flush_while(bytes_max, bytes_max, &mut send)
        } else {
            self.flush(packets_max, &mut send)
        };
        match sent {
            // They were taken: what the socket has no room for waits here.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Ok(()) | Err(_) => sent,
        }
    }

    /// Sends all that waits.
    fn flush(
        &mut self,
        packets_max: usize,
        send: &mut impl FnMut(&Transmit<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.flush_while(1, self.bytes_max(packets_max), send)
    }

    /// Sends `bytes_max` at once as long as at least `bytes_min` wait.
    fn flush_while(
        &mut self,
        bytes_min: usize,
        bytes_max: usize,
        send: &mut impl FnMut(&Transmit<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        while self.waiting() >= bytes_min {
            let end = self.bytes.len().min(self.gone + bytes_max);
            send(&Transmit {
                destination: self.destination,
                ecn: self.ecn,
                contents: &self.bytes[self.gone..end],
                segment_size: Some(self.packet_bytes),
                src_ip: self.source,
            })?;
            self.gone = end;
        }
        Ok(())
    }
}

/// Whether quinn stopped only because a send of its takes no more.
fn has_more_behind(transmit: &Transmit<'_>) -> bool {
    transmit
        .segment_size
        .is_some_and(|size| transmit.contents.len() == size * QUINN_PACKETS_MAX)
}

/// Packets that quinn 0.11 puts into one send.
const QUINN_PACKETS_MAX: usize = 10;

/// Bytes of one send: what an IP packet can say that it holds, without its own head and UDP's.
const SEND_BYTES_MAX: usize = 65_535 - 40 - 8;

/// Clients whose packets wait at a time.
const PLACES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that notes what it was given, as lengths and packet sizes, until it has no room.
    #[derive(Default)]
    struct Kernel {
        sends: Vec<(SocketAddr, usize, Option<usize>)>,
        bytes: Vec<u8>,
        room: Option<usize>,
    }

    impl Kernel {
        fn send(&mut self, transmit: &Transmit<'_>) -> io::Result<()> {
            if self.room == Some(0) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room = self.room.map(|room| room - 1);
            let length = transmit.contents.len();
            self.sends
                .push((transmit.destination, length, transmit.segment_size));
            self.bytes.extend_from_slice(transmit.contents);
            Ok(())
        }

        fn lengths(&self) -> Vec<usize> {
            self.sends.iter().map(|send| send.1).collect()
        }
    }

    fn client(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    /// Packets of `size` bytes, of which the last has `last`.
    fn packets(to: SocketAddr, contents: &[u8], size: Option<usize>) -> Transmit<'_> {
        Transmit {
            destination: to,
            ecn: Some(EcnCodepoint::Ect0),
            contents,
            segment_size: size,
            src_ip: None,
        }
    }

    fn offer(batches: &mut Batches, kernel: &mut Kernel, transmit: &Transmit<'_>) {
        let sent = batches.offer(transmit, 64, |transmit| kernel.send(transmit));
        sent.expect("the kernel has room, or takes it later");
    }

    fn look(batches: &mut Batches, kernel: &mut Kernel) -> io::Result<Waiting> {
        batches.look(64, |transmit| kernel.send(transmit))
    }

    #[test]
    fn ten_full_packets_wait_for_those_behind_them_and_leave_together() {
        let (mut batches, mut kernel) = (Batches::default(), Kernel::default());
        let all: Vec<u8> = (0..23_500u32).map(|i| i as u8).collect();
        offer(
            &mut batches,
            &mut kernel,
            &packets(client(1), &all[..10_000], Some(1_000)),
        );
        offer(
            &mut batches,
            &mut kernel,
            &packets(client(1), &all[10_000..20_000], Some(1_000)),
        );
        assert!(kernel.sends.is_empty());
        offer(
            &mut batches,
            &mut kernel,
            &packets(client(1), &all[20_000..], Some(1_000)),
        );
        assert_eq!(kernel.sends, [(client(1), 23_500, Some(1_000))]);
        assert_eq!(kernel.bytes, all);
        assert_eq!(look(&mut batches, &mut kernel).unwrap(), Waiting::Nothing);
    }

    #[test]
    fn no_more_leaves_at_once_than_an_ip_packet_can_hold() {
        let (mut batches, mut kernel) = (Batches::default(), Kernel::default());
        for size in [1_452, 8_952, 65_487] {
            let all = vec![7; size * 10];
            for _ in 0..10 {
                offer(
                    &mut batches,
                    &mut kernel,
                    &packets(client(1), &all, Some(size)),
                );
            }
            offer(
                &mut batches,
                &mut kernel,
                &packets(client(1), &all[..100], None),
            );
        }
        assert!(kernel.lengths().iter().all(|length| *length <= 65_487));
        let full = 1_452 * 45;
        assert_eq!(kernel.lengths()[..3], [full, full, 10 * 1_452 + 100]);
        assert_eq!(
            kernel.bytes.len(),
            300 + 100 * (1_452 + 8_952 + 65_487),
            "all of it left"
        );
    }

    #[test]
    fn few_packets_do_not_wait() {
        let (mut batches, mut kernel) = (Batches::default(), Kernel::default());
        offer(&mut batches, &mut kernel, &packets(client(1), b"ack", None));
        offer(
            &mut batches,
            &mut kernel,
            &packets(client(1), &[0; 2_500], Some(1_000)),
        );
        assert_eq!(kernel.lengths(), [3, 2_500]);
        assert!(batches.is_empty());
    }

    #[test]
    fn what_does_not_grow_between_two_looks_leaves() {
        let (mut batches, mut kernel) = (Batches::default(), Kernel::default());
        let ten = packets(client(1), &[0; 10_000], Some(1_000));
        offer(&mut batches, &mut kernel, &ten);
        assert_eq!(look(&mut batches, &mut kernel).unwrap(), Waiting::Something);
        offer(&mut batches, &mut kernel, &ten);
        assert_eq!(look(&mut batches, &mut kernel).unwrap(), Waiting::Something);
        assert!(kernel.sends.is_empty());
        assert_eq!(look(&mut batches, &mut kernel).unwrap(), Waiting::Nothing);
        assert_eq!(kernel.lengths(), [20_000]);
    }

    #[test]
    fn packets_of_another_kind_do_not_join_and_do_not_overtake() {
        let (mut batches, mut kernel) = (Batches::default(), Kernel::default());
        let ten = packets(client(1), &[0; 10_000], Some(1_000));
        offer(&mut batches, &mut kernel, &ten);
        // A probe of a larger size, a mark that is not there, another source.
        offer(
            &mut batches,
            &mut kernel,
            &packets(client(1), &[0; 1_200], None),
        );
        offer(&mut batches, &mut kernel, &ten);
        let unmarked = Transmit { ecn: None, ..ten };
        offer(&mut batches, &mut kernel, &unmarked);
        let elsewhere = Transmit {
            src_ip: Some(client(1).ip()),
            ..packets(client(1), &[0; 500], None)
        };
        offer(&mut batches, &mut kernel, &elsewhere);
        assert_eq!(kernel.lengths(), [10_000, 1_200, 10_000, 10_000, 500]);
    }

    #[test]
    fn clients_wait_beside_each_other_up_to_a_limit() {
        let (mut batches, mut kernel) = (Batches::default(), Kernel::default());
        for port in 0..=PLACES_MAX as u16 {
            offer(
                &mut batches,
                &mut kernel,
                &packets(client(port), &[0; 10_000], Some(1_000)),
            );
        }
        assert_eq!(kernel.sends, [(client(0), 10_000, Some(1_000))]);
        look(&mut batches, &mut kernel).unwrap();
        look(&mut batches, &mut kernel).unwrap();
        assert_eq!(kernel.sends.len(), PLACES_MAX + 1);
    }

    #[test]
    fn a_kernel_without_room_loses_nothing_and_what_waits_stays_bounded() {
        let (mut batches, mut kernel) = (Batches::default(), Kernel::default());
        let all: Vec<u8> = (0..200_000u32).map(|i| (i / 7) as u8).collect();
        kernel.room = Some(1);
        let mut taken = 0;
        for ten in all.chunks(10_000) {
            let transmit = packets(client(1), ten, Some(1_000));
            if batches
                .offer(&transmit, 64, |transmit| kernel.send(transmit))
                .is_err()
            {
                break;
            }
            taken += ten.len();
        }
        assert_eq!(kernel.sends.len(), 1);
        assert!((130_000..=140_000).contains(&taken), "{taken}");
        assert!(look(&mut batches, &mut kernel).is_ok(), "it has just grown");
        assert!(look(&mut batches, &mut kernel).is_err());
        kernel.room = None;
        assert_eq!(look(&mut batches, &mut kernel).unwrap(), Waiting::Nothing);
        assert_eq!(kernel.bytes, all[..taken]);
    }
}
