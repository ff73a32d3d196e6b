//! Formats map, engines move bytes: a disk is an engine with an extent map.
//!
//! ```text
//!  raw:       Disk ─▶ engine                      every byte at its own offset: no map stands in between
//!  snapshot:  Disk ─▶ MappedEngine ┬─▶ engine of the base    the image, read only
//!                     (asks a Map) └─▶ engine of the layer   a sparse file without a name
//! ```
//!
//! A [`Map`] states in which store, and where in it, each byte of a disk is. It does no I/O, so it works with every
//! engine. [`MappedStorage`] combines a map with two storages: its engines split a read as the map states, send changes
//! to the layer, and update the map when the layer has them. The map of a raw disk is the identity and needs no code:
//! its storage is the image's, and a request has no extra cost.
//!
//! | question | file |
//! |---|---|
//! | What is the contract of a map? | this file |
//! | How is a request split, and its parts combined? | `mapped.rs`, `split.rs` |
//! | How is a part of a sector written? | `fill.rs` |
//! | What is `snapshot=on`? | `snapshot.rs` |
//! | Which data structure stores the sectors of the layer? | `sectors.rs` |

mod fill;
mod mapped;
mod qcow2;
mod sectors;
mod snapshot;
mod split;

use std::fmt;

pub use mapped::MappedStorage;
pub use qcow2::{Backing, Base, Qcow2Error, Qcow2Storage};
pub use snapshot::Snapshot;

/// The two storages behind a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// The initial content of the disk. Never changes.
    Base,
    /// Receives all changes.
    Layer,
}

/// Bytes of a disk that are contiguous in one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The store.
    pub store: Store,
    /// The offset of the first byte in the store.
    pub offset: u64,
    /// The number of bytes.
    pub len: u64,
}

/// States where the bytes of a disk are. Shared by all lanes of the disk.
///
/// A map may hold a lock during a lookup, but never during I/O.
pub trait Map: Send + Sync + fmt::Debug {
    /// The place of the byte at `offset` of the disk, and how many of the `len` bytes from there follow it: at least
    /// one unless `len` is 0, and at most `len`.
    fn find(&self, offset: u64, len: u64) -> Extent;
    /// Records that the layer has these bytes of the disk, at the same offset: whole sectors. Bytes never return to the
    /// base, so a request may continue with the result of an earlier lookup.
    fn moved(&self, offset: u64, len: u64);
}

#[cfg(test)]
mod tests;
