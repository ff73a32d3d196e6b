use super::*;
use crate::config::VirtioBank;
use crate::layout::MIB;

fn written(cpus: u32, disks: u32) -> Vec<u8> {
    let bank = VirtioBank::default();
    let slots = (0..disks).map(|number| bank.slot(number)).collect();
    let ram = GuestRam::anonymous(&[(0, usize::try_from(MIB).unwrap())]).unwrap();
    write(&ram, &Machine { cpus, slots, slot_size: 0x200 }).unwrap();
    ram.read::<0x1_0000>(ACPI.start).unwrap().to_vec()
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The table at a guest-physical address, with a correct checksum.
fn table(bytes: &[u8], addr: u64) -> &[u8] {
    let at = usize::try_from(addr - ACPI.start).unwrap();
    let len = usize::try_from(number(bytes, at + 4, 4)).unwrap();
    let table = &bytes[at..at + len];
    assert_eq!(sum(table), 0, "{:?}", String::from_utf8_lossy(&table[..4]));
    table
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

/// FADT, MADT and DSDT, found in the way of a kernel.
fn tables(bytes: &[u8]) -> [&[u8]; 3] {
    assert_eq!(&bytes[..8], b"RSD PTR ");
    assert_eq!((sum(&bytes[..20]), sum(&bytes[..36]), bytes[15]), (0, 0, 2));
    let xsdt = table(bytes, number(bytes, 24, 8));
    assert_eq!((&xsdt[..4], xsdt.len()), (&b"XSDT"[..], 36 + 2 * 8));
    let fadt = table(bytes, number(xsdt, 36, 8));
    let madt = table(bytes, number(xsdt, 44, 8));
    assert_eq!((&fadt[..4], &madt[..4]), (&b"FACP"[..], &b"APIC"[..]));
    let dsdt = table(bytes, number(fadt, 140, 8));
    assert_eq!(&dsdt[..4], b"DSDT");
    [fadt, madt, dsdt]
}

#[test]
fn the_fadt_names_the_ports() {
    let bytes = written(1, 0);
    let [fadt, ..] = tables(&bytes);
    assert_eq!((fadt.len(), fadt[8]), (276, 6));
    // Hardware-reduced, with a reset register.
    assert_eq!(number(fadt, 112, 4) & (1 << 20 | 1 << 10), 1 << 20 | 1 << 10);
    assert_eq!(
        number(fadt, 109, 2) & 0b11,
        0,
        "no legacy devices to probe, no keyboard controller"
    );
    let port = |at: usize| (fadt[at], number(fadt, at + 4, 8));
    assert_eq!((port(116), fadt[128]), ((1, 0x64), 0xfe));
    assert_eq!((port(244), port(256)), ((1, 0x600), (1, 0x601)));
}

#[test]
fn the_madt_has_a_local_apic_for_each_vcpu() {
    let bytes = written(3, 0);
    let [_, madt, _] = tables(&bytes);
    assert_eq!(number(madt, 36, 4), LOCAL_APIC.start);
    let (cpus, ioapic) = madt[44..].split_at(3 * 8);
    for (id, cpu) in (0u8..).zip(cpus.chunks(8)) {
        assert_eq!(cpu, [0, 8, id, id, 1, 0, 0, 0]);
    }
    assert_eq!(ioapic, [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn the_dsdt_has_the_slots_in_use_and_no_others() {
    let bytes = written(1, 2);
    let [.., dsdt] = tables(&bytes);
    assert!(contains(dsdt, b"COM1") && contains(dsdt, b"PVPN") && contains(dsdt, b"_S5_"));
    for (name, base, line) in [(b"V000", 0xfeb0_0000u32, 5u32), (b"V001", 0xfeb0_0200, 6)] {
        assert!(contains(dsdt, name));
        // Memory32Fixed, writable (6.4.3.4); extended interrupt: consumer, edge, active high (6.4.3.6).
        let memory = [&[0x86, 9, 0, 1][..], &base.to_le_bytes(), &0x200u32.to_le_bytes()].concat();
        let interrupt = [&[0x89, 6, 0, 0b0011, 1][..], &line.to_le_bytes()].concat();
        assert!(contains(dsdt, &[memory, interrupt].concat()), "slot at {base:#x}");
    }
    assert!(!contains(dsdt, b"V002"));
}

#[test]
fn the_largest_machine_fits() {
    let bytes = written(255, 32);
    let [_, madt, dsdt] = tables(&bytes);
    assert_eq!(madt.len(), 44 + 255 * 8 + 12);
    assert!(contains(dsdt, b"V031"));
}
