//! Refcounts: which clusters of the file are in use. They repeat what the tables say, so they can be computed anew.
//!
//! A process that is killed while it writes metadata can leave refcounts that differ from the tables. So they are counted
//! before an image is written, always: a cluster that is in use and has no refcount would be given away. It takes some
//! milliseconds for 100 GiB.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Qcow2Error as Error;
use super::header::{Header, read_up_to};

/// The offset in an entry of an L1 or L2 table (L1 table entry, bits 9 to 55).
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// The refcount is exactly one (L1 table entry, bit 63).
const COPIED: u64 = 1 << 63;
/// The cluster is compressed (L2 table entry, bit 62).
const COMPRESSED: u64 = 1 << 62;
/// The most clusters that are counted: 16 TiB of clusters of 64 KiB, in 512 MiB of memory.
const CLUSTERS_MAX: usize = 1 << 28;

/// The place of a refcount.
struct Place {
    /// The first byte of its entry of the refcount table.
    entry: u64,
    /// Its index in the refcount block.
    index: u64,
}

/// The number of refcounts in a block.
const fn in_block(header: &Header) -> u64 {
    1 << (header.cluster_bits + 3 - header.refcount_order)
}

/// Whether the refcounts in the file say that the cluster at `offset` is in use.
///
/// # Errors
///
/// The host's error.
pub(super) fn is_used(file: &File, header: &Header, offset: u64) -> io::Result<bool> {
    let cluster = offset >> header.cluster_bits;
    let entry = (cluster / in_block(header)).saturating_mul(8);
    if entry >= header.reftable.1 {
        return Ok(false);
    }
    let place = Place { entry: header.reftable.0 + entry, index: cluster % in_block(header) };
    let mut bytes = [0; 8];
    read_up_to(file, &mut bytes, place.entry)?;
    let block = u64::from_be_bytes(bytes) & !511;
    if block == 0 {
        return Ok(false);
    }
    let (at, bits) = (place.index << header.refcount_order, 1_u64 << header.refcount_order);
    let mut bytes = [0; 8];
    let len = usize::try_from(bits.div_ceil(8)).unwrap_or(8).min(8);
    let bytes = bytes.get_mut(..len).unwrap_or_default();
    read_up_to(file, bytes, block.saturating_add(at / 8))?;
    Ok(get(bytes, at % 8, header.refcount_order) != 0)
}

/// The refcount of 2^`order` bits at the bit `at` of `bytes`. A refcount of less than a byte counts from the lowest bit.
fn get(bytes: &[u8], at: u64, order: u32) -> u64 {
    let (byte, bits) = (usize::try_from(at / 8).unwrap_or(usize::MAX), 1_usize << order);
    if bits < 8 {
        let value = bytes.get(byte).copied().unwrap_or(0) >> (at % 8);
        return u64::from(value) & ((1 << bits) - 1);
    }
    let bytes = bytes.get(byte..).unwrap_or_default();
    bytes.iter().take(bits / 8).fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Sets the refcount of 2^`order` bits at the bit `at` of `bytes`. Returns false if the value is too large for it.
fn set(bytes: &mut [u8], at: u64, order: u32, value: u64) -> bool {
    let (byte, bits) = (usize::try_from(at / 8).unwrap_or(usize::MAX), 1_u32 << order);
    if bits < 64 && value >> bits != 0 {
        return false;
    }
    let bytes = bytes.get_mut(byte..).unwrap_or_default();
    if bits < 8 {
        let Some(byte) = bytes.first_mut() else { return false };
        let (mask, [.., low]) = (((1_u8 << bits) - 1) << (at % 8), value.to_be_bytes());
        *byte = *byte & !mask | low << (at % 8);
        return true;
    }
    let value = value.to_be_bytes().into_iter().rev();
    let len = usize::try_from(bits / 8).unwrap_or(8);
    let Some(bytes) = bytes.get_mut(..len) else { return false };
    bytes.iter_mut().rev().zip(value).for_each(|(byte, value)| *byte = value);
    true
}

/// The entries of a table of `len` bytes at `offset`.
///
/// # Errors
///
/// The host's error.
pub(super) fn table(file: &File, offset: u64, len: u64) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    read_up_to(file, &mut bytes, offset)?;
    let entries = bytes.as_chunks().0.iter();
    Ok(entries.map(|entry| u64::from_be_bytes(*entry)).collect())
}

/// Refuses tables that are in use more than once: without internal snapshots there is none. So the time to look through
/// all of them is bounded by the size of the file.
///
/// # Errors
///
/// If there is one.
pub(super) fn refuse_shared_tables(file: &File, header: &Header) -> Result<(), Error> {
    let entries = table(file, header.l1.0, header.l1.1 * 8).map_err(Error::Host)?;
    if let Some(entry) = entries.iter().find(|&entry| entry & OFFSET != 0 && entry & COPIED == 0) {
        return Err(Error::damaged(format!("L1 entry {entry:#x}")));
    }
    let blocks = table(file, header.reftable.0, header.reftable.1).map_err(Error::Host)?;
    let blocks = blocks.iter().map(|block| block & !511).filter(|block| *block != 0);
    let tables = entries.iter().map(|entry| entry & OFFSET).filter(|table| *table != 0);
    let mut seen = HashSet::new();
    match blocks.chain(tables).find(|table| !seen.insert(*table)) {
        Some(table) => Err(Error::damaged(format!("the table at byte {table} is in use twice"))),
        None => Ok(()),
    }
}

/// Refcounts that differ from the tables.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// How many are too high: clusters that nothing uses.
    pub(super) high: u64,
    /// How many are too low.
    pub(super) low: u64,
    /// The corrected refcount blocks, and their first bytes.
    corrected: Vec<(u64, Vec<u8>)>,
}

impl Found {
    /// Writes the corrected refcount blocks, durably.
    ///
    /// # Errors
    ///
    /// The host's error.
    pub(super) fn correct(self, file: &File) -> io::Result<()> {
        for (at, bytes) in self.corrected {
            file.write_all_at(&bytes, at)?;
        }
        file.sync_data()
    }
}

/// Counts the references to all clusters, and compares the refcounts in the file.
///
/// # Errors
///
/// If the tables are damaged, or the host fails.
pub(super) fn audit(file: &File, header: &Header) -> Result<Found, Error> {
    let len = file.metadata().map_err(Error::Host)?.len();
    let clusters = usize::try_from(len.div_ceil(header.cluster())).unwrap_or(usize::MAX);
    if clusters > CLUSTERS_MAX {
        return Err(Error::damaged(format!("a file of {len} bytes")));
    }
    // Only what is counted takes memory.
    let mut counts = Counts { of: vec![0; clusters], bits: header.cluster_bits };
    counts.add(0, 1)?;
    counts.add(header.l1.0, header.l1.1 * 8)?;
    counts.add(header.reftable.0, header.reftable.1)?;
    let blocks = table(file, header.reftable.0, header.reftable.1).map_err(Error::Host)?;
    for block in &blocks {
        counts.add_table(block & !511)?;
    }
    for entry in table(file, header.l1.0, header.l1.1 * 8).map_err(Error::Host)? {
        let l2 = entry & OFFSET;
        counts.add_table(l2)?;
        if l2 == 0 {
            continue;
        }
        for entry in table(file, l2, header.cluster()).map_err(Error::Host)? {
            if entry & COMPRESSED != 0 {
                let (at, len) = compressed(entry, header.cluster_bits);
                counts.add_shared(at, len)?;
            } else {
                counts.add_table(entry & OFFSET)?;
            }
        }
    }
    counts.compare(file, header, &blocks)
}

/// The first byte and the length of a compressed cluster (L2 table entry, compressed clusters descriptor).
fn compressed(entry: u64, cluster_bits: u32) -> (u64, u64) {
    let bits = 62 - (cluster_bits - 8);
    let descriptor = entry & (COMPRESSED - 1);
    let at = descriptor & ((1 << bits) - 1);
    (at, ((descriptor >> bits) + 1) * 512 - at % 512)
}

/// The references to each cluster.
struct Counts {
    of: Vec<u16>,
    bits: u32,
}

impl Counts {
    /// Counts a table or a data cluster, of one cluster, unless its offset is 0.
    fn add_table(&mut self, at: u64) -> Result<(), Error> {
        if !at.is_multiple_of(1 << self.bits) {
            return Err(Error::damaged(format!("a table or cluster at byte {at}")));
        }
        if at == 0 { Ok(()) } else { self.add(at, 1) }
    }

    /// Counts clusters that nothing else may use.
    fn add(&mut self, at: u64, len: u64) -> Result<(), Error> {
        self.count(at, len, |count| {
            *count += 1;
            *count == 1
        })
    }

    /// Counts clusters that several compressed clusters may share.
    fn add_shared(&mut self, at: u64, len: u64) -> Result<(), Error> {
        self.count(at, len, |count| {
            *count = count.saturating_add(1);
            *count < u16::MAX
        })
    }

    fn count(
        &mut self,
        at: u64,
        len: u64,
        mut count: impl FnMut(&mut u16) -> bool,
    ) -> Result<(), Error> {
        let last = at.saturating_add(len).saturating_sub(1) >> self.bits;
        let place = |cluster: u64| usize::try_from(cluster).unwrap_or(usize::MAX);
        let counts = self.of.get_mut(place(at >> self.bits)..place(last).saturating_add(1));
        let counts = counts.ok_or_else(|| {
            Error::damaged(format!("a cluster at byte {at}, beyond the end of the file"))
        })?;
        if counts.iter_mut().all(&mut count) {
            return Ok(());
        }
        Err(Error::damaged(format!("the cluster at byte {at} is in use twice")))
    }

    fn compare(&self, file: &File, header: &Header, blocks: &[u64]) -> Result<Found, Error> {
        let per_block = usize::try_from(in_block(header)).unwrap_or(usize::MAX);
        let cluster = usize::try_from(header.cluster()).unwrap_or(0);
        if self.of.len().div_ceil(per_block) > blocks.len() {
            return Err(Error::damaged("clusters beyond its refcounts"));
        }
        let mut found = Found::default();
        for (number, block) in blocks.iter().enumerate() {
            let first = number.saturating_mul(per_block).min(self.of.len());
            let counts = self.of.get(first..).unwrap_or_default();
            let counts = counts.get(..per_block).unwrap_or(counts);
            let block = block & !511;
            if block == 0 {
                if counts.iter().any(|count| *count != 0) {
                    return Err(Error::damaged("clusters without refcounts"));
                }
                continue;
            }
            let mut bytes = vec![0; cluster];
            read_up_to(file, &mut bytes, block).map_err(Error::Host)?;
            let mut differs = false;
            for index in 0..per_block {
                let at = (index as u64) << header.refcount_order;
                let count = counts.get(index).copied().unwrap_or(0).into();
                match get(&bytes, at, header.refcount_order).cmp(&count) {
                    Ordering::Equal => continue,
                    Ordering::Greater => found.high += 1,
                    Ordering::Less => found.low += 1,
                }
                if !set(&mut bytes, at, header.refcount_order, count) {
                    return Err(Error::damaged("more references than a refcount can hold"));
                }
                differs = true;
            }
            if differs {
                found.corrected.push((block, bytes));
            }
        }
        Ok(found)
    }
}
