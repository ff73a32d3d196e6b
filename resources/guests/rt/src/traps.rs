//! The interrupt descriptor table, and what happens on each vector.
//! Intel SDM volume 3, chapter 6 (interrupt and exception handling).
#![allow(unsafe_code)]

use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::exit::{self, EXCEPTION};
use crate::vectors::{FIRST_LINE, SPURIOUS, TIMER};
use crate::{apic, console, interrupts, println};

/// Vectors with a stub in boot.s.
const VECTORS: usize = 64;
/// Bytes from one stub to the next.
const STUB_SIZE: u64 = 16;

/// SDM table 6-1.
const EXCEPTIONS: [&str; 32] = [
    "divide error",
    "debug",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "no floating point unit",
    "double fault",
    "coprocessor segment overrun",
    "invalid TSS",
    "segment not present",
    "stack segment fault",
    "general protection",
    "page fault",
    "reserved",
    "floating point error",
    "alignment check",
    "machine check",
    "SIMD floating point",
    "virtualization",
    "control protection",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "hypervisor injection",
    "VMM communication",
    "security",
    "reserved",
];

/// What the stubs in boot.s leave on the stack, lowest address first.
#[repr(C)]
struct Frame {
    /// r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax.
    saved: [u64; 9],
    vector: u64,
    error_code: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// Gates of two words each. SDM figure 6-8.
#[repr(C, align(16))]
struct Table(UnsafeCell<[[u64; 2]; VECTORS]>);

// SAFETY: written once, by the first processor before the others run; the processors read it from then on.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([[0; 2]; VECTORS]));
static FILLED: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    /// The first of the stubs in boot.s; only its address is used.
    static trap_stubs: u8;
}

/// Loads the table into this processor, and fills it where that has not been done.
pub(crate) fn load_table() {
    if !FILLED.swap(true, Ordering::AcqRel) {
        const CODE_SEGMENT: u64 = 0x08;
        const INTERRUPT_GATE: u64 = 0x8e00;
        let first = (&raw const trap_stubs) as u64;
        // SAFETY: no other processor is here (FILLED), and none has loaded the table yet.
        let table = unsafe { &mut *TABLE.0.get() };
        for (address, gate) in (first..).step_by(STUB_SIZE as usize).zip(table.iter_mut()) {
            // Linked below 4 GiB: the third word, address bits 63..32, stays zero.
            gate[0] = (address & 0xffff)
                | CODE_SEGMENT << 16
                | INTERRUPT_GATE << 32
                | (address & 0xffff_0000) << 32;
        }
    }
    let pointer: [u16; 5] = {
        let base = TABLE.0.get() as u64;
        let limit = (VECTORS * 16 - 1) as u16;
        [limit, base as u16, (base >> 16) as u16, (base >> 32) as u16, (base >> 48) as u16]
    };
    // SAFETY: limit and base describe TABLE, which lives for ever and holds gates to the stubs.
    unsafe { asm!("lidt [{}]", in(reg) &pointer, options(readonly, nostack, preserves_flags)) };
}

/// Called by the stubs with interrupts off.
// SAFETY: the name is used in boot.s and nowhere else.
#[unsafe(no_mangle)]
extern "C" fn rt_trap(frame: &Frame) {
    match frame.vector as u8 {
        vector @ 0..FIRST_LINE => exception(vector, frame),
        TIMER => apic::end_of_interrupt(),
        SPURIOUS => {}
        vector => interrupts::raised(vector - FIRST_LINE),
    }
}

/// Says what happened, in one line and the registers, and ends the machine: no exception is expected in a guest here.
fn exception(vector: u8, frame: &Frame) -> ! {
    let cr2: u64;
    // SAFETY: reading cr2 changes nothing.
    unsafe { asm!("mov {}, cr2", out(reg) cr2, options(nomem, nostack, preserves_flags)) };
    console::seize();
    let name = EXCEPTIONS[usize::from(vector)];
    println!(
        "guest exception: {name} (vector {vector}), error code {:#x}, rip {:#x}, cr2 {cr2:#x}",
        frame.error_code, frame.rip
    );
    println!(
        "  rsp {:#x}, rflags {:#x}, cs {:#x}, ss {:#x}, rax {:#x}, rcx {:#x}, rdx {:#x}, rsi {:#x}, rdi {:#x}",
        frame.rsp,
        frame.rflags,
        frame.cs,
        frame.ss,
        frame.saved[8],
        frame.saved[7],
        frame.saved[6],
        frame.saved[5],
        frame.saved[4]
    );
    exit::exit(EXCEPTION)
}
