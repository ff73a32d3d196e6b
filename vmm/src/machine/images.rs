//! Opens and locks the images of a machine's disks, each only once.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use cafevm_devices::block::format::Snapshot;
use cafevm_devices::block::{Access, Image, ImageError, Storage};
use tracing::warn;

use crate::boot::is_url;
use crate::config::{DiskBus, DiskConfig};
use crate::error::{ConfigError, Error};
use crate::machine::looks;

/// Opens and locks the images of all disks, in order.
///
/// # Errors
///
/// If an image cannot be used, is too small for its bus, or is attached twice.
pub(crate) fn open(disks: &[DiskConfig]) -> Result<Vec<Image>, Error> {
    // The lock alone would report that another program uses the image.
    for (n, disk) in disks.iter().enumerate() {
        let earlier = disks.get(..n).unwrap_or_default();
        let reads = |disk: &DiskConfig| disk.opening().access == Access::ReadOnly;
        let shared = |other: &DiskConfig| reads(disk) && reads(other);
        if earlier.iter().any(|other| same_file(disk, other) && !shared(other)) {
            return Err(ConfigError::SameImage(disk.path.clone()).into());
        }
    }
    disks.iter().map(open_image).collect()
}

fn open_image(disk: &DiskConfig) -> Result<Image, Error> {
    let image = match Image::open(&disk.path, disk.opening()) {
        Err(ImageError::Missing { path }) if is_url(&path) => {
            return Err(ConfigError::Url(path).into());
        }
        opened => opened?,
    };
    if let Some(kind) = looks::like(image.file()) {
        warn!(
            "--disk {name}: its first bytes are those of {kind}; cafevm uses it as a raw image, so the guest \
             sees those bytes; if that is not meant, convert it: qemu-img convert -O raw {name} raw.img",
            name = image.name()
        );
    }
    if let DiskBus::Virtio(options) = &disk.bus {
        options.capacity(&image.name(), image.size()).map_err(ConfigError::Blk)?;
    }
    Ok(image)
}

/// The storage of a disk.
///
/// # Errors
///
/// If the engine cannot serve the image; with `snapshot`: if there is no place for the layer.
pub(crate) fn storage(disk: &DiskConfig, image: Image) -> Result<Box<dyn Storage>, Error> {
    if disk.snapshot {
        return Ok(Box::new(Snapshot::on(disk.engine, image, &layer_directory())?));
    }
    Ok(disk.engine.storage(image)?)
}

/// The directory for the layers of `snapshot=on`: TMPDIR, or /var/tmp. Not the directory of the image, which often is
/// shared, read-only or short of room; and not /tmp, which often is in memory.
fn layer_directory() -> PathBuf {
    let named = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty());
    named.map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

fn same_file(a: &DiskConfig, b: &DiskConfig) -> bool {
    match (std::fs::metadata(&a.path), std::fs::metadata(&b.path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}
