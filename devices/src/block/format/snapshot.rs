//! `snapshot=on`: the guest can write, and the image does not change.
//!
//! Changes go to a layer: a sparse, unlinked file of the disk's size, with each byte at its own offset. The file is
//! gone when the machine ends in any way. So no write has to reach stable storage: a flush succeeds immediately, and
//! promises nothing.
//!
//! **The map has one bit for each sector** ([`Sectors`]), which is set when the layer has the sector. No request of the
//! protocols is smaller than a sector, so a write copies nothing from the image. With larger units most writes would
//! read the image first, and block other writes to the same unit.
//!
//! Zeros and discarded sectors are holes in the layer. On a file system without holes a discard does nothing. Beyond
//! the end of the image, where the disk has grown, all bytes are in the layer.

use std::io;
use std::path::Path;

use super::sectors::Sectors;
use super::{Extent, Map, MappedStorage, Store};
use crate::block::{
    Engine, EngineKind, Image, ImageError, SECTOR_SIZE, Stop, Storage, StorageInfo,
};

/// The storage of a disk with an image that does not change. Clones share the layer.
#[derive(Debug, Clone)]
pub struct Snapshot(MappedStorage<SnapshotMap>);

impl Snapshot {
    /// A disk on `image`, with a layer in the directory `dir`: [`Image::layer`]. Open the image for reading only, so
    /// that it can be shared.
    ///
    /// # Errors
    ///
    /// If the layer cannot be created.
    pub fn new(image: Image, dir: &Path) -> Result<Self, ImageError> {
        Self::on(EngineKind::Sync, image, dir)
    }

    /// The same, with `engine` for both files.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::new`], and if the engine cannot serve the image or the layer.
    pub fn on(engine: EngineKind, image: Image, dir: &Path) -> Result<Self, ImageError> {
        let (size, direct) = (image.size(), image.direct().is_some());
        Self::layered(engine, engine.storage(image)?, size, direct, dir)
    }

    /// A disk on the first `size` bytes of `base`, with a layer in the directory `dir`, which `engine` serves. With
    /// `direct` it bypasses the page cache.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::on`].
    pub fn layered(
        engine: EngineKind,
        base: Box<dyn Storage>,
        size: u64,
        direct: bool,
        dir: &Path,
    ) -> Result<Self, ImageError> {
        let layer = Image::layer(dir, size, direct)?;
        let place = format!("the layer of snapshot=on, in {}", dir.display());
        Ok(Self::over(base, size, engine.storage(layer)?, place))
    }

    /// A disk on the first `size` bytes of `base`. Changes go to `layer`, which has the same size and reads as zeros.
    /// `place` is the layer's name in messages.
    pub fn over(base: Box<dyn Storage>, size: u64, layer: Box<dyn Storage>, place: String) -> Self {
        let map = SnapshotMap { base_len: size, sectors: Sectors::default() };
        Self(MappedStorage::new(map, base, layer, place))
    }
}

impl Storage for Snapshot {
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>> {
        self.0.engine(stop)
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        self.0.grow(size)
    }

    fn frees_space(&self) -> bool {
        self.0.frees_space()
    }

    fn info(&self) -> StorageInfo {
        self.0.info()
    }
}

/// The sectors of the layer.
#[derive(Debug)]
struct SnapshotMap {
    /// The bytes of the image; beyond them everything is in the layer.
    base_len: u64,
    sectors: Sectors,
}

impl Map for SnapshotMap {
    fn find(&self, offset: u64, len: u64) -> Extent {
        // Every request was checked to be on the disk.
        let end = offset.saturating_add(len);
        if offset >= self.base_len {
            return Extent { store: Store::Layer, offset, len };
        }
        let last = end.min(self.base_len).div_ceil(SECTOR_SIZE);
        let (in_layer, until) = self.sectors.run(offset / SECTOR_SIZE, last);
        let until = until.saturating_mul(SECTOR_SIZE);
        let (store, until) = match in_layer {
            // It continues beyond the end of the image.
            true if until >= self.base_len => (Store::Layer, end),
            true => (Store::Layer, until.min(end)),
            false => (Store::Base, until.min(self.base_len).min(end)),
        };
        Extent { store, offset, len: until - offset }
    }

    fn moved(&self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        self.sectors.insert(offset / SECTOR_SIZE, end / SECTOR_SIZE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_of_an_image_with_a_ragged_end() {
        let map = SnapshotMap { base_len: 1300, sectors: Sectors::default() };
        let find = |offset, len| {
            let Extent { store, offset: same, len } = map.find(offset, len);
            assert_eq!(same, offset);
            (store, len)
        };
        assert_eq!(find(0, 1300), (Store::Base, 1300));
        assert_eq!(find(100, 5000), (Store::Base, 1200));
        assert_eq!(find(1300, 5000), (Store::Layer, 5000));
        map.moved(512, 512);
        assert_eq!(find(0, 5000), (Store::Base, 512));
        assert_eq!(find(600, 5000), (Store::Layer, 424));
        assert_eq!(find(600, 10), (Store::Layer, 10));
        assert_eq!(find(1024, 5000), (Store::Base, 276));
        map.moved(1024, 512);
        assert_eq!(find(600, 5000), (Store::Layer, 5000));
    }
}
