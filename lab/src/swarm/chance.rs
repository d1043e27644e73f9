//! Reproducible chance: the same seed makes the same viewers.
//!
//! Viewers draw their rendition, switches and aborts from here. Not for anything secret.

/// A small generator (SplitMix64) owned by one viewer.
#[derive(Debug, Clone)]
pub(crate) struct Chance {
    state: u64,
}

impl Chance {
    /// Makes the generator of viewer `index` of a run with `seed`.
    pub(crate) fn new(seed: u64, index: u64) -> Self {
        let mut chance = Self {
            state: seed ^ index.wrapping_mul(0xA24B_AED4_963E_E407),
        };
        chance.next();
        chance
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number from 0 (included) to 1 (excluded).
    pub(crate) fn fraction(&mut self) -> f64 {
        // 53 bits are what a double keeps exactly.
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Returns true with probability `p`.
    pub(crate) fn happens(&mut self, p: f64) -> bool {
        p > 0.0 && self.fraction() < p
    }

    /// Returns an index below `len`, or 0 when `len` is 0.
    pub(crate) fn below(&mut self, len: usize) -> usize {
        ((self.fraction() * len as f64) as usize).min(len.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_viewer_draw_the_same_numbers() {
        let (mut a, mut b, mut c) = (Chance::new(7, 3), Chance::new(7, 3), Chance::new(7, 4));
        let draws: Vec<u64> = (0..8).map(|_| a.next()).collect();
        assert_eq!(draws, (0..8).map(|_| b.next()).collect::<Vec<_>>());
        assert_ne!(draws, (0..8).map(|_| c.next()).collect::<Vec<_>>());
    }

    #[test]
    fn a_fraction_stays_below_one_and_an_index_in_range() {
        let mut chance = Chance::new(1, 1);
        for _ in 0..10_000 {
            assert!((0.0..1.0).contains(&chance.fraction()));
            assert!(chance.below(3) < 3);
        }
        assert_eq!(chance.below(0), 0);
        assert!(!chance.happens(0.0));
        assert!(chance.happens(1.0));
    }
}
