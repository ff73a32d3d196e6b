//! More processors.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::wait::{self, Wait};
use crate::{apic, exit, interrupts};

/// Where a processor starts in real mode: a page below 640 KiB that nothing uses once the boot information is read.
const TRAMPOLINE_PAGE: u8 = 0x08;
const STACK_SIZE: usize = 32 * 1024;
/// The most processors that can be started.
const MOST: usize = 7;
/// How long a processor may take to arrive, in milliseconds.
const LIMIT: u32 = 5_000;

unsafe extern "C" {
    static ap_trampoline: u8;
    static ap_trampoline_end: u8;
}

#[repr(C, align(16))]
struct Stack(UnsafeCell<[u8; STACK_SIZE]>);

// SAFETY: used as a stack by one processor, and by nothing else.
unsafe impl Sync for Stack {}

static STACKS: [Stack; MOST] = [const { Stack(UnsafeCell::new([0; STACK_SIZE])) }; MOST];

/// Read by the trampoline in boot.s.
// SAFETY: the name is used in boot.s and nowhere else.
#[unsafe(no_mangle)]
static rt_ap_stack_top: AtomicU32 = AtomicU32::new(0);

/// What a new processor runs, as an address.
static ENTRY: AtomicUsize = AtomicUsize::new(0);
/// How many were started.
static STARTED: AtomicUsize = AtomicUsize::new(0);
/// How many processors have arrived in long mode.
static ARRIVED: AtomicU32 = AtomicU32::new(0);

/// Starts the processor with APIC id `id` in `entry`, and waits until it is there. False where it does not come.
///
/// One processor at a time may call this. [`interrupts::init`] has been called here; the new processor calls it for
/// itself.
///
/// # Panics
///
/// If there is no stack left.
pub fn start(id: u8, entry: fn()) -> bool {
    ENTRY.store(entry as usize, Ordering::Release);
    let stack = STACKS.get(STARTED.fetch_add(1, Ordering::AcqRel));
    let stack = stack.expect("there is no stack for one more processor");
    let top = stack.0.get() as usize + STACK_SIZE;
    let arrived = ARRIVED.load(Ordering::Acquire);
    rt_ap_stack_top.store(top as u32, Ordering::Release);
    let code = &raw const ap_trampoline;
    // SAFETY: both symbols bound one piece of code in boot.s, shorter than a page; the page is RAM on every PC, and
    // free (TRAMPOLINE_PAGE).
    unsafe {
        let len = (&raw const ap_trampoline_end).offset_from_unsigned(code);
        core::ptr::with_exposed_provenance_mut::<u8>(usize::from(TRAMPOLINE_PAGE) << 12)
            .copy_from_nonoverlapping(code, len);
    }
    // INIT, 10 ms, start-up, and once more if there was no response: SDM 8.4.4.1.
    apic::send_init(id);
    wait::pause(10);
    for _ in 0..2 {
        apic::send_startup(id, TRAMPOLINE_PAGE);
        if Wait::Poll.until(LIMIT / 2, || ARRIVED.load(Ordering::Acquire) > arrived) {
            return true;
        }
    }
    false
}

/// The code of a new processor: it reports its arrival, runs its function, and stops.
pub(crate) fn run_entry() -> ! {
    let address = ENTRY.load(Ordering::Acquire);
    // After this, another one may be started.
    ARRIVED.fetch_add(1, Ordering::AcqRel);
    // SAFETY: `start` stored it, from a `fn()`, before it woke us.
    let entry = unsafe { core::mem::transmute::<usize, fn()>(address) };
    entry();
    interrupts::disable();
    exit::stop()
}
