//! What a bare-metal guest needs before its own first line, and nothing of any disk.
//!
//! ```text
//!   PVH loader ──▶ boot.s: 32-bit ─▶ long mode ──▶ start: boot information, exceptions ──▶ the guest's main
//!                                                                                             │
//!        exit code by port 0xf4 ◀──────────── main returns / panics / a processor exception ◀─┘
//! ```
//!
//! | to learn | open |
//! |---|---|
//! | how the machine gets from the loader to `main` | `boot.s`, `start.rs` |
//! | what the loader handed over: command line, modules, memory map | `boot_info.rs`, `command_line.rs` |
//! | how exceptions and interrupts arrive, and how to sleep without losing one | `interrupts.rs`, `traps.rs`, `apic.rs` |
//! | the serial console | `console.rs` |
//! | registers of devices, memory shared with them | `mmio.rs`, `port.rs`, `dma.rs` |
//! | waiting with a limit | `wait.rs` |
//! | measuring time | `tsc.rs` |
//! | a second processor, and what the two share | `smp.rs`, `lock.rs` |
//! | how a guest ends the machine | `exit.rs` |
//!
//! A guest is: `rt::entry!(main);` and `fn main() -> u32`, whose value is its exit code.
//!
//! Under the emulator that the tests run on, an instruction costs about half a microsecond: hence page tables made
//! by the assembler, string instructions for copies, and no formatting where it can be helped.
#![no_std]

pub mod apic;
pub mod boot_info;
pub mod command_line;
pub mod console;
pub mod dma;
pub mod exit;
pub mod heap;
pub mod interrupts;
pub mod lock;
pub mod mmio;
pub mod port;
pub mod smp;
mod start;
pub mod text;
mod traps;
pub mod tsc;
mod vectors;
pub mod wait;

/// Names the guest's main function, a `fn() -> u32`. What it returns is the exit code, see [`exit::exit`].
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        /// Called by the run-time when the machine is set up.
        #[allow(unsafe_code)]
        // SAFETY: the one symbol of this name in a guest program, and of the signature that `rt` declares.
        #[unsafe(no_mangle)]
        fn guest_main() -> u32 {
            let main: fn() -> u32 = $main;
            main()
        }
    };
}
