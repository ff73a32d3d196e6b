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

/// The usual cluster: 64 KiB.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// The bytes of the disk that one L2 table maps.
const L2_REACH: u64 = CLUSTER / 8 * CLUSTER;
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
            match create(path, &name, base.format(), size) {
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

/// Makes an empty image of `size` bytes.
fn create(path: &Path, backing: &str, format: &str, size: u64) -> io::Result<()> {
    let new = NewFile::beside(path)?;
    write(new.file(), backing, format, size)?;
    new.publish(path)
}

/// The clusters: header, refcount table, refcount block, L1 table.
fn write(file: &File, backing: &str, format: &str, size: u64) -> io::Result<()> {
    let l1_entries = size.div_ceil(L2_REACH).max(1);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
    let clusters = 3 + l1_clusters;
    let short = |number: u64| u32::try_from(number).map_err(io::Error::other);
    file.set_len(clusters * CLUSTER)?;
    file.write_all_at(&header(backing, format, size, short(l1_entries)?)?, 0)?;
    file.write_all_at(&(2 * CLUSTER).to_be_bytes(), CLUSTER)?;
    let refcounts: Vec<u8> = (0..clusters).flat_map(|_| 1_u16.to_be_bytes()).collect();
    file.write_all_at(&refcounts, 2 * CLUSTER)
}

/// The header with its extensions and the name of the backing file.
fn header(backing: &str, format: &str, size: u64, l1_entries: u32) -> io::Result<Vec<u8>> {
    const LEN: u32 = 104;
    let short = |number: usize| u32::try_from(number).map_err(io::Error::other);
    let padded = format.len().next_multiple_of(8);
    // The extension, and the one that ends the list.
    let name_at = u64::from(LEN) + 8 + padded as u64 + 8;
    let mut bytes = Vec::new();
    let mut put = |field: &[u8]| bytes.extend_from_slice(field);
    put(&MAGIC);
    put(&3_u32.to_be_bytes()); // version
    put(&name_at.to_be_bytes());
    put(&short(backing.len())?.to_be_bytes());
    put(&CLUSTER_BITS.to_be_bytes());
    put(&size.to_be_bytes());
    put(&0_u32.to_be_bytes()); // no encryption
    put(&l1_entries.to_be_bytes());
    put(&(3 * CLUSTER).to_be_bytes()); // L1 table
    put(&CLUSTER.to_be_bytes()); // refcount table
    put(&1_u32.to_be_bytes()); // of one cluster
    put(&[0; 12]); // no snapshots
    put(&[0; 24]); // no features
    put(&4_u32.to_be_bytes()); // refcounts of 16 bits
    put(&LEN.to_be_bytes());
    put(&BACKING_FORMAT.to_be_bytes());
    put(&short(format.len())?.to_be_bytes());
    put(format.as_bytes());
    put(&vec![0; padded - format.len() + 8]);
    put(backing.as_bytes());
    Ok(bytes)
}
