//! Which interrupt vector means what.

/// Line n of the IOAPIC has vector 32 + n: the first 32 are the processor's own.
pub(crate) const FIRST_LINE: u8 = 32;
/// The local APIC's timer.
pub(crate) const TIMER: u8 = 0x3e;
/// The local APIC's spurious interrupt. It gets no EOI.
pub(crate) const SPURIOUS: u8 = 0x3f;
