//! How the device detects the distance of the driver's entries.

use super::*;

const READY: u32 = 1;
const RESET: u32 = 2;

/// Two readings of entry 1, in a ring at `RING.base`: RAM is given the bytes of the packed entry at 28 and of
/// the padded one at 32, and where both are given, the padded one wins where they overlap.
fn entry_1(m: &Machine, packed: Option<SvirtbEntry>, padded: Option<SvirtbEntry>) {
    for (entry, stride) in [(packed, 28), (padded, 32)] {
        if let Some(entry) = entry {
            m.driver.ram().write(RING.base + stride, &entry.to_bytes()).unwrap();
        }
    }
}

/// What becomes of entries 0 and 1 of a ring in RAM.
fn rings(m: &mut Machine) -> (u32, u32) {
    m.driver.set(Register::QueueHead, 2);
    (m.driver.status(), m.driver.tail())
}

#[test]
fn ordinary_entries_settle_it_whatever_the_driver_reads_first() {
    for stride in [28, 32] {
        for sector in [0, 1, 2, 7] {
            for cmd in [0, 1] {
                for next in [false, true] {
                    let ring = SvirtbRing { stride, ..RING };
                    let mut m = Machine::off(&numbered(8), false, EntrySize::Auto, ring);
                    m.driver.handshake().unwrap();
                    m.fill(BUFFER, 512, 0xdd);
                    let entry = SvirtbEntry { addr: BUFFER, size: 512, sector, cmd };
                    assert!(m.driver.serve(SvirtbEntry::read(3, BUFFER, 0)).unwrap());
                    m.driver.queue(entry).unwrap();
                    if next {
                        m.driver.queue(SvirtbEntry::read(4, BUFFER + 512, 512)).unwrap();
                    }
                    m.driver.ring();
                    assert_eq!(m.registers()[0], READY, "{stride} {entry:?}");
                    let verb = if cmd == 0 { "read" } else { "write" };
                    let expected = format!("{verb} 512 at {}", sector * 512);
                    assert_eq!(m.image.log()[0], expected, "{stride} {entry:?}");
                }
            }
        }
    }
}

#[test]
fn of_two_readings_the_one_that_makes_sense_counts() {
    let good = |sector| SvirtbEntry::read(sector, BUFFER, 512);
    // (packed reading, padded reading, the sector that is read)
    let cases = [
        (Some(good(1)), None, Some(1)),
        (None, Some(good(2)), Some(2)),
        // Neither fits: 32, and an error.
        (Some(SvirtbEntry { cmd: 2, ..good(1) }), None, None),
        (None, Some(SvirtbEntry { cmd: 2, ..good(2) }), None),
        (Some(SvirtbEntry::read(1, BUFFER, 1 << 40)), None, None),
        (None, Some(SvirtbEntry::write(1, 0xcafe_0000, 4)), None),
    ];
    for (packed, padded, sector) in cases {
        let mut m = Machine::ready(&numbered(8));
        // What lies around is no entry in either reading.
        m.fill(RING.base + 28, 64, 0xff);
        entry_1(&m, packed, padded);
        let end = rings(&mut m);
        let log: Vec<_> = sector.map(|s| format!("read 512 at {}", s * 512)).into_iter().collect();
        assert_eq!(m.image.log(), log, "{packed:?} {padded:?}");
        assert_eq!(end, if sector.is_some() { (READY, 2) } else { (RESET, 1) });
        if sector.is_none() {
            let complaint = m.complaint();
            assert!(complaint.contains(", with entries 32 bytes apart: "), "{complaint}");
        }
    }
}

#[test]
fn where_both_make_sense_it_is_32() {
    // All zeros: a read of no bytes at address 0 in both readings.
    let mut m = Machine::ready(&numbered(8));
    assert_eq!(rings(&mut m), (READY, 2));
    // Entry 2 exists in the packed reading only, so the ring stays at 32 and fails there.
    m.fill(RING.base + 64, 32, 0xff);
    m.driver.ram().write(RING.base + 56, &SvirtbEntry::read(1, 0, 0).to_bytes()).unwrap();
    m.driver.set(Register::QueueHead, 3);
    assert_eq!((m.driver.status(), m.driver.tail()), (RESET, 2));
}

#[test]
fn it_is_settled_once_for_every_ready() {
    let mut m = Machine::ready(&numbered(8));
    let packed = SvirtbRing { stride: 28, ..RING };
    for (ring, other) in [(packed, RING), (RING, packed), (packed, RING)] {
        m.driver.restart(ring).unwrap();
        m.fill(RING.base, 0x400, 0);
        for _ in 0..40 {
            assert!(m.driver.serve(SvirtbEntry::read(5, BUFFER, 512)).unwrap());
        }
        // Entries in the other way are not understood any more.
        let index = m.driver.queue(SvirtbEntry::read(6, BUFFER, 512)).unwrap();
        m.fill(RING.base, 0x400, 0xff);
        let at = RING.base + u64::from(index) * other.stride;
        m.driver.ram().write(at, &SvirtbEntry::read(6, BUFFER, 512).to_bytes()).unwrap();
        m.driver.ring();
        assert_eq!((m.driver.status(), m.driver.tail()), (RESET, index));
    }
}

#[test]
fn what_the_owner_says_is_never_doubted() {
    for (entry_size, stride) in [(EntrySize::Padded, 28), (EntrySize::Packed, 32)] {
        let mut m = Machine::off(&numbered(8), false, entry_size, SvirtbRing { stride, ..RING });
        m.driver.handshake().unwrap();
        m.fill(RING.base, 0x400, 0xff);
        let end = m.batch(&[SvirtbEntry::read(1, BUFFER, 512), SvirtbEntry::read(2, BUFFER, 512)]);
        assert_eq!(end, (RESET, 1));
    }
}

#[test]
fn a_ring_with_no_room_for_32_is_packed() {
    // Entries of zeros make sense in both readings; but only packed does this ring lie in RAM.
    let ring = SvirtbRing { base: RAM_END - 28 * 16, size: 16, stride: 28 };
    let mut m = Machine::off(&numbered(8), false, EntrySize::Auto, ring);
    m.driver.handshake().unwrap();
    m.driver.set(Register::QueueHead, 2);
    assert_eq!(m.driver.status(), READY);
    let last = ring.base + 28 * 15;
    m.driver.ram().write(last, &SvirtbEntry::read(7, BUFFER, 512).to_bytes()).unwrap();
    m.driver.set(Register::QueueHead, 0);
    assert_eq!((m.driver.status(), m.driver.tail()), (READY, 0));
    assert_eq!(m.bytes(BUFFER, 512), [8; 512]);
}

#[test]
fn a_sector_0_read_by_a_packed_driver_is_no_empty_entry_of_a_padded_one() {
    // Read 4 bytes too late it has size 0 and cmd 0, at an address far outside RAM.
    let ring = SvirtbRing { stride: 28, ..RING };
    let mut m = Machine::off(&numbered(8), false, EntrySize::Auto, ring);
    m.driver.handshake().unwrap();
    m.batch(&[SvirtbEntry::read(0, BUFFER, 512), SvirtbEntry::read(0, BUFFER + 512, 512)]);
    assert_eq!(m.bytes(BUFFER, 1024), [1; 1024]);
}

#[test]
fn an_entry_0_alone_settles_nothing() {
    // A ring of two: 0, 1, 0, 1. Entry 0 is the same in both readings.
    for stride in [28, 32] {
        let ring = SvirtbRing { stride, size: 2, ..RING };
        let mut m = Machine::off(&numbered(8), false, EntrySize::Auto, ring);
        m.driver.handshake().unwrap();
        m.fill(RING.base, 0x100, 0xff);
        for sector in 0..6 {
            assert!(m.driver.serve(SvirtbEntry::read(sector, BUFFER, 512)).unwrap());
            assert_eq!(m.bytes(BUFFER, 1)[0], sector.to_le_bytes()[0] + 1);
        }
    }
}
