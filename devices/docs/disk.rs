use std::sync::Arc;

use cafevm_devices::block::{Access, Cache, Disk, Image};
use cafevm_devices::irq::IrqLine;
use cafevm_devices::memory::GuestRam;
use cafevm_devices::observe::Tap;
use cafevm_devices::virtio::blk::{self, Blk};
use cafevm_devices::virtio::mmio::{self, Mmio};

/// A virtio-blk disk over the image at `path`.
pub fn disk(
    path: &str,
    ram: &GuestRam,
    line: Arc<dyn IrqLine>,
) -> Result<Mmio, Box<dyn std::error::Error>> {
    let image = Image::open(path.as_ref(), Cache::WriteBack.opening(Access::ReadWrite))?;
    let blk =
        Blk::new("disk0", &Disk::from_image(image), &blk::BlkOptions::default(), Tap::default())?;
    Ok(Mmio::new(Arc::new(blk), ram.clone(), line, mmio::MmioOptions::default()))
}
