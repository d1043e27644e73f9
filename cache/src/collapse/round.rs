//! One round of a key: one who leads, those who follow, and what they hear.
//!
//! `collapse` keeps a round per key that is being filled. A round knows no keys and no map, and
//! wakes nobody: wakers are handed out, to be woken once no lock is held.

use std::task::{Context, Poll, Waker};

use crate::seats::Seats;
use crate::sync::Mutex;

/// One who leads and those who follow.
///
/// Lock order: the map of `collapse` before this.
pub(super) struct Round<V> {
    state: Mutex<State<V>>,
}

struct State<V> {
    answer: Answer<V>,
    seats: Seats<Seat>,
}

/// What came of the round so far.
enum Answer<V> {
    Awaited,
    Given(V),
    /// The key was cut off and nobody leads any more.
    Dissolved,
}

/// One who follows.
struct Seat {
    waker: Option<Waker>,
    is_elected: bool,
}

/// What one who follows has heard.
pub(super) enum Heard<V> {
    Value(V),
    Elected,
    Dissolved,
}

impl<V> Round<V> {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                answer: Answer::Awaited,
                seats: Seats::new(),
            }),
        }
    }

    pub(super) fn take_seat(&self) -> usize {
        self.state.lock().seats.take(Seat {
            waker: None,
            is_elected: false,
        })
    }

    /// Gives a seat back unheard and returns whether its holder was to lead.
    pub(super) fn leave_seat(&self, seat: usize) -> bool {
        let seat = self.state.lock().seats.give_back(seat);
        seat.is_elected
    }

    /// Ends the round with a value for everybody.
    pub(super) fn give(&self, value: V) -> Vec<Waker> {
        let mut state = self.state.lock();
        state.answer = Answer::Given(value);
        state.take_wakers()
    }

    /// Ends the round without a value.
    ///
    /// Returns a list to match [`elect`](Self::elect): there is always somebody to hear it.
    pub(super) fn dissolve(&self) -> Option<Vec<Waker>> {
        let mut state = self.state.lock();
        state.answer = Answer::Dissolved;
        Some(state.take_wakers())
    }

    /// Lets one follower lead; `None` if nobody follows.
    pub(super) fn elect(&self) -> Option<Vec<Waker>> {
        let mut state = self.state.lock();
        let seat = state.seats.iter_mut().next()?;
        debug_assert!(!seat.is_elected, "one leads at a time");
        seat.is_elected = true;
        Some(seat.waker.take().into_iter().collect())
    }
}

impl<V: Clone> Round<V> {
    pub(super) fn value(&self) -> Option<V> {
        match &self.state.lock().answer {
            Answer::Given(value) => Some(value.clone()),
            Answer::Awaited | Answer::Dissolved => None,
        }
    }

    /// Hears the answer and gives the seat back, or waits in it.
    pub(super) fn poll_heard(&self, seat: usize, cx: &Context<'_>) -> Poll<Heard<V>> {
        let mut state = self.state.lock();
        let is_elected = state.seats.at(seat).is_elected;
        let heard = match &state.answer {
            Answer::Given(value) => Heard::Value(value.clone()),
            Answer::Dissolved => Heard::Dissolved,
            Answer::Awaited if is_elected => Heard::Elected,
            Answer::Awaited => {
                let before = state.seats.at(seat).waker.replace(cx.waker().clone());
                drop(state);
                drop(before);
                return Poll::Pending;
            }
        };
        let left = state.seats.give_back(seat);
        drop(state);
        drop(left);
        Poll::Ready(heard)
    }
}

impl<V> State<V> {
    fn take_wakers(&mut self) -> Vec<Waker> {
        self.seats
            .iter_mut()
            .filter_map(|seat| seat.waker.take())
            .collect()
    }
}
