//! Entries that are transferred together.

use super::*;

const SECTORS: u64 = 16;

fn machine() -> Machine {
    let image: Vec<u8> = (0..SECTORS * 512).map(|n| (n / 512) as u8 + 1).collect();
    let mut machine = Machine::unobserved(&image, false, EntrySize::Padded, RING);
    machine.driver.handshake().unwrap();
    machine
}

fn ready(tail: u32) -> (u32, u32) {
    (Status::Ready.value(), tail)
}

#[test]
fn sectors_in_a_row_are_one_call_of_the_host() {
    let mut m = machine();
    let reads: Vec<_> = (0..8).map(|n| SvirtbEntry::read(n, BUFFER + (7 - n) * 512, 512)).collect();
    assert_eq!(m.batch(&reads), ready(8));
    assert_eq!(m.image.log(), ["read 4096 at 0"]);
    for n in 0..8 {
        assert_eq!(m.bytes(BUFFER + (7 - n) * 512, 512), [n as u8 + 1; 512]);
    }
    // A write between reads, another sector, another size, and the end of the ring.
    let mixed = [
        SvirtbEntry::read(0, BUFFER, 1024),
        SvirtbEntry::read(2, BUFFER + 1024, 512),
        SvirtbEntry::write(3, BUFFER, 512),
        SvirtbEntry::write(4, BUFFER, 512),
        SvirtbEntry::read(5, BUFFER, 512),
        SvirtbEntry::read(7, BUFFER, 512),
        SvirtbEntry::read(8, BUFFER, 512),
        SvirtbEntry::read(9, BUFFER, 512),
        SvirtbEntry::read(10, BUFFER, 512),
    ];
    assert_eq!(m.batch(&mixed), ready(1));
    let log =
        ["read 1536 at 0", "write 1024 at 1536", "read 512 at 2560", "read 2048 at 3584", "flush"];
    assert_eq!(m.image.log(), log);
}

#[test]
fn a_bad_entry_ends_what_is_joined_and_nothing_of_it_or_after_it_is_done() {
    let mut m = machine();
    let entries = [
        SvirtbEntry::write(14, BUFFER, 512),
        SvirtbEntry::write(15, BUFFER, 512),
        SvirtbEntry::write(16, BUFFER, 512),
        SvirtbEntry::write(0, BUFFER, 512),
    ];
    m.fill(BUFFER, 512, 0xaa);
    assert_eq!(m.batch(&entries), (Status::Reset.value(), 2));
    assert_eq!(m.image.log(), ["write 1024 at 7168", "flush"]);
}

#[test]
fn a_failure_of_the_host_is_found_at_its_entry() {
    let mut m = machine();
    m.fill(BUFFER, 512, 0xaa);
    let entries = [0, 1, 2, 3].map(|n| SvirtbEntry::write(n, BUFFER, 512));
    // The joined transfer fails, then the third entry.
    for fault in
        [Fault::After(700, libc::EIO), Fault::None, Fault::None, Fault::After(0, libc::EIO)]
    {
        m.faults.push(fault);
    }
    assert_eq!(m.batch(&entries), (Status::Reset.value(), 2));
    assert!(m.complaint().starts_with("entry 2 (write, 512 bytes, sector 2)"), "{}", m.complaint());
    assert_eq!(m.image.bytes()[..1536], [[0xaa; 1024].as_slice(), &[3; 512]].concat());
    assert_eq!(m.image.stable()[..1024], [0xaa; 1024]);
}

#[test]
fn a_read_into_the_ring_takes_effect_before_the_next_entry() {
    let mut m = machine();
    // Sector 1 replaces the third entry of the ring by zeros and twos, which is not a valid entry.
    let into_ring = RING.base + 2 * RING.stride;
    let entries = [
        SvirtbEntry::read(0, BUFFER, 512),
        SvirtbEntry::read(1, into_ring, 32),
        SvirtbEntry::read(1, BUFFER, 512),
    ];
    assert_eq!(m.batch(&entries), (Status::Reset.value(), 2));
    assert_eq!(m.image.log(), ["read 512 at 0", "read 32 at 512"]);
}
