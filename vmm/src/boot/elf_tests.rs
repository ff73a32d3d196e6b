use super::*;

/// An ELF file for tests, built from values that may be right or wrong.
struct File {
    is_64: bool,
    machine: u16,
    entry: u64,
    parts: Vec<Part>,
}

struct Part {
    kind: u32,
    vaddr: u64,
    paddr: u64,
    bytes: Vec<u8>,
    memory: u64,
}

fn load(paddr: u64, len: usize, memory: u64) -> Part {
    Part { kind: 1, vaddr: paddr, paddr, bytes: vec![0x90; len], memory }
}

fn note(bytes: Vec<u8>) -> Part {
    let memory = bytes.len() as u64;
    Part { kind: 4, vaddr: 0, paddr: 0, bytes, memory }
}

/// One note: name, type, description, each padded to 4 bytes.
fn note_bytes(name: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for len in [name.len(), desc.len()] {
        bytes.extend(u32::try_from(len).unwrap().to_le_bytes());
    }
    bytes.extend(kind.to_le_bytes());
    for part in [name, desc] {
        bytes.extend(part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn pvh(entry: u32) -> Part {
    note(note_bytes(b"Xen\0", 18, &entry.to_le_bytes()))
}

impl File {
    fn new(parts: Vec<Part>) -> Self {
        Self { is_64: true, machine: 62, entry: 0x20_0000, parts }
    }

    fn bytes(&self) -> Vec<u8> {
        let (header, part_header): (u16, u16) = if self.is_64 { (64, 56) } else { (52, 32) };
        let parts = u16::try_from(self.parts.len()).unwrap();
        let mut bytes = vec![0x7f, b'E', b'L', b'F', if self.is_64 { 2 } else { 1 }, 1, 1];
        bytes.resize(16, 0);
        bytes.extend(2u16.to_le_bytes());
        bytes.extend(self.machine.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        self.word(&mut bytes, self.entry);
        self.word(&mut bytes, u64::from(header));
        self.word(&mut bytes, 0);
        bytes.extend([0; 4]);
        for half in [header, part_header, parts, 0, 0, 0] {
            bytes.extend(half.to_le_bytes());
        }
        let mut offset = u64::from(header) + u64::from(part_header) * u64::from(parts);
        for part in &self.parts {
            bytes.extend(part.kind.to_le_bytes());
            if self.is_64 {
                bytes.extend([0; 4]); // flags
            }
            for word in [offset, part.vaddr, part.paddr, part.bytes.len() as u64, part.memory] {
                self.word(&mut bytes, word);
            }
            if !self.is_64 {
                bytes.extend([0; 4]);
            }
            self.word(&mut bytes, 4); // alignment
            offset += part.bytes.len() as u64;
        }
        for part in &self.parts {
            bytes.extend(&part.bytes);
        }
        bytes
    }

    fn word(&self, bytes: &mut Vec<u8>, value: u64) {
        let len = if self.is_64 { 8 } else { 4 };
        bytes.extend(&value.to_le_bytes()[..len]);
    }

    fn parse(&self) -> Result<Elf, ElfError> {
        parse(&self.bytes())
    }
}

#[test]
fn a_pvh_note_is_found_among_several_note_segments() {
    let other = || note(note_bytes(b"GNU\0", 5, &[0; 16]));
    for parts in [
        vec![load(0x20_0000, 16, 16), pvh(0x20_0004), other()],
        vec![other(), load(0x20_0000, 16, 16), pvh(0x20_0004)],
        vec![load(0x20_0000, 16, 16), other(), pvh(0x20_0004), other()],
    ] {
        let elf = File::new(parts).parse().unwrap();
        assert_eq!(elf.entry, Entry::Pvh(0x20_0004));
        assert_eq!(elf.segments.len(), 1);
    }
}

#[test]
fn a_pvh_note_may_follow_others_and_have_8_bytes() {
    let mut bytes = note_bytes(b"Xen\0", 6, b"guest\0");
    bytes.extend(note_bytes(b"Xen\0", 18, &0x20_0008u64.to_le_bytes()));
    let elf = File::new(vec![load(0x20_0000, 16, 16), note(bytes)]).parse().unwrap();
    assert_eq!(elf.entry, Entry::Pvh(0x20_0008));
    let odd = note(note_bytes(b"Xen\0", 18, &[0; 5]));
    let error = File::new(vec![load(0x20_0000, 16, 16), odd]).parse().unwrap_err();
    assert!(error.to_string().contains("PVH note has 5 bytes"), "{error}");
}

#[test]
fn both_classes_are_read() {
    let parts = || vec![load(0x20_0000, 16, 64), pvh(0x20_0000)];
    let small = File { is_64: false, machine: 3, ..File::new(parts()) };
    let elf = small.parse().unwrap();
    assert_eq!(elf.entry, Entry::Pvh(0x20_0000));
    assert_eq!(elf.segments[0].place, 0x20_0000..0x20_0040);
    assert_eq!(elf.segments[0].file.len(), 16);
    assert_eq!(elf.reach, Some(Reach::Bits32));
    let large = File::new(parts()).parse().unwrap();
    assert_eq!((&large.segments[0].place, large.reach), (&elf.segments[0].place, None));
}

#[test]
fn without_a_note_a_64_bit_file_is_entered_at_its_entry_point() {
    let parts = || vec![load(0x20_0000, 16, 16)];
    assert_eq!(File::new(parts()).parse().unwrap().entry, Entry::Long(0x20_0000));
    let small = File { is_64: false, machine: 3, ..File::new(parts()) };
    assert_eq!(small.parse(), Err(ElfError::NoEntry));
    let none = File { entry: 0, ..File::new(parts()) };
    assert_eq!(none.parse(), Err(ElfError::NoEntry));
    let damaged_note = note(vec![0xff; 7]);
    let elf = File::new(vec![load(0x20_0000, 16, 16), damaged_note]).parse().unwrap();
    assert_eq!(elf.entry, Entry::Long(0x20_0000));
}

#[test]
fn a_virtual_entry_point_is_translated() {
    let mut part = load(0x20_0000, 16, 16);
    part.vaddr = 0xffff_ffff_8020_0000;
    let file = File { entry: part.vaddr + 8, ..File::new(vec![part]) };
    assert_eq!(file.parse().unwrap().entry, Entry::Long(0x20_0008));

    // Linux has a physical entry point beside virtual segments.
    let mut part = load(0x100_0000, 16, 16);
    part.vaddr = 0xffff_ffff_8100_0000;
    let file = File { entry: 0x100_0004, ..File::new(vec![part]) };
    assert_eq!(file.parse().unwrap().entry, Entry::Long(0x100_0004));
}

#[test]
fn an_entry_point_must_be_loaded_and_low() {
    let file = File { entry: 0x30_0000, ..File::new(vec![load(0x20_0000, 16, 16)]) };
    assert_eq!(file.parse(), Err(ElfError::EntryOutside(0x30_0000)));
    let high = 0x1_0000_0000;
    let file = File { entry: high, ..File::new(vec![load(high, 16, 16)]) };
    assert_eq!(file.parse(), Err(ElfError::EntryHigh(high)));
}

#[test]
fn segments_that_contradict_themselves_are_refused() {
    for (part, word) in [
        (load(0x20_0000, 16, 8), "more bytes in the file than in memory"),
        (load(u64::MAX - 4, 4, 16), "over the end of the address space"),
    ] {
        let error = File::new(vec![part]).parse().unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    let mut bytes = File::new(vec![load(0x20_0000, 16, 16)]).bytes();
    bytes.pop();
    assert!(parse(&bytes).unwrap_err().to_string().contains("cut off"));
}

/// The file's bytes, with the first segment at the start of the file, as GNU ld makes it without -n.
fn with_headers_loaded(file: &File) -> Vec<u8> {
    const OFFSET: usize = 64 + 8; // p_offset of the first program header, 64-bit
    let mut bytes = file.bytes();
    bytes[OFFSET..OFFSET + 8].fill(0);
    bytes
}

#[test]
fn headers_below_1_mib_are_not_loaded() {
    // ld -Ttext=0x100000: the headers are in a segment of their own.
    let headers = 64 + 2 * 56;
    let parts = vec![load(0xf_f000, headers, headers as u64), load(0x10_0000, 16, 16)];
    let file = File { entry: 0x10_0000, ..File::new(parts) };
    let elf = parse(&with_headers_loaded(&file)).unwrap();
    assert_eq!(elf.segments, [LoadSegment { place: 0x10_0000..0x10_0010, file: 352..368 }]);

    // -z noseparate-code: headers, padding and code are in one segment, here in the upper half.
    let mut part = load(0xf_f000, 0x1010, 0x1020);
    part.bytes[..0x1000].fill(0);
    part.vaddr = 0xffff_ffff_800f_f000;
    let file = File { entry: part.vaddr + 0x1004, ..File::new(vec![part]) };
    let elf = parse(&with_headers_loaded(&file)).unwrap();
    assert_eq!(elf.segments, [LoadSegment { place: 0x10_0000..0x10_0020, file: 0x1000..0x1010 }]);
    assert_eq!(elf.entry, Entry::Long(0x10_0004));
}

#[test]
fn whatever_else_lies_below_1_mib_is_loaded() {
    let place = |bytes: &[u8]| parse(bytes).unwrap().segments[0].place.clone();
    // Content between the headers and 1 MiB.
    let code = || File { entry: 0x10_0004, ..File::new(vec![load(0xf_f000, 0x1010, 0x1010)]) };
    assert_eq!(place(&with_headers_loaded(&code())), 0xf_f000..0x10_0010);
    // Zeros without headers; headers and uninitialised memory; headers at another place.
    let mut zeros = load(0xf_f000, 0x1010, 0x1010);
    zeros.bytes.fill(0);
    let file = File { entry: 0x10_0004, ..File::new(vec![zeros]) };
    assert_eq!(place(&file.bytes()), 0xf_f000..0x10_0010);
    let file = File { entry: 0x10_0004, ..File::new(vec![load(0xf_f000, 120, 0x1010)]) };
    assert_eq!(place(&with_headers_loaded(&file)), 0xf_f000..0x10_0010);
    let file = File::new(vec![load(0x20_0000, 120, 120)]);
    assert_eq!(place(&with_headers_loaded(&file)), 0x20_0000..0x20_0078);
    // The entry point must not be cut off.
    let parts = vec![load(0xf_f000, 176, 176), load(0x10_0000, 16, 16)];
    let file = File { entry: 0xf_f010, ..File::new(parts) };
    assert_eq!(parse(&with_headers_loaded(&file)), Err(ElfError::EntryOutside(0xf_f010)));
}

#[test]
fn segments_without_bytes_are_passed_over() {
    let file = File::new(vec![load(0x20_0000, 16, 16), load(0, 0, 0)]);
    assert_eq!(file.parse().unwrap().segments.len(), 1);
    assert_eq!(File::new(vec![load(0x20_0000, 0, 0)]).parse(), Err(ElfError::Empty));
    let bss_alone = File::new(vec![load(0x20_0000, 0, 4096)]).parse().unwrap();
    assert_eq!(bss_alone.segments[0].place, 0x20_0000..0x20_1000);
}

#[test]
fn other_architectures_are_named() {
    for (machine, name) in [(183, "arm64"), (243, "RISC-V"), (0xbeef, "machine number 48879")] {
        let file = File { machine, ..File::new(vec![load(0x20_0000, 16, 16)]) };
        assert_eq!(file.parse(), Err(ElfError::Architecture(name.into())));
    }
}

#[test]
fn no_file_makes_it_panic() {
    let whole = File::new(vec![load(0x20_0000, 16, 16), pvh(0x20_0000)]).bytes();
    for len in 0..whole.len() {
        let _any = parse(&whole[..len]);
    }
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let _any = parse(&bytes);
        }
    }
}
