//! Opens and locks the images of a machine's disks, each only once.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use cafevm_devices::block::format::Snapshot;
use cafevm_devices::block::nbd::{NbdOptions, NbdStorage};
use cafevm_devices::block::{Access, Image, ImageError, Storage};
use tracing::warn;

use crate::boot::is_url;
use crate::config::{DiskBus, DiskConfig};
use crate::error::{ConfigError, Error};
use crate::machine::looks;

/// Where the bytes of a disk are.
pub(crate) enum Opened {
    /// In an image, which is locked.
    File(Image),
    /// On an NBD server, which is connected.
    Nbd(NbdStorage),
}

impl Opened {
    /// The name in messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(image) => image.name(),
            Self::Nbd(storage) => storage.uri().to_string(),
        }
    }

    /// The size in bytes.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::File(image) => image.size(),
            Self::Nbd(storage) => storage.size(),
        }
    }
}

/// Opens and locks the images of all disks, in order, and connects to their servers.
///
/// # Errors
///
/// If an image cannot be used, is too small for its bus, or is attached twice.
pub(crate) fn open(disks: &[DiskConfig]) -> Result<Vec<Opened>, Error> {
    // The lock alone would report that another program uses the image.
    for (n, disk) in disks.iter().enumerate() {
        let earlier = disks.get(..n).unwrap_or_default();
        let reads = |disk: &DiskConfig| disk.opening().access == Access::ReadOnly;
        let shared = |other: &DiskConfig| reads(disk) && reads(other);
        if earlier.iter().any(|other| same_file(disk, other) && !shared(other)) {
            return Err(ConfigError::SameImage(disk.path.clone()).into());
        }
    }
    disks.iter().map(open_one).collect()
}

fn open_one(disk: &DiskConfig) -> Result<Opened, Error> {
    let opened = match &disk.nbd {
        Some(options) => {
            let read_only = disk.opening().access == Access::ReadOnly;
            Opened::Nbd(NbdStorage::open(NbdOptions { read_only, ..options.clone() })?)
        }
        None => Opened::File(open_image(disk)?),
    };
    if let DiskBus::Virtio(options) = &disk.bus {
        options.capacity(&opened.name(), opened.size()).map_err(ConfigError::Blk)?;
    }
    Ok(opened)
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
    Ok(image)
}

/// The storage of a disk.
///
/// # Errors
///
/// If the engine cannot serve the image; with `snapshot`: if there is no place for the layer.
pub(crate) fn storage(disk: &DiskConfig, opened: Opened) -> Result<Box<dyn Storage>, Error> {
    let image = match opened {
        Opened::File(image) => image,
        Opened::Nbd(storage) if disk.snapshot => {
            let (size, dir) = (storage.size(), layer_directory());
            let layer = disk.engine.storage(Image::layer(&dir, size, false)?)?;
            let place = format!("the layer of snapshot=on, in {}", dir.display());
            return Ok(Box::new(Snapshot::over(Box::new(storage), size, layer, place)));
        }
        Opened::Nbd(storage) => return Ok(Box::new(storage)),
    };
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
