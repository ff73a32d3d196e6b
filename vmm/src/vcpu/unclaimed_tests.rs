use std::sync::Arc;

use cafevm_devices::bus::BusDevice;

use super::*;

struct Nothing;

impl BusDevice for Nothing {
    fn read(&self, _: u64, _: &mut [u8]) {}
    fn write(&self, _: u64, _: &[u8]) {}
}

fn bus(devices: &[(u64, &str)]) -> Bus {
    let mut bus = Bus::new();
    for (base, name) in devices {
        bus.insert(*base, 0x200, name, Arc::new(Nothing)).unwrap();
    }
    bus
}

fn read(addr: u64) -> Access {
    Access::read(Space::Memory, addr, 4)
}

#[test]
fn a_line_names_the_access_the_place_and_the_nearest_device() {
    let bus = bus(&[(0xcafe_0000, "svirtb"), (0xfeb0_0000, "virtio0")]);
    assert_eq!(
        line(&read(0x1000_1000), &bus, Some(0x20_0000)),
        "the guest reads 4 bytes at 0x10001000 (rip 0x200000), where no device is; the nearest is svirtb at \
         0xcafe0000 to 0xcafe01ff; the guest gets all ones: check the driver's base address and offsets"
    );
    let write = Access::write(Space::Memory, 0xfeb0_0200, &[0x74, 0x72, 0x69, 0x76]);
    assert_eq!(
        line(&write, &bus, Some(0x20_0004)),
        "the guest writes 0x76697274 (4 bytes) at 0xfeb00200 (rip 0x200004 or the instruction before), where no \
         device is; the nearest is virtio0 at 0xfeb00000 to 0xfeb001ff; the write has no effect: check the driver's \
         base address and offsets"
    );
    assert!(line(&read(0xfeb0_01fe), &bus, None).contains("only partly inside virtio0"));
    assert!(line(&read(0xfeaf_fffe), &bus, None).contains("only partly inside virtio0"));
    assert!(line(&read(u64::MAX), &bus, None).contains("nearest is virtio0"));
    let port = Access::read(Space::Port, 0x402, 1);
    assert_eq!(
        line(&port, &Bus::new(), None),
        "the guest reads 1 byte at port 0x402 (unknown rip), and there is no device; the guest gets all ones"
    );
}

#[test]
fn an_address_is_told_once_and_five_in_a_machines_life() {
    let unclaimed = Unclaimed::default();
    assert_eq!(unclaimed.summary(), None);
    assert!(unclaimed.is_new(&read(0x1000)));
    assert_eq!(unclaimed.summary(), None, "one access, one line");
    assert!(!unclaimed.is_new(&read(0x1000)));
    assert!(unclaimed.is_new(&Access::write(Space::Memory, 0x1000, &[0])));
    assert!(unclaimed.is_new(&Access::write(Space::Port, 0x1000, &[0])));
    let new = (0x2000..0x3000).filter(|&addr| unclaimed.is_new(&read(addr))).count();
    assert_eq!(new, 2);
    let text =
        "the guest made 4100 accesses to addresses without a device; 5 of them are logged above";
    assert_eq!(unclaimed.summary().as_deref(), Some(text));
}

#[test]
fn rip_is_asked_for_only_where_a_line_is_written() {
    let (unclaimed, mut asked) = (Unclaimed::default(), 0);
    for addr in 0..100 {
        unclaimed.report(&read(addr), &Bus::new(), || {
            asked += 1;
            None
        });
    }
    assert_eq!(asked, MOST_LINES);
}

#[test]
fn what_stock_kernels_probe_is_not_told() {
    let unclaimed = Unclaimed::default();
    let is_new = |port| unclaimed.is_new(&Access::read(Space::Port, port, 1));
    for port in [
        0x20, 0x21, 0x2e, 0x40, 0x43, 0x4e, 0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0x87, 0x92, 0xa0,
        0xa1, 0xed, 0x2f8, 0x378, 0x3d4, 0x3e8, 0x2e8, 0xcf8, 0xcfb, 0xcfc, 0xc000,
    ] {
        assert!(!is_new(port), "{port:#x}");
    }
    assert_eq!(unclaimed.summary(), None, "nor counted");
    for port in [0x1f7, 0x3f6, 0xe9, 0x604] {
        assert!(is_new(port), "{port:#x}");
    }
    assert!(Unclaimed::default().is_new(&read(0x80)), "only the port 0x80, not the address");
}

#[test]
fn the_address_of_svirtb_has_advice_of_its_own_and_the_built_in_shell_may_look_there() {
    let bus = bus(&[(0xfeb0_0000, "slot0")]);
    let access = Access::read(Space::Memory, 0xcafe_0000, 4);
    let logged = line(&access, &bus, None);
    assert!(logged.contains("attach a disk with bus=svirtb"), "{logged}");
    assert!(Unclaimed::default().is_new(&access));
    let mut shell = Unclaimed::default();
    shell.looks_for_svirtb = true;
    assert!(!shell.is_new(&access) && shell.summary().is_none());
    assert!(shell.is_new(&Access::write(Space::Memory, 0xcafe_0000, &[0; 4])));
    assert!(!shell.is_new(&Access::read(Space::Memory, 0xfed8_03c0, 4)), "a stock kernel's probe");
}
