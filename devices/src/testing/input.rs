//! Choices taken from a string of bytes: a fuzzer's, or a property test's. After the end of the bytes each choice is
//! the first one, which is always harmless.

/// The remaining bytes.
#[derive(Debug, Clone)]
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether no bytes are left.
    pub(super) const fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    pub(super) fn word(&mut self) -> u32 {
        u32::from_le_bytes([(); 4].map(|()| self.byte()))
    }

    /// A number below `n`, which is not 0.
    pub(super) fn below(&mut self, n: u32) -> u32 {
        match n {
            0..=0x100 => u32::from(self.byte()) % n,
            _ => (u32::from(self.byte()) << 8 | u32::from(self.byte())) % n,
        }
    }

    /// True one time in `n`.
    pub(super) fn one_in(&mut self, n: u8) -> bool {
        self.byte() % n == n - 1
    }

    /// One of `all`, the first one where the bytes have ended.
    pub(super) fn pick<T: Copy>(&mut self, all: &[T], otherwise: T) -> T {
        let at = self.below(u32::try_from(all.len()).unwrap_or(1).max(1));
        usize::try_from(at).ok().and_then(|at| all.get(at)).copied().unwrap_or(otherwise)
    }

    /// An address or a length that is rarely useful: near the limits of 16, 32 and 64 bits, or of RAM.
    pub(super) fn odd(&mut self, places: &[u64]) -> u64 {
        let place = self.pick(places, 0);
        match self.below(4) {
            0 => place.wrapping_sub(u64::from(self.byte())),
            1 => place.wrapping_add(u64::from(self.byte())),
            2 => u64::from(self.word()),
            _ => u64::from(self.word()) << 32 | u64::from(self.word()),
        }
    }
}
