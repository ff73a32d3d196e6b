//! Writes changed metadata to the file, in an order that keeps the image whole wherever the process is killed.
//!
//! Between two checkpoints no table in the file changes, so a killed process leaves the last checkpoint. At a
//! checkpoint:
//!
//! 1. Tables in clusters that nothing in the file refers to are written, and the header is marked dirty. Then all this,
//!    and all data, reaches stable storage.
//! 2. The refcount table and the header are written, if they have changed. They reach stable storage, too.
//! 3. The other tables are written, refcounts first, without a pause between them. They reach stable storage.
//!
//! A power cut within step 3 can leave any of its sectors unwritten. The tables that map the disk are right in each case:
//! what a new or an old entry refers to is on stable storage. Only refcounts may be wrong, and the dirty header says so:
//! they are corrected at the next open ([`super::refcounts`]; QEMU does the same). A process that is killed
//! between two writes of step 3 can leave clusters marked as used that are not.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::unix::fs::FileExt;

use imago::FormatAccess;

use super::Qcow2Error;
use super::file::{Changes, ImageFile, SECTOR};
use super::header::{DIRTY_BYTE, Header};
use super::refcounts;
use crate::block::BlockError;

/// Why a checkpoint failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing is lost: the changes are kept, and can be written later.
    Host(io::Error),
    /// The host may have dropped data.
    Sync(io::Error),
}

impl Failure {
    /// The failure of a request to the byte `offset` of the disk.
    pub(super) fn at(self, offset: u64) -> BlockError {
        match self {
            Self::Host(source) => BlockError::Host { offset, source },
            Self::Sync(source) => BlockError::Sync(source),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Host(error) | Failure::Sync(error) => error,
        }
    }
}

/// What is known of the metadata in the file. The thread that holds it may change metadata.
#[derive(Debug)]
pub(super) struct Checkpoints {
    file: ImageFile,
    /// The header in the file.
    header: Header,
    /// The refcount blocks, by their first byte.
    blocks: HashSet<u64>,
    /// Whether the file is marked dirty, which is on stable storage.
    dirty: bool,
    /// Whether clusters were freed that the file still refers to. No cluster may be allocated before a checkpoint.
    pub(super) must: bool,
}

impl Checkpoints {
    /// For an image that is open for writing.
    ///
    /// # Errors
    ///
    /// The host's error.
    pub(super) fn new(file: ImageFile, header: Header) -> io::Result<Self> {
        let dirty = header.dirty;
        let mut new = Self { file, header, blocks: HashSet::new(), dirty, must: false };
        new.find_blocks()?;
        Ok(new)
    }

    fn find_blocks(&mut self) -> io::Result<()> {
        let (at, len) = self.header.reftable;
        let blocks = refcounts::table(self.file.file(), at, len)?;
        self.blocks = blocks.into_iter().map(|block| block & !511).filter(|at| *at != 0).collect();
        Ok(())
    }

    /// Writes all changes of metadata. If it succeeds, everything written before is on stable storage, also data.
    ///
    /// # Errors
    ///
    /// The host's error. The checkpoint can be tried again.
    pub(super) fn write(&mut self, top: &FormatAccess<ImageFile>) -> Result<(), Failure> {
        top.flush()?;
        let changes = self.file.changes().clone();
        if changes.is_empty() {
            self.must = false;
            return self.sync();
        }
        let mut steps: [Vec<u64>; 3] = Default::default();
        let mut used = BTreeMap::new();
        for number in changes.keys() {
            let [fresh, links, rest] = &mut steps;
            let at = number * SECTOR as u64;
            let cluster = at >> self.header.cluster_bits << self.header.cluster_bits;
            let used = match used.get(&cluster) {
                Some(used) => *used,
                None => {
                    let is_used = refcounts::is_used(self.file.file(), &self.header, cluster)?;
                    *used.entry(cluster).or_insert(is_used)
                }
            };
            let (table, len) = self.header.reftable;
            match at {
                _ if !used => fresh.push(*number),
                _ if cluster == 0 || (table..table + len).contains(&at) => links.push(*number),
                _ => rest.push(*number),
            }
        }
        let [fresh, links, mut rest] = steps;
        self.file.reach_end()?;
        self.write_sectors(&changes, &fresh)?;
        self.mark(true)?;
        self.sync()?;
        self.dirty = true;
        if !links.is_empty() {
            self.write_sectors(&changes, &links)?;
            self.sync()?;
            self.header = Header::read(self.file.file()).map_err(unreadable)?;
            self.find_blocks()?;
        }
        rest.sort_by_key(|number| !self.is_refcounts(*number));
        self.write_sectors(&changes, &rest)?;
        self.sync()?;
        self.file.written(&changes);
        self.must = false;
        Ok(())
    }

    /// After the last checkpoint: marks the image as clean.
    ///
    /// # Errors
    ///
    /// The host's error. The image stays dirty, which loses nothing.
    pub(super) fn close(&mut self) -> Result<(), Failure> {
        if self.dirty && !self.file.has_changes() {
            self.mark(false)?;
            self.dirty = false;
            self.sync()?;
        }
        Ok(())
    }

    fn is_refcounts(&self, number: u64) -> bool {
        let at = number * SECTOR as u64;
        self.blocks.contains(&(at >> self.header.cluster_bits << self.header.cluster_bits))
    }

    /// Writes neighbours with one call.
    fn write_sectors(&self, changes: &Changes, numbers: &[u64]) -> io::Result<()> {
        for run in numbers.chunk_by(|one, next| one + 1 == *next) {
            let Some(first) = run.first() else { continue };
            let mut bytes: Vec<u8> = Vec::with_capacity(run.len() * SECTOR);
            for number in run {
                bytes.extend(changes.get(number).map_or(&[][..], |sector| &sector[..]));
            }
            if *first == 0
                && let Some(byte) =
                    usize::try_from(DIRTY_BYTE).ok().and_then(|at| bytes.get_mut(at))
            {
                *byte |= 1;
            }
            self.file.write_at(&bytes, first * SECTOR as u64)?;
        }
        Ok(())
    }

    fn mark(&self, dirty: bool) -> io::Result<()> {
        let mut byte = [0];
        self.file.file().read_exact_at(&mut byte, DIRTY_BYTE)?;
        let [byte] = byte;
        let new = if dirty { byte | 1 } else { byte & !1 };
        if new == byte { Ok(()) } else { self.file.write_at(&[new], DIRTY_BYTE) }
    }

    fn sync(&self) -> Result<(), Failure> {
        self.file.sync().map_err(Failure::Sync)
    }
}

fn unreadable(error: Qcow2Error) -> Failure {
    Failure::Host(io::Error::other(error))
}
