//! What moves the bytes of the guests' disks, and which thread serves their doorbells: cafevm's defaults, or something
//! that makes it harder.
//!
//! `CAFEVM_TEST_ENGINE=late` gives every disk of every test storage that finishes its requests on another thread, later
//! and out of order. `CAFEVM_TEST_ENGINE=snapshot` puts the map of `snapshot=on` in front of every writable image: what
//! was there is read from a copy, and what is written goes to the image, which so holds in the end what it must.
//! `CAFEVM_TEST_ENGINE=nbd` moves the bytes of every writable image through an NBD server in this process, as far as it
//! has whole sectors. The names of cafevm's own engines (`engine=` of a disk) give each disk that engine, if it can have it.
//!
//! `CAFEVM_TEST_DOORBELL` is the `doorbell=` of each virtio disk. `CAFEVM_TEST_PAGES=off` makes each read of a register
//! an exit.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs, io, thread};

use cafevm::config::{DiskBus, DiskConfig, Doorbell, VmConfig, WrapStorage};
use cafevm_devices::block::format::Snapshot;
use cafevm_devices::block::nbd::{NbdOptions, NbdStorage};
use cafevm_devices::block::{
    Access, Cache, Engine, EngineKind, Image, ImageStorage, Opening, Stop, Storage,
};
use cafevm_devices::testing::{LateStorage, NbdServer};
use tempfile::NamedTempFile;

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
            // A test may ask for one itself.
            Kind::Own(_) if disk.engine != EngineKind::default() => None,
            Kind::Own(engine) => {
                disk.engine = engine;
                None
            }
            Kind::Late => Some(WrapStorage::new(|inner| Box::new(LateStorage::new(inner, DELAY)))),
            Kind::Nbd => served(disk),
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
            thread::Builder::new().spawn(move || link.run())?;
            Ok(Served { storage, _server: server, _image: image })
        };
        #[expect(clippy::expect_used, reason = "a test without its disk fails")]
        let served = serve().expect("an NBD server");
        Box::new(served)
    }))
}

/// A disk on a server for an image, which stays locked.
#[derive(Debug)]
struct Served {
    /// Dropped first.
    storage: NbdStorage,
    _server: NbdServer,
    _image: Box<dyn Storage>,
}

impl Storage for Served {
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>> {
        self.storage.engine(stop)
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        self.storage.grow(size)
    }

    fn frees_space(&self) -> bool {
        self.storage.frees_space()
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

fn named(name: &str) -> Result<Kind, String> {
    if let Some((_, engine)) = EngineKind::ALL.iter().find(|(own, _)| *own == name) {
        return Ok(Kind::Own(*engine));
    }
    match name {
        "" => Ok(Kind::Own(EngineKind::default())),
        "late" => Ok(Kind::Late),
        "snapshot" => Ok(Kind::Snapshot),
        "nbd" => Ok(Kind::Nbd),
        other => {
            let own = EngineKind::ALL.map(|(own, _)| own).join(", ");
            Err(format!("{VARIABLE}={other}: the engines are {own}, late, nbd and snapshot"))
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
        assert!(named("early").is_err());
    }

    #[test]
    fn a_thread_for_doorbells_has_a_name() {
        assert_eq!(doorbell(""), Ok(Doorbell::Auto));
        assert_eq!(doorbell("spin"), Ok(Doorbell::Spin));
        assert!(doorbell("bell").is_err());
    }
}
