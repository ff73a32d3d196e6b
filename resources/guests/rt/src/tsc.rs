//! The processor's time-stamp counter.
#![allow(unsafe_code)]

use crate::apic;

/// The counter now. KVM starts the counters of all processors of a machine together.
#[inline]
pub fn now() -> u64 {
    // SAFETY: RDTSC is on every x86-64 processor, and CR4.TSD, which would restrict it, is clear after a reset.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Cycles of the counter in a millisecond, measured against this processor's APIC timer. Takes 20 ms.
///
/// Exact to about 0.1 % where the APIC timer runs at the rate that [`apic::start_timer`] states.
pub fn per_millisecond() -> u64 {
    const NANOSECONDS_PER_TICK: u64 = 128;
    const TICKS: u64 = 20_000_000 / NANOSECONDS_PER_TICK;
    apic::start_timer(u32::MAX, false);
    let (left, start) = (apic::timer_left(), now());
    loop {
        let (ticks, cycles) = (u64::from(left - apic::timer_left()), now() - start);
        if ticks >= TICKS {
            return cycles * 1_000_000 / (ticks * NANOSECONDS_PER_TICK);
        }
    }
}
