//! Any access to any register of virtio-mmio, in both versions and under both policies.

use std::sync::Arc;

use crate::block::{Disk, Storage};
use crate::bus::BusDevice;
use crate::observe::Tap;
use crate::testing::input::Input;
use crate::testing::virtio_driver::{DATA, HEADER, VirtioDriver, reg};
use crate::testing::{CountingLine, Held, HeldStorage, LogLines, Ring, WatchedImage};
use crate::virtio::blk::{self, Blk};
use crate::virtio::mmio::{MmioOptions, Policy, Version};

/// The sectors of the image at the start.
const SECTORS: usize = 16;
/// The most log lines of one device: 40, and a summary.
const LINES: u64 = 41;
/// Accesses in one run.
const STEPS: usize = 600;

const VALUES: [u32; 20] = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    11,
    15,
    16,
    64,
    128,
    255,
    256,
    512,
    4096,
    0x1_0000,
    0x4_0000,
    0x1_0008,
    u32::MAX,
];

struct Fuzzed {
    driver: VirtioDriver,
    version: Version,
    image: WatchedImage,
    held: Option<Held>,
    helper: CountingLine,
}

/// For any writes: nothing panics, the identification registers do not change, the log is limited, and the device works
/// again after a reset.
///
/// # Panics
///
/// If one of these does not hold.
pub fn mmio_registers(bytes: &[u8]) {
    let lines = LogLines::of(|| {
        let mut input = Input::new(bytes);
        let mut fuzzed = Fuzzed::choose(&mut input);
        for _ in 0..STEPS {
            if input.is_over() {
                break;
            }
            fuzzed.step(&mut input);
            fuzzed.check();
        }
        fuzzed.recover();
    });
    assert!(lines <= LINES, "{lines} lines in the log");
}

impl Fuzzed {
    fn choose(input: &mut Input<'_>) -> Self {
        let version = input.pick(&[Version::Modern, Version::Legacy], Version::Modern);
        let policy = input.pick(&[Policy::Lenient, Policy::Strict], Policy::Lenient);
        let contents: Vec<_> = (0..SECTORS * 512).map(|n| (n / 512) as u8 + 1).collect();
        let (image, size) = (WatchedImage::new(&contents), contents.len() as u64);
        let mut storage: Box<dyn Storage> = Box::new(image.clone());
        let mut held = None;
        if input.one_in(4) {
            let holding = HeldStorage::new(storage);
            held = Some(holding.held());
            storage = Box::new(holding);
        }
        let disk = Disk::new(storage, "the fuzzer's".into(), size, input.one_in(8));
        let options = blk::BlkOptions {
            queues: 1 + input.below(3) as u16,
            queue_size: 4 << input.below(9),
            ..blk::BlkOptions::default()
        };
        let blk = Blk::new("virtio0", &disk, &options, Tap::default()).unwrap();
        let helper = CountingLine::default();
        let with_helper = input.one_in(2);
        let options = MmioOptions {
            version,
            policy,
            leftover: with_helper.then(|| Arc::new(helper.clone()) as _),
            ..MmioOptions::default()
        };
        Self { driver: VirtioDriver::with(blk, options), version, image, held, helper }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let driver = &mut self.driver;
        match input.byte() {
            0..90 => {
                let offset = 4 * u64::from(input.below(64));
                let value =
                    if input.one_in(4) { input.word() } else { input.pick(&VALUES, u32::MAX) };
                driver.set(offset, value);
            }
            90..130 => {
                driver.get(4 * u64::from(input.below(64)));
            }
            130..170 => {
                let mut data = [0; 8];
                let (offset, width) = (u64::from(input.below(0x200)), 1 + input.below(8) as usize);
                data[..4].copy_from_slice(&input.word().to_le_bytes());
                driver.mmio.write(offset, &data[..width]);
                driver.mmio.read(offset, &mut data[..width]);
            }
            170..180 => driver.mmio.write(reg::CONFIG + 32, &[input.below(3) as u8]),
            180..200 => self.handshake(input),
            200..215 => {
                let sector = u64::from(input.byte());
                let kind = input.pick(&[0, 1, 4, 8, 11, 13, 77], 0);
                driver.request(kind, sector, 512 * input.below(4));
            }
            215..225 => driver.mmio.service_unfinished(),
            225..230 => drop(driver.resize(512 * u64::from(input.byte()))),
            230..245 => {
                // The area for queues and indirect tables.
                let at =
                    u64::from(input.below(0x8000)) + if input.one_in(2) { 0x4_0000 } else { 0 };
                let bytes = [(); 16].map(|()| input.byte());
                driver.write(at, &bytes);
            }
            245.. => {
                if let Some(held) = &self.held {
                    held.release(input.below(4) as usize);
                }
            }
        }
    }

    /// A correct handshake, as far as the device allows it.
    fn handshake(&mut self, input: &mut Input<'_>) {
        let driver = &mut self.driver;
        let features = driver.offered() & !(u64::from(input.byte()) << input.below(40));
        let size = 1 << input.below(11);
        match self.version {
            Version::Modern => {
                driver.negotiate(features);
                driver.set_up_queue(size);
            }
            Version::Legacy => {
                driver.negotiate_legacy(features as u32, 4096);
                let mut ring = Ring::contiguous(size as u16, 0x4_0000, 4096);
                driver.set_up_legacy(0, &mut ring, 4096, 0x40);
                driver.ring = ring;
            }
        }
        driver.go_live();
    }

    fn check(&mut self) {
        let driver = &mut self.driver;
        let version = if self.version == Version::Legacy { 1 } else { 2 };
        for (register, value) in
            [(reg::MAGIC_VALUE, 0x7472_6976), (reg::VERSION, version), (reg::DEVICE_ID, 2)]
        {
            assert_eq!(driver.get(register), value);
        }
        assert_eq!(driver.get(reg::INTERRUPT_STATUS) & !3, 0);
        assert_eq!(driver.get(reg::STATUS) & !0xcf, 0);
        // The loop that the helper wakes must end: no queue stays unfinished forever.
        if self.helper.take() > 0 {
            for _ in 0..8 {
                driver.mmio.service_unfinished();
            }
            self.helper.take();
            driver.mmio.service_unfinished();
            assert_eq!(self.helper.take(), 0, "the helper goes round in circles");
        }
    }

    fn recover(&mut self) {
        let driver = &mut self.driver;
        let mut ring = Ring::contiguous(2, 0x4_0000, 4096);
        match self.version {
            Version::Modern => {
                assert!(driver.negotiate(1 << 32 | 1 << 9));
                assert!(driver.set_up_ring(0, &mut ring));
            }
            Version::Legacy => {
                driver.negotiate_legacy(1 << 9, 4096);
                assert!(driver.set_up_legacy(0, &mut ring, 4096, 0x40));
            }
        }
        driver.go_live();
        assert!(!driver.needs_reset() && driver.get(reg::INTERRUPT_STATUS) == 0);
        driver.line.take();
        driver.header(HEADER, 0, 3);
        // A queue of two: data and status byte in one buffer.
        driver.write(DATA, &[0xee; 513]);
        ring.chain(&driver.ram, 0, &[(HEADER, 16, false), (DATA, 513, true)]);
        ring.offer(&driver.ram, 0);
        driver.kick();
        if let Some(held) = &self.held {
            held.release_all();
            driver.kick();
        }
        assert_eq!((ring.pop(&driver.ram), ring.pop(&driver.ram)), (Some((0, 513)), None));
        let expected = [&self.image.bytes()[3 * 512..4 * 512], &[0]].concat();
        assert!(driver.bytes(DATA, 513) == expected, "after a reset the device reads wrong bytes");
        assert_eq!((driver.line.take(), driver.get(reg::INTERRUPT_STATUS)), (1, 1));
    }
}
