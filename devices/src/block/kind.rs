//! The engines that a user can select.

use std::fmt;

use super::{AutoStorage, Image, ImageError, ImageStorage, MmapStorage, Storage, UringStorage};

/// What moves the bytes of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineKind {
    /// preadv and pwritev on the calling thread: [`ImageStorage`].
    #[default]
    Sync,
    /// Reads from a mapping of the image: [`MmapStorage`].
    Mmap,
    /// io_uring: [`UringStorage`].
    Uring,
    /// At once what is cached, by io_uring what would block: [`AutoStorage`].
    Auto,
}

impl EngineKind {
    /// All engines, by their names on the command line.
    pub const ALL: [(&str, Self); 4] =
        [("sync", Self::Sync), ("mmap", Self::Mmap), ("uring", Self::Uring), ("auto", Self::Auto)];

    /// The storage of `image` with this engine.
    ///
    /// # Errors
    ///
    /// If the engine cannot serve the image.
    pub fn storage(self, image: Image) -> Result<Box<dyn Storage>, ImageError> {
        Ok(match self {
            Self::Sync => Box::new(ImageStorage::new(image)),
            Self::Mmap => Box::new(MmapStorage::new(image)?),
            Self::Uring => Box::new(UringStorage::new(image)?),
            Self::Auto => Box::new(AutoStorage::new(image)),
        })
    }
}

/// Its name on the command line.
impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, kind)| kind == self).map(|(name, _)| *name);
        f.write_str(name.unwrap_or_default())
    }
}
