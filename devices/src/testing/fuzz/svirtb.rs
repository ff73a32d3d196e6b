//! svirtb against its model: any access, any ring, any entry.

use crate::block::Disk;
use crate::bus::BusDevice;
use crate::memory::GuestRam;
use crate::observe::Tap;
use crate::svirtb::{Device, EntrySize};
use crate::testing::input::Input;
use crate::testing::svirtb_model::{DRIVER_OK, MAGIC, Model, READY, RESET};
use crate::testing::{LogLines, SvirtbEntry, SvirtbRing, WatchedImage};

const RAM: [(u64, usize); 2] = [(0, 64 << 10), (1 << 20, 64 << 10)];
const RAM_END: u64 = (1 << 20) + (64 << 10);
const BASE: u64 = 0xcafe_0000;
/// Addresses and lengths near these are unusual.
const PLACES: [u64; 6] = [0, 64 << 10, 1 << 20, RAM_END, BASE, u64::MAX];
/// The most log lines of one device: 40 warnings, a summary, and a line for each detected distance.
const COMPLAINTS: u64 = 41;

struct Fuzzed {
    device: Device,
    ram: GuestRam,
    image: WatchedImage,
    model: Model,
    ring: SvirtbRing,
    head: u32,
    handshakes: u64,
}

/// For any actions of the guest: registers, RAM and image equal those of the model after each step.
///
/// # Panics
///
/// If they differ, or the log is flooded.
pub fn svirtb(bytes: &[u8]) {
    let mut handshakes = 0;
    let lines = LogLines::of(|| {
        let mut input = Input::new(bytes);
        let mut fuzzed = Fuzzed::choose(&mut input);
        fuzzed.handshake();
        while !input.is_over() {
            fuzzed.step(&mut input);
            fuzzed.compare();
        }
        handshakes = fuzzed.handshakes;
    });
    assert!(lines <= COMPLAINTS + handshakes, "{lines} lines in the log");
}

impl Fuzzed {
    fn choose(input: &mut Input<'_>) -> Self {
        let read_only = input.one_in(16);
        let (entry_size, given) = match input.below(4) {
            0 => (EntrySize::Padded, Some(32)),
            1 => (EntrySize::Packed, Some(28)),
            _ => (EntrySize::Auto, None),
        };
        let size = if input.one_in(4) { 1 + input.below(5000) } else { 4096 + input.below(512) };
        let bytes: Vec<_> = (0..size).map(|n| (n % 251) as u8).collect();
        let image = WatchedImage::new(&bytes);
        let ram = GuestRam::anonymous(&RAM).unwrap();
        let engine = Box::new(image.clone());
        let disk = Disk::new(engine, "the fuzzer's".into(), size.into(), read_only);
        let device = Device::new(&disk, ram.clone(), entry_size, Tap::default()).unwrap();
        let model = Model::new(&RAM, &bytes, read_only, given);
        let ring = Self::ring(input);
        Self { device, ram, image, model, ring, head: 0, handshakes: 0 }
    }

    fn ring(input: &mut Input<'_>) -> SvirtbRing {
        let odd = input.one_in(24);
        let stride = input.pick(&[32, 28], 32);
        let size = if odd { input.odd(&PLACES) as u32 } else { 2 + input.below(30) };
        let base = match input.below(4) {
            0 if odd => input.odd(&PLACES),
            // One kind of ring ends at the end of RAM.
            1 => RAM_END.wrapping_sub(u64::from(size) * stride),
            _ => 0xd000 + u64::from(input.below(0x1000)),
        };
        SvirtbRing { base, size, stride }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        self.device.write(offset, data);
        self.model.write(offset, data);
    }

    fn poke(&mut self, addr: u64, bytes: &[u8]) -> bool {
        let Some(there) = self.model.bytes(addr, bytes.len() as u64) else { return false };
        there.copy_from_slice(bytes);
        self.ram.write(addr, bytes).unwrap();
        true
    }

    fn handshake(&mut self) {
        self.handshakes += 1;
        self.head = 0;
        let SvirtbRing { base, size, .. } = self.ring;
        let writes = [
            (0, RESET),
            (0, DRIVER_OK),
            (8, (base >> 32) as u32),
            (12, base as u32),
            (4, size),
            (0, READY),
        ];
        for (offset, value) in writes {
            self.write(offset, &value.to_le_bytes());
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        // A driver usually starts again after its device stopped.
        if self.model.registers[0] == RESET && !input.one_in(8) {
            self.handshake();
        }
        match input.byte() {
            0..180 => {
                for _ in 0..input.below(6) {
                    let entry = Self::entry(input);
                    let at = self.ring.base.wrapping_add(u64::from(self.head) * self.ring.stride);
                    if self.poke(at, &entry.to_bytes()) {
                        self.head = (self.head + 1) % self.ring.size.max(1);
                    }
                }
                let head = if input.one_in(24) { input.word() } else { self.head };
                self.write(16, &head.to_le_bytes());
            }
            180..200 => {
                let value = input.pick(&[MAGIC, DRIVER_OK, READY, RESET, 3, u32::MAX, 16], MAGIC);
                self.write(4 * u64::from(input.below(6)), &value.to_le_bytes());
            }
            200..215 => {
                let (offset, width) = (u64::from(input.below(0xff8)), 1 + input.below(8) as usize);
                let data = [(); 8].map(|()| input.byte());
                self.write(offset, &data[..width]);
            }
            215..230 => {
                let offset = if input.one_in(2) { 4 * input.below(7) } else { input.below(0xff8) };
                let (mut data, width) = ([0xee; 8], 1 + input.below(8) as usize);
                self.device.read(offset.into(), &mut data[..width]);
                assert_eq!(data[..width], self.model.read(offset.into(), width));
            }
            230..245 => {
                let bytes = [input.byte(); 64];
                self.poke(input.below(0xffc0).into(), &bytes);
            }
            245.. => {
                self.ring = Self::ring(input);
                self.handshake();
            }
        }
    }

    fn entry(input: &mut Input<'_>) -> SvirtbEntry {
        let odd = if input.one_in(16) { input.below(4) } else { 4 };
        let mut addr = u64::from(input.below(0xf000));
        if input.one_in(2) {
            addr += 1 << 20;
        }
        let mut size = if input.one_in(2) { input.below(3000).into() } else { 512 };
        let (mut sector, mut cmd) = (input.below(9).into(), input.below(2));
        match odd {
            0 => addr = input.odd(&PLACES),
            1 => size = input.odd(&PLACES),
            2 => sector = input.odd(&[8, 9, 1 << 55, u64::MAX]),
            3 => cmd = input.odd(&[2, 28, 32]) as u32,
            _ => {}
        }
        SvirtbEntry { addr, size, sector, cmd }
    }

    fn compare(&mut self) {
        for (offset, expected) in (0..).zip(self.model.registers) {
            let mut data = [0; 4];
            self.device.read(4 * offset, &mut data);
            assert_eq!(u32::from_le_bytes(data), expected, "register {:#x}", 4 * offset);
        }
        for (base, expected) in &self.model.ram {
            let mut found = vec![0; expected.len()];
            self.ram.read_into(*base, &mut found).unwrap();
            assert!(found == *expected, "RAM from {base:#x} on differs");
        }
        // svirtb has no flush: everything that was answered is on stable storage.
        assert!(self.image.holds(&self.model.image, &self.model.image), "the images differ");
    }
}
