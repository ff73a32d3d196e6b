//! How a guest ends the machine.
#![allow(unsafe_code)]

use core::arch::asm;

use crate::{console, interrupts, port};

/// The exit code of a guest that panicked.
pub const PANIC: u32 = 0x3f;
/// The exit code of a guest that met a processor exception it did not expect.
pub const EXCEPTION: u32 = 0x3e;

const DEBUG_EXIT: u16 = 0xf4;
const KEYBOARD_CONTROLLER: u16 = 0x64;
const PULSE_RESET_LINE: u8 = 0xfe;
/// ACPI 6.5, 4.8.3.7: where cafevm's FADT has the register.
const SLEEP_CONTROL: u16 = 0x600;
const SOFT_OFF: u8 = 5;
const SLEEP_ENABLE: u8 = 1 << 5;

/// Ends the machine with `code` as the guest's verdict, by the debug-exit port: the monitor's own exit status is
/// `(code << 1) | 1`. Where there is no such port the processor stops.
pub fn exit(code: u32) -> ! {
    console::show();
    port::write32(DEBUG_EXIT, code);
    stop()
}

/// The same by an 8-bit write.
pub fn exit8(code: u8) -> ! {
    port::write8(DEBUG_EXIT, code);
    stop()
}

/// Resets the machine by the keyboard controller, as a PC's reboot does. cafevm ends then, with status 0.
pub fn reset() -> ! {
    console::show();
    port::write8(KEYBOARD_CONTROLLER, PULSE_RESET_LINE);
    stop()
}

/// Powers the machine off by ACPI's sleep control register, as a PC's shutdown does. cafevm ends then, with status 0.
pub fn power_off() -> ! {
    console::show();
    port::write8(SLEEP_CONTROL, SOFT_OFF << 2 | SLEEP_ENABLE);
    stop()
}

/// Stops this processor permanently: interrupts off, halted.
pub fn stop() -> ! {
    loop {
        interrupts::disable();
        interrupts::halt();
    }
}

/// Brings the processor into shutdown: an exception with no table to look it up in. The machine crashes.
pub fn triple_fault() -> ! {
    let empty_table = [0_u16; 5];
    // SAFETY: this is the last thing that the machine does; nothing can run after it.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &empty_table, options(noreturn)) }
}

/// What boot.s maps ends here.
const ABOVE_WHAT_IS_MAPPED: u64 = 1 << 32;

/// The same by a page fault, right above what boot.s maps.
pub fn triple_page_fault() -> ! {
    let empty_table = [0_u16; 5];
    // SAFETY: this is the last thing that the machine does; nothing can run after it.
    unsafe {
        asm!("lidt [{}]", "mov rax, [{}]", "ud2", in(reg) &empty_table, in(reg) ABOVE_WHAT_IS_MAPPED, options(noreturn))
    }
}

/// Meets a page fault: reads right above what boot.s maps.
pub fn page_fault() -> ! {
    // SAFETY: the read cannot succeed, and the run-time ends the guest at the exception.
    unsafe {
        asm!("mov rax, [{}]", in(reg) ABOVE_WHAT_IS_MAPPED, out("rax") _, options(nostack, readonly));
    };
    stop()
}
