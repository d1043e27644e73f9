//! Numbered places for those who wait.
//!
//! A waiter takes a seat, keeps its number and gives it back; the numbers of others never change.
//! `body` seats readers, `collapse` seats followers. Deliberately not here: any lock, and any
//! order of service; both belong to the `State` that owns the seats.

/// Values under numbers that stay the same while others come and go.
///
/// Invariant: as many places as were ever taken at once, so growth is bounded by the number of
/// simultaneous waiters and not by how often they come and go.
#[derive(Debug)]
pub(crate) struct Seats<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Seats<T> {
    pub(crate) const fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Takes a free seat and returns its number.
    pub(crate) fn take(&mut self, value: T) -> usize {
        match self.free.pop() {
            Some(number) => {
                self.places[number] = Some(value);
                number
            }
            None => {
                self.places.push(Some(value));
                self.places.len() - 1
            }
        }
    }

    /// Gives a seat back and returns what sat there.
    pub(crate) fn give_back(&mut self, number: usize) -> T {
        let value = self.places[number]
            .take()
            .expect("a seat is given back once, by who took it");
        self.free.push(number);
        value
    }

    pub(crate) fn at(&mut self, number: usize) -> &mut T {
        self.places[number]
            .as_mut()
            .expect("a seat number is used only while the seat is taken")
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_the_same_and_are_used_again() {
        let mut seats = Seats::new();
        let first = seats.take("first");
        let second = seats.take("second");
        assert_eq!(seats.give_back(first), "first");
        assert_eq!(*seats.at(second), "second");
        assert_eq!(seats.take("third"), first);
        assert_eq!(
            seats.iter_mut().map(|s| *s).collect::<Vec<_>>(),
            ["third", "second"]
        );
    }
}
