//! Any commands to a GPU, against its model.

use std::sync::Arc;

use crate::display::Screen;
use crate::observe::Tap;
use crate::testing::gpu_model::GpuModel;
use crate::testing::input::Input;
use crate::testing::virtio_driver::{DATA, LARGE, RAM_SIZE, VirtioDriver, reg};
use crate::testing::{LogLines, Ring};
use crate::virtio::gpu::{Gpu, GpuOptions};
use crate::virtio::mmio::MmioOptions;
use crate::virtio::spec::feature::{GPU_EDID, RING_INDIRECT_DESC, VERSION_1};

/// The bytes for pictures.
const MEMORY: u64 = 256 << 10;
/// The display.
const DISPLAY: (u32, u32) = (48, 32);
/// Where commands are; they are shorter than 4 KiB.
const COMMAND: u64 = DATA;
/// Where responses are.
const RESPONSE: u64 = DATA + 0x2000;
/// Where pictures are: 128 KiB.
const PICTURE: u64 = DATA + 0x1_0000;
const PICTURE_SIZE: u32 = 0x2_0000;
/// Steps of one run.
const STEPS: usize = 300;
/// The most log lines of one device: 40, and a summary.
const LINES: u64 = 41;

const FORMATS: [u32; 9] = [2, 1, 3, 4, 67, 68, 121, 134, 5];
/// Addresses and lengths near these are unusual.
const PLACES: [u64; 5] = [0, RAM_SIZE as u64, u32::MAX as u64, 8192, u64::MAX];

struct Fuzzed {
    driver: VirtioDriver,
    gpu: Arc<Gpu>,
    cursor: Ring,
    model: GpuModel,
    edid: bool,
    tally: GpuTally,
}

/// What came of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GpuTally {
    /// Commands that succeeded.
    pub done: u32,
    /// Commands that were refused.
    pub refused: u32,
    /// Comparisons of a screen that is not black.
    pub shown: u32,
    /// Comparisons of a cursor with a picture.
    pub pointers: u32,
}

/// For any commands, the responses, the screen and the cursor equal those of the model, and the log is limited.
///
/// # Panics
///
/// If they differ.
pub fn virtio_gpu(bytes: &[u8]) -> GpuTally {
    let mut tally = GpuTally::default();
    let lines = LogLines::of(|| {
        let mut input = Input::new(bytes);
        let mut fuzzed = Fuzzed::new();
        for _ in 0..STEPS {
            if input.is_over() {
                break;
            }
            fuzzed.step(&mut input);
        }
        fuzzed.compare();
        tally = fuzzed.tally;
    });
    assert!(lines <= LINES, "{lines} lines in the log");
    tally
}

impl Fuzzed {
    fn new() -> Self {
        let (width, height) = DISPLAY;
        let options = GpuOptions { width, height, max_host_memory: MEMORY };
        let gpu = Arc::new(Gpu::new("gpu", &options, Screen::default(), Tap::default()));
        let driver = VirtioDriver::of(gpu.clone(), MmioOptions::default());
        let cursor = Ring::contiguous(16, LARGE, 4);
        let model = GpuModel::new(DISPLAY, MEMORY);
        let mut fuzzed =
            Self { driver, gpu, cursor, model, edid: true, tally: GpuTally::default() };
        fuzzed.start();
        fuzzed
    }

    fn start(&mut self) {
        let edid = if self.edid { GPU_EDID } else { 0 };
        assert!(self.driver.negotiate(VERSION_1 | RING_INDIRECT_DESC | edid));
        assert!(self.driver.set_up_queue(16));
        assert!(self.driver.set_up_ring(1, &mut self.cursor));
        self.driver.go_live();
        self.model.reset();
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() {
            0..160 => {
                let command = self.build(input);
                self.send(command, input);
            }
            160..180 => self.set_up(input),
            180..215 => self.paint(input),
            215..225 => self.compare(),
            225..235 => {
                let (width, height) = (input.word() % 100, input.word() % 100);
                let change = || Ok::<_, ()>(self.gpu.set_display_size(width, height));
                self.driver.mmio.reconfigure(change).unwrap();
                self.model.resize(width, height);
                self.driver.take_interrupts();
            }
            235..240 => {
                self.edid = input.one_in(2);
                self.start();
            }
            240..250 => self.break_ring(input),
            250.. => {
                self.driver.mmio.hold();
                self.driver.mmio.quiesce().unwrap();
                self.driver.mmio.release();
            }
        }
    }

    /// Writes to the memory for pictures.
    fn paint(&mut self, input: &mut Input<'_>) {
        let (at, len) = (input.below(PICTURE_SIZE / 2), input.below(4096) as usize);
        let (first, step) = (input.byte(), input.byte());
        let bytes: Vec<_> =
            (0..len).map(|n| first.wrapping_add(step.wrapping_mul(n as u8))).collect();
        self.driver.write(PICTURE + u64::from(at), &bytes);
    }

    /// A resource that is shown or points, from its creation on.
    fn set_up(&mut self, input: &mut Input<'_>) {
        let (id, format) = (1 + input.below(3), input.pick(&FORMATS[..8], 1));
        let (width, height) =
            if input.one_in(3) { (64, 64) } else { (1 + input.below(64), 1 + input.below(48)) };
        let whole = [0, 0, width, height];
        let at = PICTURE as u32 + 4 * input.below(1000);
        let mut commands = vec![
            (0x102, vec![id, 0]),
            (0x101, vec![id, format, width, height]),
            (0x106, vec![id, 1, at, 0, 4 * 64 * 64, 0]),
            (0x105, [&whole[..], &[0, 0, id, 0]].concat()),
        ];
        if width == 64 && input.one_in(2) {
            commands.push((0x300, vec![0, 5, 6, 0, id, 7, 8, 0]));
        } else {
            commands.push((0x103, [&whole[..], &[0, id]].concat()));
        }
        for (kind, fields) in commands {
            let header = [kind, 0, 0, 0, 0, 0];
            let bytes = header.iter().chain(&fields).flat_map(|field: &u32| field.to_le_bytes());
            self.send(bytes.collect(), input);
        }
        self.compare();
    }

    /// Sends a command, in any number of buffers.
    fn send(&mut self, mut bytes: Vec<u8>, input: &mut Input<'_>) {
        if input.one_in(32) {
            bytes.truncate(input.below(64) as usize);
        }
        let kind = bytes.first_chunk().map_or(0, |kind| u32::from_le_bytes(*kind));
        let is_cursor = matches!(kind, 0x300 | 0x301);
        let queue = u32::from(is_cursor != input.one_in(64));
        let room = match input.below(16) {
            0 => input.below(2000),
            1 => 0,
            _ => 1056,
        };
        self.driver.write(COMMAND, &bytes);
        self.driver.write(RESPONSE, &[0xee; 2048]);
        let mut parts = Vec::new();
        let mut at = 0;
        let len_given = bytes.len() as u32;
        while at < len_given {
            let rest = len_given - at;
            let here = if input.one_in(8) { 1 + input.below(rest) } else { rest };
            parts.push((COMMAND + u64::from(at), here.min(rest), false));
            at += here.min(rest);
        }
        if room > 0 {
            let cut = if input.one_in(8) { input.below(room) } else { 0 };
            parts.extend([(RESPONSE, cut, true), (RESPONSE + u64::from(cut), room - cut, true)]);
        }
        // The rings have 16 entries.
        let parts: Vec<_> = parts.into_iter().filter(|part| part.1 > 0).collect();
        let ram = self.driver.ram.clone();
        let ring = if queue == 0 { &mut self.driver.ring } else { &mut self.cursor };
        if parts.is_empty() || parts.len() > 16 {
            return self.start();
        }
        ring.chain(&ram, 0, &parts);
        ring.offer(&ram, 0);
        // A backing may be anywhere in RAM, so nothing is written between the model and the device.
        let expected = self.model.command(queue, &bytes, self.edid, &ram);
        let len = match expected {
            0x1101 => 408,
            0x1104 => 1056,
            _ => 24,
        };
        let error = expected >= 0x1200;
        *(if error { &mut self.tally.refused } else { &mut self.tally.done }) += 1;
        self.driver.kick_queue(queue);
        let ring = if queue == 0 { &mut self.driver.ring } else { &mut self.cursor };
        let written = len.min(room);
        assert_eq!(ring.pop(&ram), Some((0, written)), "{kind:#x}");
        let response = self.driver.bytes(RESPONSE, 2048);
        assert!(response[written as usize..].iter().all(|byte| *byte == 0xee));
        let fenced = bytes.get(4).is_some_and(|flags| flags & 1 != 0) && bytes.len() >= 24;
        let fence = if fenced { bytes[8..20].to_vec() } else { vec![0; 12] };
        let header =
            [&expected.to_le_bytes()[..], &u32::from(fenced).to_le_bytes(), &fence, &[0; 4]]
                .concat();
        let count = (written as usize).min(24);
        assert_eq!(response[..count], header[..count], "{kind:#x}");
        if written >= 40 && expected == 0x1101 {
            let (width, height) = self.model.display;
            let size = [width.to_le_bytes(), height.to_le_bytes()].concat();
            assert_eq!(response[32..40], size);
        }
        if written == 1056 {
            let sum = response[32..160].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
            assert_eq!((sum, &response[24..28]), (0, &[128, 0, 0, 0][..]));
        }
        assert!(!self.driver.needs_reset());
        self.driver.take_interrupts();
    }

    /// A command that mostly makes sense.
    fn build(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let kind = match input.below(40) {
            0..5 => 0x101,
            5..9 => 0x106,
            9..17 => 0x105,
            17..21 => 0x103,
            21..29 => 0x104,
            29..31 => 0x102,
            31..33 => 0x107,
            33 => 0x100,
            34 => 0x10a,
            35..37 => 0x300,
            37..39 => 0x301,
            _ => input.pick(&[0, 0x108, 0x200, 0x302, 0x1100], 0),
        };
        let id = if input.one_in(24) { input.word() } else { 1 + input.below(3) };
        let rect = self.rect(id, input);
        let mut fields = match kind {
            0x101 => {
                let format = input.pick(&FORMATS, 2);
                let (width, height) = match input.below(16) {
                    0 => (input.odd(&PLACES) as u32, 1 + input.below(8)),
                    1..4 => (64, 64),
                    _ => (1 + input.below(64), 1 + input.below(48)),
                };
                vec![id, format, width, height]
            }
            0x103 => [&rect[..], &[u32::from(input.one_in(24)), id]].concat(),
            0x104 => [&rect[..], &[id, 0]].concat(),
            0x105 => {
                let offset = match input.below(8) {
                    0 => input.odd(&PLACES),
                    1..4 => 4 * u64::from(input.below(2000)),
                    _ => 0,
                };
                let (low, high) = ((offset & 0xffff_ffff) as u32, (offset >> 32) as u32);
                [&rect[..], &[low, high, id, 0]].concat()
            }
            0x106 => Self::backing(id, input),
            0x300 | 0x301 => {
                let scanout = u32::from(input.one_in(16));
                let shown = if input.one_in(8) { 0 } else { id };
                vec![scanout, input.word(), input.below(99), 0, shown, input.below(70), 5, 0]
            }
            _ => vec![if kind == 0x10a { u32::from(input.one_in(8)) } else { id }, 0],
        };
        if input.one_in(16) {
            fields.push(input.word());
        }
        let flags = if input.one_in(4) { input.word() } else { 0 };
        let header = [kind, flags, 0x1234_5678, id, 9, 7];
        header.iter().chain(&fields).flat_map(|field| field.to_le_bytes()).collect()
    }

    /// A rectangle, mostly within the resource.
    fn rect(&self, id: u32, input: &mut Input<'_>) -> [u32; 4] {
        let (width, height) = self.model.size_of(id).unwrap_or((8, 8));
        match input.below(16) {
            0 => [(); 4].map(|()| input.odd(&PLACES) as u32),
            1 => [(); 4].map(|()| input.below(70)),
            2..8 => [0, 0, width, height],
            _ => {
                let (x, y) = (input.below(width), input.below(height));
                [x, y, input.below(width - x + 1), input.below(height - y + 1)]
            }
        }
    }

    /// The fields of RESOURCE_ATTACH_BACKING.
    fn backing(id: u32, input: &mut Input<'_>) -> Vec<u32> {
        let given = match input.below(8) {
            0 => input.below(100),
            1..4 => 2 + input.below(6),
            _ => 1,
        };
        let count = if input.one_in(32) { input.word() } else { given };
        let mut fields = vec![id, count];
        for _ in 0..given {
            let (addr, len) = match input.below(32) {
                0 => (input.odd(&PLACES), input.word()),
                _ if given == 1 => (PICTURE, 4 * 64 * 64),
                _ => {
                    let addr = PICTURE + u64::from(input.below(PICTURE_SIZE / 2));
                    (addr, 4 * input.below(1000) + u32::from(input.one_in(4)))
                }
            };
            fields.extend([(addr & 0xffff_ffff) as u32, (addr >> 32) as u32, len, 0]);
        }
        fields
    }

    /// A chain without an end, or one in the wrong order.
    fn break_ring(&mut self, input: &mut Input<'_>) {
        if input.one_in(2) {
            self.driver.chain(0, &[(RESPONSE, 24, true), (COMMAND, 24, false)]);
            self.driver.offer(0);
            self.driver.kick();
            assert_eq!(self.driver.pop(), Some((0, 0)));
            return;
        }
        let (addr, len) = (input.odd(&PLACES), input.word());
        self.driver.desc(0, addr, len, 3, 16 + u16::from(input.byte()));
        self.driver.offer(0);
        self.driver.kick();
        assert!(self.driver.needs_reset());
        // Until the reset the picture stays.
        self.compare();
        self.start();
        assert_eq!(self.driver.get(reg::INTERRUPT_STATUS), 0);
    }

    fn compare(&mut self) {
        self.tally.shown += u32::from(self.model.pixels.iter().any(|pixel| *pixel != 0));
        self.tally.pointers += u32::from(self.model.cursor.0.is_some());
        self.gpu.screen().look(|picture, cursor| {
            assert_eq!((picture.width(), picture.height()), self.model.size);
            let wrong = picture.pixels().iter().zip(&self.model.pixels).position(|(a, b)| a != b);
            assert_eq!(wrong, None, "a pixel differs");
            let image = cursor.image.as_ref();
            let seen = image.map(|image| (image.pixels.clone(), image.hot_x, image.hot_y));
            assert!((seen, cursor.x, cursor.y) == self.model.cursor, "the cursor differs");
        });
    }
}
