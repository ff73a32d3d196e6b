//! Formats map, engines move bytes: a disk is an engine over an extent map.
//!
//! ```text
//!  raw:       Disk ─▶ engine                      every byte at its own offset: no map stands in between
//!  snapshot:  Disk ─▶ MappedEngine ┬─▶ engine of the base    the image, read only
//!                     (asks a Map) └─▶ engine of the layer   a sparse file without a name
//! ```
//!
//! A [`Map`] says in which store, and where in it, each byte of a disk lies. It does no I/O, so it works with every
//! engine. [`MappedStorage`] puts a map in front of two storages: its engines split a read where the map says so, send
//! what changes the disk to the layer, and enter it in the map when the layer has it. A raw disk has the identity for
//! a map, and for that there is no code: its storage is the image's, and a request costs what it did without maps.
//!
//! | question | file |
//! |---|---|
//! | What does a map promise? | here |
//! | How is a request split, and joined again? | `mapped.rs`, `split.rs` |
//! | What becomes of a write to a part of a sector? | `fill.rs` |
//! | What is `snapshot=on`? | `snapshot.rs` |
//! | How is it known which sectors the layer has? | `sectors.rs` |

mod fill;
mod mapped;
mod sectors;
mod snapshot;
mod split;

use std::fmt;

pub use mapped::MappedStorage;
pub use snapshot::Snapshot;

/// The two storages behind a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// What the disk holds at the beginning. Never changed.
    Base,
    /// What takes all changes.
    Layer,
}

/// Bytes of a disk that lie together in one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where they lie.
    pub store: Store,
    /// The first one's offset in the store.
    pub offset: u64,
    /// How many they are.
    pub len: u64,
}

/// Where the bytes of a disk are. Shared by all lanes of the disk.
///
/// A map may hold a lock while it looks something up, but never while the host reads or writes.
pub trait Map: Send + Sync + fmt::Debug {
    /// Where the byte at `offset` of the disk is, and how many of the `len` bytes from there on follow it: at least one
    /// where `len` is not 0, and `len` at the most.
    fn find(&self, offset: u64, len: u64) -> Extent;
    /// The layer has these bytes of the disk now, at the same offset: whole sectors. Bytes never go back to the base,
    /// so a request that looked the map up before may go on with what it found.
    fn moved(&self, offset: u64, len: u64);
}

#[cfg(test)]
mod tests;
