//! A heap for guests that need `alloc`: it grows, and gives back only what was taken last.
#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Bytes in a [`Heap`].
pub const SIZE: usize = 256 * 1024;

/// A heap of [`SIZE`] bytes in .bss. Use: `#[global_allocator] static HEAP: rt::heap::Heap = rt::heap::Heap::new();`
#[repr(C, align(4096))]
pub struct Heap {
    bytes: UnsafeCell<[u8; SIZE]>,
    used: AtomicUsize,
}

impl Heap {
    /// An empty heap.
    #[expect(clippy::new_without_default, reason = "a heap is a static: Default is not const")]
    pub const fn new() -> Heap {
        Heap { bytes: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0) }
    }
}

// SAFETY: `used` is the only state, and atomic; the bytes belong to whom `alloc` gave them.
unsafe impl Sync for Heap {}

// SAFETY: `alloc` gives out each range once until it comes back: `used` moves up past it in one atomic step, and moves
// down again only where the range that comes back is the topmost.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.bytes.get().cast::<u8>();
        let mut start = 0;
        let claim = |used: usize| {
            start = (base as usize + used).next_multiple_of(layout.align()) - base as usize;
            start.checked_add(layout.size()).filter(|end| *end <= SIZE)
        };
        match self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim) {
            // SAFETY: the range lies in the heap.
            Ok(_) => unsafe { base.add(start) },
            Err(_) => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let start = pointer as usize - self.bytes.get() as usize;
        let _ = self.used.compare_exchange(
            start + layout.size(),
            start,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
    }
}
