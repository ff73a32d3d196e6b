use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::testing::CountingLine;

/// A serial port, and what a test wants to see of it.
struct Bench {
    serial: Serial,
    output: Sink,
    line: CountingLine,
    drained: Arc<AtomicUsize>,
}

/// Keeps what is written, as far as it fits.
#[derive(Clone)]
struct Sink {
    bytes: Arc<Mutex<Vec<u8>>>,
    capacity: usize,
}

impl Output for Sink {
    fn write(&mut self, byte: u8) {
        let mut bytes = self.bytes.lock().unwrap();
        if bytes.len() < self.capacity {
            bytes.push(byte);
        }
    }
    fn has_room(&self) -> bool {
        self.bytes.lock().unwrap().len() + FIFO_SIZE <= self.capacity
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(usize::MAX)
    }

    fn with(capacity: usize) -> Self {
        let output = Sink { bytes: Arc::default(), capacity };
        let line = CountingLine::default();
        let drained = Arc::new(AtomicUsize::new(0));
        let count = drained.clone();
        let serial = Serial::new(
            Box::new(output.clone()),
            Arc::new(line.clone()),
            Box::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            }),
        );
        Self { serial, output, line, drained }
    }

    fn read(&mut self, register: u8) -> u8 {
        let mut data = [0];
        self.serial.read(u64::from(register), &mut data);
        data[0]
    }

    fn write(&mut self, register: u8, value: u8) {
        self.serial.write(u64::from(register), &[value]);
    }

    fn has_data(&mut self) -> bool {
        self.read(LINE_STATUS) & DATA_READY != 0
    }

    /// Reads as a polling driver does.
    fn read_all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.has_data() {
            bytes.push(self.read(DATA));
        }
        bytes
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

#[test]
fn what_the_guest_writes_comes_out() {
    let mut bench = Bench::new();
    for byte in *b"hello" {
        bench.write(DATA, byte);
    }
    assert_eq!(*bench.output.bytes.lock().unwrap(), b"hello");
}

#[test]
fn a_polling_driver_waits_for_room_and_loses_nothing() {
    let mut bench = Bench::with(100);
    let (text, mut sent, mut seen) = (pattern(1000), 0, Vec::new());
    while sent < text.len() {
        // As the chip allows: a FIFO's worth for each look at the register.
        if bench.read(LINE_STATUS) & TRANSMITTER_EMPTY == TRANSMITTER_EMPTY {
            let end = text.len().min(sent + FIFO_SIZE);
            for &byte in &text[sent..end] {
                bench.write(DATA, byte);
            }
            sent = end;
        } else {
            assert_eq!(bench.read(LINE_STATUS) & TRANSMITTER_EMPTY, 0);
            seen.append(&mut bench.output.bytes.lock().unwrap());
            bench.serial.output_has_room();
        }
    }
    seen.append(&mut bench.output.bytes.lock().unwrap());
    assert_eq!(seen, text);
}

#[test]
fn room_interrupts_a_driver_that_waits_for_it() {
    let mut bench = Bench::with(FIFO_SIZE);
    bench.write(INTERRUPT_ENABLE, ENABLE_TRANSMITTER_EMPTY);
    assert_eq!(bench.line.take(), 1);
    assert_eq!(bench.read(INTERRUPT_ID), ID_FIFOS | ID_TRANSMITTER_EMPTY);
    for _ in 0..FIFO_SIZE {
        bench.write(DATA, b'a');
    }
    assert_eq!(bench.line.take(), 0, "there is no room");
    assert_eq!(bench.read(INTERRUPT_ID), ID_FIFOS | ID_NONE);
    bench.serial.output_has_room();
    assert_eq!(bench.line.take(), 0, "there still is none");

    bench.output.bytes.lock().unwrap().clear();
    // The divisor hides the enable register for a moment.
    bench.write(LINE_CONTROL, DIVISOR_LATCH | 3);
    bench.serial.output_has_room();
    bench.write(LINE_CONTROL, 3);
    assert_eq!(bench.line.take(), 1);
    assert_eq!(bench.read(INTERRUPT_ID), ID_FIFOS | ID_TRANSMITTER_EMPTY);
    assert_eq!(bench.read(INTERRUPT_ID), ID_FIFOS | ID_NONE);
}

#[test]
fn a_driver_that_enables_the_interrupt_without_room_gets_it_with_room() {
    let mut bench = Bench::with(0);
    bench.write(INTERRUPT_ENABLE, ENABLE_TRANSMITTER_EMPTY);
    bench.line.take();
    assert_eq!(bench.read(INTERRUPT_ID), ID_FIFOS | ID_NONE);
    bench.output.capacity = FIFO_SIZE;
    bench.serial.output = Box::new(bench.output.clone());
    bench.serial.output_has_room();
    assert_eq!(bench.line.take(), 1);
    assert_eq!(bench.read(INTERRUPT_ID), ID_FIFOS | ID_TRANSMITTER_EMPTY);
}

#[test]
fn a_driver_that_does_not_want_the_interrupt_gets_none() {
    let mut bench = Bench::with(0);
    bench.output.capacity = FIFO_SIZE;
    bench.serial.output = Box::new(bench.output.clone());
    bench.serial.output_has_room();
    assert_eq!(bench.line.take(), 0);
}

#[test]
fn looped_back_the_transmitter_needs_no_room() {
    let mut bench = Bench::with(0);
    assert_eq!(bench.read(LINE_STATUS) & TRANSMITTER_EMPTY, 0);
    bench.write(MODEM_CONTROL, LOOPBACK);
    assert_eq!(bench.read(LINE_STATUS) & TRANSMITTER_EMPTY, TRANSMITTER_EMPTY);
    bench.write(DATA, b'x');
    assert_eq!(bench.read_all(), b"x");
}

#[test]
fn a_paste_of_10_kib_loses_nothing() {
    let paste = pattern(10 * 1024);
    let mut bench = Bench::new();
    let (mut fed, mut seen) = (0, Vec::new());
    while seen.len() < paste.len() {
        fed += bench.serial.feed(&paste[fed..]);
        let told = bench.drained.load(Ordering::Relaxed);
        seen.push(bench.read(DATA));
        // A caller with bytes left sleeps until it is notified.
        while fed < paste.len() && bench.drained.load(Ordering::Relaxed) == told {
            seen.push(bench.read(DATA));
        }
    }
    assert_eq!(seen, paste);
    assert!(!bench.has_data());
}

#[test]
fn the_feeder_is_told_only_where_it_waits() {
    let mut bench = Bench::new();
    assert_eq!(bench.serial.feed(&pattern(100)), 100);
    assert_eq!(bench.read_all(), pattern(100));
    assert_eq!(bench.drained.load(Ordering::Relaxed), 0);
    let much = pattern(64 * 1024);
    let fed = bench.serial.feed(&much);
    assert!(fed < much.len());
    assert_eq!(bench.read_all(), &much[..fed]);
    assert_eq!(bench.drained.load(Ordering::Relaxed), 1);
}

#[test]
fn received_data_interrupts_and_stays_pending_until_it_is_read() {
    let mut bench = Bench::new();
    bench.serial.feed(b"abc");
    assert_eq!(bench.line.take(), 0, "not enabled");
    bench.write(INTERRUPT_ENABLE, ENABLE_RECEIVED);
    assert_eq!(bench.line.take(), 1, "pending when it is enabled");
    // One byte for each look at the register: a driver may do so.
    for byte in *b"abc" {
        assert_eq!(bench.read(INTERRUPT_ID), ID_FIFOS | ID_RECEIVED);
        assert_eq!(bench.read(DATA), byte);
    }
    assert_eq!(bench.read(INTERRUPT_ID), ID_FIFOS | ID_NONE);
    bench.serial.feed(b"d");
    assert_eq!(bench.line.take(), 1);
}

#[test]
fn one_source_is_named_at_a_time_and_none_is_forgotten() {
    let mut bench = Bench::new();
    bench.serial.feed(b"a");
    bench.write(INTERRUPT_ENABLE, ENABLE_RECEIVED | ENABLE_TRANSMITTER_EMPTY);
    assert_eq!(bench.read(INTERRUPT_ID), ID_FIFOS | ID_RECEIVED);
    assert_eq!(bench.read(INTERRUPT_ID), ID_FIFOS | ID_RECEIVED);
    assert_eq!(bench.read(DATA), b'a');
    assert_eq!(bench.read(INTERRUPT_ID), ID_FIFOS | ID_TRANSMITTER_EMPTY);
    assert_eq!(bench.read(INTERRUPT_ID), ID_FIFOS | ID_NONE);
}

#[test]
fn a_driver_that_never_reads_the_identification_is_interrupted_for_each_byte() {
    let mut bench = Bench::new();
    bench.write(INTERRUPT_ENABLE, ENABLE_TRANSMITTER_EMPTY);
    assert_eq!(bench.line.take(), 1);
    for _ in 0..10 {
        bench.write(DATA, b'a');
        assert_eq!(bench.line.take(), 1);
    }
}

#[test]
fn looped_back_the_port_hears_itself_alone() {
    let mut bench = Bench::new();
    bench.write(MODEM_CONTROL, LOOPBACK);
    bench.serial.feed(b"input");
    bench.write(DATA, b'x');
    assert_eq!(bench.read_all(), b"x");
    assert!(bench.output.bytes.lock().unwrap().is_empty());
    bench.write(MODEM_CONTROL, 0);
    assert_eq!(bench.read_all(), b"input");
}

#[test]
fn with_the_divisor_selected_no_byte_is_read_or_sent() {
    let mut bench = Bench::new();
    bench.serial.feed(b"a");
    bench.write(LINE_CONTROL, DIVISOR_LATCH | 3);
    bench.write(DATA, 1);
    assert_eq!(bench.read(DATA), 1);
    bench.write(LINE_CONTROL, 3);
    assert_eq!(bench.read_all(), b"a");
    assert!(bench.output.bytes.lock().unwrap().is_empty());
}

#[test]
fn a_wide_access_is_one_for_each_register() {
    let mut bench = Bench::new();
    bench.serial.write(0, &[b'a', 0, 0xc7, 3]);
    assert_eq!(*bench.output.bytes.lock().unwrap(), b"a");
    let mut data = [0; 4];
    bench.serial.read(2, &mut data);
    assert_eq!(data[1], 3);
}

#[test]
fn every_register_takes_every_value() {
    let mut bench = Bench::new();
    for register in 0..8 {
        for value in 0..=255 {
            bench.write(register, value);
            bench.read(register);
        }
    }
}
