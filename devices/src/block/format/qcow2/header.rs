//! The header of a qcow2 image, read once and checked before anything else trusts it.
//!
//! Sections of the specification: docs/interop/qcow2 of QEMU. All numbers are big-endian. A header may claim any size:
//! here each table gets a bound and must lie in the file, so that what is read later needs bounded memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Qcow2Error as Error;

/// "QFI\xfb" (Header, bytes 0 to 3).
pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";
/// The bytes of a header of version 3 (Header, bytes 100 to 103).
const LEN_V3: usize = 104;
/// The byte with the lowest incompatible feature bits (Header, bytes 72 to 79).
pub(super) const DIRTY_BYTE: u64 = 79;
/// Incompatible feature 0: refcounts may be wrong.
pub(super) const DIRTY: u64 = 1;
/// Incompatible feature 1: the metadata is damaged.
const CORRUPT: u64 = 1 << 1;
/// Incompatible feature 2: the data is in another file.
const EXTERNAL: u64 = 1 << 2;
/// Incompatible feature 3: clusters are compressed with another algorithm than deflate.
const COMPRESSION: u64 = 1 << 3;
/// Incompatible feature 4: L2 entries have 128 bits.
const EXTENDED_L2: u64 = 1 << 4;
/// The header extension of bitmaps (Header extensions).
const BITMAPS: u64 = 0x2385_2875;
/// The most header extensions that are looked at.
const EXTENSIONS_MAX: usize = 100;
/// The most bytes of an L1 table: QEMU's limit, too.
pub(super) const L1_MAX: u64 = 32 << 20;
/// The most bytes of a refcount table: QEMU's limit, too.
const REFTABLE_MAX: u64 = 8 << 20;

/// What this program needs to know of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether it is of version 3, which alone can be written.
    pub(super) v3: bool,
    /// The logarithm of the bytes of a cluster, 9 to 21.
    pub(super) cluster_bits: u32,
    /// The disk's size in bytes: whole sectors, not 0.
    pub(super) size: u64,
    /// The L1 table: its first byte in the file, and its entries of 8 bytes.
    pub(super) l1: (u64, u64),
    /// The refcount table: its first byte in the file, and its bytes.
    pub(super) reftable: (u64, u64),
    /// The logarithm of the bits of a refcount, 0 to 6.
    pub(super) refcount_order: u32,
    /// Whether refcounts may be wrong.
    pub(super) dirty: bool,
    /// The number of internal snapshots.
    pub(super) snapshots: u32,
    /// Whether it has bitmaps, whose clusters this program does not count.
    pub(super) bitmaps: bool,
}

impl Header {
    /// Reads and checks the header of `file`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or not supported.
    pub(super) fn read(file: &File) -> Result<Self, Error> {
        let mut bytes = [0; LEN_V3];
        let len = read_up_to(file, &mut bytes, 0).map_err(Error::Host)?;
        let field = |at: usize, len: usize| {
            let field = bytes.get(at..at + len).unwrap_or_default();
            field.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        let small = |at| u32::try_from(field(at, 4)).unwrap_or(u32::MAX);
        if len < 72 || bytes.get(..4) != Some(&MAGIC) {
            return Err(Error::NoQcow2);
        }
        let version = small(4);
        let v3 = match version {
            2 => false,
            3 if len == LEN_V3 => true,
            _ => return Err(Error::Version(version)),
        };
        let features = if v3 { field(72, 8) } else { 0 };
        refuse_features(features)?;
        if field(32, 4) != 0 {
            return Err(Error::Unsupported { what: "is encrypted" });
        }
        let cluster_bits = small(20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(Error::damaged(format!("clusters of 2^{cluster_bits} bytes")));
        }
        let refcount_order = if v3 { small(96) } else { 4 };
        if refcount_order > 6 {
            return Err(Error::damaged(format!("refcounts of 2^{refcount_order} bits")));
        }
        let extensions = if v3 { field(100, 4) } else { 72 };
        let bitmaps = has_extension(file, extensions, BITMAPS).map_err(Error::Host)?;
        let header = Self {
            v3,
            cluster_bits,
            size: field(24, 8),
            l1: (field(40, 8), field(36, 4)),
            reftable: (field(48, 8), field(56, 4) << cluster_bits),
            refcount_order,
            dirty: features & DIRTY != 0,
            snapshots: small(60),
            bitmaps,
        };
        header.check(rustix::fs::fstat(file).map_err(|e| Error::Host(e.into()))?.st_size)?;
        Ok(header)
    }

    /// The bytes of a cluster.
    pub(super) const fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// The largest disk whose L1 table has a usual size, in bytes.
    pub(super) fn largest(&self) -> u64 {
        (L1_MAX / 8).saturating_mul(self.l2_reach()).min(1 << 55)
    }

    /// The bytes of the disk that one L2 table maps.
    const fn l2_reach(&self) -> u64 {
        1 << (2 * self.cluster_bits - 3)
    }

    fn check(&self, file_size: i64) -> Result<(), Error> {
        if self.size == 0 || !self.size.is_multiple_of(512) || self.size > self.largest() {
            return Err(Error::damaged(format!("a disk of {} bytes", self.size)));
        }
        let file_size = u64::try_from(file_size).unwrap_or(0);
        let end = file_size.checked_next_multiple_of(self.cluster()).unwrap_or(u64::MAX);
        for (name, at, len, most) in [
            ("L1 table", self.l1.0, self.l1.1.saturating_mul(8), L1_MAX),
            ("refcount table", self.reftable.0, self.reftable.1, REFTABLE_MAX),
        ] {
            let fits = at.checked_add(len).is_some_and(|last| last <= end);
            if len > most || !at.is_multiple_of(self.cluster()) || at == 0 || !fits {
                return Err(Error::damaged(format!("{name} of {len} bytes at byte {at}")));
            }
        }
        if self.l1.1 < self.size.div_ceil(self.l2_reach()) {
            let (entries, size) = (self.l1.1, self.size);
            return Err(Error::damaged(format!("{entries} L1 entries for {size} bytes")));
        }
        if self.reftable.1 == 0 {
            return Err(Error::damaged("no refcount table".to_owned()));
        }
        Ok(())
    }
}

fn refuse_features(features: u64) -> Result<(), Error> {
    let known = DIRTY | CORRUPT | EXTERNAL | COMPRESSION | EXTENDED_L2;
    if features & CORRUPT != 0 {
        return Err(Error::Corrupt);
    }
    for (bit, what) in [
        (EXTERNAL, "has its data in another file (data_file)"),
        (COMPRESSION, "is compressed with another algorithm than deflate"),
        (EXTENDED_L2, "has subclusters (extended_l2)"),
        (!known, "has a feature that this program does not know"),
    ] {
        if features & bit != 0 {
            return Err(Error::Unsupported { what });
        }
    }
    Ok(())
}

/// Whether the list of header extensions at `offset` has one of this kind.
fn has_extension(file: &File, mut offset: u64, kind: u64) -> io::Result<bool> {
    for _ in 0..EXTENSIONS_MAX {
        let mut bytes = [0; 8];
        read_up_to(file, &mut bytes, offset)?;
        let word = u64::from_be_bytes(bytes);
        match word >> 32 {
            0 => return Ok(false),
            found if found == kind => return Ok(true),
            _ => offset += 8 + (word & 0xffff_ffff).next_multiple_of(8),
        }
    }
    Ok(false)
}

/// Reads until `bytes` is full or the file ends. Returns the number of bytes.
///
/// # Errors
///
/// The host's error.
pub(super) fn read_up_to(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
