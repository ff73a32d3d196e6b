//! Numbers that look random and come again with the same seed.

/// A generator: Marsaglia's xorshift with 64 bits, three shifts a number.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Random {
        // Small seeds lie close together, and zero would stay zero.
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.number();
        }
        random
    }

    /// The next number.
    #[inline]
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`, which is not 0 and below 2^32.
    #[inline]
    pub fn below(&mut self, limit: u64) -> u64 {
        // By the upper half times the limit: a multiplication costs less than a division.
        ((self.number() >> 32) * limit) >> 32
    }

    /// A number from `first` to `last`.
    #[inline]
    pub fn within(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True once in `times`.
    #[inline]
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
