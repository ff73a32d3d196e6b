use std::sync::{Arc, Mutex};

use cafevm_devices::bus::BusDevice;

use super::*;

type Log = Arc<Mutex<Vec<String>>>;

/// Reads as 0x11, 0x22, ...; logs the accesses that reach it.
struct Probe(&'static str, Log);

impl BusDevice for Probe {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.1.lock().unwrap().push(format!("{} read {offset:#x} {}", self.0, data.len()));
        for (byte, n) in data.iter_mut().zip(1u8..) {
            *byte = n * 0x11;
        }
    }
    fn write(&self, offset: u64, data: &[u8]) {
        self.1.lock().unwrap().push(format!("{} write {offset:#x} {data:x?}", self.0));
    }
}

fn buses() -> (Buses, Log) {
    let (mut buses, log) = (Buses::default(), Log::default());
    let probe = |name| Arc::new(Probe(name, log.clone()));
    buses.mmio.insert(0xfeb0_0000, 0x200, "slot", probe("slot")).unwrap();
    buses.pio.insert(0x3f8, 8, "com1", probe("com1")).unwrap();
    (buses, log)
}

#[test]
fn registers_and_ports_reach_their_owner() {
    let (buses, log) = buses();
    let mut data = [0; 4];
    assert_eq!(dispatch(VcpuExit::MmioRead(0xfeb0_0070, &mut data), &buses), Outcome::Continue);
    assert_eq!(data, [0x11, 0x22, 0x33, 0x44]);
    dispatch(VcpuExit::MmioWrite(0xfeb0_0050, &[1, 0, 0, 0]), &buses);
    dispatch(VcpuExit::IoOut(0x3f8, b"!"), &buses);
    let mut byte = [0];
    dispatch(VcpuExit::IoIn(0x3fd, &mut byte), &buses);
    assert_eq!(byte, [0x11]);
    assert_eq!(
        *log.lock().unwrap(),
        [
            "slot read 0x70 4",
            "slot write 0x50 [1, 0, 0, 0]",
            "com1 write 0x0 [21]",
            "com1 read 0x5 1"
        ]
    );
}

#[test]
fn what_nobody_owns_reads_as_ones_and_is_said() {
    let (buses, log) = buses();
    let mut data = [0; 8];
    let (memory, port) = (Space::Memory, Space::Port);
    let read = |space, addr, width| Outcome::Unclaimed(Access::read(space, addr, width));
    let write = |space, addr, data| Outcome::Unclaimed(Access::write(space, addr, data));
    let outcome = dispatch(VcpuExit::MmioRead(0xd000_0000, &mut data), &buses);
    assert_eq!((outcome, data), (read(memory, 0xd000_0000, 8), [0xff; 8]));
    let mut data = [0; 4];
    let outcome = dispatch(VcpuExit::IoIn(0xcf8, &mut data), &buses);
    assert_eq!((outcome, data), (read(port, 0xcf8, 4), [0xff; 4]));
    let outcome = dispatch(VcpuExit::IoOut(0x80, &[7]), &buses);
    assert_eq!(outcome, write(port, 0x80, &[7]));
    // A string of bytes: the first one counts.
    let outcome = dispatch(VcpuExit::IoOut(0x402, b"hello"), &buses);
    assert_eq!(outcome, write(port, 0x402, b"h"));
    assert_eq!(dispatch(VcpuExit::IoIn(0x402, &mut [0; 3]), &buses), read(port, 0x402, 1));
    let outcome = dispatch(VcpuExit::MmioWrite(0, &[1, 2, 3, 4]), &buses);
    assert_eq!(outcome, write(memory, 0, &[1, 2, 3, 4]));
    assert!(log.lock().unwrap().is_empty());
}

#[test]
fn the_guest_ends_the_machine_by_its_own_ports() {
    let (buses, _) = buses();
    let out = |port, data: &[u8]| dispatch(VcpuExit::IoOut(port, data), &buses);
    assert_eq!(out(0xf4, &[0x2a]), Outcome::DebugExit(0x2a));
    assert_eq!(out(0xf4, &[1, 2]), Outcome::DebugExit(0x201));
    assert_eq!(out(0xf4, &[1, 2, 3, 0x84]), Outcome::DebugExit(0x8403_0201));
    assert_eq!(out(0x64, &[0xfe]), Outcome::Reset);
    for port in [0x64, 0xf5] {
        let access = Access::write(Space::Port, port, &[0xd1]);
        assert_eq!(out(access.addr as u16, &[0xd1]), Outcome::Unclaimed(access));
    }
    let mut status = [0xaa];
    dispatch(VcpuExit::IoIn(0x64, &mut status), &buses);
    assert_eq!(status, [0], "ready for a command");
}

#[test]
fn a_string_of_bytes_goes_to_one_port() {
    let (buses, log) = buses();
    let mut data = [0; 3];
    dispatch(VcpuExit::IoIn(0x3f8, &mut data), &buses);
    dispatch(VcpuExit::IoOut(0x3f8, b"abc"), &buses);
    let log = log.lock().unwrap();
    assert_eq!(log[..3], ["com1 read 0x0 1"; 3]);
    assert_eq!(log[3..], ["com1 write 0x0 [61]", "com1 write 0x0 [62]", "com1 write 0x0 [63]"]);
}

#[test]
fn what_no_machine_can_go_on_from_is_a_crash() {
    let (buses, _) = buses();
    for exit in [
        VcpuExit::Shutdown,
        VcpuExit::InternalError,
        VcpuExit::FailEntry(0x8000_0021, 0),
        VcpuExit::Unknown,
        VcpuExit::Unsupported(4711),
        VcpuExit::SystemEvent(3, &[]),
        VcpuExit::MemoryFault { flags: 0, gpa: 0x1000, size: 4096 },
    ] {
        let name = format!("{exit:?}");
        assert!(matches!(dispatch(exit, &buses), Outcome::Crash(_)), "{name}");
    }
    assert_eq!(dispatch(VcpuExit::SystemEvent(1, &[]), &buses), Outcome::PowerOff);
    assert_eq!(dispatch(VcpuExit::SystemEvent(2, &[]), &buses), Outcome::Reset);
}
