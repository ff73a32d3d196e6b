//! The time-stamp counter: the finest clock there is, for measuring.
#![allow(unsafe_code)]

/// The counter's value now. How fast it counts, the host knows.
#[inline]
pub fn now() -> u64 {
    // SAFETY: every processor with long mode has the instruction, and nothing of this program forbids it.
    unsafe { core::arch::x86_64::_rdtsc() }
}
