//! Registers as memory: a [`Window`] stores the current value of each register of a device.
//!
//! The device reads its registers from there. So a VMM can map the memory itself into the guest, read-only, in place of
//! the registers: a read then causes no exit. The device cannot report wrong reads then, so a VMM maps it only after
//! the driver's handshake.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The bytes of a page of guest-physical memory that holds registers.
pub const PAGE_SIZE: u64 = 0x1000;

/// The bytes of one device's registers.
pub const SLOT_SIZE: u64 = 0x200;

const SLOT_WORDS: usize = 0x200 / 4;
const PAGE_WORDS: usize = 0x1000 / 4;
const _: () = assert!(4 * SLOT_WORDS as u64 == SLOT_SIZE && 4 * PAGE_WORDS as u64 == PAGE_SIZE);

/// One page of registers, alone in its host page.
#[repr(C, align(4096))]
pub struct RegisterPage([AtomicU32; PAGE_WORDS]);

impl RegisterPage {
    /// A page without slots. Addresses without a slot read as ones, as on the bus.
    pub fn new() -> Arc<Self> {
        Arc::new(Self([const { AtomicU32::new(u32::MAX) }; PAGE_WORDS]))
    }

    /// A page that one device has to itself. Addresses without a register read as zeros.
    pub fn of_one_device() -> Arc<Self> {
        Arc::new(Self([const { AtomicU32::new(0) }; PAGE_WORDS]))
    }

    /// Creates the slot at `offset` bytes in the page, which reads as zeros first. None if it would not be completely
    /// in the page.
    pub fn slot(self: &Arc<Self>, offset: u64) -> Option<Window> {
        let first = usize::try_from(offset / 4).ok()?;
        let fits = offset.is_multiple_of(4) && first <= PAGE_WORDS - SLOT_WORDS;
        fits.then(|| Window::new(self.clone(), first))
    }

    /// The page's address in host memory: for a memory slot that the guest cannot write.
    pub const fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr().cast()
    }
}

impl fmt::Debug for RegisterPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegisterPage").field(&self.as_ptr()).finish()
    }
}

/// The memory with one device's registers.
#[derive(Debug, Clone)]
pub struct Window {
    page: Arc<RegisterPage>,
    /// The first of its words in the page.
    first: usize,
}

impl Default for Window {
    /// A window in its own page.
    fn default() -> Self {
        Self::new(RegisterPage::new(), 0)
    }
}

impl Window {
    fn new(page: Arc<RegisterPage>, first: usize) -> Self {
        let window = Self { page, first };
        for offset in (0..SLOT_SIZE).step_by(4) {
            window.set(offset, 0);
        }
        window
    }

    /// The word, in the guest's byte order, that holds the byte at `offset`, which is below [`SLOT_SIZE`].
    pub(crate) fn word(&self, offset: u64) -> &AtomicU32 {
        &self.page.0[self.first + (offset % SLOT_SIZE) as usize / 4]
    }

    /// Sets the value of the register at `offset`.
    pub(crate) fn set(&self, offset: u64, value: u32) {
        self.word(offset).store(value.to_le(), Ordering::Release);
    }

    /// Fills `data` with the value at `offset`. An access is within one word, or covers whole words.
    pub(crate) fn read(&self, offset: u64, data: &mut [u8]) {
        for (at, part) in (offset..).step_by(4).zip(data.chunks_mut(4)) {
            let word = self.word(at).load(Ordering::Acquire).to_ne_bytes();
            for (from, to) in word.iter().skip((at % 4) as usize).zip(part) {
                *to = *from;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_slots_and_else_ones() {
        let page = RegisterPage::new();
        assert_eq!(page.as_ptr().addr() % 0x1000, 0);
        assert_eq!(size_of::<RegisterPage>(), 0x1000);
        let window = page.slot(0xe00).unwrap();
        let at = |offset: usize| page.0[offset / 4].load(Ordering::Relaxed);
        assert_eq!((at(0xdfc), at(0xe00), at(0xffc)), (u32::MAX, 0, 0));
        window.set(0x1fc, 0x0403_0201);
        assert_eq!(at(0xffc).to_ne_bytes(), [1, 2, 3, 4]);
        for offset in [0xe02, 0xe04, 0x1000, u64::MAX, u64::MAX - 3] {
            assert!(page.slot(offset).is_none(), "{offset:#x}");
        }
    }

    #[test]
    fn an_access_has_any_width() {
        let window = Window::default();
        window.set(0x100, 0x0403_0201);
        window.set(0x104, 0x0807_0605);
        for (offset, expected) in [
            (0x100, &[1, 2, 3, 4, 5, 6, 7, 8][..]),
            (0x104, &[5, 6, 7, 8]),
            (0x102, &[3, 4]),
            (0x105, &[6]),
            (0x107, &[8]),
        ] {
            let mut data = vec![0xee; expected.len()];
            window.read(offset, &mut data);
            assert_eq!(data, expected, "{offset:#x}");
        }
    }
}
