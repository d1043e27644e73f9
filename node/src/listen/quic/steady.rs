//! Congestion control that does not take every lost packet for congestion.
//!
//! ```text
//! window = the larger of ─┬─ Cubic's                                        what losses leave
//!                         └─ delivered rate x round trip x 1, 5/4 or 2      what the path has shown to deliver
//! ```
//!
//! Radio links lose packets that no queue has dropped. Cubic halves its window for each; at one in a hundred it never gets far. What
//! arrives per round trip is evidence of what the path carries, and is not less for a lost packet. A queue that is full shows
//! in both: the rate stops growing and the round trip is longer, so that the second line is at most 5/4 of what the path holds.
//! Where more than a tenth is lost, or routers mark packets (RFC 3168), Cubic decides alone.
//!
//! Who calls it: quinn, by way of `transport`. Deliberately not here: Cubic, pacing (quinn paces by window and round trip), and
//! quinn's BBR, which takes the rate between two packets for that of the path; measured in `docs/decisions/0013-quic-transport.md`.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use quinn_proto::RttEstimator;

/// Makes a [`Steady`] for each path.
#[derive(Debug)]
pub(super) struct SteadyConfig {
    pub(super) initial_window_bytes: u64,
}

impl ControllerFactory for SteadyConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let mut cubic = CubicConfig::default();
        cubic.initial_window(self.initial_window_bytes);
        Box::new(Steady {
            cubic: Arc::new(cubic).build(now, current_mtu),
            delivery: Delivery::default(),
        })
    }
}

/// Cubic, and never less than the path has shown to deliver.
struct Steady {
    cubic: Box<dyn Controller>,
    delivery: Delivery,
}

impl Controller for Steady {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
        self.delivery.on_sent(now);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
        self.delivery.on_ack(now, sent, bytes, app_limited);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.cubic
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
        if in_flight == 0 {
            self.delivery.on_idle();
        }
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.cubic
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        if is_persistent_congestion {
            // Nothing came through for several timeouts: what is known is of another path.
            self.delivery = Delivery::default();
        } else if lost_bytes == 0 {
            self.delivery.on_mark();
        } else {
            self.delivery.on_loss(lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window().max(self.delivery.floor())
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            cubic: self.cubic.clone_box(),
            delivery: self.delivery.clone(),
        })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// What a path delivers, measured one round trip after the other.
#[derive(Clone, Debug)]
struct Delivery {
    round: Option<Round>,
    /// Bytes per second of the latest rounds that had enough to send.
    rates: VecDeque<u64>,
    /// The shortest round trips of this stretch of time, and of the one before.
    shortest: [Duration; 2],
    stretch_began: Option<Instant>,
    /// The shortest round trip of the latest round.
    latest: Duration,
    growth: Growth,
    /// What the four above make of it, in bytes: asked for with every packet, and changed once a round.
    held: u64,
    acked_bytes: u64,
    lost_bytes: u64,
    /// Rounds to go until marks are forgotten.
    marked_rounds: u32,
}

/// A round trip that is being measured: it ends when something arrives that was sent after it began.
#[derive(Clone, Debug)]
struct Round {
    began: Instant,
    bytes: u64,
    shortest: Duration,
    /// Whether there was less to send than the path would have taken.
    is_limited: bool,
}

/// How much more than it delivers a path is given, to find out whether it delivers that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    /// Twice as much each round, until that has brought nothing for some rounds or made a queue.
    Doubling { best: u64, rounds_without: u32 },
    /// A quarter more in one round of [`PROBE_ROUNDS`].
    Probing { round: u32 },
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            round: None,
            rates: VecDeque::new(),
            shortest: [Duration::MAX; 2],
            stretch_began: None,
            latest: Duration::MAX,
            growth: Growth::Doubling {
                best: 0,
                rounds_without: 0,
            },
            held: 0,
            acked_bytes: 0,
            lost_bytes: 0,
            marked_rounds: 0,
        }
    }
}

impl Delivery {
    fn on_sent(&mut self, now: Instant) {
        self.round.get_or_insert(Round {
            began: now,
            bytes: 0,
            shortest: Duration::MAX,
            is_limited: false,
        });
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, is_limited: bool) {
        self.count(bytes, 0);
        let took = now.saturating_duration_since(sent);
        self.note_round_trip(now, took);
        let Some(round) = &mut self.round else {
            return;
        };
        round.bytes += bytes;
        round.shortest = round.shortest.min(took);
        round.is_limited |= is_limited;
        if sent > round.began {
            let ended = self.round.take().expect("it is the one that ends");
            self.on_round(now, &ended);
            self.held = self.holds();
            self.on_sent(now);
        }
    }

    /// Nothing is under way: the time until there is says nothing about the path.
    fn on_idle(&mut self) {
        self.round = None;
    }

    fn on_loss(&mut self, bytes: u64) {
        self.count(0, bytes);
    }

    fn on_mark(&mut self) {
        self.marked_rounds = RATES_KEPT as u32;
    }

    fn on_round(&mut self, now: Instant, round: &Round) {
        self.latest = round.shortest;
        self.marked_rounds = self.marked_rounds.saturating_sub(1);
        let nanos = now.saturating_duration_since(round.began).as_nanos();
        let rate = u128::from(round.bytes) * NANOS_PER_SECOND / nanos.max(1);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        // Less than the path would take shows nothing, unless it is more than was known.
        if round.is_limited && rate <= self.rate() {
            return;
        }
        if self.rates.len() == RATES_KEPT {
            self.rates.pop_front();
        }
        self.rates.push_back(rate);
        let was_doubling = self.growth.is_doubling();
        // A queue has begun: doubling would only fill it.
        self.growth = if was_doubling && self.latest > self.longest_without_queue() {
            Growth::Probing { round: 1 }
        } else {
            self.growth.after(rate)
        };
        if was_doubling && !self.growth.is_doubling() {
            // What doubling overdid says nothing about the path.
            (self.acked_bytes, self.lost_bytes) = (0, 0);
        }
    }

    /// Returns the round trip above which there is a queue: acknowledgments come late on the way, too.
    fn longest_without_queue(&self) -> Duration {
        let shortest = self.shortest[0].min(self.shortest[1]);
        shortest.saturating_add(shortest / 4)
    }

    fn note_round_trip(&mut self, now: Instant, took: Duration) {
        let began = *self.stretch_began.get_or_insert(now);
        if now.saturating_duration_since(began) >= STRETCH {
            self.stretch_began = Some(now);
            self.shortest = [took, self.shortest[0]];
            self.held = self.holds();
        } else if took < self.shortest[0] {
            self.shortest[0] = took;
            self.held = self.holds();
        }
    }

    /// Counts what arrived and what did not; what was long ago counts for less.
    fn count(&mut self, acked: u64, lost: u64) {
        self.acked_bytes += acked;
        self.lost_bytes += lost;
        if self.acked_bytes + self.lost_bytes > COUNTED_BYTES_MAX {
            self.acked_bytes /= 2;
            self.lost_bytes /= 2;
        }
    }

    /// Returns the highest rate of the latest rounds, in bytes per second.
    fn rate(&self) -> u64 {
        self.rates.iter().copied().max().unwrap_or(0)
    }

    /// Returns the bytes that may be under way whatever was lost.
    fn floor(&self) -> u64 {
        let counted = self.acked_bytes + self.lost_bytes;
        if self.lost_bytes * LOSS_ONE_IN_MAX > counted || self.marked_rounds > 0 {
            return 0;
        }
        self.held
    }

    /// Returns the bytes that the path holds, and a part more to find out whether it holds them.
    fn holds(&self) -> u64 {
        let round_trip = self.latest.min(self.longest_without_queue());
        let held = u128::from(self.rate()) * round_trip.as_nanos() / NANOS_PER_SECOND;
        let quarters = u128::from(self.growth.quarters());
        u64::try_from(held * quarters / 4).unwrap_or(u64::MAX)
    }
}

impl Growth {
    fn after(self, rate: u64) -> Self {
        match self {
            Self::Doubling { best, .. } if rate >= best.saturating_add(best / 4) => {
                Self::Doubling {
                    best: rate,
                    rounds_without: 0,
                }
            }
            Self::Doubling {
                best,
                rounds_without,
            } if rounds_without + 1 < ROUNDS_WITHOUT_GROWTH_MAX => Self::Doubling {
                best,
                rounds_without: rounds_without + 1,
            },
            Self::Doubling { .. } => Self::Probing { round: 1 },
            Self::Probing { round } => Self::Probing {
                round: (round + 1) % PROBE_ROUNDS,
            },
        }
    }

    fn is_doubling(self) -> bool {
        matches!(self, Self::Doubling { .. })
    }

    fn quarters(self) -> u64 {
        match self {
            Self::Doubling { .. } => 8,
            Self::Probing { round: 0 } => 5,
            Self::Probing { .. } => 4,
        }
    }
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;
/// Rounds whose rates are remembered: one probe more than lies between two.
const RATES_KEPT: usize = 10;
/// One round of so many is given a quarter more.
const PROBE_ROUNDS: u32 = 8;
/// Rounds by which doubling has to bring a quarter more, or it ends.
const ROUNDS_WITHOUT_GROWTH_MAX: u32 = 3;
/// Time for which the shortest round trip is remembered, once or twice.
const STRETCH: Duration = Duration::from_secs(10);
/// More than one byte lost in so many is congestion, or a limit on the rate.
const LOSS_ONE_IN_MAX: u64 = 10;
/// Bytes after which what was counted is halved.
const COUNTED_BYTES_MAX: u64 = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A path with a bottleneck, and a sender that fills the larger of `floor` and a few packets.
    struct Path {
        packets_per_second: u64,
        round_trip: Duration,
        /// Of a thousand packets, how many are lost on the way.
        lost_per_mille: u64,
        queue_packets: u64,
    }

    const PACKET: u64 = 1_200;

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    impl Path {
        /// Returns what the path holds, in bytes.
        fn holds(&self) -> u64 {
            let millis = self.round_trip.as_millis() as u64;
            self.packets_per_second * PACKET * millis / 1000
        }

        /// Sends for a while and returns the floor at the end of each round trip.
        fn run(&self, seconds: u64) -> Vec<u64> {
            let start = now() + Duration::from_secs(1);
            let gap = Duration::from_secs(1) / self.packets_per_second as u32;
            let mut delivery = Delivery::default();
            let mut under_way: VecDeque<(Instant, Instant, bool)> = VecDeque::new();
            let mut free_at = start;
            let mut now = start;
            let mut number = 0u64;
            let mut floors = Vec::new();
            while now < start + Duration::from_secs(seconds) {
                let window = delivery.floor().max(10 * PACKET);
                while (under_way.len() as u64 + 1) * PACKET <= window {
                    delivery.on_sent(now);
                    number += 1;
                    let queue = free_at.saturating_duration_since(now).as_nanos() / gap.as_nanos();
                    // Losses are spread evenly, so that each run is the same.
                    let is_lost = (number * 618) % 1000 < self.lost_per_mille
                        || queue as u64 > self.queue_packets;
                    if queue as u64 <= self.queue_packets {
                        free_at = free_at.max(now) + gap;
                    }
                    let back = free_at.max(now) + self.round_trip;
                    under_way.push_back((now, back, is_lost));
                }
                let (sent, back, is_lost) = under_way.pop_front().unwrap();
                now = now.max(back);
                if is_lost {
                    delivery.on_loss(PACKET);
                } else {
                    delivery.on_ack(now, sent, PACKET, false);
                }
                floors.push(delivery.floor());
            }
            floors
        }
    }

    fn path(lost_per_mille: u64) -> Path {
        Path {
            packets_per_second: 2_000,
            round_trip: Duration::from_millis(100),
            lost_per_mille,
            queue_packets: 200,
        }
    }

    #[test]
    fn losses_that_no_queue_made_leave_what_the_path_holds() {
        for lost_per_mille in [0, 10, 30, 60] {
            let path = path(lost_per_mille);
            let floors = path.run(20);
            let late = &floors[floors.len() / 2..];
            let (least, most) = (late.iter().min().unwrap(), late.iter().max().unwrap());
            let holds = path.holds();
            assert!(
                *least > holds * 2 / 3,
                "{lost_per_mille}: {least} of {holds}"
            );
            assert!(*most < holds * 8 / 5, "{lost_per_mille}: {most} of {holds}");
        }
    }

    #[test]
    fn where_more_than_a_tenth_is_lost_there_is_no_floor() {
        let floors = path(200).run(20);
        let late = &floors[floors.len() / 2..];
        let with_floor = late.iter().filter(|&&floor| floor > 0).count();
        assert!(
            with_floor * 10 < late.len(),
            "{with_floor} of {}",
            late.len()
        );
    }

    #[test]
    fn rfc_3168_marks_take_the_floor_away_for_some_rounds() {
        let mut delivery = known();
        assert!(delivery.floor() > 0);
        delivery.on_mark();
        assert_eq!(delivery.floor(), 0);
    }

    #[test]
    fn a_round_with_little_to_send_and_idle_time_do_not_lower_what_is_known() {
        let mut delivery = known();
        let before = delivery.rate();
        let mut now = now() + Duration::from_secs(100);
        for _ in 0..50 {
            delivery.on_idle();
            now += Duration::from_secs(5);
            delivery.on_sent(now);
            let sent = now + Duration::from_millis(1);
            now += Duration::from_millis(101);
            delivery.on_ack(now, sent, PACKET, true);
        }
        assert_eq!(delivery.rate(), before);
    }

    #[test]
    fn a_path_that_delivers_more_is_found_by_probing() {
        let slow = path(10);
        let mut delivery = known();
        let before = delivery.floor();
        // Each round delivers all that it is given.
        let mut now = now() + Duration::from_secs(200);
        for _ in 0..100 {
            let window = delivery.floor();
            delivery.on_idle();
            delivery.on_sent(now);
            let sent = now + Duration::from_nanos(1);
            now += slow.round_trip;
            delivery.on_ack(now, sent, window, false);
        }
        assert!(
            delivery.floor() > 4 * before,
            "{} after {before}",
            delivery.floor()
        );
    }

    /// Returns what is known of a path after some rounds of 100 packets per 100 ms.
    fn known() -> Delivery {
        let mut delivery = Delivery::default();
        let mut now = now() + Duration::from_secs(1);
        for _ in 0..20 {
            delivery.on_idle();
            delivery.on_sent(now);
            let sent = now + Duration::from_nanos(1);
            now += Duration::from_millis(100);
            delivery.on_ack(now, sent, 100 * PACKET, false);
        }
        delivery
    }
}
