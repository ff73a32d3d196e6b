//! The images of a machine's disks: opened, locked, and each only once.

use std::os::unix::fs::MetadataExt;

use cafevm_devices::block::{Access, Image};

use crate::config::{DiskBus, DiskConfig};
use crate::error::{ConfigError, Error};

/// Opens and locks the images of all disks, in their order.
///
/// # Errors
///
/// Where one cannot be used, is too small for its bus, or is attached twice.
pub(crate) fn open(disks: &[DiskConfig]) -> Result<Vec<Image>, Error> {
    // The lock alone would report this as an image that another program uses.
    for (n, disk) in disks.iter().enumerate() {
        let earlier = disks.get(..n).unwrap_or_default();
        let shared = |other: &DiskConfig| {
            disk.access == Access::ReadOnly && other.access == Access::ReadOnly
        };
        if earlier.iter().any(|other| same_file(disk, other) && !shared(other)) {
            return Err(ConfigError::SameImage(disk.path.clone()).into());
        }
    }
    disks.iter().map(open_image).collect()
}

fn open_image(disk: &DiskConfig) -> Result<Image, Error> {
    let image = Image::open(&disk.path, disk.cache.opening(disk.access))?;
    if let DiskBus::Virtio(options) = &disk.bus {
        options.capacity(&image.name(), image.size()).map_err(ConfigError::Blk)?;
    }
    Ok(image)
}

fn same_file(a: &DiskConfig, b: &DiskConfig) -> bool {
    match (std::fs::metadata(&a.path), std::fs::metadata(&b.path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}
