//! Interrupt lines: who is called, and how a processor sleeps until one comes.
#![allow(unsafe_code)]

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::apic::Trigger;
use crate::{apic, port};

/// Interrupt lines (GSIs) of the IOAPIC: 0 to 23.
pub const LINES: u8 = 24;

/// What is called for a line, interrupts off, with the number given beside it: a register window's address, mostly.
pub type Handler = fn(u64);

/// A handler as an address (0: none) and its argument.
static HANDLERS: [(AtomicUsize, AtomicUsize); LINES as usize] =
    [const { (AtomicUsize::new(0), AtomicUsize::new(0)) }; LINES as usize];
/// How often each line was raised.
static COUNTS: [AtomicU32; LINES as usize] = [const { AtomicU32::new(0) }; LINES as usize];

/// Sets up this processor's local APIC, silences the PC's old controllers, and lets interrupts in.
pub fn init() {
    const PIC_MASTER_MASK: u16 = 0x21;
    const PIC_SLAVE_MASK: u16 = 0xa1;
    port::write8(PIC_MASTER_MASK, 0xff);
    port::write8(PIC_SLAVE_MASK, 0xff);
    apic::enable_local();
    enable();
}

/// From now on `handler(argument)` is called on this processor whenever `line` is raised. The line is taken as
/// edge-triggered, active high, as ISA lines are.
///
/// # Panics
///
/// If `line` is not below [`LINES`].
pub fn handle(line: u8, handler: Handler, argument: u64) {
    handle_triggered(line, Trigger::Edge, handler, argument);
}

/// The same with the line edge- or level-triggered, active high.
///
/// # Panics
///
/// As for [`handle`].
pub fn handle_triggered(line: u8, trigger: Trigger, handler: Handler, argument: u64) {
    assert!(line < LINES, "the IOAPIC has no line {line}");
    let (function, value) = &HANDLERS[usize::from(line)];
    value.store(argument as usize, Ordering::Relaxed);
    // Last, so that a processor that sees the function sees the argument.
    function.store(handler as usize, Ordering::Release);
    apic::route(line, apic::local_id(), trigger);
}

/// How often `line` was raised since the start.
pub fn count(line: u8) -> u32 {
    COUNTS.get(usize::from(line)).map_or(0, |count| count.load(Ordering::Relaxed))
}

/// Calls the handler of `line`: from the trap code, interrupts off.
pub(crate) fn raised(line: u8) {
    let (function, value) = &HANDLERS[usize::from(line)];
    COUNTS[usize::from(line)].fetch_add(1, Ordering::Relaxed);
    let address = function.load(Ordering::Acquire);
    if address != 0 {
        // SAFETY: anything but zero was stored by `handle`, from a `Handler`.
        let handler = unsafe { core::mem::transmute::<usize, Handler>(address) };
        handler(value.load(Ordering::Relaxed) as u64);
    }
    // An edge that came while we were in the handler is held in the APIC's request register and comes next.
    apic::end_of_interrupt();
}

/// Lets interrupts in.
#[inline]
pub fn enable() {
    // SAFETY: the interrupt table is loaded before a guest's main runs; handlers save what they change.
    unsafe { asm!("sti", options(nostack)) };
}

/// Keeps interrupts out.
#[inline]
pub fn disable() {
    // SAFETY: touches the interrupt flag alone.
    unsafe { asm!("cli", options(nostack)) };
}

/// Runs `work` while interrupts are kept out, and lets them in afterwards.
pub fn without<R>(work: impl FnOnce() -> R) -> R {
    disable();
    let result = work();
    enable();
    result
}

/// Halts until an interrupt arrives; forever if interrupts are off.
#[inline]
pub(crate) fn halt() {
    // SAFETY: no effect but to stop.
    unsafe { asm!("hlt", options(nostack)) };
}

/// Sleeps until an interrupt comes, unless `done` returns true first.
///
/// `done` is asked with interrupts off, and `sti` lets the first interrupt in only after the next instruction: so an
/// interrupt that comes between the question and `hlt` wakes the `hlt`, and none is slept through.
/// Interrupts are on afterwards.
pub fn sleep_unless(done: impl FnOnce() -> bool) {
    disable();
    if done() {
        enable();
    } else {
        // SAFETY: as for `enable` and `halt`; the two must stand together.
        unsafe { asm!("sti", "hlt", options(nostack)) };
    }
}
