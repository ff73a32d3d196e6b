//! How a guest ends the machine.

use crate::{interrupts, port};

/// The exit code of a guest that panicked.
pub const PANIC: u32 = 0x3f;
/// The exit code of a guest that met a processor exception it did not expect.
pub const EXCEPTION: u32 = 0x3e;

const DEBUG_EXIT: u16 = 0xf4;
const KEYBOARD_CONTROLLER: u16 = 0x64;
const PULSE_RESET_LINE: u8 = 0xfe;

/// Ends the machine with `code` as the guest's verdict, by the debug-exit port: the monitor's own exit status is
/// `(code << 1) | 1`. Where there is no such port the processor stops.
pub fn exit(code: u32) -> ! {
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
    port::write8(KEYBOARD_CONTROLLER, PULSE_RESET_LINE);
    stop()
}

/// Stops this processor for good: interrupts off, halted.
pub fn stop() -> ! {
    loop {
        interrupts::disable();
        interrupts::halt();
    }
}
