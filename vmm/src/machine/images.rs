//! Opens and locks the images of a machine's disks, each only once.

use std::iter;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cafevm_devices::block::format::{Base, Qcow2Storage, Snapshot};
use cafevm_devices::block::nbd::{NbdOptions, NbdStorage};
use cafevm_devices::block::{Access, Image, ImageError, Storage};
use tracing::warn;

use crate::boot::is_url;
use crate::config::{DiskBus, DiskConfig, ImageFormat, Layers};
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
        for (path, shared) in files(disk) {
            let clashes = |(other, other_shared): (&Path, bool)| {
                same_file(path, other) && !(shared && other_shared)
            };
            let own = disk.layers.overlay.as_deref().filter(|_| shared);
            if own.is_some_and(|overlay| same_file(path, overlay))
                || earlier.iter().flat_map(files).any(clashes)
            {
                return Err(ConfigError::SameImage(path.to_owned()).into());
            }
        }
    }
    disks.iter().map(open_one).collect()
}

fn open_one(disk: &DiskConfig) -> Result<Opened, Error> {
    let Some(options) = &disk.nbd else { return Ok(Opened::File(open_image(disk)?)) };
    let read_only = disk.opening().access == Access::ReadOnly;
    let storage = NbdStorage::open(NbdOptions { read_only, ..options.clone() })?;
    check_capacity(disk, &storage.uri().to_string(), storage.size())?;
    Ok(Opened::Nbd(storage))
}

fn open_image(disk: &DiskConfig) -> Result<Image, Error> {
    let image = match Image::open(&disk.path, disk.opening()) {
        Err(ImageError::Missing { path }) if is_url(&path) => {
            return Err(ConfigError::Url(path).into());
        }
        opened => opened?,
    };
    if disk.layers.format == ImageFormat::Raw {
        warn_of_format(&image);
        check_capacity(disk, &image.name(), image.size())?;
    }
    Ok(image)
}

fn warn_of_format(image: &Image) {
    let Some(kind) = looks::like(image.file()) else { return };
    let name = image.name();
    let remedy = match kind {
        looks::QCOW2 => "give format=qcow2".to_owned(),
        _ => format!("convert it: qemu-img convert -O raw {name} raw.img"),
    };
    warn!(
        "--disk {name}: its first bytes are those of {kind}; cafevm uses it as a raw image, so the guest \
         sees those bytes; if that is not meant, {remedy}"
    );
}

fn check_capacity(disk: &DiskConfig, name: &str, size: u64) -> Result<(), ConfigError> {
    if let DiskBus::Virtio(options) = &disk.bus {
        options.capacity(name, size).map_err(ConfigError::Blk)?;
    }
    Ok(())
}

/// The storage of a disk, and its size in bytes.
///
/// # Errors
///
/// If the engine cannot serve the image, or the image is no qcow2 image that can be used; with `snapshot`: if there is
/// no place for the layer.
pub(crate) fn storage(disk: &DiskConfig, opened: Opened) -> Result<(Box<dyn Storage>, u64), Error> {
    let image = match opened {
        Opened::File(image) => image,
        Opened::Nbd(storage) => {
            let size = storage.size();
            if !disk.snapshot {
                return Ok((Box::new(storage), size));
            }
            let (engine, dir) = (disk.engine, layer_directory());
            let layered = Snapshot::layered(engine, Box::new(storage), size, false, &dir)?;
            return Ok((Box::new(layered), size));
        }
    };
    let Layers { format, backing, overlay } = &disk.layers;
    let (name, size) = (image.name(), image.size());
    let qcow2 = match (overlay, format) {
        (Some(path), format) => {
            let qcow2 = (*format == ImageFormat::Qcow2).then_some(*backing);
            let opening = disk.cache.opening(Access::ReadWrite);
            Qcow2Storage::overlay(path, opening, Base { image, qcow2 })?
        }
        (None, ImageFormat::Qcow2) => Qcow2Storage::open(image, *backing)?,
        (None, ImageFormat::Raw) if disk.snapshot => {
            return Ok((Box::new(Snapshot::on(disk.engine, image, &layer_directory())?), size));
        }
        (None, ImageFormat::Raw) => return Ok((disk.engine.storage(image)?, size)),
    };
    let size = qcow2.size();
    check_capacity(disk, &name, size)?;
    if disk.snapshot {
        let (direct, dir) = (disk.opening().direct, layer_directory());
        let layered = Snapshot::layered(disk.engine, Box::new(qcow2), size, direct, &dir)?;
        return Ok((Box::new(layered), size));
    }
    Ok((Box::new(qcow2), size))
}

/// The directory for the layers of `snapshot=on`: TMPDIR, or /var/tmp. Not the directory of the image, which often is
/// shared, read-only or short of room; and not /tmp, which often is in memory.
fn layer_directory() -> PathBuf {
    let named = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty());
    named.map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

/// The files that the flags of a disk name, and whether each is opened for reading only.
fn files(disk: &DiskConfig) -> impl Iterator<Item = (&Path, bool)> {
    let image = (&*disk.path, disk.opening().access == Access::ReadOnly);
    iter::once(image).chain(disk.layers.overlay.as_deref().map(|overlay| (overlay, false)))
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (std::fs::metadata(a), std::fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}
