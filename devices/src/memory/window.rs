//! A part of guest RAM whose place was checked once: a ring, or a table of descriptors.
#![expect(unsafe_code, reason = "pointers into guest RAM")]

use std::sync::atomic::{AtomicU16, Ordering};

use super::regions::read_words;
use super::{GuestRam, OutOfRam};

/// A part of guest RAM that was found once. Its fields are accessed by their offset, without a search of RAM.
///
/// An offset outside the window reads as zeros, and a write there has no effect. Users check their offsets: it is a
/// mistake of the device, which debug builds report.
#[derive(Debug)]
pub struct Window {
    /// Keeps the memory mapped.
    ram: GuestRam,
    addr: u64,
    len: u64,
    /// None if the part is in two regions of RAM: each access then searches.
    host: Option<*mut u8>,
}

// SAFETY: the pointer is that of a mapping that `ram` keeps, and that is only accessed as volatile or atomic memory.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    /// The `len` bytes of `ram` at the guest-physical address `addr`, which is even.
    ///
    /// # Errors
    ///
    /// If they are not completely in RAM.
    pub fn new(ram: &GuestRam, addr: u64, len: u64) -> Result<Self, OutOfRam> {
        ram.check(addr, len)?;
        let host = ram.0.regions.host(addr, len).filter(|host| host.cast::<u16>().is_aligned());
        Ok(Self { ram: ram.clone(), addr, len, host })
    }

    /// The guest RAM that it is a part of.
    pub const fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// Whether `len` bytes at offset `at` are inside the window.
    #[inline]
    const fn contains(&self, at: u64, len: u64) -> bool {
        let is_inside = at <= self.len && len <= self.len - at;
        debug_assert!(is_inside, "a field outside its window");
        is_inside
    }

    /// The host's pointer to offset `at`, which is inside the window.
    #[inline]
    fn host(&self, at: u64) -> Option<*mut u8> {
        // A mapping of the host is not longer than `usize`.
        self.host.zip(usize::try_from(at).ok()).map(|(host, at)| host.wrapping_add(at))
    }

    /// Reads the two little-endian words of 8 bytes at offset `at`, each once.
    #[inline]
    pub fn read_words(&self, at: u64) -> [u64; 2] {
        if !self.contains(at, 16) {
            return [0; 2];
        }
        // SAFETY: the bytes are inside the window, and `ram` keeps its memory mapped.
        match self.host(at).and_then(|host| unsafe { read_words(host) }) {
            Some(words) => words,
            None => self.ram.read_words(self.addr.wrapping_add(at)).unwrap_or_default(),
        }
    }

    /// Writes two little-endian u32 at offset `at`, which is a multiple of 4.
    #[inline]
    pub fn write_pair(&self, at: u64, pair: [u32; 2]) {
        if !self.contains(at, 8) {
            return;
        }
        let [first, second] = pair.map(u32::to_le);
        match self.host(at).map(<*mut u8>::cast::<u32>).filter(|host| host.is_aligned()) {
            // SAFETY: both are inside the window and aligned, and `ram` keeps its memory mapped.
            Some(host) => unsafe {
                host.write_volatile(first);
                host.add(1).write_volatile(second);
            },
            None => {
                for (n, value) in [(0, first), (4, second)] {
                    let at = self.addr.wrapping_add(at + n);
                    let in_ram = self.ram.write(at, &value.to_ne_bytes());
                    debug_assert!(in_ram.is_ok());
                }
            }
        }
    }

    /// Loads the little-endian u16 at offset `at`, which is even. See [`GuestRam::load_u16`].
    #[inline]
    pub fn load_u16(&self, at: u64) -> u16 {
        if !self.contains(at, 2) {
            return 0;
        }
        match self.atomic(at) {
            Some(field) => u16::from_le(field.load(Ordering::Acquire)),
            None => self.ram.load_u16(self.addr.wrapping_add(at)).unwrap_or_default(),
        }
    }

    /// Stores the little-endian u16 at offset `at`, which is even. See [`GuestRam::store_u16`].
    #[inline]
    pub fn store_u16(&self, at: u64, value: u16) {
        if !self.contains(at, 2) {
            return;
        }
        match self.atomic(at) {
            Some(field) => field.store(value.to_le(), Ordering::Release),
            None => {
                let in_ram = self.ram.store_u16(self.addr.wrapping_add(at), value);
                debug_assert!(in_ram.is_ok());
            }
        }
    }

    /// The two bytes at offset `at`, which are inside the window.
    #[inline]
    fn atomic(&self, at: u64) -> Option<&AtomicU16> {
        let host = self.host(at)?.cast::<u16>();
        // SAFETY: the two bytes are inside the window, aligned, and `ram` keeps its memory mapped. The guest may access
        // them at the same time, as any thread may access an atomic.
        host.is_aligned().then(|| unsafe { AtomicU16::from_ptr(host) })
    }
}
