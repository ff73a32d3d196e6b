//! What moves the bytes of the guests' disks, and which thread serves their doorbells: cafevm's defaults, or something
//! that makes it harder.
//!
//! `CAFEVM_TEST_ENGINE=late` gives every disk of every test storage that finishes its requests on another thread, later
//! and out of order. `CAFEVM_TEST_ENGINE=snapshot` puts the map of `snapshot=on` in front of every writable image: what
//! was there is read from a copy, and what is written goes to the image, which so holds in the end what it must.
//! `CAFEVM_TEST_ENGINE=overlay` puts a qcow2 overlay in front of every writable image of whole sectors, and writes its
//! content to the image when the machine has ended. `CAFEVM_TEST_ENGINE=nbd` moves the bytes of every writable image
//! through an NBD server in this process, as far as it has whole sectors. The names of cafevm's own engines (`engine=`
//! of a disk) give each disk that engine, if it can have it.
//!
//! `CAFEVM_TEST_DOORBELL` is the `doorbell=` of each virtio disk. `CAFEVM_TEST_PAGES=off` makes each read of a register
//! an exit.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{env, fs, io};

use cafevm::config::{DiskBus, DiskConfig, Doorbell, Layers, VmConfig, WrapStorage};
use cafevm_devices::block::format::{Base, Qcow2Storage, Snapshot};
use cafevm_devices::block::nbd::{NbdOptions, NbdStorage};
use cafevm_devices::block::{
    Access, Cache, Disk, Engine, EngineKind, Image, ImageStorage, Opening, Operation, Stop,
    Storage, StorageInfo,
};
use cafevm_devices::memory::{Buffers, GuestRam};
use cafevm_devices::testing::{LateStorage, NbdServer};
use tempfile::NamedTempFile;

use crate::{Failed, Outcome, SECTOR, Scratch};

/// The variable that names the engine.
pub const VARIABLE: &str = "CAFEVM_TEST_ENGINE";
/// The variable that names the thread for doorbells.
pub const DOORBELL: &str = "CAFEVM_TEST_DOORBELL";
/// The variable that turns register pages off.
pub const PAGES: &str = "CAFEVM_TEST_PAGES";
/// How long requests pile up before some of them are done: less than a guest that is killed lives.
const DELAY: Duration = Duration::from_micros(100);

/// Gives the disks the engine and the thread for doorbells that the environment asks for.
///
/// # Errors
///
/// If there is none with this name; the text lists all.
pub fn apply(config: &mut VmConfig) -> Result<(), String> {
    let engine = named(&text(VARIABLE))?;
    let doorbell = doorbell(&text(DOORBELL))?;
    config.register_pages &= has_register_pages();
    for disk in &mut config.disks {
        // A test may ask for one itself.
        if matches!(disk.bus, DiskBus::Virtio(_)) && disk.doorbell == Doorbell::default() {
            disk.doorbell = doorbell;
        }
        disk.storage = match engine {
            Kind::Own(EngineKind::Mmap) if disk.cache == Cache::None => None,
            // A test may ask for one itself, or for layers, which have one engine only.
            Kind::Own(_)
                if disk.engine != EngineKind::default() || disk.layers != Layers::default() =>
            {
                None
            }
            Kind::Own(engine) => {
                disk.engine = engine;
                None
            }
            Kind::Late => Some(WrapStorage::new(|inner| Box::new(LateStorage::new(inner, DELAY)))),
            Kind::Nbd => served(disk),
            Kind::Overlay if disk.access == Access::ReadOnly || disk.snapshot => None,
            Kind::Overlay => {
                let path = disk.path.clone();
                let is_whole = |len: u64| len > 0 && len.is_multiple_of(SECTOR as u64);
                fs::metadata(&path).is_ok_and(|m| is_whole(m.len())).then(|| overlaid(path))
            }
            Kind::Snapshot if disk.access == Access::ReadOnly || disk.snapshot => None,
            Kind::Snapshot => {
                let path = disk.path.clone();
                // An image that is not there is cafevm's to report.
                fs::metadata(&path).is_ok_and(|m| m.len() > 0).then(|| mapped(path))
            }
        };
    }
    Ok(())
}

/// Whether requests are finished after their doorbell: then a reset may come first, and a batch may have several
/// interrupts.
pub fn is_late() -> bool {
    ["late", "nbd", "uring", "auto"].contains(&&*text(VARIABLE)) || is_rung_elsewhere()
}

/// Whether another thread than the vCPU may serve doorbells: they are no exits then, and their number varies.
pub fn is_rung_elsewhere() -> bool {
    matches!(doorbell(&text(DOORBELL)), Ok(Doorbell::Thread | Doorbell::Spin))
}

/// Whether a guest may read registers without an exit.
pub fn has_register_pages() -> bool {
    text(PAGES) != "off"
}

/// The value of a variable; empty if it is not set.
fn text(variable: &str) -> String {
    env::var_os(variable).unwrap_or_default().to_string_lossy().into_owned()
}

fn doorbell(name: &str) -> Result<Doorbell, String> {
    match Doorbell::ALL.iter().find(|(known, _)| *known == name) {
        Some((_, doorbell)) => Ok(*doorbell),
        None if name.is_empty() => Ok(Doorbell::default()),
        None => {
            let known = Doorbell::ALL.map(|(known, _)| known).join(", ");
            Err(format!("{DOORBELL}={name}: there are {known}"))
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Own(EngineKind),
    Late,
    Snapshot,
    Overlay,
    Nbd,
}

/// An NBD server for the image of a disk, if that can have one.
fn served(disk: &DiskConfig) -> Option<WrapStorage> {
    let path = disk.path.clone();
    let len = fs::metadata(&path).ok()?.len();
    let is_svirtb = matches!(disk.bus, DiskBus::Svirtb { .. });
    let is_ragged = len % 512 > 0;
    let is_other = disk.access == Access::ReadOnly || disk.snapshot || disk.nbd.is_some();
    if is_other || len < 512 || is_ragged && is_svirtb {
        return None;
    }
    Some(WrapStorage::new(move |image| {
        let serve = || -> io::Result<Served> {
            let file = File::options().read(true).write(true).open(&path)?;
            let server = NbdServer::of_file(file)?;
            let uri = server.uri().parse().map_err(io::Error::other)?;
            let storage = NbdStorage::open(NbdOptions::new(uri)).map_err(io::Error::other)?;
            let link = storage.link();
            let thread = thread::Builder::new().spawn(move || link.run())?;
            Ok(Served {
                storage: Some(storage),
                thread: Some(thread),
                _server: server,
                _image: image,
            })
        };
        #[expect(clippy::expect_used, reason = "a test without its disk fails")]
        let served = serve().expect("an NBD server");
        Box::new(served)
    }))
}

/// A disk on a server for an image, which stays locked.
#[derive(Debug)]
struct Served {
    /// There until the end.
    storage: Option<NbdStorage>,
    thread: Option<JoinHandle<()>>,
    _server: NbdServer,
    _image: Box<dyn Storage>,
}

impl Storage for Served {
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>> {
        match &self.storage {
            Some(storage) => storage.engine(stop),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        self.storage.as_ref().map_or(Ok(()), |storage| storage.grow(size))
    }

    fn frees_space(&self) -> bool {
        self.storage.as_ref().is_some_and(Storage::frees_space)
    }
}

impl Drop for Served {
    /// The server stays until the client has left it: a client whose server goes away says so.
    fn drop(&mut self) {
        self.storage = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            println!("the thread of an NBD link panicked");
        }
    }
}

/// A map in front of the image at `path`: a copy of it for the base, itself for the layer.
fn mapped(path: PathBuf) -> WrapStorage {
    WrapStorage::new(move |layer| {
        let copy = || -> io::Result<Image> {
            let copy = NamedTempFile::new()?;
            fs::copy(&path, &copy)?;
            let opening = Opening::cached(Access::ReadOnly);
            Image::open(copy.path(), opening).map_err(io::Error::other)
        };
        #[expect(clippy::expect_used, reason = "a test without its disk fails")]
        let copy = copy().expect("a copy of the image");
        let (size, base) = (copy.size(), Box::new(ImageStorage::new(copy)));
        Box::new(Snapshot::over(base, size, layer, "the image, as a layer".to_owned()))
    })
}

/// A qcow2 overlay of a copy of the image at `path`.
fn overlaid(path: PathBuf) -> WrapStorage {
    WrapStorage::new(move |_| {
        #[expect(clippy::expect_used, reason = "a test without its disk fails")]
        Box::new(Overlaid::new(path.clone()).expect("an overlay of the image"))
    })
}

/// An overlay, whose content goes to the image in the end.
#[derive(Debug)]
struct Overlaid {
    overlay: Qcow2Storage,
    image: PathBuf,
    _place: Scratch,
}

impl Overlaid {
    fn new(image: PathBuf) -> io::Result<Self> {
        let place = Scratch::new()?;
        let copy = place.path("base.img");
        fs::copy(&image, &copy)?;
        let base = Image::open(&copy, Opening::cached(Access::ReadOnly));
        let base = Base { image: base.map_err(io::Error::other)?, qcow2: None };
        let opening = Opening::cached(Access::ReadWrite);
        let overlay = Qcow2Storage::overlay(&place.path("overlay.qcow2"), opening, base);
        Ok(Self { overlay: overlay.map_err(io::Error::other)?, image, _place: place })
    }

    /// Writes the content of the disk to the image.
    fn flatten(&self) -> Outcome {
        const PIECE: u64 = 1 << 20;
        let size = self.overlay.size();
        let disk = Disk::new(Box::new(self.overlay.clone()), "overlay".to_owned(), size, false);
        let mut lane = disk.lane()?;
        let image = fs::OpenOptions::new().write(true).open(&self.image)?;
        let ram = GuestRam::anonymous(&[(0, usize::try_from(PIECE)?)]).map_err(Failed::from)?;
        let mut bytes = Vec::new();
        for at in (0..size).step_by(usize::try_from(PIECE)?) {
            let len = PIECE.min(size - at);
            let piece = Buffers::single(ram.clone(), 0, len).map_err(Failed::from)?;
            lane.run(Operation::Read(piece.clone()), at).map_err(Failed::from)?;
            bytes.resize(usize::try_from(len)?, 0);
            piece.copy_to(&mut bytes);
            image.write_all_at(&bytes, at)?;
        }
        Ok(())
    }
}

impl Storage for Overlaid {
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>> {
        self.overlay.engine(stop)
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        self.overlay.grow(size)?;
        fs::OpenOptions::new().write(true).open(&self.image)?.set_len(size)
    }

    fn frees_space(&self) -> bool {
        self.overlay.frees_space()
    }

    fn info(&self) -> StorageInfo {
        self.overlay.info()
    }
}

impl Drop for Overlaid {
    fn drop(&mut self) {
        if let Err(failed) = self.flatten() {
            // The test compares the image, and will fail.
            println!("the overlay's content is lost: {}", failed.message().unwrap_or_default());
        }
    }
}

fn named(name: &str) -> Result<Kind, String> {
    if let Some((_, engine)) = EngineKind::ALL.iter().find(|(own, _)| *own == name) {
        return Ok(Kind::Own(*engine));
    }
    match name {
        "" => Ok(Kind::Own(EngineKind::default())),
        "late" => Ok(Kind::Late),
        "snapshot" => Ok(Kind::Snapshot),
        "overlay" => Ok(Kind::Overlay),
        "nbd" => Ok(Kind::Nbd),
        other => {
            let own = EngineKind::ALL.map(|(own, _)| own).join(", ");
            Err(format!(
                "{VARIABLE}={other}: the engines are {own}, late, nbd, overlay and snapshot"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_has_a_name() {
        assert_eq!(named("sync"), Ok(Kind::Own(EngineKind::Sync)));
        assert_eq!(named("uring"), Ok(Kind::Own(EngineKind::Uring)));
        assert_eq!(named("auto"), Ok(Kind::Own(EngineKind::Auto)));
        assert_eq!(named("mmap"), Ok(Kind::Own(EngineKind::Mmap)));
        assert_eq!(named("late"), Ok(Kind::Late));
        assert_eq!(named("snapshot"), Ok(Kind::Snapshot));
        assert_eq!(named("nbd"), Ok(Kind::Nbd));
        assert_eq!(named("overlay"), Ok(Kind::Overlay));
        assert!(named("early").is_err());
    }

    #[test]
    fn a_thread_for_doorbells_has_a_name() {
        assert_eq!(doorbell(""), Ok(Doorbell::Auto));
        assert_eq!(doorbell("spin"), Ok(Doorbell::Spin));
        assert!(doorbell("bell").is_err());
    }
}
