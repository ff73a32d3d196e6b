use super::*;
use crate::layout::{GDT, GIB, PAGE_TABLES, START_INFO, ZERO_PAGE};

/// A kernel with segments at these addresses.
fn kernel(places: &[(u64, u64)], entry: Entry) -> Kernel {
    let segment = |&(start, end): &(u64, u64)| LoadSegment { place: start..end, file: 0..4 };
    let segments = places.iter().map(segment).collect();
    Kernel {
        name: "k".to_owned(),
        bytes: Bytes::from(b"code".to_vec()),
        segments,
        entry,
        kind: "a test's",
        linux: None,
        reach: None,
    }
}

fn plan(places: &[(u64, u64)], memory: u64) -> Result<Boot, BootError> {
    Boot::plan(kernel(places, Entry::Pvh(0x20_0000)), None, String::new(), memory)
}

fn message(result: Result<Boot, BootError>) -> String {
    let text = result.unwrap_err().to_string();
    assert_eq!(text.lines().count(), 1);
    text
}

#[test]
fn a_kernel_that_does_not_fit_is_told_with_figures() {
    assert!(plan(&[(0x20_0000, 64 * MIB)], 64 * MIB).is_ok());
    let text = message(plan(&[(0x20_0000, 64 * MIB + 1)], 64 * MIB));
    assert!(text.contains("0x200000 to 0x4000001"), "{text}");
    assert!(text.contains("--memory 64 MiB"), "{text}");
    assert!(text.contains("give at least --memory 65M"), "{text}");
}

#[test]
fn nothing_is_loaded_between_3_and_4_gib() {
    let text = message(plan(&[(3 * GIB, 3 * GIB + 4096)], 8 * GIB));
    assert!(text.contains("link it at a lower physical address"), "{text}");
    assert!(plan(&[(4 * GIB, 4 * GIB + 4096)], 8 * GIB).is_ok());
    assert!(plan(&[(4 * GIB, 4 * GIB + 4096)], 3 * GIB).is_err());
    assert!(plan(&[(u64::MAX - 1, u64::MAX)], 8 * GIB).is_err());
}

#[test]
fn the_boot_area_is_not_loaded_over() {
    for place in [(0, 0x1001), (0x7c00, 0x7e00), (0x1_ffff, 0x2_0000), (0, MIB)] {
        let text = message(plan(&[place], 64 * MIB));
        assert!(text.contains("overlaps the boot area 0x1000 to 0x20000"), "{text}");
    }
    assert!(plan(&[(0, 0x1000), (0x2_0000, 0x3_0000)], 64 * MIB).is_ok());
}

#[test]
fn memory_that_a_kernel_was_not_built_for_is_told() {
    let told = |reach, memory| {
        let kernel = Kernel { reach, ..kernel(&[(0x20_0000, 0x20_1000)], Entry::Pvh(0x20_0000)) };
        Boot::plan(kernel, None, String::new(), memory).unwrap().beyond_reach()
    };
    let (bits_32, four_levels) = (Some(Reach::Bits32), Some(Reach::FourLevels));
    let tib = 1024 * GIB;
    for (reach, memory) in [
        (None, 100 * tib),
        (bits_32, 3 * GIB),
        (four_levels, 3 * GIB + MIB),
        (four_levels, 64 * tib - GIB),
    ] {
        assert_eq!(told(reach, memory), None, "{reach:?} {memory:#x}");
    }
    let text = told(bits_32, 5 * GIB).unwrap();
    assert!(text.starts_with("--kernel k: is a program of 32 bits"), "{text}");
    assert!(text.contains("of --memory 5 GiB, 2 GiB are out of its reach"), "{text}");
    assert!(text.ends_with("it can use at most --memory 3072M"), "{text}");
    let text = told(four_levels, 65 * tib).unwrap();
    assert!(text.contains("64 TiB") && text.contains("1025 GiB are out of its reach"), "{text}");
    assert!(text.ends_with("it can use at most --memory 67107840M"), "{text}");
}

#[test]
fn memory_is_whole_pages_and_at_least_a_mib() {
    assert!(matches!(plan(&[(0, 16)], MIB - PAGE), Err(BootError::MemoryTooSmall { .. })));
    assert!(matches!(plan(&[(0, 16)], MIB + 1), Err(BootError::MemoryNotPages { .. })));
}

#[test]
fn an_initrd_lies_on_a_page_at_the_top_of_low_memory() {
    let with = |len: usize, memory| {
        let initrd = Some(("i".to_owned(), Bytes::from(vec![7; len])));
        let kernel = kernel(&[(0x20_0000, 0x30_0000)], Entry::Pvh(0x20_0000));
        Boot::plan(kernel, initrd, String::new(), memory)
    };
    for (memory, top) in [(64 * MIB, 64 * MIB), (8 * GIB, 3 * GIB)] {
        assert_eq!(with(5000, memory).unwrap().initrd.unwrap().addr, top - 2 * PAGE);
    }
    assert_eq!(with(1 << 20, 4 * MIB).unwrap().initrd.unwrap().addr, 0x30_0000);
    let text = message(with((1 << 20) + 1, 4 * MIB));
    assert!(
        text.contains(
            "--initrd i: 1048577 bytes do not fit beside the kernel, which ends at 0x300000"
        ),
        "{text}"
    );
}

#[test]
fn a_command_line_has_room_for_65535_bytes() {
    let with = |text: String| {
        Boot::plan(kernel(&[(0x20_0000, 0x30_0000)], Entry::Pvh(0x20_0000)), None, text, 64 * MIB)
    };
    assert!(with("a".repeat(65535)).is_ok());
    assert!(message(with("a".repeat(65536))).contains("65536 bytes"));
    assert!(message(with("a\0b".to_owned())).contains("zero byte"));
}

fn loaded(entry: Entry, initrd: bool) -> (GuestRam, Start) {
    let initrd = initrd.then(|| ("i".to_owned(), Bytes::from(b"initrd".to_vec())));
    let boot =
        Boot::plan(kernel(&[(0x20_0000, 0x20_1000)], entry), initrd, "a=b".to_owned(), 4 * MIB);
    let ram = GuestRam::anonymous(&[(0, 4 << 20)]).unwrap();
    let start = boot.unwrap().load(&ram).unwrap();
    assert_eq!(ram.read(0x20_0000).unwrap(), *b"code\0");
    assert_eq!(ram.read(COMMAND_LINE.start).unwrap(), *b"a=b\0");
    (ram, start)
}

fn u32_at(ram: &GuestRam, addr: u64) -> u32 {
    u32::from_le_bytes(ram.read(addr).unwrap())
}

fn u64_at(ram: &GuestRam, addr: u64) -> u64 {
    u64::from_le_bytes(ram.read(addr).unwrap())
}

#[test]
fn a_pvh_kernel_is_told_by_start_info() {
    let (ram, start) = loaded(Entry::Pvh(0x20_0000), true);
    assert_eq!(start, Start { entry: Entry::Pvh(0x20_0000), info: START_INFO.start });
    let at = |offset| START_INFO.start + offset;
    assert_eq!(
        (u32_at(&ram, at(0)), u32_at(&ram, at(4)), u32_at(&ram, at(12))),
        (0x336e_c578, 1, 1)
    );
    assert_eq!(u64_at(&ram, at(24)), COMMAND_LINE.start);
    let module = u64_at(&ram, at(16));
    assert_eq!((u64_at(&ram, module), u64_at(&ram, module + 8)), (4 * MIB - PAGE, 6));
    assert_eq!(ram.read(4 * MIB - PAGE).unwrap(), *b"initrd");
    let (map, entries) = (u64_at(&ram, at(40)), u32_at(&ram, at(48)));
    assert_eq!(entries, 4);
    let last = map + 24 * 3;
    assert_eq!(
        (u64_at(&ram, last), u64_at(&ram, last + 8), u32_at(&ram, last + 16)),
        (MIB, 3 * MIB, 1)
    );
    assert_eq!(u64_at(&ram, GDT.start + 0x10), tables::CODE_32);

    let (ram, _) = loaded(Entry::Pvh(0x20_0000), false);
    assert_eq!((u32_at(&ram, at(12)), u64_at(&ram, at(16))), (0, 0));
}

#[test]
fn a_64_bit_kernel_is_told_by_the_zero_page_and_finds_4_gib_mapped() {
    let (ram, start) = loaded(Entry::Long(0x20_0000), true);
    assert_eq!(start, Start { entry: Entry::Long(0x20_0000), info: ZERO_PAGE.start });
    let at = |offset| ZERO_PAGE.start + offset;
    assert_eq!(ram.read(at(0x202)).unwrap(), *b"HdrS");
    assert_eq!(u32_at(&ram, at(0x228)), 0x1_0000);
    assert_eq!((u32_at(&ram, at(0x218)), u32_at(&ram, at(0x21c))), (0x3f_f000, 6));
    assert_eq!(ram.read(at(0x1e8)).unwrap(), [4]);
    let last = at(0x2d0) + 20 * 3;
    assert_eq!(
        (u64_at(&ram, last), u64_at(&ram, last + 8), u32_at(&ram, last + 16)),
        (MIB, 3 * MIB, 1)
    );
    assert_eq!(u64_at(&ram, GDT.start + 0x10), tables::CODE_64);

    // Walks the tables as the processor does.
    let walk = |addr: u64| {
        let entry = |table: u64, index: u64| u64_at(&ram, table + 8 * index) & !0xfff;
        let pdpt = entry(PAGE_TABLES.start, addr >> 39);
        let directory = entry(pdpt, (addr >> 30) & 0x1ff);
        entry(directory, (addr >> 21) & 0x1ff) | (addr & 0x1f_ffff)
    };
    for addr in [0, 0x20_0000, 0xcafe_0000, 0xfeb0_0200, 0xffff_ffff] {
        assert_eq!(walk(addr), addr, "{addr:#x}");
    }
}

fn linux(linux: Linux) -> Kernel {
    Kernel { linux: Some(linux), ..kernel(&[(16 * MIB, 32 * MIB)], Entry::Long(16 * MIB + 0x200)) }
}

fn initrd(bytes: u64) -> Option<(String, Bytes)> {
    Some(("i".to_owned(), Bytes::from(vec![1; usize::try_from(bytes).unwrap()])))
}

#[test]
fn an_initrd_lies_below_the_kernels_own_limit() {
    let limited = || linux(Linux { initrd_max: 48 * MIB - 1, ..Linux::default() });
    let boot = Boot::plan(limited(), initrd(MIB), String::new(), 128 * MIB).unwrap();
    assert_eq!(boot.initrd.unwrap().addr, 47 * MIB);
    let text = message(Boot::plan(limited(), initrd(17 * MIB), String::new(), 128 * MIB));
    assert!(text.contains("--initrd i: 17 MiB") && text.contains("0x3000000"), "{text}");
    // If RAM is the limit, more memory helps.
    let text = message(Boot::plan(limited(), initrd(17 * MIB), String::new(), 40 * MIB));
    assert!(text.contains("give more memory"), "{text}");
}

#[test]
fn a_command_line_that_linux_would_cut_off_is_refused() {
    let limited = || linux(Linux { command_line_max: Some(20), ..Linux::default() });
    assert!(Boot::plan(limited(), None, "x".repeat(20), 64 * MIB).is_ok());
    let text = message(Boot::plan(limited(), None, "x".repeat(21), 64 * MIB));
    assert!(text.contains("21 bytes") && text.contains("the limit is 20"), "{text}");
}

#[test]
fn only_linux_gets_words_that_nobody_gave() {
    let other = kernel(&[(16 * MIB, 32 * MIB)], Entry::Pvh(16 * MIB));
    assert_eq!(other.command_line("quiet".to_owned()), "quiet");
    let linux = linux(Linux::default());
    assert_eq!(linux.command_line("quiet".to_owned()), "console=ttyS0 panic=-1 quiet");
}

#[test]
fn nothing_is_loaded_where_the_firmwares_tables_are() {
    let text = message(plan(&[(0xe_f000, 0xe_f010)], 64 * MIB));
    assert!(text.contains("ACPI") && text.contains("0x100000"), "{text}");
    assert!(plan(&[(0x5_0000, 0x6_0000)], 64 * MIB).is_ok());
}
