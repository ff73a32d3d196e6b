//! `snapshot=on`: the guest writes, and the image stays as it is.
//!
//! What the guest changes goes to a layer: a sparse file without a name, as long as the disk, each byte at its own
//! offset. It is gone when the machine ends, however that ends. So nothing that the guest writes has to reach stable
//! storage: a flush succeeds at once, and promises only what the layer does, which is nothing after a crash.
//!
//! **What is noted is a bit for each sector** ([`Sectors`]), set when the layer has the sector. No request of the
//! protocols is smaller than a sector, so a write copies nothing from the image. With larger granules most writes
//! of a guest would read the image first, and hold up the others that write to the same granule.
//!
//! Zeros and what is discarded are holes in the layer; where the layer's file system makes no holes, a discard does
//! nothing. Behind the image's end, where the disk has grown, all is in the layer.

use std::io;
use std::path::Path;

use super::sectors::Sectors;
use super::{Extent, Map, MappedStorage, Store};
use crate::block::{Engine, Image, ImageError, ImageStorage, SECTOR_SIZE, Stop, Storage};

/// The storage of a disk whose image does not change. Clones share the layer.
#[derive(Debug, Clone)]
pub struct Snapshot(MappedStorage<SnapshotMap>);

impl Snapshot {
    /// The disk in `image`, with a layer in the directory `dir`: [`Image::layer`]. The image is best opened for reading
    /// only, so that it can be shared.
    ///
    /// # Errors
    ///
    /// Where the layer cannot be made.
    pub fn new(image: Image, dir: &Path) -> Result<Self, ImageError> {
        let (size, direct) = (image.size(), image.direct().is_some());
        let layer = Image::layer(dir, size, direct)?;
        let place = format!("the layer of snapshot=on, in {}", dir.display());
        let (base, layer) = (ImageStorage::new(image), ImageStorage::new(layer));
        Ok(Self::over(Box::new(base), size, Box::new(layer), place))
    }

    /// The disk in the first `size` bytes of `base`. Changes go to `layer`, which is as long and reads as zeros.
    /// Messages call it `place`.
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
}

/// Which sectors the layer has.
#[derive(Debug)]
struct SnapshotMap {
    /// The bytes of the image; behind them all is in the layer.
    base_len: u64,
    sectors: Sectors,
}

impl Map for SnapshotMap {
    fn find(&self, offset: u64, len: u64) -> Extent {
        // Every request was checked to lie on the disk.
        let end = offset.saturating_add(len);
        if offset >= self.base_len {
            return Extent { store: Store::Layer, offset, len };
        }
        let last = end.min(self.base_len).div_ceil(SECTOR_SIZE);
        let (in_layer, until) = self.sectors.run(offset / SECTOR_SIZE, last);
        let until = until.saturating_mul(SECTOR_SIZE);
        let (store, until) = match in_layer {
            // It goes on behind the image's end.
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
