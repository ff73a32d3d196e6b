use std::fs::File;
use std::io;

use super::buffers::{IOV_FEW, IOV_MAX};
use super::*;

const KIB: u64 = 1024;

/// 64 KiB of RAM at 0 and 64 KiB at 1 MiB, with nothing in between.
fn ram() -> GuestRam {
    GuestRam::anonymous(&[(0, 64 << 10), (1 << 20, 64 << 10)]).unwrap()
}

fn file_with(bytes: &[u8]) -> File {
    use std::io::Write;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn a_range_is_in_ram_wholly_or_not_at_all() {
    let ram = ram();
    for (addr, len) in [(0, 64 * KIB), (0xffff, 1), (1 << 20, 64 * KIB), (u64::MAX, 0)] {
        assert_eq!(ram.check(addr, len), Ok(()), "{addr:#x}+{len:#x}");
    }
    for (addr, len) in [
        (0, 64 * KIB + 1),
        (0xffff, 2),
        (0x8_0000, 1),
        ((1 << 20) - 1, 2),
        (u64::MAX, 1),
        (u64::MAX, 2),
        (1, u64::MAX),
        (0, u64::MAX),
    ] {
        assert_eq!(ram.check(addr, len), Err(OutOfRam { addr, len }), "{addr:#x}+{len:#x}");
        let mut buffers = Buffers::new(ram.clone());
        assert_eq!(buffers.push(addr, len), Err(OutOfRam { addr, len }));
        assert_eq!((buffers.len(), buffers.ranges()), (0, 0));
    }
}

#[test]
fn a_write_that_does_not_fit_writes_nothing() {
    let ram = ram();
    assert!(ram.write(0xfffe, &[1, 2, 3]).is_err());
    assert_eq!(ram.read::<2>(0xfffe), Ok([0, 0]));
    assert_eq!(ram.read::<4>(0xfffe), Err(OutOfRam { addr: 0xfffe, len: 4 }));
}

#[test]
fn indices_are_little_endian_and_aligned() {
    let ram = ram();
    ram.store_u16(0x10, 0x1234).unwrap();
    assert_eq!(ram.read::<2>(0x10), Ok([0x34, 0x12]));
    assert_eq!(ram.load_u16(0x10), Ok(0x1234));
    assert!(ram.load_u16(0x11).is_err());
    assert!(ram.load_u16(0x1_0000).is_err());
}

#[test]
fn buffers_are_cut_at_any_byte() {
    for at in 0..=30 {
        let ram = ram();
        ram.write(0x100, b"abcdefghij").unwrap();
        ram.write(0x200, b"klmnopqrst").unwrap();
        let mut head = Buffers::single(ram.clone(), 0x100, 10).unwrap();
        head.push(0x0, 0).unwrap();
        head.push(0x200, 10).unwrap();
        assert_eq!((head.len(), head.ranges()), (20, 2));
        let tail = head.split_off(at);
        let cut = at.min(20) as usize;
        let (mut a, mut b) = ([0; 30], [0; 30]);
        assert_eq!(head.copy_to(&mut a), cut);
        assert_eq!(tail.copy_to(&mut b), 20 - cut);
        assert_eq!((head.len(), tail.len()), (cut as u64, 20 - cut as u64));
        assert_eq!([&a[..cut], &b[..20 - cut]].concat(), b"abcdefghijklmnopqrst");
    }
}

#[test]
fn copies_stop_at_the_shorter_side() {
    let ram = ram();
    let mut buffers = Buffers::single(ram.clone(), 0x100, 3).unwrap();
    buffers.push(0x200, 3).unwrap();
    assert_eq!(buffers.copy_from(b"12345678"), 6);
    assert_eq!(ram.read::<4>(0x100), Ok(*b"123\0"));
    assert_eq!(ram.read::<4>(0x200), Ok(*b"456\0"));
    assert_eq!(buffers.copy_from(b"ab"), 2);
    assert_eq!(ram.read::<4>(0x100), Ok(*b"ab3\0"));
    let mut four = [0; 4];
    assert_eq!(buffers.copy_to(&mut four), 4);
    assert_eq!(&four, b"ab34");
}

#[test]
fn file_and_buffers_meet_without_a_copy() {
    let ram = ram();
    let mut buffers = Buffers::single(ram.clone(), 0x100, 4).unwrap();
    buffers.push((1 << 20) + 5, 4).unwrap();
    let file = file_with(b"0123456789abcdef");
    assert_eq!(buffers.read_from(&file, 2, 0, u64::MAX).unwrap(), 8);
    assert_eq!(ram.read::<4>(0x100), Ok(*b"2345"));
    assert_eq!(ram.read::<4>((1 << 20) + 5), Ok(*b"6789"));
    // The end of the file is a short read, not an error.
    assert_eq!(buffers.read_from(&file, 14, 3, u64::MAX).unwrap(), 2);
    assert_eq!(ram.read::<4>(0x100), Ok(*b"234e"));
    assert_eq!(ram.read::<4>((1 << 20) + 5), Ok(*b"f789"));
    assert_eq!(buffers.write_to(&file, 0, 2, u64::MAX, false).unwrap(), 6);
    assert_eq!(buffers.write_to(&file, 8, 7, u64::MAX, true).unwrap(), 1);
    let back = Buffers::single(ram.clone(), 0x300, 16).unwrap();
    assert_eq!(back.read_from(&file, 0, 0, u64::MAX).unwrap(), 16);
    assert_eq!(ram.read::<16>(0x300), Ok(*b"4ef7896799abcdef"));
}

#[test]
fn more_buffers_than_one_call_takes_are_a_short_transfer() {
    let mut buffers = Buffers::new(ram());
    for _ in 0..IOV_MAX + 10 {
        buffers.push(0x100, 1).unwrap();
    }
    let file = file_with(&[7; 4096]);
    assert_eq!(buffers.read_from(&file, 0, 0, u64::MAX).unwrap(), IOV_MAX as u64);
    assert_eq!(buffers.read_from(&file, 0, IOV_MAX as u64, u64::MAX).unwrap(), 10);
}

#[test]
fn an_offset_no_file_can_have_is_an_error() {
    let buffers = Buffers::single(ram(), 0x100, 4).unwrap();
    let file = file_with(b"");
    assert_eq!(
        buffers.read_from(&file, 1 << 63, 0, u64::MAX).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
}

#[test]
fn ram_of_two_regions_that_meet_is_one() {
    let ram = GuestRam::anonymous(&[(0, 4096), (4096, 4096)]).unwrap();
    let seam = 4096 - 4;
    assert_eq!((ram.check(seam, 8), ram.check(0, 8192)), (Ok(()), Ok(())));
    assert!(ram.check(seam, 4101).is_err());
    ram.write(seam, b"01234567").unwrap();
    assert_eq!(ram.read::<8>(seam), Ok(*b"01234567"));
    let mut buffers = Buffers::single(ram.clone(), seam, 8).unwrap();
    assert_eq!(buffers.read_from(&file_with(b"abcdefgh"), 0, 0, u64::MAX).unwrap(), 8);
    assert_eq!(ram.read::<8>(seam), Ok(*b"abcdefgh"));
    // For the host each is two: where these are too many for one call, it moves fewer, and the rest later.
    for _ in 1..IOV_FEW {
        buffers.push(seam, 8).unwrap();
    }
    let file = file_with(&[7; 4096]);
    assert_eq!(buffers.read_from(&file, 0, 0, u64::MAX).unwrap(), 32);
    assert_eq!(buffers.read_from(&file, 0, 32, u64::MAX).unwrap(), 32);
}

#[test]
fn one_call_moves_no_more_than_it_may_wherever_that_ends_in_a_buffer() {
    let ram = ram();
    let mut buffers = Buffers::single(ram.clone(), 0x100, 4).unwrap();
    buffers.push(0x200, 4).unwrap();
    let file = file_with(b"01234567");
    for most in 0..9 {
        for at in [0x100, 0x200] {
            ram.write(at, b"....").unwrap();
        }
        assert_eq!(buffers.read_from(&file, 0, 0, most).unwrap(), most);
        let expected = [&b"01234567"[..most as usize], &b"........"[most as usize..]].concat();
        let mut found = [0; 8];
        buffers.copy_to(&mut found);
        assert_eq!(found[..], expected);
    }
    assert_eq!(buffers.read_from(&file, 5, 3, 2).unwrap(), 2);
    let mut found = [0; 8];
    buffers.copy_to(&mut found);
    assert_eq!(&found, b"01256567");
}

#[test]
fn a_window_shows_its_part_of_ram_also_across_two_regions() {
    let ram = GuestRam::anonymous(&[(0, 4096), (4096, 4096)]).unwrap();
    // Within a region, across two with fields that are in one, and with fields that are in both.
    for addr in [0x100, 4096 - 8, 4096 - 6] {
        let window = Window::new(&ram, addr, 32).unwrap();
        window.store_u16(2, 0x1234);
        window.write_pair(4, [1, 0x8000_0002]);
        assert_eq!(ram.read::<2>(addr + 2), Ok([0x34, 0x12]));
        assert_eq!(ram.read::<8>(addr + 4), Ok([1, 0, 0, 0, 2, 0, 0, 0x80]));
        ram.write(addr + 16, b"0123456789abcdef").unwrap();
        let words = [*b"01234567", *b"89abcdef"].map(u64::from_le_bytes);
        assert_eq!((window.load_u16(2), window.read_words(16)), (0x1234, words));
    }
    for addr in [8192 - 16, u64::MAX - 1] {
        assert!(Window::new(&ram, addr, 32).is_err());
    }
}

#[test]
fn words_are_read_anywhere_in_ram_and_nowhere_else() {
    let ram = GuestRam::anonymous(&[(0, 4096), (4096, 4096)]).unwrap();
    for addr in [0, 1, 4, 4096 - 8, 4096 - 7, 8192 - 16] {
        ram.write(addr, b"0123456789abcdef").unwrap();
        let words = [*b"01234567", *b"89abcdef"].map(u64::from_le_bytes);
        let values = [*b"0123", *b"4567", *b"89ab", *b"cdef"].map(u32::from_le_bytes);
        assert_eq!((ram.read_words(addr), ram.read_u32s(addr)), (Ok(words), Ok(values)));
    }
    for addr in [8192 - 15, 8192, u64::MAX - 3] {
        assert_eq!(ram.read_words(addr), Err(OutOfRam { addr, len: 16 }));
        assert_eq!(ram.read_u32s::<4>(addr), Err(OutOfRam { addr, len: 16 }));
    }
    assert_eq!((ram.write_byte(8191, 7), ram.write_byte(8192, 7).is_err()), (Ok(()), true));
    assert_eq!(ram.read::<1>(8191), Ok([7]));
}
