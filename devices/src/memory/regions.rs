//! Where guest RAM is in the host's memory.
#![expect(unsafe_code, reason = "pointers into guest RAM")]

use std::ptr;

use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, VolatileSlice};

/// The regions of RAM, lowest first. A machine has one or two.
///
/// vm-memory's own search takes some 40 instructions a field. A request has ten fields, so this table is worth its code.
#[derive(Debug)]
pub(super) struct Regions {
    /// The lowest one, which small machines have only.
    first: Region,
    others: Box<[Region]>,
}

#[derive(Debug, Clone, Copy)]
struct Region {
    /// The first guest-physical address.
    start: u64,
    /// The bytes.
    len: u64,
    host: *mut u8,
}

// SAFETY: the pointer is that of a mapping that is shared by threads in any case: it is only accessed as volatile or
// atomic memory.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Regions {
    /// The regions of `memory`, which must be kept as long as the result.
    pub(super) fn of(memory: &GuestMemoryMmap) -> Self {
        let region = |region: &vm_memory::GuestRegionMmap| Region {
            start: region.start_addr().0,
            len: region.len(),
            host: region.as_ptr(),
        };
        let mut regions = memory.iter().map(region);
        let none = Region { start: 0, len: 0, host: ptr::null_mut() };
        Self { first: regions.next().unwrap_or(none), others: regions.collect() }
    }

    /// The host's pointer to the `len` bytes at `addr`, if one region contains them all.
    #[inline]
    pub(super) fn host(&self, addr: u64, len: u64) -> Option<*mut u8> {
        self.first.host(addr, len).or_else(|| self.search(addr, len))
    }

    /// Searches the regions after the first one. Not inlined, because it is needed at many places.
    #[inline(never)]
    fn search(&self, addr: u64, len: u64) -> Option<*mut u8> {
        self.others.iter().find_map(|region| region.host(addr, len))
    }

    /// Whether one region contains the `len` bytes at `addr`.
    #[inline]
    pub(super) fn contain(&self, addr: u64, len: u64) -> bool {
        self.host(addr, len).is_some()
    }

    /// The `len` bytes at `addr`, if one region contains them all.
    #[inline]
    pub(super) fn slice(&self, addr: u64, len: usize) -> Option<VolatileSlice<'_>> {
        let host = self.host(addr, len as u64)?;
        // SAFETY: `host` and the `len` bytes behind it are in a mapping that exists as long as `self` (see `of`), and
        // guest RAM is only accessed as volatile memory.
        Some(unsafe { VolatileSlice::new(host, len) })
    }

    /// The two little-endian words of 8 bytes at `addr`, each read once, if one region contains them.
    #[inline]
    pub(super) fn read_words(&self, addr: u64) -> Option<[u64; 2]> {
        // SAFETY: the 16 bytes behind the pointer are in a mapping that exists as long as `self`.
        self.host(addr, 16).and_then(|host| unsafe { read_words(host) })
    }

    /// The `N` little-endian u32 at `addr`, each read once, if one region contains them and they are aligned.
    #[inline]
    pub(super) fn read_u32s<const N: usize>(&self, addr: u64) -> Option<[u32; N]> {
        const SIZE: u64 = size_of::<u32>() as u64;
        let host = self.host(addr, SIZE * N as u64)?.cast::<u32>();
        // SAFETY: the `N` values behind the pointer are aligned, and in a mapping that exists as long as `self`.
        let read = |n| u32::from_le(unsafe { host.add(n).read_volatile() });
        host.is_aligned().then(|| std::array::from_fn(read))
    }

    /// Writes one byte at `addr`. Returns false if it is not in RAM.
    #[inline]
    pub(super) fn write_byte(&self, addr: u64, byte: u8) -> bool {
        // SAFETY: the byte is in a mapping that exists as long as `self`.
        self.host(addr, 1).map(|host| unsafe { host.write_volatile(byte) }).is_some()
    }
}

impl Region {
    /// The host's pointer to the `len` bytes at `addr`, if the region contains them all.
    #[inline]
    fn host(&self, addr: u64, len: u64) -> Option<*mut u8> {
        // Below the region this wraps to a large number.
        let at = addr.wrapping_sub(self.start);
        let fits = at < self.len && len <= self.len - at;
        // A mapping of the host is not longer than `usize`.
        let at = usize::try_from(at).ok().filter(|_| fits)?;
        Some(self.host.wrapping_add(at))
    }
}

/// Reads two little-endian words, each once; none if they are not aligned.
///
/// # Safety
///
/// The 16 bytes behind `host` must be mapped. Others may write them at the same time.
#[inline]
pub(super) unsafe fn read_words(host: *const u8) -> Option<[u64; 2]> {
    let words = host.cast::<u64>();
    if !words.is_aligned() {
        return None;
    }
    // SAFETY: both words are mapped and aligned.
    let words = unsafe { [words.read_volatile(), words.add(1).read_volatile()] };
    Some(words.map(u64::from_le))
}
