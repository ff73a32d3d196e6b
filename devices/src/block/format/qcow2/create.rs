//! Makes overlays: empty images with a backing file.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Qcow2Error as Error;
use super::header::MAGIC;
use super::open::{Base, size_of};
use crate::block::new_file::NewFile;
use crate::block::{Image, ImageError, Opening};

/// The logarithm of the usual cluster: 64 KiB.
const CLUSTER_BITS: u32 = 16;
/// The header extension with the backing file's format (Header extensions).
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// The longest name of a backing file (Header, bytes 16 to 19).
const NAME_MAX: usize = 1023;

/// Opens the overlay at `path`; makes it first if nothing is there.
///
/// # Errors
///
/// If it cannot be made or opened.
pub(super) fn overlay(path: &Path, opening: Opening, base: &Base) -> Result<Image, ImageError> {
    match Image::open(path, opening) {
        Err(ImageError::Missing { .. }) => {
            let failed = |error| ImageError::Qcow2 { path: path.to_owned(), error };
            let size = size_of(base).map_err(failed)?;
            let name = backing_name(path, base.image.path()).map_err(Error::Create);
            let name = name.map_err(failed)?;
            let backing = Some((&*name, base.format()));
            match (New { backing, size, cluster_bits: CLUSTER_BITS }).create(path) {
                // Another process was faster; the lock decides who has it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(Error::Create).map_err(failed)?,
            }
            Image::open(path, opening)
        }
        opened => opened,
    }
}

/// The name of `base` in the header of `overlay`: without a directory if both are in the same one, otherwise absolute.
fn backing_name(overlay: &Path, base: &Path) -> io::Result<String> {
    let dir = |path: &Path| {
        let dir = path.parent().filter(|dir| *dir != Path::new(""));
        fs::canonicalize(dir.unwrap_or(Path::new(".")))
    };
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why);
    let base_name = base.file_name().ok_or_else(|| invalid("the image has no file name"))?;
    let name = match dir(overlay)? == dir(base)? {
        true => Path::new(base_name).to_owned(),
        false => dir(base)?.join(base_name),
    };
    let name = name.to_str().ok_or_else(|| invalid("the image's path is not UTF-8"))?;
    // QEMU takes a name with a colon for a protocol.
    let name =
        if name.contains(':') && !name.contains('/') { format!("./{name}") } else { name.into() };
    if name.len() > NAME_MAX {
        return Err(invalid("the image's path is longer than 1023 bytes"));
    }
    Ok(name)
}

/// An image that is to be made.
pub(super) struct New<'a> {
    /// The backing file's name and format.
    pub(super) backing: Option<(&'a str, &'a str)>,
    /// The bytes of the disk.
    pub(super) size: u64,
    /// The logarithm of the bytes of a cluster.
    pub(super) cluster_bits: u32,
}

impl New<'_> {
    /// Makes an empty image at `path`.
    ///
    /// # Errors
    ///
    /// The host's error. Then there is no file.
    pub(super) fn create(&self, path: &Path) -> io::Result<()> {
        let new = NewFile::beside(path)?;
        self.write(new.file())?;
        new.publish(path)
    }

    /// The clusters: header, refcount table, refcount block, L1 table.
    fn write(&self, file: &File) -> io::Result<()> {
        let cluster = 1 << self.cluster_bits;
        let l1_entries = self.size.div_ceil(cluster / 8 * cluster).max(1);
        let clusters = 3 + (l1_entries * 8).div_ceil(cluster);
        // One refcount block has room for them.
        if clusters > cluster / 2 {
            return Err(io::Error::other("an image of this size needs larger clusters"));
        }
        file.set_len(clusters * cluster)?;
        file.write_all_at(&self.header(l1_entries)?, 0)?;
        file.write_all_at(&(2 * cluster).to_be_bytes(), cluster)?;
        let refcounts: Vec<u8> = (0..clusters).flat_map(|_| 1_u16.to_be_bytes()).collect();
        file.write_all_at(&refcounts, 2 * cluster)
    }

    /// The header with its extensions and the name of the backing file.
    fn header(&self, l1_entries: u64) -> io::Result<Vec<u8>> {
        const LEN: u32 = 104;
        let short = |number: u64| u32::try_from(number).map_err(io::Error::other);
        let (name, format) = self.backing.unwrap_or_default();
        let padded = format.len().next_multiple_of(8);
        let cluster = 1_u64 << self.cluster_bits;
        let mut extensions = Vec::new();
        if !format.is_empty() {
            extensions.extend_from_slice(&BACKING_FORMAT.to_be_bytes());
            extensions.extend_from_slice(&short(format.len() as u64)?.to_be_bytes());
            extensions.extend_from_slice(format.as_bytes());
            extensions.resize(8 + padded, 0);
        }
        extensions.resize(extensions.len() + 8, 0); // the end of the list
        let name_at = if name.is_empty() { 0 } else { u64::from(LEN) + extensions.len() as u64 };
        let mut bytes = Vec::new();
        let mut put = |field: &[u8]| bytes.extend_from_slice(field);
        put(&MAGIC);
        put(&3_u32.to_be_bytes()); // version
        put(&name_at.to_be_bytes());
        put(&short(name.len() as u64)?.to_be_bytes());
        put(&self.cluster_bits.to_be_bytes());
        put(&self.size.to_be_bytes());
        put(&0_u32.to_be_bytes()); // no encryption
        put(&short(l1_entries)?.to_be_bytes());
        put(&(3 * cluster).to_be_bytes()); // L1 table
        put(&cluster.to_be_bytes()); // refcount table
        put(&1_u32.to_be_bytes()); // of one cluster
        put(&[0; 12]); // no snapshots
        put(&[0; 24]); // no features
        put(&4_u32.to_be_bytes()); // refcounts of 16 bits
        put(&LEN.to_be_bytes());
        put(&extensions);
        put(name.as_bytes());
        Ok(bytes)
    }
}
