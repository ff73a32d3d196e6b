//! Where guest RAM is in the host's memory.
#![expect(unsafe_code, reason = "pointers into guest RAM")]

use smallvec::SmallVec;
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, VolatileSlice};

/// The regions of RAM, lowest first. A machine has one or two.
///
/// vm-memory's own search takes some 40 instructions a field. A request has ten fields, so this table is worth its code.
#[derive(Debug)]
pub(super) struct Regions(SmallVec<[Region; 2]>);

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
        Self(memory.iter().map(region).collect())
    }

    /// The host's pointer to the `len` bytes at `addr`, if one region contains them all.
    #[inline]
    pub(super) fn host(&self, addr: u64, len: u64) -> Option<*mut u8> {
        self.0.iter().find_map(|region| {
            // Below the region this wraps to a large number.
            let at = addr.wrapping_sub(region.start);
            let fits = at < region.len && len <= region.len - at;
            // A mapping of the host is not longer than `usize`.
            let at = usize::try_from(at).ok().filter(|_| fits)?;
            Some(region.host.wrapping_add(at))
        })
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

    /// The `N` bytes at `addr`, read once, if one region contains them all.
    #[inline]
    pub(super) fn read<const N: usize>(&self, addr: u64) -> Option<[u8; N]> {
        // SAFETY: the `N` bytes behind the pointer are in a mapping that exists as long as `self`.
        self.host(addr, N as u64).map(|host| unsafe { read_volatile(host) })
    }
}

/// Reads `N` bytes once: as words of 8 bytes where their place and number allow it, otherwise byte by byte.
///
/// # Safety
///
/// The `N` bytes behind `host` must be mapped. Others may write them at the same time.
#[inline]
pub(super) unsafe fn read_volatile<const N: usize>(host: *const u8) -> [u8; N] {
    const WORD: usize = size_of::<u64>();
    let mut bytes = [0; N];
    if host.cast::<u64>().is_aligned() && N.is_multiple_of(WORD) {
        for (n, word) in bytes.chunks_exact_mut(WORD).enumerate() {
            // SAFETY: the word is within the `N` bytes, and aligned.
            let value = unsafe { host.add(n * WORD).cast::<u64>().read_volatile() };
            word.copy_from_slice(&value.to_ne_bytes());
        }
    } else {
        for (n, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: the byte is within the `N` bytes.
            *byte = unsafe { host.add(n).read_volatile() };
        }
    }
    bytes
}
