//! Every error that stops the device: the tail, the log, and an image that does not change.

use super::*;

const READY: u32 = 1;
const RESET: u32 = 2;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn write(sector: u64) -> SvirtbEntry {
    SvirtbEntry::write(sector, BUFFER, 512)
}

/// Each bad entry on a disk of 1300 bytes, and its log line.
fn bad_entries() -> Vec<(SvirtbEntry, &'static str)> {
    let entry = |cmd| SvirtbEntry { cmd, ..write(1) };
    let buffer = |addr, size| SvirtbEntry::write(1, addr, size);
    vec![
        (entry(2), "(unknown command, 512 bytes, sector 1)?: cmd is 0x2; 0 is read and 1 is write"),
        (
            entry(u32::MAX),
            "(unknown command, 512 bytes, sector 1)?: cmd is 0xffffffff; 0 is read and",
        ),
        (
            SvirtbEntry { cmd: 3, ..buffer(0, 0) },
            "(unknown command, 0 bytes, sector 1)?: cmd is 0x3",
        ),
        (
            buffer(0xfe01, 512),
            "(write, 512 bytes, sector 1)?: the buffer 0xfe01 + 0x200 is not in guest RAM",
        ),
        (buffer(RAM_END - 1, 2), "the buffer 0x10ffff + 0x2 is not in guest RAM"),
        (buffer(RAM_END, 1), "the buffer 0x110000 + 0x1 is not in guest RAM"),
        (buffer(0x2_0000, 1), "the buffer 0x20000 + 0x1 is not in guest RAM"),
        (buffer(0xcafe_0000, 24), "the buffer 0xcafe0000 + 0x18 is not in guest RAM"),
        (buffer(u64::MAX, 2), "the buffer 0xffffffffffffffff + 0x2 is not in guest RAM"),
        (
            buffer(u64::MAX, u64::MAX),
            "the buffer 0xffffffffffffffff + 0xffffffffffffffff is not in",
        ),
        (buffer(BUFFER, u64::MAX), "the buffer 0x8000 + 0xffffffffffffffff is not in guest RAM"),
        (buffer(0, 0x1_0001), "the buffer 0x0 + 0x10001 is not in guest RAM"),
        (
            SvirtbEntry::read(0, 0xfe01, 512),
            "(read, 512 bytes, sector 0)?: the buffer 0xfe01 + 0x200",
        ),
        (write(1 << 55), "sector 0x80000000000000 times 512 bytes does not fit in 64 bits"),
        (write(u64::MAX), "sector 0xffffffffffffffff times 512 bytes does not fit in 64 bits"),
        (
            SvirtbEntry::read(u64::MAX, BUFFER, 1),
            "(read, 1 bytes, sector 18446744073709551615)?: sector 0xffffffffffffffff times 512",
        ),
        (write(3), "the write begins past the end of the disk, which has 1300 bytes"),
        (write((1 << 55) - 1), "the write begins past the end of the disk, which has 1300 bytes"),
    ]
}

#[test]
fn every_bad_entry_stops_the_device_there_and_touches_nothing() {
    let image = &numbered(3)[..1300];
    for stride in [28, 32] {
        for (bad, said) in bad_entries() {
            for position in 0..3u32 {
                let ring = SvirtbRing { stride, ..RING };
                let entry_size = if stride == 28 { EntrySize::Packed } else { EntrySize::Padded };
                let mut m = Machine::off(image, false, entry_size, ring);
                m.driver.handshake().unwrap();
                m.fill(BUFFER, 512, 0xee);
                let mut ram = m.bytes(0, 0x1_0000);
                let mut batch = vec![write(0); usize::try_from(position).unwrap()];
                batch.extend([bad, write(1), SvirtbEntry::read(0, BUFFER + 512, 512)]);

                assert_eq!(m.batch(&batch), (RESET, position), "{bad:?}");

                let mut expected = image.to_vec();
                if position > 0 {
                    expected[..512].fill(0xee);
                }
                assert_eq!((m.image.bytes(), m.image.stable()), (expected.clone(), expected));
                let ring = usize::try_from(RING.base).unwrap()..0x2000;
                ram[ring.clone()].copy_from_slice(&m.bytes(RING.base, 0x1000));
                assert!(m.bytes(0, 0x1_0000) == ram, "RAM changed by {bad:?}");

                let complaint = m.complaint();
                let apart = format!(", with entries {stride} bytes apart");
                let said = said.replace('?', if position == 0 { "" } else { &apart });
                assert!(complaint.starts_with(&format!("entry {position} (")), "{complaint}");
                assert!(complaint.contains(&said), "{complaint}\n{said}");
                let end = format!(
                    "; queue_tail stands at {position}, the status is now RESET [svirtb 2.2.1, "
                );
                assert!(complaint.contains(&end), "{complaint}");
                assert_eq!(m.outcomes().len(), batch.len() - 2);

                // Nothing more happens until the driver writes RESET; then everything does.
                let registers = m.registers();
                m.image.log();
                m.driver.ring();
                m.driver.set(Register::QueueHead, 0);
                m.driver.set(Register::QueueSize, 3);
                for status in [0, 1, 0x7472_6976, 9] {
                    m.driver.set(Register::Status, status);
                }
                assert_eq!((m.registers(), m.image.log()), (registers, vec![]));
                m.driver.restart(RING).unwrap();
                m.driver.restart(SvirtbRing { stride, ..RING }).unwrap();
                assert_eq!(m.batch(&[write(1), write(1)]), (READY, 2));
            }
        }
    }
}

#[test]
fn a_read_only_disk_refuses_writes_and_nothing_else() {
    let mut m = Machine::off(&numbered(4), true, EntrySize::Auto, RING);
    m.driver.handshake().unwrap();
    assert_eq!(m.batch(&[SvirtbEntry::read(1, BUFFER, 512), write(2)]), (RESET, 1));
    assert_eq!(m.image.log(), ["read 512 at 512"]);
    assert_eq!(
        m.complaint(),
        "entry 1 (write, 512 bytes, sector 2), with entries 32 bytes apart: the disk is read-only \
         (readonly=on); queue_tail stands at 1, the status is now RESET [svirtb 2.2.1, cmd 1 needs a disk \
         that may be written]"
    );
}

#[test]
fn a_host_that_cannot_read_stops_the_device_there() {
    let mut m = Machine::ready(&numbered(4));
    m.faults.push(Fault::None);
    m.faults.push(Fault::After(100, EIO));
    m.fill(BUFFER, 1024, 0xcc);
    let reads = [0, 1, 2].map(|n| SvirtbEntry::read(n, BUFFER + n * 512, 512));
    assert_eq!(m.batch(&reads), (RESET, 1));
    let seen = [&[1; 512][..], &[2; 100], &[0xcc; 412]].concat();
    assert_eq!(m.bytes(BUFFER, 1024), seen);
    let complaint = m.complaint();
    assert!(complaint.contains("the host failed at byte 612: Input/output error"), "{complaint}");
    assert!(complaint.ends_with("[the host serves the image]"), "{complaint}");
    m.driver.restart(RING).unwrap();
    assert_eq!(m.batch(&reads), (READY, 3));
}

#[test]
fn a_host_that_cannot_write_keeps_and_flushes_what_came_before() {
    let mut m = Machine::ready(&numbered(4));
    m.fill(BUFFER, 512, 0xee);
    m.faults.push(Fault::None);
    m.faults.push(Fault::After(0, ENOSPC));
    assert_eq!(m.batch(&[write(0), write(1), write(2)]), (RESET, 1));
    assert_eq!(m.image.log(), ["write 512 at 0", "flush"]);
    let expected = [&[0xee; 512][..], &numbered(4)[512..]].concat();
    assert_eq!((m.image.bytes(), m.image.stable()), (expected.clone(), expected));
    let complaint = m.complaint();
    assert!(
        complaint.contains("the host failed at byte 512: No space left on device"),
        "{complaint}"
    );
}

#[test]
fn a_host_that_cannot_flush_takes_tail_back_to_the_first_write() {
    let mut m = Machine::ready(&numbered(4));
    (0..4).for_each(|_| m.faults.push(Fault::None));
    m.faults.push(Fault::After(0, EIO));
    let read = SvirtbEntry::read(0, BUFFER + 512, 512);
    assert_eq!(m.batch(&[read, write(1), read, write(2)]), (RESET, 1));
    assert_eq!(m.image.stable(), numbered(4));
    assert_eq!(
        m.complaint(),
        "entry 1: the writes from this entry on may not be on stable storage: the host failed to write data to \
         stable storage: Input/output error (os error 5); queue_tail stands at 1, the status is now RESET [the \
         host serves the image]"
    );
    let outcomes = m.outcomes();
    assert_eq!(outcomes.len(), 5);
    assert!(outcomes[4].starts_with("1 flush: the writes from this entry on"), "{outcomes:?}");
    // A failed flush is final: the host may have dropped what it could not write, so no later flush can be trusted.
    m.driver.restart(RING).unwrap();
    assert_eq!(m.batch(&[read, write(1)]), (RESET, 1));
    assert!(
        m.complaint().contains("an earlier flush failed (Input/output error"),
        "{}",
        m.complaint()
    );
    assert_eq!(m.image.stable(), numbered(4));
    m.driver.restart(RING).unwrap();
    assert_eq!(m.batch(&[read, read]), (READY, 2));
}

#[test]
fn a_bad_entry_and_a_failed_flush_in_one_batch_are_both_told() {
    let mut m = Machine::ready(&numbered(4));
    m.faults.push(Fault::None);
    m.faults.push(Fault::After(0, EIO));
    let read = SvirtbEntry::read(0, BUFFER + 512, 0);
    assert_eq!(m.batch(&[read, write(1), SvirtbEntry { cmd: 9, ..read }]), (RESET, 1));
    let complaints = m.driver.device().reporter().log();
    assert_eq!(complaints.count("svirtb 2.2.1, cmd is 0 or 1"), 1);
    assert_eq!(complaints.count("the host serves the image"), 1);
}

#[test]
fn an_error_behind_the_end_of_the_ring_names_its_index() {
    let mut m = Machine::ready(&numbered(4));
    m.batch(&[SvirtbEntry::read(0, BUFFER, 512); 14]);
    let read = SvirtbEntry::read(0, BUFFER, 512);
    assert_eq!(m.batch(&[read, read, write(99), read]), (RESET, 0));
    assert!(m.complaint().starts_with("entry 0 (write, 512 bytes, sector 99): "));
}
