//! What entries do: to the disk, to RAM, alone and in batches, within the disk and at its ragged end.

use super::*;

const READY: u32 = 1;

/// The distances that a driver may use, each with a matching configuration of the device.
const STRIDES: [(u64, EntrySize); 4] = [
    (32, EntrySize::Auto),
    (28, EntrySize::Auto),
    (32, EntrySize::Padded),
    (28, EntrySize::Packed),
];

#[test]
fn entries_go_round_the_ring_for_ever() {
    for (stride, entry_size) in STRIDES {
        let ring = SvirtbRing { stride, size: 5, ..RING };
        let mut m = Machine::off(&numbered(9), false, entry_size, ring);
        m.driver.handshake().unwrap();
        let mut image = numbered(9);
        for n in 0..40u8 {
            let sector = u64::from(n % 9);
            let at = usize::from(n % 9) * 512;
            assert!(m.driver.serve(SvirtbEntry::read(sector, BUFFER, 512)).unwrap());
            assert_eq!(m.bytes(BUFFER, 512), image[at..at + 512]);
            m.fill(BUFFER, 512, 100 + n);
            image[at..at + 512].fill(100 + n);
            assert!(m.driver.serve(SvirtbEntry::write(sector, BUFFER, 512)).unwrap());
            assert_eq!(m.driver.tail(), (2 * u32::from(n) + 2) % 5);
        }
        assert_eq!((m.image.bytes(), m.image.stable()), (image.clone(), image));
        m.no_complaint();
    }
}

#[test]
fn a_batch_is_served_in_order_and_flushed_once() {
    for (stride, entry_size) in STRIDES {
        let ring = SvirtbRing { stride, ..RING };
        let mut m = Machine::off(&numbered(4), false, entry_size, ring);
        m.driver.handshake().unwrap();
        for (n, fill) in [(0, 0xa1), (1, 0xa2), (2, 0)] {
            m.fill(BUFFER + n * 512, 512, fill);
        }
        let [first, second, third] = [0, 1, 2].map(|n| BUFFER + n * 512);
        let end = m.batch(&[
            SvirtbEntry::read(1, third, 512),
            SvirtbEntry::write(1, first, 512),
            SvirtbEntry::read(1, third + 512, 512),
            SvirtbEntry::write(1, second, 512),
            SvirtbEntry::read(1, third + 1024, 512),
        ]);
        assert_eq!(end, (READY, 5));
        let seen = [[2; 512], [0xa1; 512], [0xa2; 512]].concat();
        assert_eq!(m.bytes(third, 3 * 512), seen);
        let log = ["read 512 at 512", "write 512 at 512", "read 512 at 512", "write 512 at 512"];
        assert_eq!(m.image.log(), [&log[..], &["read 512 at 512", "flush"]].concat());
        assert_eq!(m.image.stable(), m.image.bytes());
        // The same once more, with the end of the ring within the batch.
        for n in 0..10 {
            m.driver.queue(SvirtbEntry::read(n % 4, first, 512)).unwrap();
        }
        let end = m.batch(&[SvirtbEntry::write(0, second, 512), SvirtbEntry::read(0, first, 512)]);
        assert_eq!(end, (READY, 1));
        assert_eq!(m.bytes(first, 512), [0xa2; 512]);
    }
}

#[test]
fn nothing_written_nothing_flushed() {
    let mut m = Machine::ready(&numbered(4));
    m.batch(&[SvirtbEntry::read(0, BUFFER, 512), SvirtbEntry::write(0, BUFFER, 0)]);
    assert_eq!(m.image.log(), ["read 512 at 0"]);
    m.driver.ring();
    assert_eq!(m.image.log(), [""; 0]);
}

#[test]
fn a_full_ring_of_the_genuine_drivers_size_in_one_doorbell() {
    let ring = SvirtbRing { base: 0x10_0000, size: 0x1000, stride: 32 };
    let ram = [(0, 8 << 20)];
    let mut m = Machine::with_ram(&ram, &vec![0; 4096 * 512], false, EntrySize::Auto, ring);
    m.driver.handshake().unwrap();
    let entries: Vec<_> = (0..4095)
        .map(|n| {
            let addr = (4 << 20) + n * 512;
            m.fill(addr, 512, (n % 251).to_le_bytes()[0]);
            SvirtbEntry::write(4095 - n, addr, 512)
        })
        .collect();
    assert_eq!(m.batch(&entries), (READY, 4095));
    let image = m.image.bytes();
    for n in 0..4095 {
        assert_eq!(image[(4095 - n) * 512], (n % 251).to_le_bytes()[0]);
    }
    assert_eq!(m.image.log().len(), 4096);
}

#[test]
fn large_entries_are_legal_and_served_in_pieces() {
    let ring = SvirtbRing { base: 0x1000, size: 0x1000, stride: 32 };
    let ram = [(0, 8 << 20)];
    let image: Vec<u8> = (0..3u32 << 20).map(|n| (n % 253).to_le_bytes()[0]).collect();
    let mut m = Machine::with_ram(&ram, &image, false, EntrySize::Auto, ring);
    m.driver.handshake().unwrap();
    let size = (2 << 20) + 777;
    assert_eq!(m.batch(&[SvirtbEntry::read(1, 4 << 20, size)]), (READY, 1));
    assert_eq!(m.bytes(4 << 20, (2 << 20) + 777), image[512..][..(2 << 20) + 777]);
    let pieces = ["read 1048576 at 512", "read 1048576 at 1049088", "read 777 at 2097664"];
    assert_eq!(m.image.log(), pieces);
    // As many entries of 1 MiB as the genuine ring takes.
    m.image.hollow_out();
    let before = m.image.moved();
    assert_eq!(m.batch(&vec![SvirtbEntry::write(0, 4 << 20, 1 << 20); 4095]), (READY, 0));
    assert_eq!(m.image.moved() - before, 4095 << 20);
    m.no_complaint();
}

#[test]
fn any_number_of_bytes_at_any_address_is_a_buffer() {
    let mut m = Machine::ready(&numbered(8));
    for (addr, size) in
        [(0, 1), (BUFFER + 1, 511), (0xfffd, 3), (RAM_END - 1300, 1300), (1 << 20, 3000)]
    {
        let len = usize::try_from(size).unwrap();
        m.fill(addr, len, 0);
        assert!(m.driver.serve(SvirtbEntry::read(1, addr, size)).unwrap());
        assert_eq!(m.bytes(addr, len), numbered(8)[512..][..len], "{addr:#x} + {size}");
    }
    m.fill(BUFFER, 700, 0xee);
    assert!(m.driver.serve(SvirtbEntry::write(6, BUFFER + 3, 600)).unwrap());
    let image = [&numbered(6)[..], &[0xee; 600], &[8; 424]].concat();
    assert_eq!(m.image.bytes(), image);
}

#[test]
fn ring_and_buffers_may_lie_above_4_gib() {
    let high = 5 << 32;
    let ring = SvirtbRing { base: high + 0x1000, size: 16, stride: 32 };
    let ram = [(0, 64 << 10), (high, 64 << 10)];
    let mut m = Machine::with_ram(&ram, &numbered(4), false, EntrySize::Auto, ring);
    m.driver.handshake().unwrap();
    assert_eq!(m.registers(), [READY, 16, 5, 0x1000, 0, 0]);
    let buffer = high + BUFFER;
    assert_eq!(
        m.batch(&[SvirtbEntry::read(2, buffer, 512), SvirtbEntry::read(3, 0, 512)]),
        (READY, 2)
    );
    assert_eq!((m.bytes(buffer, 512), m.bytes(0, 512)), (vec![3; 512], vec![4; 512]));
}

#[test]
fn an_empty_entry_succeeds_whatever_else_it_says() {
    let mut m = Machine::off(&numbered(2), true, EntrySize::Padded, RING);
    m.driver.handshake().unwrap();
    let end = m.batch(&[
        SvirtbEntry::read(0, BUFFER, 0),
        SvirtbEntry::write(0, BUFFER, 0),
        SvirtbEntry::read(u64::MAX, u64::MAX, 0),
        SvirtbEntry::write(u64::MAX, 0xcafe_0000, 0),
    ]);
    assert_eq!(end, (READY, 4));
    assert_eq!(m.image.log(), [""; 0]);
    assert_eq!(m.outcomes(), ["0 read: ok", "1 write: ok", "2 read: ok", "3 write: ok"]);
    m.no_complaint();
}

#[test]
fn a_read_copies_what_exists_and_leaves_the_rest_untouched() {
    // 1300 bytes: two sectors and 276 bytes.
    let image = &numbered(3)[..1300];
    let mut m = Machine::ready(image);
    let cases: [(u64, u64, &[u8]); 6] = [
        (2, 512, &image[1024..1300]),
        (0, 2000, image),
        (1, 788, &image[512..1300]),
        (3, 512, &[]),
        (1 << 54, 512, &[]),
        (u64::MAX / 512, 512, &[]),
    ];
    for (sector, size, bytes) in cases {
        let len = usize::try_from(size).unwrap();
        m.fill(BUFFER, len, 0xcc);
        assert!(m.driver.serve(SvirtbEntry::read(sector, BUFFER, size)).unwrap());
        let expected = [bytes, &vec![0xcc; len - bytes.len()]].concat();
        assert_eq!(m.bytes(BUFFER, len), expected, "{size} bytes of sector {sector}");
    }
    assert_eq!(
        m.outcomes(),
        [
            "0 read: ok, 276 of 512 bytes (end of the disk)",
            "1 read: ok, 1300 of 2000 bytes (end of the disk)",
            "2 read: ok",
            "3 read: ok, 0 of 512 bytes (end of the disk)",
            "4 read: ok, 0 of 512 bytes (end of the disk)",
            "5 read: ok, 0 of 512 bytes (end of the disk)",
        ]
    );
    m.no_complaint();
}

#[test]
fn a_write_over_the_end_stores_what_fits_and_is_warned_of_once() {
    let mut m = Machine::ready(&numbered(3)[..1300]);
    for fill in 0..20 {
        m.fill(BUFFER, 2048, fill);
        assert!(m.driver.serve(SvirtbEntry::write(1, BUFFER, 2048)).unwrap());
        let expected = [[1; 512].to_vec(), vec![fill; 788]].concat();
        assert_eq!((m.image.bytes(), m.image.stable()), (expected.clone(), expected));
    }
    assert_eq!(m.outcomes()[3], "3 write: ok, 788 of 2048 bytes (end of the disk)");
    assert_eq!(m.driver.device().straddling_writes(), 20);
    assert_eq!(
        m.complaint(),
        "entry 0: only the first 788 of 2048 bytes at sector 1 are stored, because the disk ends at byte \
         1300 (the entry succeeds; further ones are only counted) [svirtb 2.2.1, a write ends on the disk]"
    );
    assert_eq!(m.driver.device().reporter().log().count(crate::svirtb::rules::STRADDLES), 1);
}

#[test]
fn the_genuine_driver_finds_the_size_uses_the_disk_and_starts_again() {
    // It fills a buffer with a pattern, reads one sector after the other until a buffer comes back untouched,
    // and counts the last sector's bytes. It never polls.
    let image = &numbered(9)[..8 * 512 + 100];
    let ring = SvirtbRing { base: 0x1000, size: 0x200, stride: 32 };
    let mut m = Machine::off(image, false, EntrySize::Auto, ring);
    for round in 0..2 {
        if round == 0 { m.driver.handshake() } else { m.driver.restart(ring) }.unwrap();
        let mut found = 0;
        for sector in 0.. {
            m.fill(BUFFER, 512, 0xa5);
            assert!(m.driver.serve(SvirtbEntry::read(sector, BUFFER, 512)).unwrap());
            match m.bytes(BUFFER, 512).iter().filter(|b| **b != 0xa5).count() {
                0 => break,
                bytes => found += bytes,
            }
        }
        assert_eq!(found, image.len());
        m.fill(BUFFER, 512, 0x40 + round);
        assert!(m.driver.serve(SvirtbEntry::write(8, BUFFER, 100)).unwrap());
        let expected = [&image[..8 * 512], &[0x40 + round; 100]].concat();
        assert_eq!(m.image.stable(), expected);
        m.driver.set(Register::Status, Status::Reset.value());
    }
    m.no_complaint();
}
