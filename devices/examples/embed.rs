//! A complete embedding of the virtio-blk device, without a hypervisor: RAM, an image, registers written by hand
//! instead of a guest's driver, one served request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cafevm_devices::block::{Access, Cache, Disk, Image};
use cafevm_devices::bus::Bus;
use cafevm_devices::irq::IrqLine;
use cafevm_devices::memory::GuestRam;
use cafevm_devices::observe::Tap;
use cafevm_devices::virtio::blk::{self, Blk};
use cafevm_devices::virtio::mmio::{self, Mmio, SLOT_SIZE};

const BASE: u64 = 0xfeb0_0000;

/// A VMM connects this to its interrupt controller.
#[derive(Default)]
struct Line(AtomicU32);

impl IrqLine for Line {
    fn raise(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg_attr(test, test)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The VMM's side: an image, guest RAM, a device on the memory bus.
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), [0x5a; 8 * 512])?;
    let image = Image::open(file.path(), Cache::WriteBack.opening(Access::ReadWrite))?;
    let ram = GuestRam::anonymous(&[(0, 1 << 20)])?;
    let line = Arc::new(Line::default());
    let blk =
        Blk::new("disk0", &Disk::from_image(image), &blk::BlkOptions::default(), Tap::default())?;
    let device = Mmio::new(Arc::new(blk), ram.clone(), line.clone(), mmio::MmioOptions::default());
    let mut bus = Bus::new();
    bus.insert(BASE, SLOT_SIZE, "disk0", Arc::new(device))?;

    // The guest's side: the addresses and the accesses of its driver. A VMM makes these calls when a vCPU exits for an
    // access outside RAM.
    let [desc, avail, used] = [0x1000_u32, 0x2000, 0x3000];
    let [header, data, status] = [0x4000, 0x5000, 0x6000];
    let write = |register: u64, value: u32| bus.write(BASE + register, &value.to_le_bytes());
    let read = |register: u64| {
        let mut value = [0; 4];
        bus.read(BASE + register, &mut value);
        u32::from_le_bytes(value)
    };
    assert_eq!((read(0x000), read(0x008)), (0x7472_6976, 2), "\"virt\", a block device");
    write(0x070, 0); // Status: reset
    write(0x070, 1 | 2); // ACKNOWLEDGE, DRIVER
    write(0x024, 1); // DriverFeaturesSel
    write(0x020, 1); // VERSION_1
    write(0x070, 1 | 2 | 8); // FEATURES_OK
    write(0x038, 8); // QueueNum
    for (register, addr) in [(0x080, desc), (0x090, avail), (0x0a0, used)] {
        write(register, addr); // the lower halves; the upper ones are 0
    }
    write(0x044, 1); // QueueReady
    write(0x070, 1 | 2 | 8 | 4); // DRIVER_OK

    // A read of sector 3: the header, a buffer to be written, a status byte to be written.
    ram.write(header + 8, &3u64.to_le_bytes())?;
    let (next, write_flag) = (1, 2);
    let chain = [(header, 16, next), (data, 512, next | write_flag), (status, 1, write_flag)];
    for (index, (addr, len, flags)) in (0..).zip(chain) {
        let descriptor = [addr, len | flags << 32 | (index + 1) << 48].map(u64::to_le_bytes);
        ram.write(u64::from(desc) + 16 * index, &descriptor.concat())?;
    }
    ram.write(u64::from(avail) + 2, &1u16.to_le_bytes())?; // one chain is available, at descriptor 0
    write(0x050, 0); // QueueNotify: the request is served before this returns

    assert_eq!((ram.read::<512>(data)?, ram.read::<1>(status)?), ([0x5a; 512], [0]));
    assert_eq!((ram.load_u16(u64::from(used) + 2)?, line.0.load(Ordering::Relaxed)), (1, 1));
    println!("read sector 3: 512 bytes of 0x5a, status 0, one interrupt");
    Ok(())
}
