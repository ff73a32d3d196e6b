//! The local APIC of each processor and the IOAPIC they share.
//! Intel SDM volume 3, chapter 10 (APIC), and the 82093AA data sheet (IOAPIC).

use crate::mmio::Mmio;
use crate::vectors::{FIRST_LINE, SPURIOUS, TIMER};

const LOCAL: Mmio = window(0xfee0_0000, 0x400);
const IO: Mmio = window(0xfec0_0000, 0x20);

const ID: u64 = 0x20;
const TASK_PRIORITY: u64 = 0x80;
const EOI: u64 = 0xb0;
const SPURIOUS_VECTOR: u64 = 0xf0;
/// The first of eight registers, one bit a vector.
const IN_SERVICE: u64 = 0x100;
const COMMAND_LOW: u64 = 0x300;
const COMMAND_HIGH: u64 = 0x310;
const LVT_TIMER: u64 = 0x320;
const LVT_LINT0: u64 = 0x350;
const TIMER_INITIAL: u64 = 0x380;
const TIMER_CURRENT: u64 = 0x390;
const TIMER_DIVIDE: u64 = 0x3e0;

/// Local vector table, and low half of a redirection entry: no interrupt from this source.
const MASKED: u32 = 1 << 16;
/// Spurious-vector register: the APIC is on.
const SOFTWARE_ENABLE: u32 = 1 << 8;

/// IOAPIC: which register the window shows, and the window.
const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
/// The first redirection entry, two registers each.
const REDIRECTION: u32 = 0x10;

const fn window(base: u64, len: u64) -> Mmio {
    match Mmio::new(base, len) {
        Some(window) => window,
        None => panic!("an APIC outside the hole"),
    }
}

/// Switches this processor's APIC on; lets every priority in, and nothing from the old interrupt controllers.
pub fn enable_local() {
    LOCAL.write32(SPURIOUS_VECTOR, SOFTWARE_ENABLE | u32::from(SPURIOUS));
    LOCAL.write32(TASK_PRIORITY, 0);
    LOCAL.write32(LVT_LINT0, MASKED);
}

/// The APIC id of this processor.
pub fn local_id() -> u8 {
    (LOCAL.read32(ID) >> 24) as u8
}

/// Tells the local APIC that the interrupt in service has been served.
#[inline]
pub fn end_of_interrupt() {
    LOCAL.write32(EOI, 0);
}

/// What the IOAPIC takes for an interrupt on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// That the line rises.
    Edge,
    /// That the line is high and no interrupt of it is in service.
    Level,
}

/// Redirection entry, low half: level-triggered; edge-triggered otherwise.
const LEVEL: u32 = 1 << 15;

/// Sends what comes on IOAPIC `line` to processor `id`: active high, fixed delivery.
pub fn route(line: u8, id: u8, trigger: Trigger) {
    let entry = redirection(line);
    let level = if trigger == Trigger::Level { LEVEL } else { 0 };
    // The high half first: writing the low half unmasks.
    io_write(entry + 1, u32::from(id) << 24);
    io_write(entry, level | u32::from(FIRST_LINE + line));
}

/// Keeps what comes on `line` from the processor, or lets it in again; the rest of the entry stays.
pub fn mask(line: u8, masked: bool) {
    let entry = redirection(line);
    let rest = io_read(entry) & !MASKED;
    io_write(entry, rest | if masked { MASKED } else { 0 });
}

/// Whether this processor's APIC has the interrupt of `line` in service: taken, and without an EOI. It takes no other
/// one of the line until then.
pub fn in_service(line: u8) -> bool {
    const REGISTER_SIZE: u64 = 0x10;
    let vector = FIRST_LINE + line;
    let register = IN_SERVICE + REGISTER_SIZE * u64::from(vector / 32);
    LOCAL.read32(register) & 1 << (vector % 32) != 0
}

/// The low half of the redirection entry of `line`.
fn redirection(line: u8) -> u32 {
    REDIRECTION + 2 * u32::from(line)
}

fn io_read(register: u32) -> u32 {
    IO.write32(SELECT, register);
    IO.read32(WINDOW)
}

fn io_write(register: u32, value: u32) {
    IO.write32(SELECT, register);
    IO.write32(WINDOW, value);
}

/// Starts the timer of this processor: `ticks` ticks down to zero, once. With `interrupt` it then interrupts.
///
/// A tick is 128 bus cycles. KVM's bus runs at 1 GHz, so there a tick is 128 ns; a guest uses the timer only for
/// limits on waiting, so that another rate does no harm but to make them longer or shorter.
pub fn start_timer(ticks: u32, interrupt: bool) {
    const DIVIDE_BY_128: u32 = 0b1010;
    LOCAL.write32(TIMER_DIVIDE, DIVIDE_BY_128);
    LOCAL.write32(LVT_TIMER, u32::from(TIMER) | if interrupt { 0 } else { MASKED });
    LOCAL.write32(TIMER_INITIAL, ticks);
}

/// Ticks left of what [`start_timer`] started; zero once it has run out.
pub fn timer_left() -> u32 {
    LOCAL.read32(TIMER_CURRENT)
}

/// Sends INIT to processor `id`: it waits for a start-up IPI. SDM 10.4.7 and 10.6.1.
pub fn send_init(id: u8) {
    const INIT: u32 = 0b101 << 8;
    const ASSERT: u32 = 1 << 14;
    command(id, INIT | ASSERT);
}

/// Sends a start-up IPI to processor `id`: it begins in real mode at `page * 4096`.
pub fn send_startup(id: u8, page: u8) {
    const STARTUP: u32 = 0b110 << 8;
    const ASSERT: u32 = 1 << 14;
    command(id, STARTUP | ASSERT | u32::from(page));
}

fn command(id: u8, low: u32) {
    LOCAL.write32(COMMAND_HIGH, u32::from(id) << 24);
    // Writing the low half sends.
    LOCAL.write32(COMMAND_LOW, low);
}
