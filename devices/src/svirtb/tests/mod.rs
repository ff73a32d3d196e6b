//! The guest's side, played by [`SvirtbDriver`], against a disk that a test can watch and disturb.

mod entries;
mod errors;
mod hostile;
mod joined;
mod limits;
mod registers;
mod script;
mod stats;
mod strides;

use std::sync::Arc;

use super::{Device, EntrySize, Register, Status};
use crate::block::Disk;
use crate::bus::BusDevice;
use crate::memory::GuestRam;
use crate::observe::Tap;
use crate::testing::{
    Fault, FaultStorage, Faults, Recorded, Recorder, SvirtbDriver, SvirtbEntry, SvirtbRing,
    WatchedImage,
};

/// RAM in all tests: 64 KiB at 0 and 64 KiB at 1 MiB, nothing in between.
const RAM: [(u64, usize); 2] = [(0, 64 << 10), (1 << 20, 64 << 10)];
/// The end of the upper range of RAM.
const RAM_END: u64 = (1 << 20) + (64 << 10);
/// Where the tests' ring lies unless they say otherwise.
const RING: SvirtbRing = SvirtbRing { base: 0x1000, size: 16, stride: 32 };
/// A buffer that overlaps nothing else.
const BUFFER: u64 = 0x8000;

/// A guest at a svirtb device, and the host behind it.
struct Machine {
    driver: SvirtbDriver<Device>,
    image: WatchedImage,
    faults: Faults,
    disk: Disk,
    recorder: Arc<Recorder>,
}

impl Machine {
    /// A machine whose device has just been made.
    fn off(image: &[u8], read_only: bool, entry_size: EntrySize, ring: SvirtbRing) -> Self {
        Self::with_ram(&RAM, image, read_only, entry_size, ring)
    }

    /// The same without an observer: the device may transfer several entries together.
    fn unobserved(image: &[u8], read_only: bool, entry_size: EntrySize, ring: SvirtbRing) -> Self {
        let mut machine = Self::off(image, read_only, entry_size, ring);
        let ram = machine.driver.ram().clone();
        let device = Device::new(&machine.disk, ram.clone(), entry_size, Tap::default()).unwrap();
        machine.driver = SvirtbDriver::new(device, ram, ring);
        machine
    }

    fn with_ram(
        ram: &[(u64, usize)],
        image: &[u8],
        read_only: bool,
        entry_size: EntrySize,
        ring: SvirtbRing,
    ) -> Self {
        let ram = GuestRam::anonymous(ram).unwrap();
        let size = image.len() as u64;
        let image = WatchedImage::new(image);
        let storage = FaultStorage::new(Box::new(image.clone()));
        let faults = storage.faults();
        let recorder = Arc::new(Recorder::default());
        let disk = Disk::new(Box::new(storage), "a test's disk".into(), size, read_only);
        let device =
            Device::new(&disk, ram.clone(), entry_size, Tap::to(recorder.clone())).unwrap();
        Self { driver: SvirtbDriver::new(device, ram, ring), image, faults, disk, recorder }
    }

    /// A machine past the handshake, with a writable disk.
    fn ready(image: &[u8]) -> Self {
        let mut machine = Self::off(image, false, EntrySize::Auto, RING);
        machine.driver.handshake().unwrap();
        machine
    }

    /// Brings the device from MAGIC to `status`; RESET by an unknown status.
    fn bring_to(&mut self, status: Status) {
        match status {
            Status::Magic => {}
            Status::DriverOk => self.driver.set(Register::Status, 0),
            Status::Ready => self.driver.handshake().unwrap(),
            Status::Reset => self.driver.set(Register::Status, 99),
        }
        assert_eq!(self.driver.status(), status.value());
    }

    /// All registers, in the order of their offsets.
    fn registers(&mut self) -> [u32; 6] {
        Register::ALL.map(|register| self.driver.get(register))
    }

    /// Queues the entries, rings once; status and tail afterwards.
    fn batch(&mut self, entries: &[SvirtbEntry]) -> (u32, u32) {
        for entry in entries {
            self.driver.queue(*entry).unwrap();
        }
        self.driver.ring();
        (self.driver.status(), self.driver.tail())
    }

    fn fill(&self, addr: u64, len: usize, byte: u8) {
        self.driver.ram().write(addr, &vec![byte; len]).unwrap();
    }

    fn bytes(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.driver.ram().read_into(addr, &mut bytes).unwrap();
        bytes
    }

    /// The last complaint, without the device's name in front.
    fn complaint(&mut self) -> String {
        let last = self.driver.device().reporter().log().last().expect("no complaint");
        last.strip_prefix("svirtb: ").expect("the device's name").to_owned()
    }

    fn no_complaint(&mut self) {
        assert_eq!(self.driver.device().reporter().log().last(), None);
    }

    /// Takes the events recorded since the last call.
    fn events(&self) -> Vec<Recorded> {
        self.recorder.take()
    }

    /// Takes the outcomes of the entries traced since the last call: "index operation: outcome".
    fn outcomes(&self) -> Vec<String> {
        let told = |event| match event {
            Recorded::Finished { request, outcome, .. } => {
                Some(format!("{} {}: {outcome}", request.index, request.operation))
            }
            _ => None,
        };
        self.events().into_iter().filter_map(told).collect()
    }
}

/// `sectors` sectors, each filled with its number, from 1 on.
fn numbered(sectors: u8) -> Vec<u8> {
    (1..=sectors).flat_map(|n| [n; 512]).collect()
}
