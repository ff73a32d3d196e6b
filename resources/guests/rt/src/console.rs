//! The serial console: COM1, a 16550A at port 0x3f8, interrupt line 4.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

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
    without_interrupts(receive);
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
        without_interrupts(receive);
    }
    Some(byte)
}

/// The next received byte; sleeps until there is one.
pub fn wait_for_byte() -> u8 {
    loop {
        if let Some(byte) = read() {
            return byte;
        }
        interrupts::sleep_unless(|| PUT.load(Ordering::Acquire) != TAKEN.load(Ordering::Relaxed));
    }
}

/// The next received byte within `limit` milliseconds.
pub fn wait_for_byte_until(limit: u32) -> Option<u8> {
    Wait::Interrupt.until(limit, || PUT.load(Ordering::Acquire) != TAKEN.load(Ordering::Relaxed));
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
    let mut put = PUT.load(Ordering::Relaxed);
    while put - TAKEN.load(Ordering::Acquire) < RING && port::read8(LINE_STATUS) & DATA_READY != 0 {
        let byte = port::read8(DATA);
        if byte == CONTROL_C {
            BREAK.store(true, Ordering::Release);
        }
        RECEIVED[put % RING].store(byte, Ordering::Relaxed);
        put += 1;
        PUT.store(put, Ordering::Release);
    }
}

fn without_interrupts(work: impl FnOnce()) {
    interrupts::disable();
    work();
    interrupts::enable();
}

/// Sends one byte unchanged.
pub fn send(byte: u8) {
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

/// Sends `text`, with a carriage return before each line feed.
pub fn send_text(text: &[u8]) {
    for &byte in text {
        if byte == b'\n' {
            send(b'\r');
        }
        send(byte);
    }
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
