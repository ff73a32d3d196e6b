//! The console: COM1, a 16550A at port 0x3f8, interrupt line 4; and what a guest adds to it: a [`Mirror`] of what is
//! sent, and bytes from another keyboard ([`feed`]).
#![allow(unsafe_code)]

use core::fmt::{self, Write};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering};

use crate::wait::Wait;
use crate::{interrupts, port};

const BASE: u16 = 0x3f8;
const LINE: u8 = 4;

const DATA: u16 = BASE;
const INTERRUPT_ENABLE: u16 = BASE + 1;
const INTERRUPT_IDENTIFICATION: u16 = BASE + 2;
const FIFO_CONTROL: u16 = BASE + 2;
const LINE_CONTROL: u16 = BASE + 3;
const MODEM_CONTROL: u16 = BASE + 4;
const LINE_STATUS: u16 = BASE + 5;

/// Line status: a received byte waits.
const DATA_READY: u8 = 1 << 0;
/// Line status: the transmitter's FIFO is empty.
const TRANSMITTER_EMPTY: u8 = 1 << 5;
/// Bytes that an empty transmitter takes without being asked again.
const FIFO_SIZE: u8 = 16;

/// What a terminal sends for Ctrl-C.
pub const CONTROL_C: u8 = 0x03;

/// The most received bytes that wait for a reader. A power of two.
const RING: usize = 4096;

static LOCK: AtomicBool = AtomicBool::new(false);
/// What is left of [`FIFO_SIZE`].
static ROOM: AtomicU8 = AtomicU8::new(0);

static RECEIVED: [AtomicU8; RING] = [const { AtomicU8::new(0) }; RING];
/// Bytes ever put into the ring, by the interrupt handler alone, or with interrupts off.
static PUT: AtomicUsize = AtomicUsize::new(0);
/// Bytes ever taken from it, by one reader.
static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// A Ctrl-C was received.
static BREAK: AtomicBool = AtomicBool::new(false);

/// Where else the output goes; null: nowhere.
static MIRROR: AtomicPtr<Mirror> = AtomicPtr::new(ptr::null_mut());

/// What else gets the console's output.
///
/// Both functions are also called from the last output of a panicking guest, which may have come from within them.
#[derive(Debug)]
pub struct Mirror {
    /// Takes text as it was sent, but with `\n` alone for a line's end.
    pub text: fn(&[u8]),
    /// Shows all that it has taken: the machine is about to end.
    pub show: fn(),
}

/// From now on `mirror` gets all output, too.
pub fn mirror_to(mirror: &'static Mirror) {
    MIRROR.store(ptr::from_ref(mirror).cast_mut(), Ordering::Release);
}

fn mirror() -> Option<&'static Mirror> {
    // SAFETY: null, or stored by `mirror_to` from a reference that lives for ever and is never written to.
    unsafe { MIRROR.load(Ordering::Acquire).as_ref() }
}

/// Has the mirror show all that it has taken.
pub(crate) fn show() {
    if let Some(mirror) = mirror() {
        (mirror.show)();
    }
}

/// 8 bits, no parity, one stop bit; FIFOs on; no interrupts.
pub(crate) fn init() {
    const EIGHT_BITS: u8 = 0b11;
    const FIFOS_ON_AND_CLEAR: u8 = 0b111;
    const DTR_RTS_OUT2: u8 = 0b1011;
    port::write8(INTERRUPT_ENABLE, 0);
    port::write8(LINE_CONTROL, EIGHT_BITS);
    port::write8(FIFO_CONTROL, FIFOS_ON_AND_CLEAR);
    // OUT2 is what lets a PC's UART interrupt at all.
    port::write8(MODEM_CONTROL, DTR_RTS_OUT2);
}

/// From now on received bytes are taken in by interrupt. [`interrupts::init`] has been called on this processor.
pub fn listen() {
    const RECEIVED_DATA: u8 = 1 << 0;
    interrupts::handle(LINE, |_| receive(), 0);
    port::write8(INTERRUPT_ENABLE, RECEIVED_DATA);
    // What came before is no edge any more.
    interrupts::without(receive);
}

/// The next received byte, if there is one.
pub fn read() -> Option<u8> {
    let taken = TAKEN.load(Ordering::Relaxed);
    let put = PUT.load(Ordering::Acquire);
    if put == taken {
        return None;
    }
    let byte = RECEIVED[taken % RING].load(Ordering::Relaxed);
    TAKEN.store(taken + 1, Ordering::Release);
    if put - taken == RING {
        // The handler left bytes in the UART for want of room, and that edge does not come again.
        interrupts::without(receive);
    }
    Some(byte)
}

/// Whether a received byte waits to be read.
pub fn has_byte() -> bool {
    PUT.load(Ordering::Acquire) != TAKEN.load(Ordering::Relaxed)
}

/// The next received byte; sleeps until there is one.
pub fn wait_for_byte() -> u8 {
    loop {
        if let Some(byte) = read() {
            return byte;
        }
        interrupts::sleep_unless(has_byte);
    }
}

/// The next received byte within `limit` milliseconds.
pub fn wait_for_byte_until(limit: u32) -> Option<u8> {
    Wait::Interrupt.until(limit, has_byte);
    read()
}

/// Whether Ctrl-C was received since the last call. It also comes as a byte, in its turn.
pub fn take_break() -> bool {
    BREAK.swap(false, Ordering::AcqRel)
}

/// Takes received bytes from the UART, as many as there is room for.
fn receive() {
    // Read so that the UART drops its line: the IOAPIC looks for the next edge.
    port::read8(INTERRUPT_IDENTIFICATION);
    while has_room() && port::read8(LINE_STATUS) & DATA_READY != 0 {
        put(port::read8(DATA));
    }
}

/// Takes bytes from another keyboard as if the UART had received them: all of them, or none where there is no room.
/// Called from interrupt handlers, or with interrupts off.
pub fn feed(bytes: &[u8]) {
    let waiting = PUT.load(Ordering::Relaxed) - TAKEN.load(Ordering::Acquire);
    if waiting + bytes.len() <= RING {
        bytes.iter().for_each(|byte| put(*byte));
    }
}

fn has_room() -> bool {
    PUT.load(Ordering::Relaxed) - TAKEN.load(Ordering::Acquire) < RING
}

/// Puts a received byte into the ring, which has room.
fn put(byte: u8) {
    if byte == CONTROL_C {
        BREAK.store(true, Ordering::Release);
    }
    let put = PUT.load(Ordering::Relaxed);
    RECEIVED[put % RING].store(byte, Ordering::Relaxed);
    PUT.store(put + 1, Ordering::Release);
}

/// Sends one byte unchanged.
pub fn send(byte: u8) {
    transmit(byte);
    if let Some(mirror) = mirror() {
        (mirror.text)(&[byte]);
    }
}

/// Sends `text`, with a carriage return before each line feed.
pub fn send_text(text: &[u8]) {
    for &byte in text {
        if byte == b'\n' {
            transmit(b'\r');
        }
        transmit(byte);
    }
    if let Some(mirror) = mirror() {
        (mirror.text)(text);
    }
}

fn transmit(byte: u8) {
    // Without end where a UART never gets ready: better to lose a byte than to hang.
    const LOOKS: u32 = 100_000;
    let mut room = ROOM.load(Ordering::Relaxed);
    if room == 0 {
        for _ in 0..LOOKS {
            if port::read8(LINE_STATUS) & TRANSMITTER_EMPTY != 0 {
                break;
            }
        }
        room = FIFO_SIZE;
    }
    port::write8(DATA, byte);
    ROOM.store(room - 1, Ordering::Relaxed);
}

struct Out;

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        send_text(text.as_bytes());
        Ok(())
    }
}

/// Sends formatted text, whole, however many processors do so. What `print!` calls.
///
/// Not for interrupt handlers: the lock may be held below them.
pub fn print(text: fmt::Arguments<'_>) {
    while LOCK.swap(true, Ordering::Acquire) {
        core::hint::spin_loop();
    }
    // `Out` never fails; what fails is a value's own formatting, and that is worth no more than its missing text.
    let _ = Out.write_fmt(text);
    LOCK.store(false, Ordering::Release);
}

/// Takes the console by force: for the last output of a guest.
pub(crate) fn seize() {
    LOCK.store(false, Ordering::Release);
}

/// Prints formatted text on the console.
#[macro_export]
macro_rules! print {
    ($($text:tt)*) => { $crate::console::print(format_args!($($text)*)) };
}

/// Prints formatted text and a line end on the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($text:tt)*) => { $crate::print!("{}\n", format_args!($($text)*)) };
}
