//! The state machine and the registers, every case of them.

use super::*;
use crate::observe::RequestInfo;
use crate::register_page::RegisterPage;
use crate::testing::CountingLine;

const MAGIC: u32 = 0x7472_6976;
const DRIVER_OK: u32 = 0;
const READY: u32 = 1;
const RESET: u32 = 2;

#[test]
fn offsets_and_values_are_those_of_the_specification() {
    let offsets = [
        ("status", 0x00),
        ("queue_size", 0x04),
        ("queue_addr_hi", 0x08),
        ("queue_addr_lo", 0x0c),
        ("queue_head", 0x10),
        ("queue_tail", 0x14),
    ];
    assert_eq!(Register::ALL.map(|r| (r.name(), r.offset())), offsets);
    assert_eq!(Status::ALL.map(Status::value), [MAGIC, DRIVER_OK, READY, RESET]);
    assert_eq!(&MAGIC.to_le_bytes(), b"virt");
    assert_eq!((super::super::BASE, super::super::LEN), (0xcafe_0000, 0x1000));
}

#[test]
fn every_status_written_in_every_state() {
    let unknown = [3, 4, 0x80, 0x7669_7274, 0x7472_6977, 0x8000_0000, u32::MAX];
    let known = [MAGIC, DRIVER_OK, READY, RESET];
    for now in Status::ALL {
        for written in known.into_iter().chain(unknown) {
            for valid in [true, false] {
                let refused = now == Status::DriverOk && !valid;
                let ring = SvirtbRing { size: if refused { 0 } else { 16 }, ..RING };
                let mut m = Machine::off(&[0; 512], false, EntrySize::Auto, ring);
                m.bring_to(now);
                if now == Status::DriverOk {
                    m.driver.describe_ring();
                }
                let before = m.registers();
                m.driver.set(Register::Status, written);
                let expected = match (now.value(), written) {
                    (_, RESET) => MAGIC,
                    (MAGIC, DRIVER_OK) => DRIVER_OK,
                    (DRIVER_OK, READY) if !refused => READY,
                    _ => RESET,
                };
                let [status, others @ ..] = m.registers();
                let case = format!("{now:?} <- {written:#x}, ring valid: {valid}");
                assert_eq!(status, expected, "{case}");
                let kept = if written == RESET { [0; 5] } else { *before.last_chunk().unwrap() };
                assert_eq!(others, kept, "{case}");
                let complained = m.driver.device().reporter().log().last().is_some();
                assert_eq!(complained, expected == RESET || now == Status::Reset, "{case}");
            }
        }
    }
}

#[test]
fn every_register_written_in_every_state() {
    for now in Status::ALL {
        for register in Register::ALL.into_iter().skip(1) {
            let mut m = Machine::off(&[0; 512], false, EntrySize::Auto, RING);
            m.bring_to(now);
            let mut expected = m.registers();
            m.driver.set(register, 7);
            let column = usize::try_from(register.offset() / 4).unwrap();
            match (now, register) {
                (_, Register::Status) => unreachable!(),
                (
                    Status::DriverOk,
                    Register::QueueSize | Register::QueueAddrHi | Register::QueueAddrLo,
                ) => {
                    expected[column] = 7;
                    m.no_complaint();
                }
                // Seven entries of zeros: reads of no bytes.
                (Status::Ready, Register::QueueHead) => {
                    (expected[4], expected[5]) = (7, 7);
                    m.no_complaint();
                }
                _ => {
                    let complaint = m.complaint();
                    assert!(
                        now == Status::Reset || complaint.contains("is ignored"),
                        "{complaint}"
                    );
                }
            }
            assert_eq!(m.registers(), expected, "{now:?}, {register:?}");
        }
    }
}

#[test]
fn only_a_whole_register_can_be_accessed() {
    for now in Status::ALL {
        let mut m = Machine::off(&[0; 512], false, EntrySize::Auto, RING);
        m.bring_to(now);
        let before = m.registers();
        let device = m.driver.device();
        for offset in (0..0x40).chain(0xff8..0x1000) {
            for width in 1..=8 {
                let whole = offset % 4 == 0 && offset < 24 && width == 4;
                if !whole {
                    let mut data = [0xee; 8];
                    device.read(offset, &mut data[..width]);
                    assert_eq!(data[..width], [0; 8][..width], "{width} bytes at {offset:#x}");
                    device.write(offset, &[2; 8][..width]);
                }
            }
        }
        assert_eq!(m.registers(), before, "{now:?}");
    }
}

#[test]
fn a_ring_is_valid_or_not() {
    use EntrySize::{Auto, Packed, Padded};
    let upper = RAM_END - 28 * 16;
    let cases = [
        (Auto, 0x1000, 16, true),
        (Auto, 0, 1, true),
        (Auto, 0x1001, 3, true), // no alignment is asked for
        (Auto, 0x1000, 0, false),
        (Padded, 0x1000, 0, false),
        (Packed, 0x1000, 0, false),
        // 28 bytes each reach RAM's end exactly, 32 do not.
        (Auto, upper, 16, true),
        (Packed, upper, 16, true),
        (Padded, upper, 16, false),
        (Padded, RAM_END - 32 * 16, 16, true),
        (Padded, RAM_END - 32 * 16 + 1, 16, false),
        (Auto, upper + 1, 16, false),
        (Packed, upper + 1, 16, false),
        // Around the hole, before RAM, after it, in the device's own page, at the end of everything.
        (Auto, 0x1_0000 - 28, 1, true),
        (Auto, 0x1_0000 - 28, 2, false),
        (Auto, (1 << 20) - 1, 1, false),
        (Auto, RAM_END, 1, false),
        (Auto, 0xcafe_0000, 1, false),
        (Auto, u64::MAX, 1, false),
        (Auto, u64::MAX - 27, 1, false),
        (Auto, u64::MAX - 26, 1, false),
        (Auto, 0x8000_0000_0000_1000, 16, false), // the upper half counts
        (Auto, 0, u32::MAX, false),
        (Padded, 0x1000, u32::MAX, false),
        (Auto, u64::MAX, u32::MAX, false),
    ];
    for (entry_size, base, size, valid) in cases {
        let ring = SvirtbRing { base, size, stride: 28 };
        let mut m = Machine::off(&[0; 512], false, entry_size, ring);
        let status = if valid { Status::Ready } else { Status::Reset };
        assert_eq!(m.driver.handshake().is_ok(), valid, "{entry_size:?} {base:#x} x {size}");
        assert_eq!(m.driver.status(), status.value());
        if !valid {
            let complaint = m.complaint();
            assert!(complaint.starts_with("READY is refused, "), "{complaint}");
        }
    }
}

#[test]
fn the_order_of_the_queue_registers_is_free_and_the_last_value_counts() {
    let values =
        [(Register::QueueAddrHi, 0), (Register::QueueAddrLo, 0x1000), (Register::QueueSize, 16)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut m = Machine::off(&[0; 512], false, EntrySize::Auto, RING);
        m.bring_to(Status::DriverOk);
        for (register, _) in values {
            m.driver.set(register, u32::MAX);
        }
        for at in order {
            m.driver.set(values[at].0, values[at].1);
        }
        m.driver.set(Register::Status, READY);
        assert_eq!(m.registers(), [READY, 16, 0, 0x1000, 0, 0]);
    }
}

#[test]
fn a_doorbell_past_the_ring_is_an_error_and_is_kept_to_be_read() {
    for head in [16, 17, 0x8000_0000, u32::MAX] {
        let mut m = Machine::ready(&numbered(4));
        m.driver.set(Register::QueueHead, head);
        assert_eq!(m.registers(), [RESET, 16, 0, 0x1000, head, 0]);
        assert_eq!(m.image.log(), [""; 0]);
        assert_eq!(
            m.complaint(),
            format!(
                "queue_head {head} is no index of a ring of 16 entries (at most 15); the status is now \
                 RESET [svirtb 2.2, queue_head is an index of the ring]"
            )
        );
        m.driver.set(Register::QueueHead, 3);
        assert_eq!(m.driver.get(Register::QueueHead), head);
    }
}

#[test]
fn a_ring_of_one_entry_never_hands_one_over() {
    let ring = SvirtbRing { size: 1, ..RING };
    let mut m = Machine::off(&numbered(1), false, EntrySize::Auto, ring);
    m.driver.handshake().unwrap();
    m.driver.set(Register::QueueHead, 0);
    assert_eq!(m.registers(), [READY, 1, 0, 0x1000, 0, 0]);
    m.driver.set(Register::QueueHead, 1);
    assert_eq!(m.registers(), [RESET, 1, 0, 0x1000, 1, 0]);
}

#[test]
fn a_device_can_be_begun_anew_from_everywhere() {
    let mut m = Machine::ready(&numbered(4));
    assert_eq!(m.batch(&[SvirtbEntry::read(1, BUFFER, 512)]), (READY, 1));
    m.driver.set(Register::Status, RESET);
    assert_eq!(m.registers(), [MAGIC, 0, 0, 0, 0, 0]);
    m.driver.restart(SvirtbRing { base: 1 << 20, size: 5, stride: 28 }).unwrap();
    assert_eq!(m.registers(), [READY, 5, 0, 1 << 20, 0, 0]);
    m.driver.set(Register::Status, 77);
    assert_eq!(m.registers(), [RESET, 5, 0, 1 << 20, 0, 0]);
    m.driver.restart(RING).unwrap();
    assert_eq!(m.batch(&[SvirtbEntry::read(2, BUFFER, 512)]), (READY, 1));
    assert_eq!(m.bytes(BUFFER, 512), [3; 512]);
}

#[test]
fn the_handshake_is_told_as_a_story() {
    let mut m = Machine::ready(&numbered(4));
    m.batch(&[SvirtbEntry::read(2, BUFFER, 512), SvirtbEntry::write(9, BUFFER, 0)]);
    let mut short = [0; 2];
    m.driver.device().read(0x18, &mut short);
    m.driver.device().write(4, &[1, 2]);
    m.driver.set(Register::Status, 5);
    let told: Vec<_> = m
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Recorded::Register { device, register, direction, value, meaning } => {
                assert_eq!(&*device, "svirtb");
                Some(format!("{direction:?} {register} {value:#x}: {meaning}"))
            }
            Recorded::Finished { device, request, outcome } => {
                assert_eq!(&*device, "svirtb");
                let RequestInfo { index, operation, sector, bytes, .. } = request;
                Some(format!("entry {index}: {operation} {bytes} at sector {sector}: {outcome}"))
            }
            Recorded::Descriptor { .. } | Recorded::Other { .. } => None,
        })
        .collect();
    let expected = [
        "Read status 0x74726976: MAGIC: a svirtb device is here",
        "Write status 0x0: DRIVER_OK: the driver may describe its ring now",
        "Read status 0x0: DRIVER_OK: the device waits for the ring",
        "Write queue_addr_hi 0x0: the ring's address, upper half: 0x0",
        "Write queue_addr_lo 0x1000: the ring's address, lower half: 0x1000",
        "Write queue_size 0x10: the ring has 16 entries",
        "Write status 0x1: READY: the ring of 16 entries at 0x1000 is accepted",
        "Read status 0x1: READY: the device is live",
        "Write queue_head 0x2: doorbell: 2 entries, 0 to 1, are handed over",
        "entry 0: read 512 at sector 2: ok",
        "entry 1: write 0 at sector 9: ok",
        "Read status 0x1: READY: the device is live",
        "Read queue_tail 0x2: the device has finished all entries before 2",
        "Read no register 0x0: an access of 2 bytes at offset 0x18 meets no register; the six registers \
         begin at 0x0, 0x4, 0x8, 0xc, 0x10 and 0x14 (it reads as zeros, and a write is ignored)",
        "Write no register 0x201: an access of 2 bytes to queue_size; every register takes accesses of \
         4 bytes (it reads as zeros, and a write is ignored)",
        "Write status 0x5: status 0x5, which is unknown, may not be written when it is READY (RESET \
         may); the status is now RESET",
    ];
    assert_eq!(told, expected);
}

#[test]
fn an_observer_sees_the_status_the_ring_and_the_doorbell() {
    let mut m = Machine::ready(&numbered(4));
    m.batch(&[SvirtbEntry::read(2, BUFFER, 512)]);
    m.driver.set(Register::Status, 5);
    let seen: Vec<_> = m.events().iter().filter_map(|e| e.other().map(str::to_owned)).collect();
    let magic = Status::Magic.value();
    assert_eq!(
        seen[..6],
        [
            format!("Status {{ before: {magic}, now: 0 }}"),
            "Status { before: 0, now: 1 }".to_owned(),
            "QueueReady { queue: 0, size: 16, place: Ring { base: 4096 } }".to_owned(),
            "Notified { queue: 0 }".to_owned(),
            format!("Entry {{ index: 0, at: 4096, addr: {BUFFER}, size: 512, sector: 2, cmd: 0 }}"),
            "Submitted(RequestInfo { queue: 0, index: 0, operation: \"read\", sector: 2, bytes: 512 })"
                .to_owned(),
        ]
    );
    assert_eq!(seen[6], "Status { before: 1, now: 2 }");
    assert!(seen[7].starts_with("Broken { rule: \"svirtb 3, the order"), "{seen:?}");
    assert_eq!(seen.len(), 8);
}

#[test]
fn an_observer_sees_how_far_apart_entries_are_and_where_each_one_was_read() {
    let mut m = Machine::ready(&numbered(4));
    m.batch(&[SvirtbEntry::read(2, BUFFER, 512), SvirtbEntry::read(1, BUFFER, 512)]);
    let seen: Vec<_> = m.events().iter().filter_map(|e| e.other().map(str::to_owned)).collect();
    let spacing = seen.iter().position(|line| line.starts_with("EntrySpacing { bytes: 32"));
    let second = seen.iter().position(|line| line.starts_with("Entry { index: 1, at: 4128,"));
    assert!(spacing.is_some() && spacing < second, "{seen:#?}");
}

#[test]
fn every_breach_names_its_rule() {
    let say = |now: Status, register: Register, value: u32| {
        let mut m = Machine::off(&[0; 512], false, EntrySize::Auto, RING);
        m.bring_to(now);
        m.driver.set(register, value);
        m.complaint()
    };
    for (said, expected) in [
        (
            say(Status::Magic, Register::QueueHead, 1),
            "a write to queue_head is ignored: the status is MAGIC; the handshake was left out [svirtb 3, no doorbell before READY]",
        ),
        (
            say(Status::Reset, Register::QueueHead, 1),
            "a write to queue_head is ignored: the status is the error state (RESET); write RESET to \
             begin anew [svirtb 3, no doorbell before READY]",
        ),
        (
            say(Status::Ready, Register::QueueSize, 1),
            "a write to queue_size is ignored: the status is READY; write RESET to begin again [svirtb 2.1.1, the ring is described \
             in DRIVER_OK]",
        ),
        (
            say(Status::Ready, Register::QueueTail, 1),
            "a write to queue_tail is ignored [svirtb 2, the driver does not write queue_tail]",
        ),
        (
            say(Status::Magic, Register::Status, READY),
            "status READY may not be written when it is MAGIC (DRIVER_OK may); the status is now RESET \
             [svirtb 3, the order of initialization]",
        ),
        (
            say(Status::Reset, Register::Status, DRIVER_OK),
            "status DRIVER_OK is ignored: the device is in the error state (RESET); write RESET to begin \
             anew [svirtb 2.1, after an error the driver writes RESET]",
        ),
        (
            say(Status::DriverOk, Register::Status, READY),
            "READY is refused, queue_size is 0; the status is now RESET [svirtb 2.1.2, READY needs a \
             valid ring]",
        ),
    ] {
        assert_eq!(said, expected);
    }
}

#[test]
fn the_registers_are_the_memory_of_the_window_and_ready_is_announced_once() {
    let mut m = Machine::off(&[0; 512], false, EntrySize::Auto, RING);
    let window = RegisterPage::of_one_device().slot(0).unwrap();
    let (ram, woken) = (m.driver.ram().clone(), Arc::new(CountingLine::default()));
    let device = Device::new(&m.disk, ram.clone(), EntrySize::Auto, Tap::default()).unwrap();
    m.driver = SvirtbDriver::new(device.with_window(window.clone(), woken.clone()), ram, RING);
    assert!(!m.driver.device().was_used());
    let in_memory = |register: Register| {
        let mut word = [0; 4];
        window.read(register.offset(), &mut word);
        u32::from_le_bytes(word)
    };
    for now in Status::ALL.into_iter().chain(Status::ALL) {
        m.bring_to(now);
        assert_eq!(Register::ALL.map(in_memory), m.registers(), "{now:?}");
        m.driver.set(Register::Status, RESET);
    }
    assert!(m.driver.device().was_used());
    assert_eq!(woken.take(), 1);
}
