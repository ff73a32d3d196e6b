//! The serial console: a 16550A with FIFOs.
//!
//! The crate `vm-superio` implements the registers. This file adds three things:
//!
//! - **Input waits.** Input that does not fit into the receive FIFO waits in the device. If the device is full, the
//!   rest stays with the caller, which is notified when there is room again. So a paste of any length loses nothing.
//! - **The interrupt identification shows what is pending**, as on the chip: it reports "received data" until all data
//!   was read, and reports one source at a time. Writing a byte clears the transmitter's interrupt, so that a driver
//!   that never reads the register works, too.
//! - **Output waits in the guest.** While the [`Output`] has no room, the line status register shows that the
//!   transmitter is not empty. When there is room again, the transmitter interrupts. So a driver that follows the
//!   chip's rules loses nothing, and no thread of the host waits for a slow reader.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial as Uart};

use crate::bus::BusDevice;
use crate::irq::IrqLine;

/// The number of ports of the device.
pub const PORTS: u64 = 8;

/// The most bytes that a driver may write when the transmitter is empty (16550A data sheet, "FIFO mode").
pub const FIFO_SIZE: usize = 16;

/// The most bytes of input that wait in the device, after the FIFO.
const WAITING: usize = 4096;

// The registers (16550A data sheet, "register addresses"), and the bits that this file uses.
const DATA: u8 = 0;
const INTERRUPT_ENABLE: u8 = 1;
const INTERRUPT_ID: u8 = 2;
const LINE_CONTROL: u8 = 3;
const MODEM_CONTROL: u8 = 4;
const LINE_STATUS: u8 = 5;

const ENABLE_RECEIVED: u8 = 1 << 0;
const ENABLE_TRANSMITTER_EMPTY: u8 = 1 << 1;
const DIVISOR_LATCH: u8 = 1 << 7;
const LOOPBACK: u8 = 1 << 4;
const DATA_READY: u8 = 1 << 0;
/// The transmitter's holding register is empty; and also its shift register.
const TRANSMITTER_EMPTY: u8 = 1 << 5 | 1 << 6;

const ID_FIFOS: u8 = 0b1100_0000;
const ID_NONE: u8 = 0b001;
const ID_TRANSMITTER_EMPTY: u8 = 0b010;
const ID_RECEIVED: u8 = 0b100;

/// The destination of the guest's output.
pub trait Output: Send {
    /// Takes a byte, without waiting for a reader. The output drops and counts a byte that does not fit.
    fn write(&mut self, byte: u8);

    /// Whether at least [`FIFO_SIZE`] bytes fit. After it was false, the output calls [`Serial::output_has_room`] when
    /// there is room again.
    fn has_room(&self) -> bool;
}

/// A 16550A.
pub struct Serial {
    /// Its transmitter is used for loopback only.
    uart: Uart<Interrupt, NoEvents, io::Sink>,
    output: Box<dyn Output>,
    waiting: VecDeque<u8>,
    /// Whether `feed` left bytes to its caller, which waits for a notification.
    refused: bool,
    drained: Box<dyn Fn() + Send>,
    /// Whether the transmitter's interrupt is pending after one with a higher priority.
    transmitter_empty: bool,
}

impl Serial {
    /// A serial port that writes to `output` and interrupts through `line`.
    ///
    /// `drained` is called, on the thread of a guest's access, when there is room again after [`Serial::feed`] left
    /// bytes to its caller. It must not block.
    pub fn new(
        output: Box<dyn Output>,
        line: Arc<dyn IrqLine>,
        drained: Box<dyn Fn() + Send>,
    ) -> Self {
        Self {
            uart: Uart::new(Interrupt(line), io::sink()),
            output,
            waiting: VecDeque::new(),
            refused: false,
            drained,
            transmitter_empty: false,
        }
    }

    /// Adds input for the guest. Returns the number of `bytes` accepted. The caller keeps the rest until `drained` is
    /// called.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        // The caller of `feed` needs no notification of room that is made here.
        self.refused = false;
        let mut taken = 0;
        loop {
            let rest = bytes.get(taken..).unwrap_or_default();
            let fits = rest.len().min(WAITING - self.waiting.len());
            self.waiting.extend(rest.iter().take(fits));
            taken += fits;
            self.refill();
            if fits == 0 {
                break;
            }
        }
        self.refused = taken < bytes.len();
        taken
    }

    /// Reads for the guest. A wide access is one access for each register that it covers, as on the chip's bus.
    pub fn read(&mut self, offset: u64, data: &mut [u8]) {
        for (register, byte) in (offset..).zip(data) {
            *byte = u8::try_from(register).map_or(0xff, |register| self.read_register(register));
        }
    }

    /// Writes for the guest. A wide access is handled as in [`Serial::read`].
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        for (register, &byte) in (offset..).zip(data) {
            if let Ok(register) = u8::try_from(register) {
                self.write_register(register, byte);
            }
        }
    }

    /// The output has room again: the transmitter becomes empty, and interrupts if the driver wants that.
    pub fn output_has_room(&mut self) {
        if !self.output.has_room() {
            return; // The guest has filled the output again: another call follows.
        }
        // Not read from the register, which the divisor latch may hide.
        let enabled = self.uart.state().interrupt_enable;
        self.transmitter_became_empty(enabled);
    }

    fn transmitter_became_empty(&mut self, enabled: u8) {
        if enabled & ENABLE_TRANSMITTER_EMPTY != 0 {
            self.transmitter_empty = true;
            self.uart.interrupt_evt().0.raise();
        }
    }

    /// Moves waiting input into an empty FIFO.
    fn refill(&mut self) {
        // In loopback mode the chip ignores its line.
        if self.is_looped_back() || self.has_data() || self.waiting.is_empty() {
            return;
        }
        let fits = self.uart.fifo_capacity().min(self.waiting.len());
        let bytes: Vec<u8> = self.waiting.drain(..fits).collect();
        // This cannot fail: the input fits, and the line accepts every interrupt.
        let _taken = self.uart.enqueue_raw_bytes(&bytes);
        if self.refused {
            self.refused = false;
            (self.drained)();
        }
    }

    fn has_data(&mut self) -> bool {
        self.uart.read(LINE_STATUS) & DATA_READY != 0
    }

    fn divisor_latch(&mut self) -> bool {
        self.uart.read(LINE_CONTROL) & DIVISOR_LATCH != 0
    }

    fn is_looped_back(&mut self) -> bool {
        self.uart.read(MODEM_CONTROL) & LOOPBACK != 0
    }

    fn read_register(&mut self, register: u8) -> u8 {
        match register {
            DATA if !self.divisor_latch() => {
                let byte = self.uart.read(DATA);
                self.refill();
                byte
            }
            INTERRUPT_ID => self.identify(),
            LINE_STATUS if !self.is_looped_back() && !self.output.has_room() => {
                self.uart.read(LINE_STATUS) & !TRANSMITTER_EMPTY
            }
            _ => self.uart.read(register),
        }
    }

    /// The pending interrupt with the highest priority. Reporting the transmitter's interrupt clears it.
    fn identify(&mut self) -> u8 {
        self.transmitter_empty |= self.uart.read(INTERRUPT_ID) & ID_TRANSMITTER_EMPTY != 0;
        // While the divisor latch is selected, it hides the enable register: no interrupt is reported then.
        let enabled = if self.divisor_latch() { 0 } else { self.uart.read(INTERRUPT_ENABLE) };
        if enabled & ENABLE_RECEIVED != 0 && self.has_data() {
            return ID_FIFOS | ID_RECEIVED;
        }
        if enabled & ENABLE_TRANSMITTER_EMPTY != 0
            && self.output.has_room()
            && std::mem::take(&mut self.transmitter_empty)
        {
            return ID_FIFOS | ID_TRANSMITTER_EMPTY;
        }
        ID_FIFOS | ID_NONE
    }

    fn write_register(&mut self, register: u8, value: u8) {
        if register == DATA && !self.divisor_latch() {
            // Clears a pending transmitter interrupt, so that this byte causes a new one.
            let _pending = self.uart.read(INTERRUPT_ID);
            self.transmitter_empty = false;
            if !self.is_looped_back() {
                return self.send(value);
            }
        }
        if let Err(error) = self.uart.write(register, value) {
            // The line accepts every interrupt, and the transmitter's own output is discarded.
            tracing::debug!("serial: {error}");
        }
        if register == MODEM_CONTROL {
            self.refill();
        }
    }

    fn send(&mut self, byte: u8) {
        self.output.write(byte);
        if self.output.has_room() {
            let enabled = self.uart.read(INTERRUPT_ENABLE);
            self.transmitter_became_empty(enabled);
        }
    }
}

/// A serial port on a bus: one access at a time.
impl BusDevice for Mutex<Serial> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.lock().unwrap_or_else(PoisonError::into_inner).read(offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.lock().unwrap_or_else(PoisonError::into_inner).write(offset, data);
    }
}

/// The interrupt line in the form that `vm-superio` needs.
struct Interrupt(Arc<dyn IrqLine>);

impl Trigger for Interrupt {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.raise();
        Ok(())
    }
}

#[cfg(test)]
#[path = "serial_tests.rs"]
mod tests;
