//! Memory that a device reads and writes behind the compiler's back.
#![allow(unsafe_code)]

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

/// All there is to share with devices, in bytes. Lies in .bss, so it costs the image nothing.
const ARENA_SIZE: usize = 1 << 20;

#[repr(C, align(4096))]
struct Arena(UnsafeCell<[u8; ARENA_SIZE]>);

// SAFETY: the bytes are reached only through `Dma`, whose accesses are volatile or opaque to the compiler.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([0; ARENA_SIZE]));
static USED: AtomicUsize = AtomicUsize::new(0);

/// A number that a device and a driver can both read: all bit patterns are values, little-endian as x86 is.
pub trait Plain: Copy + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for u16 {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
}

impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for u64 {}

/// A stretch of memory shared with devices. Copies of it name the same bytes.
///
/// Physical memory is mapped one to one, so [`Dma::address`] is the address for a device. There is no reference into
/// the bytes, only copies in and out: a device may change them at any moment.
#[derive(Clone, Copy, Debug)]
pub struct Dma {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: no reference to the bytes exists; concurrent accesses are volatile, as with the device itself.
unsafe impl Send for Dma {}
// SAFETY: as above.
unsafe impl Sync for Dma {}

impl Dma {
    /// Takes `len` zeroed bytes at a multiple of `align` (a power of two, at most 4096). They are never given back.
    ///
    /// # Panics
    ///
    /// If the arena of 1 MiB is used up: a guest's needs are fixed when it is written.
    pub fn new(len: usize, align: usize) -> Dma {
        assert!(align.is_power_of_two() && align <= 4096, "an alignment of {align} cannot be had");
        let mut start = 0;
        let claim = |used: usize| {
            start = used.next_multiple_of(align);
            start.checked_add(len).filter(|end| *end <= ARENA_SIZE)
        };
        if USED.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim).is_err() {
            panic!("no {len} bytes of memory left to share with devices");
        }
        // SAFETY: `start + len` was just checked to lie in the arena, which is not null.
        let start = unsafe { NonNull::new_unchecked(ARENA.0.get().cast::<u8>().add(start)) };
        Dma { start, len }
    }

    /// The guest-physical address of the first byte.
    #[inline]
    pub fn address(self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// The length in bytes.
    #[inline]
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The part of `len` bytes from `offset`.
    ///
    /// # Panics
    ///
    /// If it does not lie within this one; so for every other method that takes an offset.
    #[inline]
    pub fn part(self, offset: usize, len: usize) -> Dma {
        Dma { start: self.at(offset, len), len }
    }

    /// Reads the number at `offset` bytes.
    #[inline]
    pub fn read<T: Plain>(self, offset: usize) -> T {
        // SAFETY: `at` has checked the range, and every bit pattern is a value of T.
        unsafe { self.aligned::<T>(offset).read_volatile() }
    }

    /// Writes the number at `offset` bytes.
    #[inline]
    pub fn write<T: Plain>(self, offset: usize, value: T) {
        // SAFETY: `at` has checked the range.
        unsafe { self.aligned::<T>(offset).write_volatile(value) }
    }

    /// Sets every byte to `byte`.
    pub fn fill(self, byte: u8) {
        self.fill_words(u64::from(byte) * 0x0101_0101_0101_0101);
    }

    /// Sets every eight bytes to `word`, and what is left to its first bytes.
    pub fn fill_words(self, word: u64) {
        // SAFETY: writes `len` bytes from `start`, all of this stretch; eight at a time, then what is left, a byte at a
        // time from the word's lowest on.
        unsafe {
            asm!("rep stosq", "mov rcx, {rest}", "jrcxz 3f",
                 "2:", "stosb", "shr rax, 8", "loop 2b", "3:",
                 rest = in(reg) self.len % 8, inout("rcx") self.len / 8 => _,
                 inout("rdi") self.start.as_ptr() => _, inout("rax") word => _,
                 options(nostack));
        }
    }

    /// Whether every eight bytes are `word`, and what is left its first bytes.
    pub fn is_all(self, word: u64) -> bool {
        let equal: u8;
        // SAFETY: reads `len / 8` words from `start`, all within this stretch. The comparison before them sets the zero
        // flag also where there are none.
        unsafe {
            asm!("cmp rcx, rcx", "repe scasq", "sete {equal}",
                 equal = out(reg_byte) equal, inout("rcx") self.len / 8 => _,
                 inout("rdi") self.start.as_ptr() => _, in("rax") word,
                 options(nostack, readonly));
        }
        let rest = self.len % 8;
        equal != 0 && self.matches(self.len - rest, &word.to_le_bytes()[..rest])
    }

    /// Writes `rows` one below another: the first at `offset`, each of the others `stride` bytes after the one before.
    /// `offset` and `stride` are multiples of 8.
    #[inline]
    pub fn put_rows<'a, const WORDS: usize>(
        self,
        offset: usize,
        stride: usize,
        rows: impl Iterator<Item = &'a [u64; WORDS]>,
    ) {
        let mut offset = offset;
        for row in rows {
            let to = self.aligned::<[u64; WORDS]>(offset).cast::<u64>();
            for (n, word) in row.iter().enumerate() {
                // SAFETY: `aligned` has checked the range of all words, and the alignment.
                unsafe { to.add(n).write_volatile(*word) };
            }
            offset += stride;
        }
    }

    /// Copies `bytes` to `offset`.
    pub fn put(self, offset: usize, bytes: &[u8]) {
        let to = self.at(offset, bytes.len()).as_ptr();
        // SAFETY: both ranges are valid for `bytes.len()` bytes, and no slice can lie in the arena.
        unsafe { copy(to, bytes.as_ptr(), bytes.len()) };
    }

    /// Copies from `offset` into all of `bytes`.
    pub fn get(self, offset: usize, bytes: &mut [u8]) {
        let from = self.at(offset, bytes.len()).as_ptr();
        // SAFETY: as for `put`.
        unsafe { copy(bytes.as_mut_ptr(), from, bytes.len()) };
    }

    /// Whether `bytes` are what lies at `offset`.
    pub fn matches(self, offset: usize, bytes: &[u8]) -> bool {
        let here = self.at(offset, bytes.len()).as_ptr();
        let (words, rest) = (bytes.len() / 8, bytes.len() % 8);
        // SAFETY: both ranges are valid for `bytes.len()` bytes: eight at a time, as long as they are the same, then
        // what is left.
        unsafe { same(here, bytes.as_ptr(), words, rest) }
    }

    #[inline]
    fn aligned<T>(self, offset: usize) -> *mut T {
        let pointer = self.at(offset, size_of::<T>()).cast::<T>().as_ptr();
        assert!(pointer.is_aligned(), "number at an odd address");
        pointer
    }

    #[inline]
    fn at(self, offset: usize, len: usize) -> NonNull<u8> {
        assert!(offset <= self.len && self.len - offset >= len, "access outside the shared memory");
        // SAFETY: just checked to lie in the stretch.
        unsafe { self.start.add(offset) }
    }
}

/// Copies `len` bytes, eight at a time, then what is left; opaque to the compiler, as a device's memory must be.
///
/// # Safety
///
/// `to` and `from` are valid for `len` bytes and do not overlap.
unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("rep movsq", "mov rcx, {rest}", "rep movsb",
             rest = in(reg) len % 8, inout("rcx") len / 8 => _,
             inout("rdi") to => _, inout("rsi") from => _,
             options(nostack, preserves_flags));
    }
}

/// Whether `words` words of eight bytes and `rest` bytes after them are the same in both places.
///
/// # Safety
///
/// `a` and `b` are valid for `8 * words + rest` bytes.
unsafe fn same(a: *const u8, b: *const u8, words: usize, rest: usize) -> bool {
    let equal: u8;
    // SAFETY: the caller's promise. The first comparison sets the zero flag also where there is nothing to compare.
    unsafe {
        asm!("cmp rcx, rcx", "repe cmpsq", "jne 2f",
             "mov rcx, {rest}", "cmp rcx, rcx", "repe cmpsb",
             "2:", "sete {equal}",
             rest = in(reg) rest, equal = out(reg_byte) equal, inout("rcx") words => _,
             inout("rdi") a => _, inout("rsi") b => _,
             options(nostack, readonly));
    }
    equal != 0
}
