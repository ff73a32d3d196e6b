//! Opens an image and its chain of backing files.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use imago::FormatAccess;
use imago::format::drivers::FormatDriverInstance;
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use tracing::info;

use super::checkpoint::Checkpoints;
use super::file::ImageFile;
use super::header::Header;
use super::{Format, Qcow2Error, Qcow2Storage, refcounts};
use crate::block::{Access, Image, ImageError, Opening, SECTOR_SIZE};

/// The most files of a chain.
const CHAIN_MAX: usize = 16;

/// Whether an image may name other files to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backing {
    /// An image with a backing file is refused.
    #[default]
    Refuse,
    /// Backing files are opened for reading: each file that the image names, and that this process may read.
    Allow,
}

/// What an overlay is over.
#[derive(Debug)]
pub struct Base {
    /// The image, open for reading.
    pub image: Image,
    /// Whether it is a qcow2 image, and whether that may name a backing file; none for a raw image.
    pub qcow2: Option<Backing>,
}

impl Base {
    /// Its format, as headers and `qemu-img` name it.
    pub(super) const fn format(&self) -> &'static str {
        if self.qcow2.is_some() { "qcow2" } else { "raw" }
    }
}

/// The bytes of a disk on `base`: whole sectors.
///
/// # Errors
///
/// If its header is damaged.
pub(super) fn size_of(base: &Base) -> Result<u64, Qcow2Error> {
    let size = match base.qcow2 {
        Some(_) => header(&base.image)?.size,
        None => base.image.size(),
    };
    // The last sector of a raw image may be a part of one.
    size.checked_next_multiple_of(SECTOR_SIZE).ok_or_else(|| Qcow2Error::damaged("its size"))
}

/// Opens `image`, with the backing files that it names if `backing` allows that.
///
/// # Errors
///
/// Why it cannot be used.
pub(super) fn image(image: Image, backing: Backing) -> Result<Qcow2Storage, Qcow2Error> {
    open(image, |chain, qcow2, file| chain.named(qcow2, file, backing))
}

/// Opens the overlay `image` of `base`.
///
/// # Errors
///
/// If it is an overlay of another image, or cannot be used.
pub(super) fn overlay(image: Image, base: Base) -> Result<Qcow2Storage, Qcow2Error> {
    open(image, |chain, qcow2, file| chain.given(qcow2, file, base).map(Some))
}

/// A layer of the library, over those below it.
type Layer = FormatAccess<ImageFile>;

fn open(
    image: Image,
    backing: impl FnOnce(&mut Chain, &Qcow2<ImageFile>, &ImageFile) -> Result<Option<Layer>, Qcow2Error>,
) -> Result<Qcow2Storage, Qcow2Error> {
    let writable = !image.read_only();
    let header = header(&image)?;
    if writable {
        make_writable(&image, &header)?;
    }
    let mut chain = Chain::default();
    let file = chain.add(image, false)?;
    let mut qcow2 = Qcow2::open_image(file.clone(), writable).map_err(Qcow2Error::Host)?;
    let layer = backing(&mut chain, &qcow2, &file)?;
    let reach = layer.as_ref().map_or(0, FormatAccess::size);
    qcow2.set_backing(layer);
    let top = FormatAccess::new(qcow2);
    let checkpoints = match writable {
        true => Some(Checkpoints::new(file.clone(), header).map_err(Qcow2Error::Host)?),
        false => None,
    };
    let format = Format {
        top,
        files: chain.files,
        cluster: header.cluster(),
        largest: header.largest(),
        reach,
        checkpoints: checkpoints.map(Mutex::new),
        changed: AtomicBool::new(file.has_changes()),
    };
    // The header may have changed: features that a write makes untrue are switched off.
    format.flush().map_err(|failure| Qcow2Error::Host(failure.into()))?;
    Ok(Qcow2Storage(Arc::new(format)))
}

fn header(image: &Image) -> Result<Header, Qcow2Error> {
    if image.is_device() {
        return Err(Qcow2Error::Device);
    }
    Header::read(image.file())
}

/// Refuses what cannot be written, and makes the refcounts true.
fn make_writable(image: &Image, header: &Header) -> Result<(), Qcow2Error> {
    if !header.v3 {
        return Err(Qcow2Error::OldForWriting);
    }
    if header.snapshots != 0 {
        return Err(Qcow2Error::Snapshots(header.snapshots));
    }
    if header.bitmaps {
        return Err(Qcow2Error::Bitmaps);
    }
    refcounts::refuse_shared_tables(image.file(), header)?;
    let found = refcounts::audit(image.file(), header)?;
    if found.low > 0 && !header.dirty {
        return Err(Qcow2Error::Refcounts(found.low));
    }
    if found.high > 0 || found.low > 0 {
        info!(
            "{}: was not closed when it was last used; refcounts are corrected: {} were too high, {} too low",
            image.name(),
            found.high,
            found.low
        );
        found.correct(image.file()).map_err(Qcow2Error::Host)?;
    }
    Ok(())
}

/// The files opened so far: the disk's own image first.
#[derive(Default)]
struct Chain {
    files: Vec<ImageFile>,
    ids: Vec<(u64, u64)>,
}

impl Chain {
    fn add(&mut self, image: Image, raw: bool) -> Result<ImageFile, Qcow2Error> {
        let metadata = image.file().metadata().map_err(Qcow2Error::Host)?;
        let id = (metadata.dev(), metadata.ino());
        if self.ids.contains(&id) || self.ids.len() >= CHAIN_MAX {
            return Err(Qcow2Error::Chain(CHAIN_MAX));
        }
        self.ids.push(id);
        let file = ImageFile::new(image, raw);
        self.files.push(file.clone());
        Ok(file)
    }

    /// The backing file that the header of `file` names.
    fn named(
        &mut self,
        qcow2: &Qcow2<ImageFile>,
        file: &ImageFile,
        backing: Backing,
    ) -> Result<Option<Layer>, Qcow2Error> {
        let Some(name) = qcow2.implicit_backing_file() else { return Ok(None) };
        if backing == Backing::Refuse {
            return Err(Qcow2Error::BackingNotAllowed(name.clone()));
        }
        let Some(format) = qcow2.implicit_backing_format() else {
            return Err(Qcow2Error::BackingFormat(name.clone()));
        };
        let raw = match format.as_str() {
            "raw" => true,
            "qcow2" => false,
            _ => {
                let (name, format) = (name.clone(), format.clone());
                return Err(Qcow2Error::UnknownBackingFormat { name, format });
            }
        };
        let path = resolve(name, file.image().path())?;
        let opening = Opening { access: Access::ReadOnly, ..file.image().opening() };
        let image =
            Image::open(&path, opening).map_err(|error| Qcow2Error::Backing(Box::new(error)))?;
        self.layer(image, raw, backing).map(Some)
    }

    /// A layer that is only read.
    fn layer(&mut self, image: Image, raw: bool, backing: Backing) -> Result<Layer, Qcow2Error> {
        if raw {
            let file = self.add(image, true)?;
            return Ok(FormatAccess::new(Raw::open_image(file, false).map_err(Qcow2Error::Host)?));
        }
        let path = image.path().to_owned();
        let open = || {
            header(&image)?;
            let file = self.add(image, false)?;
            let mut qcow2 = Qcow2::open_image(file.clone(), false).map_err(Qcow2Error::Host)?;
            let below = self.named(&qcow2, &file, backing)?;
            qcow2.set_backing(below);
            Ok(FormatAccess::new(qcow2))
        };
        open().map_err(|error| Qcow2Error::Backing(Box::new(ImageError::Qcow2 { path, error })))
    }

    /// The base of an overlay, which must be the backing file that the overlay's header names.
    fn given(
        &mut self,
        qcow2: &Qcow2<ImageFile>,
        file: &ImageFile,
        base: Base,
    ) -> Result<Layer, Qcow2Error> {
        let other = |why: String| Qcow2Error::OtherBase { base: base.image.name(), why };
        let Some(name) = qcow2.implicit_backing_file() else {
            return Err(other("it has no backing file".to_owned()));
        };
        let format = qcow2.implicit_backing_format().map_or("", String::as_str);
        if format != base.format() {
            return Err(other(format!("its backing file has the format {format:?}")));
        }
        let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let named = resolve(name, file.image().path())?.metadata().ok().map(id);
        if named != base.image.file().metadata().ok().map(id) {
            return Err(other(format!("its backing file is {name:?}")));
        }
        let size = qcow2.size();
        let Base { image, qcow2 } = base;
        let name = image.name();
        let layer = self.layer(image, qcow2.is_none(), qcow2.unwrap_or_default())?;
        if size < layer.size() {
            let why = format!("it has {size} bytes, fewer than the {} of the image", layer.size());
            return Err(Qcow2Error::OtherBase { base: name, why });
        }
        Ok(layer)
    }
}

/// The path of the backing file `name` of the image at `path`. A protocol of QEMU such as "nbd:" or "json:" is refused.
fn resolve(name: &str, path: &Path) -> Result<PathBuf, Qcow2Error> {
    let protocol = name.split('/').next().is_some_and(|first| first.contains(':'));
    if name.is_empty() || protocol || name.contains('\0') {
        return Err(Qcow2Error::BackingName(name.to_owned()));
    }
    Ok(path.parent().unwrap_or(Path::new("")).join(name))
}
