//! The first Rust code on each processor, and the last of a panicking guest.
#![allow(unsafe_code)]

use core::arch::global_asm;
use core::panic::PanicInfo;

use crate::exit::{self, PANIC};
use crate::{boot_info, console, smp, traps};

global_asm!(include_str!("boot.s"), options(att_syntax));

unsafe extern "Rust" {
    /// Defined by [`crate::entry!`] in the guest program.
    safe fn guest_main() -> u32;
}

/// Called by boot.s on the first processor, in long mode, interrupts off, on the boot stack.
// SAFETY: the name is used in boot.s and nowhere else.
#[unsafe(no_mangle)]
extern "C" fn rt_start(start_info: u64) -> ! {
    traps::load_table();
    console::init();
    // SAFETY: boot.s passes on what the PVH loader left in ebx, and nothing has been written since but our own image.
    unsafe { boot_info::read(start_info) };
    exit::exit(guest_main())
}

/// Called by boot.s on a processor that [`smp::start`] woke.
// SAFETY: the name is used in boot.s and nowhere else.
#[unsafe(no_mangle)]
extern "C" fn rt_ap_start() -> ! {
    traps::load_table();
    smp::run_entry()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    console::seize();
    crate::println!("guest {info}");
    exit::exit(PANIC)
}
